//! Logging in to a server as the session's user.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use trunkline_codec::auth::{self, Authentication};
use trunkline_codec::backend::{self, BackendTag, ErrorFields, ParameterStatus};
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::scan::{Piece, Scanner};
use trunkline_codec::scram::{ChannelBinding, ClientExchange};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::startup::StartupMessage;
use trunkline_codec::write;
use trunkline_net::Transport;
use trunkline_pool::ServerLimit;
use zeroize::{Zeroize as _, Zeroizing};

use super::mechanism;
use crate::client::messages::{MessageReader, RawMessage, ReadError};
use crate::errors::limit_said;
use crate::limits::LOGIN_REPLY_BYTES_MAX;
use trunkline_auth::credentials::{LoginProof, PasswordAnswer, ServerCredentials, ServerLeg};

/// What a server sends between AuthenticationOk and its first ReadyForQuery.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoginReply {
    /// The ParameterStatus and NoticeResponse messages, byte for byte.
    pub(crate) messages: BytesMut,
    /// Whether the server reported `in_hot_standby`; servers before 14 do not report it.
    pub(crate) is_standby: Option<bool>,
    /// Its BackendKeyData.
    pub(crate) key: Option<(ProcessId, SecretKey)>,
    /// Bytes that arrived after the ReadyForQuery.
    pub(crate) read_ahead: BytesMut,
    /// What the server has accepted as a proof.
    pub(crate) proof: LoginProof,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The server refused; `message` is its whole ErrorResponse, for the client.
    #[error("the server refused the login{}", code.map(|c| format!(" ({})", c.as_str())).unwrap_or_default())]
    Refused { code: Option<SqlState>, message: Bytes },
    /// The connection broke, or the server violated the protocol.
    #[error(transparent)]
    Lost(#[from] ReadError),
    /// The server asks for an authentication that the proxy has no secret for.
    #[error("the server asks for {wanted}, and the proxy has no such secret of this user")]
    NoMeans { wanted: &'static str },
    /// The server asks for a password that may not be sent over this connection.
    #[error(
        "the server asks for the password itself, which goes to it only by TLS with sslmode verify-ca or verify-full, or over a \
         Unix socket; or let its pg_hba.conf ask for scram-sha-256"
    )]
    Exposed,
    /// The server did not prove that it knows the user's secret, or violated the exchange.
    #[error("the server violated the authentication exchange: {0}")]
    Exchange(String),
}

impl LoginError {
    /// Whether the server refuses connections of this kind, with TLS or without: pg_hba.conf has no entry for it.
    pub(crate) fn refuses_kind(&self) -> bool {
        matches!(self, Self::Refused { code: Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION), .. })
    }

    /// The server's limit that leaves no connection for the client.
    pub(crate) fn limit(&self) -> Option<ServerLimit> {
        match self {
            Self::Refused { code: Some(SqlState::TOO_MANY_CONNECTIONS), message } => {
                Some(limit_said(message))
            }
            _ => None,
        }
    }

    /// Whether the role or the database has as many connections as its CONNECTION LIMIT lets in.
    pub(crate) fn is_at_limit(&self) -> bool {
        self.limit().is_some_and(|limit| limit != ServerLimit::All)
    }
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        LoginError::Lost(error.into())
    }
}

