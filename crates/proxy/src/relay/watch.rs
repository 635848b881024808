//! What a session reacts to besides bytes: the worker's orders, verdicts, and its own deadlines.

use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use trunkline_routing::eligible;
use trunkline_session::{PinReason, ServerLoss, TransactionStatus};
use trunkline_topology::{Role, State};

use super::attach::Attachment;
use super::departure::{IfUnmovable, PlannedMove, Urgency};
use super::inquiry::TerminationInquiry;
use super::planned::{PlannedSearch, Refusals};
use super::pooled::Staying;
use super::repeat::RepeatSearch;
use super::{Ending, Relay};
use crate::context::{FillOffer, Order, Slot};
use crate::errors::{IdleLimit, Refusal};
use crate::limits::{FAREWELL_PATIENCE, TICK};
use crate::pool::connection::ServerConnection;
use crate::settings::OnLagging;
use trunkline_telemetry::metrics::{IneligibleState, MoveCause};

/// What the session watches.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// What only few sessions have to remember.
    rare: Option<Box<RarelyWatched>>,
    /// Nothing goes between the client and the server until this is over.
    pause: Option<Box<Pause>>,
    /// Verdicts have changed, and the session has not checked them.
    must_look: bool,
    /// The server is down according to health.
    is_down: bool,
    /// And that it does not answer at all.
    is_silent: bool,
    /// The session is to leave its server at its next idle point.
    pub(super) must_leave: Option<PlannedMove>,
    /// The session's server has been found ineligible, which is counted once.
    is_marked: bool,
}

/// What a session watches whose server is in trouble, or that may not go to another.
#[derive(Debug, Default)]
pub(super) struct RarelyWatched {
    /// The server sent a FATAL error, and must close the connection by then.
    leaving: Option<Instant>,
    /// The server is down according to health. If it stays silent until then, it is given up.
    stalled: Option<Instant>,
    /// The session came here because the other servers were behind. It does not try them again until then.
    pub(super) stays_until: Option<Instant>,
    /// When the session may search for another server again.
    pub(super) next_search: Option<Instant>,
    /// When it was last looked whether a client that sends nothing more still reads.
    pub(super) client_looked_at: Option<Instant>,
    /// Servers that have refused the session since it came to this one.
    pub(super) refusals: Refusals,
}

impl RarelyWatched {
    /// That of nearly all sessions.
    const NOTHING: RarelyWatched = RarelyWatched {
        leaving: None,
        stalled: None,
        stays_until: None,
        next_search: None,
        client_looked_at: None,
        refusals: Refusals::NONE,
    };
}

/// What a session with a server may wait for.
#[derive(Debug)]
pub(super) enum Pause {
    /// The answer whether the server shuts down or an operator has terminated the session.
    Inquiry(TerminationInquiry),
    /// Another server, to which the session moves.
    Moving(PlannedSearch),
    /// Another server for the request in flight.
    Repeating(RepeatSearch),
}

impl Watch {
    /// For a session that has just begun: verdicts may have changed during its login.
    pub(super) fn new() -> Self {
        Watch { must_look: true, ..Watch::default() }
    }

    /// What only few sessions have to remember.
    #[inline]
    pub(super) fn rare(&self) -> &RarelyWatched {
        static NOTHING: RarelyWatched = RarelyWatched::NOTHING;
        self.rare.as_deref().unwrap_or(&NOTHING)
    }

    /// The same, to add to it.
    #[cold]
    pub(super) fn rare_mut(&mut self) -> &mut RarelyWatched {
        self.rare.get_or_insert_default()
    }

