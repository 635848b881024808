//! Servers by what a managed cluster says of itself in SQL: RDS Multi-AZ clusters and Aurora.

use std::convert::Infallible;
use std::time::Duration;

use crate::news::NewsSender;
use crate::surroundings::Surroundings;

/// What is asked of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologySettings {}

/// Asks until it is dropped.
pub(crate) async fn follow(
    _settings: &TopologySettings,
    _interval: Duration,
    _around: &Surroundings,
    _news: &NewsSender,
) -> Infallible {
    std::future::pending().await
}
