//! From an accepted socket to a session on a server.
//!
//! First packets, admission, authentication by `relay` (the server's own exchange passed through) or `verify`
//! (the proxy's), a server taken during the login so that its refusals are the client's answer, and last the
//! greeting with a cancel key of the proxy's own.

mod application_name;
mod limit;
mod relay;
mod request;
mod verify;
mod version;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_codec::write;
use trunkline_net::{ProxyHeaderError, Transport, read_proxy_header};

pub(crate) use self::application_name::ApplicationName;
use self::limit::LoginLimit;
use self::request::{Request, shown};
use crate::admission::SessionPermit;
use crate::cancel::{CancelHandle, ServerKey};
use crate::client::first::{Opening, read_opening};
use crate::context::Phase;
use crate::context::Worker;
use crate::errors::Refusal;
use crate::server::take::{Connected, TakeError, Taken, Want};
use crate::settings::{AddHost, AuthMode, Retry};
use trunkline_auth::credentials::ServerCredentials;
use trunkline_telemetry::metrics::{LoginResult, RefusalReason};
use trunkline_telemetry::sessions::{SessionId, SessionInfo};

/// What logs the session in on another server.
#[derive(Debug)]
pub(crate) struct Relogin {
    /// The startup packet servers get.
    pub(crate) startup: StartupMessage,
    pub(crate) credentials: ServerCredentials,
    /// What the startup packet has in place of the client's own name.
    pub(crate) application_name: Option<ApplicationName>,
}

/// A session that has been greeted and may begin.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) permit: SessionPermit,
    pub(crate) info: Arc<SessionInfo>,
    pub(crate) cancel: CancelHandle,
    pub(crate) want: Want,
    pub(crate) server: Connected,
    /// Bytes the server sent behind its greeting.
    pub(crate) server_ahead: BytesMut,
    /// Bytes the client sent ahead.
    pub(crate) client_ahead: BytesMut,
    /// `None` for a session that only its own client could log in again.
    pub(crate) relogin: Option<Relogin>,
    /// The ParameterStatus messages the client was told.
    pub(crate) parameters: Bytes,
    /// Whether the server says that it is a standby.
    pub(crate) is_standby: Option<bool>,
    /// The proxy itself has verified the user.
    pub(crate) is_verified: bool,
    /// A replication connection: relayed, never moved.
    pub(crate) is_replication: bool,
    /// The client wants the timing of each request as a notice.
    pub(crate) reports_timing: bool,
    /// Whether a request of this session may be sent again.
    pub(crate) retry: Retry,
}

/// Why a login came to nothing.
#[derive(Debug)]
enum LoginEnd {
    /// The client is told so.
    Refused(Refusal),
    /// The client is told a server's own words.
    ServerSaid(Bytes),
    /// The client is told nothing, but this is why.
    Silent(RefusalReason),
    /// There is nobody to tell: the client has left.
    Gone,
    /// It was no login: a cancel request, HAProxy's check, or not a byte.
    None,
}

/// A client that has proved itself, on a server that waits for its first query.
#[derive(Debug)]
struct Authenticated {
    taken: Taken,
    client_ahead: BytesMut,
    relogin: Option<Relogin>,
    /// What both sides speak.
    version: ProtocolVersion,
    /// What the client is still owed before its AuthenticationOk.
    preface: BytesMut,
}

impl From<Refusal> for LoginEnd {
    fn from(refusal: Refusal) -> Self {
        LoginEnd::Refused(refusal)
    }
}

impl From<TakeError> for LoginEnd {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::NoServer(refusal) => LoginEnd::Refused(refusal),
            TakeError::Refused(message) => LoginEnd::ServerSaid(message),
        }
    }
}

