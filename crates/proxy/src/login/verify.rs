//! Authentication by `verify`: the proxy authenticates the client, and keeps the credentials to log the session in
//! on any server.
//!
//! The exchange itself is in `trunkline_auth`: here its messages are sent and received.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use trunkline_auth::authenticator::{AuthStep, AuthenticationError, Authenticator, ClientMethod};
use trunkline_auth::credentials::ServerCredentials;
use trunkline_auth::secrets::{LookupError, Secret, SecretStore, Unusable};
use trunkline_codec::backend::ErrorFields;
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_net::Transport;
use trunkline_reactor::timer;
use trunkline_session::SessionState;
use trunkline_telemetry::metrics::RefusalReason;
use trunkline_tls::EndPoint;
use zeroize::Zeroizing;

use super::deadline::LoginDeadline;
use super::pooling::{seat, tell_login, unless_client_leaves};
use super::request::StartupRequest;
use super::{Authenticated, LoginFailure, Relogin, version};
use crate::client::messages::{MessageReader, ReadError};
use crate::context::{Live, Worker};
use crate::errors::{HbaRefusal, Refusal, ServerKind};
use crate::limits::LOOKUP_PAUSE;
use crate::pool::Means;
use crate::server::connection::check_out;
use crate::server::pooled::{Pooled, PooledClient, means_of};
use crate::server::take::{LoginAs, Search, TakeError};

/// Bytes of the longest answer to a client, that with the server's parameters, as PostgreSQL has them.
const LOGIN_ANSWER_BYTES: usize = 768;

pub(super) async fn log_in(
    worker: &Rc<Worker>,
    (live, method): (&Live, ClientMethod),
    client: &mut Transport,
    startup: StartupMessage,
    read_ahead: BytesMut,
    request: &StartupRequest,
    limit: &LoginDeadline,
) -> Result<Authenticated, LoginFailure> {
    let (version, mut preface) = version::negotiate(&startup, version::newest(worker, request))?;
    preface.reserve(LOGIN_ANSWER_BYTES);
    let mut dialogue = Dialogue { client, reader: MessageReader::frontend(read_ahead), out: &mut preface };
    let credentials = authenticate(worker, (live, method), &mut dialogue, request).await?;
    let client_read_ahead = dialogue.reader.into_read_ahead();
    let startup = for_servers(startup);
    let mut search = Search::vouched_for(worker, request.criteria.clone());
    search.first = request.first;
    limit.extend(search.extra_wait());
    let who = LoginAs { startup: &startup, credentials: &credentials, restoring: None };
    let seat = seat(worker, request, &startup)?;
    let names = request.names.of_login();
    let has_command = live.stores.session_passwords.is_some();
    let means = if has_command { Means::Some } else { means_of(&credentials) };
    let pooled = seat.as_ref().map(|seat| Pooled {
        seat,
        names,
        // One that could not log in itself gets no connection of others.
        who: match seat.is_vouched_for(means, live.auth.cache_ttl) {
            true => PooledClient::New,
            false => PooledClient::Unproven,
        },
        start: None,
    });
    let wanted = SessionState::new();
    let taken = {
        let taking = pin!(check_out(&mut search, who, &wanted, pooled));
        unless_client_leaves(client, &client_read_ahead, taking).await?
    };
    let taken = match taken {
        Ok(mut taken) => {
            tell_login(&mut taken, seat.as_ref());
            taken
        }
        Err(error) => {
            distrust_if_refused(live, request, &error);
            if let (Some(seat), TakeError::Refused(_)) = (&seat, &error) {
                seat.no_longer_vouched_for();
            }
            return Err(match error {
                TakeError::NoServer(Refusal::NoMeans { wanted }) if method == ClientMethod::Trust => {
                    HbaRefusal::no_secret(wanted).into()
                }
                other => other.into(),
            });
        }
    };
    let relogin = Some(Relogin::new(worker, startup, credentials));
    Ok(Authenticated { taken, client_read_ahead, relogin, seat, version, preface })
}

