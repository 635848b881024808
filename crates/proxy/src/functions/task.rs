//! When a database is looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use trunkline_session::Functions;

use super::Shared;
use super::connection::LookError;
use super::look::Looker;
use crate::limits::{
    FUNCTION_LOOK_INTERVAL, FUNCTION_LOOK_SHARE, FUNCTION_LOOK_TICK, FUNCTION_QUIET,
    FUNCTION_UNREADABLE_PAUSE, FUNCTIONS_KEPT,
};

/// Looks at a database while sessions are in it, and a while longer.
pub(super) async fn run(shared: Arc<Shared>, database: Box<str>, functions: Arc<Functions>) {
    let mut looker = Looker::new(Arc::clone(&shared), database.clone());
    let mut complaint = None;
    let mut pace = Pace::new(Instant::now());
    loop {
        let began = Instant::now();
        let number = functions.look_begins();
        let pause = match looker.look().await {
            Ok(catalog) => {
                functions.look_ended(number, catalog);
                complain(&database, &mut complaint, None);
                FUNCTION_LOOK_INTERVAL
            }
            Err(LookError::NoServer) => {
                functions.is_not_watched();
                FUNCTION_LOOK_INTERVAL
            }
            Err(error @ (LookError::Refused(_) | LookError::TooMany(_))) => {
                functions.look_ended(number, Some(looker.unreadable().await));
                complain(&database, &mut complaint, Some(error));
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

/// Once for each reason.
fn complain(database: &str, last: &mut Option<LookError>, error: Option<LookError>) {
    if let Some(error) = error.as_ref().filter(|error| last.as_ref() != Some(error)) {
        tracing::warn!(
            db.name = %database, %error,
            "functions of the user's own cannot be read: sessions that call one are pinned; grant the monitoring role \
             CONNECT on the database"
        );
    }
    *last = error;
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
    use trunkline_session::{FunctionCatalog, Otherwise};

    use super::*;

    #[test]
    fn a_database_in_use_is_looked_at_each_second_and_one_that_is_not_rests() {
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), Otherwise::Unread));
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
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), Otherwise::Unread));
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let took = Duration::from_millis(100);
        pace.looked(start, start + took, FUNCTION_LOOK_INTERVAL);
        assert_eq!(pace.tick(start + took * FUNCTION_LOOK_SHARE, &functions, true), Next::Wait);
        assert_eq!(pace.tick(start + took * (FUNCTION_LOOK_SHARE + 1), &functions, true), Next::Look);
    }
}
