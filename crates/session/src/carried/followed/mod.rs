//! What a session has changed on its server, followed so that it can be restored on another.
//!
//! SQL is read when it is sent, and shows what it would do. The server's command tags show what was
//! done, and the end of the transaction decides what of it counts.

mod queued;
mod sharing;
mod staged;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::carried::connection::ConnectionState;
use crate::carried::encoding::{CurrentEncoding, EncodingEra};
use crate::carried::gucs::{Gucs, SettingsTooLarge};
use crate::carried::login_values::LoginValues;
use crate::carried::parameters::ReportedParameters;
use crate::carried::pin_question::PinQuestion;
use crate::carried::prepared::Prepared;
use crate::carried::temporary::TemporarySchema;
use crate::carried::unsettled::Unsettled;
use crate::hints::REPORT_LSN;
use crate::names::Name;
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::effect::{Change, Effect};
use crate::sql::functions::Functions;
use crate::sql::hinted::reports_lsn;
use crate::sql::set::decides_reading;
use crate::sql::verb::unknown_tag;
pub(crate) use queued::QueuedRequest;
use staged::{Kept, Staged};

/// Exists only in sessions that may move and have done more than run plain queries, and in those whose statements are
/// logged.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) prepared: Prepared,
    /// A setting that decides how SQL is read was changed in this transaction.
    has_other_reading: bool,
    /// A hash of the settings that this transaction has changed; `None` where it has undone some of that.
    set_here: Option<u64>,
    /// Settings have changed since statements got names made from their content.
    has_new_settings: bool,
    /// `None` where there are none.
    gucs: Option<Arc<Gucs>>,
    staged: Vec<Staged>,
    /// How many of them may have been committed by a statement that ends transactions.
    perhaps_committed: usize,
    pub(crate) queue: VecDeque<QueuedRequest>,
    hold_cursors: Vec<Name>,
    /// Channels it listens to.
    channels: Vec<Name>,
    pub(crate) pins: Pins,
    pub(crate) unsettled: Unsettled,
    pub(crate) login_values: LoginValues,
    /// The transaction has failed, so its end undoes it.
    pub(crate) has_failed: bool,
    /// The last bytes of the latest part of a long Query or Parse.
    pub(crate) carry: Vec<u8>,
    pub(crate) encoding: CurrentEncoding,
    /// A parameter was reported since the session was last idle outside a transaction.
    pub(crate) has_report: bool,
    /// `SET LOCAL` has turned `trunkline.report_lsn` on, perhaps not for the whole transaction. Whoever looks at its end takes it.
    pub(crate) reports_here: bool,
    /// See the method.
    pub(super) hidden: Option<PinReason>,
    pub(crate) pin_question: PinQuestion,
    pub(super) temporary: TemporarySchema,
}

impl Followed {
    /// Of a session that has changed nothing yet.
    pub(crate) fn new(functions: Option<Arc<Functions>>, prepared: Prepared) -> Self {
        Self {
            prepared,
            has_other_reading: false,
            set_here: Some(0),
            has_new_settings: false,
            gucs: None,
            staged: Vec::new(),
            perhaps_committed: 0,
            queue: VecDeque::new(),
            hold_cursors: Vec::new(),
            channels: Vec::new(),
            pins: Pins::default(),
            unsettled: Unsettled::new(functions),
            login_values: LoginValues::default(),
            has_failed: false,
            carry: Vec::new(),
            encoding: CurrentEncoding::default(),
            has_report: false,
            reports_here: false,
            hidden: None,
            pin_question: PinQuestion::default(),
            temporary: TemporarySchema::default(),
        }
    }

    pub(crate) fn movability(&self) -> Result<(), PinReason> {
        let reason = match self.pins.contains(PinReason::UnreadFunction) && self.unsettled.is_harmless() {
            true => self.pins.first_but(PinReason::UnreadFunction),
            false => self.pins.first_of_session(),
        };
        if let Some(reason) = reason {
            return Err(reason);
        }
        if !self.hold_cursors.is_empty() {
            return Err(PinReason::HoldCursor);
        }
        if !self.channels.is_empty() {
            return Err(PinReason::Listen);
        }
        // If the transaction is lost with its COMMIT in flight, it may have committed.
        if let Some(reason) = self.staged.iter().find_map(Staged::pins) {
            return Err(reason);
        }
        if self.prepared.is_saved() { Ok(()) } else { Err(PinReason::StatementsTooLarge) }
    }