/// A server that refuses the password of a client whose proof was right has another secret than the proxy has read: that
/// is read anew before it is believed again.
fn distrust_if_refused(live: &Live, request: &StartupRequest, error: &TakeError) {
    let TakeError::Refused(message) = error else { return };
    // Behind its type and length.
    let code = ErrorFields::new(message.get(5..).unwrap_or_default()).sqlstate();
    if code == Some(SqlState::INVALID_PASSWORD)
        && let (Some(store), Ok(user)) = (&live.stores.secrets, std::str::from_utf8(&request.user))
    {
        store.distrust(user);
    }
}

/// Answers HAProxy's `option pgsql-check` for its user: with a challenge if a server is eligible. No server is
/// contacted.
pub(super) async fn answer_check(
    worker: &Rc<Worker>,
    client: &mut Transport,
    request: &StartupRequest,
) -> LoginFailure {
    let live = worker.shared.live();
    let snapshot = worker.shared.health.load();
    let eligible = request.criteria.eligible(&snapshot, &live, &worker.shared.attached);
    if eligible.servers.is_empty() {
        let detail = match eligible.is_full {
            true => "The primary has as many sessions as it takes in the standbys' place.".to_owned(),
            false => "No server is eligible now.".to_owned(),
        };
        return Refusal::NoServer { wanted: ServerKind::of(request.criteria.attrs), detail }.into();
    }
    let mut out = BytesMut::new();
    let mut dialogue = Dialogue { client, reader: MessageReader::frontend(BytesMut::new()), out: &mut out };
    let mock_secret = worker.shared.mock_secret();
    let end_point = dialogue.client.end_point();
    let end_point = end_point.as_ref().map(EndPoint::as_bytes);
    let step = Authenticator::start_to_fail(&request.user, &mock_secret, end_point, dialogue.out);
    match step.map_err(ended) {
        Ok(step) => match prove(&mut dialogue, step).await {
            Ok(_) => {
                let user = request.names.user.to_string();
                Refusal::AuthenticationFailed { user }.into()
            }
            // The check has its answer.
            Err(LoginFailure::ClientGone) => LoginFailure::NotALogin,
            Err(end) => end,
        },
        Err(end) => end,
    }
}

/// The startup packet without protocol options, which concern only the client and the proxy.
pub(super) fn for_servers(startup: StartupMessage) -> StartupMessage {
    if startup.version() == ProtocolVersion::V3_0 && startup.protocol_options().next().is_none() {
        return startup;
    }
    let parameters = startup.parameters().filter(|(name, _)| !name.starts_with(b"_pq_."));
    StartupMessage::new(ProtocolVersion::V3_0, parameters).unwrap_or(startup)
}

/// The messages of one authentication.
pub(super) struct Dialogue<'a> {
    pub(super) client: &'a mut Transport,
    pub(super) reader: MessageReader,
    /// Sent before the next read, so that several messages go in one packet.
    pub(super) out: &'a mut BytesMut,
}

