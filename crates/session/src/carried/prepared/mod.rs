//! Prepared statements: how they are prepared again on another server, and the effects of running them.
//!
//! - [`presence`]: which of them the present server has, and which a message needs.
//! - [`read_again`]: their effects, after functions that they call have changed.
//! - `saved`: one statement as it is kept; `statement_effects`: the effects of running it.
//! - `analysed`: under which `search_path`.
//! - [`notes`]: what their client knows of their parameters and columns.

mod analysed;
mod notes;
mod presence;
mod read_again;
mod saved;
mod statement_effects;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use trunkline_codec::frontend::{Close, Parse, Target};

use self::notes::Notes;
use self::presence::Presence;
pub(crate) use self::presence::Step;
use self::saved::{Origin, SavedStatement};
pub(crate) use self::statement_effects::{LastingEffects, StatementEffects};
use crate::carried::encoding::EncodingEra;
use crate::carried::search_path::{PathId, SearchPath};
use crate::carried::shape::Shape;
use crate::limits::{PORTALS_MAX, PREPARED_BYTES_MAX, PREPARED_MAX};
use crate::names::{Name, bind_of, close_of, compared, executed_portal, may_break};
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::Class;
use crate::sql::effect::Effect;
use crate::sql::read::Reading;

/// A Parse or Close that the server has not answered.
#[derive(Debug)]
enum Pending {
    Parse { name_length: usize, saved: SavedStatement },
    CloseStatement(Name),
    Nothing,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    named: HashMap<Name, SavedStatement>,
    unnamed: Option<SavedStatement>,
    pending: VecDeque<Pending>,
    bytes: usize,
    pending_bytes: usize,
    /// Number of statements, in flight or prepared, with effects. While it is zero, nothing needs to be
    /// looked up.
    odd: usize,
    unsaved: usize,
    /// A statement may have been prepared whose name is not kept: its effects are missed.
    is_lost: bool,
    /// Portals of statements with effects.
    portals: HashMap<Name, StatementEffects>,
    unnamed_portal: Option<StatementEffects>,
    notes: Notes,
    path: SearchPath,
    /// The path has changed while there were statements: they may have been analysed under another one.
    has_other_path: bool,
    /// Statements that the present server does not have, or has in another shape.
    absent: usize,
    /// Some of those may be new to the client; they are prepared before it does anything else.
    has_new: bool,
    /// The present server has all statements that the present message needs without naming them.
    is_listed: bool,
    /// Those with constants have been prepared, as far as possible, before the present server's first transaction.
    has_begun: bool,
    /// Buffers for the next Parse.
    spare: Vec<Vec<u8>>,
}

/// Longest buffer kept for the next Parse, in bytes.
const SPARE_BYTES: usize = 2048;

/// Buffers kept: of the unnamed statement, and of the one that takes its place.
const SPARES: usize = 2;

impl Prepared {
    /// Whether every statement can be prepared on another server.
    pub(crate) fn is_saved(&self) -> bool {
        self.unsaved == 0 && !self.is_lost
    }

    pub(crate) fn has_named(&self) -> bool {
        !self.named.is_empty()
            || self
                .pending
                .iter()
                .any(|p| matches!(p, Pending::Parse { name_length, .. } if *name_length > 0))
    }

    /// A Parse was sent; an answer or [`Self::dropped`] follows for it. `is_whole` tells whether
    /// `body` is all of it.
    pub(crate) fn parse_sent(
        &mut self,
        body: &[u8],
        is_whole: bool,
        era: EncodingEra,
        read: impl FnOnce(&[u8]) -> Reading,
    ) {
        let Some(parse) = Parse::parse_prefix(body) else {
            // Without its name it cannot be kept.
            self.is_lost = true;
            self.pending.push_back(Pending::Nothing);
            return;
        };
        let reading = if is_whole { read(parse.sql) } else { Reading::unread() };
        let effects = StatementEffects::of(reading, body, era);
        let mut copy = self.spare.pop().unwrap_or_default();
        // The copy is of the name at least, also of a body that is not kept. No other server takes a broken name.
        let is_small = self.bytes + self.pending_bytes + body.len() <= PREPARED_BYTES_MAX;
        let is_kept = is_whole && is_small && !may_break(parse.name);
        let name = compared(parse.name);
        copy.clear();
        copy.extend_from_slice(if is_kept { body } else { name });
        self.odd += usize::from(!effects.is_plain());
        self.pending_bytes += copy.len();
        let name_length = name.len();
        self.notes.parse_sent(name_length);
        let shape = if is_kept { Shape::of(&parse, body) } else { Shape::default() };
        let saved = SavedStatement {
            origin: Origin::Parse(copy),
            effects,
            shape,
            presence: Presence::Present,
            is_used: false,
            analysed: PathId::default(),
        };
        self.pending.push_back(Pending::Parse { name_length, saved });
    }

    /// The oldest Parse or Close in flight.
    fn next_pending(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        if let Pending::Parse { name_length, saved } = &pending {
            self.pending_bytes -= saved.bytes();
            self.notes.parse_ended(*name_length);
        }
        Some(pending)
    }

