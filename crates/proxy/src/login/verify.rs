//! Authentication by `verify`: the proxy asks for the proof, and keeps what logs the session in anywhere.
//!
//! A user who does not exist, may not log in or whose password has expired goes through the same exchange,
//! with a made-up verifier, and fails the same way: names cannot be guessed.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use trunkline_codec::auth::{
    SCRAM_SHA_256, SaslInitialResponse, md5_from_stored, md5_stored, parse_password, secrets_match,
};
use trunkline_codec::scram::{ChannelBinding, ScramError, ServerExchange, Verifier};
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_codec::write;
use trunkline_health::pool;
use trunkline_net::Transport;
use trunkline_reactor::timer;
use trunkline_session::Alignment;
use zeroize::Zeroizing;

use super::limit::LoginLimit;
use super::request::{Request, shown};
use super::{Authenticated, LoginEnd, Relogin, version};
use crate::client::messages::{MessageReader, ReadError};
use crate::context::Worker;
use crate::errors::{Refusal, Wanted};
use crate::limits::LOOKUP_PAUSE;
use crate::server::take::{LoginAs, Search, take};
use crate::settings::ClientMethod;
use trunkline_auth::credentials::Credentials;
use trunkline_auth::nonce;
use trunkline_auth::secrets::{LookupError, Secret, SecretStore, Unusable};

pub(super) async fn log_in(
    worker: &Rc<Worker>,
    client: &mut Transport,
    startup: StartupMessage,
    ahead: BytesMut,
    request: &Request,
    limit: &LoginLimit,
) -> Result<Authenticated, LoginEnd> {
    let (version, mut preface) = version::negotiate(&startup, version::newest(worker, request))?;
    let mut dialogue = Dialogue { client, reader: MessageReader::frontend(ahead), out: &mut preface };
    let credentials = authenticate(worker, &mut dialogue, request).await?;
    let client_ahead = dialogue.reader.into_ahead();
    let startup = for_servers(&startup);
    let search = Search::new(worker, request.want);
    limit.extend(search.extra_wait());
    let who = LoginAs { startup: &startup, credentials: &credentials, restoring: None };
    let taken = take(search, who, &Alignment::default()).await?;
    let relogin = Some(Relogin { startup, credentials, application_name: None });
    Ok(Authenticated { taken, client_ahead, relogin, version, preface })
}

/// Answers HAProxy's `option pgsql-check` for its own user: a challenge if a server is eligible, no server needed.
pub(super) async fn answer_check(worker: &Rc<Worker>, client: &mut Transport, request: &Request) -> LoginEnd {
    let live = worker.shared.live();
    let snapshot = worker.shared.health.load();
    if pool::candidates(&snapshot, request.want.attrs, &live.fallback).servers.is_empty() {
        let detail = "No server is eligible now.".to_owned();
        return Refusal::NoServer { wanted: Wanted::of(request.want.attrs), detail }.into();
    }
    let mut out = BytesMut::new();
    let mut dialogue = Dialogue { client, reader: MessageReader::frontend(BytesMut::new()), out: &mut out };
    match unknown_user(worker, &mut dialogue, request).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

/// The startup packet without what concerned only the client and the proxy.
fn for_servers(startup: &StartupMessage) -> StartupMessage {
    let parameters = startup.parameters().filter(|(name, _)| !name.starts_with(b"_pq_."));
    StartupMessage::new(ProtocolVersion::V3_0, parameters).unwrap_or_else(|_| startup.clone())
}

/// The messages of one authentication.
struct Dialogue<'a> {
    client: &'a mut Transport,
    reader: MessageReader,
    /// Written before the next read: what the client is owed first goes in one packet with the challenge.
    out: &'a mut BytesMut,
}

impl Dialogue<'_> {
    async fn ask(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginEnd> {
        self.client.write_all(self.out).await.map_err(|_| LoginEnd::Gone)?;
        self.out.clear();
        match self.reader.next(self.client).await {
            Ok(message) if message.tag() == b'p' => Ok(Zeroizing::new(message.body().to_vec())),
            Ok(message) => {
                let message = format!("expected password response, got message type {}", message.tag());
                Err(Refusal::Protocol { message }.into())
            }
            Err(ReadError::Frame(error)) => Err(Refusal::Startup(error.refusal()).into()),
            Err(ReadError::TooLong { length }) => {
                let message = format!("authentication message of {length} bytes is too long");
                Err(Refusal::Protocol { message }.into())
            }
            Err(ReadError::Closed | ReadError::Io(_)) => Err(LoginEnd::Gone),
        }
    }
}