impl Dialogue<'_> {
    /// As [`Self::ask`], for a password: no copy of it stays behind but that which is returned.
    pub(super) async fn ask_for_password(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginFailure> {
        self.client.set_reads_secrets(true);
        let answer = self.ask().await;
        self.client.set_reads_secrets(false);
        answer
    }

    /// Sends what there is, and reads the answer.
    pub(super) async fn ask(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginFailure> {
        self.client.write_all(self.out).await.map_err(|_| LoginFailure::ClientGone)?;
        self.out.clear();
        match self.reader.next(self.client).await {
            Ok(message) if message.tag() == b'p' => {
                let body = Zeroizing::new(message.body().to_vec());
                self.reader.erase_last();
                Ok(body)
            }
            Ok(message) => {
                let message = format!("expected password response, got message type {}", message.tag());
                Err(Refusal::Protocol { message }.into())
            }
            Err(ReadError::Frame(error)) => Err(Refusal::Startup(error.refusal()).into()),
            Err(ReadError::TooLong { length }) => {
                let message = format!("authentication message of {length} bytes is too long");
                Err(Refusal::Protocol { message }.into())
            }
            Err(ReadError::Closed | ReadError::Io(_)) => Err(LoginFailure::ClientGone),
        }
    }
}

async fn authenticate(
    worker: &Rc<Worker>,
    (live, method): (&Live, ClientMethod),
    dialogue: &mut Dialogue<'_>,
    request: &StartupRequest,
) -> Result<ServerCredentials, LoginFailure> {
    let Some(store) = &live.stores.secrets else {
        tracing::error!("verify authentication is on but there is no secret store");
        return Err(Refusal::SecretsUnavailable.into());
    };
    let secret = match std::str::from_utf8(&request.user) {
        Ok(user) => look_up(worker, store, user, method).await?,
        // A name that is not UTF-8 cannot be looked up, and must not be taken for another.
        Err(_) => Secret::Unusable(Unusable::Unknown),
    };
    let mock_secret = worker.shared.mock_secret();
    let end_point = dialogue.client.end_point();
    let end_point = end_point.as_ref().map(EndPoint::as_bytes);
    let step = Authenticator::start(method, secret, &request.user, &mock_secret, end_point, dialogue.out);
    match prove(dialogue, step.map_err(ended)?).await? {
        Some(credentials) => Ok(credentials.vouched_by_proxy()),
        None => Err(Refusal::AuthenticationFailed { user: request.names.user.to_string() }.into()),
    }
}

/// Runs an exchange to its end; `None` when the client does not prove its identity.
async fn prove(
    dialogue: &mut Dialogue<'_>,
    mut step: AuthStep,
) -> Result<Option<ServerCredentials>, LoginFailure> {
    loop {
        step = match step {
            AuthStep::Ask(authenticator) => {
                let body = dialogue.ask().await?;
                authenticator.handle(&body, dialogue.out).map_err(ended)?
            }
            // This would block the sessions of this thread.
            AuthStep::Check(check) => {
                tokio::task::spawn_blocking(move || check.run()).await.map_err(|error| {
                    tracing::error!(%error, "could not check a password");
                    LoginFailure::Silent(RefusalReason::Proxy)
                })?
            }
            AuthStep::Proved(credentials) => return Ok(Some(credentials)),
            AuthStep::Failed => return Ok(None),
        };
    }
}

fn ended(error: AuthenticationError) -> LoginFailure {
    match error {
        AuthenticationError::Protocol(message) => Refusal::Protocol { message }.into(),
        AuthenticationError::Binding(error) => Refusal::Binding(error).into(),
        AuthenticationError::Random(error) => {
            tracing::error!(%error, "no random bytes for a challenge");
            LoginFailure::Silent(RefusalReason::Proxy)
        }
    }
}

/// Looks up the user's secret. While no server answers the query, as during a failover, the look-up is tried again
/// for as long as a session waits for a server.
///
/// Whoever needs no password to come in may have none on the servers either: a query that they refuse keeps nobody out then.
async fn look_up(
    worker: &Rc<Worker>,
    store: &SecretStore,
    user: &str,
    method: ClientMethod,
) -> Result<Secret, LoginFailure> {
    let deadline = Instant::now() + worker.shared.live().timeouts.acquire;
    loop {
        match store.lookup(user).await {
            Ok(secret) => return Ok(secret),
            Err(LookupError::NoServer | LookupError::Login { .. } | LookupError::Busy)
                if Instant::now() < deadline =>
            {
                timer::sleep(LOOKUP_PAUSE).await
            }
            Err(LookupError::Query { .. }) if method == ClientMethod::Trust => {
                return Ok(Secret::Unusable(Unusable::NoPassword));
            }
            Err(error) => {
                if let Some(more) = worker.lookups_failed.borrow_mut().note() {
                    tracing::error!(db.user = %user, %error, more, "could not look up a user's secret");
                }
                return Err(Refusal::SecretsUnavailable.into());
            }
        }
    }
}
