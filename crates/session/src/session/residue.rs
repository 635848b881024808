//! What a session finds on its connection that is not its own, and what it leaves there that no other may find.

use trunkline_codec::frontend::{Describe, FrontendTag, Target};
use trunkline_codec::write;

use super::Session;
use crate::carried::connection::OwnLeft;
use crate::carried::prepared::Step;
use crate::carried::residue::{ForeignUnnamed, InsertUse, SequenceUse};
use crate::conversation::own::batch::Batch;
use crate::conversation::own::{Guard, Purpose};
use crate::conversation::state::{CopyState, Mode, Pipeline};
use crate::names::{Name, OWN_STATEMENT, bind_of, describe_of};
use crate::pin::PinReason;
use crate::settings::ServerRole;
use crate::sql::suspicious_names::names_sequence_value;
use crate::step::ClientThen;

/// First words of the tags of statements that may add rows.
const ADDING: [&[u8]; 5] = [b"INSERT", b"COPY", b"MERGE", b"SELECT", b"CALL"];

impl Session {
    /// A statement is complete that does more than read.
    #[cold]
    pub(crate) fn may_have_inserted(&mut self, tag: &[u8]) {
        if self.conversation.role == ServerRole::Primary && ADDING.iter().any(|word| tag.starts_with(word)) {
            self.residue.inserts = InsertUse::Possible;
        }
    }

    /// Whether the session has added rows on its primary since it took the connection or since this was asked last: its client
    /// may ask `currval` or `lastval` next, which only this connection can answer.
    #[inline]
    pub fn take_insert(&mut self) -> bool {
        std::mem::take(&mut self.residue.inserts) == InsertUse::Possible
    }

    /// Whether the session has named `nextval` or `setval` on its primary since it took the connection, and has not discarded
    /// what they gave.
    #[must_use]
    #[inline]
    pub fn has_named_sequences(&self) -> bool {
        self.conversation.role == ServerRole::Primary
            && self
                .carried
                .followed
                .as_ref()
                .is_some_and(|followed| followed.pins.contains(PinReason::SEQUENCE))
    }

    /// Whether the client has asked `currval` or `lastval` on this connection, which it then keeps.
    #[must_use]
    pub fn has_asked_for_sequences(&self) -> bool {
        let pins = self.carried.followed.as_ref().map(|followed| &followed.pins);
        pins.is_some_and(|pins| pins.iter().any(PinReason::asks_for_sequences))
    }

    /// Whether `next`, what the client sends next or the first part of it, may ask `currval` or `lastval`: it names them, or
    /// the session has a prepared statement that does.
    #[must_use]
    pub fn may_ask_for_sequences(&self, next: &[u8]) -> bool {
        let prepared = self.carried.followed.as_ref().map(|followed| &followed.prepared);
        names_sequence_value(next) || prepared.is_some_and(|prepared| prepared.may_ask_for_sequences())
    }

    /// A request is sent that may do more than read: it may use a sequence.
    #[inline]
    pub(crate) fn may_use_sequences(&mut self) {
        if self.residue.sequences == SequenceUse::None && self.conversation.role == ServerRole::Primary {
            self.residue.sequences = SequenceUse::Possible;
            self.carried.marks.sequences_used();
        }
    }

    /// Sequences were discarded by the request in front.
    #[cold]
    pub(crate) fn sequences_discarded(&mut self) {
        if !self.conversation.outstanding.has_requests_behind(1) {
            self.residue.sequences = SequenceUse::None;
        }
        if let Some(followed) = &mut self.carried.followed {
            followed.sequences_discarded();
        }
    }

    /// One of the proxy's own requests has failed: its statement may be left.
    pub(crate) fn own_statement_left(&mut self) {
        self.residue.own = OwnLeft::Statement;
    }

    /// A message goes to a server that has an unnamed statement of another session, or may have.
    #[cold]
    pub(crate) fn replaces_foreign_unnamed(&mut self, tag: FrontendTag, body: &[u8]) {
        match (tag, body.first()) {
            (FrontendTag::Query, _) | (FrontendTag::Parse, Some(0)) => {
                self.residue.unnamed = ForeignUnnamed::Replaced;
            }
            // Whether the series failed before that is not known yet.
            (FrontendTag::Sync, _) => self.residue.unnamed = ForeignUnnamed::Present,
            _other => {}
        }
    }

    /// The oldest Parse or Close in flight is answered.
    #[cold]
    pub(crate) fn foreign_unnamed_answered(&mut self) {
        if self.carried.followed.as_ref().is_some_and(|followed| followed.prepared.is_unnamed_next()) {
            self.residue.unnamed = ForeignUnnamed::None;
        }
    }

    /// What comes before a message that would use the unnamed statement of another session: that is closed.
    pub(crate) fn closes_foreign_unnamed(
        &mut self,
        tag: FrontendTag,
        body: &[u8],
        sent: u64,
    ) -> Option<ClientThen> {
        let uses_unnamed = match tag {
            FrontendTag::Bind => bind_of(body).is_some_and(|bind| bind.statement.is_empty()),
            FrontendTag::Describe => {
                matches!(describe_of(body), Some(Describe { kind: Target::Statement, name: b"" }))
            }
            _other => false,
        };
        let is_taken = self.mode == Mode::Tracked
            && self.conversation.copy == CopyState::None
            && self.conversation.pipeline != Pipeline::Skipping;
        if !uses_unnamed || !is_taken || self.residue.unnamed != ForeignUnnamed::Present {
            return None;
        }
        let prepared = self.carried.followed.as_ref().map(|followed| &followed.prepared);
        if prepared.is_some_and(|prepared| prepared.has_unnamed()) {
            return None;
        }
        // A Parse in an earlier series may have been skipped: that is known once something behind it is answered.
        let is_pending = prepared.is_some_and(|prepared| prepared.is_unnamed_pending());
        let dropped = if is_pending { OWN_STATEMENT.into() } else { Name::default() };
        let mut batch = Batch::default();
        batch.step(Step::Drop(dropped));
        write::flush(&mut batch.out);
        Some(ClientThen::Ask(self.send_batch(Purpose::BeforeSeries, Guard::None, batch, sent)))
    }
}
