//! A session that shares server connections: in transaction mode it gives its own back whenever it is idle, and takes one
//! when its client speaks; in session mode it gives it back at its end.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use trunkline_pool::CheckFirst;
use trunkline_reactor::{spawn, timer};
use trunkline_session::{ConnectionState, diff};
use trunkline_topology::ServerId;

use super::attach::Waited;
use super::buffer::Chunk;
use super::left::{LeftConnection, confirm};
use super::pump::is_goodbye;
use super::vanished::see_off;
use super::{Ending, Next, Relay, SessionContext};
use crate::cancel::Parting;
use crate::context::{FillLogin, FillOffer};
use crate::defaults::ReportedDefaults;
use crate::limits::{POOL_STAY, TICK};
use crate::pool::connection::ServerConnection;
use crate::pool::seat::{PoolSeat, SeatMode};
use crate::pool::start::PoolStart;
use crate::server::connection::ReadyServer;
use crate::server::login::LoginReply;
use crate::server::pooled::{LastServer, ask_last, carried_for, leads_to_its_server};
use crate::server::take::ChoiceReason;
use trunkline_telemetry::metrics::PoolCloseReason;

/// What the pools have for a session without a wait.
#[derive(Debug)]
pub(super) enum Tried {
    /// Nothing more is to be done now.
    Done(Next),
    /// This, with which the search begins.
    Start(PoolStart),
    /// The search begins from nothing.
    Nothing,
}

/// Whether a session may go on with its last server, as far as it has looked since the verdicts last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staying {
    Unknown,
    /// It may.
    With(ServerId),
    /// It may, and no other server would do.
    WithOnly(ServerId),
}

impl Relay {
    /// The session's place among those that have a connection for a transaction only.
    pub(super) fn seat_in_transaction_mode(&self) -> Option<&Rc<PoolSeat>> {
        self.context.seat.as_deref().filter(|seat| seat.mode() != SeatMode::Session)
    }

    /// The same, of those that share their connections with others.
    pub(super) fn seat_among_others(&self) -> Option<&Rc<PoolSeat>> {
        self.context.seat.as_deref().filter(|seat| seat.mode() == SeatMode::Transaction)
    }

    /// Has others opened ahead of clients of its pools by what it has logged in with, where `min_pool_size` asks for them.
    pub(super) fn offer_login(&self, by: FillOffer) {
        let SessionContext { seat, relogin, criteria, .. } = &*self.context;
        let (Some(seat), Some(relogin)) = (seat, relogin) else { return };
        if self.live.pool.min_pool_size > 0 && seat.mode() != SeatMode::Own {
            self.worker.shared.fills.offer(seat.id(), &relogin.login, by, || FillLogin {
                login: Arc::clone(&relogin.login),
                listener: Arc::clone(&criteria.listener),
                attrs: criteria.attrs,
            });
        }
    }

    /// Takes an idle connection to the server that the session was on, if nothing has to be done for that, nor shown; waits
    /// for one in the queue.
    pub(super) fn try_pool(&mut self, cx: &mut Context<'_>) -> Tried {
        if self.seat_in_transaction_mode().is_none() {
            return Tried::Nothing;
        }
        if !self.to_server.input.has_read_ahead() && !self.client.may_read() {
            return Tried::Done(Next::Wait);
        }
        if let Some(ending) = self.says_goodbye(cx) {
            return Tried::Done(Next::End(ending));
        }
        let now = self.worker.clock.now();
        let Some(last) = self.goes_on_at(now) else { return Tried::Nothing };
        let Some(seat) = &self.context.seat else { return Tried::Nothing };
        match ask_last(&self.worker, seat, last.server, self.context.carried, self.slot.number(), now) {
            Some(PoolStart::Wait(ticket)) => Tried::Done(self.wait_in_queue(cx, ticket, last)),
            Some(start) => match self.take_up(cx, start, last, Waited::not_at_all(now)) {
                None => Tried::Done(Next::Again),
                Some(start) => Tried::Start(start),
            },
            None => Tried::Nothing,
        }
    }

    /// How the session ends if the last that its client has sent, which has closed the connection, is a Terminate: that needs
    /// no server. Anything else is kept for one.
    fn says_goodbye(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if !self.to_server.input.is_empty() || !self.has_client_left(cx) {
            return None;
        }
        let worker = Rc::clone(&self.worker);
        let mut buffer = worker.buffer.borrow_mut();
        match self.to_server.poll_chunk(cx, &mut self.client, &mut buffer) {
            Poll::Pending => None,
            Poll::Ready(Chunk::Bytes(length)) if is_goodbye(&buffer[..length]) => Some(self.say(&[])),
            Poll::Ready(Chunk::Bytes(length)) => {
                // It is read for the first time, whatever it looks like later.
                self.repeats = 0;
                self.to_server.input.process_again(buffer[..length].to_vec());
                None
            }
            Poll::Ready(Chunk::Eof) => Some(self.say(&[])),
            Poll::Ready(Chunk::Broken) => Some(Ending::Silent),
        }
    }

