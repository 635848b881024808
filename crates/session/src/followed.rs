//! What a session has changed on its server, followed so that another server can be told.
//!
//! SQL is read when it is sent and says what it would do; the command tags of the server say what
//! was done; the end of the transaction says what of it counts.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::alignment::Writer;
use crate::encoding::{Encoding, EncodingEra, EncodingNow};
use crate::gucs::{Gucs, decides_reading};
use crate::limits::{HOLD_CURSORS_MAX, STAGED_MAX};
use crate::outstanding::Request;
use crate::parameters::Parameters;
use crate::pin::{NotRepeatable, PinReason};
use crate::prepared::{Deeds, Prepared};
use crate::session::Session;
use crate::settings::Mobility;
use crate::sql::Class;
use crate::sql::effect::{Change, Effect, Name};
use crate::sql::read::{Reading, read};
use crate::sql::tripwire::trips;
use crate::sql::verb::command_of;
use crate::state::Long;

/// What the requests in flight will do, one for each with effects.
#[derive(Debug)]
enum Item {
    /// Statements of a Query, those not completed yet.
    Query(VecDeque<Effect>, EncodingEra),
    Execute(Arc<Deeds>),
}

/// Part of a transaction that may yet be undone.
#[derive(Debug)]
enum Staged {
    Change(Change, Encoding),
    Savepoint(Name),
}

/// Bytes of a long Query kept to find a name that two of its parts share.
const CARRY: usize = 48;

/// Exists only in sessions that may move and have done more than run plain queries.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    pub(crate) prepared: Prepared,
    gucs: Gucs,
    staged: Vec<Staged>,
    queue: VecDeque<Item>,
    hold_cursors: Vec<Name>,
    /// What `DISCARD ALL` undoes.
    pin: Option<PinReason>,
    pin_for_good: Option<PinReason>,
    /// The transaction has failed, so its end undoes it.
    has_failed: bool,
    /// The end of the part last seen of a long Query or Parse.
    carry: Vec<u8>,
    encoding: EncodingNow,
    /// A parameter was reported since the session was last idle outside a transaction.
    has_report: bool,
}

impl Followed {
    pub(crate) fn movability(&self) -> Result<(), PinReason> {
        if let Some(reason) = self.pin_for_good.or(self.pin) {
            return Err(reason);
        }
        if !self.hold_cursors.is_empty() {
            return Err(PinReason::HoldCursor);
        }
        if self.prepared.is_saved() { Ok(()) } else { Err(PinReason::StatementsTooLarge) }
    }

    pub(crate) fn pin(&mut self, reason: PinReason) {
        let place = if reason.ends_with_discard_all() { &mut self.pin } else { &mut self.pin_for_good };
        place.get_or_insert(reason);
    }

    pub(crate) fn write(&self, out: &mut Writer, told: &Parameters) {
        self.gucs.write(out, told.has_login_timeout);
        self.prepared.write(out);
        self.gucs.write_last(out, told.has_login_timeout);
    }

    /// The server is lost with requests in flight, a Query among them or not; none counts.
    pub(crate) fn server_lost(&mut self, has_query: bool) {
        self.has_failed = true;
        self.prepared.server_lost();
        if has_query {
            self.prepared.query_answered();
        }
    }

    /// A request with effects will have no answer, or its answer is complete.
    pub(crate) fn drop_effects(&mut self) {
        self.queue.pop_front();
    }

    /// A part of a long Query or Parse goes to the server. Whether a name in it trips.
    fn long_part(&mut self, part: &[u8]) -> bool {
        self.carry.extend_from_slice(part);
        let found = trips(&self.carry);
        if let Some(reason) = found.pin {
            self.pin(reason);
        }
        if found.has_set_config {
            self.pin(PinReason::UnknownSetting);
        }
        if found.has_temp {
            self.pin(PinReason::TemporaryObject);
        }
        let kept = self.carry.len().saturating_sub(CARRY);
        self.carry.drain(..kept);
        found.pin.is_some() || found.is_once || found.has_set_config || found.has_temp
    }

