//! Authentication by `relay`: the chosen server's own exchange is passed through.
//!
//! Until the server's challenge has been forwarded another server may take its place unnoticed. A server that
//! lets the user in without one (trust) leaves the session free to move later, too.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use trunkline_codec::auth::Authentication;
use trunkline_codec::backend::{BackendTag, NegotiateProtocolVersion};
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_net::Transport;
use trunkline_reactor::timer;

use super::deadline::LoginDeadline;
use super::request::StartupRequest;
use super::{Authenticated, LoginFailure, Relogin, version};
use crate::client::messages::{MessageReader, RawMessage, ReadError};
use crate::context::Worker;
use crate::errors::Refusal;
use crate::limits::LOGIN_REPLY_BYTES_MAX;
use crate::server::login::{LoginError, LoginReply, parse_authentication, read_login_reply, refused};
use crate::server::take::{ChoiceReason, Connected, ReadyServer, Search};
use trunkline_auth::credentials::ServerCredentials;

/// What a server said first, apart from notices.
enum FirstReply {
    /// The user is in already.
    Ok,
    /// It wants proof; the message is for the client.
    Challenge(Bytes),
}

/// One server's exchange up to its first word.
struct Exchange {
    reader: MessageReader,
    first: FirstReply,
    /// NegotiateProtocolVersion and notices, for the client.
    preface: BytesMut,
    version: ProtocolVersion,
}

pub(super) async fn log_in(
    worker: &Rc<Worker>,
    client: &mut Transport,
    startup: StartupMessage,
    read_ahead: BytesMut,
    request: &StartupRequest,
    limit: &LoginDeadline,
) -> Result<Authenticated, LoginFailure> {
    let (startup, owed) = version::ask_for_no_more(startup, version::newest(worker, request))?;
    let mut search = Search::new(worker, request.criteria);
    limit.extend(search.extra_wait());
    let timeout = worker.shared.live().timeouts.connect;
    loop {
        let mut server = search.connect().await?;
        let begun = timer::timeout(timeout, begin(&mut server.stream, &startup, &owed)).await;
        let exchange = match begun.unwrap_or_else(|_elapsed| Err(LoginError::timed_out(timeout))) {
            Ok(exchange) => exchange,
            Err(error) => {
                search.login_failed(&server, error)?;
                continue;
            }
        };
        let Exchange { reader, first, preface, version } = exchange;
        if let FirstReply::Challenge(challenge) = first {
            let mut out = preface;
            out.extend_from_slice(&challenge);
            client.write_all(&out).await.map_err(|_| LoginFailure::ClientGone)?;
            return pass_through(client, server, reader, read_ahead, version).await;
        }
        let login_reply = timer::timeout(timeout, read_login_reply(&mut server.stream, reader)).await;
        match login_reply.unwrap_or_else(|_elapsed| Err(LoginError::timed_out(timeout))) {
            Ok(login_reply) => {
                let relogin = Some(Relogin {
                    startup,
                    credentials: ServerCredentials::default(),
                    application_name: None,
                });
                let taken = ReadyServer { server, login_reply, choice: ChoiceReason::Regular };
                return Ok(Authenticated { taken, client_read_ahead: read_ahead, relogin, version, preface });
            }
            Err(error) => search.login_failed(&server, error)?,
        }
    }
}

/// Up to the first word of a server, before which the client is `owed` a NegotiateProtocolVersion unless it is the
/// server that sends one.
async fn begin(
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
                    false => FirstReply::Challenge(Bytes::copy_from_slice(message.bytes)),
                };
                return Ok(Exchange { reader, first, preface, version });
            }
            BackendTag::ErrorResponse => return Err(refused(message)),
            BackendTag::NegotiateProtocolVersion => {
                let negotiated = NegotiateProtocolVersion::parse(message.body())
                    .map_err(|error| LoginError::Exchange(error.to_string()))?;
                version = negotiated.version;
                // Its own word in place of ours.
                preface.clear();
                preface.extend_from_slice(message.bytes);
            }
            BackendTag::NoticeResponse => preface.extend_from_slice(message.bytes),
            _ => return Err(LoginError::Exchange(format!("unexpected message {:?}", message.tag() as char))),
        }
    }
}

/// What either side said next.
enum Received<'a> {
    Client(Result<RawMessage<'a>, ReadError>),
    Server(Result<RawMessage<'a>, ReadError>),
}

/// Who has to speak next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Client,
    Server,
}

/// The exchange from the challenge on. From here the session is this server's.
async fn pass_through(
    client: &mut Transport,
    mut server: Connected,
    mut server_reader: MessageReader,
    read_ahead: BytesMut,
    version: ProtocolVersion,
) -> Result<Authenticated, LoginFailure> {
    let mut client_reader = MessageReader::frontend(read_ahead);
    let mut turn = Turn::Client;
    loop {
        // The server may speak at any time. What a client sends behind its proof (its first queries, pipelined)
        // is the session's and waits for it.
        let next = tokio::select! {
            message = server_reader.next(&mut server.stream) => Received::Server(message),
            message = client_reader.next(client), if turn == Turn::Client => Received::Client(message),
        };
        match next {
            Received::Client(Ok(message)) => {
                turn = Turn::Server;
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
                if is_ok(message) {
                    break;
                }
                if asks_for_an_answer(message) {
                    turn = Turn::Client;
                }
                client.write_all(message.bytes).await.map_err(|_| LoginFailure::ClientGone)?;
                if BackendTag::from_byte(message.tag()) == BackendTag::ErrorResponse {
                    return Err(LoginFailure::ServerRefused(Bytes::new()));
                }
            }
        }
    }
    let login_reply: LoginReply = match read_login_reply(&mut server.stream, server_reader).await {
        Ok(login_reply) => login_reply,
        Err(LoginError::Refused { message, .. }) => return Err(LoginFailure::ServerRefused(message)),
        Err(error) => return Err(lost(&server, &error)),
    };
    let taken = ReadyServer { server, login_reply, choice: ChoiceReason::Regular };
    let client_read_ahead = client_reader.into_read_ahead();
    Ok(Authenticated { taken, client_read_ahead, relogin: None, version, preface: BytesMut::new() })
}

/// Whether the client has to answer a server's message.
fn asks_for_an_answer(message: RawMessage<'_>) -> bool {
    BackendTag::from_byte(message.tag()) == BackendTag::Authentication
        && !matches!(parse_authentication(message), Ok(Authentication::Ok | Authentication::SaslFinal(_)))
}

fn is_ok(message: RawMessage<'_>) -> bool {
    BackendTag::from_byte(message.tag()) == BackendTag::Authentication
        && matches!(parse_authentication(message), Ok(Authentication::Ok))
}

fn lost(server: &Connected, error: &LoginError) -> LoginFailure {
    tracing::warn!(
        server.name = %server.name, server.addr = %server.address, %error,
        "server was lost in the middle of an authentication that only its client can repeat"
    );
    let server = server.name.to_string();
    LoginFailure::Refused(Refusal::ServerLost { server, phase: "during authentication" })
}
