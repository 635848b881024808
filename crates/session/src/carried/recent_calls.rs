//! User-defined functions that were called, and relations and types that run one, known by the last look.
//!
//! A function may have been replaced since that look; the next look shows it. Until that has ended, the session does not
//! leave a server that still serves.

use crate::limits::RECENT_CALLS_MAX;
use crate::pin::PinReason;
use crate::sql::calls::{CalledNames, Calls};
use crate::sql::function_effect::FunctionEffect;
use crate::sql::functions::Functions;

/// When a function was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CalledBy {
    /// Once, just now.
    Query,
    /// By a prepared statement, which may run at any time.
    Statement,
}

#[derive(Clone, Copy, Debug)]
struct CalledFunction {
    /// The hash of its name.
    name: u64,
    /// The look that shows what was called; `None` for a prepared statement, which may run again.
    look: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RecentCalls {
    entries: Vec<CalledFunction>,
    /// More functions were called than fit.
    is_full: bool,
    /// A text has called functions whose names were not noted: the look of this number shows which; 0 for none.
    unnoted: u64,
    /// The last look before the first long statement was prepared.
    long_since: Option<u64>,
    /// Changes found by later looks are not applied yet.
    seen: u64,
    generation: u64,
    /// The look that a departure waits for, since prepared statements may have called a replaced function until then.
    departure: Option<u64>,
}

/// Stands for the generation of a catalog that is compared with anew.
const NOT_SETTLED: u64 = u64::MAX;

impl RecentCalls {
    pub(crate) fn add(&mut self, called: &CalledNames, by: CalledBy, functions: &Functions) {
        let look = match by {
            CalledBy::Query => Some(functions.some_look()),
            CalledBy::Statement => None,
        };
        self.seen_by(called.looks_done());
        match called.names() {
            Some(names) => names.iter().for_each(|name| self.note(*name, look)),
            None => self.is_full = true,
        }
    }

    /// A text was read with the results of those looks.
    fn seen_by(&mut self, looks_done: u64) {
        if !self.has_any() && self.unnoted == 0 {
            self.seen = self.seen.max(looks_done);
        }
    }

    /// A text may run what only the next look knows.
    #[cold]
    pub(crate) fn add_ahead(&mut self, calls: &Calls, functions: &Functions) {
        self.seen_by(calls.looks_done);
        let look = Some(functions.some_look());
        calls.ahead.iter().for_each(|name| self.note(*name, look));
    }

    /// A statement is run whose text is not kept, and that may run what only the next look knows.
    #[cold]
    pub(crate) fn add_any_ahead(&mut self, functions: &Functions) {
        self.seen_by(functions.looks_done());
        self.unnoted = self.unnoted.max(functions.some_look());
    }

    /// A long text is read, and what it calls is not noted.
    #[cold]
    pub(crate) fn add_unnoted(&mut self, is_statement: bool, functions: &Functions) {
        self.add_any_ahead(functions);
        if is_statement {
            self.long_since.get_or_insert(functions.looks_done());
        }
    }

    /// Whether a long statement was prepared since [`Self::long_statements_ended`].
    #[inline]
    pub(crate) fn has_long_statements(&self) -> bool {
        self.long_since.is_some()
    }

    /// No long statement is left.
    pub(crate) fn long_statements_ended(&mut self) {
        self.long_since = None;
    }

    /// A prepared statement is run. A long one is not read again when functions change: all changes since then count.
    #[inline]
    pub(crate) fn run_again(&mut self, functions: &Functions) {
        if let Some(since) = self.long_since {
            self.seen = self.seen.min(since);
            self.unnoted = functions.some_look();
            self.generation = NOT_SETTLED;
        }
    }

    fn note(&mut self, name: u64, look: Option<u64>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.look = entry.look.and(look);
        } else if self.entries.len() < RECENT_CALLS_MAX {
            self.entries.push(CalledFunction { name, look });
        } else if let Some(look) = look {
            self.unnoted = self.unnoted.max(look);
        } else {
            self.is_full = true;
        }
    }

    /// Whether nothing waits for a look, and no look has changed the catalog since the last [`Self::settle`].
    #[inline]
    pub(crate) fn is_settled(&self, functions: &Functions) -> bool {
        let is_waiting = |entry: &CalledFunction| entry.look.is_some();
        self.generation == functions.generation() && !self.entries.iter().any(is_waiting)
    }

    /// Whether any call is kept.
    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        self.is_full || !self.entries.is_empty()
    }

    /// Whether a departure must wait for a look: prepared statements call functions whenever they run.
    pub(crate) fn must_look_before_leaving(&mut self, functions: &Functions) -> bool {
        if !self.is_full && self.entries.iter().all(|entry| entry.look.is_some()) {
            return false;
        }
        let look = *self.departure.get_or_insert_with(|| functions.next_look());
        !functions.has_looked(look)
    }

    /// The client sends a request: the look for a departure may be out of date.
    #[inline]
    pub(crate) fn stays(&mut self) {
        self.departure = None;
    }

    /// The effects of the functions that were really called. Forgets calls that are settled.
    pub(crate) fn settle(&mut self, functions: &Functions) -> FunctionEffect {
        let mut effect = FunctionEffect::default();
        self.generation = functions.generation();
        // A look may end meanwhile.
        let looks_done = functions.looks_done();
        let changes = functions.changes();
        for change in changes.iter().filter(|change| change.look > self.seen) {
            let is_it = |entry: &CalledFunction| {
                change.may_be_run_by(entry.name) && entry.look.is_none_or(|look| look >= change.look)
            };
            if self.is_full || change.look <= self.unnoted || self.entries.iter().any(is_it) {
                effect.add(&change.effect);
            }
        }
        let unreadable = functions.unreadable_look().min(looks_done);
        if unreadable > self.seen && (self.has_any() || self.unnoted > 0) {
            effect.add(&FunctionEffect::pins(PinReason::UserFunction));
        }
        self.seen = changes.last().map_or(self.seen, |change| change.look.max(self.seen)).max(unreadable);
        self.entries.retain(|entry| entry.look.is_none_or(|look| look > looks_done));
        if self.unnoted <= looks_done {
            self.unnoted = 0;
        }
        effect
    }
}