    /// A statement of the front request is complete.
    fn completed(&mut self, has_effects: bool, tag: &[u8], told: &Parameters) {
        let (effect, era) =
            if has_effects { self.next_effect() } else { (Effect::None, self.encoding.era()) };
        if !effect.fits(tag) {
            self.pin(PinReason::UnknownStatement(command_of(tag)));
        }
        match (effect, tag) {
            (Effect::RollbackTo(name), b"ROLLBACK") => self.rollback_to(&name),
            (_, b"COMMIT") => self.commit(),
            (_, b"ROLLBACK") => self.rollback(),
            (effect, _) => self.apply(effect, era, told),
        }
    }

    /// With the time at which its text was sent.
    fn next_effect(&mut self) -> (Effect, EncodingEra) {
        match self.queue.front_mut() {
            Some(Item::Query(effects, era)) => (effects.pop_front().unwrap_or(Effect::Unread), *era),
            Some(Item::Execute(deeds)) => (deeds.effect.clone(), deeds.era),
            None => (Effect::Unread, self.encoding.era()),
        }
    }

    fn apply(&mut self, effect: Effect, era: EncodingEra, told: &Parameters) {
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
            Effect::Prepare { name, sql } => self.prepared.prepared_by_sql(name, sql),
            Effect::Savepoint(name) => self.stage(Staged::Savepoint(name)),
            Effect::Release(name) => {
                if let Some(at) = self.savepoint(&name) {
                    let later = self.staged.split_off(at);
                    self.staged.extend(later.into_iter().filter(|s| matches!(s, Staged::Change(..))));
                }
            }
            Effect::RollbackTo(_) => self.pin(PinReason::UnknownSavepoint),
            Effect::DeclareHold(name) => {
                if self.hold_cursors.len() >= HOLD_CURSORS_MAX {
                    self.pin(PinReason::HoldCursor);
                } else if !self.hold_cursors.contains(&name) {
                    self.hold_cursors.push(name);
                }
            }
            Effect::CloseCursor(name) => self.hold_cursors.retain(|cursor| *cursor != name),
            Effect::CloseAllCursors => self.hold_cursors.clear(),
            Effect::Pin(reason) => self.pin(reason),
        }
    }

    /// With no statement left, none can be read in another way than before.
    fn statements_dropped(&mut self) {
        if self.pin == Some(PinReason::SettingAfterStatements) && !self.prepared.has_named() {
            self.pin = None;
        }
    }

    fn change(&mut self, change: Change, era: EncodingEra, told: &Parameters) {
        let Ok(encoding) = self.encoding.of(&change, era, told) else {
            return self.pin(PinReason::UnknownSetting);
        };
        match &change {
            Change::Set { key, .. } | Change::Reset { key, .. } => {
                if decides_reading(key) && self.prepared.has_named() {
                    self.pin(PinReason::SettingAfterStatements);
                }
                self.stage(Staged::Change(change, encoding));
            }
            Change::ResetAll => {
                if self.prepared.has_named() {
                    self.pin(PinReason::SettingAfterStatements);
                }
                self.stage(Staged::Change(change, encoding));
            }
            // It is known from now on, however the transaction ends.
            Change::Local { .. } => self.settle(change, encoding),
        }
    }

    fn stage(&mut self, staged: Staged) {
        if self.staged.len() >= STAGED_MAX {
            self.pin(PinReason::SettingsTooLarge);
        } else {
            self.staged.push(staged);
        }
    }

    fn settle(&mut self, change: Change, encoding: Encoding) {
        if self.gucs.apply(change, encoding).is_err() {
            self.gucs.clear();
            self.pin(PinReason::SettingsTooLarge);
        }
    }

    fn undo(&mut self, staged: Staged) {
        match staged {
            Staged::Change(Change::Set { key, .. } | Change::Reset { key, .. }, _) => {
                self.settle(Change::Local { key }, None);
            }
            Staged::Change(Change::ResetAll | Change::Local { .. }, _) | Staged::Savepoint(_) => {}
        }
    }

    fn commit(&mut self) {
        self.has_failed = false;
        for staged in std::mem::take(&mut self.staged) {
            match staged {
                Staged::Change(change, encoding) => self.settle(change, encoding),
                Staged::Savepoint(_) => {}
            }
        }
    }

    fn rollback(&mut self) {
        self.has_failed = false;
        std::mem::take(&mut self.staged).into_iter().for_each(|staged| self.undo(staged));
    }

    fn savepoint(&self, name: &Name) -> Option<usize> {
        self.staged.iter().rposition(|staged| matches!(staged, Staged::Savepoint(n) if n == name))
    }

    fn rollback_to(&mut self, name: &Name) {
        match self.savepoint(name) {
            Some(at) => self.staged.split_off(at + 1).into_iter().for_each(|staged| self.undo(staged)),
            None => self.pin(PinReason::UnknownSavepoint),
        }
    }

    fn discard_all(&mut self) {
        self.staged.clear();
        self.hold_cursors.clear();
        self.prepared.deallocate_all();
        self.pin = None;
        if self.gucs.discard_all().is_err() {
            self.gucs.clear();
            self.pin(PinReason::SettingsTooLarge);
        }
    }

    /// ReadyForQuery, outside a transaction.
    #[inline]
    fn transaction_ended(&mut self, is_last: bool) {
        if is_last {
            self.prepared.transaction_ended();
        }
        if !self.staged.is_empty() {
            if self.has_failed {
                self.rollback()
            } else {
                self.commit()
            }
            self.has_report = true;
        }
        self.has_failed = false;
    }

    /// The server reports this parameter.
    pub(crate) fn parameter_reported(&mut self, name: &[u8]) {
        self.has_report = true;
        if name == b"client_encoding" {
            self.encoding.reported();
        }
    }

    /// Also `DISCARD ALL` does not undo it.
    pub(crate) fn pin_for_good(&mut self, reason: PinReason) {
        self.pin_for_good = Some(reason);
    }

    /// The values that were reported are those of the settings.
    #[cold]
    fn reported(&mut self, told: &Parameters) {
        self.has_report = false;
        self.encoding.settled();
        if self.gucs.reported(told).is_err() {
            self.gucs.clear();
            self.pin(PinReason::SettingsTooLarge);
        }
    }
}

