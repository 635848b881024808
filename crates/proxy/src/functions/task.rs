//! When a database is checked.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::SetOnce;
use tokio::time::{sleep_until, timeout};
use trunkline_session::Functions;

use super::StoreShared;
use super::connection::FunctionsReadError;
use super::read::{FunctionsReader, PlainnessWish};
use crate::limits::{
    FUNCTION_FAILURES_TOLD, FUNCTION_LOOK_INTERVAL, FUNCTION_LOOK_PAUSE_MAX, FUNCTION_LOOK_SHARE,
    FUNCTION_QUIET, FUNCTION_UNREADABLE_PAUSE, FUNCTIONS_KEPT, FUNCTIONS_LEFT,
};

/// Checks a database while it has sessions, and a while longer. Sets `first_look` when the first check has ended.
pub(super) async fn run(
    shared: Arc<StoreShared>,
    database: Box<str>,
    functions: Arc<Functions>,
    first_look: Arc<SetOnce<()>>,
) {
    let mut reader = FunctionsReader::new(Arc::clone(&shared), database.clone());
    let mut warnings = Warnings::default();
    let mut schedule = LookSchedule::new(Instant::now());
    loop {
        let began = Instant::now();
        let number = functions.look_begins();
        let wish = PlainnessWish::of(&functions);
        let looked = reader.look(wish).await;
        if let Some((error, advice)) = warnings.of(&looked) {
            tracing::warn!(
                db.name = %database, %error,
                "could not read user-defined functions, sessions that call one are pinned; {advice}"
            );
        }
        let pause = match looked {
            Ok(catalog) => {
                if reader.has_event_trigger() {
                    functions.have_event_triggers(number);
                }
                functions.look_ended(number, catalog);
                FUNCTION_LOOK_INTERVAL
            }
            Err(FunctionsReadError::NoServer | FunctionsReadError::NotNow(_)) => {
                functions.is_not_watched();
                FUNCTION_LOOK_INTERVAL
            }
            Err(FunctionsReadError::Refused(_) | FunctionsReadError::TooMany(_)) => {
                functions.look_failed(number, reader.unreadable().await);
                FUNCTION_UNREADABLE_PAUSE
            }
        };
        functions.have_fingerprint(reader.fingerprint());
        let _is_set_already = first_look.set(());
        schedule.looked(wish, began, Instant::now(), pause);
        loop {
            schedule.next_tick(&functions).await;
            match schedule.tick(Instant::now(), &functions, Arc::strong_count(&functions) > 1) {
                TickAction::Look => break,
                TickAction::Rest => {
                    functions.is_not_watched();
                    reader.rest();
                }
                TickAction::End if shared.let_go(&database, &functions) => return,
                // A session may have come just now.
                TickAction::Wait | TickAction::End => {}
            }
        }
    }
}

/// Logs failed checks: once for each reason, until one succeeds.
#[derive(Debug, Default)]
struct Warnings {
    said: Option<FunctionsReadError>,
    /// Checks in a row that failed with an error that may pass.
    failures: u32,
}

impl Warnings {
    /// What to log about a check, and what the operator should do.
    fn of<T>(
        &mut self,
        looked: &Result<T, FunctionsReadError>,
    ) -> Option<(FunctionsReadError, &'static str)> {
        let advice = match looked {
            Ok(_) => {
                *self = Self::default();
                return None;
            }
            // The log has that already.
            Err(FunctionsReadError::NoServer) => return None,
            Err(FunctionsReadError::NotNow(_)) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures != FUNCTION_FAILURES_TOLD {
                    return None;
                }
                "see that the primary has a connection for the monitoring role and answers in time, or set \
                 [session] functions"
            }
            Err(FunctionsReadError::Refused(_)) => "grant the monitoring role CONNECT on the database",
            Err(FunctionsReadError::TooMany(_)) => {
                "set [session] functions to another value if sessions should move all the same"
            }
        };
        let error = looked.as_ref().err().filter(|error| self.said.as_ref() != Some(error))?.clone();
        self.said = Some(error.clone());
        Some((error, advice))
    }
}