    /// Whether cursors or channels keep it on its server, or effects of a transaction that has not ended.
    pub(crate) fn has_other_reason(&self) -> bool {
        !self.hold_cursors.is_empty() || !self.channels.is_empty() || !self.staged.is_empty()
    }

    pub(crate) fn pin(&mut self, reason: PinReason) {
        self.pins.add(reason);
    }

    /// The settings that the session has made.
    #[inline]
    pub(crate) fn settings(&self) -> Option<&Arc<Gucs>> {
        self.gucs.as_ref()
    }

    /// Changes the settings. Those that are too large are forgotten.
    pub(super) fn change_settings(&mut self, change: impl FnOnce(&mut Gucs) -> Result<(), SettingsTooLarge>) {
        let gucs = Arc::make_mut(self.gucs.get_or_insert_default());
        let before = gucs.fingerprint();
        let changed = change(gucs);
        if changed.is_err() {
            // Custom settings among them exist on the server, whatever becomes of the reason.
            self.hidden.get_or_insert(PinReason::SettingsTooLarge);
            gucs.clear();
        }
        self.has_new_settings |= gucs.fingerprint() != before;
        if gucs.is_empty() {
            self.gucs = None;
        }
        if changed.is_err() {
            self.pin(PinReason::SettingsTooLarge);
        }
    }

    /// Why no other session may have the connection, although this one can go on elsewhere: what it did on it is not
    /// known, or not all of it is undone by what has ended its reasons.
    #[inline]
    pub(crate) fn hidden(&self) -> Option<PinReason> {
        self.hidden
    }

    /// Whether `DISCARD ALL` leaves something of what keeps the session on its connection, of which `first` is told.
    pub(crate) fn is_lasting(&self, first: PinReason) -> bool {
        let ended =
            [PinReason::StatementsTooLarge, PinReason::StatementNotDescribed, PinReason::TemporaryPath];
        let leaves = |reason: PinReason| {
            !ended.contains(&reason) && (!reason.ends_with_discard_all() || reason.may_hide_setting())
        };
        self.hidden.is_some() || leaves(first) || self.pins.iter().any(leaves)
    }

    /// Another connection was taken: what is hidden is on the old one.
    pub(crate) fn connection_taken(&mut self, from: &ConnectionState) {
        self.hidden = None;
        self.take_temporary_schema(from);
        self.pins.remove(PinReason::SEQUENCE);
    }

    /// The server is lost with requests in flight; their effects do not count.
    pub(crate) fn server_lost(&mut self, has_query: bool) {
        self.has_failed = true;
        self.may_have_defined_all();
        self.prepared.server_lost();
        if has_query {
            self.prepared.query_answered();
        }
    }

    /// A request with effects will have no answer, or its answer is complete.
    pub(crate) fn drop_effects(&mut self) {
        if let Some(request) = self.queue.pop_front() {
            self.may_have_defined(&request);
        }
    }

    /// Reasons that pin the session from when a request is sent.
    pub(crate) fn pin_all(&mut self, reasons: &Pins) {
        // The server knows by the end of the transaction whether anything is left of it.
        if reasons.iter().any(PinReason::is_of_objects) {
            self.pin_question.hint();
        }
        self.unsettled.pinned_by(reasons.iter());
        self.pins.extend(reasons);
    }

    /// A statement of the front request is complete.
    pub(crate) fn completed(&mut self, has_effects: bool, tag: &[u8], told: &ReportedParameters) {
        if tag.first() == Some(&b'D') && (tag.starts_with(b"DROP ") || tag == b"DISCARD TEMP") {
            self.pin_question.hint();
        }
        let (effect, era) =
            if has_effects { self.next_effect() } else { (Effect::None, self.encoding.era()) };
        if !effect.fits(tag) {
            self.pin(unknown_tag(tag));
        }
        self.defined_by(has_effects, tag, &effect);
        match (effect, tag) {
            (Effect::RollbackTo(name), b"ROLLBACK") => {
                self.set_here = None;
                self.rollback_to(&name);
            }
            (_, b"COMMIT") => {
                self.commit();
                self.unsettled.transaction_ended();
            }
            (_, b"ROLLBACK") => self.rollback(),
            (effect, _) => self.apply(effect, era, told),
        }
    }

