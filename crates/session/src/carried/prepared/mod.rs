//! The session's statements: their SQL for the log, how they are prepared again on another server, and the effects of
//! running them. A text is kept once, by [`texts`]; a statement, a portal and a request in flight share it.
//!
//! - `answered`: what the server has confirmed; `portals`: the statements of portals.
//! - [`presence`]: which of them the present server has, and which a message needs; `step`: what is sent for that.
//! - `unnamed`: the one without a name, where the server does not have it.
//! - [`read_again`]: their effects, after functions that they call have changed.
//! - `sets`: all of them, and those that the present server has, as values.
//! - `saved`: one statement as it is kept; `statement_effects`: the effects of running it.
//! - `analysed`: under which `search_path`.
//! - `naming`: under which names they stand on servers, and what messages become for that; `standing`: how they get these;
//!   `renamed`: messages in flight with such names.
//! - [`notes`]: what their client knows of their parameters and columns.

mod analysed;
mod answered;
mod naming;
mod notes;
mod portals;
mod presence;
mod read_again;
mod renamed;
mod run_early;
mod saved;
mod sets;
mod standing;
mod statement_effects;
mod step;
pub(crate) mod texts;
mod unnamed;
use std::cell::OnceCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use trunkline_codec::frontend::{Close, Parse, Query, Target};

pub(crate) use self::naming::{AheadOfMessage, MessageExtent, Naming, Sharing, StatementsAhead};
use self::notes::Notes;
use self::portals::Portal;
use self::presence::Presence;
use self::renamed::RenamedInFlight;
pub(crate) use self::saved::Wire;
use self::saved::{SavedStatement, StatementOrigin};
use self::sets::Sets;
pub(crate) use self::sets::{UnnamedKept, UnnamedThere};
pub(crate) use self::standing::ContentRefused;
pub(crate) use self::statement_effects::{LastingEffects, StatementEffects};
pub(crate) use self::step::Step;
use self::texts::{TextId, TextUse, Texts};
pub(crate) use self::unnamed::ColumnsAsked;
use crate::carried::content::{Contents, PreparedAt};
use crate::carried::search_path::SearchPath;
use crate::carried::shape::Shape;
use crate::limits::PREPARED_BYTES_MAX;
use crate::names::{Name, close_of, compared, may_break};
use crate::pin::PinReason;
use crate::pins::Pins;

/// A Parse or Close that the server has not answered.
#[derive(Debug)]
enum Pending {
    Parse { name: Name, saved: SavedStatement },
    CloseStatement(Name),
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Whether the session may leave its server. Else its statements are kept for the log only.
    is_movable: bool,
    /// Longest SQL for the log, in bytes; zero keeps none for it.
    sql_bytes_max: usize,
    pub(crate) texts: Texts,
    named: HashMap<Name, SavedStatement>,
    unnamed: Option<SavedStatement>,
    pending: VecDeque<Pending>,
    /// Bytes of the named statements that can be prepared again.
    bytes: usize,
    /// The same of those in flight.
    pending_bytes: usize,
    /// Number of statements, in flight or prepared, with effects. While it is zero, nothing needs to be
    /// looked up.
    odd: usize,
    unsaved: usize,
    /// A statement may have been prepared whose name is not kept: its effects are missed.
    is_lost: bool,
    /// Portals with something to remember.
    portals: HashMap<Name, Portal>,
    unnamed_portal: Portal,
    notes: Notes,
    path: SearchPath,
    /// The path has changed while there were statements: they may have been analysed under another one.
    has_other_path: bool,
    /// It has changed by the answer at hand.
    has_new_path: bool,
    /// Statements that the present server does not have, or has in another shape.
    absent: usize,
    /// Some of those may be new to the client; they are prepared before it does anything else.
    has_new: bool,
    /// The present server has all statements that the present message needs without naming them.
    is_listed: bool,
    /// Those with constants have been prepared, as far as possible, before the first message to the present server.
    has_made_constants: bool,
    /// How often a content has been made for the message at hand.
    times_made: u8,
    sets: Sets,
    /// What the present connection has under names made from content, of whichever session.
    pub(crate) contents: Contents,
    pub(crate) renamed: RenamedInFlight,
}

impl Prepared {
    /// Of a session that may move. Of each text, `sql_bytes_max` bytes are shown in the log.
    pub(crate) fn for_moves(sql_bytes_max: usize) -> Self {
        Self { is_movable: true, ..Self::for_log(sql_bytes_max) }
    }

