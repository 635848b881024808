//! Logs in to one server when a session has ended there, for [`crate::termination`].
//!
//! However many sessions ask, one login at a time answers all that asked before it was begun. A login that began
//! before a session's end proves nothing about it: a session that asks meanwhile waits for the next login.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout_at};

use super::{ServerSignals, WatchedServer};
use crate::judge::{ProbeFailure, ProbePhase};
use crate::probe::{self, FailedAttempt};
use crate::termination::Sighting;
use trunkline_topology::Address;
use trunkline_topology::Postmaster;

/// How long others may join before a login is begun: the sessions of one statement of an operator's end within that.
const GATHER: Duration = Duration::from_millis(10);
/// Logins made for one answer: an operator who ends all sessions may end this one, too.
const ATTEMPTS_MAX: u32 = 3;

/// The logins asked for, and the last of them.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    wanted: AtomicU64,
    begun: AtomicU64,
    ask: Notify,
    last: watch::Sender<NumberedSighting>,
}

/// A login, by its number.
#[derive(Clone, Debug, Default)]
struct NumberedSighting {
    number: u64,
    sighting: Option<Sighting>,
}

impl Inquiry {
    /// Asks for a login that is begun after this, and returns its number.
    fn enlist(&self) -> u64 {
        let number = self.begun.load(SeqCst) + 1;
        self.wanted.fetch_max(number, SeqCst);
        self.ask.notify_one();
        number
    }

    /// Waits until a login is asked for, and returns its number.
    async fn next(&self) -> u64 {
        while self.wanted.load(SeqCst) <= self.begun.load(SeqCst) {
            self.ask.notified().await;
        }
        sleep(GATHER).await;
        self.begun.fetch_add(1, SeqCst) + 1
    }

    /// Answers who has asked so far, without a login.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn answer_at_once(&self, sighting: &Sighting) {
        let wanted = self.wanted.load(SeqCst);
        if wanted > self.begun.fetch_max(wanted, SeqCst) {
            self.answer(wanted, sighting.clone());
        }
    }

    fn answer(&self, number: u64, sighting: Sighting) {
        self.last.send_replace(NumberedSighting { number, sighting: Some(sighting) });
    }
}

/// What a login that is begun after this call shows of the server. `None` when the monitor has ended.
pub(super) fn sighting(signals: Arc<ServerSignals>) -> impl Future<Output = Option<Sighting>> + use<> {
    let number = signals.inquiry.enlist();
    async move {
        let mut last = signals.inquiry.last.subscribe();
        let seen = last.wait_for(|seen| seen.number >= number).await.ok()?;
        seen.sighting.clone()
    }
}

/// Answers for one server.
pub(super) async fn run(watched: Arc<WatchedServer>) {
    let inquiry = &watched.signals.inquiry;
    loop {
        let number = inquiry.next().await;
        let (address, postmaster) = look(&watched).await;
        tracing::info!(
            target: "trunkline::health",
            started_us = postmaster.as_ref().ok().map(|postmaster| postmaster.started_us),
            server.name = %watched.name,
            server.addr = address.as_ref().map(tracing::field::display),
            failure = postmaster.as_ref().err().map(tracing::field::display),
            "probed with a new login: the server ended a session"
        );
        inquiry.answer(number, Sighting { address, postmaster, at: Instant::now() });
    }
}

/// Asks on a fresh connection which postmaster it is, and where, all within `connect_timeout`.
async fn look(watched: &WatchedServer) -> (Option<Address>, Result<Postmaster, ProbeFailure>) {
    let (settings, login) = (watched.settings.borrow().clone(), watched.login());
    let after = settings.connect_timeout;
    let deadline = tokio::time::Instant::now() + after;
    let looked = async {
        let mut attempts = 1;
        loop {
            match probe::postmaster(&watched.server, &login, &settings).await {
                Ok((address, postmaster)) => return (Some(address), Ok(postmaster)),
                Err(FailedAttempt { failure, .. }) if failure.is_termination() && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                }
                Err(FailedAttempt { address, failure, .. }) => return (address, Err(failure)),
            }
        }
    };
    timeout_at(deadline, looked)
        .await
        .unwrap_or((None, Err(ProbeFailure::TimedOut { phase: ProbePhase::Login, after })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting_of(number: u64) -> Sighting {
        let started_us = i64::try_from(number).expect("a small number");
        let postmaster = Postmaster { system_identifier: None, started_us };
        Sighting { address: None, postmaster: Ok(postmaster), at: Instant::now() }
    }

    fn number_of(sighting: Sighting) -> Option<i64> {
        sighting.postmaster.ok().map(|postmaster| postmaster.started_us)
    }

    #[tokio::test]
    async fn one_login_answers_all_who_asked_before_it_was_begun() {
        let signals = Arc::new(ServerSignals::default());
        let waiting: Vec<_> = (0..100).map(|_| sighting(Arc::clone(&signals))).collect();
        let number = signals.inquiry.next().await;
        assert_eq!(number, 1);
        signals.inquiry.answer(number, sighting_of(number));
        for one in waiting {
            assert_eq!(one.await.and_then(number_of), Some(1));
        }
        assert!(
            tokio::time::timeout(GATHER * 3, signals.inquiry.next()).await.is_err(),
            "none is begun unasked"
        );
    }

    #[tokio::test]
    async fn who_asks_during_a_login_waits_for_the_next() {
        let signals = Arc::new(ServerSignals::default());
        let first = sighting(Arc::clone(&signals));
        let number = signals.inquiry.next().await;
        let mut second = std::pin::pin!(sighting(Arc::clone(&signals)));
        signals.inquiry.answer(number, sighting_of(number));
        assert!(first.await.is_some());
        assert!(tokio::time::timeout(GATHER, &mut second).await.is_err());
        let number = signals.inquiry.next().await;
        assert_eq!(number, 2);
        signals.inquiry.answer(number, sighting_of(number));
        assert_eq!(second.await.and_then(number_of), Some(2));
    }
}
