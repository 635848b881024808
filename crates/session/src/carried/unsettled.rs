//! Called functions whose effects, or the values that they set, are not known yet.

use std::sync::Arc;

use crate::carried::call_proof::{CallDoubt, CallProof};
use crate::carried::definitions::DefinitionSeen;
use crate::carried::followed::Followed;
use crate::carried::recent_calls::{CalledBy, RecentCalls};
use crate::limits::{READ_BACK_MAX, UNREAD_NAMES_MAX};
use crate::names::Name;
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::calls::{CalledNames, Calls, calls, calls_in_part, may_call};
use crate::sql::functions::{Called, Functions, UnlistedFunctions};
use crate::sql::made::Made;
use crate::sql::read::{FunctionUse, Reading, read, read_with};

/// Stands for a generation that there is none of.
const READ_UNKNOWN: u64 = u64::MAX - 1;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    pub(super) functions: Option<Arc<Functions>>,
    /// The generation that prepared statements were read with; [`READ_UNKNOWN`] where that did not know all that they call.
    generation: u64,
    /// Settings that called functions may change.
    keys: Vec<Box<str>>,
    /// Functions that were called and are not known, until a look of this number has ended.
    names: Vec<Name>,
    look: u64,
    /// Whether functions, or objects that may call them, were created or changed in this transaction.
    pub(super) defined: DefinitionSeen,
    /// What that may be.
    pub(super) made: Made,
    /// The last look that had ended when the first statement was sent that may have run event triggers.
    events_since: Option<u64>,
    pub(super) recent_calls: RecentCalls,
    pub(super) proof: CallProof,
}

impl Unsettled {
    pub(crate) fn new(functions: Option<Arc<Functions>>) -> Self {
        let generation = functions.as_ref().map_or(0, |functions| functions.generation());
        Self { functions, generation, ..Self::default() }
    }

