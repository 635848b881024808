//! Logs in to one server now and then: old connections may work where new ones do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::WatchedServer;
use super::pace::ProbePace;
use crate::judge::{Finding, Observation, ProbeFailure};
use crate::probe::{FailedAttempt, check_login};

/// One server's checker.
pub(super) async fn run(watched: Arc<WatchedServer>) {
    let mut pace = ProbePace::default();
    // The prober's own login is the first check.
    let mut wait = jittered(watched.settings.borrow().connect_check_interval);
    loop {
        tokio::select! {
            () = sleep(wait) => {}
            () = watched.signals.check.notified() => {}
        }
        let settings = watched.settings.borrow().clone();
        let sent_at = Instant::now();
        let checked = check_login(&watched.server, &watched.login(), &settings).await;
        let is_good = checked.is_ok();
        pace.count(is_good);
        let (address, finding) = match checked {
            Ok(address) => (Some(address), Finding::Connected),
            Err(FailedAttempt { address, failure, .. }) => {
                if is_shutting_down(&failure) {
                    // A smart shutdown waits for every client: do not be the one it waits for.
                    watched.signals.release.notify_one();
                }
                (address, Finding::ConnectFailed(failure))
            }
        };
        watched.report(Observation { sent_at, received_at: Instant::now(), address, finding }).await;
        wait = if is_good {
            jittered(settings.connect_check_interval)
        } else {
            pace.wait(&settings, settings.tick)
        };
        // Many sessions may suspect at once; one login answers them all.
        sleep(settings.fast_interval / 4).await;
    }
}

fn is_shutting_down(failure: &ProbeFailure) -> bool {
    matches!(failure, ProbeFailure::Refusal { code, message }
        if code.as_str() == "57P03" && message.contains("shutting down"))
}

/// Within a tenth of `interval`, so that many proxies do not log in at one moment.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}
