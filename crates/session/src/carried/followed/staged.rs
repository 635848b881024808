//! Effects of the open transaction, which COMMIT makes lasting and ROLLBACK undoes.

use super::{Followed, QueuedRequest};
use crate::carried::encoding::Encoding;
use crate::limits::{CHANNELS_MAX, HOLD_CURSORS_MAX, STAGED_MAX};
use crate::names::Name;
use crate::pin::PinReason;
use crate::sql::effect::{Change, Effect};

/// An effect of the transaction that a rollback undoes.
#[derive(Debug)]
pub(super) enum Staged {
    Change(Change, Encoding),
    Savepoint(Name),
    /// Something that pins the session once the transaction has committed.
    Kept(Kept),
}

/// What exists once its transaction has committed.
#[derive(Debug)]
pub(super) enum Kept {
    HoldCursor(Name),
    Channel(Name),
    /// UNLISTEN of this channel, or of all.
    NoChannel(Option<Name>),
    Pin(PinReason),
}

impl Staged {
    /// The reason that it will pin the session.
    pub(super) fn pins(&self) -> Option<PinReason> {
        match self {
            Self::Change(..) | Self::Savepoint(_) | Self::Kept(Kept::NoChannel(_)) => None,
            Self::Kept(Kept::HoldCursor(_)) => Some(PinReason::HoldCursor),
            Self::Kept(Kept::Channel(_)) => Some(PinReason::Listen),
            Self::Kept(Kept::Pin(reason)) => Some(*reason),
        }
    }
}

impl Followed {
    /// Takes effect whether the transaction commits or not.
    pub(super) fn close_cursors(&mut self, is_it: impl Fn(&Name) -> bool) {
        self.hold_cursors.retain(|cursor| !is_it(cursor));
        self.staged.retain(|staged| !matches!(staged, Staged::Kept(Kept::HoldCursor(name)) if is_it(name)));
    }

    fn keep(&mut self, kept: Kept) {
        let (names, name, names_max, reason) = match kept {
            Kept::HoldCursor(name) => (&mut self.hold_cursors, name, HOLD_CURSORS_MAX, PinReason::HoldCursor),
            Kept::Channel(name) => (&mut self.channels, name, CHANNELS_MAX, PinReason::Listen),
            Kept::NoChannel(Some(name)) => return self.channels.retain(|channel| *channel != name),
            Kept::NoChannel(None) => {
                self.channels.clear();
                // A function that ran at the end of the transaction may listen all the same.
                return self.pin_question.hint();
            }
            Kept::Pin(reason) => return self.pin(reason),
        };
        if names.contains(&name) {
            return;
        }
        if names.len() >= names_max {
            self.pin(reason);
        } else {
            names.push(name);
        }
    }

    pub(super) fn stage(&mut self, staged: Staged) {
        if self.staged.len() >= STAGED_MAX {
            self.pin(PinReason::SettingsTooLarge);
        } else {
            self.staged.push(staged);
        }
    }

    pub(super) fn settle(&mut self, change: Change, encoding: Encoding) {
        if self.gucs.is_none() && change.is_trace_free() {
            return;
        }
        self.change_settings(|gucs| gucs.apply(change, encoding));
    }

    fn undo(&mut self, staged: Staged) {
        match staged {
            Staged::Change(Change::Set { key, .. } | Change::Reset { key, .. }, _) => {
                self.settle(Change::Local { key, sql: Box::default() }, None);
            }
            Staged::Change(Change::ResetAll | Change::Local { .. }, _) => {}
            Staged::Savepoint(_) | Staged::Kept(_) => {}
        }
    }

    /// A statement that may end transactions has run outside of a transaction block, or has failed. In a pipeline it may have
    /// committed what came before it, whatever becomes of the rest.
    /// Source: PostgreSQL 17, src/backend/commands/functioncmds.c, `ExecuteCallStmt`.
    pub(crate) fn may_have_committed(&mut self) {
        self.perhaps_committed = self.staged.len();
    }

