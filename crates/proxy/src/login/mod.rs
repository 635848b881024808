//! From an accepted socket to a session on a server.
//!
//! The steps are: the first packets; admission; authentication by `relay` (the server's exchange is passed
//! through), by `verify` (the proxy verifies the client) or by `login` (a server verifies the password that the client
//! gives to the proxy); taking a server, during the login, so that the client
//! gets its refusals; and the end of the login, with a cancel key that the proxy makes.

mod application_name;
mod deadline;
mod door;
mod offer;
mod password;
mod pooling;
mod refused;
mod relay;
mod relogin;
mod request;
mod ruling;
mod told;
mod verify;
mod version;
mod way;

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_codec::write;
use trunkline_net::{ProxyHeaderError, Transport, read_proxy_header};
use trunkline_session::{Functions, Hints, LoginParameters};
use trunkline_tls::accept::Acceptor;
use trunkline_topology::ClientAddress;

pub(crate) use self::application_name::ApplicationName;
use self::deadline::LoginDeadline;
use self::door::Visitor;
use self::refused::Caller;
pub(crate) use self::relogin::Relogin;
use self::request::StartupRequest;
use self::ruling::{Ruling, ruling};
use self::way::LoginWay;
use crate::admission::SessionPermit;
use crate::cancel::{CancelHandle, ShownProcess};
use crate::client::first::{StartupOutcome, read_startup};
use crate::context::{BoundListener, Live, Worker, log_connection};
use crate::errors::Refusal;
use crate::functions::PlainnessWish;
use crate::pool::connection::ServerConnection;
use crate::pool::seat::{ClientSeat, PoolSeat, SeatMode};
use crate::server::connection::ReadyServer;
use crate::server::take::{ServerCriteria, TakeError};
use crate::settings::{AddHost, LimitSettings, Retry};
use crate::snapshots::ClientGroup;
use trunkline_telemetry::metrics::{LoginResult, RefusalReason};
use trunkline_telemetry::sessions::{SessionId, SessionInfo};

/// A session whose login is complete.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) permit: SessionPermit,
    pub(crate) info: SessionInfo,
    pub(crate) cancel: CancelHandle,
    pub(crate) criteria: ServerCriteria,
    pub(crate) server: Box<ServerConnection>,
    /// Bytes that the server sent after the end of its login.
    pub(crate) server_read_ahead: BytesMut,
    /// Bytes that the client sent before the end of its login.
    pub(crate) client_read_ahead: BytesMut,
    /// `None` for a session that the proxy cannot log in again.
    pub(crate) relogin: Option<Relogin>,
    /// Its place among the clients of its pools, for one that shares server connections.
    pub(crate) seat: Option<ClientSeat>,
    /// The functions of its database, for a session that may move; `None` where all are trusted.
    pub(crate) functions: Option<Arc<Functions>>,
    /// The ParameterStatus messages that the client got.
    pub(crate) parameters: Arc<LoginParameters>,
    /// Whether the server reported that it is a standby.
    pub(crate) is_standby: Option<bool>,
    /// A replication connection: relayed, never moved.
    pub(crate) is_replication: bool,
    /// The client wants the timing of each request as a notice.
    pub(crate) reports_timing: bool,
    /// Whether a request of this session may be sent again.
    pub(crate) retry: Retry,
    pub(crate) hints: Hints,
    /// The sessions that may want its exported snapshots.
    pub(crate) group: ClientGroup,
}

/// Why a connection does not become a session.
#[derive(Debug)]
enum LoginFailure {
    /// The proxy refuses the client, which gets this error.
    Refused(Refusal),
    /// A server refused the client, which gets this ErrorResponse.
    ServerRefused(Bytes),
    /// The connection is closed without a message, for this reason.
    Silent(RefusalReason),
    /// The client has left.
    ClientGone,
    /// It was no login: a cancel request, HAProxy's check, or a connection that sent nothing.
    NotALogin,
}

/// An authenticated client, and a server that waits for its first query.
#[derive(Debug)]
struct Authenticated {
    taken: ReadyServer,
    client_read_ahead: BytesMut,
    relogin: Option<Relogin>,
    /// Its place among the clients of its pools.
    seat: Option<ClientSeat>,
    /// The protocol version of both sides.
    version: ProtocolVersion,
    /// Messages that the client must get before its AuthenticationOk.
    preface: BytesMut,
}

impl From<Refusal> for LoginFailure {
    fn from(refusal: Refusal) -> Self {
        LoginFailure::Refused(refusal)
    }
}