    /// The function of a FunctionCall has returned.
    pub(crate) fn returned(&mut self, told: &ReportedParameters) {
        let (effect, era) = self.next_effect();
        self.apply(effect, era, told);
    }

    /// With the encoding era in which its text was sent.
    pub(crate) fn next_effect(&mut self) -> (Effect, EncodingEra) {
        let (effect, era) = match self.queue.front_mut() {
            Some(QueuedRequest::Query { effects, era, .. }) => {
                (effects.pop_front().unwrap_or(Effect::Unread), *era)
            }
            Some(QueuedRequest::Execute(lasting)) => (lasting.effect.clone(), lasting.era),
            None => (Effect::Unread, self.encoding.era()),
        };
        self.prepared.run_by_sql(&effect);
        self.prepared.effect_behind(effect, era)
    }

    pub(crate) fn apply(&mut self, effect: Effect, era: EncodingEra, told: &ReportedParameters) {
        match effect {
            Effect::None | Effect::Local | Effect::Unread => {}
            Effect::Change(changes) => {
                changes.into_iter().for_each(|change| self.change(change, era, told));
            }
            // Its parameters were never seen.
            Effect::SetConfig(_) => self.pin(PinReason::UnknownSetting),
            Effect::DiscardAll => self.discard_all(),
            Effect::Deallocate(name) => {
                self.prepared.deallocate(&name);
                self.statements_dropped();
            }
            Effect::DeallocateAll => {
                self.prepared.deallocate_all();
                self.statements_dropped();
            }
            Effect::Prepare { name, sql } => {
                let pins = self.unsettled.read(&sql, || &[]).pins;
                self.prepared.prepared_by_sql(name, &sql, pins);
                self.statement_made();
            }
            Effect::Savepoint(name) => self.stage(Staged::Savepoint(name)),
            Effect::Release(name) => {
                if let Some(at) = self.savepoint(&name) {
                    let later = self.staged.split_off(at);
                    self.staged.extend(later.into_iter().filter(|s| !matches!(s, Staged::Savepoint(_))));
                }
            }
            Effect::RollbackTo(_) => self.pin(PinReason::UnknownSavepoint),
            Effect::DeclareHold(name) => self.stage(Staged::Kept(Kept::HoldCursor(name))),
            Effect::CloseCursor(name) => self.close_cursors(|cursor| *cursor == name),
            Effect::CloseAllCursors => self.close_cursors(|_| true),
            Effect::Listen(name) => self.stage(Staged::Kept(Kept::Channel(name))),
            Effect::Unlisten(name) => self.stage(Staged::Kept(Kept::NoChannel(Some(name)))),
            Effect::UnlistenAll => self.stage(Staged::Kept(Kept::NoChannel(None))),
            Effect::MayUnlock => self.pin_question.hint(),
            // What it ran is not known to be followed.
            Effect::Execute(_) => self.pin(PinReason::UnknownStatement("EXECUTE")),
            // It ran a statement as a query, whose effects are not followed.
            Effect::Explained(_) => self.pin(PinReason::UnknownStatement("EXPLAIN")),
            Effect::Pin(reason @ (PinReason::Listen | PinReason::TemporaryObject)) => {
                self.stage(Staged::Kept(Kept::Pin(reason)));
                // ON COMMIT DROP.
                self.pin_question.hint();
            }
            Effect::Pin(reason) => {
                if reason.is_of_objects() {
                    self.pin_question.hint();
                }
                self.pin(reason);
            }
        }
    }

    /// Adds these reasons to the request that was sent last.
    pub(crate) fn pin_newest(&mut self, reasons: &Pins) {
        if let Some(QueuedRequest::Query { pins, .. }) = self.queue.back_mut() {
            pins.extend(reasons);
        }
    }

    /// Sequences were discarded.
    pub(crate) fn sequences_discarded(&mut self) {
        self.pins.remove(PinReason::SEQUENCE);
        self.pin_queued();
    }

    /// Requests sent after a statement that removed reasons add their own again.
    fn pin_queued(&mut self) {
        for item in &self.queue {
            self.pins.extend(item.pins());
            self.unsettled.pinned_by(item.pins().iter());
        }
    }