async fn authenticate(
    worker: &Rc<Worker>,
    dialogue: &mut Dialogue<'_>,
    request: &Request,
) -> Result<Credentials, LoginEnd> {
    let user = shown(&request.user);
    let Some(store) = &worker.shared.secrets else {
        tracing::error!("verify authentication is on but there is no secret store");
        return Err(Refusal::SecretsUnavailable.into());
    };
    let method = worker.shared.live().auth.client_method;
    let secret = match std::str::from_utf8(&request.user) {
        Ok(user) => look_up(worker, store, user).await?,
        // It cannot be asked for, and no other name will do.
        Err(_) => Secret::Unusable(Unusable::Unknown),
    };
    let proof = match (method, secret) {
        (ClientMethod::Trust, secret) => Ok(from_secret(secret)),
        (ClientMethod::Password, secret) => password(dialogue, &request.user, secret).await,
        (ClientMethod::Auto, Secret::Scram(verifier)) => scram(dialogue, &verifier).await,
        (ClientMethod::Auto, Secret::Password { password, verifier }) => {
            let credentials = Credentials::from_password(password);
            scram(dialogue, &verifier).await.map(|proved| proved.map(|_| credentials))
        }
        (ClientMethod::Auto, Secret::Md5(stored)) => md5(dialogue, stored).await,
        (ClientMethod::Auto, Secret::Unusable(_)) => match unknown_user(worker, dialogue, request).await {
            Ok(never) => match never {},
            // As for a user who exists: the time of the next attempt must not tell them apart.
            Err(LoginEnd::Refused(Refusal::AuthenticationFailed { .. })) => Ok(None),
            Err(end) => Err(end),
        },
    };
    match proof? {
        Some(credentials) => Ok(credentials),
        None => Err(Refusal::AuthenticationFailed { user }.into()),
    }
}

/// The user's secret. While no server answers the query for it, as in the moment of a failover, that is tried again
/// for as long as a server would be waited for.
async fn look_up(worker: &Rc<Worker>, store: &SecretStore, user: &str) -> Result<Secret, LoginEnd> {
    let deadline = Instant::now() + worker.shared.live().timeouts.acquire;
    loop {
        match store.lookup(user).await {
            Ok(secret) => return Ok(secret),
            Err(LookupError::NoServer) if Instant::now() < deadline => timer::sleep(LOOKUP_PAUSE).await,
            Err(error) => {
                tracing::error!(db.user = %user, %error, "could not look up a user's secret");
                return Err(Refusal::SecretsUnavailable.into());
            }
        }
    }
}

/// What a secret on file is good for without the client's help.
fn from_secret(secret: Secret) -> Option<Credentials> {
    Some(match secret {
        Secret::Password { password, .. } => Credentials::from_password(password),
        Secret::Md5(stored) => Credentials::from_md5(stored),
        Secret::Scram(_) | Secret::Unusable(_) => Credentials::default(),
    })
}

/// A SCRAM exchange; `None` when the proof is wrong.
async fn scram(dialogue: &mut Dialogue<'_>, verifier: &Verifier) -> Result<Option<Credentials>, LoginEnd> {
    let broken = |message: String| LoginEnd::Refused(Refusal::Protocol { message });
    let nonce = nonce().map_err(|error| {
        tracing::error!(%error, "no random bytes for a SCRAM nonce");
        LoginEnd::Gone
    })?;
    let server_key = verifier.server_key().clone();
    let mut exchange = ServerExchange::new(verifier.clone(), &nonce, ChannelBinding::Unsupported);

    write::authentication_sasl(dialogue.out, &[SCRAM_SHA_256]).map_err(|error| broken(error.to_string()))?;
    let mut first = dialogue.ask().await?;
    if let Some(response) = initial_response(&first)? {
        first = response;
    } else {
        // A client may leave its first message for the next round.
        write::authentication_sasl_continue(dialogue.out, b"").map_err(|error| broken(error.to_string()))?;
        first = dialogue.ask().await?;
    }
    let answer = exchange.handle_client_first(&first).map_err(|error| broken(error.to_string()))?;
    write::authentication_sasl_continue(dialogue.out, &answer).map_err(|error| broken(error.to_string()))?;

    let last = dialogue.ask().await?;
    match exchange.handle_client_final(&last) {
        Ok((answer, client_key)) => {
            write::authentication_sasl_final(dialogue.out, &answer)
                .map_err(|error| broken(error.to_string()))?;
            Ok(Some(Credentials::from_scram(client_key, server_key)))
        }
        Err(ScramError::AuthenticationFailed) => Ok(None),
        Err(error) => Err(broken(error.to_string())),
    }
}

