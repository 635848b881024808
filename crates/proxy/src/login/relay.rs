//! Authentication by `relay`: the exchange of the chosen server is passed through.
//!
//! What is said of channel binding is not passed on as it is: see [`offer`].
//!
//! Until the server's challenge has been forwarded, another server can replace it unnoticed. A session that a
//! server accepts without a challenge (trust) can also move later.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use trunkline_codec::auth::Authentication;
use trunkline_codec::backend::{BackendTag, NegotiateProtocolVersion};
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_net::Transport;

use super::deadline::LoginDeadline;
use super::door::Visitor;
use super::offer::{AnswerWatch, RelayedChallenge};
use super::request::StartupRequest;
use super::way::is_protected;
use super::{Authenticated, LoginFailure, Relogin, version};
use crate::client::messages::{MessageReader, RawMessage, ReadError};
use crate::context::Worker;
use crate::errors::Refusal;
use crate::limits::LOGIN_REPLY_BYTES_MAX;
use crate::net::Connector;
use crate::pool::connection::ServerConnection;
use crate::server::connection::ReadyServer;
use crate::server::login::{LoginError, LoginReply, parse_authentication, read_login_reply, refused};
use crate::server::patience::answered;
use crate::server::take::Search;
use trunkline_auth::credentials::{ServerCredentials, ServerLeg};
use trunkline_topology::ClientAddress;

/// A server's first message, apart from notices.
enum FirstReply {
    /// AuthenticationOk.
    Ok,
    /// An authentication request, for the client.
    Challenge(Result<RelayedChallenge, Refusal>),
}

/// One server's exchange up to its first message.
struct Exchange {
    reader: MessageReader,
    first: FirstReply,
    /// NegotiateProtocolVersion and notices, for the client.
    preface: BytesMut,
    version: ProtocolVersion,
}

pub(super) async fn log_in(
    worker: &Rc<Worker>,
    (client, visitor): (&mut Transport, Visitor<'_>),
    startup: StartupMessage,
    read_ahead: BytesMut,
    request: &StartupRequest,
    limit: &LoginDeadline,
) -> Result<Authenticated, LoginFailure> {
    let (startup, owed) = version::ask_for_no_more(startup, version::newest(worker, request))?;
    let mut search = Search::new(worker, request.criteria.clone());
    search.first = request.first;
    limit.extend(search.extra_wait());
    let timeout = worker.shared.live().timeouts.connect;
    loop {
        let mut server = search.connect().await?;
        let (health, id) = (&worker.shared.health, server.lease.server());
        let connector = &worker.connector;
        let begun =
            answered(health, id, timeout, begin(connector, &mut server, &startup, &owed, timeout)).await;
        let exchange = match begun.unwrap_or_else(|error| Err(error.into())) {
            Ok(exchange) => exchange,
            Err(error) => {
                search.login_failed(&server, error)?;
                continue;
            }
        };
        let Exchange { reader, first, preface, version } = exchange;
        if let FirstReply::Challenge(challenge) = first {
            let password = RelayedPassword::of((&*client, visitor.client), server.leg());
            let mut out = preface;
            let RelayedChallenge { message, answer } = challenge?;
            password.look_at(RawMessage { bytes: &message })?;
            out.extend_from_slice(&message);
            client.write_all(&out).await.map_err(|_| LoginFailure::ClientGone)?;
            let watch = (answer, password, || visitor.look(worker));
            return pass_through(client, (server, reader), read_ahead, watch, version).await;
        }
        let reply = read_login_reply(&mut server.stream, reader);
        match answered(health, id, timeout, reply).await.unwrap_or_else(|error| Err(error.into())) {
            Ok(login_reply) => {
                let relogin = Some(Relogin::new(worker, startup, ServerCredentials::default()));
                let taken = ReadyServer::new(server, login_reply);
                return Ok(Authenticated {
                    taken,
                    client_read_ahead: read_ahead,
                    relogin,
                    seat: None,
                    version,
                    preface,
                });
            }
            Err(error) => search.login_failed(&server, error)?,
        }
    }
}

/// Whether a server may have the password itself of a client whose login is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RelayedPassword {
    /// The way to the server protects it, or the client sends it in the clear itself.
    PassedOn,
    /// A client on TLS or a Unix socket means to protect it, and the way to the server does not.
    Withheld,
}

impl RelayedPassword {
    fn of((client, peer): (&Transport, ClientAddress), leg: ServerLeg) -> Self {
        match leg {
            ServerLeg::Exposed if is_protected(client, peer) => RelayedPassword::Withheld,
            ServerLeg::Exposed | ServerLeg::Protected => RelayedPassword::PassedOn,
        }
    }

