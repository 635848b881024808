//! A request that is sent again to another server.
//!
//! Its server is lost, or gives it up. Where only the request was canceled, for a conflict with recovery, the server
//! goes on to serve: the session keeps it until another has let the session in. If all others refuse the session for
//! good, the client gets the error.
//!
//! ```text
//!                                    another server has taken the session
//!                                 .----------------------------------------> Attached, to that one
//!  40001 or 40P01 ---> Repeating -|
//!                                 |  all refuse it for good: the error goes to the client
//!                                 |----------------------------------------> Attached
//!                                 |  none is there now
//!                                 '----------------------------------------> Detached, and waits for one
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use trunkline_codec::sqlstate::SqlState;
use trunkline_session::{Fingerprint, ServerRole};
use trunkline_telemetry::metrics::{Label, RepeatCause};
use trunkline_topology::{Role, ServerId};

use super::attach::MoveReason;
use super::watch::Pause;
use super::{Ending, Next, Relay};
use crate::defaults::SessionDefaults;
use crate::limits::REPEATS_MAX;
use crate::pool::connection::ServerConnection;
use crate::server::connection::ReadyServer;
use crate::server::refused::RefusedBy;
use crate::server::take::Move;
use crate::settings::Retry;

/// A request that is sent again to another server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeated {
    pub(super) cause: RepeatCause,
    /// The server that had it.
    pub(super) from: ServerId,
    /// The fingerprint of its statement.
    pub(super) fingerprint: Option<Fingerprint>,
    /// When its server was lost or given up.
    pub(super) since: Instant,
}

/// The search for another server, while the session keeps its own.
pub(super) struct RepeatSearch {
    search: Pin<Box<dyn Future<Output = Result<ReadyServer, Vec<RefusedBy>>>>>,
    code: SqlState,
    /// The defaults that the search restores.
    own: Arc<SessionDefaults>,
    since: Instant,
    _second_connection: OwnedSemaphorePermit,
}

impl fmt::Debug for RepeatSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepeatSearch").field("code", &self.code).finish_non_exhaustive()
    }
}

impl Relay {
    /// Whether the journal has the whole request in flight, and it may be sent again.
    pub(super) fn can_repeat(&self) -> bool {
        let is_standby = self.session.server_role() == ServerRole::Standby && !self.is_promoted();
        let is_whole = self.journal.is_open() && self.repeats < REPEATS_MAX;
        is_standby && is_whole && !self.may_be_done()
    }

    /// Whether health has found the server promoted. The session learns that from the server's next answer only.
    pub(super) fn is_promoted(&self) -> bool {
        let Some(ServerConnection { lease, .. }) = self.server.connection() else { return false };
        let snapshot = self.worker.shared.health.load();
        snapshot.server(lease.server()).is_some_and(|status| status.role == Role::Primary)
    }

    /// Whether the request can be sent to another server after a recovery conflict or the like.
    pub(super) fn can_repeat_elsewhere(&self) -> bool {
        self.can_move() && self.can_repeat() && self.session.repeatable().is_ok()
    }

    /// Opens the journal of a request that the server canceled before anything of it was sent: the journal has all of it.
    pub(super) fn note_nothing_sent(&mut self) {
        if self.retry == Retry::On && !self.journal.is_open() && self.session.has_sent_nothing() {
            self.journal.begin(&mut self.worker.journals.borrow_mut());
        }
    }

    /// Has the request in flight, which its server has canceled with `code`, sent again to another server. `said` are
    /// the server's bytes that were not forwarded.
    pub(super) fn repeat_elsewhere(&mut self, code: SqlState, said: &[u8]) {
        let cause = RepeatCause::of_code(code);
        let goes_on = cause == RepeatCause::RecoveryConflict;
        let permit = goes_on.then(|| self.worker.shared.pace.second_connection()).flatten();
        let (Some(permit), Some(next), Some(ServerConnection { lease, .. })) =
            (permit, self.next_login(), self.server.connection())
        else {
            self.repeat(cause);
            return;
        };
        let mut moving = Move::from(&self.worker.shared.health, lease.server(), self.answered_at);
        self.prefer_primary(cause, self.repeats + 1, &mut moving);
        let own = Arc::clone(next.own());
        let search = Box::pin(next.take_to_repeat(moving));
        let since = Instant::now();
        self.to_client.input.keep(said);
        let repeating = RepeatSearch { search, code, own, since, _second_connection: permit };
        self.watch.pause(Pause::Repeating(repeating));
    }