impl From<TakeError> for LoginFailure {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::NoServer(refusal) => LoginFailure::Refused(refusal),
            TakeError::Refused(message) => LoginFailure::ServerRefused(message),
        }
    }
}

/// Performs the whole login within its time limit. On `None` the client has got the reason.
pub(crate) async fn establish(
    worker: &Rc<Worker>,
    client: &mut Transport,
    peer: ClientAddress,
    listener: &Arc<BoundListener>,
) -> Option<Box<NewSession>> {
    let limit = LoginDeadline::within(worker.shared.live().timeouts.login);
    let mut caller = Caller::new(peer, listener);
    let outcome = {
        let login = pin!(log_in(worker, client, &mut caller, listener, &limit));
        limit.unless_over(worker, login).await
    };
    let mut out = BytesMut::new();
    match outcome {
        Ok(new_session) => {
            worker.metrics.sessions_accepted.one();
            return Some(new_session);
        }
        Err(LoginFailure::NotALogin) => return None,
        Err(LoginFailure::ClientGone) => {
            worker.metrics.logins.one(LoginResult::Abandoned);
            worker.metrics.sessions_refused.one(RefusalReason::ClientGone);
            return None;
        }
        Err(LoginFailure::Silent(reason)) => {
            worker.metrics.logins.one(LoginResult::ProxyRefused);
            worker.metrics.sessions_refused.one(reason);
            return None;
        }
        Err(LoginFailure::ServerRefused(message)) => {
            worker.metrics.logins.one(LoginResult::ServerRefused);
            worker.metrics.sessions_refused.one(RefusalReason::Server);
            caller.log_servers_refusal(&message);
            out.extend_from_slice(&message);
        }
        Err(LoginFailure::Refused(refusal)) => {
            caller.log_refusal(worker, &refusal);
            worker.metrics.sessions_refused.one(refusal.reason());
            worker.metrics.logins.one(login_result(&refusal));
            refusal.write(&mut out);
        }
    }
    if let Err(error) = client.write_all(&out).await {
        tracing::debug!(client.addr = %peer, %error, "could not send the refusal to the client");
    }
    None
}

fn login_result(refusal: &Refusal) -> LoginResult {
    match refusal {
        Refusal::AuthenticationFailed { .. } | Refusal::Binding(_) => LoginResult::Rejected,
        Refusal::SecretsUnavailable => LoginResult::Unavailable,
        Refusal::LoginTimeout => LoginResult::Abandoned,
        Refusal::NoMeans { .. }
        | Refusal::PasswordWithheld
        | Refusal::ServerLost { .. }
        | Refusal::NotReplaced { .. } => LoginResult::ServerRefused,
        Refusal::NoServer { .. }
        | Refusal::Pool { .. }
        | Refusal::TooMany { .. }
        | Refusal::TooManyFailures { .. }
        | Refusal::Startup(_)
        | Refusal::Protocol { .. }
        | Refusal::Unsupported { .. }
        | Refusal::ShuttingDown
        | Refusal::NoNewSessions
        | Refusal::Idle(_)
        | Refusal::Lagging { .. }
        | Refusal::NoUser
        | Refusal::NoEncryption { .. }
        | Refusal::BoundTwice
        | Refusal::Hba(_)
        | Refusal::BadOption { .. }
        | Refusal::UnknownOption { .. } => LoginResult::ProxyRefused,
    }
}

