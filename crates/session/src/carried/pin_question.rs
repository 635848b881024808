//! Whether what pins a session is still there: some reasons end in ways that its SQL does not show for certain, such as
//! `pg_advisory_unlock`, `DROP` and `ON COMMIT DROP`. The server tells, at an idle point.

use trunkline_codec::backend::DataRow;

use crate::carried::followed::Followed;
use crate::carried::temporary::TemporarySchema;
use crate::limits::{PIN_HINTS_MAX, PIN_QUESTIONS_AT_ONCE, PIN_TRANSACTIONS_MAX, PIN_TRANSACTIONS_MIN};
use crate::pin::PinReason;

/// An advisory lock of this connection. Outside a transaction, those of transactions are released.
const HAS_LOCK: &str = "EXISTS (SELECT FROM pg_catalog.pg_locks l \
     WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' \
     AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())";

/// Anything in the schema of temporary objects, by what `DISCARD TEMP` looks at.
/// Source: PostgreSQL 18, src/backend/catalog/namespace.c, `RemoveTempRelations`; 2615 is `pg_namespace`.
const HAS_TEMPORARY: &str = "EXISTS (SELECT FROM pg_catalog.pg_depend d \
     WHERE d.refclassid OPERATOR(pg_catalog.=) '2615'::pg_catalog.oid \
     AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())";

/// An event trigger: with CREATE, DROP and the like it has run a function, whose effects are not known.
const HAS_EVENT_TRIGGER: &str = "EXISTS (SELECT FROM pg_catalog.pg_event_trigger e \
     WHERE e.evtenabled OPERATOR(pg_catalog.<>) 'D' AND e.evtevent OPERATOR(pg_catalog.<>) 'login')";

/// The schema of temporary objects, which stays. Of a transaction that was rolled back there may be none.
const HAS_SCHEMA: &str = "pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid";

/// A channel that this connection listens to.
const HAS_CHANNEL: &str = "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())";

/// When the server is asked next. Each question whose answer is that all is still there makes the next one rarer.
#[derive(Debug, Default)]
pub(crate) struct PinQuestion {
    /// Transactions since the last question.
    transactions: u16,
    /// Those of them that may have ended a reason.
    hints: u16,
    /// Questions in a row that have ended no reason.
    vain: u8,
    /// The transaction in progress may have ended a reason.
    has_hint: bool,
}

impl PinQuestion {
    /// The transaction in progress may end a reason.
    #[inline]
    pub(crate) fn hint(&mut self) {
        self.has_hint = true;
    }

    fn transaction_ended(&mut self) {
        self.transactions = self.transactions.saturating_add(1);
        if std::mem::take(&mut self.has_hint) {
            self.hints = self.hints.saturating_add(1);
        }
    }

    #[inline]
    fn is_due(&self) -> bool {
        if self.transactions == 0 {
            return false;
        }
        let hints = doubled(1, self.vain.saturating_sub(PIN_QUESTIONS_AT_ONCE), PIN_HINTS_MAX);
        self.hints >= hints
            || self.transactions >= doubled(PIN_TRANSACTIONS_MIN, self.vain, PIN_TRANSACTIONS_MAX)
    }

    /// It is in vain unless the answer says otherwise: a refusal, or none, changes nothing.
    fn asked(&mut self) {
        *self = Self { vain: self.vain.saturating_add(1), ..Self::default() };
    }
}

/// A number doubled so many times, at most the last one.
fn doubled(number: u16, times: u8, most: u16) -> u16 {
    let doubled = u32::from(number) << times.min(15);
    u16::try_from(doubled).map_or(most, |doubled| doubled.min(most))
}

impl Followed {
    /// A transaction has ended.
    #[inline]
    pub(crate) fn count_transaction(&mut self) {
        if !self.pins.is_empty() && self.pins.iter().any(PinReason::is_told_by_server) {
            self.pin_question.transaction_ended();
        } else {
            self.pin_question = PinQuestion::default();
        }
    }

    /// Whether the server is to be asked at the next idle point: nothing pins the session but what it can tell of, and what
    /// ends by itself.
    #[inline]
    pub(crate) fn must_ask_for_pins(&self) -> bool {
        self.pin_question.is_due() && self.is_pinned_by_what_is_told()
    }

    #[cold]
    fn is_pinned_by_what_is_told(&self) -> bool {
        let mut is_told = false;
        for reason in self.pins.iter() {
            is_told |= reason.is_told_by_server();
            let may_end = reason.is_told_by_server() || reason.ends_by_itself();
            if !may_end && reason != PinReason::SEQUENCE {
                return false;
            }
        }
        is_told && !self.has_other_reason() && !self.makes_temporary_objects()
    }

    /// Whether tables are temporary without saying so, as the path begins with the schema of those.
    fn makes_temporary_objects(&self) -> bool {
        self.settings().is_some_and(|settings| settings.name(b"pg_temp"))
    }

    /// The query, which returns one row: what is there, and at last what stays.
    pub(crate) fn question_of_pins(&mut self) -> Vec<u8> {
        self.pin_question.asked();
        format!("SELECT {HAS_LOCK}, {HAS_TEMPORARY}, {HAS_CHANNEL}, {HAS_EVENT_TRIGGER}, {HAS_SCHEMA}")
            .into_bytes()
    }