    pub(super) fn poll_repeat_search(&mut self, cx: &mut Context<'_>) -> Next {
        if let Poll::Ready(Err(_broken)) = self.to_client.poll_flush(cx, &mut self.client) {
            return Next::End(Ending::Silent);
        }
        if self.has_client_left(cx) {
            return Next::End(Ending::Silent);
        }
        let Some(Pause::Repeating(repeating)) = self.watch.paused() else { return Next::Again };
        let Poll::Ready(outcome) = repeating.search.as_mut().poll(cx) else { return Next::Wait };
        let (cause, since, own) =
            (RepeatCause::of_code(repeating.code), repeating.since, Arc::clone(&repeating.own));
        self.watch.ends_pause();
        match outcome {
            Ok(taken) => {
                self.repeat_in_place(cause, since);
                self.context.own = own;
                self.attach(taken, self.waited(since));
                self.watch.must_look();
                self.look(cx).map_or(Next::Again, Next::End)
            }
            Err(refused) if self.is_refused_for_good(&refused) => self.gets_the_error(cx, cause, &refused),
            Err(_none) => {
                self.repeat(cause);
                Next::Again
            }
        }
    }

    /// Whether these refusals would stay the same, and no other server is left that may take the session.
    fn is_refused_for_good(&self, refused: &[RefusedBy]) -> bool {
        let by: Vec<ServerId> = refused.iter().map(|refused| refused.server).collect();
        refused.iter().all(RefusedBy::is_lasting) && self.is_refused_elsewhere(&by)
    }

    /// No other server takes the session, whose client gets its server's answer.
    fn gets_the_error(&mut self, cx: &mut Context<'_>, cause: RepeatCause, refused: &[RefusedBy]) -> Next {
        for by in refused {
            self.worker.metrics.server(by.server).moves_refused.one(by.reason);
        }
        tracing::info!(
            session.id = self.context.info.id.0,
            cause = cause.word(),
            "request is not sent again because the other servers refuse the session"
        );
        self.session.accept_answer();
        let said = self.to_client.input.take_held();
        match self.take_from_server(cx, &said) {
            Next::Wait => Next::Again,
            done @ (Next::Again | Next::Lost(_) | Next::End(_)) => done,
        }
    }

    /// If standbys cancel many queries, the last attempt goes to the primary, which has no recovery conflicts.
    fn prefer_primary(&self, cause: RepeatCause, attempt: u32, moving: &mut Move) {
        if cause == RepeatCause::RecoveryConflict && attempt == REPEATS_MAX {
            moving.prefer_primary();
        }
    }

    /// Goes back to the last idle point, and sends the client's request again to another server.
    pub(super) fn repeat(&mut self, cause: RepeatCause) {
        self.repeat_since(cause, Instant::now());
    }

    pub(super) fn repeat_since(&mut self, cause: RepeatCause, since: Instant) {
        let Some(ServerConnection { lease, name, .. }) = self.server.connection() else { return };
        let Some(request) = self.journal.take() else { return };
        let (fingerprint, from) = (self.session.fingerprint(&request), lease.server());
        self.worker.metrics.server(from).repeats.one(cause);
        tracing::debug!(
            session.id = self.context.info.id.0, server.name = %name, cause = cause.word(),
            statement.fingerprint = fingerprint.map(tracing::field::display),
            "request goes to another server"
        );
        self.repeats += 1;
        self.unit_is_not_run();
        let repeated = Repeated { cause, from, fingerprint, since };
        self.context.moving = Some(Box::new(MoveReason::Repeated(repeated)));
        match self.detach() {
            // The others are lost, or about to be.
            Some(left) if cause == RepeatCause::RecoveryConflict => left.terminate(),
            Some(_) | None => {}
        }
        if let Some(mut left) = self.context.left.take() {
            self.prefer_primary(cause, self.repeats, &mut left);
            self.context.left = Some(left);
        }
        self.to_client.input.restart(&[]);
        self.to_server.input.process_again(request);
        self.session.rewind(Instant::now());
    }
}