impl Session {
    pub(crate) fn followed(&mut self) -> &mut Followed {
        self.followed.get_or_insert_with(Box::default)
    }

    /// Reads a request on its way to the server. Of a long one `body` is the first part.
    #[inline]
    pub(crate) fn follow_sent(&mut self, request: Request, body: &[u8], is_whole: bool) -> Class {
        if self.mobility == Mobility::Fixed {
            return Class::PLAIN;
        }
        match request {
            Request::Query => self.follow_query(body, is_whole),
            Request::Parse => {
                let followed = self.followed();
                followed.prepared.parse_sent(body, is_whole, followed.encoding.era());
                if is_whole {
                    return Class::PLAIN;
                }
                self.long_begins(body);
                Class::ONCE
            }
            Request::Bind => {
                if let Some(followed) = &mut self.followed
                    && let Err(reason) = followed.prepared.bind_sent(body, followed.encoding.era())
                {
                    followed.pin(reason);
                }
                Class::PLAIN
            }
            Request::Execute => self.follow_execute(body),
            Request::Close => {
                self.followed().prepared.close_sent(body);
                Class::PLAIN
            }
            Request::DescribeStatement
            | Request::DescribePortal
            | Request::BrokenFlush
            | Request::Sync
            | Request::FunctionCall
            | Request::CopyEnd => Class::PLAIN,
        }
    }

    #[inline]
    fn follow_query(&mut self, body: &[u8], is_whole: bool) -> Class {
        if !is_whole {
            let has_tripped = self.long_begins(body);
            let reading = if has_tripped { Reading::unread() } else { Reading::long(body) };
            return self.expect(reading);
        }
        let sql = body.strip_suffix(b"\0").unwrap_or(body);
        let reading = read(sql);
        if reading.is_plain() { Class::PLAIN } else { self.expect(reading) }
    }

