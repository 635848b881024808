//! A unit that its standby has not run: the standby is lost, or leaves it to another server.

use std::time::Instant;

use trunkline_session::{ServerRole, StandbyRefusal};
use trunkline_telemetry::metrics::PoolCloseReason;

use super::state::{Lesson, StandbyConnection, UnitPlace};
use super::transaction::give_back_unused;
use crate::cancel::Parting;
use crate::relay::{ClientState, Relay};

impl Relay {
    /// Whether the standby that has the session's unit may have done what it writes, so that it must not be sent again: it has been
    /// promoted since health looked, if no other server is the primary. A unit that has run on a standby before does not write.
    pub(in crate::relay) fn may_be_done(&self) -> bool {
        let (Some(split), Some(connection)) = (&self.context.split, self.server.connection()) else {
            return false;
        };
        let UnitPlace::OnStandby(unit) = split.place else { return false };
        let server = connection.lease.server();
        let snapshot = self.worker.shared.health.load();
        let has_other = snapshot.serving_primary().is_some_and(|primary| primary.id != server);
        !has_other && !split.only_reads(unit, self.session.settings_fingerprint())
    }

    /// The session is about to leave a standby that has not run its unit.
    pub(in crate::relay) fn unit_is_not_run(&mut self) {
        if let Some(split) = &mut self.context.split
            && let UnitPlace::OnStandby(_) = split.place
        {
            split.place = UnitPlace::NotRun;
        }
    }

    /// The unit fails with its server: one that may be done counts as if it were.
    pub(in crate::relay) fn unit_fails(&mut self) {
        let is_promoted = self.session.server_role() == ServerRole::Primary || self.is_promoted();
        if !is_promoted && !self.may_be_done() {
            self.unit_is_not_run();
        } else if let Some(split) = &mut self.context.split
            && let UnitPlace::OnStandby(unit) = split.place
        {
            split.place = UnitPlace::ReadOnPrimary(unit);
        }
    }

    /// Sends the unit that a standby has refused to the primary. `said` is all that the standby has said, of which nothing was
    /// forwarded. `false` if the client is to get the refusal.
    pub(in crate::relay) fn leave_to_primary(&mut self, why: StandbyRefusal, said: &[u8]) -> bool {
        let can_repeat = self.client_state == ClientState::Speaking && self.session.repeatable().is_ok();
        let Some(split) = &mut self.context.split else { return false };
        let UnitPlace::OnStandby(unit) = split.place else { return false };
        if !can_repeat || split.unit.is_empty() {
            return false;
        }
        let lesson = match why {
            StandbyRefusal::Recovery => Lesson::Unit(unit.key),
            StandbyRefusal::Serializable | StandbyRefusal::Catalog => Lesson::Nothing,
        };
        let request = split.unit.clone();
        // Statements that the unit has prepared may still be there, unknown to the next session.
        let is_as_before = request.first() == Some(&b'Q') && said.ends_with(b"Z\0\0\0\x05I");
        let left = if is_as_before { StandbyConnection::AsBefore } else { StandbyConnection::Changed };
        self.journal.close(&mut self.worker.journals.borrow_mut());
        self.to_client.input.restart(&[]);
        self.to_server.input.process_again(request);
        self.session.rewind(Instant::now());
        self.part_from_standby(left);
        if let Some(split) = &mut self.context.split {
            split.refused = Some(lesson);
        }
        true
    }

    /// Gives back the connection of a standby that has refused a unit, if it is as it was before.
    pub(super) fn part_from_standby(&mut self, how: StandbyConnection) {
        let is_as_before = how == StandbyConnection::AsBefore;
        let state = self.session.check_in_state().ok().filter(|_| is_as_before);
        let unused = self.session.leave_unused_transaction().filter(|_| is_as_before);
        let parting = self.context.cancel.part();
        let defaults = self.context.own.digest();
        let is_known = !self.context.own.is_unconfirmed() && !self.context.own.is_asked();
        self.context.last = self.server.connection().map(|server| server.lease.server());
        let answered_at = self.answered_at;
        self.unit_is_not_run();
        let Some(left) = self.release() else { return };
        self.session.connection_left();
        let may_keep = left.member.is_some() && is_known && parting == Parting::Now;
        match (state, unused) {
            (Some(state), _) if may_keep => {
                self.worker.check_in_under(&self.live, left, state, defaults, answered_at);
            }
            (None, Some(unused)) if may_keep => give_back_unused(&self.worker, left, unused, defaults),
            (Some(_) | None, _) => {
                if left.member.is_some() {
                    self.worker.metrics.pool_closed.one(PoolCloseReason::Pinned);
                }
                left.terminate();
            }
        }
    }
}