/// Goes through the whole login within its time limit. On `None` the client has been told why.
pub(crate) async fn welcome(
    worker: &Rc<Worker>,
    client: &mut Transport,
    peer: SocketAddr,
    listener: usize,
) -> Option<Box<Welcome>> {
    let limit = LoginLimit::within(worker.shared.live().timeouts.login);
    let mut phase = worker.phase.clone();
    let outcome = tokio::select! {
        outcome = log_in(worker, client, peer, listener, &limit) => outcome,
        () = limit.passed() => Err(LoginEnd::Refused(Refusal::LoginTimeout)),
        _ = phase.wait_for(|phase| *phase != Phase::Running) => Err(LoginEnd::Refused(Refusal::ShuttingDown)),
    };
    let mut out = BytesMut::new();
    match outcome {
        Ok(welcome) => {
            let result = if welcome.is_verified { LoginResult::Verified } else { LoginResult::Relayed };
            worker.metrics.logins.one(result);
            worker.metrics.sessions_accepted.one();
            return Some(welcome);
        }
        Err(LoginEnd::None) => return None,
        Err(LoginEnd::Gone) => {
            worker.metrics.logins.one(LoginResult::Abandoned);
            worker.metrics.sessions_refused.one(RefusalReason::ClientGone);
            return None;
        }
        Err(LoginEnd::Silent(reason)) => {
            worker.metrics.logins.one(LoginResult::ProxyRefused);
            worker.metrics.sessions_refused.one(reason);
            return None;
        }
        Err(LoginEnd::ServerSaid(message)) => {
            worker.metrics.logins.one(LoginResult::ServerRefused);
            worker.metrics.sessions_refused.one(RefusalReason::Server);
            out.extend_from_slice(&message);
        }
        Err(LoginEnd::Refused(refusal)) => {
            tracing::info!(client.addr = %peer, "connection was refused: {refusal}");
            worker.metrics.sessions_refused.one(refusal.reason());
            worker.metrics.logins.one(login_result(&refusal));
            refusal.write(&mut out);
        }
    }
    if let Err(error) = client.write_all(&out).await {
        tracing::debug!(client.addr = %peer, %error, "could not tell the client why it was refused");
    }
    None
}

fn login_result(refusal: &Refusal) -> LoginResult {
    match refusal {
        Refusal::AuthenticationFailed { .. } => LoginResult::Rejected,
        Refusal::SecretsUnavailable => LoginResult::Unavailable,
        Refusal::LoginTimeout => LoginResult::Abandoned,
        Refusal::NoMeans { .. } | Refusal::ServerLost { .. } | Refusal::StateLost => {
            LoginResult::ServerRefused
        }
        Refusal::NoServer { .. }
        | Refusal::TooMany { .. }
        | Refusal::Startup(_)
        | Refusal::Protocol { .. }
        | Refusal::Unsupported { .. }
        | Refusal::ShuttingDown
        | Refusal::Idle(_)
        | Refusal::Lagging { .. }
        | Refusal::NoUser
        | Refusal::BadOption { .. }
        | Refusal::UnknownOption { .. } => LoginResult::ProxyRefused,
    }
}

async fn log_in(
    worker: &Rc<Worker>,
    client: &mut Transport,
    peer: SocketAddr,
    listener: usize,
    limit: &LoginLimit,
) -> Result<Box<Welcome>, LoginEnd> {
    let peer = address_of(worker, client, peer, listener).await?;
    let live = worker.shared.live();
    let (startup, ahead) = match read_opening(client, live.limits.startup_packet_bytes_max).await {
        Opening::Startup { startup, ahead } => (startup, ahead),
        Opening::Cancel(request) => {
            let outcome = worker.shared.cancels.deliver(&worker.connector, &request).await;
            tracing::debug!(client.addr = %peer, ?outcome, "cancel request");
            worker.metrics.cancels.one(outcome);
            return Err(LoginEnd::None);
        }
        Opening::Refused(refusal) => return Err(refusal.into()),
        Opening::Nothing => return Err(LoginEnd::None),
        Opening::Gone => return Err(LoginEnd::Gone),
        Opening::Silent => return Err(LoginEnd::Silent(RefusalReason::Protocol)),
    };
    if worker.shared.is_draining() {
        return Err(Refusal::ShuttingDown.into());
    }
    let request = Request::read(worker, listener, &startup)?;
    let permit = worker.shared.admission.admit_session(&live.limits, peer.ip())?;
    if live.auth.check_user.as_deref().is_some_and(|check| *request.user == *check.as_bytes()) {
        return Err(verify::answer_check(worker, client, &request).await);
    }
    let name = shown_name(worker, &startup, &request, peer);
    let startup = match &name {
        Some(name) => name.tell(&startup),
        None => startup,
    };
    let mut authenticated = match live.auth.mode {
        AuthMode::Relay => relay::log_in(worker, client, startup, ahead, &request, limit).await?,
        AuthMode::Verify => verify::log_in(worker, client, startup, ahead, &request, limit).await?,
    };
    if let Some(name) = &name {
        name.hide(&mut authenticated.taken.greeting.messages);
    }
    if let Some(relogin) = &mut authenticated.relogin {
        relogin.application_name = name;
    }
    greet(worker, client, peer, permit, request, authenticated).await
}

