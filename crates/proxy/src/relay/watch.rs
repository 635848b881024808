//! What a session heeds besides bytes: orders, health, and its own deadlines.

use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use trunkline_health::{Role, State, pool};
use trunkline_session::{PinReason, ServerLoss, TransactionStatus};

use super::attach::Server;
use super::{Ending, Relay};
use crate::errors::{IdleLimit, Refusal};
use crate::limits::{FAREWELL_PATIENCE, STALL_TIMEOUT};
use crate::metrics::{IneligibleState, MoveCause};
use crate::worker::{Order, Slot};

/// What is being watched for.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The server said goodbye and has until then to close.
    leaving: Option<Instant>,
    /// Health says the server is down; if it stays silent until then, it is given up.
    stalled: Option<Instant>,
    /// Health has news that have not been looked at.
    must_look: bool,
    /// Health says the server is down.
    is_down: bool,
    /// The session is to leave its server at its next idle point.
    must_leave: Option<MoveCause>,
    /// The session's server has been found ineligible, and that was counted.
    is_marked: bool,
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

    /// What followed the server's goodbye shows that it was none.
    pub(super) fn stays(&mut self) {
        self.leaving = None;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }
}

impl Relay {
    /// Obeys what the worker has ordered; `Some` when it ends the session.
    pub(super) fn heed_orders(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        let ending = match self.slot.take_order() {
            Order::None => None,
            Order::Kill => return Some(self.kill()),
            // The two outrank a recheck and may stand in its place.
            Order::Drain => {
                self.watch.must_look();
                self.check_deadlines()
            }
            Order::Move => {
                self.watch.must_look();
                self.watch.must_leave = Some(MoveCause::Rebalance);
                None
            }
            Order::Recheck => {
                self.live = self.worker.shared.live();
                self.watch.must_look();
                self.check_deadlines()
            }
        };
        ending.or_else(|| self.look(cx))
    }

    /// Looks at health's news, before anything more goes to the server; `Some` when they end the session.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if !std::mem::take(&mut self.watch.must_look) {
            return None;
        }
        self.look_at_health();
        let Server::Attached { lease, .. } = &self.server else { return None };
        if !self.worker.shared.health.load().is_fenced_primary(lease.node()) {
            return None;
        }
        if self.is_idle() && self.can_leave() {
            self.leave(cx, MoveCause::Ineligible);
            return None;
        }
        self.server_lost(ServerLoss::GivenUp)
    }

    /// What is due when neither pump can go on; `Some` when it ends the session.
    pub(super) fn at_rest(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if let Some(cause) = self.watch.must_leave
            && self.is_idle()
        {
            self.watch.must_leave = None;
            if self.can_leave() {
                self.leave(cx, cause);
            }
        }
        if self.watch.is_down && !self.is_idle() && matches!(self.server, Server::Attached { .. }) {
            let until = *self.watch.stalled.get_or_insert_with(|| Instant::now() + STALL_TIMEOUT);
            self.slot.set_due(Some(until));
        }
        if self.slot.is_draining() && self.is_idle() {
            return Some(self.refuse(&Refusal::ShuttingDown));
        }
        self.plan_idle_limit();
        None
    }

    /// No request is owed an answer, and none has been begun.
    fn is_idle(&self) -> bool {
        let is_searching = matches!(self.server, Server::Taking(_));
        !is_searching && self.session.is_idle() && self.to_server.tail().is_empty()
    }

    /// Every request is answered, be it inside a transaction: only the client can go on.
    fn is_clients_turn(&self) -> bool {
        let is_between_requests = matches!(self.session.pinned(), None | Some(PinReason::Transaction));
        let is_searching = matches!(self.server, Server::Taking(_));
        is_between_requests
            && !is_searching
            && self.session.outstanding() == 0
            && self.to_server.tail().is_empty()
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
        let Server::Attached { lease, name, .. } = &self.server else { return };
        let (node, name) = (lease.node(), Arc::clone(name));
        let snapshot = self.worker.shared.health.load();
        let Some(status) = snapshot.node(node) else { return };
        self.watch.is_down = status.state == State::Down;
        if !self.watch.is_down {
            // It answers health again: its silence here is the query's own.
            self.watch.stalled = None;
        }
        let want = self.about.want;
        let is_named = want.only.is_some();
        if is_named || pool::may_stay(&snapshot, want.attrs, &self.live.fallback, node) {
            self.watch.is_marked = false;
            if self.watch.must_leave == Some(MoveCause::Ineligible) {
                self.watch.must_leave = None;
            }
            return;
        }
        // With nowhere to go, a stale answer or a full server is better than none; not so a fenced one.
        if pool::is_worse_than_none(&snapshot, want.attrs, node)
            || !pool::candidates(&snapshot, want.attrs, &self.live.fallback).nodes.is_empty()
        {
            self.watch.must_leave = Some(MoveCause::Ineligible);
        }
        if !std::mem::replace(&mut self.watch.is_marked, true) {
            let pinned = self.session.movability().err().map(|reason| reason.to_string());
            tracing::info!(
                session.id = self.about.info.id.0, node = %name, state = %status.state, pinned,
                "session is on a server that is no longer eligible"
            );
            self.worker.metrics.node(node).sessions_ineligible.one(reason(status.state, status.role));
        }
    }

    /// Whether the session can do without its server until the client speaks, and then take another.
    fn can_leave(&self) -> bool {
        let is_on_one = matches!(self.server, Server::Attached { .. });
        is_on_one
            && self.about.relogin.is_some()
            && self.session.movability().is_ok()
            && !self.watch.is_leaving()
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