    /// Reads SQL and the functions that it calls. `types` are those of its parameters, four bytes each.
    pub(crate) fn read<'a>(&mut self, sql: &[u8], types: impl FnOnce() -> &'a [u8]) -> Reading {
        if self.may_call(sql) { self.read_calling(sql, types) } else { self.of_relations(read(sql)) }
    }

    /// What was read in SQL that calls nothing with effects, as far as functions of relations are known.
    #[inline]
    pub(crate) fn of_relations(&self, reading: Reading) -> Reading {
        if reading.runs_relations() && !self.knows_relations() {
            return reading.of_unknown_relations();
        }
        reading
    }

    /// Whether it is known of all relations what functions they run, or they are trusted.
    #[cold]
    fn knows_relations(&self) -> bool {
        let Some(functions) = &self.functions else { return true };
        let catalog = functions.load();
        functions.is_current() && catalog.unlisted == UnlistedFunctions::Unread
    }

    /// Whether functions decide about the effects of SQL, beside its text.
    #[inline]
    pub(crate) fn may_call(&self, sql: &[u8]) -> bool {
        self.functions.as_ref().is_some_and(|functions| may_call(sql, functions))
    }

    #[inline]
    fn read_calling<'a>(&mut self, sql: &[u8], types: impl FnOnce() -> &'a [u8]) -> Reading {
        let mut called = CalledNames::default();
        let found = self.functions.as_ref().and_then(|functions| calls(sql, functions, &mut called));
        self.called_lately(&called, CalledBy::Statement);
        let mut reading = match found {
            None => self.of_relations(read(sql)),
            Some(calls) => self.read_called(sql, calls, types),
        };
        if !called.is_empty() || reading.pins.contains(PinReason::UnreadFunction) {
            reading.calls = FunctionUse::Possible;
        }
        reading
    }

    /// Reads SQL that makes these calls.
    #[cold]
    #[inline(never)]
    pub(crate) fn read_called<'a>(
        &mut self,
        sql: &[u8],
        mut calls: Box<Calls>,
        types: impl FnOnce() -> &'a [u8],
    ) -> Reading {
        if let (true, Some(functions)) = (calls.watches_types, &self.functions) {
            calls.add_types(types(), functions);
        }
        if let (false, Some(functions)) = (calls.ahead.is_empty(), &self.functions) {
            self.recent_calls.add_ahead(&calls, functions);
            self.proof.waits_for(functions.next_look());
        }
        if calls.is_empty() {
            return self.of_relations(read(sql));
        }
        let pins = self.note(&calls);
        // What it makes runs these, too, and a relation that it names does.
        let reading = read_with(sql, &pins).of_unknown_relations();
        Reading { of_functions: pins, ..reading }
    }

    /// Reads a part of long SQL: only functions with known effects are found there.
    #[cold]
    pub(crate) fn read_part(&mut self, part: &[u8]) -> Pins {
        let found = self.functions.as_ref().and_then(|functions| calls_in_part(part, functions));
        found.map_or_else(Pins::default, |calls| self.note(&calls))
    }

    /// Notes the calls; returns the reasons that pin the session.
    #[cold]
    pub(crate) fn note(&mut self, calls: &Calls) -> Pins {
        let mut pins = calls.effect.pins.clone();
        if !calls.effect.sets.is_empty() {
            pins.add(PinReason::ReadingBack);
            self.add_keys(&calls.effect.sets, &mut pins);
        }
        if let (false, Some(functions)) = (calls.unread.is_empty(), &self.functions) {
            pins.add(PinReason::UnreadFunction);
            self.proof.called();
            self.look = functions.next_look();
            for name in &calls.unread {
                if self.names.contains(name) {
                    continue;
                }
                if self.names.len() >= UNREAD_NAMES_MAX {
                    pins.add(PinReason::UserFunction);
                    break;
                }
                self.names.push(name.clone());
            }
        }
        pins
    }

    pub(super) fn add_keys(&mut self, keys: &[Box<str>], pins: &mut Pins) {
        for key in keys {
            if self.keys.contains(key) {
                continue;
            }
            if self.keys.len() >= READ_BACK_MAX {
                pins.add(PinReason::UnknownSetting);
                return;
            }
            self.keys.push(key.clone());
        }
    }

    /// Settings whose values are to be read.
    pub(crate) fn keys(&self) -> &[Box<str>] {
        &self.keys
    }

    /// Notes calls of functions that are harmless by the last look.
    pub(crate) fn called_lately(&mut self, called: &CalledNames, by: CalledBy) {
        if let (false, Some(functions)) = (called.is_empty(), &self.functions) {
            self.recent_calls.add(called, by, functions);
            self.proof.called();
        }
    }

    /// Whether [`Self::has_changed`] may be so, or prepared statements may run what only the next look knows.
    #[inline]
    pub(super) fn must_read_again(&self) -> bool {
        self.functions.as_ref().is_some_and(|functions| functions.reading_mark() != self.generation)
    }

    /// Whether prepared statements must be read again because functions have changed. True once for each change.
    pub(super) fn has_changed(&mut self) -> bool {
        let Some(functions) = &self.functions else { return false };
        let generation = functions.generation();
        std::mem::replace(&mut self.generation, generation) != generation
    }

    /// The session is pinned by these reasons. An event trigger may have run for what they are told of.
    #[cold]
    pub(crate) fn pinned_by(&mut self, mut reasons: impl Iterator<Item = PinReason>) {
        if let Some(functions) = &self.functions
            && reasons.any(|reason| reason.is_of_objects() && reason.has_event())
        {
            self.events_since.get_or_insert(functions.looks_done());
            if !functions.is_current() {
                functions.next_look();
            }
        }
    }

    /// Whether a look has found event triggers enabled since.
    #[cold]
    pub(crate) fn may_have_run_event_triggers(&self) -> bool {
        let Some((functions, since)) = self.functions.as_ref().zip(self.events_since) else { return false };
        let found = functions.event_triggers_seen();
        found > 0 && found >= since
    }

    /// What event triggers may have done is over.
    pub(crate) fn events_ended(&mut self) {
        self.events_since = None;
    }

    /// Whether all functions that were called are known by now.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        let Some(functions) = &self.functions else { return true };
        self.names.is_empty() && !self.is_looking() && self.recent_calls.is_settled(functions)
    }

    /// Whether the functions that prepared statements have called are not known yet.
    pub(crate) fn must_look_before_leaving(&mut self) -> bool {
        let Some(functions) = &self.functions else { return false };
        self.recent_calls.must_look_before_leaving(functions)
    }

    /// Whether prepared statements may call functions of users, or others were called that are not settled.
    #[inline]
    pub(crate) fn calls_functions(&self) -> bool {
        self.recent_calls.has_any()
    }

    /// The client sends a request.
    #[inline]
    pub(crate) fn stays(&mut self) {
        self.recent_calls.stays();
    }

    /// Reasons that pin the session, from called functions that turned out to have more effects.
    fn settle_lately(&mut self) -> Pins {
        let Some(functions) = &self.functions else { return Pins::default() };
        let calls = Calls { effect: self.recent_calls.settle(functions), ..Calls::default() };
        self.note(&calls)
    }

    /// Whether all functions that were called are known by now, and have no effects.
    pub(crate) fn is_harmless(&self) -> bool {
        let Some(functions) = self.functions.as_ref().filter(|_| !self.names.is_empty()) else { return true };
        if !functions.has_looked(self.look) {
            return false;
        }
        let catalog = functions.load();
        self.names.iter().all(|name| match catalog.called(name) {
            Called::BuiltIn => true,
            Called::UserDefined(effect) => !effect.changes_session(),
            // There is no such function. What a name of other letters is called there depends on encodings.
            Called::Unknown => catalog.unlisted == UnlistedFunctions::Unread && name.is_ascii(),
        })
    }

    /// Reasons that pin the session, from the functions that were called. `None` while those are not known.
    pub(crate) fn settle(&mut self) -> Option<Pins> {
        let functions = self.functions.as_ref().filter(|_| !self.names.is_empty())?;
        if !functions.has_looked(self.look) {
            return None;
        }
        // Statements that were read without knowing these are read again, whether or not the look has found a change.
        self.generation = READ_UNKNOWN;
        let catalog = functions.load();
        let mut calls = Calls::default();
        let mut pins = Pins::default();
        for name in std::mem::take(&mut self.names) {
            match catalog.called(&name) {
                Called::BuiltIn => {}
                Called::UserDefined(effect) => {
                    calls.effect.add(effect);
                }
                Called::Unknown if catalog.unlisted == UnlistedFunctions::Unread && name.is_ascii() => {}
                Called::Unknown => pins.add(PinReason::UserFunction),
            }
        }
        drop(catalog);
        pins.extend(&self.note(&calls));
        Some(pins)
    }
}

impl Followed {
    /// Functions that were called earlier may be known by now.
    pub(crate) fn settle_calls(&mut self) {
        // Before what looks have found is applied.
        let doubt = self.unsettled.look_has_told();
        let mut pins = self.unsettled.settle_lately();
        if let Some(more) = self.unsettled.settle() {
            self.pins.remove(PinReason::UnreadFunction);
            pins.extend(&more);
        }
        if pins.iter().any(PinReason::may_define) {
            self.unsettled.called_what_defines();
        }
        self.pins.extend(&pins);
        self.long_statements_may_have_ended();
        if doubt == Some(CallDoubt::OtherFunctions) {
            self.hidden.get_or_insert(PinReason::UnreadFunction);
        }
    }
}
