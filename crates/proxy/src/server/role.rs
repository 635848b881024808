//! A role, or its new password, that a standby has yet to replay.
//!
//! Secrets are read from the primary as they are. A client that has just been given its role or password may so be
//! accepted by the proxy and then meet a standby that has not heard of it: some milliseconds help.

use std::time::Duration;

use trunkline_codec::sqlstate::SqlState;
use trunkline_topology::Role;

use super::login::LoginError;
use super::take::{Connected, Search};
use crate::limits::{ROLE_LOOKS_MAX, ROLE_PAUSE};

impl Search<'_> {
    /// How long to wait before the login is tried again; `None` when the refusal is to be believed.
    ///
    /// Only the primary's word counts for more than the standby's: it must be the proxy itself that has accepted the
    /// client, just now, so a session that moves with its old key is not meant.
    pub(super) fn pause_for_role(&mut self, server: &Connected, error: &LoginError) -> Option<Duration> {
        let LoginError::Refused { code: Some(SqlState::INVALID_PASSWORD), .. } = error else { return None };
        let snapshot = self.worker.shared.health.load();
        let is_standby =
            snapshot.server(server.lease.server()).is_some_and(|status| status.role == Role::Standby);
        if !is_standby || self.moving.is_some() || self.role_looks >= ROLE_LOOKS_MAX {
            return None;
        }
        let pause = ROLE_PAUSE * 2_u32.pow(self.role_looks);
        self.role_looks += 1;
        tracing::debug!(server.name = %server.name, ?pause, "standby refuses a password that the primary accepts");
        Some(pause)
    }
}
