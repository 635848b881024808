//! A connection to a server, which a session checks out, has to itself, and checks in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_auth::credentials::ServerLeg;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::write;
use trunkline_net::Transport;
use trunkline_reactor::timer;
use trunkline_routing::Lease;
use trunkline_session::{ConnectionState, SessionState};
use trunkline_topology::{Address, Postmaster};

use super::login::{LoginError, LoginReply};
use super::means::LoginMeans;
use super::patience::answered;
use super::restore::{LoginAs, log_in};
use super::take::{ChoiceReason, Search, TakeError};
use crate::cancel::ServerCancelKey;
use crate::net::{Connector, ServerPlace, TlsPlace};

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    /// Its place in the balance, for as long as it exists.
    pub(crate) lease: Lease,
    pub(crate) name: Arc<str>,
    pub(crate) address: Address,
    /// How it is spoken to by TLS, if it may be.
    pub(crate) tls: Option<Arc<TlsPlace>>,
    /// The postmaster at that address according to health.
    pub(crate) postmaster: Option<Postmaster>,
    pub(crate) stream: Transport,
    /// When it was begun, before the login.
    pub(crate) since: Instant,
    /// What cancels its query, once it is logged in; `None` if the server sent no key.
    pub(crate) key: Option<Arc<ServerCancelKey>>,
    /// What it has of the state of the session that it was checked out for.
    pub(super) state: ConnectionState,
}

/// A connection that is checked out, logged in and ready for the session.
#[derive(Debug)]
pub(crate) struct ReadyServer {
    pub(crate) server: ServerConnection,
    pub(crate) login_reply: LoginReply,
    pub(crate) choice: ChoiceReason,
}

impl ServerConnection {
    /// Its process; `None` if the server sent no key.
    pub(crate) fn process_id(&self) -> Option<ProcessId> {
        self.key.as_ref().map(|key| key.process_id)
    }

    /// How its query is canceled: as it was reached itself. Source: PostgreSQL 17, fe-cancel.c.
    fn cancel_key(&self, (process_id, key): (ProcessId, SecretKey)) -> Arc<ServerCancelKey> {
        let tls = self.tls.clone().filter(|_| self.stream.is_encrypted());
        Arc::new(ServerCancelKey { address: self.address.clone(), tls, process_id, key })
    }

    /// Whether it is known who is at its other end.
    pub(crate) fn leg(&self) -> ServerLeg {
        let is_checked = |tls: &Arc<TlsPlace>| tls.checks_certificate() && self.stream.is_encrypted();
        match &self.address {
            Address::Unix(_) => ServerLeg::Protected,
            Address::Tcp(_) if self.tls.as_ref().is_some_and(is_checked) => ServerLeg::Protected,
            Address::Tcp(_) => ServerLeg::Exposed,
        }
    }

    /// Where it leads to.
    pub(super) fn place(&self) -> ServerPlace<'_> {
        ServerPlace { address: &self.address, tls: self.tls.as_deref() }
    }

    /// Connects again, by TLS if this connection is without, or the reverse, after a login that was refused for its kind.
    /// `false` if there is no other kind, or no such connection.
    pub(crate) async fn turn_to_other_kind(
        &mut self,
        connector: &Connector,
        refusal: &LoginError,
        timeout: Duration,
    ) -> bool {
        let other = self.tls.as_ref().and_then(|tls| tls.after(self.stream.is_encrypted()));
        let Some(kind) = other.filter(|_| refusal.refuses_kind()) else { return false };
        match connector.connect_as(kind, self.place(), timeout).await {
            Ok(stream) => {
                self.stream = stream;
                true
            }
            Err(error) => {
                tracing::debug!(server.name = %self.name, ?kind, %error, "could not connect in the other way");
                false
            }
        }
    }

    /// Sends a Terminate: no other session may have the connection.
    pub(crate) fn check_in(self) {
        self.terminate();
    }

    /// Sends a Terminate to the server.
    pub(super) fn terminate(&self) {
        let mut goodbye = BytesMut::new();
        write::terminate(&mut goodbye);
        // If the socket does not take the five bytes, closing it is enough.
        let _ = self.stream.try_write_last(&goodbye);
    }
}

impl ReadyServer {
    /// A connection whose login is complete.
    pub(crate) fn new(mut server: ServerConnection, mut login_reply: LoginReply) -> Self {
        server.key = login_reply.key.take().map(|key| server.cancel_key(key));
        Self { server, login_reply, choice: ChoiceReason::Regular }
    }
}

/// Logs in; on another connection, with TLS or without, where the server refuses this kind and `sslmode` allows both.
async fn log_in_either_way(
    connector: &Connector,
    server: &mut ServerConnection,
    who: LoginAs<'_>,
    timeout: Duration,
) -> Result<LoginReply, LoginError> {
    let error = match log_in(connector, server, who, timeout).await {
        Ok(login_reply) => return Ok(login_reply),
        Err(error) => error,
    };
    if !server.turn_to_other_kind(connector, &error, timeout).await {
        return Err(error);
    }
    match log_in(connector, server, who, timeout).await {
        Err(other) if other.refuses_kind() => Err(error),
        outcome => outcome,
    }
}

/// Checks a connection out: finds a server, logs in to it as the session's user and brings it to the session's state
/// `wanted`. Its lifetime is that of the session's stay: each check-out logs in.
pub(crate) async fn check_out(
    search: &mut Search<'_>,
    who: LoginAs<'_>,
    wanted: &SessionState,
) -> Result<ReadyServer, TakeError> {
    let timeout = search.worker.shared.live().timeouts.connect;
    let connector = &search.worker.connector;
    let mut means = LoginMeans::new(search.worker, who).await;
    loop {
        let mut server = search.connect().await?;
        let id = server.lease.server();
        let who = means.who();
        let logged_in = log_in_either_way(connector, &mut server, who, timeout);
        let error = match answered(&search.worker.shared.health, id, timeout, logged_in).await {
            Ok(Ok(login_reply)) => {
                if !search.is_as_wanted(&server, &login_reply) {
                    continue;
                }
                server.state = who.connection_state();
                let taken = ReadyServer::new(server, login_reply);
                if let Some(taken) = search.align(taken, wanted, timeout).await? {
                    return Ok(taken);
                }
                continue;
            }
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        };
        if means.has_other(&error).await {
            continue;
        }
        if let Some(pause) = search.pause_for_role(&server, &error) {
            drop(server);
            timer::sleep(pause).await;
            continue;
        }
        search.login_failed(&server, error)?;
    }
}