    /// The server has sent something.
    #[inline]
    pub(super) fn heard(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.stalled = None;
        }
    }

    /// The session has a new server, or none: forgets everything about the old one.
    pub(super) fn attached(&mut self) {
        *self = Watch::default();
    }

    pub(super) fn farewell(&mut self, now: Instant, slot: &Slot) {
        let until = *self.rare_mut().leaving.get_or_insert(now + FAREWELL_PATIENCE);
        slot.set_due(Some(until));
    }

    /// The verdict on the session's server may have changed.
    pub(super) fn must_look(&mut self) {
        self.must_look = true;
    }

    /// The session stays on its server until then.
    pub(super) fn stays_until(&mut self, until: Instant) {
        self.rare_mut().stays_until = Some(until);
    }

    /// The server goes on after its FATAL error, so it does not close.
    #[inline]
    pub(super) fn stays(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.leaving = None;
        }
    }

    /// Has the session wait, in place of what it waits for now.
    pub(super) fn pause(&mut self, pause: Pause) {
        self.pause = Some(Box::new(pause));
    }

    #[inline]
    pub(super) fn paused(&mut self) -> Option<&mut Pause> {
        self.pause.as_deref_mut()
    }

    /// The session waits no longer.
    pub(super) fn ends_pause(&mut self) {
        self.pause = None;
    }

    /// Takes the search for another server, if there is one.
    pub(super) fn end_search(&mut self) -> Option<PlannedSearch> {
        match *self.pause.take()? {
            Pause::Moving(planned) => Some(planned),
            other @ (Pause::Inquiry(_) | Pause::Repeating(_)) => {
                self.pause(other);
                None
            }
        }
    }

    /// Why another server is being searched for.
    fn moves_for(&self) -> Option<MoveCause> {
        match self.pause.as_deref() {
            Some(Pause::Moving(search)) => Some(search.cause()),
            Some(Pause::Inquiry(_) | Pause::Repeating(_)) | None => None,
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.rare().leaving.is_some() || self.pause.is_some()
    }
}

impl Relay {
    /// Carries out the worker's order; `Some` when it ends the session.
    pub(super) fn heed_orders(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        match self.slot.take_order() {
            Order::None => return self.look(cx),
            Order::Kill => return Some(self.kill()),
            Order::Move => self.watch.must_leave = Some(PlannedMove::REBALANCE),
            Order::Drain | Order::Recheck => {}
        }
        // An order replaces a pending recheck, so each implies one.
        self.live = self.worker.shared.live();
        self.offer_login(FillOffer::Session);
        self.watch.must_look();
        self.context.staying = Staying::Unknown;
        self.check_deadlines().or_else(|| self.look(cx))
    }

