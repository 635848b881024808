//! What a session heeds besides bytes: orders, health, and its own deadlines.

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
use super::{Ending, Relay};
use crate::context::{Order, Slot};
use crate::errors::{IdleLimit, Refusal};
use crate::limits::{FAREWELL_PATIENCE, TICK};
use crate::settings::OnLagging;
use trunkline_telemetry::metrics::{IneligibleState, MoveCause};

/// What is being watched for.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The server said goodbye and has until then to close.
    leaving: Option<Instant>,
    /// Nothing goes between the client and the server until this is over.
    pause: Option<Box<Pause>>,
    /// Health says the server is down; if it stays silent until then, it is given up.
    stalled: Option<Instant>,
    /// Health has news that have not been looked at.
    must_look: bool,
    /// Health says the server is down.
    is_down: bool,
    /// And that it does not answer at all.
    is_silent: bool,
    /// The session is to leave its server at its next idle point.
    pub(super) must_leave: Option<PlannedMove>,
    /// The session came here because other servers showed less than it had seen: until then they are not tried again.
    pub(super) stays_until: Option<Instant>,
    /// The session's server has been found ineligible, and that was counted.
    is_marked: bool,
    /// When the session may search for another server again.
    pub(super) next_search: Option<Instant>,
    /// Servers that have refused the session since it came to this one.
    pub(super) refusals: Refusals,
}

/// What a session waits for while it has a server.
#[derive(Debug)]
pub(super) enum Pause {
    /// The server, or an operator, has ended the connection: which of them is being found out.
    Inquiry(TerminationInquiry),
    /// Another server is about to take the session.
    Moving(PlannedSearch),
}

impl Watch {
    /// Of a session that has just begun: health may have had news during its login.
    pub(super) fn new() -> Self {
        Watch { must_look: true, ..Watch::default() }
    }

    /// The server said something.
    pub(super) fn heard(&mut self) {
        self.stalled = None;
    }

    /// A new server, or none: nothing of the old one matters.
    pub(super) fn attached(&mut self) {
        *self = Watch::default();
    }

    pub(super) fn farewell(&mut self, now: Instant, slot: &Slot) {
        let until = *self.leaving.get_or_insert(now + FAREWELL_PATIENCE);
        slot.set_due(Some(until));
    }

    /// Health may have news of the session's server.
    pub(super) fn must_look(&mut self) {
        self.must_look = true;
    }

    /// The session is better off here than elsewhere, for a while.
    pub(super) fn stays_until(&mut self, until: Instant) {
        self.stays_until = Some(until);
    }

    /// What followed the server's goodbye shows that it was none.
    pub(super) fn stays(&mut self) {
        self.leaving = None;
    }

    /// Has the session wait, in place of what it waits for now.
    pub(super) fn pause(&mut self, pause: Pause) {
        self.pause = Some(Box::new(pause));
    }

    #[inline]
    pub(super) fn paused(&mut self) -> Option<&mut Pause> {
        self.pause.as_deref_mut()
    }

    /// It is known whose end the connection's was.
    pub(super) fn inquiry_answered(&mut self) {
        self.pause = None;
    }

    /// Takes the search for another server, if there is one.
    pub(super) fn end_search(&mut self) -> Option<PlannedSearch> {
        match *self.pause.take()? {
            Pause::Moving(planned) => Some(planned),
            inquiry @ Pause::Inquiry(_) => {
                self.pause(inquiry);
                None
            }
        }
    }

    /// Why another server is being searched for.
    fn moves_for(&self) -> Option<MoveCause> {
        match self.pause.as_deref() {
            Some(Pause::Moving(search)) => Some(search.cause()),
            Some(Pause::Inquiry(_)) | None => None,
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some() || self.pause.is_some()
    }
}

impl Relay {
    /// Obeys what the worker has ordered; `Some` when it ends the session.
    pub(super) fn heed_orders(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        match self.slot.take_order() {
            Order::None => return self.look(cx),
            Order::Kill => return Some(self.kill()),
            Order::Move => self.watch.must_leave = Some(PlannedMove::REBALANCE),
            Order::Drain | Order::Recheck => {}
        }
        // Any of them may stand in the place of a recheck.
        self.live = self.worker.shared.live();
        self.watch.must_look();
        self.check_deadlines().or_else(|| self.look(cx))
    }

    /// Looks at health's news, before anything more goes to the server; `Some` when they end the session.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if !std::mem::take(&mut self.watch.must_look) {
            return None;
        }
        self.look_at_health();
        let Attachment::Attached { lease, .. } = &self.server else { return None };
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

    /// What is due when neither pump can go on; `Some` when it ends the session.
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
        self.plan_idle_limit();
        if !self.session.settle_calls() {
            self.slot.due_by(Instant::now() + TICK);
        }
        if self.context.own.is_unconfirmed() && self.context.relogin.is_some() {
            // Not while it is being asked something else.
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
        match self.watch.must_leave {
            Some(planned) if self.is_idle() => self.depart(cx, planned),
            Some(_) | None => None,
        }
    }