    /// Without named statements, none can be read under other settings.
    fn statements_dropped(&mut self) {
        if !self.prepared.has_named() {
            self.pins.remove(PinReason::SettingAfterStatements);
        }
    }

    pub(crate) fn change(&mut self, change: Change, era: EncodingEra, told: &ReportedParameters) {
        let Ok(encoding) = self.encoding.of(&change, era, told) else {
            return self.pin(PinReason::UnknownSetting);
        };
        self.prepared.setting_changed(&change);
        self.set_here = sharing::set_also(self.set_here, &change);
        match &change {
            Change::Set { .. } | Change::Reset { .. } | Change::ResetAll => {
                if self.changes_reading(&change) {
                    self.reading_changed();
                }
                self.stage(Staged::Change(change, encoding));
            }
            // A custom setting exists from now on, even if the transaction rolls back.
            Change::Local { key, sql } => {
                self.has_other_reading |= decides_reading(key);
                self.reports_here |= **key == *REPORT_LSN && reports_lsn(sql) == Some(true);
                self.settle(change, encoding);
            }
        }
    }

    /// Whether a setting that decides how SQL is read may get another value by this. What is reset has the login's value
    /// already, unless the session has set it; what the open transaction has set was noted then.
    fn changes_reading(&self, change: &Change) -> bool {
        match change {
            Change::Set { key, .. } | Change::Local { key, .. } => decides_reading(key),
            Change::Reset { key, .. } => decides_reading(key) && self.has_set(key.as_bytes()),
            Change::ResetAll => self.gucs.iter().flat_map(|gucs| gucs.keys()).any(decides_reading),
        }
    }

    /// A setting that decides how SQL is read has changed, at least until the transaction ends.
    fn reading_changed(&mut self) {
        self.has_other_reading = true;
        if self.prepared.has_named() {
            self.pin(PinReason::SettingAfterStatements);
        }
    }

    /// The oldest Parse in flight succeeded.
    #[inline]
    pub(crate) fn parse_answered(&mut self) {
        self.prepared.parse_answered();
        if self.has_other_reading {
            self.statement_made();
        }
    }

    /// A statement was prepared under such a setting, which may not outlive the transaction.
    fn statement_made(&mut self) {
        if self.has_other_reading && self.prepared.has_named() {
            self.pin(PinReason::SettingAfterStatements);
        }
    }

    fn discard_all(&mut self) {
        self.staged.clear();
        self.hold_cursors.clear();
        self.channels.clear();
        self.prepared.discard_all();
        if self.hidden.is_none() {
            self.hidden = self.pins.hidden_by_discard_all();
        }
        self.keep_temporary_schema();
        self.pins.discard_all();
        self.unsettled.events_ended();
        self.pin_queued();
        if self.gucs.is_some() {
            self.change_settings(Gucs::discard_all);
        }
    }

    /// ReadyForQuery, outside a transaction.
    #[inline]
    pub(crate) fn transaction_ended(&mut self, is_last: bool) {
        if is_last {
            self.prepared.portals_ended();
        }
        self.prepared.transaction_ended(self.has_failed);
        if !self.staged.is_empty() {
            if self.has_failed { self.rollback() } else { self.commit() }
        }
        self.count_transaction();
        self.has_failed = false;
        self.has_other_reading = false;
        self.set_here = Some(0);
        self.unsettled.transaction_ended();
    }

    /// Whether the session has set this parameter.
    pub(crate) fn has_set(&self, name: &[u8]) -> bool {
        self.gucs.as_ref().is_some_and(|gucs| gucs.has(name))
    }

    /// The server reports this parameter.
    pub(crate) fn parameter_reported(&mut self, name: &[u8]) {
        self.has_report = true;
        if name == b"client_encoding" {
            self.encoding.reported();
        }
    }

    /// The values that were reported are those of the settings.
    #[cold]
    pub(crate) fn reported(&mut self, told: &ReportedParameters) {
        self.has_report = false;
        self.encoding.settled();
        if self.gucs.as_ref().is_some_and(|gucs| gucs.is_told_otherwise(told)) {
            self.change_settings(|gucs| gucs.reported(told));
        }
    }
}
