//! A session's server: how the session gets one, gives it back, and takes another.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use trunkline_session::{ServerRole, SessionState, TransactionStatus};
use trunkline_topology::{Role, ServerId};

use super::attachment::Taking;
pub(super) use super::attachment::{Attachment, Waited};
use super::pooled::Tried;
use super::repeat::Repeated;
use super::{ClientState, Ending, Next, Relay};
use crate::context::{UserLogin, Worker};
use crate::defaults::{ReportedDefaults, RestoringLogin, SessionDefaults};
use crate::errors::Refusal;
use crate::limits::FRESHNESS_HOLD;
use crate::pool::connection::ServerConnection;
use crate::pool::seat::PoolSeat;
use crate::pool::start::PoolStart;
use crate::server::connection::{ReadyServer, check_out};
use crate::server::pooled::{LastServer, Pooled, PooledClient};
use crate::server::refused::{RefusedBy, take_planned};
use crate::server::take::{ChoiceReason, LoginAs, Move, Search, ServerCriteria, TakeError};
use trunkline_telemetry::metrics::{Label, MoveCause, MoveKind, MoveOutcome};
use trunkline_telemetry::sessions::SessionNames;

/// Why a session has left its server.
#[derive(Clone, Copy, Debug)]
pub(super) enum MoveReason {
    /// It left at an idle point.
    Moved {
        /// Why.
        cause: MoveCause,
        /// The server that it left.
        from: ServerId,
    },
    /// Its request in flight is sent again to another server.
    Repeated(Repeated),
}

/// What another server needs to continue the session.
pub(super) struct NextLogin {
    worker: Rc<Worker>,
    criteria: ServerCriteria,
    login: Arc<UserLogin>,
    names: Arc<SessionNames>,
    own: Arc<SessionDefaults>,
    told: ReportedDefaults,
    state: SessionState,
    seat: Option<Rc<PoolSeat>>,
    /// Where it gave a connection back to the pools.
    last: Option<LastServer>,
    start: Option<PoolStart>,
}

impl NextLogin {
    /// The defaults that it restores.
    pub(super) fn own(&self) -> &Arc<SessionDefaults> {
        &self.own
    }

    /// Takes a server in place of the one that the session has left.
    async fn take(mut self, left: Option<Move>) -> Result<ReadyServer, TakeError> {
        let (seat, last, start) = (self.seat.take(), self.last, self.start.take());
        let own = Arc::clone(&self.own);
        let take = async |worker: &Worker, criteria, who: LoginAs<'_>, wanted: &SessionState| {
            let mut search = match left {
                Some(left) => Search::for_move(worker, criteria, left),
                None => Search::vouched_for(worker, criteria),
            };
            let names = who.restoring.map_or([""; 2], |restoring| restoring.names);
            let who_is_it = PooledClient::Going { own: &own, last };
            let pooled = seat.as_ref().map(|seat| Pooled { seat, names, who: who_is_it, start });
            check_out(&mut search, who, wanted, pooled).await
        };
        self.search(take).await
    }

    /// Takes a server while the session still has its own, none of those to skip.
    pub(super) async fn take_planned(
        self,
        from: Move,
        skip: Vec<ServerId>,
    ) -> Result<ReadyServer, Vec<RefusedBy>> {
        let take = async |worker: &Worker, criteria, who: LoginAs<'_>, wanted: &SessionState| {
            take_planned(Search::for_planned_move(worker, criteria, from, skip), who, wanted).await
        };
        self.search(take).await
    }

    /// Takes a server for a request that is sent again, while the session still has its own.
    pub(super) async fn take_to_repeat(self, from: Move) -> Result<ReadyServer, Vec<RefusedBy>> {
        let take = async |worker: &Worker, criteria, who: LoginAs<'_>, wanted: &SessionState| {
            take_planned(Search::for_repeat(worker, criteria, from), who, wanted).await
        };
        self.search(take).await
    }

    async fn search<T>(
        self,
        take: impl AsyncFnOnce(&Worker, ServerCriteria, LoginAs<'_>, &SessionState) -> T,
    ) -> T {
        let NextLogin { worker, criteria, login, names, own, told, state, .. } = self;
        let defaults = &worker.shared.defaults;
        let restoring = RestoringLogin { defaults, own, told, names: names.of_login() };
        let UserLogin { startup, credentials } = &*login;
        let who = LoginAs { startup, credentials, restoring: Some(&restoring) };
        take(&worker, criteria, who, &state).await
    }
}