    /// A Close was sent; an answer or [`Self::dropped`] follows for it.
    pub(crate) fn close_sent(&mut self, body: &[u8]) {
        self.pending.push_back(match close_of(body) {
            Some(Close { kind: Target::Statement, name }) => Pending::CloseStatement(name.into()),
            Some(Close { kind: Target::Portal, .. }) | None => Pending::Nothing,
        });
    }

    /// A Bind was sent. Whether it may be sent again is in its class.
    ///
    /// # Errors
    /// What pins because of it.
    #[inline]
    pub(crate) fn bind_sent(&mut self, body: &[u8], era: EncodingEra) -> Result<Class, Pins> {
        let is_unnamed = body.starts_with(b"\0\0");
        let class = if is_unnamed && !self.pending.is_empty() && self.notes.is_made_and_bound() {
            Class::PLAIN
        } else if self.notes.heed_bind() || self.has_other_path || (is_unnamed && self.unnamed.is_some()) {
            self.note_bind(body)
        } else {
            Class::PLAIN
        };
        if self.odd == 0 && self.portals.is_empty() {
            self.unnamed_portal = None;
            return Ok(class);
        }
        self.bind_odd(body, era)?;
        Ok(class)
    }

    #[cold]
    fn bind_odd(&mut self, body: &[u8], era: EncodingEra) -> Result<(), Pins> {
        let Some(bind) = bind_of(body) else { return Ok(()) };
        let effects = self.resolve(bind.statement);
        let mut pins = self.pins_instead(bind.statement, effects);
        let effects = effects.with_parameters(body, era);
        if !bind.portal.is_empty() {
            // A FETCH may run it, too.
            effects.run_unseen(&mut pins);
        }
        let effects = Some(effects).filter(|effects| !effects.is_plain());
        match effects {
            _ if bind.portal.is_empty() => self.unnamed_portal = effects,
            None => drop(self.portals.remove(bind.portal)),
            Some(_) if self.portals.len() >= PORTALS_MAX => {
                pins.add(PinReason::StatementsTooLarge);
            }
            Some(effects) => drop(self.portals.insert(bind.portal.into(), effects)),
        }
        if pins.is_empty() { Ok(()) } else { Err(pins) }
    }

    /// The effects of a statement once everything sent is answered. A Parse in flight may still fail;
    /// then the server skips what follows it up to the Sync.
    fn resolve(&self, statement: &[u8]) -> &StatementEffects {
        for pending in self.pending.iter().rev() {
            if let Pending::Parse { name_length, saved } = pending
                && saved.name(*name_length) == statement
            {
                return &saved.effects;
            }
        }
        self.get(statement).map_or(&StatementEffects::PLAIN, |saved| &saved.effects)
    }

    /// Whether a statement does more than read.
    pub(crate) fn has_odd(&self) -> bool {
        self.odd > 0
    }

    /// Adds reasons to the newest Parse in flight; they pin when its statement is run.
    pub(crate) fn pin_newest(&mut self, reasons: &Pins) {
        if let Some(Pending::Parse { saved, .. }) = self.pending.back_mut()
            && let Some(lasting) = saved.effects.lasting.as_mut().and_then(Arc::get_mut)
        {
            lasting.pins.extend(reasons);
        }
    }

    /// The effects of a named statement that the server has prepared.
    pub(crate) fn made(&self, name: &[u8]) -> Option<&StatementEffects> {
        self.named.get(name).map(|saved| &saved.effects)
    }

    /// The effects that a named statement may have: of all Parses in flight with this name, and of the prepared one.
    pub(crate) fn called(&self, name: &[u8]) -> impl Iterator<Item = &StatementEffects> {
        let in_flight = self.pending.iter().filter_map(move |pending| match pending {
            Pending::Parse { name_length, saved } if saved.name(*name_length) == name => Some(&saved.effects),
            Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => None,
        });
        in_flight.chain(self.made(name))
    }

    /// The effects of an Execute that was sent.
    #[inline]
    pub(crate) fn execute_sent(&self, body: &[u8]) -> StatementEffects {
        if self.unnamed_portal.is_none() && self.portals.is_empty() {
            return StatementEffects::PLAIN;
        }
        let portal = executed_portal(body).unwrap_or_default();
        let odd = if portal.is_empty() { self.unnamed_portal.as_ref() } else { self.portals.get(portal) };
        odd.cloned().unwrap_or(StatementEffects::PLAIN)
    }

    /// The SQL of a statement from a Parse, as far as it is kept.
    pub(crate) fn sql(&self, statement: &[u8]) -> Option<&[u8]> {
        self.get(statement)?.parsed_sql()
    }

    /// The server is lost with requests in flight; their outcome is unknown.
    pub(crate) fn server_lost(&mut self) {
        let has_unnamed =
            self.pending.iter().any(|pending| matches!(pending, Pending::Parse { name_length: 0, .. }));
        if has_unnamed {
            self.query_answered();
        }
    }

