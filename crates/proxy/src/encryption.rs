//! Servers that connections reach without TLS, although `sslmode` prefers it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use trunkline_telemetry::limits::LOG_INTERVAL;
use trunkline_telemetry::metrics::HandshakeResult;
use trunkline_topology::{Address, ServerId};

use crate::net::{Reached, WithoutTls};

/// What the operator was told of the TLS of each server. `prefer` goes on without TLS as if nothing were wrong, so that
/// nobody else would hear of it.
#[derive(Debug, Default)]
pub(crate) struct EncryptionLog(Mutex<BTreeMap<u16, ToldEncryption>>);

/// What was told of the server that has a slot.
#[derive(Debug)]
struct ToldEncryption {
    server: ServerId,
    leg: LegEncryption,
    /// `None` where that was nothing to tell.
    logged_at: Option<Instant>,
}

/// What comes of the wish for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LegEncryption {
    Tls,
    NotOffered,
    Failed,
}

impl EncryptionLog {
    /// Logs what this connection shows, if it is news.
    pub(crate) fn note(&self, server: ServerId, (name, address): (&str, &Address), reached: &Reached) {
        let leg = match &reached.without {
            None => LegEncryption::Tls,
            Some(WithoutTls::NotOffered) => LegEncryption::NotOffered,
            Some(WithoutTls::Failed(_)) => LegEncryption::Failed,
        };
        if !self.is_news(server, leg, Instant::now()) {
            return;
        }
        match &reached.without {
            None => {
                tracing::info!(server.name = %name, server.addr = %address, "TLS with the server succeeds now")
            }
            Some(WithoutTls::NotOffered) => tracing::warn!(
                server.name = %name, server.addr = %address,
                "the server does not offer TLS now, connections to it go without: its sslmode is prefer"
            ),
            Some(WithoutTls::Failed(error)) => tracing::warn!(
                server.name = %name, server.addr = %address, %error,
                "TLS with the server failed, connections to it go without: its sslmode is prefer"
            ),
        }
    }

    /// Whether something else was told of `server`, and not a moment ago. That it is as it should be, or has no TLS from the
    /// beginning, is no news.
    fn is_news(&self, server: ServerId, leg: LegEncryption, now: Instant) -> bool {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = servers.get_mut(&server.slot()).filter(|told| told.server == server);
        let logged_at = match told {
            None => (leg == LegEncryption::Failed).then_some(now),
            Some(told) if told.leg == leg => return false,
            Some(ToldEncryption { logged_at: Some(at), .. })
                if now.saturating_duration_since(*at) < LOG_INTERVAL =>
            {
                return false;
            }
            Some(_) => Some(now),
        };
        servers.insert(server.slot(), ToldEncryption { server, leg, logged_at });
        logged_at.is_some()
    }
}

/// How the handshake of a connection ended; `None` if there was none.
pub(crate) fn handshake_result(reached: &Reached) -> Option<HandshakeResult> {
    match &reached.without {
        Some(WithoutTls::Failed(_)) => Some(HandshakeResult::Plaintext),
        Some(WithoutTls::NotOffered) => None,
        None => reached.stream.is_encrypted().then_some(HandshakeResult::Completed),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_change_of_a_server_is_told_once_and_not_more_often_than_a_log_can_bear() {
        use LegEncryption::{Failed, NotOffered, Tls};
        let (log, start) = (EncryptionLog::default(), Instant::now());
        let [steady, failing, plain] = [0, 1, 2].map(|slot| ServerId::new(slot, 0));
        let second = |count| start + Duration::from_secs(count);
        for (server, leg, at, is_news) in [
            (steady, Tls, 0, false),
            (failing, Failed, 0, true),
            (plain, NotOffered, 0, false),
            (failing, Failed, 60, false),
            (failing, Tls, 61, true),
            // One handshake in two fails: a line an interval.
            (failing, Failed, 62, false),
            (failing, Tls, 63, false),
            (failing, Failed, 71, true),
            (failing, NotOffered, 90, true),
            (steady, NotOffered, 91, true),
            (plain, NotOffered, 92, false),
        ] {
            assert_eq!(log.is_news(server, leg, second(at)), is_news, "{server:?} {leg:?} {at}");
        }
        let successor = ServerId::new(1, 1);
        assert!(!log.is_news(successor, NotOffered, second(100)), "another server has the slot");
    }
}