    /// Of a session that stays on its server.
    pub(crate) fn for_log(sql_bytes_max: usize) -> Self {
        Self {
            is_movable: false,
            sql_bytes_max,
            texts: Texts::default(),
            named: HashMap::new(),
            unnamed: None,
            pending: VecDeque::new(),
            bytes: 0,
            pending_bytes: 0,
            odd: 0,
            unsaved: 0,
            is_lost: false,
            portals: HashMap::new(),
            unnamed_portal: Portal::default(),
            notes: Notes::default(),
            path: SearchPath::default(),
            has_other_path: false,
            has_new_path: false,
            absent: 0,
            has_new: false,
            is_listed: false,
            times_made: 0,
            has_made_constants: false,
            sets: Sets::default(),
            contents: Contents::default(),
            renamed: RenamedInFlight::default(),
        }
    }

    fn is_logged(&self) -> bool {
        self.sql_bytes_max > 0
    }

    /// The SQL of a request, for the log.
    pub(crate) fn logged_sql(&self, text: Option<TextId>) -> Option<&[u8]> {
        self.texts.sql(text).map(|sql| &sql[..sql.len().min(self.sql_bytes_max)])
    }

    /// One more holder, in a session whose statements are logged.
    fn shown(&mut self, text: Option<TextId>) -> Option<TextId> {
        if self.is_logged() { self.texts.retain(text) } else { None }
    }

    fn keep_for_log(&mut self, sql: &[u8]) -> Option<TextId> {
        if self.is_logged() {
            self.texts.insert(&sql[..sql.len().min(self.sql_bytes_max)], TextUse::Log)
        } else {
            None
        }
    }

    /// Whether every statement can be prepared on another server.
    pub(crate) fn is_saved(&self) -> bool {
        self.unsaved == 0 && !self.is_lost
    }

    pub(crate) fn has_named(&self) -> bool {
        !self.named.is_empty()
            || self.pending.iter().any(|p| matches!(p, Pending::Parse { name, .. } if !name.is_empty()))
    }

    /// A Query was sent. Returns its SQL for the log.
    #[inline]
    pub(crate) fn query_sent(&mut self, body: &[u8]) -> Option<TextId> {
        if !self.is_logged() {
            return None;
        }
        // The NUL that ends a sound query is the last byte, so it need not be searched for.
        let cut = &body[..body.len().min(self.sql_bytes_max + 1)];
        match cut.split_last() {
            Some((0, sql)) => self.keep_for_log(sql),
            Some(_) | None => self.keep_for_log(Query::parse_prefix(cut).sql),
        }
    }

    /// A Parse was sent; an answer or [`Self::dropped`] follows for it. `is_whole` tells whether
    /// `body` is all of it, `wire` under which name it goes to the server. Returns its SQL for the log.
    pub(crate) fn parse_sent(
        &mut self,
        body: &[u8],
        is_whole: bool,
        wire: Wire,
        effects: impl FnOnce(&[u8]) -> StatementEffects,
    ) -> Option<TextId> {
        let Some(parse) = Parse::parse_prefix(body) else {
            // Without its name it cannot be kept.
            self.is_lost = true;
            self.pending.push_back(Pending::Nothing);
            return None;
        };
        let effects = effects(parse.sql);
        let is_small = self.bytes + self.pending_bytes + body.len() <= PREPARED_BYTES_MAX;
        // No other server takes a broken name.
        let is_kept = self.is_movable && is_whole && is_small && !may_break(parse.name);
        let start = parse.name.len() + 1;
        let kept = if is_kept {
            self.texts.insert_message(body, start..start + parse.sql.len(), TextUse::Statement)
        } else {
            None
        };
        let (text, origin, shape) = match kept {
            Some(_) => (kept, StatementOrigin::Parse, Shape::of(&parse, body)),
            None => (self.keep_for_log(parse.sql), StatementOrigin::Unsaved, Shape::default()),
        };
        let name = Name::from(compared(parse.name));
        self.odd += usize::from(!effects.is_plain());
        if self.is_movable {
            self.notes.parse_sent(&name, self.unnamed.as_ref());
        }
        let saved = SavedStatement {
            text,
            origin,
            wire,
            effects,
            shape,
            presence: Presence::Present,
            is_used: false,
            analysed: None,
            parsed: PreparedAt::now(),
            shared: OnceCell::new(),
        };
        self.pending_bytes += self.kept_bytes(&saved);
        self.pending.push_back(Pending::Parse { name, saved });
        self.shown(text)
    }

