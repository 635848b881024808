//! Servers by the answers of DNS.

use std::convert::Infallible;
use std::time::Duration;

use crate::news::NewsSender;

/// What is asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {}

/// Asks until it is dropped.
pub(crate) async fn follow(_settings: &DnsSettings, _interval: Duration, _news: &NewsSender) -> Infallible {
    std::future::pending().await
}