    /// A Query that is not plain.
    fn expect(&mut self, reading: Reading) -> Class {
        let Reading { class, pin, effects } = reading;
        if let Some(reason) = pin {
            self.followed().pin(reason);
        }
        if effects.is_empty() {
            return class;
        }
        let followed = self.followed();
        let era = followed.encoding.era();
        followed.queue.push_back(Item::Query(effects.into(), era));
        class.with_effects()
    }

    #[inline]
    fn follow_execute(&mut self, body: &[u8]) -> Class {
        let Some(followed) = &mut self.followed else { return Class::PLAIN };
        let traits = followed.prepared.execute_sent(body);
        let Some(deeds) = traits.deeds else { return traits.class };
        if let Some(reason) = deeds.pin {
            followed.pin(reason);
        }
        if deeds.effect == Effect::None {
            return traits.class;
        }
        followed.queue.push_back(Item::Execute(deeds));
        traits.class.with_effects()
    }

    /// Whether its first part has a name that trips.
    #[cold]
    fn long_begins(&mut self, part: &[u8]) -> bool {
        self.long = Long::Sql;
        let followed = self.followed();
        followed.carry.clear();
        followed.long_part(part)
    }

    /// The next part of a long message goes to the server.
    #[cold]
    pub(crate) fn follow_long(&mut self, part: &[u8], is_last: bool) {
        match self.long {
            Long::Other => {}
            Long::Sql => {
                let sql = if is_last { part.strip_suffix(b"\0").unwrap_or(part) } else { part };
                let sql = if is_last { sql.strip_suffix(b";").unwrap_or(sql) } else { sql };
                // One statement cannot be told from several.
                if self.followed().long_part(part) || sql.contains(&b';') {
                    self.close_attempt(NotRepeatable::SideEffects);
                }
            }
        }
        if is_last {
            self.long = Long::Other;
        }
    }

    /// A statement of the front request is complete, with this tag.
    #[inline]
    pub(crate) fn follow_completed(&mut self, tag: &[u8]) {
        let Some(front) = self.outstanding.front() else { return };
        let has_effects = front.class.has_effects();
        let is_end = front.class.ends();
        let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
        self.course.completed(is_end, tag);
        if self.mobility == Mobility::Fixed || (!has_effects && tag.starts_with(b"SELECT ")) {
            return;
        }
        match &mut self.followed {
            Some(followed) => followed.completed(has_effects, tag, &self.parameters),
            None if Effect::None.fits(tag) => {}
            None => {
                let followed = self.followed.get_or_insert_with(Box::default);
                followed.completed(has_effects, tag, &self.parameters);
            }
        }
    }

    /// An Execute stopped at its row limit: what it does beyond rows is done.
    pub(crate) fn follow_suspended(&mut self) {
        if let (Some(front), Some(followed)) = (self.outstanding.front(), &mut self.followed)
            && front.class.has_effects()
        {
            let (effect, era) = followed.next_effect();
            followed.apply(effect, era, &self.parameters);
        }
    }

    /// A request failed.
    pub(crate) fn follow_failed(&mut self, request: Request) {
        let Some(followed) = &mut self.followed else { return };
        followed.has_failed = true;
        if request == Request::Parse {
            followed.prepared.parse_failed();
        }
    }

    /// ReadyForQuery, outside a transaction.
    #[inline]
    pub(crate) fn follow_transaction_ended(&mut self) {
        // Portals of requests in flight are known already.
        let is_last = self.outstanding.is_empty();
        if let Some(followed) = &mut self.followed {
            followed.transaction_ended(is_last);
            if followed.has_report {
                followed.reported(&self.parameters);
            }
        }
    }

    /// The transaction ended with its server: what that one reported last is not what counts.
    pub(crate) fn follow_transaction_lost(&mut self) {
        let is_last = self.outstanding.is_empty();
        if let Some(followed) = &mut self.followed {
            followed.transaction_ended(is_last);
            followed.has_report = false;
        }
    }
}
