//! A role, or its new password, that a standby has not replayed yet.
//!
//! The proxy reads secrets from the primary. It may accept a client whose role or password was just created, and
//! then connect to a standby that has not replayed that yet. A few milliseconds later it has. So it is with a standby
//! that crashed: it lets clients in before it has replayed all that it showed.

use std::time::Duration;

use trunkline_codec::sqlstate::SqlState;
use trunkline_topology::Role;

use super::login::LoginError;
use super::take::Search;
use crate::limits::{ROLE_LOOKS_MAX, ROLE_PAUSE};
use crate::pool::connection::ServerConnection;

impl Search<'_> {
    /// How long to wait before the login is tried again; `None` when the refusal is final.
    ///
    /// The login is tried again only on a standby, and only for a client that the proxy has just authenticated
    /// against the primary's secrets, or that takes another connection of its pool. A session that moves has other
    /// servers to ask, and may stay: its refusal is final.
    pub(super) fn pause_for_role(
        &mut self,
        server: &ServerConnection,
        error: &LoginError,
    ) -> Option<Duration> {
        let LoginError::Refused { code: Some(SqlState::INVALID_PASSWORD), .. } = error else { return None };
        let snapshot = self.worker.shared.health.load();
        let is_standby =
            snapshot.server(server.lease.server()).is_some_and(|status| status.role == Role::Standby);
        if !is_standby || !self.is_vouched_for || self.moving.is_some() || self.role_looks >= ROLE_LOOKS_MAX {
            return None;
        }
        // Another server may know it already, which costs less than a wait.
        if !self.is_last(server.lease.server()) {
            return None;
        }
        let pause = ROLE_PAUSE * 2_u32.pow(self.role_looks);
        self.role_looks += 1;
        tracing::debug!(server.name = %server.name, ?pause, "standby refuses a password that the primary accepts");
        Some(pause)
    }
}