/// Sends the startup packet and completes the login, up to the first ReadyForQuery.
pub(crate) async fn log_in(
    stream: &mut Transport,
    startup: &StartupMessage,
    credentials: &ServerCredentials,
    leg: ServerLeg,
) -> Result<LoginReply, LoginError> {
    let mut packet = BytesMut::new();
    startup.encode(&mut packet);
    stream.write_all(&packet).await?;
    let mut reader = MessageReader::backend();
    let mut proof = LoginProof::None;
    loop {
        let message = reader.next(stream).await?;
        match BackendTag::from_byte(message.tag()) {
            BackendTag::Authentication => {}
            BackendTag::ErrorResponse => return Err(refused(message)),
            // Notices may come at any time. A lower protocol version makes no difference to the relay.
            BackendTag::NoticeResponse | BackendTag::NegotiateProtocolVersion => continue,
            _ => return Err(LoginError::Exchange(format!("unexpected message {:?}", message.tag() as char))),
        }
        match parse_authentication(message)? {
            Authentication::Ok => {
                let login_reply = read_login_reply(stream, reader).await?;
                return Ok(LoginReply { proof, ..login_reply });
            }
            Authentication::CleartextPassword => {
                match credentials.password(leg) {
                    PasswordAnswer::Given(password) => send_password(stream, password).await?,
                    PasswordAnswer::Withheld => return Err(LoginError::Exposed),
                    PasswordAnswer::Unknown => return Err(NO_PASSWORD),
                }
                proof = LoginProof::Password;
            }
            Authentication::Md5Password { salt } => {
                let answer = credentials.md5_answer(startup.user(), salt).ok_or(NO_MD5)?;
                send_password(stream, answer.as_bytes()).await?;
                proof = LoginProof::Md5;
            }
            Authentication::Sasl(mechanisms) => {
                let choice = mechanism::choose(mechanisms, stream)?;
                proof = scram_exchange(stream, &mut reader, credentials, choice).await?;
            }
            Authentication::Gss | Authentication::GssContinue(_) | Authentication::Sspi => {
                return Err(LoginError::NoMeans { wanted: "GSSAPI or SSPI" });
            }
            Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                return Err(LoginError::Exchange("a SASL message before SASL began".to_owned()));
            }
            Authentication::Other(_) => {
                return Err(LoginError::NoMeans { wanted: "an unknown authentication method" });
            }
        }
    }
}

const NO_PASSWORD: LoginError = LoginError::NoMeans { wanted: "the password itself" };
const NO_MD5: LoginError = LoginError::NoMeans { wanted: "an md5 hash" };
const NO_SCRAM: LoginError = LoginError::NoMeans { wanted: "SCRAM-SHA-256" };

/// Initial capacity for a server's ParameterStatus messages, which take 400 bytes and more.
const LOGIN_REPLY_BYTES: usize = 512;

/// Reads what follows AuthenticationOk, ReadyForQuery included.
pub(crate) async fn read_login_reply(
    stream: &mut Transport,
    mut reader: MessageReader,
) -> Result<LoginReply, LoginError> {
    let mut login_reply =
        LoginReply { messages: BytesMut::with_capacity(LOGIN_REPLY_BYTES), ..LoginReply::default() };
    loop {
        let message = reader.next(stream).await?;
        match BackendTag::from_byte(message.tag()) {
            BackendTag::ReadyForQuery => {
                login_reply.read_ahead = reader.into_read_ahead();
                return Ok(login_reply);
            }
            BackendTag::ErrorResponse => return Err(refused(message)),
            BackendTag::BackendKeyData => {
                let key = backend::BackendKeyData::parse(message.body())
                    .map_err(|error| LoginError::Exchange(error.to_string()))?;
                login_reply.key = Some((key.process_id, key.secret_key));
            }
            BackendTag::ParameterStatus | BackendTag::NoticeResponse => {
                let length = login_reply.messages.len() + message.bytes.len();
                if length > LOGIN_REPLY_BYTES_MAX {
                    return Err(ReadError::TooLong { length }.into());
                }
                if let Some(told) = message.body().strip_prefix(b"in_hot_standby\0") {
                    login_reply.is_standby = Some(told == b"on\0");
                }
                login_reply.messages.extend_from_slice(message.bytes);
            }
            _ => return Err(LoginError::Exchange(format!("unexpected message {:?}", message.tag() as char))),
        }
    }
}

/// The login error for an ErrorResponse.
pub(crate) fn refused(message: RawMessage<'_>) -> LoginError {
    let code = ErrorFields::new(message.body()).sqlstate();
    LoginError::Refused { code, message: Bytes::copy_from_slice(message.bytes) }
}

