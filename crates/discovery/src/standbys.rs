//! Servers by what the primary says of its standbys: pg_stat_replication.

use std::convert::Infallible;
use std::time::Duration;

use crate::news::NewsSender;
use crate::surroundings::Surroundings;

/// What is asked of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbysSettings {}

/// Asks until it is dropped.
pub(crate) async fn follow(
    _settings: &StandbysSettings,
    _interval: Duration,
    _around: &Surroundings,
    _news: &NewsSender,
) -> Infallible {
    std::future::pending().await
}