    /// Whether the server may be asked something for the session's sake.
    fn can_ask(&self) -> bool {
        let must_ask = self.session.must_read_back() && self.context.relogin.is_some();
        let is_needed = must_ask || self.session.must_recover();
        let is_on_one = matches!(self.server, Attachment::Attached { .. }) && !self.watch.is_leaving();
        (self.can_leave() || (is_on_one && is_needed)) && self.to_server.is_flushed()
    }

    /// The server's, or that of the process.
    #[cold]
    fn see_to_the_end(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        // While the client does not take what came, nothing more is read: that silence is its own.
        let is_awaited = !self.is_idle() && self.to_client.is_flushed();
        if self.watch.is_down && is_awaited && matches!(self.server, Attachment::Attached { .. }) {
            if self.watch.is_silent && self.can_repeat_elsewhere() {
                // Nothing is lost by not waiting: the answer comes from elsewhere.
                cx.waker().wake_by_ref();
                return self.server_lost(ServerLoss::TimedOut);
            }
            let until =
                *self.watch.stalled.get_or_insert_with(|| Instant::now() + self.live.timeouts.server_stall);
            self.slot.due_by(until);
        }
        if self.slot.is_draining() && self.is_idle() {
            return Some(self.refuse(&Refusal::ShuttingDown));
        }
        None
    }

    /// The server may keep the session, or nothing better is left.
    fn need_not_leave(&mut self) {
        if self.watch.must_leave.is_some_and(|planned| planned.cause == MoveCause::Ineligible) {
            self.watch.must_leave = None;
        }
        if self.watch.moves_for() == Some(MoveCause::Ineligible) {
            self.break_off();
        }
    }

    /// No request is owed an answer, and none has been begun.
    pub(super) fn is_idle(&self) -> bool {
        let is_searching = matches!(self.server, Attachment::Taking(_));
        !is_searching && self.session.is_idle() && self.to_server.held().is_empty()
    }

    /// Every request is answered, be it inside a transaction: only the client can go on.
    fn is_clients_turn(&self) -> bool {
        let is_between_requests = matches!(self.session.pinned(), None | Some(PinReason::Transaction));
        let is_searching = matches!(self.server, Attachment::Taking(_));
        is_between_requests
            && !is_searching
            && self.session.outstanding() == 0
            && self.to_server.held().is_empty()
    }

    fn check_deadlines(&mut self) -> Option<Ending> {
        let now = Instant::now();
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if is_over(self.watch.leaving) {
            self.watch.leaving = None;
            return self.server_lost(ServerLoss::Eof);
        }
        if is_over(self.watch.stalled) {
            self.watch.stalled = None;
            return self.server_lost(ServerLoss::TimedOut);
        }
        let (limit, kind) = self.idle_limit();
        if !limit.is_zero() && self.idle_since.is_some_and(|since| since + limit <= now) {
            return Some(self.refuse(&Refusal::Idle(kind)));
        }
        None
    }

    /// Is the session's server still one it may have? If not, and another would do, the session leaves it at its
    /// next idle point.
    fn look_at_health(&mut self) {
        let Attachment::Attached { lease, name, .. } = &self.server else { return };
        let (server, name) = (lease.server(), Arc::clone(name));
        let snapshot = self.worker.shared.health.load();
        let Some(status) = snapshot.server(server) else { return };
        self.watch.is_down = status.state == State::Down;
        self.watch.is_silent = self.watch.is_down && status.silent;
        if !status.state.takes_new() {
            // The server is no better than others any more.
            self.watch.stays_until = None;
        }
        if !self.watch.is_down {
            // It answers health again: its silence here is the query's own.
            self.watch.stalled = None;
        }
        let criteria = self.context.criteria;
        let is_kept = status.state == State::Lagging && self.live.session.on_lagging == OnLagging::Keep;
        let stays = criteria.only.is_some() || is_kept;
        if stays || eligible::may_stay(&criteria.rules(&self.live), &snapshot, server) {
            self.watch.is_marked = false;
            self.need_not_leave();
            return;
        }
        // With nowhere to go, a stale answer or a full server is better than none; not so a fenced one.
        let is_useless = eligible::is_worse_than_none(&snapshot, criteria.attrs, server);
        let eligible = criteria.eligible(&snapshot, &self.live, &self.worker.shared.attached);
        // Where others are full, it leaves once one of them has room.
        if is_useless || eligible.is_full || !eligible.servers.is_empty() {
            let is_promoted = status.role == Role::Primary && snapshot.primary != Some(server);
            let is_gone = is_useless || is_promoted || status.state == State::Down;
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
            tracing::info!(
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

    /// Has the worker wake the session when its idle limit ends.
    #[inline]
    fn plan_idle_limit(&mut self) {
        let (limit, _) = self.idle_limit();
        if limit.is_zero() || self.watch.is_leaving() || self.watch.stalled.is_some() {
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