    /// Looks at a message of the server, of which each may ask for the password, also after another method has begun.
    fn look_at(self, message: RawMessage<'_>) -> Result<(), Refusal> {
        // What follows the code does not matter: a client may look no further.
        let asks = BackendTag::from_byte(message.tag()) == BackendTag::Authentication
            && message.body().starts_with(&CLEARTEXT_PASSWORD);
        match self {
            RelayedPassword::Withheld if asks => Err(Refusal::PasswordWithheld),
            RelayedPassword::Withheld | RelayedPassword::PassedOn => Ok(()),
        }
    }
}

/// What asks for the password itself. Source: PostgreSQL, protocol-message-formats, AuthenticationCleartextPassword.
const CLEARTEXT_PASSWORD: [u8; 4] = [0, 0, 0, 3];

/// Begins the exchange; on another connection, with TLS or without, where the server refuses this kind and `sslmode` allows
/// both.
async fn begin(
    connector: &Connector,
    server: &mut ServerConnection,
    startup: &StartupMessage,
    owed: &[u8],
    timeout: Duration,
) -> Result<Exchange, LoginError> {
    let error = match begin_on(&mut server.stream, startup, owed).await {
        Ok(exchange) => return Ok(exchange),
        Err(error) => error,
    };
    if !server.turn_to_other_kind(connector, &error, timeout).await {
        return Err(error);
    }
    match begin_on(&mut server.stream, startup, owed).await {
        Err(other) if other.refuses_kind() => Err(error),
        outcome => outcome,
    }
}

/// Runs the exchange up to the server's first message. `owed` is a NegotiateProtocolVersion that the client gets
/// before it, unless the server sends one.
async fn begin_on(
    stream: &mut Transport,
    startup: &StartupMessage,
    owed: &[u8],
) -> Result<Exchange, LoginError> {
    let mut packet = BytesMut::new();
    startup.encode(&mut packet);
    stream.write_all(&packet).await?;
    let mut reader = MessageReader::backend();
    let mut preface = BytesMut::from(owed);
    let mut version = startup.version();
    loop {
        if preface.len() > LOGIN_REPLY_BYTES_MAX {
            return Err(ReadError::TooLong { length: preface.len() }.into());
        }
        let message = reader.next(stream).await?;
        match BackendTag::from_byte(message.tag()) {
            BackendTag::Authentication => {
                let is_ok = matches!(parse_authentication(message)?, Authentication::Ok);
                let first = match is_ok {
                    true => FirstReply::Ok,
                    false => FirstReply::Challenge(RelayedChallenge::of(message)?),
                };
                return Ok(Exchange { reader, first, preface, version });
            }
            BackendTag::ErrorResponse => return Err(refused(message)),
            BackendTag::NegotiateProtocolVersion => {
                let negotiated = NegotiateProtocolVersion::parse(message.body())
                    .map_err(|error| LoginError::Exchange(error.to_string()))?;
                version = negotiated.version;
                // The server's own message replaces ours.
                preface.clear();
                preface.extend_from_slice(message.bytes);
            }
            BackendTag::NoticeResponse => preface.extend_from_slice(message.bytes),
            _ => return Err(LoginError::Exchange(format!("unexpected message {:?}", message.tag() as char))),
        }
    }
}

/// The next message of either side.
enum Received<'a> {
    Client(Result<RawMessage<'a>, ReadError>),
    Server(Result<RawMessage<'a>, ReadError>),
}

/// Who has to send the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Client,
    Server,
}

/// Relays the exchange from the challenge on. From here on the session cannot use another server.
async fn pass_through(
    client: &mut Transport,
    (mut server, mut server_reader): (Box<ServerConnection>, MessageReader),
    read_ahead: BytesMut,
    (mut answer, password, door): (AnswerWatch, RelayedPassword, impl Fn() -> Result<(), Refusal>),
    version: ProtocolVersion,
) -> Result<Authenticated, LoginFailure> {
    let mut client_reader = MessageReader::frontend(read_ahead);
    let mut turn = Turn::Client;
    loop {
        // The server may send at any time. What a client sends after its answer (pipelined queries) is for the
        // session, and waits.
        let next = tokio::select! {
            message = server_reader.next(&mut server.stream) => Received::Server(message),
            message = client_reader.next(client), if turn == Turn::Client => Received::Client(message),
        };
        match next {
            Received::Client(Ok(message)) => {
                turn = Turn::Server;
                answer.look_at(message)?;
                server.stream.write_all(message.bytes).await.map_err(|error| lost(&server, &error.into()))?;
            }
            Received::Client(Err(ReadError::Frame(error))) => {
                return Err(Refusal::Protocol { message: error.to_string() }.into());
            }
            Received::Client(Err(ReadError::TooLong { length })) => {
                let message = format!("authentication message of {length} bytes is too long");
                return Err(Refusal::Protocol { message }.into());
            }
            Received::Client(Err(ReadError::Closed | ReadError::Io(_))) => {
                return Err(LoginFailure::ClientGone);
            }
            Received::Server(Err(error)) => return Err(lost(&server, &error.into())),
            Received::Server(Ok(message)) => {
                if says_that_it_was_right(message) {
                    // Who guesses must not see it any more once the door is closed.
                    door()?;
                }
                if is_ok(message) {
                    break;
                }
                password.look_at(message)?;
                if asks_for_an_answer(message) {
                    turn = Turn::Client;
                }
                if BackendTag::from_byte(message.tag()) == BackendTag::ErrorResponse {
                    return Err(LoginFailure::ServerRefused(Bytes::copy_from_slice(message.bytes)));
                }
                client.send_all(message.bytes).await.map_err(|_| LoginFailure::ClientGone)?;
            }
        }
    }
    let login_reply: LoginReply = match read_login_reply(&mut server.stream, server_reader).await {
        Ok(login_reply) => login_reply,
        Err(LoginError::Refused { message, .. }) => return Err(LoginFailure::ServerRefused(message)),
        Err(error) => return Err(lost(&server, &error)),
    };
    let taken = ReadyServer::new(server, login_reply);
    let client_read_ahead = client_reader.into_read_ahead();
    Ok(Authenticated {
        taken,
        client_read_ahead,
        relogin: None,
        seat: None,
        version,
        preface: BytesMut::new(),
    })
}