/// What the task does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TickAction {
    Wait,
    Look,
    /// No session has called a function for a while, or all have left.
    Rest,
    /// No session is left.
    End,
}

/// When a check is due.
#[derive(Debug)]
struct LookSchedule {
    /// Not earlier, even if sessions wait for it: a check costs its server something.
    earliest: Instant,
    /// Of the last check.
    wish: PlainnessWish,
    due: Instant,
    used_at: Instant,
    held_at: Instant,
    is_resting: bool,
}

impl LookSchedule {
    fn new(now: Instant) -> Self {
        let wish = PlainnessWish::NotWanted;
        Self { earliest: now, wish, due: now, used_at: now, held_at: now, is_resting: false }
    }

    fn looked(&mut self, wish: PlainnessWish, began: Instant, now: Instant, pause: Duration) {
        self.wish = wish;
        let cost = now.saturating_duration_since(began) * FUNCTION_LOOK_SHARE;
        self.earliest = now + cost.min(FUNCTION_LOOK_PAUSE_MAX);
        self.due = now + pause.max(cost);
        self.is_resting = false;
    }

    /// When a check may begin that sessions wait for: at once if it is the first that is to find out what is plain, until which
    /// all that they do goes to the primary.
    fn earliest(&self, functions: &Functions) -> Option<Instant> {
        let is_wish_new = self.wish == PlainnessWish::NotWanted && functions.wants_plainness();
        (!is_wish_new).then_some(self.earliest)
    }

    /// Returns when [`Self::tick`] may have something to do.
    async fn next_tick(&self, functions: &Functions) {
        let wanted = async {
            poll_fn(|cx| functions.poll_wanted(cx, self.is_resting)).await;
            if let Some(earliest) = self.earliest(functions) {
                sleep_until(earliest.into()).await;
            }
        };
        let pause = self.due.saturating_duration_since(Instant::now());
        let pause = if pause.is_zero() { FUNCTION_LOOK_INTERVAL } else { pause.min(FUNCTION_LOOK_INTERVAL) };
        let _whichever_comes_first = timeout(pause, wanted).await;
    }

