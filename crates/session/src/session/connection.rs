//! The server connection of a session as a value: it is checked in at an idle point, and the session goes on with the same
//! connection or another.

use std::sync::Arc;

use bytes::Bytes;
use trunkline_codec::backend::TransactionStatus;

use super::Session;
use crate::carried::alignment::{Alignment, Writer};
use crate::carried::connection::{ConnectionState, OwnLeft, Taint, UnnamedLeft};
use crate::carried::content::Contents;
use crate::carried::diff::{SessionState, drops_unnamed, reading};
use crate::carried::followed::Followed;
use crate::carried::mark::OwnMark;
use crate::carried::prepared::{UnnamedKept, UnnamedThere};
use crate::carried::residue::{ForeignUnnamed, InsertUse, Residue, RoleReport, RoleTold, SequenceUse};
use crate::conversation::state::{ClientEnd, CopyState, Farewell, Mode, Pipeline, Tail};
use crate::pin::PinReason;
use crate::settings::{ConnectionHeirs, ServerName, ServerRole, StatementNames};

impl Session {
    /// What the session wants of another server connection, to go on there. See [`crate::diff`].
    #[must_use]
    pub fn state(&self) -> SessionState {
        let followed = self.carried.followed.as_deref();
        SessionState {
            settings: followed.and_then(|followed| followed.settings().cloned()),
            statements: followed.and_then(|followed| followed.prepared.wanted()),
            left: followed.and_then(|followed| followed.prepared.left()),
            sequences: self.sequences_left(),
            knows_temporary_schema: followed.is_some_and(Followed::knows_temporary_schema),
            status: self.conversation.status,
            begin: None,
        }
    }

    /// A hash of the session's settings; 0 without any.
    #[must_use]
    #[inline]
    pub fn settings_fingerprint(&self) -> u64 {
        let settings = self.carried.followed.as_deref().and_then(|followed| followed.settings());
        settings.map_or(0, |settings| settings.fingerprint())
    }

    /// What the session's connection has, for another session to go on with it, or this one. The caller knows that all
    /// bytes to be forwarded have been written. The session goes on with [`Self::connection_taken`].
    ///
    /// # Errors
    /// The reason that keeps the connection from other sessions: [`Self::movability`]; `Transaction` where something is in
    /// progress or the server ends; or something done on it that leaves a trace.
    #[inline]
    pub fn check_in_state(&self) -> Result<ConnectionState, PinReason> {
        match self.taint() {
            Some(taint) => Err(taint.reason()),
            None => Ok(self.connection(None)),
        }
    }

    /// Whether the session is better off on another connection: it could go on there, and has done something on this one that
    /// no other session may find and that nothing undoes.
    #[must_use]
    pub fn has_spoiled_connection(&self) -> bool {
        let is_hidden = self.carried.followed.as_ref().is_some_and(|followed| followed.hidden().is_some());
        is_hidden && self.is_at_rest() && self.movability().is_ok()
    }

    /// As [`Self::check_in_state`], for a connection that is perhaps reset before it is used again, see
    /// [`ConnectionState::after_discard_all`]: the reason is [`ConnectionState::tainted`].
    #[must_use]
    pub fn connection_state(&self) -> ConnectionState {
        self.connection(self.taint())
    }

    fn connection(&self, taint: Option<Taint>) -> ConnectionState {
        let residue = self.residue;
        let (login, changed) = self.reported_on_connection();
        let followed = self.carried.followed.as_deref();
        ConnectionState {
            has_login_timeout: residue.has_login_timeout,
            unnamed: self.unnamed_left(),
            own: residue.own,
            taint,
            unproven: followed.filter(|_| taint.is_some()).and_then(|f| f.unsettled.unproven().cloned()),
            settings: followed.and_then(|followed| followed.settings().cloned()),
            statements: followed.and_then(|followed| followed.prepared.there()),
            contents: self.contents().clone(),
            contents_max: match self.names {
                StatementNames::OfClient => u32::MAX,
                StatementNames::OfContent { statements_max } => statements_max,
            },
            sequences: self.sequences_left(),
            has_temporary_schema: followed.is_some_and(Followed::has_temporary_schema),
            login,
            changed,
        }
    }

    /// The session has given its connection back: it keeps nothing of what only that has. Statements that have their client's
    /// names for a reason of the moment are shared from now on.
    #[inline]
    pub fn connection_left(&mut self) {
        self.set_contents(Contents::default());
        if self.names != StatementNames::OfClient
            && let Some(followed) = &mut self.carried.followed
            && followed.prepared.wanted().is_some()
        {
            followed.share_statements();
        }
    }