async fn log_in(
    worker: &Rc<Worker>,
    client: &mut Transport,
    caller: &mut Caller,
    listener: &Arc<BoundListener>,
    limit: &LoginDeadline,
) -> Result<Box<NewSession>, LoginFailure> {
    let peer = address_of(client, caller.client, listener).await?;
    caller.client = peer;
    let live = worker.shared.live();
    let tls = listener.tls.as_ref().filter(|_| peer != ClientAddress::Local);
    let (startup, read_ahead) = match first_packets(worker, client, &live.limits, tls, peer).await? {
        StartupOutcome::Startup { startup, read_ahead } => (startup, read_ahead),
        StartupOutcome::Cancel(request) => {
            let outcome = Box::pin(worker.shared.cancels.deliver(&worker.connector, &request)).await;
            tracing::debug!(client.addr = %peer, ?outcome, "cancel request");
            worker.metrics.cancels.one(outcome);
            return Err(LoginFailure::NotALogin);
        }
        StartupOutcome::Refused(refusal) => return Err(refusal.into()),
        StartupOutcome::NoBytes => return Err(LoginFailure::NotALogin),
        StartupOutcome::ClientGone => return Err(LoginFailure::ClientGone),
        StartupOutcome::CloseSilently => return Err(LoginFailure::Silent(RefusalReason::Protocol)),
        StartupOutcome::TlsFailed(reason) => {
            caller.log_failed_tls(&reason);
            return Err(LoginFailure::Silent(RefusalReason::Protocol));
        }
    };
    caller.introduces_itself(&startup);
    if worker.shared.is_draining() {
        return Err(Refusal::NoNewSessions.into());
    }
    let request = StartupRequest::read(worker, listener, peer.ip(), &startup)?;
    if tls.is_some_and(|tls| tls.mode().must_encrypt()) && !client.is_encrypted() {
        let [user, database] = request.names.of_login().map(str::to_owned);
        return Err(Refusal::NoEncryption { client: peer.ip().to_string(), user, database }.into());
    }
    let permit = worker.shared.admission.admit_session(&live.limits, peer.ip())?;
    if live.auth.check_user.as_deref().is_some_and(|check| *request.user == *check.as_bytes()) {
        return Err(verify::answer_check(worker, client, &request).await);
    }
    let Ruling { way, method } = ruling(worker, &live, client, peer, &request).await?;
    let name = shown_name(&startup, &request, peer);
    let startup = match &name {
        Some(name) => name.tell(&startup),
        None => startup,
    };
    let visitor = Visitor { client: peer, user: &request.user };
    visitor.wait(worker).await?;
    // Boxed: only one of them is taken, and each is large.
    let exchange = async {
        match way {
            LoginWay::Relay => {
                let who = (&mut *client, visitor);
                Box::pin(relay::log_in(worker, who, startup, read_ahead, &request, limit)).await
            }
            LoginWay::Verify => {
                let by = (&*live, method);
                Box::pin(verify::log_in(worker, by, client, startup, read_ahead, &request, limit)).await
            }
            LoginWay::Login => {
                Box::pin(password::log_in(worker, client, startup, read_ahead, &request, limit)).await
            }
        }
    };
    let authenticated = visitor.unless_shut_out(worker, exchange).await;
    let mut authenticated = authenticated.map_err(|failure| visitor.failed(worker, failure, way))?;
    visitor.let_in(worker)?;
    if let Some(name) = &name {
        name.hide(&mut authenticated.taken.login_reply.messages);
    }
    if let Some(relogin) = &mut authenticated.relogin {
        relogin.application_name = name.map(Box::new);
    }
    let new_session = finish_login(worker, &live, client, peer, permit, request, authenticated).await?;
    worker.metrics.logins.one(way.result());
    Ok(new_session)
}

/// Reads up to the startup packet, unless the connection has to make room for a newer one before.
async fn first_packets(
    worker: &Worker,
    client: &mut Transport,
    limits: &LimitSettings,
    tls: Option<&Acceptor>,
    peer: ClientAddress,
) -> Result<StartupOutcome, LoginFailure> {
    let mut reading = pin!(read_startup(client, limits.startup_packet_bytes_max, tls, &worker.metrics));
    // A packet that is there already takes no place.
    if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        return Ok(outcome);
    }
    let mut permit = worker.shared.admission.admit_startup(limits, peer.ip().to_canonical());
    tokio::select! {
        biased;
        // One that has come meanwhile counts.
        outcome = reading => Ok(outcome),
        () = permit.displaced() => {
            let what = "that have not sent a startup packet";
            Err(Refusal::TooMany { what, limit: limits.startups_max }.into())
        }
    }
}

/// The name with the client's address, if the listener adds it. Replication is left alone: the primary looks a
/// standby's name up in synchronous_standby_names.
fn shown_name(
    startup: &StartupMessage,
    request: &StartupRequest,
    client: ClientAddress,
) -> Option<ApplicationName> {
    match request.criteria.listener.settings.options.application_name_add_host {
        AddHost::On if !request.is_replication() => Some(ApplicationName::with_address(startup, client)),
        AddHost::On | AddHost::Off => None,
    }
}

