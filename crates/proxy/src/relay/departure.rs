//! Leaving a server that still answers, or is of no use: when it is the session's turn, and when it cannot.

use std::task::Context;
use std::time::Instant;

use trunkline_topology::ServerId;

use super::attach::Attachment;
use super::{Ending, Relay};
use crate::errors::Refusal;
use crate::limits::{LOOK_INTERVAL, TICK};
use crate::pool::connection::ServerConnection;
use trunkline_telemetry::metrics::MoveCause;

/// How a session is to leave its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedMove {
    pub(super) cause: MoveCause,
    pub(super) urgency: Urgency,
    pub(super) if_unmovable: IfUnmovable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// The server is of no use.
    AtOnce,
    /// It still serves: others leave first, so that they do not all log in elsewhere at one time.
    InTurn,
}

/// What becomes of a session that cannot leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfUnmovable {
    Stay,
    End,
}

impl PlannedMove {
    pub(super) const REBALANCE: PlannedMove = PlannedMove {
        cause: MoveCause::Rebalance,
        urgency: Urgency::InTurn,
        if_unmovable: IfUnmovable::Stay,
    };
}

impl Relay {
    /// Leaves the server if it can, and if it is its turn; `Some` when the session ends instead.
    pub(super) fn depart(&mut self, cx: &mut Context<'_>, planned: PlannedMove) -> Option<Ending> {
        let is_known_soon = match planned.urgency {
            Urgency::InTurn => !self.session.settle_calls_before_leaving(),
            Urgency::AtOnce => !self.session.settle_calls(),
        };
        if planned.urgency == Urgency::InTurn && self.await_confirmation() {
            return None;
        }
        let ServerConnection { lease, name, .. } = self.server.connection()?;
        if is_known_soon && (planned.urgency == Urgency::InTurn || !self.can_leave()) {
            self.slot.due_by(Instant::now() + TICK);
            return None;
        }
        let now = Instant::now();
        let is_in_turn = planned.urgency == Urgency::InTurn;
        let stays = is_in_turn && self.session.stays_for().is_some();
        let is_kept =
            stays || (is_in_turn && self.is_refused_elsewhere(&self.watch.rare().refusals.skipped(now)));
        if is_kept || !self.can_leave() {
            let is_unmovable = stays
                || !self.can_leave()
                || self.is_refused_elsewhere(&self.watch.rare().refusals.lasting(now));
            let must_end = planned.if_unmovable == IfUnmovable::End && !self.watch.is_leaving();
            if must_end && is_unmovable && self.has_room_elsewhere() {
                let server = name.to_string();
                return Some(self.refuse(&Refusal::Lagging { server }));
            }
            if planned.cause == MoveCause::Rebalance {
                self.watch.must_leave = None;
            } else if is_kept {
                self.slot.due_by(now + LOOK_INTERVAL);
            }
            return None;
        }
        if is_in_turn && let Some(questions) = self.session.last_questions() {
            self.forward_to_server(cx, &questions, now);
            return None;
        }
        let look_again = match planned.urgency {
            Urgency::AtOnce => None,
            Urgency::InTurn => self.not_before(lease.server(), now),
        };
        match (look_again, planned.cause) {
            (None, cause) if is_in_turn => self.plan_move(cause),
            (None, cause) => self.leave(cx, cause),
            // Asked again if it is still wanted.
            (Some(_), MoveCause::Rebalance) => self.watch.must_leave = None,
            (Some(at), MoveCause::Ineligible | MoveCause::ServerLost) => self.slot.due_by(at),
        }
        None
    }

    /// When to ask again whether it is the session's turn to leave `server`; `None` when it is.
    fn not_before(&self, server: ServerId, now: Instant) -> Option<Instant> {
        let latest = self.watch.rare().stays_until.max(self.watch.rare().next_search);
        if let Some(until) = latest.filter(|until| *until > now) {
            return Some(until);
        }
        if !self.worker.shared.pace.has_second_connection() {
            return Some(now + TICK);
        }
        if !self.has_room_elsewhere() {
            return Some(now + LOOK_INTERVAL);
        }
        let most = self.live.limits.moves_per_second_max;
        (!self.worker.shared.pace.may_leave(server, most, now)).then(|| now + TICK)
    }

    /// Whether these servers, which have refused the session a moment ago, are all that would do.
    pub(super) fn is_refused_elsewhere(&self, refused_by: &[ServerId]) -> bool {
        !refused_by.is_empty() && !self.other_servers().any(|id| !refused_by.contains(&id))
    }

    /// The other servers that would do.
    fn other_servers(&self) -> impl Iterator<Item = ServerId> {
        let shared = &self.worker.shared;
        let own = self.server.connection().map(|server| server.lease.server());
        let eligible = self.context.criteria.eligible(&shared.health.load(), &self.live, &shared.attached);
        eligible.servers.into_iter().map(|candidate| candidate.id).filter(move |id| Some(*id) != own)
    }

    /// Others may have come first to where there was room when health had its news.
    pub(super) fn has_room_elsewhere(&self) -> bool {
        self.other_servers().next().is_some()
    }

    /// Whether others would do, but none of them has room.
    pub(super) fn are_others_full(&self) -> bool {
        let shared = &self.worker.shared;
        let eligible = self.context.criteria.eligible(&shared.health.load(), &self.live, &shared.attached);
        (eligible.is_full || eligible.is_saturated) && !self.has_room_elsewhere()
    }

    /// Whether the session can do without its server until the client speaks, and then take another.
    pub(super) fn can_leave(&self) -> bool {
        let is_on_one = matches!(self.server, Attachment::Attached(_));
        is_on_one
            && self.context.relogin.is_some()
            && self.session.movability().is_ok()
            && !self.watch.is_leaving()
    }
}
