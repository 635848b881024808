//! How a client is authenticated.

use trunkline_net::Transport;
use trunkline_reactor::timer;
use trunkline_telemetry::metrics::{LoginResult, RefusalReason};
use trunkline_topology::ClientAddress;

use super::LoginFailure;
use super::request::StartupRequest;
use crate::context::{ChosenMode, Live, Worker};
use crate::errors::{Refusal, ServerKind};

/// How this client is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginWay {
    /// The server's exchange is passed through.
    Relay,
    /// The proxy verifies a proof.
    Verify,
    /// A server verifies the password that the client gives to the proxy.
    Login,
}

impl LoginWay {
    /// By the settings in force, for a client that came by `client` from `peer`. While `auto` has no answer yet, this
    /// waits as long as the session would wait for a server.
    pub(super) async fn of(
        worker: &Worker,
        live: &Live,
        client: &Transport,
        peer: ClientAddress,
        request: &StartupRequest,
    ) -> Result<Self, LoginFailure> {
        let mode = match live.auth_choice.now() {
            Some(settled) => settled.mode,
            None => answered(worker, live, request).await?,
        };
        Ok(match mode {
            ChosenMode::Relay => LoginWay::Relay,
            ChosenMode::Verify => LoginWay::Verify,
            ChosenMode::Login => LoginWay::by_password(client, peer),
            // No rules can be asked here: nobody comes in without them.
            ChosenMode::Rules => return Err(LoginFailure::Silent(RefusalReason::Proxy)),
        })
    }

    /// Where a client's password is protected, it is asked for; else the server's exchange is passed through.
    pub(super) fn by_password(client: &Transport, peer: ClientAddress) -> Self {
        if is_protected(client, peer) { LoginWay::Login } else { LoginWay::Relay }
    }

    /// What a login by it is counted as.
    pub(super) fn result(self) -> LoginResult {
        match self {
            LoginWay::Relay => LoginResult::Relayed,
            LoginWay::Verify => LoginResult::Verified,
            LoginWay::Login => LoginResult::LoggedIn,
        }
    }
}

/// Whether nobody else can read what this client sends.
pub(super) fn is_protected(client: &Transport, peer: ClientAddress) -> bool {
    client.is_encrypted() || peer == ClientAddress::Local
}

/// Waits for the answer that decides `auto`.
async fn answered(
    worker: &Worker,
    live: &Live,
    request: &StartupRequest,
) -> Result<ChosenMode, LoginFailure> {
    let attrs = request.criteria.attrs;
    match timer::timeout(live.timeouts.wait_for_server(attrs), live.auth_choice.settled()).await {
        Ok(Some(settled)) => Ok(settled.mode),
        Ok(None) => Err(Refusal::NoNewSessions.into()),
        Err(_elapsed) => {
            let eligible =
                request.criteria.eligible(&worker.shared.health.load(), live, &worker.shared.attached);
            let detail = "No server has answered yet.".to_owned();
            Err(match eligible.servers.is_empty() {
                true => Refusal::NoServer { wanted: ServerKind::of(attrs), detail }.into(),
                false => Refusal::SecretsUnavailable.into(),
            })
        }
    }
}