/// The name with the client's address, where the listener adds it. A standby's name has a meaning of its own to the
/// primary (synchronous_standby_names), so replication is left alone.
fn shown_name(
    worker: &Worker,
    startup: &StartupMessage,
    request: &Request,
    client: SocketAddr,
) -> Option<ApplicationName> {
    match worker.shared.listeners[request.want.listener].settings.application_name_add_host {
        AddHost::On if !request.is_replication => Some(ApplicationName::with_address(startup, client)),
        AddHost::On | AddHost::Off => None,
    }
}

/// The client's address: its own, or the one that the proxy in front of us tells.
async fn address_of(
    worker: &Rc<Worker>,
    client: &mut Transport,
    peer: SocketAddr,
    listener: usize,
) -> Result<SocketAddr, LoginEnd> {
    let proxies = &worker.shared.listeners[listener].settings.proxy_protocol_from;
    let from = peer.ip().to_canonical();
    if !proxies.iter().any(|network| network.contains(&from)) {
        return Ok(peer);
    }
    match read_proxy_header(client).await {
        Ok(told) => Ok(told.unwrap_or(peer)),
        Err(ProxyHeaderError::Closed) => Err(LoginEnd::None),
        Err(ProxyHeaderError::Broken(_)) => Err(LoginEnd::Gone),
        Err(error) => {
            tracing::warn!(client.addr = %peer, %error, "connection from a trusted proxy was refused");
            Err(LoginEnd::Silent(RefusalReason::Protocol))
        }
    }
}

/// Room for a greeting besides what its server says: AuthenticationOk, BackendKeyData, ReadyForQuery.
const WELCOME_BYTES: usize = 9 + 4 + 45 + 6;

/// Tells the client that it is in: AuthenticationOk, the server's parameters, its cancel key, ReadyForQuery.
async fn greet(
    worker: &Rc<Worker>,
    client: &mut Transport,
    peer: SocketAddr,
    mut permit: SessionPermit,
    request: Request,
    authenticated: Authenticated,
) -> Result<Box<Welcome>, LoginEnd> {
    permit.admit_user(&worker.shared.live().limits, &request.user)?;
    let Authenticated { taken, client_ahead, relogin, version, preface } = authenticated;
    let relogin = relogin.filter(|_| request.is_in_utf8());
    let Taken { server, greeting, .. } = taken;
    let cancel = cancel_handle(worker, &server, greeting.key, version)?;
    let mut out = preface;
    out.reserve(greeting.messages.len() + WELCOME_BYTES);
    write::authentication_ok(&mut out);
    out.extend_from_slice(&greeting.messages);
    if let Some((process_id, key)) = cancel.key() {
        write::backend_key_data(&mut out, process_id, key);
    }
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    client.write_all(&out).await.map_err(|_| LoginEnd::Gone)?;
    let info = SessionInfo {
        id: SessionId::next(),
        process_id: cancel.key().map(|(process_id, _)| process_id),
        user: shown(&request.user).into(),
        database: shown(&request.database).into(),
        client: peer,
        listener: worker.shared.listeners[request.want.listener].settings.name.as_str().into(),
        since: Instant::now(),
    };
    tracing::debug!(
        session.id = info.id.0, session.pid = info.process_id.map(|id| id.0), client.addr = %peer,
        db.user = %info.user, db.name = %info.database, server.name = %server.name, "session begins"
    );
    Ok(Box::new(Welcome {
        permit,
        info: Arc::new(info),
        cancel,
        want: request.want,
        server,
        server_ahead: greeting.ahead,
        client_ahead,
        relogin,
        is_standby: greeting.is_standby,
        parameters: greeting.messages.freeze(),
        is_verified: worker.shared.secrets.is_some(),
        is_replication: request.is_replication,
        reports_timing: request.reports_timing,
        retry: request.retry,
    }))
}

/// The session as a target of cancel requests. The client is told the server's own process id, which it may look up
/// in `pg_stat_activity` or compare with that of a notification. A server that gives no key cannot be cancelled, and
/// its clients are told so by silence.
///
/// Where sessions share server connections no process is the client's own: there the id must be one that no process
/// has, above 4194304 (Linux, include/linux/threads.h, `PID_MAX_LIMIT`).
fn cancel_handle(
    worker: &Worker,
    server: &Connected,
    key: Option<(ProcessId, SecretKey)>,
    version: ProtocolVersion,
) -> Result<CancelHandle, LoginEnd> {
    let Some((process_id, key)) = key else { return Ok(worker.shared.cancels.without_key()) };
    let key = ServerKey { address: server.address.clone(), process_id, key };
    worker.shared.cancels.register(version, key).map_err(|error| {
        tracing::error!(%error, "no random bytes for a cancel key");
        LoginEnd::Silent(RefusalReason::Proxy)
    })
}
