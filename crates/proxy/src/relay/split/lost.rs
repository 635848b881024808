//! A unit that its standby has not run: the standby is lost, or leaves it to another server.

use trunkline_session::ServerRole;

use super::state::UnitPlace;
use crate::relay::Relay;

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
        !has_other && !split.only_reads(unit)
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
}