impl Relay {
    /// Until now, which is read anew: a search has taken time.
    pub(super) fn waited(&self, since: Instant) -> Waited {
        self.worker.clock.moves();
        Waited { since, until: self.worker.clock.now() }
    }

    /// Waits, without a server, until the client sends something.
    pub(super) fn wait_for_client(&mut self, cx: &mut Context<'_>) -> Next {
        if self.session.has_deferred_error()
            && self.session.transaction_status() != TransactionStatus::InTransaction
            && self.seat_in_transaction_mode().is_some()
        {
            return self.refuse_without_server(cx);
        }
        if let Some(next) = self.route_unit(cx) {
            return next;
        }
        let start = match self.try_pool(cx) {
            Tried::Done(next) => return next,
            Tried::Start(start) => Some(start),
            Tried::Nothing => None,
        };
        if !self.to_server.input.has_read_ahead() {
            let mut byte = [0_u8; 1];
            // Only peeked at: the client's bytes are read when there is a server to send them to.
            match self.client.poll_peek(cx, &mut byte) {
                Poll::Pending => {
                    self.put_back(start);
                    return Next::Wait;
                }
                // The client closed its sending side, and may still read the bytes that are pending for it.
                Poll::Ready(Ok(0)) => {
                    self.put_back(start);
                    return Next::End(self.say(&[]));
                }
                Poll::Ready(Err(_broken)) => {
                    self.put_back(start);
                    return Next::End(Ending::Silent);
                }
                // A Terminate needs no server.
                Poll::Ready(Ok(_)) if byte[0] == b'X' && self.to_server.input.held().is_empty() => {
                    self.put_back(start);
                    return Next::End(self.say(&[]));
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
        self.search(start, Instant::now())
    }

    /// Begins to search for a server, with what the pools have answered, for a request that has waited since then.
    pub(super) fn search(&mut self, start: Option<PoolStart>, since: Instant) -> Next {
        if self.context.seat.is_some() {
            self.follow_reload();
        }
        let Some(mut next) = self.next_login() else { return Next::End(Ending::Silent) };
        next.start = start;
        self.context.own = Arc::clone(&next.own);
        let search = Box::pin(next.take(self.context.left.as_deref().copied()));
        self.server = Attachment::Taking(Box::new(Taking { search, since }));
        Next::Again
    }

    /// The defaults of the session's servers may have changed since it left the first one.
    pub(super) fn follow_reload(&mut self) {
        let names = self.context.info.names.of_login();
        if let Some(own) = self.context.own.reloaded(&self.worker.shared.defaults, names) {
            self.context.own = Arc::new(own);
            self.heed_login_path();
        }
    }

    /// What is needed to log the session in again; `None` when the proxy cannot.
    pub(super) fn next_login(&self) -> Option<NextLogin> {
        let login = Arc::clone(&self.context.relogin.as_ref()?.login);
        let told = ReportedDefaults::of(self.session.defaults());
        let names = Arc::clone(&self.context.info.names);
        let mut own = Arc::clone(&self.context.own);
        if !own.is_settled() {
            Arc::make_mut(&mut own).settle(&self.worker.shared.defaults, names.of_login(), &told);
        }
        let told = own.without_outdated(told);
        let (worker, criteria, mut state) =
            (Rc::clone(&self.worker), self.context.criteria.clone(), self.session.state());
        state.begin(self.held_begin());
        let (seat, last) = (self.context.seat.as_deref().cloned(), self.last_server());
        Some(NextLogin { worker, criteria, login, names, own, told, state, seat, last, start: None })
    }

    pub(super) fn poll_taking(&mut self, cx: &mut Context<'_>) -> Next {
        if self.is_wait_canceled(cx) {
            return Next::Again;
        }
        let Attachment::Taking(taking) = &mut self.server else { return Next::Again };
        let since = taking.since;
        let Poll::Ready(outcome) = taking.search.as_mut().poll(cx) else {
            self.tell_of_wait(cx, since.elapsed());
            return if self.has_given_up(cx, since) { Next::End(Ending::Silent) } else { Next::Wait };
        };
        match outcome {
            // Nobody waits for the answer: the client's last requests are not sent to the new server.
            Ok(_taken) if self.has_given_up(cx, since) => Next::End(Ending::Silent),
            Ok(taken) => {
                self.attach(taken, self.waited(since));
                self.watch.must_look();
                self.look(cx).map_or(Next::Again, Next::End)
            }
            Err(TakeError::NoServer(Refusal::Pool { why })) if self.seat_in_transaction_mode().is_some() => {
                self.server = Attachment::Detached;
                self.wait_ended(&why);
                Next::Again
            }
            Err(TakeError::Refused(refusal)) => {
                self.server = Attachment::Detached;
                match self.is_refused_by_limit(refusal) {
                    Ok(()) => Next::Again,
                    Err(refusal) => self.not_placed(TakeError::Refused(refusal), since),
                }
            }
            Err(error) => {
                self.server = Attachment::Detached;
                self.not_placed(error, since)
            }
        }
    }

    fn not_placed(&mut self, error: TakeError, since: Instant) -> Next {
        self.count_move(MoveOutcome::Failed, since);
        Next::End(self.ends_unplaced(error))
    }

    /// Whether the client has closed the connection, even if a request before that is still unread.
    pub(super) fn has_client_left(&self, cx: &mut Context<'_>) -> bool {
        self.client.poll_read_closed(cx).is_ready()
    }

    pub(super) fn attach(&mut self, taken: ReadyServer, waited: Waited) {
        let ReadyServer { server, mut login_reply, choice } = taken;
        if let Some(name) =
            self.context.relogin.as_ref().and_then(|relogin| relogin.application_name.as_ref())
        {
            name.hide(&mut login_reply.messages);
        }
        let Waited { since, until: now } = waited;
        let role = role_of(&self.worker, server.lease.server(), login_reply.is_standby);
        self.split_attaches(role, &server, choice);
        self.answered_at = now;
        let name = Arc::clone(&server.name);
        if server.member.is_some() {
            let announce = self.session.differences_on(&server.state, &login_reply.messages);
            self.session.connection_taken(name, role, announce, &server.state);
            self.context.chosen_at = now;
        } else {
            let announce = self.session.differences(&login_reply.messages);
            self.session.server_taken(name, role, announce);
        }
        self.session.server_process(server.process_id());
        if since != now {
            self.session.note_wait(now.saturating_duration_since(since));
        }
        self.context.cancel.set_server(server.key.clone());
        self.context.left = None;
        let last = self.context.last.take();
        self.context.is_told_to_wait = false;
        if self.context.moving.is_some() {
            let since = self.repeated().map_or(since, |repeated| repeated.since);
            self.log_arrival(&server.name, now.saturating_duration_since(since));
            self.count_move(MoveOutcome::Taken, since);
        }
        self.to_client.input.restart(&login_reply.read_ahead);
        self.count_arrival_from(last, server.lease.server());
        self.watch.attached();
        if choice == ChoiceReason::OthersBehind {
            self.watch.stays_until(now + FRESHNESS_HOLD);
        }
        self.slot.set_place(self.context.criteria.place_on(server.lease.server()));
        self.server = Attachment::attached(server);
    }

    /// Counts the session on this server, whose last one was the other.
    fn count_arrival_from(&self, last: Option<ServerId>, id: ServerId) {
        if last == Some(id) {
            self.worker.metrics.server(id).sessions_active.up();
        } else {
            count_arrival(&self.worker, id);
        }
    }

    /// One line for each move.
    fn log_arrival(&self, to: &str, took: Duration) {
        let (cause, from, fingerprint, message) = match self.context.moving.as_deref().copied() {
            None => return,
            Some(MoveReason::Moved { cause, from }) => (cause.word(), from, None, "session moved"),
            Some(MoveReason::Repeated(Repeated { cause, from, fingerprint, .. })) => {
                (cause.word(), from, fingerprint, "request is sent again")
            }
        };
        let snapshot = self.worker.shared.health.load();
        let from = snapshot.server(from).map(|status| &*status.name);
        tracing::info!(
            session.id = self.context.info.id.0,
            from,
            to,
            cause,
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            statement.fingerprint = fingerprint.map(tracing::field::display),
            "{message}"
        );
    }

    /// The request that is to be sent again to the next server.
    pub(super) fn repeated(&self) -> Option<Repeated> {
        match self.context.moving.as_deref() {
            Some(MoveReason::Repeated(repeated)) => Some(*repeated),
            Some(MoveReason::Moved { .. }) | None => None,
        }
    }

    /// Counts and times the end of a search for another server that began at `since`.
    fn count_move(&mut self, outcome: MoveOutcome, since: Instant) {
        let metrics = &self.worker.metrics;
        let kind = match self.context.moving.take().map(|moving| *moving) {
            None => return,
            Some(MoveReason::Moved { cause, .. }) => {
                metrics.moves_ended[outcome.index()].one(cause);
                MoveKind::Move
            }
            Some(MoveReason::Repeated(Repeated { cause, .. })) => {
                metrics.repeats_ended[outcome.index()].one(cause);
                MoveKind::Repeat
            }
        };
        metrics.record_move(kind, outcome, since.elapsed());
    }

    /// Gives the server back, if there is one, to take another.
    pub(super) fn detach(&mut self) -> Option<Box<ServerConnection>> {
        let left = self.release()?;
        let from = left.lease.server();
        let moving = Move::from(&self.worker.shared.health, from, self.answered_at);
        self.context.left = Some(Box::new(moving));
        Some(left)
    }

    /// Gives the server back, if there is one. Its connection is closed unless a pool gets it.
    pub(super) fn release(&mut self) -> Option<Box<ServerConnection>> {
        self.context.cancel.set_server(None);
        self.release_parted()
    }

    /// The same where cancel requests do not reach it any more.
    pub(super) fn release_parted(&mut self) -> Option<Box<ServerConnection>> {
        self.unit_ends();
        let left = match std::mem::replace(&mut self.server, Attachment::Detached) {
            Attachment::Attached(server) => Some(server),
            Attachment::Detached | Attachment::Queued(_) | Attachment::Taking(_) => None,
        };
        if let Some(server) = &left {
            self.worker.metrics.server(server.lease.server()).sessions_active.down();
        }
        self.slot.set_place(None);
        self.context.sequences.end();
        self.context.exported = None;
        self.to_server.drop_pending();
        self.watch.attached();
        left
    }

    /// Leaves a useless server at an idle point, with a Terminate. Another is taken when the client sends a
    /// request.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>, cause: MoveCause) {
        self.leaves_for(cause);
        self.let_go(cx);
    }

    /// Counts and logs that the session leaves its server.
    pub(super) fn leaves_for(&mut self, cause: MoveCause) {
        let Some(ServerConnection { lease, name, .. }) = self.server.connection() else { return };
        let from = lease.server();
        self.worker.metrics.server(from).moves.one(cause);
        tracing::debug!(
            session.id = self.context.info.id.0, server.name = %name, cause = cause.word(),
            "session leaves its server"
        );
        self.context.moving = Some(Box::new(MoveReason::Moved { cause, from }));
    }

    /// Gives the server back and closes its connection.
    pub(super) fn let_go(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.server, Attachment::Attached(_)) {
            return;
        }
        if let Some(left) = self.detach() {
            left.terminate();
        }
        // Polled again, to wait for the client's next request.
        cx.waker().wake_by_ref();
    }

    /// Whether another server may be taken for this session.
    pub(super) fn can_move(&self) -> bool {
        self.context.relogin.is_some() && self.client_state == ClientState::Speaking
    }
}

/// The role of a server, as reported at the login, or else as known to health: servers before 14 do not report it.
pub(super) fn role_of(worker: &Worker, server: ServerId, is_standby: Option<bool>) -> ServerRole {
    match is_standby {
        Some(true) => ServerRole::Standby,
        Some(false) => ServerRole::Primary,
        None => match worker.shared.health.load().server(server).map(|status| status.role) {
            Some(Role::Standby) => ServerRole::Standby,
            Some(Role::Primary | Role::Unknown) | None => ServerRole::Primary,
        },
    }
}

/// Counts a session on its server.
pub(super) fn count_arrival(worker: &Worker, id: ServerId) {
    let counted = worker.metrics.server(id);
    counted.sessions_active.up();
    let (snapshot, zones) = (worker.shared.health.load(), worker.shared.attached.zones());
    if snapshot.server(id).is_some_and(|server| zones.crosses(server)) {
        counted.sessions_crossed.one();
    }
}