    /// The oldest Parse in flight succeeded.
    pub(crate) fn parse_answered(&mut self) {
        let Some(Pending::Parse { name_length, mut saved }) = self.next_pending() else { return };
        saved.analysed = self.path.now();
        let Origin::Parse(body) = &mut saved.origin else { return };
        let name: Name = body[..name_length].into();
        if body.len() == name_length {
            saved.origin = Origin::Unsaved;
        }
        if name_length > 0 {
            self.notes.made(&name, &saved.shape);
            return self.register(name, saved);
        }
        self.unsaved += usize::from(matches!(saved.origin, Origin::Unsaved));
        if let Some(before) = self.unnamed.replace(saved) {
            self.forget(before);
        }
    }

    fn register(&mut self, name: Name, mut saved: SavedStatement) {
        if let Origin::Parse(body) = &mut saved.origin {
            body.shrink_to_fit();
        }
        if self.named.len() >= PREPARED_MAX {
            self.is_lost = true;
            self.odd -= usize::from(!saved.effects.is_plain());
            return;
        }
        if self.bytes + saved.bytes() > PREPARED_BYTES_MAX {
            saved.origin = Origin::Unsaved;
        }
        self.bytes += saved.bytes();
        self.unsaved += usize::from(matches!(saved.origin, Origin::Unsaved));
        if let Some(before) = self.named.insert(name, saved) {
            self.bytes -= before.bytes();
            self.forget(before);
        }
    }

    /// A statement was dropped.
    fn forget(&mut self, saved: SavedStatement) {
        self.odd -= usize::from(!saved.effects.is_plain());
        self.absent -= usize::from(saved.presence != Presence::Present);
        match saved.origin {
            Origin::Parse(body) if body.capacity() <= SPARE_BYTES && self.spare.len() < SPARES => {
                self.spare.push(body);
            }
            Origin::Parse(_) | Origin::Sql(_) => {}
            Origin::Unsaved => self.unsaved -= 1,
        }
    }

    /// The oldest Close in flight succeeded.
    pub(crate) fn close_answered(&mut self) {
        match self.next_pending() {
            Some(Pending::CloseStatement(name)) if name.is_empty() => self.query_answered(),
            Some(Pending::CloseStatement(name)) => self.deallocate(&name),
            Some(Pending::Parse { .. } | Pending::Nothing) | None => {}
        }
    }

    /// The oldest Parse or Close in flight was skipped.
    pub(crate) fn dropped(&mut self) {
        if let Some(Pending::Parse { saved, .. }) = self.next_pending() {
            // One without a body is not yet counted as unsaved.
            self.forget(saved);
        }
    }

    /// The oldest Parse in flight failed; [`Self::dropped`] follows. The server drops the unnamed
    /// statement before it reads another.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_parse_message`.
    pub(crate) fn parse_failed(&mut self) {
        if matches!(self.pending.front(), Some(Pending::Parse { name_length: 0, .. })) {
            self.query_answered();
        }
    }

    /// A Query was answered: it has dropped the unnamed statement.
    #[inline]
    pub(crate) fn query_answered(&mut self) {
        if let Some(saved) = self.unnamed.take() {
            self.forget(saved);
        }
    }

    /// A PREPARE was executed.
    pub(crate) fn prepared_by_sql(&mut self, name: Name, sql: Box<[u8]>, pins: Pins) {
        // It may write.
        self.odd += 1;
        let lasting = (!pins.is_empty())
            .then(|| Arc::new(LastingEffects { pins, effect: Effect::None, era: EncodingEra::default() }));
        let effects = StatementEffects { class: Class::ONCE, lasting };
        let shape = Shape::default();
        self.notes.made(&name, &shape);
        self.register(
            name,
            SavedStatement {
                origin: Origin::Sql(sql),
                effects,
                shape,
                presence: Presence::Present,
                is_used: true,
                analysed: self.path.now(),
            },
        );
    }

    /// A statement was dropped by name.
    pub(crate) fn deallocate(&mut self, name: &[u8]) {
        if let Some(saved) = self.named.remove(name) {
            self.bytes -= saved.bytes();
            self.forget(saved);
        }
    }

    /// All named statements were dropped.
    pub(crate) fn deallocate_all(&mut self) {
        for (_, saved) in std::mem::take(&mut self.named) {
            self.forget(saved);
        }
        self.bytes = 0;
    }

    /// The session is idle outside a transaction: portals are gone.
    #[inline]
    pub(crate) fn portals_ended(&mut self) {
        if !self.portals.is_empty() {
            self.portals.clear();
        }
        self.unnamed_portal = None;
        self.notes.portals_ended();
    }

    /// Names and SQL of the statements that are kept; for those from PREPARE, all of the SQL.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let named = self.named.iter().map(|(name, saved)| (&**name, saved));
        let all = named.chain(self.unnamed.as_ref().map(|saved| (&b""[..], saved)));
        all.filter_map(|(name, saved)| Some((name, saved.sql()?)))
    }

    fn get(&self, name: &[u8]) -> Option<&SavedStatement> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    fn get_mut(&mut self, name: &[u8]) -> Option<&mut SavedStatement> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }
}