    /// The server that the session was on, where it goes on without a choice between that and others.
    fn goes_on_at(&mut self, now: Instant) -> Option<LastServer> {
        self.looks_at_own_share(now);
        let mut last = self.last_server()?;
        if !self.may_stay_on(last.server) {
            return None;
        }
        if now >= last.chosen_at + POOL_STAY {
            if !self.context.own.is_settled() || !self.others_than(last.server).is_empty() {
                return None;
            }
            // The only one would be chosen again.
            self.follow_reload();
            self.context.carried = carried_for(&self.session.state(), self.context.own.digest());
            last.chosen_at = now;
            self.context.chosen_at = now;
        }
        Some(last)
    }

    /// Whether the session may have this server, by the verdicts.
    #[inline]
    pub(super) fn may_stay_on(&mut self, server: ServerId) -> bool {
        if let Staying::With(known) | Staying::WithOnly(known) = self.context.staying
            && known == server
        {
            return true;
        }
        let may_stay = self.is_allowed_on(server);
        self.context.staying = if may_stay { Staying::With(server) } else { Staying::Unknown };
        may_stay
    }

    pub(super) fn is_allowed_on(&self, server: ServerId) -> bool {
        let snapshot = self.worker.shared.health.load();
        self.context.criteria.may_stay(&snapshot, &self.live, server)
    }

    /// The other servers that the session may have, looked at anew unless there were none.
    pub(super) fn others_known_than(&mut self, server: ServerId) -> Vec<ServerId> {
        if self.context.staying == Staying::WithOnly(server) { Vec::new() } else { self.others_than(server) }
    }

    /// The other servers that the session may have.
    pub(super) fn others_than(&mut self, server: ServerId) -> Vec<ServerId> {
        let others = self.eligible_but(server);
        if let Staying::With(known) | Staying::WithOnly(known) = self.context.staying {
            self.context.staying =
                if others.is_empty() { Staying::WithOnly(known) } else { Staying::With(known) };
        }
        others
    }

    fn eligible_but(&self, server: ServerId) -> Vec<ServerId> {
        let shared = &self.worker.shared;
        let snapshot = shared.health.load();
        let eligible = self.context.criteria.eligible(&snapshot, &self.live, &shared.attached).servers;
        let has_address = |id| snapshot.server(id).is_some_and(|status| status.address.is_some());
        let others = eligible.into_iter().map(|candidate| candidate.id);
        others.filter(|id| *id != server && has_address(*id)).collect()
    }

    /// Goes on with a connection that the pools have given, unless something has to be done for that: that is returned.
    pub(super) fn take_up(
        &mut self,
        cx: &Context<'_>,
        start: PoolStart,
        last: LastServer,
        waited: Waited,
    ) -> Option<PoolStart> {
        match start {
            PoolStart::Idle(server, CheckFirst::Unneeded) if self.is_ready(&server, last) => {
                let login_reply = LoginReply { is_standby: server.is_standby, ..LoginReply::default() };
                let taken = ReadyServer { server, login_reply, choice: ChoiceReason::Regular };
                self.attach(taken, waited);
                self.context.chosen_at = last.chosen_at;
                if let Some(ServerConnection { stream, .. }) = self.server.connection() {
                    // Nothing has come: what does is read when epoll tells of it.
                    stream.set_reader(cx);
                }
                None
            }
            start => Some(start),
        }
    }

    /// Whether an idle connection is as the session left its last one, shows as much, and is alive as far as epoll has told.
    /// The kernel is not asked, which would know more by what has happened since the worker last waited for sockets: a session
    /// that keeps its connection has no more than that either.
    fn is_ready(&self, server: &ServerConnection, last: LastServer) -> bool {
        let wanted = self.session.state();
        (last.shows_as_much(server.lease.server(), server.since)
            || self.context.criteria.attrs.is_primary_only())
            && !server.stream.has_news()
            && leads_to_its_server(&self.worker.shared.health.load(), server)
            && server.state.fits(&wanted)
            && diff(&server.state, &wanted).is_empty()
    }

    /// Where the session gave its connection back, unless it has moved away from there.
    pub(super) fn last_server(&self) -> Option<LastServer> {
        let server = self.context.last.filter(|_| self.context.left.is_none())?;
        // Both are as they were then, for as long as it has no other server.
        let chosen_at = if self.stays_on_own() { Instant::now() } else { self.context.chosen_at };
        Some(LastServer { server, answered_at: self.answered_at, chosen_at })
    }

    /// The client has left without a request: what the pools have answered is not needed.
    pub(super) fn put_back(&self, start: Option<PoolStart>) {
        match start {
            Some(PoolStart::Idle(server, _)) => self.worker.put_back(server),
            Some(PoolStart::Open(place)) => place.unused(),
            Some(PoolStart::Coming(..) | PoolStart::Wait(_) | PoolStart::Gone) | None => {}
        }
    }