/// Parses an `R` message.
pub(crate) fn parse_authentication(message: RawMessage<'_>) -> Result<Authentication<'_>, LoginError> {
    auth::Authentication::parse(message.body()).map_err(|error| LoginError::Exchange(error.to_string()))
}

/// Bytes of a PasswordMessage beside the password: type, length and the zero at its end.
const PASSWORD_MESSAGE_BYTES: usize = 1 + 4 + 1;

async fn send_password(stream: &mut Transport, password: &[u8]) -> Result<(), LoginError> {
    let mut packet = BytesMut::with_capacity(password.len() + PASSWORD_MESSAGE_BYTES);
    write::password(&mut packet, password).map_err(|error| LoginError::Exchange(error.to_string()))?;
    let message = Zeroizing::new(packet.to_vec());
    packet.zeroize();
    stream.write_all(&message).await?;
    Ok(())
}

async fn scram_exchange(
    stream: &mut Transport,
    reader: &mut MessageReader,
    credentials: &ServerCredentials,
    (mechanism, binding): (&'static str, ChannelBinding),
) -> Result<LoginProof, LoginError> {
    let secret = credentials.scram().ok_or(NO_SCRAM)?;
    let nonce = trunkline_auth::nonce().map_err(|error| LoginError::Exchange(error.to_string()))?;
    let mut exchange = ClientExchange::new(secret, &nonce, binding);
    let mut out = BytesMut::new();
    let wrong = |error: &dyn std::fmt::Display| LoginError::Exchange(error.to_string());
    let first = exchange.client_first().map_err(|error| wrong(&error))?;
    write::sasl_initial_response(&mut out, mechanism.as_bytes(), Some(&first))
        .map_err(|error| wrong(&error))?;
    stream.write_all(&out).await?;

    let message = next_sasl(stream, reader).await?;
    let Authentication::SaslContinue(server_first) = parse_authentication(message)? else {
        return Err(LoginError::Exchange("expected AuthenticationSASLContinue".to_owned()));
    };
    let server_first = server_first.to_vec();
    let derives_keys = credentials.must_derive();
    let step = move || exchange.handle_server_first(&server_first).map(|answer| (answer, exchange));
    // With a password this computes thousands of HMACs, which would block the sessions of this thread.
    let stepped = if derives_keys {
        let joined = tokio::task::spawn_blocking(step).await;
        joined.map_err(|error| LoginError::Exchange(error.to_string()))?
    } else {
        step()
    };
    let (answer, mut exchange) = stepped.map_err(|error| LoginError::Exchange(error.to_string()))?;
    out.clear();
    write::sasl_response(&mut out, &answer).map_err(|error| wrong(&error))?;
    stream.write_all(&out).await?;

    let message = next_sasl(stream, reader).await?;
    let Authentication::SaslFinal(server_final) = parse_authentication(message)? else {
        return Err(LoginError::Exchange("expected AuthenticationSASLFinal".to_owned()));
    };
    exchange.handle_server_final(server_final).map_err(|error| wrong(&error))?;
    Ok(exchange.into_keys().map_or(LoginProof::None, |(client, server)| LoginProof::Scram(client, server)))
}

async fn next_sasl<'a>(
    stream: &mut Transport,
    reader: &'a mut MessageReader,
) -> Result<RawMessage<'a>, LoginError> {
    let message = reader.next(stream).await?;
    match BackendTag::from_byte(message.tag()) {
        BackendTag::ErrorResponse => Err(refused(message)),
        _ => Ok(message),
    }
}

impl LoginReply {
    /// Appends ParameterStatus and NoticeResponse messages.
    pub(crate) fn take_in(&mut self, messages: &[u8]) {
        self.is_standby = in_hot_standby(messages).or(self.is_standby);
        self.messages.extend_from_slice(messages);
    }
}