/// Whether the client has to answer a server's message.
fn asks_for_an_answer(message: RawMessage<'_>) -> bool {
    BackendTag::from_byte(message.tag()) == BackendTag::Authentication && !says_that_it_was_right(message)
}

/// Whether the client's proof was right, by a server's message.
fn says_that_it_was_right(message: RawMessage<'_>) -> bool {
    BackendTag::from_byte(message.tag()) == BackendTag::Authentication
        && matches!(parse_authentication(message), Ok(Authentication::Ok | Authentication::SaslFinal(_)))
}

fn is_ok(message: RawMessage<'_>) -> bool {
    BackendTag::from_byte(message.tag()) == BackendTag::Authentication
        && matches!(parse_authentication(message), Ok(Authentication::Ok))
}

fn lost(server: &ServerConnection, error: &LoginError) -> LoginFailure {
    tracing::warn!(
        server.name = %server.name, server.addr = %server.address, %error,
        "server was lost in the middle of an authentication that only its client can repeat"
    );
    let server = server.name.to_string();
    LoginFailure::Refused(Refusal::ServerLost { server, phase: "during authentication" })
}

#[cfg(test)]
mod tests {
    use trunkline_net::memory;
    use trunkline_reactor::block_on;
    use trunkline_tls::testing;

    use super::*;

    #[test]
    fn a_password_that_came_protected_is_not_passed_on_unprotected() {
        use RelayedPassword::{PassedOn, Withheld};
        block_on(async {
            let tcp = ClientAddress::Tcp(([192, 0, 2, 1], 40_000).into());
            let (plain, _far) = memory::pair(10_000);
            let plain = Transport::Memory(plain);
            let (server, client) = memory::pair(10_000);
            let (mut encrypted, mut client) = (Transport::Memory(server), Transport::Memory(client));
            let (of_server, of_client) = testing::records();
            let ends = tokio::join!(encrypted.begin_tls(of_server, b""), client.begin_tls(of_client, b""));
            assert!(matches!(ends, (Ok(()), Ok(()))));
            for (client, exposed) in [
                ((&plain, ClientAddress::Local), Withheld),
                ((&encrypted, tcp), Withheld),
                ((&plain, tcp), PassedOn),
            ] {
                assert_eq!(RelayedPassword::of(client, ServerLeg::Exposed), exposed, "{client:?}");
                assert_eq!(RelayedPassword::of(client, ServerLeg::Protected), PassedOn, "{client:?}");
            }
        })
        .expect("a thread of its own");
    }

    #[test]
    fn only_the_password_itself_is_withheld_and_by_every_request_for_it() {
        let look_at = |password: RelayedPassword, bytes| password.look_at(RawMessage { bytes });
        for asks in [&b"R\0\0\0\x08\0\0\0\x03"[..], b"R\0\0\0\x09\0\0\0\x03\0"] {
            assert_eq!(look_at(RelayedPassword::Withheld, asks), Err(Refusal::PasswordWithheld), "{asks:?}");
            assert_eq!(look_at(RelayedPassword::PassedOn, asks), Ok(()), "{asks:?}");
        }
        for other in [
            &b"R\0\0\0\x0c\0\0\0\x05salt"[..],
            b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
            b"N\0\0\0\x08\0\0\0\x03",
        ] {
            assert_eq!(look_at(RelayedPassword::Withheld, other), Ok(()), "{other:?}");
        }
    }
}