/// The client's address: that of its socket, or the one in the PROXY header of a trusted proxy.
async fn address_of(
    client: &mut Transport,
    peer: ClientAddress,
    listener: &BoundListener,
) -> Result<ClientAddress, LoginFailure> {
    let proxies = &listener.settings.options.proxy_protocol_from;
    let ClientAddress::Tcp(address) = peer else { return Ok(peer) };
    let from = address.ip().to_canonical();
    if !proxies.iter().any(|network| network.contains(&from)) {
        return Ok(peer);
    }
    match read_proxy_header(client).await {
        Ok(told) => Ok(told.map_or(peer, ClientAddress::Tcp)),
        Err(ProxyHeaderError::Closed) => Err(LoginFailure::NotALogin),
        Err(ProxyHeaderError::Broken(_)) => Err(LoginFailure::ClientGone),
        Err(error) => {
            tracing::warn!(client.addr = %peer, %error, "connection from a trusted proxy was refused");
            Err(LoginFailure::Silent(RefusalReason::Protocol))
        }
    }
}

/// Bytes of AuthenticationOk, BackendKeyData and ReadyForQuery, which the proxy adds to the server's messages.
const LOGIN_END_BYTES: usize = 9 + 4 + 45 + 6;

/// Sends the end of the login: AuthenticationOk, the server's parameters, the cancel key, ReadyForQuery.
async fn finish_login(
    worker: &Rc<Worker>,
    live: &Live,
    client: &mut Transport,
    peer: ClientAddress,
    mut permit: SessionPermit,
    request: StartupRequest,
    authenticated: Authenticated,
) -> Result<Box<NewSession>, LoginFailure> {
    permit.admit_user(&live.limits, &request.user)?;
    let Authenticated { taken, client_read_ahead, relogin, seat, version, preface } = authenticated;
    let relogin = relogin.filter(|_| request.is_in_utf8());
    let seat = seat.filter(|_| relogin.is_some());
    let ReadyServer { server, login_reply, .. } = taken;
    let cancel = cancel_handle(worker, &server, version, seat.as_deref().map(Rc::as_ref))?;
    let is_replication = request.is_replication();
    let wish = if request.criteria.is_split() { PlainnessWish::Wanted } else { PlainnessWish::NotWanted };
    let functions = match &relogin {
        Some(_) if !is_replication => live.stores.functions.of_database(&request.names.database, wish).await,
        Some(_) | None => None,
    };
    let mut out = preface;
    out.reserve(login_reply.messages.len() + LOGIN_END_BYTES);
    write::authentication_ok(&mut out);
    out.extend_from_slice(&login_reply.messages);
    if let Some((process_id, key)) = cancel.key() {
        write::backend_key_data(&mut out, process_id, key);
    }
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    // The client waits for the end of it, and the session for the client.
    client.send_all(&out).await.map_err(|_| LoginFailure::ClientGone)?;
    let info = SessionInfo {
        id: SessionId::next(),
        process_id: cancel.key().map(|(process_id, _)| process_id),
        names: request.names,
        client: peer,
        tls: client.negotiated(),
        since: Instant::now(),
    };
    log_connection!(
        live.session.logs_connections,
        session.id = info.id.0, session.pid = info.process_id.map(|id| id.0), client.addr = %peer,
        listener = %info.names.listener, db.user = %info.names.user, db.name = %info.names.database, server.name = %server.name,
        tls.client = info.tls.map(display), tls.server = server.stream.negotiated().map(display),
        "connection authorized"
    );
    Ok(Box::new(NewSession {
        permit,
        info,
        cancel,
        criteria: request.criteria,
        server,
        server_read_ahead: login_reply.read_ahead,
        client_read_ahead,
        relogin,
        seat,
        functions,
        is_standby: login_reply.is_standby,
        parameters: worker.shared_parameters(&login_reply.messages),
        is_replication,
        reports_timing: request.reports_timing,
        retry: request.retry,
        hints: request.hints,
        group: request.group,
    }))
}

/// Registers the session for cancel requests. The client gets the server's own process ID, which it may look up in
/// `pg_stat_activity` or compare with that of a notification. If the server sends no key, neither does the proxy,
/// and the session cannot be canceled.
fn cancel_handle(
    worker: &Worker,
    server: &ServerConnection,
    version: ProtocolVersion,
    seat: Option<&PoolSeat>,
) -> Result<CancelHandle, LoginFailure> {
    let shown = match seat.map(PoolSeat::mode) {
        Some(SeatMode::Transaction) => ShownProcess::MadeUp,
        Some(SeatMode::Session | SeatMode::Own) | None => ShownProcess::Servers,
    };
    let Some(key) = server.key.clone() else { return Ok(worker.shared.cancels.without_key()) };
    worker.shared.cancels.register(version, key, shown).map_err(|error| {
        tracing::error!(%error, "no random bytes for a cancel key");
        LoginFailure::Silent(RefusalReason::Proxy)
    })
}
