//! Brings a connection that was idle in a pool to a session's state.

use std::time::Duration;

use trunkline_health::PassiveFailure;
use trunkline_pool::CheckFirst;
use trunkline_session::SessionState;
use trunkline_telemetry::metrics::{FailoverCause, MoveRefusal, PoolCloseReason};
use trunkline_topology::ServerId;

use super::align::position;
use super::connection::ReadyServer;
use super::login::LoginReply;
use super::patience::answered;
use super::take::{ChoiceReason, Search, TakeError};
use crate::pool::connection::ServerConnection;

/// What others have done on the connection that a session is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionUse {
    /// Nothing, or nothing that matters.
    New,
    /// They have used it.
    Used,
    /// They have used one, which cannot be brought to the session's state: it needs a new one.
    Spoiled,
}

impl Search<'_> {
    /// Brings an idle connection to the session's state; `None` when it was lost, or the server is behind, and another should
    /// be tried.
    pub(super) async fn align_idle(
        &mut self,
        server: Box<ServerConnection>,
        wanted: &SessionState,
        check: CheckFirst,
        timeout: Duration,
    ) -> Result<Option<ReadyServer>, TakeError> {
        let login_reply = LoginReply { is_standby: server.is_standby, ..LoginReply::default() };
        let mut taken = ReadyServer { server, login_reply, choice: ChoiceReason::Regular };
        if check == CheckFirst::Needed {
            let id = taken.server.lease.server();
            let sign_of_life = answered(&self.worker.shared.health, id, timeout, position(&mut taken)).await;
            if !matches!(sign_of_life, Ok(Ok(_position))) {
                tracing::debug!(server.name = %taken.server.name, "an idle connection to the server was dead");
                self.worker.metrics.pool_closed.one(PoolCloseReason::CheckFailed);
                if sign_of_life.is_err() {
                    let (failure, cause) = (PassiveFailure::ServerLost, FailoverCause::LostInLogin);
                    self.failed(id, failure, cause, MoveRefusal::Timeout);
                }
                return Ok(None);
            }
            if let Some(member) = &taken.server.member {
                member.checked();
            }
        }
        self.aligns = ConnectionUse::Used;
        let aligned = self.align(taken, wanted, timeout).await?;
        if self.aligns == ConnectionUse::Used {
            self.aligns = ConnectionUse::New;
        }
        Ok(aligned)
    }

    /// A server has refused the session's state. On a connection that others have used, that may be what they have done there:
    /// some settings cannot be set once temporary tables were used, or a library has been loaded.
    pub(super) fn state_refused(&mut self, server: ServerId) {
        if self.aligns == ConnectionUse::Used {
            self.worker.metrics.pool_closed.one(PoolCloseReason::ResetFailed);
            self.aligns = ConnectionUse::Spoiled;
            return;
        }
        self.refused(server, MoveRefusal::State);
    }
}