/// The value of the last ParameterStatus named `in_hot_standby`.
fn in_hot_standby(messages: &[u8]) -> Option<bool> {
    let mut scanner = Scanner::backend();
    let mut at = 0;
    let mut told = None;
    while let Ok(Some(piece)) = scanner.next(messages, &mut at) {
        if let Piece::Message { tag: b'S', body } = piece
            && let Ok(status) = ParameterStatus::parse(body)
            && status.name == b"in_hot_standby"
        {
            told = Some(status.value == b"on");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use trunkline_codec::startup::ProtocolVersion;
    use trunkline_net::memory;
    use trunkline_reactor::block_on;

    use super::*;

    /// What a server reads that answers a login with `challenge`, and what becomes of the login of a user whose password
    /// `secret` is on file.
    fn challenged(challenge: &[u8], leg: ServerLeg) -> (Vec<u8>, LoginError) {
        let credentials = ServerCredentials::from_password("secret".to_owned().into());
        let startup = StartupMessage::new(ProtocolVersion::V3_0, [(&b"user"[..], &b"app"[..])]);
        let startup = startup.expect("it is short");
        let (server, client) = memory::pair(10_000);
        let (mut server, mut client) = (Transport::Memory(server), Transport::Memory(client));
        let mut packet = BytesMut::new();
        startup.encode(&mut packet);
        let serve = async {
            server.read_exact(&mut packet).await.expect("it writes");
            server.write_all(challenge).await.expect("it reads");
            let mut answer = vec![0; 1000];
            let count = server.read(&mut answer).await.expect("it writes, or ends");
            answer.truncate(count);
            drop(server);
            answer
        };
        let login = async move {
            let outcome = log_in(&mut client, &startup, &credentials, leg).await;
            drop(client);
            outcome.expect_err("nobody lets it in")
        };
        block_on(async { tokio::join!(serve, login) }).expect("a thread of its own")
    }

    #[test]
    fn a_password_on_file_is_not_shown_to_whoever_asks_for_it_on_an_unprotected_connection() {
        let cleartext = b"R\0\0\0\x08\0\0\0\x03";
        let (answer, error) = challenged(cleartext, ServerLeg::Exposed);
        assert!(answer.is_empty(), "{answer:?}");
        assert!(matches!(error, LoginError::Exposed), "{error}");
        for what_to_do in ["verify-ca or verify-full", "Unix socket", "scram-sha-256"] {
            assert!(error.to_string().contains(what_to_do), "{error}");
        }
        let (answer, _lost) = challenged(cleartext, ServerLeg::Protected);
        assert_eq!(answer, b"p\0\0\0\x0bsecret\0");
    }

    #[test]
    fn a_password_on_file_answers_md5_and_scram_on_any_connection() {
        let (answer, _lost) = challenged(b"R\0\0\0\x0c\0\0\0\x05salt", ServerLeg::Exposed);
        let right = auth::md5_password(b"app", b"secret", *b"salt");
        assert_eq!(answer, [b"p\0\0\0\x28", right.as_bytes(), b"\0"].concat());
        let scram = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        let (answer, _lost) = challenged(scram, ServerLeg::Exposed);
        assert!(answer.starts_with(b"p") && answer[5..].starts_with(b"SCRAM-SHA-256\0"), "{answer:?}");
    }

    fn login_reply(statuses: &[(&str, &str)]) -> LoginReply {
        let mut login_reply = LoginReply::default();
        for (name, value) in statuses {
            let mut out = BytesMut::new();
            write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).expect("short");
            login_reply.take_in(&out);
        }
        login_reply
    }

    #[test]
    fn a_server_is_what_it_said_at_the_login() {
        assert_eq!(login_reply(&[("TimeZone", "UTC"), ("in_hot_standby", "on")]).is_standby, Some(true));
        assert_eq!(login_reply(&[("in_hot_standby", "off")]).is_standby, Some(false));
        assert_eq!(
            login_reply(&[("in_hot_standby", "on"), ("in_hot_standby", "off")]).is_standby,
            Some(false)
        );
        assert_eq!(login_reply(&[("TimeZone", "UTC")]).is_standby, None);
    }
}