/// The client-first message within a SASLInitialResponse, if it is there already.
fn initial_response(body: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, LoginEnd> {
    let broken = |message: String| LoginEnd::Refused(Refusal::Protocol { message });
    let response = SaslInitialResponse::parse(body).map_err(|error| broken(error.to_string()))?;
    if response.mechanism != SCRAM_SHA_256.as_bytes() {
        return Err(broken("client selected an invalid SASL authentication mechanism".to_owned()));
    }
    Ok(response.data.map(|data| Zeroizing::new(data.to_vec())))
}

/// An md5 exchange; `None` when the proof is wrong.
async fn md5(
    dialogue: &mut Dialogue<'_>,
    stored: Zeroizing<String>,
) -> Result<Option<Credentials>, LoginEnd> {
    let mut salt = [0_u8; 4];
    getrandom::fill(&mut salt).map_err(|error| {
        tracing::error!(%error, "no random bytes for an md5 salt");
        LoginEnd::Gone
    })?;
    write::authentication_md5_password(dialogue.out, salt);
    let body = dialogue.ask().await?;
    let answer = one_string(&body)?;
    let is_right =
        md5_from_stored(&stored, salt).is_some_and(|right| secrets_match(right.as_bytes(), answer));
    Ok(is_right.then(|| Credentials::from_md5(stored)))
}

/// The password in the clear; `None` when it is wrong.
async fn password(
    dialogue: &mut Dialogue<'_>,
    user: &[u8],
    secret: Secret,
) -> Result<Option<Credentials>, LoginEnd> {
    write::authentication_cleartext_password(dialogue.out);
    let body = dialogue.ask().await?;
    let Ok(given) = String::from_utf8(one_string(&body)?.to_vec()) else { return Ok(None) };
    let given = Zeroizing::new(given);
    let check = Zeroizing::new(given.to_string());
    let user: Box<[u8]> = user.into();
    // Thousands of HMACs for a SCRAM verifier: not on the thread that relays.
    let is_right = tokio::task::spawn_blocking(move || accepts(&secret, &user, &check));
    let is_right = is_right.await.map_err(|error| {
        tracing::error!(%error, "could not check a password");
        LoginEnd::Gone
    })?;
    Ok(is_right.then(|| Credentials::from_password(given)))
}

fn accepts(secret: &Secret, user: &[u8], given: &str) -> bool {
    match secret {
        Secret::Scram(verifier) => verifier.check_password(given.as_bytes()).is_ok(),
        Secret::Password { password, .. } => secrets_match(password.as_bytes(), given.as_bytes()),
        Secret::Md5(stored) => {
            secrets_match(stored.as_bytes(), md5_stored(user, given.as_bytes()).as_bytes())
        }
        Secret::Unusable(_) => {
            // As long as for a user who exists, so that the time tells nothing.
            let _never = Verifier::mock(b"", user).check_password(given.as_bytes());
            false
        }
    }
}

fn one_string(body: &[u8]) -> Result<&[u8], LoginEnd> {
    parse_password(body).map_err(|error| Refusal::Protocol { message: error.to_string() }.into())
}

/// Goes through the exchange of a user who cannot log in, to its certain end.
async fn unknown_user(
    worker: &Rc<Worker>,
    dialogue: &mut Dialogue<'_>,
    request: &Request,
) -> Result<Infallible, LoginEnd> {
    let verifier = Verifier::mock(&worker.shared.mock_secret, &request.user);
    scram(dialogue, &verifier).await?;
    let user = shown(&request.user);
    Err(Refusal::AuthenticationFailed { user }.into())
}