    /// A Close was sent; an answer or [`Self::dropped`] follows for it.
    pub(crate) fn close_sent(&mut self, body: &[u8]) {
        self.pending.push_back(match close_of(body) {
            Some(Close { kind: Target::Statement, name }) => Pending::CloseStatement(name.into()),
            Some(Close { kind: Target::Portal, .. }) | None => Pending::Nothing,
        });
    }

    /// The statement that a name stands for once everything sent is answered. A Parse in flight may still fail;
    /// then the server skips what follows it up to the Sync, a Close too.
    fn resolve(&self, name: &[u8]) -> Option<Resolved<'_>> {
        let mut is_closed = false;
        for pending in self.pending.iter().rev() {
            match pending {
                Pending::Parse { name: parsed, saved } if **parsed == *name => {
                    return Some(Resolved { saved, is_closed });
                }
                Pending::CloseStatement(closed) if **closed == *name => is_closed = true,
                Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => {}
            }
        }
        self.get(name).map(|saved| Resolved { saved, is_closed })
    }

    /// Whether a statement does more than read.
    pub(crate) fn has_odd(&self) -> bool {
        self.odd > 0
    }

    /// Whether running one of the statements asks for what sequences have given.
    pub(crate) fn may_ask_for_sequences(&self) -> bool {
        let asks = |saved: &SavedStatement| {
            let lasting = saved.effects.lasting.as_deref();
            lasting.is_some_and(|lasting| lasting.pins.iter().any(PinReason::asks_for_sequences))
        };
        self.has_odd() && self.named.values().chain(&self.unnamed).any(asks)
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
            Pending::Parse { name: parsed, saved } if **parsed == *name => Some(&saved.effects),
            Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => None,
        });
        in_flight.chain(self.made(name))
    }

    /// The SQL of all statements that a name may stand for; `None` for one whose SQL is not kept, or that runs others.
    pub(crate) fn sql_behind(&self, name: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
        let in_flight = self.pending.iter().filter_map(move |pending| match pending {
            Pending::Parse { name: parsed, saved } if **parsed == *name => Some(saved),
            Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => None,
        });
        let all = in_flight.chain(self.get(name));
        all.map(|saved| if saved.effects.runs_others() { None } else { self.kept_sql(saved) })
    }

    /// The SQL of a statement from a Parse, as far as it is kept.
    pub(crate) fn sql(&self, statement: &[u8]) -> Option<&[u8]> {
        let saved = self.get(statement).filter(|saved| saved.origin == StatementOrigin::Parse)?;
        self.kept_sql(saved)
    }

    /// The same, with the types of parameters that its Parse names; four bytes each.
    pub(crate) fn sql_and_types(&self, statement: &[u8]) -> Option<(&[u8], &[u8])> {
        let saved = self.get(statement).filter(|saved| saved.origin == StatementOrigin::Parse)?;
        Some((self.kept_sql(saved)?, saved.parsed_types(&self.texts)))
    }

    /// Names and SQL of the statements that are kept; for those from PREPARE, all of the SQL.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let named = self.named.iter().map(|(name, saved)| (&**name, saved));
        let all = named.chain(self.unnamed.as_ref().map(|saved| (&b""[..], saved)));
        all.filter_map(|(name, saved)| Some((name, self.kept_sql(saved)?)))
    }

    fn get(&self, name: &[u8]) -> Option<&SavedStatement> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    fn get_mut(&mut self, name: &[u8]) -> Option<&mut SavedStatement> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    /// The SQL that prepares a statement again; for one from PREPARE, the whole PREPARE.
    fn kept_sql(&self, saved: &SavedStatement) -> Option<&[u8]> {
        saved.kept_sql(&self.texts)
    }

    /// Bytes kept to prepare a statement again.
    fn kept_bytes(&self, saved: &SavedStatement) -> usize {
        match saved.origin {
            StatementOrigin::Parse | StatementOrigin::Sql => {
                self.texts.whole(saved.text).map_or(0, <[u8]>::len)
            }
            StatementOrigin::Unsaved => 0,
        }
    }
}

/// What a name stands for.
struct Resolved<'a> {
    saved: &'a SavedStatement,
    /// A Close of it is in flight.
    is_closed: bool,
}

#[cfg(test)]
mod tests;
