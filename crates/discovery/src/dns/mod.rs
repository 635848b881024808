//! Servers by the answers of DNS: each address of a name, or each target of its SRV records.
//!
//! A name is asked for again when its records expire, within bounds. All names together are one answer: a name that
//! cannot be resolved changes nothing, whatever the others say.
//!
//! - `name`: what is asked for, as it is written.
//! - `records`: what the records make of it: pure.
//! - `resolve`: asking, by hickory-resolver.

mod name;
mod records;
mod resolve;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::sleep;

pub use self::name::{DnsName, DnsNameError};
pub use self::records::DnsFamily;
use self::resolve::DnsAsker;
use crate::backoff::Backoff;
use crate::news::NewsSender;
use crate::presence::{Forget, SourceMemory};

/// Names that one source may ask for.
pub const DNS_NAMES_MAX: usize = 64;

/// What is asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The names, at most [`DNS_NAMES_MAX`].
    pub names: Vec<DnsName>,
    /// The name server that is asked; `None`: those of /etc/resolv.conf, after /etc/hosts.
    pub resolver: Option<SocketAddr>,
    /// Which addresses of a name are servers.
    pub family: DnsFamily,
    /// Shortest time between two questions, whatever the records say.
    pub ttl_min: Duration,
    /// Longest time between two questions.
    pub ttl_max: Duration,
}

/// Asks until it is dropped.
pub(crate) async fn follow(settings: &DnsSettings, presence: &SourceMemory, news: &NewsSender) -> Infallible {
    let mut asker = DnsAsker::default();
    presence.resume(Forget::AfterAnswers, |_| true);
    let mut backoff = Backoff::default();
    loop {
        let pause = match asker.ask(settings).await {
            Ok(answer) => {
                backoff.after_answer();
                news.send(Ok(presence.answered(answer.members, Instant::now()))).await;
                answer.valid_for.clamp(settings.ttl_min, settings.ttl_max)
            }
            Err(error) => {
                news.send(Err(error)).await;
                backoff.after_error()
            }
        };
        sleep(pause).await;
    }
}
