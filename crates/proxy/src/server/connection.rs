//! A connection to a server, which a session checks out, has to itself, and checks in.

use std::sync::Arc;
use std::time::Duration;

use trunkline_auth::credentials::ServerLeg;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_reactor::timer;
use trunkline_session::{ConnectionState, SessionState};
use trunkline_topology::{Address, ServerId};

use super::login::{LoginError, LoginReply};
use super::means::LoginMeans;
use super::patience::answered;
use super::pooled::{FromPool, Pooled, PooledClient};
use super::restore::{LoginAs, log_in};
use super::take::{ChoiceReason, Search, TakeError};
use crate::cancel::ServerCancelKey;
use crate::net::{Connector, ServerPlace, TlsPlace};
use crate::pool::connection::ServerConnection;
use crate::pool::seat::RoomMade;

/// A connection that is checked out, logged in and ready for the session.
#[derive(Debug)]
pub(crate) struct ReadyServer {
    pub(crate) server: Box<ServerConnection>,
    pub(crate) login_reply: LoginReply,
    pub(crate) choice: ChoiceReason,
}

impl ServerConnection {
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
}

impl ReadyServer {
    /// A connection whose login is complete.
    pub(crate) fn new(mut server: Box<ServerConnection>, mut login_reply: LoginReply) -> Self {
        if let Some(key) = login_reply.key.take() {
            server.key = Some(server.cancel_key(key));
        }
        server.is_standby = login_reply.is_standby.or(server.is_standby);
        Self { server, login_reply, choice: ChoiceReason::Regular }
    }
}

/// Logs in; on another connection, with TLS or without, where the server refuses this kind and `sslmode` allows both.
pub(super) async fn log_in_either_way(
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

/// Checks a connection out for the session's user and brings it to the session's state `wanted`: an idle one of the pools
/// if the session has a seat there, else one that is connected to and logged in to.
pub(crate) async fn check_out(
    search: &mut Search<'_>,
    who: LoginAs<'_>,
    wanted: &SessionState,
    mut pooled: Option<Pooled<'_>>,
) -> Result<ReadyServer, TakeError> {
    let timeout = search.worker.shared.live().timeouts.connect;
    let connector = &search.worker.connector;
    let mut means = LoginMeans::new(search.worker, who).await;
    let goes_on = matches!(&pooled, Some(Pooled { who: PooledClient::Going { .. }, .. }));
    let is_login = search.moving.is_none() && !goes_on;
    // Once on each server: what takes the room first would take it again.
    let mut room_made: Vec<ServerId> = Vec::new();
    loop {
        let (mut server, place) = match &mut pooled {
            // Boxed as the login is: where a connection is idle, neither is needed, and both are large.
            None => (Box::pin(search.connect()).await?, None),
            Some(pooled) => match search.check_out_of_pool(pooled, wanted).await? {
                FromPool::New(server, place) => (server, Some(place)),
                FromPool::Idle(server, check) => {
                    search.must_show(pooled.last(), &server);
                    match search.align_idle(server, wanted, check, timeout).await? {
                        Some(taken) => return Ok(taken),
                        None => continue,
                    }
                }
            },
        };
        let id = server.lease.server();
        let who = means.who();
        let logged_in = Box::pin(log_in_either_way(connector, &mut server, who, timeout));
        let error = match answered(&search.worker.shared.health, id, timeout, logged_in).await {
            Ok(Ok(login_reply)) => {
                if !search.is_as_wanted(&server, &login_reply) {
                    continue;
                }
                let parameters = search.worker.shared_parameters(&login_reply.messages);
                *server.state = ConnectionState::logged_in(who.has_login_timeout(), parameters);
                if let (Some(pooled), Some(place)) = (&pooled, place) {
                    search.must_show(pooled.last(), &server);
                    search.joins_pool(&mut server, place, pooled, who);
                }
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
        if let Some(limit) = error.limit() {
            // Sessions that keep a connection may as well give it back.
            search.worker.shared.pools.client_waits();
            if let (Some(pooled), false) = (&pooled, room_made.contains(&id))
                && search.is_last(id)
                && pooled.seat.make_room(id, limit) == RoomMade::Yes
            {
                room_made.push(id);
            }
        }
        if is_login && error.is_at_limit() {
            search.hurry();
        }
        search.login_failed(&server, error)?;
    }
}