    #[inline]
    fn sequences_left(&self) -> Option<OwnMark> {
        match (self.residue.sequences, self.heirs) {
            (SequenceUse::None, _) | (SequenceUse::Possible, ConnectionHeirs::Itself) => None,
            (SequenceUse::Possible, ConnectionHeirs::Anyone) => Some(self.carried.marks.of_sequences()),
        }
    }

    fn unnamed_left(&self) -> UnnamedLeft {
        let followed = self.carried.followed.as_deref();
        let there = followed.map_or(UnnamedThere::Unknown, |followed| followed.prepared.unnamed_there());
        match (there, self.residue.unnamed) {
            (UnnamedThere::Own(number), _) => UnnamedLeft::Of(self.carried.marks.of_unnamed(number)),
            (UnnamedThere::Unknown, ForeignUnnamed::None) => UnnamedLeft::None,
            (UnnamedThere::Other, _) | (UnnamedThere::Unknown, _) => UnnamedLeft::OfAnyone,
        }
    }

    /// Whether nothing is in progress: the client may have left, but has left nothing open.
    fn is_at_rest(&self) -> bool {
        let has_left = self.client.end == ClientEnd::Terminated || self.client.end == ClientEnd::HalfClosed;
        self.is_idle_but_for_client()
            && (has_left || (self.client.end == ClientEnd::Open && self.client.tail == Tail::Empty))
    }

    fn is_idle_but_for_client(&self) -> bool {
        let conversation = &self.conversation;
        self.mode == Mode::Tracked
            && conversation.status == TransactionStatus::Idle
            && conversation.outstanding.is_empty()
            && conversation.own.is_none()
            && conversation.pipeline == Pipeline::Synced
            && conversation.copy == CopyState::None
            && conversation.farewell == Farewell::Staying
            && conversation.tail == Tail::Empty
            && conversation.scanner.is_at_boundary()
            && self.client.scanner.is_at_boundary()
            && self.recovery.deferred_error.is_none()
            && !self.conversation.is_ready_withheld()
    }

    /// What a server runs, and the state of its connection then, for another session to have that: the proxy has begun the
    /// session's transaction there, in which nothing was done. `None` where that is not so, or another session may not have it.
    #[must_use]
    pub fn leave_unused_transaction(&self) -> Option<(Alignment, ConnectionState)> {
        let is_unused = self.is_between_units_of_transaction() && self.is_before_request();
        if !is_unused
            || self.conversation.status != TransactionStatus::InTransaction
            || self.taint_left().is_some()
        {
            return None;
        }
        let mut out = Writer::default();
        out.run(b"ROLLBACK");
        Some((out.finish(), self.connection(None)))
    }

    /// Why no other session may have the connection.
    fn taint(&self) -> Option<Taint> {
        if !self.is_at_rest() {
            return Some(Taint::Lasting(self.pinned().unwrap_or(PinReason::Transaction)));
        }
        self.taint_left()
    }

    /// The same with nothing in progress.
    fn taint_left(&self) -> Option<Taint> {
        let followed = self.carried.followed.as_deref();
        if followed.is_some_and(|followed| followed.unsettled.has_other_functions()) {
            // It may have done what DISCARD ALL does not undo.
            return Some(Taint::Lasting(PinReason::UnreadFunction));
        }
        if let Err(reason) = self.movability() {
            let is_lasting = followed.is_none_or(|followed| followed.is_lasting(reason));
            return Some(if is_lasting { Taint::Lasting(reason) } else { Taint::UntilDiscardAll(reason) });
        }
        let followed = followed?;
        if let Some(reason) = followed.hidden() {
            return Some(Taint::Lasting(reason));
        }
        if !followed.unsettled.is_proven() {
            return Some(Taint::UntilDiscardAll(PinReason::UnreadFunction));
        }
        followed.prepared.must_describe().then_some(Taint::UntilDiscardAll(PinReason::StatementNotDescribed))
    }

    /// ParameterStatus messages for parameters whose values on a connection differ from those that the client has.
    /// `reported` is what its server has reported since the connection had the state `from`.
    #[must_use]
    #[inline]
    pub fn differences_on(&self, from: &ConnectionState, reported: &[u8]) -> Bytes {
        let (login, changed) = self.carried.parameters.shared();
        let is_same_login = match self.carried.marks.role_told() {
            RoleTold::Present => login.is_same(&from.login),
            RoleTold::AtLogin(_) => login.is_same_but_for_recovery(&from.login),
        };
        let is_same = reported.is_empty() && is_same_login && is_same(changed, from.changed.as_ref());
        if is_same { Bytes::new() } else { self.all_differences(from, reported) }
    }

