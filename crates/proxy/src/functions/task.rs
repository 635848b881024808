//! When a database is looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use trunkline_session::Functions;

use super::Shared;
use super::connection::LookError;
use super::look::Looker;
use crate::limits::{
    FUNCTION_FAILURES_TOLD, FUNCTION_LOOK_INTERVAL, FUNCTION_LOOK_SHARE, FUNCTION_LOOK_TICK, FUNCTION_QUIET,
    FUNCTION_UNREADABLE_PAUSE, FUNCTIONS_KEPT,
};

/// Looks at a database while sessions are in it, and a while longer.
pub(super) async fn run(shared: Arc<Shared>, database: Box<str>, functions: Arc<Functions>) {
    let mut looker = Looker::new(Arc::clone(&shared), database.clone());
    let mut complaints = Complaints::default();
    let mut pace = Pace::new(Instant::now());
    loop {
        let began = Instant::now();
        let number = functions.look_begins();
        let looked = looker.look().await;
        if let Some((error, advice)) = complaints.of(&looked) {
            tracing::warn!(
                db.name = %database, %error,
                "functions of the user's own cannot be read: sessions that call one are pinned; {advice}"
            );
        }
        let pause = match looked {
            Ok(catalog) => {
                functions.look_ended(number, catalog);
                FUNCTION_LOOK_INTERVAL
            }
            Err(LookError::NoServer | LookError::NotNow(_)) => {
                functions.is_not_watched();
                FUNCTION_LOOK_INTERVAL
            }
            Err(LookError::Refused(_) | LookError::TooMany(_)) => {
                functions.look_failed(number, looker.unreadable().await);
                FUNCTION_UNREADABLE_PAUSE
            }
        };
        pace.looked(began, Instant::now(), pause);
        loop {
            sleep(FUNCTION_LOOK_TICK).await;
            match pace.tick(Instant::now(), &functions, Arc::strong_count(&functions) > 1) {
                Next::Look => break,
                Next::Rest => {
                    functions.is_not_watched();
                    looker.rest();
                }
                Next::End if shared.let_go(&database, &functions) => return,
                // A session may have come just now.
                Next::Wait | Next::End => {}
            }
        }
    }
}

/// What is said of looks that fail: once for each reason, until one succeeds.
#[derive(Debug, Default)]
struct Complaints {
    said: Option<LookError>,
    /// Looks that failed for now, one after the other.
    failures: u32,
}

impl Complaints {
    /// What is to be said of a look, and what to do about it.
    fn of<T>(&mut self, looked: &Result<T, LookError>) -> Option<(LookError, &'static str)> {
        let advice = match looked {
            Ok(_) => {
                *self = Self::default();
                return None;
            }
            // The log has that in other words.
            Err(LookError::NoServer) => return None,
            Err(LookError::NotNow(_)) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures != FUNCTION_FAILURES_TOLD {
                    return None;
                }
                "see that the primary has a connection for the monitoring role and answers in time, or set \
                 [session] functions"
            }
            Err(LookError::Refused(_)) => "grant the monitoring role CONNECT on the database",
            Err(LookError::TooMany(_)) => "set [session] functions if that is not as it should be",
        };
        let error = looked.as_ref().err().filter(|error| self.said.as_ref() != Some(error))?.clone();
        self.said = Some(error.clone());
        Some((error, advice))
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wait,
    Look,
    /// Nobody has called anything for a while.
    Rest,
    /// Nobody is left.
    End,
}

/// When a look is due.
#[derive(Debug)]
struct Pace {
    /// Not before, even if it is waited for: a look costs its server something.
    earliest: Instant,
    due: Instant,
    used_at: Instant,
    held_at: Instant,
    is_resting: bool,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { earliest: now, due: now, used_at: now, held_at: now, is_resting: false }
    }

    fn looked(&mut self, began: Instant, now: Instant, pause: Duration) {
        let cost = now.saturating_duration_since(began) * FUNCTION_LOOK_SHARE;
        self.earliest = now + cost;
        self.due = now + pause.max(cost);
        self.is_resting = false;
    }

    fn tick(&mut self, now: Instant, functions: &Functions, is_held: bool) -> Next {
        if is_held {
            self.held_at = now;
        } else if now.saturating_duration_since(self.held_at) >= FUNCTIONS_KEPT {
            return Next::End;
        }
        if functions.take_use() {
            self.used_at = now;
        }
        if functions.is_awaited() && now >= self.earliest {
            return Next::Look;
        }
        if now < self.due {
            return Next::Wait;
        }
        match (now.saturating_duration_since(self.used_at) < FUNCTION_QUIET, self.is_resting) {
            (true, _) => Next::Look,
            (false, false) => {
                self.is_resting = true;
                Next::Rest
            }
            (false, true) => Next::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_session::{FunctionCatalog, UnlistedFunctions};

    use super::*;

    #[test]
    fn a_database_in_use_is_looked_at_each_second_and_one_that_is_not_rests() {
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let mut pace = Pace::new(start);
        pace.looked(start, at(2), FUNCTION_LOOK_INTERVAL);
        assert_eq!(pace.tick(at(100), &functions, true), Next::Wait);
        assert_eq!(pace.tick(at(1002), &functions, true), Next::Look);
        pace.looked(at(1002), at(1004), FUNCTION_LOOK_INTERVAL);
        assert_eq!(pace.tick(at(20_000), &functions, true), Next::Rest);
        assert_eq!(pace.tick(at(20_100), &functions, true), Next::Wait);
        assert_eq!(pace.tick(at(79_000), &functions, false), Next::Wait);
        assert_eq!(pace.tick(at(80_100), &functions, false), Next::End);
    }

    #[test]
    fn looks_take_a_small_share_of_the_time() {
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let took = Duration::from_millis(100);
        pace.looked(start, start + took, FUNCTION_LOOK_INTERVAL);
        assert_eq!(pace.tick(start + took * FUNCTION_LOOK_SHARE, &functions, true), Next::Wait);
        assert_eq!(pace.tick(start + took * (FUNCTION_LOOK_SHARE + 1), &functions, true), Next::Look);
    }

    #[test]
    fn looks_that_fail_again_and_again_are_told_of_once() {
        let mut complaints = Complaints::default();
        let late: Result<(), _> =
            Err(LookError::NotNow("canceling statement due to statement timeout (57014)".into()));
        for failure in 1..3 * FUNCTION_FAILURES_TOLD {
            let is_told = complaints.of(&late).is_some();
            assert_eq!(is_told, failure == FUNCTION_FAILURES_TOLD, "the {failure}th");
        }
        assert!(complaints.of(&Ok(())).is_none());
        let told = (1..=FUNCTION_FAILURES_TOLD).filter(|_| complaints.of(&late).is_some()).count();
        assert_eq!(told, 1, "it had succeeded meanwhile");
        let refused: Result<(), _> = Err(LookError::Refused("no".into()));
        let told = (0..3).filter(|_| complaints.of(&refused).is_some()).count();
        assert_eq!(told, 1);
    }
}
