//! The log of connections that become no session.

use std::sync::Arc;

use trunkline_codec::startup::StartupMessage;
use trunkline_telemetry::metrics::{Label as _, RefusalReason};
use trunkline_topology::ClientAddress;

use super::request::shown;
use crate::context::{BoundListener, Worker};
use crate::errors::{Refusal, code_of};

/// Who connects, as far as it is known.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client: ClientAddress,
    listener: Arc<BoundListener>,
    /// Its startup packet, once it has sent that.
    startup: Option<StartupMessage>,
}

impl Caller {
    pub(super) fn new(client: ClientAddress, listener: &Arc<BoundListener>) -> Self {
        Caller { client, listener: Arc::clone(listener), startup: None }
    }

    /// It has said who it is.
    pub(super) fn introduces_itself(&mut self, startup: &StartupMessage) {
        self.startup = Some(startup.clone());
    }

    /// One line for each refusal of the proxy. Of those that come to many clients at once, one line now and then.
    pub(super) fn log_refusal(&self, worker: &Worker, refusal: &Refusal) {
        let reason = refusal.reason();
        let more = match comes_to_many(reason) {
            true => worker.refusals.borrow_mut()[reason.index()].note(),
            false => Some(0),
        };
        let (Some(more), [user, database]) = (more, self.shown_names()) else { return };
        tracing::info!(
            client.addr = %self.client, listener = %self.listener.settings.name, db.user = user, db.name = database,
            reason = %refusal, more = (more > 0).then_some(more), "connection was refused"
        );
    }

    /// One line for the refusal of a server, whose own log has the rest.
    pub(super) fn log_servers_refusal(&self, message: &[u8]) {
        let [user, database] = self.shown_names();
        tracing::info!(
            client.addr = %self.client, listener = %self.listener.settings.name, db.user = user, db.name = database,
            code = code_of(message).map(tracing::field::display), "connection was refused by its server"
        );
    }

    /// One line for a handshake that failed.
    pub(super) fn log_failed_tls(&self, reason: &str) {
        tracing::info!(
            client.addr = %self.client, listener = %self.listener.settings.name, reason, "TLS handshake failed"
        );
    }

    fn shown_names(&self) -> [Option<String>; 2] {
        match &self.startup {
            Some(startup) => [Some(shown(startup.user())), Some(shown(startup.database()))],
            None => [None, None],
        }
    }
}

/// Whether a refusal says more of the proxy and its servers than of the client.
fn comes_to_many(reason: RefusalReason) -> bool {
    match reason {
        RefusalReason::NoServer
        | RefusalReason::TooMany
        | RefusalReason::TooManyFailures
        | RefusalReason::SecretsUnavailable
        | RefusalReason::ServerLost
        | RefusalReason::LoginTimeout
        | RefusalReason::ShuttingDown => true,
        RefusalReason::Authentication
        | RefusalReason::Protocol
        | RefusalReason::Unsupported
        | RefusalReason::Server
        | RefusalReason::ClientGone
        | RefusalReason::Proxy
        | RefusalReason::Idle
        | RefusalReason::Lagging => false,
    }
}