    #[cold]
    fn all_differences(&self, from: &ConnectionState, reported: &[u8]) -> Bytes {
        let changed = from.changed.as_deref().unwrap_or_default();
        self.differences(&[from.login.messages(), changed, reported].concat())
    }

    /// A server was logged in to and aligned, after [`crate::LossPlan::Move`] or [`crate::LossPlan::Fail`], after
    /// [`Self::rewind`], or at any idle point of a movable session. `announce` (see [`Self::differences`]) goes to the
    /// client before its next ReadyForQuery. Then pass the client's unforwarded bytes in again.
    pub fn server_taken(&mut self, server: ServerName, role: ServerRole, announce: Bytes) {
        let login = Arc::clone(self.carried.parameters.shared().0);
        let from = ConnectionState::logged_in(false, login);
        self.taken(server, role);
        self.take_over(&from);
        self.announce_parameters(announce);
    }

    /// The same with a connection of any state: `from` is the one that it had before it was aligned, see [`crate::diff`].
    /// `announce` is of [`Self::differences_on`]. For a new session on a connection of a pool, too, whose
    /// [`ConnectionState::login_parameters`] it got with its settings.
    #[inline]
    pub fn connection_taken(
        &mut self,
        server: ServerName,
        role: ServerRole,
        announce: Bytes,
        from: &ConnectionState,
    ) {
        let is_at_rest = self.client.end == ClientEnd::Open && self.is_idle_but_for_client();
        let must_describe =
            self.carried.followed.as_ref().is_some_and(|followed| followed.prepared.must_describe());
        if is_at_rest && !must_describe {
            self.conversation.connection_taken(server, role);
        } else {
            self.taken(server, role);
        }
        self.take_over(from);
        self.announce_parameters(announce);
    }

    /// Nothing is known of what was in progress with the old server.
    #[cold]
    fn taken(&mut self, server: ServerName, role: ServerRole) {
        self.conversation.server_taken(server, role);
        if let Some(followed) = &mut self.carried.followed {
            followed.prepared.server_taken();
        }
    }

    fn take_over(&mut self, from: &ConnectionState) {
        let is_dropped = from.unnamed != UnnamedLeft::None && drops_unnamed(from, &self.state());
        let unnamed = if is_dropped { &UnnamedLeft::None } else { &from.unnamed };
        let marks = &mut self.carried.marks;
        let own = self.carried.parameters.shared().0;
        marks.set_login(if own.is_same(&from.login) { None } else { Some(&from.login) });
        let number = self.carried.followed.as_deref().and_then(|followed| followed.prepared.unnamed_number());
        let is_own = match (unnamed, number) {
            (UnnamedLeft::Of(mark), Some(number)) => marks.is_unnamed(mark, number),
            (UnnamedLeft::Of(_) | UnnamedLeft::None | UnnamedLeft::OfAnyone, _) => false,
        };
        let is_latest = self.residue.sequences == SequenceUse::Possible
            && from.sequences.as_ref().is_some_and(|mark| marks.is_latest_use(mark));
        self.residue = Residue {
            sequences: if is_latest { SequenceUse::Possible } else { SequenceUse::None },
            unnamed: match unnamed {
                UnnamedLeft::Of(_) | UnnamedLeft::OfAnyone if !is_own => ForeignUnnamed::Present,
                UnnamedLeft::Of(_) | UnnamedLeft::OfAnyone | UnnamedLeft::None => ForeignUnnamed::None,
            },
            inserts: InsertUse::None,
            own: OwnLeft::Nothing,
            has_login_timeout: from.has_login_timeout,
        };
        let marks = &mut self.carried.marks;
        if let RoleTold::AtLogin(_) = marks.role_told() {
            let report = if from.is_promoted() { RoleReport::Promoted } else { RoleReport::AtLogin };
            marks.tell_role(RoleTold::AtLogin(report));
        }
        if self.carried.followed.as_ref().is_some_and(|followed| followed.unsettled.calls_functions()) {
            self.may_use_sequences();
        }
        let mut contents = from.contents.clone();
        contents.trim(from.contents_max);
        self.set_contents(contents);
        if let Some(followed) = &mut self.carried.followed {
            followed.connection_taken(from);
            let unnamed = if is_own { UnnamedKept::Own } else { UnnamedKept::Lost };
            let reading = reading(from, followed.settings());
            followed.prepared.connection_taken(from.statements.as_ref(), reading, unnamed);
            followed.share_settings(from.settings.as_ref());
        }
    }
}

fn is_same(one: Option<&Arc<[u8]>>, other: Option<&Arc<[u8]>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
