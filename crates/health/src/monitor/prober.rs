//! Asks one server every tick, on a connection that is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::WatchedServer;
use super::pace::ProbePace;
use crate::judge::{Finding, Observation, ProbeFailure, ProbePhase};
use crate::login::MonitorLogin;
use crate::probe::{FailedAttempt, ProbeConnection};

/// Least time between two questions to one server, however often sessions ask for one.
const PROBE_GAP_MIN: Duration = Duration::from_millis(10);

/// One server's prober. Sequential: never two questions in flight, and a tick that comes too early is skipped.
pub(super) async fn run(watched: Arc<WatchedServer>) {
    let mut pace = ProbePace::default();
    let mut is_degraded_said = false;
    let mut login = watched.login.clone();
    loop {
        let current = Arc::clone(&login.borrow_and_update());
        let Some(session) = open(&watched, &current).await else {
            pace.count(false);
            pause(&watched, &pace).await;
            continue;
        };
        if session.is_degraded() && !is_degraded_said {
            is_degraded_said = true;
            tracing::warn!(
                target: "trunkline::health",
                { server.name = %watched.name },
                "the monitoring role lacks pg_monitor: timelines of standbys stay hidden, grant pg_monitor to it"
            );
        }
        ask_until_lost(&watched, session, &mut login, &mut pace).await;
    }
}

async fn open(watched: &WatchedServer, login: &MonitorLogin) -> Option<ProbeConnection> {
    let settings = watched.settings.borrow().clone();
    let sent_at = Instant::now();
    let probe = watched.probe.borrow().clone();
    let opened = ProbeConnection::open(&watched.server, login, &settings, &probe).await;
    let (address, finding, session) = match opened {
        Ok(session) => (Some(session.address()), Finding::Connected, Some(session)),
        Err(FailedAttempt { address, phase: ProbePhase::Login, failure }) => {
            (address, Finding::ConnectFailed(failure), None)
        }
        // The login succeeded, the first question did not.
        Err(FailedAttempt { address, phase: ProbePhase::Query, failure }) => {
            (address, Finding::ProbeFailed(failure), None)
        }
    };
    watched.report(Observation { sent_at, received_at: Instant::now(), address, finding }).await;
    session
}

/// Asks until the connection must go, or another login is in force. Returning drops it, with whatever answer is still under way.
async fn ask_until_lost(
    watched: &WatchedServer,
    mut session: ProbeConnection,
    login: &mut watch::Receiver<Arc<MonitorLogin>>,
    pace: &mut ProbePace,
) {
    let opened_at = Instant::now();
    loop {
        let settings = watched.settings.borrow().clone();
        let sent_at = Instant::now();
        let asked = session.ask(settings.probe_timeout).await;
        let is_good = asked.is_ok();
        pace.count(is_good);
        let finding = match asked {
            Ok(facts) => Finding::Answered(Box::new(facts)),
            Err(failure) => {
                return lost(watched, failure, [opened_at, sent_at], pace).await;
            }
        };
        let address = Some(session.address());
        watched.report(Observation { sent_at, received_at: Instant::now(), address, finding }).await;
        if watched.server.has_left(&session.address()) {
            tracing::info!(
                target: "trunkline::health",
                { server.name = %watched.name, server.addr = %session.address() },
                "the server's name leads to another address now: it is followed"
            );
            return;
        }
        if !session.is_asked_as(&watched.probe.borrow(), &watched.settings.borrow()) {
            return;
        }
        let signals = &watched.signals;
        let wait = pace.wait(&settings, settings.tick).saturating_sub(sent_at.elapsed());
        tokio::select! {
            failure = session.lost() => {
                return lost(watched, failure, [opened_at, Instant::now()], pace).await;
            }
            () = signals.release.notified() => return pause(watched, pace).await,
            Ok(()) = login.changed() => return,
            () = due(&signals.probe, sent_at.elapsed(), wait) => {}
        }
    }
}

/// Returns when the next question is due, the last one having been asked `ago`: after `wait`, or when somebody asks
/// for it. Sessions that move do that one by one, and their questions must not be the server's work.
async fn due(asked_for: &Notify, ago: Duration, wait: Duration) {
    let gap = sleep(PROBE_GAP_MIN.saturating_sub(ago));
    let asked_for = async {
        asked_for.notified().await;
        gap.await;
    };
    tokio::select! {
        () = asked_for => {}
        () = sleep(wait) => {}
    }
}

/// Reports a failed connection. The login that follows at once shows whether the server failed too.
async fn lost(
    watched: &WatchedServer,
    failure: ProbeFailure,
    [opened_at, sent_at]: [Instant; 2],
    pace: &mut ProbePace,
) {
    // Pause before the next attempt on a server that does not answer or closes every connection.
    let is_paused = matches!(failure, ProbeFailure::TimedOut { .. })
        || opened_at.elapsed() < watched.settings.borrow().tick;
    let failure = match failure {
        // Someone may have ended this one backend: the server's own word is what a login gives.
        ProbeFailure::Refusal { code, message } if code.as_str() == "57P01" => {
            ProbeFailure::Lost(format!("{message} ({})", code.as_str()))
        }
        other => other,
    };
    pace.count(false);
    let finding = Finding::ProbeFailed(failure);
    watched.report(Observation { sent_at, received_at: Instant::now(), address: None, finding }).await;
    watched.signals.check.notify_one();
    if is_paused {
        pause(watched, pace).await;
    }
}

async fn pause(watched: &WatchedServer, pace: &ProbePace) {
    let settings = watched.settings.borrow().clone();
    tokio::select! {
        () = sleep(pace.wait(&settings, settings.tick)) => {}
        () = watched.signals.probe.notified() => sleep(settings.fast_interval / 4).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_is_asked_for_comes_soon_but_not_sooner_than_the_gap_allows() {
        let (asked_for, far) = (Notify::new(), Duration::from_secs(600));
        for ago in [Duration::ZERO, PROBE_GAP_MIN / 2, far] {
            asked_for.notify_one();
            let begun = Instant::now();
            due(&asked_for, ago, far).await;
            let since = ago + begun.elapsed();
            assert!(since >= PROBE_GAP_MIN && begun.elapsed() < far / 10, "{ago:?}: {since:?}");
        }
    }

    #[tokio::test]
    async fn a_question_that_nobody_asks_for_comes_in_its_time() {
        due(&Notify::new(), Duration::ZERO, Duration::from_millis(1)).await;
    }
}
