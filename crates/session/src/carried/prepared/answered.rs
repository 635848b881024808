//! What the server has confirmed: statements that are prepared, replaced and dropped.

use std::cell::OnceCell;
use std::sync::Arc;

use super::presence::Presence;
use super::saved::{SavedStatement, StatementOrigin, Wire};
use super::texts::{TextId, TextUse};
use super::{LastingEffects, Pending, Prepared, StatementEffects};
use crate::carried::content::{Contents, PreparedAt};
use crate::carried::encoding::EncodingEra;
use crate::carried::shape::Shape;
use crate::limits::{PREPARED_BYTES_MAX, PREPARED_MAX};
use crate::names::Name;
use crate::pins::Pins;
use crate::sql::Class;
use crate::sql::effect::Effect;
use crate::sql::made::Made;
use crate::sql::read::FunctionUse;

impl Prepared {
    /// The oldest Parse or Close in flight.
    fn next_pending(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        if let Pending::Parse { name, saved } = &pending {
            self.pending_bytes -= self.kept_bytes(saved);
            if self.is_movable {
                self.notes.parse_ended(name);
            }
        }
        Some(pending)
    }

    /// The server is lost with requests in flight; their outcome is unknown.
    pub(crate) fn server_lost(&mut self) {
        let is_unnamed =
            |pending: &Pending| matches!(pending, Pending::Parse { name, .. } if name.is_empty());
        if self.pending.iter().any(is_unnamed) {
            self.query_answered();
        }
    }

    /// The oldest Parse in flight succeeded.
    pub(crate) fn parse_answered(&mut self) {
        let Some(Pending::Parse { name, mut saved }) = self.next_pending() else { return };
        saved.analysed = self.path.now();
        if let Wire::OfContent(id) = saved.wire {
            self.contents.put(id, saved.shape.clone(), saved.parsed);
        }
        if !name.is_empty() {
            return self.named_parse_answered(name, saved);
        }
        self.unsaved += usize::from(saved.origin == StatementOrigin::Unsaved);
        self.sets.unnamed_made();
        if let Some(before) = self.unnamed.replace(saved) {
            self.forget(before);
        }
    }

    #[cold]
    fn named_parse_answered(&mut self, name: Name, mut saved: SavedStatement) {
        if saved.passes_on(&self.texts) {
            saved.shape = Shape::of_the_moment(saved.parsed_types(&self.texts));
        }
        if self.is_movable {
            self.notes.made(&name, &saved.shape);
        }
        self.register(name, saved);
    }

    fn register(&mut self, name: Name, mut saved: SavedStatement) {
        self.sets.changed();
        if self.named.len() >= PREPARED_MAX && !self.named.contains_key(&name) {
            self.is_lost = true;
            self.odd -= usize::from(!saved.effects.is_plain());
            return self.texts.release(saved.text);
        }
        if self.bytes + self.kept_bytes(&saved) > PREPARED_BYTES_MAX {
            saved.origin = StatementOrigin::Unsaved;
            saved.text = self.kept_unsaved(saved.text);
        }
        self.texts.shrink(saved.text);
        self.bytes += self.kept_bytes(&saved);
        self.unsaved += usize::from(saved.origin == StatementOrigin::Unsaved);
        if let Some(before) = self.named.insert(name, saved) {
            self.bytes -= self.kept_bytes(&before);
            self.forget(before);
        }
    }

    /// The text of a statement that cannot be prepared again: the log may show it.
    pub(super) fn kept_unsaved(&mut self, text: Option<TextId>) -> Option<TextId> {
        if self.is_logged() {
            return text;
        }
        self.texts.release(text);
        None
    }

    /// A statement was dropped.
    pub(super) fn forget(&mut self, saved: SavedStatement) {
        self.odd -= usize::from(!saved.effects.is_plain());
        self.absent -= usize::from(saved.presence != Presence::Present);
        self.unsaved -= usize::from(saved.origin == StatementOrigin::Unsaved);
        self.texts.release(saved.text);
    }

    /// The oldest Close in flight succeeded.
    pub(crate) fn close_answered(&mut self) {
        match self.next_pending() {
            Some(Pending::CloseStatement(name)) if name.is_empty() => self.query_answered(),
            Some(Pending::CloseStatement(name)) => self.deallocate(&name),
            Some(Pending::Parse { .. } | Pending::Nothing) | None => {}
        }
    }

    /// The oldest Parse or Close in flight failed or was skipped.
    pub(crate) fn dropped(&mut self) {
        if let Some(Pending::Parse { saved, .. }) = self.next_pending() {
            self.odd -= usize::from(!saved.effects.is_plain());
            self.texts.release(saved.text);
        }
    }

    /// The oldest Parse in flight failed; [`Self::dropped`] follows. The server drops the unnamed
    /// statement before it reads another.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_parse_message`.
    pub(crate) fn parse_failed(&mut self) {
        if matches!(self.pending.front(), Some(Pending::Parse { name, .. }) if name.is_empty()) {
            self.query_answered();
        }
    }

    /// Whether the oldest Parse or Close in flight is of the unnamed statement.
    pub(crate) fn is_unnamed_next(&self) -> bool {
        match self.pending.front() {
            Some(Pending::Parse { name, .. } | Pending::CloseStatement(name)) => name.is_empty(),
            Some(Pending::Nothing) | None => false,
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
    pub(crate) fn prepared_by_sql(&mut self, name: Name, sql: &[u8], pins: Pins) {
        // It may write.
        self.odd += 1;
        let lasting = (!pins.is_empty())
            .then(|| LastingEffects {
                pins,
                of_functions: Pins::default(),
                effect: Effect::None,
                era: EncodingEra::default(),
                made: Made::Nothing,
            })
            .map(Arc::new);
        let calls = if sql.contains(&b'(') { FunctionUse::Possible } else { FunctionUse::None };
        let effects = StatementEffects { class: Class::ONCE, lasting, calls };
        let shape = Shape::default();
        self.notes.made(&name, &shape);
        let text = self.texts.insert(sql, TextUse::Statement);
        let saved = SavedStatement {
            text,
            origin: if text.is_some() { StatementOrigin::Sql } else { StatementOrigin::Unsaved },
            wire: Wire::OfClient,
            effects,
            shape,
            presence: Presence::Present,
            is_used: true,
            analysed: self.path.now(),
            parsed: PreparedAt::now(),
            shared: OnceCell::new(),
        };
        self.register(name, saved);
    }

    /// A statement was dropped by name.
    pub(crate) fn deallocate(&mut self, name: &[u8]) {
        if let Some(saved) = self.named.remove(name) {
            self.sets.changed();
            self.bytes -= self.kept_bytes(&saved);
            self.forget(saved);
        }
    }

    /// All named statements were dropped.
    pub(crate) fn deallocate_all(&mut self) {
        self.sets.changed();
        self.contents = Contents::default();
        for (_, saved) in std::mem::take(&mut self.named) {
            self.forget(saved);
        }
        self.bytes = 0;
    }
}