    fn tick(&mut self, now: Instant, functions: &Functions, is_held: bool) -> TickAction {
        if is_held {
            self.held_at = now;
        } else if now.saturating_duration_since(self.held_at) >= FUNCTIONS_KEPT {
            return TickAction::End;
        }
        if functions.take_use() {
            self.used_at = now;
        }
        if functions.is_awaited() && self.earliest(functions).is_none_or(|earliest| now >= earliest) {
            return TickAction::Look;
        }
        let is_left =
            !is_held && now.saturating_duration_since(self.held_at.max(self.used_at)) >= FUNCTIONS_LEFT;
        if is_left && !self.is_resting {
            self.is_resting = true;
            return TickAction::Rest;
        }
        if now < self.due || is_left {
            return TickAction::Wait;
        }
        match (now.saturating_duration_since(self.used_at) < FUNCTION_QUIET, self.is_resting) {
            (true, _) => TickAction::Look,
            (false, false) => {
                self.is_resting = true;
                TickAction::Rest
            }
            (false, true) => TickAction::Wait,
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
        let mut schedule = LookSchedule::new(start);
        schedule.looked(PlainnessWish::NotWanted, start, at(2), FUNCTION_LOOK_INTERVAL);
        assert_eq!(schedule.tick(at(100), &functions, true), TickAction::Wait);
        assert_eq!(schedule.tick(at(1002), &functions, true), TickAction::Look);
        schedule.looked(PlainnessWish::NotWanted, at(1002), at(1004), FUNCTION_LOOK_INTERVAL);
        assert_eq!(schedule.tick(at(20_000), &functions, true), TickAction::Rest);
        assert_eq!(schedule.tick(at(20_100), &functions, true), TickAction::Wait);
        assert_eq!(schedule.tick(at(79_000), &functions, false), TickAction::Wait);
        assert_eq!(schedule.tick(at(80_100), &functions, false), TickAction::End);
    }

    #[test]
    fn a_database_that_all_sessions_have_left_can_be_dropped() {
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let mut schedule = LookSchedule::new(start);
        // The next one is due in four seconds.
        schedule.looked(PlainnessWish::NotWanted, start, at(200), FUNCTION_LOOK_INTERVAL);
        assert_eq!(schedule.tick(at(1000), &functions, true), TickAction::Wait);
        assert_eq!(schedule.tick(at(2900), &functions, false), TickAction::Wait);
        assert_eq!(schedule.tick(at(3000), &functions, false), TickAction::Rest);
        assert_eq!(schedule.tick(at(5000), &functions, false), TickAction::Wait, "it has left as well");
        assert_eq!(schedule.tick(at(5100), &functions, true), TickAction::Look, "one has come");
    }

    #[test]
    fn looks_take_a_small_share_of_the_time() {
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
        let start = Instant::now();
        let mut schedule = LookSchedule::new(start);
        let took = Duration::from_millis(100);
        schedule.looked(PlainnessWish::NotWanted, start, start + took, FUNCTION_LOOK_INTERVAL);
        assert_eq!(schedule.tick(start + took * FUNCTION_LOOK_SHARE, &functions, true), TickAction::Wait);
        assert_eq!(
            schedule.tick(start + took * (FUNCTION_LOOK_SHARE + 1), &functions, true),
            TickAction::Look
        );
    }

    #[test]
    fn a_session_that_waits_is_not_kept_by_how_long_the_last_look_took() {
        let start = Instant::now();
        let mut schedule = LookSchedule::new(start);
        let ended = start + FUNCTION_LOOK_PAUSE_MAX;
        schedule.looked(PlainnessWish::NotWanted, start, ended, FUNCTION_LOOK_INTERVAL);
        assert_eq!(schedule.earliest, ended + FUNCTION_LOOK_PAUSE_MAX);
        assert_eq!(schedule.due, ended + FUNCTION_LOOK_PAUSE_MAX * FUNCTION_LOOK_SHARE, "nobody waits");
    }

    #[test]
    fn the_first_look_for_what_is_plain_is_at_once() {
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
        let start = Instant::now();
        let ended = start + Duration::from_secs(1);
        let mut schedule = LookSchedule::new(start);
        let number = functions.look_begins();
        schedule.looked(PlainnessWish::of(&functions), start, ended, FUNCTION_LOOK_INTERVAL);
        functions.look_ended(number, None);
        assert_eq!(schedule.tick(ended, &functions, true), TickAction::Wait);
        let _unread = functions.plainness(b"select", &[]);
        assert_eq!(schedule.tick(ended, &functions, true), TickAction::Look);
        schedule.looked(
            PlainnessWish::of(&functions),
            ended,
            ended + Duration::from_secs(1),
            FUNCTION_LOOK_INTERVAL,
        );
        let _unread = functions.plainness(b"select", &[]);
        assert_eq!(schedule.tick(ended + Duration::from_secs(1), &functions, true), TickAction::Wait);
    }

    #[test]
    fn looks_that_fail_again_and_again_are_told_of_once() {
        let mut warnings = Warnings::default();
        let late: Result<(), _> =
            Err(FunctionsReadError::NotNow("canceling statement due to statement timeout (57014)".into()));
        for failure in 1..3 * FUNCTION_FAILURES_TOLD {
            let is_told = warnings.of(&late).is_some();
            assert_eq!(is_told, failure == FUNCTION_FAILURES_TOLD, "the {failure}th");
        }
        assert!(warnings.of(&Ok(())).is_none());
        let told = (1..=FUNCTION_FAILURES_TOLD).filter(|_| warnings.of(&late).is_some()).count();
        assert_eq!(told, 1, "it had succeeded meanwhile");
        let refused: Result<(), _> = Err(FunctionsReadError::Refused("no".into()));
        let told = (0..3).filter(|_| warnings.of(&refused).is_some()).count();
        assert_eq!(told, 1);
    }
}