    /// Checks the verdicts before anything more is sent to the server; `Some` when they end the session.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if !std::mem::take(&mut self.watch.must_look) {
            return None;
        }
        self.look_at_health();
        let is_useless = self.watch.must_leave.is_some_and(|planned| planned.urgency == Urgency::AtOnce);
        if is_useless && self.watch.moves_for().is_some() {
            // The request that waits for the search must not go to this server.
            self.break_off();
            if self.is_idle() && self.can_leave() {
                self.leave(cx, MoveCause::Ineligible);
                return None;
            }
        }
        let ServerConnection { lease, .. } = self.server.connection()?;
        if !self.worker.shared.health.load().is_fenced_primary(lease.server()) {
            return None;
        }
        self.watch.end_search();
        if self.is_idle() && self.can_leave() {
            self.leave(cx, MoveCause::Ineligible);
            return None;
        }
        self.context.cancel.cancel_work(&self.worker.connector);
        self.server_lost(ServerLoss::GivenUp)
    }

    /// Does what is due when both pumps are blocked; `Some` when it ends the session.
    #[inline]
    pub(super) fn at_rest(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if (self.watch.is_down || self.slot.is_draining())
            && let Some(ending) = self.see_to_the_end(cx)
        {
            return Some(ending);
        }
        if self.watch.moves_for().is_some() {
            return None;
        }
        if self.may_have_vanished()
            && let Some(ending) = self.look_for_client(cx)
        {
            return Some(ending);
        }
        self.plan_idle_limit();
        if !self.session.settle_calls() {
            self.slot.due_by(Instant::now() + TICK);
        }
        if self.context.own.is_unconfirmed() && self.context.relogin.is_some() {
            // Only between requests.
            if self.is_idle() {
                self.confirm_defaults();
            }
            self.await_confirmation();
        }
        if self.session.has_questions()
            && self.can_ask()
            && let Some(questions) = self.session.questions()
        {
            self.forward_to_server(cx, &questions, Instant::now());
        }
        if self.context.own.is_asked() {
            self.take_defaults();
        }
        if self.context.seat.is_some() {
            self.give_back_at_rest();
            if let Some(ending) = self.split_rests(cx) {
                return Some(ending);
            }
        }
        match self.watch.must_leave {
            Some(planned) if self.is_idle() => self.depart(cx, planned),
            Some(_) | None => None,
        }
    }

    /// Whether the proxy may send a query of its own for this session.
    fn can_ask(&self) -> bool {
        let is_pinned = self.session.must_read_back() || self.session.must_ask_for_pins();
        let must_ask = is_pinned && self.context.relogin.is_some();
        let is_needed = must_ask || self.session.must_recover() || self.session.owes_position();
        let is_on_one = matches!(self.server, Attachment::Attached(_)) && !self.watch.is_leaving();
        (self.can_leave() || (is_on_one && is_needed)) && self.to_server.is_flushed()
    }

    /// Handles a server that is down, and the shutdown of the proxy.
    #[cold]
    fn see_to_the_end(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        // While the client does not take the answer, the server is not read, so its silence means nothing.
        let is_awaited = !self.is_idle() && self.to_client.is_flushed();
        if self.watch.is_down && is_awaited && matches!(self.server, Attachment::Attached(_)) {
            if self.watch.is_silent && self.can_repeat_elsewhere() {
                // Nothing is lost by not waiting: the answer comes from elsewhere.
                cx.waker().wake_by_ref();
                return self.server_lost(ServerLoss::TimedOut);
            }
            let stalled = &mut self.watch.rare_mut().stalled;
            let until = *stalled.get_or_insert_with(|| Instant::now() + self.live.timeouts.server_stall);
            self.slot.due_by(until);
        }
        if self.slot.is_draining() && self.is_idle() {
            return Some(self.refuse(&Refusal::ShuttingDown));
        }
        None
    }

    /// The session may stay on its server, or no other server is better.
    fn need_not_leave(&mut self) {
        if self.watch.must_leave.is_some_and(|planned| planned.cause == MoveCause::Ineligible) {
            self.watch.must_leave = None;
        }
        if self.watch.moves_for() == Some(MoveCause::Ineligible) {
            self.break_off();
        }
    }

    /// Whether no request is outstanding, and none has begun to arrive.
    pub(super) fn is_idle(&self) -> bool {
        let is_searching = matches!(self.server, Attachment::Queued(_) | Attachment::Taking(_));
        !is_searching && self.session.is_idle() && self.to_server.input.held().is_empty()
    }

    /// Whether all requests are answered, even within a transaction: the client has to send the next one.
    fn is_clients_turn(&self) -> bool {
        let is_between_requests = matches!(self.session.pinned(), None | Some(PinReason::Transaction));
        let is_searching = matches!(self.server, Attachment::Queued(_) | Attachment::Taking(_));
        is_between_requests
            && !is_searching
            && self.session.outstanding() == 0
            && self.to_server.input.held().is_empty()
    }

    fn check_deadlines(&mut self) -> Option<Ending> {
        let now = Instant::now();
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if is_over(self.watch.rare().leaving) {
            self.watch.stays();
            return self.server_lost(ServerLoss::Eof);
        }
        if is_over(self.watch.rare().stalled) {
            self.watch.heard();
            return self.server_lost(ServerLoss::TimedOut);
        }
        let (limit, kind) = self.idle_limit();
        if !limit.is_zero() && self.idle_since.is_some_and(|since| since + limit <= now) {
            return Some(self.refuse(&Refusal::Idle(kind)));
        }
        None
    }

    /// Checks whether the session's server is still eligible. If not, and another server is better, the session
    /// leaves at its next idle point.
    fn look_at_health(&mut self) {
        let Some(ServerConnection { lease, name, .. }) = self.server.connection() else { return };
        let (server, name) = (lease.server(), Arc::clone(name));
        let snapshot = self.worker.shared.health.load();
        let Some(status) = snapshot.server(server) else { return };
        self.watch.is_down = status.state == State::Down;
        self.watch.is_silent = self.watch.is_down && status.silent;
        if let Some(rare) = self.watch.rare.as_mut().filter(|_| !status.state.takes_new()) {
            // The server is no better than others any more.
            rare.stays_until = None;
        }
        if !self.watch.is_down {
            // It answers probes again: its silence here means that the query takes long.
            self.watch.heard();
        }
        let criteria = &self.context.criteria;
        let is_kept = status.state == State::Lagging && self.live.session.on_lagging == OnLagging::Keep;
        let stays = criteria.only.is_some() || is_kept;
        if stays || eligible::may_stay(&criteria.rules(&self.live), &snapshot, server) {
            self.watch.is_marked = false;
            self.need_not_leave();
            return;
        }
        // If no other server is eligible, a stale or full server is better than none, but a fenced one is not.
        let is_useless = eligible::is_worse_than_none(&snapshot, criteria.attrs, server);
        let eligible = criteria.eligible(&snapshot, &self.live, &self.worker.shared.attached);
        let is_promoted = status.role == Role::Primary && snapshot.primary != Some(server);
        let is_gone = is_useless || is_promoted || status.state == State::Down;
        // If the others are full, it leaves once one of them has room.
        let waits_for_room = eligible.is_full || (eligible.is_saturated && !status.saturated && !is_gone);
        if is_useless || waits_for_room || !eligible.servers.is_empty() {
            let must_end = status.state == State::Lagging && self.live.session.on_lagging == OnLagging::Drain;
            self.watch.must_leave = Some(PlannedMove {
                cause: MoveCause::Ineligible,
                urgency: if is_gone { Urgency::AtOnce } else { Urgency::InTurn },
                if_unmovable: if must_end { IfUnmovable::End } else { IfUnmovable::Stay },
            });
        } else {
            self.need_not_leave();
        }
        if !std::mem::replace(&mut self.watch.is_marked, true) {
            let pinned = self.session.movability().err().map(|reason| reason.to_string());
            tracing::debug!(
                session.id = self.context.info.id.0, server.name = %name, state = %status.state, pinned,
                "session is on a server that is no longer eligible"
            );
            self.worker.metrics.server(server).sessions_ineligible.one(reason(status.state, status.role));
        }
    }

    fn idle_limit(&self) -> (Duration, IdleLimit) {
        match self.session.transaction_status() {
            TransactionStatus::Idle => (self.live.timeouts.idle_session, IdleLimit::Session),
            TransactionStatus::InTransaction | TransactionStatus::Failed => {
                (self.live.timeouts.idle_in_transaction, IdleLimit::InTransaction)
            }
        }
    }

    /// Has the worker wake the session at its idle limit.
    #[inline]
    fn plan_idle_limit(&mut self) {
        let (limit, _) = self.idle_limit();
        if limit.is_zero() || self.watch.is_leaving() || self.watch.rare().stalled.is_some() {
            return;
        }
        if self.is_clients_turn() {
            let since = *self.idle_since.get_or_insert_with(Instant::now);
            self.slot.set_due(Some(since + limit));
        } else {
            self.idle_since = None;
        }
    }
}

fn reason(state: State, role: Role) -> IneligibleState {
    match (state, role) {
        (State::Lagging, _) => IneligibleState::Lagging,
        (State::Drain, _) => IneligibleState::Drain,
        (State::Maint, _) => IneligibleState::Maint,
        (State::Down | State::Unknown, _) => IneligibleState::Down,
        (State::Fenced, _) => IneligibleState::Fenced,
        (State::Up, _) => IneligibleState::Role,
    }
}