    /// The same, if that is what the request in front, which has failed, was about to do.
    pub(crate) fn may_have_committed_as_it_failed(&mut self) {
        let ends_transactions = |effect: &Effect| match effect {
            Effect::Pin(PinReason::UnknownStatement(words) | PinReason::SideEffects(words)) => {
                matches!(*words, "CALL" | "DO")
            }
            Effect::Unread => true,
            _others => false,
        };
        if self.queue.front().and_then(QueuedRequest::next_effect).is_some_and(ends_transactions) {
            self.may_have_committed();
        }
    }

    /// An effect that is undone unless it was committed: what is there now is asked for, or pins.
    #[cold]
    fn may_be_there(&mut self, staged: &Staged) {
        match staged {
            Staged::Change(Change::Set { key, .. } | Change::Reset { key, .. }, _) => {
                self.read_back(std::slice::from_ref(key))
            }
            Staged::Change(Change::ResetAll, _) => {
                let keys: Vec<Box<str>> =
                    self.gucs.iter().flat_map(|gucs| gucs.keys()).map(Box::from).collect();
                self.read_back(&keys);
            }
            Staged::Kept(Kept::HoldCursor(_)) => self.pin(PinReason::HoldCursor),
            Staged::Kept(Kept::Channel(_)) => {
                self.pin(PinReason::Listen);
                self.pin_question.hint();
            }
            Staged::Kept(Kept::Pin(reason)) => self.pin(*reason),
            Staged::Change(Change::Local { .. }, _)
            | Staged::Savepoint(_)
            | Staged::Kept(Kept::NoChannel(_)) => {}
        }
    }

    pub(super) fn commit(&mut self) {
        self.has_failed = false;
        self.perhaps_committed = 0;
        self.prepared.transaction_ended(false);
        self.has_report |= !self.staged.is_empty();
        for staged in std::mem::take(&mut self.staged) {
            match staged {
                Staged::Change(change, encoding) => self.settle(change, encoding),
                Staged::Kept(kept) => self.keep(kept),
                Staged::Savepoint(_) => {}
            }
        }
    }

    pub(super) fn rollback(&mut self) {
        self.has_failed = false;
        self.prepared.transaction_ended(true);
        self.has_report |= !self.staged.is_empty();
        let perhaps_committed = std::mem::take(&mut self.perhaps_committed);
        for (at, staged) in std::mem::take(&mut self.staged).into_iter().enumerate() {
            if at < perhaps_committed {
                self.may_be_there(&staged);
            }
            self.undo(staged);
        }
        self.events_may_have_ended();
    }

    /// Effects were undone: event triggers that ran for them do not count for what comes later.
    fn events_may_have_ended(&mut self) {
        let is_told_of_objects = self.pins.iter().any(PinReason::is_of_objects)
            || self.staged.iter().filter_map(Staged::pins).any(PinReason::is_of_objects)
            || self.queue.iter().any(QueuedRequest::is_of_objects);
        if !is_told_of_objects {
            self.unsettled.events_ended();
        }
    }

    /// Whether the open transaction has a savepoint.
    pub(crate) fn has_savepoint(&self) -> bool {
        self.staged.iter().any(|staged| matches!(staged, Staged::Savepoint(_)))
    }

    pub(super) fn savepoint(&self, name: &Name) -> Option<usize> {
        self.staged.iter().rposition(|staged| matches!(staged, Staged::Savepoint(n) if n == name))
    }

    pub(super) fn rollback_to(&mut self, name: &Name) {
        match self.savepoint(name) {
            Some(at) => self.staged.split_off(at + 1).into_iter().for_each(|staged| self.undo(staged)),
            None => self.pin(PinReason::UnknownSavepoint),
        }
        let kept = self.staged.iter().filter_map(|staged| match staged {
            Staged::Change(change, _) => Some(change),
            Staged::Savepoint(_) | Staged::Kept(_) => None,
        });
        self.prepared.rolled_back_to_savepoint(kept);
        self.events_may_have_ended();
    }
}