    /// The answer has come. Only a clear one ends a reason.
    #[cold]
    pub(crate) fn pins_told(&mut self, row: &[u8]) {
        let Some(mut answer) = PinAnswer::parse(row) else { return };
        if self.unsettled.may_have_run_event_triggers() {
            // It may have been disabled or dropped meanwhile.
            answer.event_triggers = Remains::Possible;
        }
        let ended: Vec<PinReason> = self.pins.iter().filter(|reason| answer.ends(*reason)).collect();
        for reason in &ended {
            self.pins.remove(*reason);
        }
        if answer.schema == Remains::Possible {
            self.temporary = TemporarySchema::Here;
        }
        if !ended.is_empty() {
            self.pin_question = PinQuestion::default();
        }
        if !self.pins.iter().any(PinReason::is_of_objects) {
            self.unsettled.events_ended();
        }
    }
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remains {
    Nothing,
    /// Or nobody knows.
    Possible,
}

impl Remains {
    fn of(value: Option<&[u8]>) -> Self {
        if value == Some(b"f") { Self::Nothing } else { Self::Possible }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PinAnswer {
    locks: Remains,
    temporary: Remains,
    channels: Remains,
    event_triggers: Remains,
    schema: Remains,
}

impl PinAnswer {
    fn parse(row: &[u8]) -> Option<Self> {
        let row = DataRow::parse(row).ok()?;
        let mut values = row.values().map(Remains::of);
        let (locks, temporary) = (values.next()?, values.next()?);
        let (channels, event_triggers) = (values.next()?, values.next()?);
        let schema = values.next()?;
        values.next().is_none().then_some(Self { locks, temporary, channels, event_triggers, schema })
    }

    /// Whether a reason has ended. What is told of a statement that runs a function stands for locks and for objects: they count
    /// together.
    fn ends(self, reason: PinReason) -> bool {
        let is_nothing_there = self.locks == Remains::Nothing && self.temporary == Remains::Nothing;
        match reason {
            PinReason::AdvisoryLock => is_nothing_there,
            PinReason::Listen => self.channels == Remains::Nothing,
            _other if reason.is_of_objects() => {
                is_nothing_there && (self.event_triggers == Remains::Nothing || !reason.has_event())
            }
            _other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks whenever a question is due, each in vain. Returns how many were asked.
    fn asked_in(transactions: u32, has_hint: impl Fn(u32) -> bool) -> u32 {
        let mut question = PinQuestion::default();
        let mut asked = 0;
        for number in 0..transactions {
            assert!(!question.is_due(), "at once after a question");
            if has_hint(number) {
                question.hint();
            }
            question.transaction_ended();
            if question.is_due() {
                question.asked();
                asked += 1;
            }
        }
        asked
    }

    #[test]
    fn a_busy_session_that_stays_pinned_is_hardly_ever_asked_about() {
        assert_eq!(asked_in(u32::from(PIN_TRANSACTIONS_MIN) - 1, |_| false), 0);
        assert_eq!(asked_in(u32::from(PIN_TRANSACTIONS_MIN), |_| false), 1);
        assert_eq!(asked_in(1_000_000, |_| false), 8 + (1_000_000 - 4080) / u32::from(PIN_TRANSACTIONS_MAX));
        let with_hints = asked_in(1_000_000, |_| true);
        assert!(with_hints <= 16 + 1_000_000 / u32::from(PIN_HINTS_MAX), "{with_hints}");
    }

    #[test]
    fn the_first_hints_are_asked_about_at_once() {
        for hints in 0..=PIN_QUESTIONS_AT_ONCE {
            assert_eq!(asked_in(u32::from(hints) + 1, |_| true), u32::from(hints) + 1);
        }
        assert_eq!(asked_in(u32::from(PIN_QUESTIONS_AT_ONCE) + 3, |_| true), 4, "then about every second");
    }

    #[test]
    fn only_a_whole_row_that_denies_ends_a_reason() {
        let row = |values: [&str; 4]| {
            let values = [values[0], values[1], values[2], values[3], "f"];
            let mut row = 5_u16.to_be_bytes().to_vec();
            for value in values {
                row.extend_from_slice(&u32::try_from(value.len()).unwrap_or_default().to_be_bytes());
                row.extend_from_slice(value.as_bytes());
            }
            row
        };
        let ended = |row: &[u8]| {
            let reasons = [
                PinReason::AdvisoryLock,
                PinReason::TemporaryObject,
                PinReason::UnknownStatement("DROP TABLE"),
                PinReason::UnknownStatement("DROP"),
                PinReason::UnknownStatement("TRUNCATE TABLE"),
                PinReason::Listen,
            ];
            let answer = PinAnswer::parse(row);
            reasons.map(|reason| answer.is_some_and(|answer| answer.ends(reason)))
        };
        let nothing = row(["f", "f", "f", "f"]);
        assert_eq!(ended(&nothing), [true, true, true, false, true, true]);
        assert_eq!(ended(&row(["t", "f", "f", "f"])), [false, false, false, false, false, true]);
        assert_eq!(ended(&row(["f", "t", "f", "f"])), [false, false, false, false, false, true]);
        assert_eq!(ended(&row(["f", "f", "t", "f"])), [true, true, true, false, true, false]);
        assert_eq!(ended(&row(["f", "f", "f", "t"])), [true, false, false, false, true, true]);
        assert_eq!(ended(&row(["", "F", "no", "false"])), [false; 6]);
        for end in 0..nothing.len() {
            assert_eq!(ended(&nothing[..end]), [false; 6], "cut at {end}");
        }
        assert_eq!(ended(&[&6_u16.to_be_bytes(), &nothing[2..], &[0, 0, 0, 1, b'f']].concat()), [false; 6]);
    }
}