    /// Gives the connection back, if the session is idle and nothing pins it.
    #[inline]
    pub(super) fn give_back_at_rest(&mut self) {
        if self.seat_in_transaction_mode().is_none() || !self.is_idle() {
            return;
        }
        // The rest of a request belongs to its beginning, however that has ended.
        if self.context.split.is_some() && self.to_server.input.has_read_ahead() {
            return;
        }
        if !self.can_leave() {
            return self.heed_sequence_question();
        }
        if !self.stays_busy() {
            self.give_back_if_free();
        }
    }

    fn give_back_if_free(&mut self) {
        let Some(ServerConnection { member, lease, own, .. }) = self.server.connection() else {
            return;
        };
        let (server, is_pooled) = (lease.server(), member.is_some());
        let is_new = own.as_ref().is_none_or(|own| own.is_unconfirmed());
        if !self.to_server.is_flushed() || self.session.has_questions() || self.context.own.is_asked() {
            return;
        }
        let is_known = !self.context.own.is_unconfirmed();
        if !is_known && self.context.own.is_confirmed_soon(Instant::now()) {
            return self.await_look();
        }
        let state = match self.session.check_in_state() {
            Ok(state) => Some(state),
            Err(_spoiled) if self.session.has_spoiled_connection() => None,
            Err(_pinned) => return,
        };
        if self.stays_for_sequences() {
            return;
        }
        let parting = self.context.cancel.part();
        if parting == Parting::Later {
            return self.slot.due_by(Instant::now() + TICK);
        }
        let answered_at = self.answered_at;
        self.context.last = Some(server);
        let defaults = self.context.own.digest();
        self.context.carried = carried_for(&self.session.state(), defaults);
        let own = is_new.then(|| Arc::clone(&self.context.own));
        let Some(mut left) = self.release_parted() else { return };
        self.session.connection_left();
        left.own = own.or(left.own);
        let reason = match state {
            Some(state) if is_pooled && is_known && parting == Parting::Now => {
                // It has been idle since its server has answered, a moment ago.
                return self.worker.check_in_under(&self.live, left, state, defaults, answered_at);
            }
            None => PoolCloseReason::Pinned,
            Some(_) if parting == Parting::Never => PoolCloseReason::Canceled,
            Some(_) => PoolCloseReason::Login,
        };
        if is_pooled {
            self.worker.metrics.pool_closed.one(reason);
        }
        left.terminate();
    }

    /// Has the session woken once the defaults of its login have been read: until then no other session may have its connection.
    fn await_look(&mut self) {
        if std::mem::replace(&mut self.context.awaits_look, true) {
            return;
        }
        let Some(ServerConnection { lease, .. }) = self.server.connection() else { return };
        let (server, number, worker) = (lease.server(), self.slot.number(), Rc::clone(&self.worker));
        spawn(async move {
            let looked = worker.shared.defaults.next_look(server);
            let _elapsed = timer::timeout(TICK, looked).await;
            worker.slots.wake(number);
        });
    }

    /// Whether the client leaves an idle session, whose server connection another may have: the server is told nothing.
    #[inline]
    pub(super) fn keeps_server_without_client(&self) -> bool {
        self.context.seat.is_some() && self.is_idle()
    }

    /// What the session leaves on its connection at its end; `None` if no other may have it.
    pub(super) fn state_left(&self) -> Option<ConnectionState> {
        self.context.seat.as_ref()?;
        let is_kept = matches!(self.server.connection(), Some(ServerConnection { member: Some(_), .. }))
            && self.is_idle()
            && self.to_server.is_flushed()
            && !self.watch.is_leaving()
            && !self.context.own.is_asked();
        is_kept.then(|| self.session.connection_state())
    }

    /// Gives the connection back at the end of the session, if another may have it.
    pub(super) fn give_back(&mut self, state: Option<ConnectionState>, work: WorkLeft) {
        let may_part = state.is_some() && self.context.cancel.part() == Parting::Now;
        let mode = self.context.seat.as_ref().map(|seat| seat.mode());
        let Some(server) = self.release() else { return };
        // One that speaks notices at once that nobody listens any more.
        if state.is_none() && work == WorkLeft::Some && server.member.is_some() && server.stream.is_silent() {
            spawn(see_off(Rc::clone(&self.worker), server));
            return;
        }
        let (Some(state), Some(mode), true) = (state, mode, may_part) else { return };
        let left = LeftConnection { server, state, mode, own: Arc::clone(&self.context.own) };
        if left.own.is_unconfirmed() && mode != SeatMode::Own {
            let told = ReportedDefaults::of(self.session.defaults());
            let names = Arc::clone(&self.context.info.names);
            spawn(confirm(Rc::clone(&self.worker), left, names, told));
        } else {
            left.give_back(&self.worker);
        }
    }
}

/// Whether a session leaves its server with a request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkLeft {
    None,
    Some,
}
