//! Authentication by `login`: the proxy asks for the password, and the server that the client gets is the judge of it.
//!
//! What lets the session move is what that server's own method yields: the keys of SCRAM, the md5 form, or nothing
//! where it asked for nothing. The password itself is kept only where servers ask for it.

use std::pin::pin;
use std::rc::Rc;

use bytes::BytesMut;
use trunkline_auth::credentials::ServerCredentials;
use trunkline_codec::auth::parse_password;
use trunkline_codec::startup::StartupMessage;
use trunkline_codec::write;
use trunkline_net::Transport;
use trunkline_session::SessionState;
use zeroize::Zeroizing;

use super::deadline::LoginDeadline;
use super::pooling::{seat, unless_client_leaves};
use super::request::StartupRequest;
use super::verify::{Dialogue, for_servers};
use super::{Authenticated, LoginFailure, Relogin, version};
use crate::client::messages::MessageReader;
use crate::context::Worker;
use crate::errors::Refusal;
use crate::server::connection::check_out;
use crate::server::pooled::{Pooled, PooledClient};
use crate::server::take::{LoginAs, Search};

/// Logs a client in whose connection protects its password.
pub(super) async fn log_in(
    worker: &Rc<Worker>,
    client: &mut Transport,
    startup: StartupMessage,
    read_ahead: BytesMut,
    request: &StartupRequest,
    limit: &LoginDeadline,
) -> Result<Authenticated, LoginFailure> {
    let (version, mut preface) = version::negotiate(&startup, version::newest(worker, request))?;
    let mut dialogue = Dialogue { client, reader: MessageReader::frontend(read_ahead), out: &mut preface };
    write::authentication_cleartext_password(dialogue.out);
    let answer = dialogue.ask_for_password().await?;
    let given = parse_password(&answer).map_err(|error| Refusal::Protocol { message: error.to_string() })?;
    if given.is_empty() {
        return Err(Refusal::AuthenticationFailed { user: request.names.user.to_string() }.into());
    }
    let credentials = ServerCredentials::from_client(Zeroizing::new(given.to_vec()));
    drop(answer);
    let client_read_ahead = dialogue.reader.into_read_ahead();
    let startup = for_servers(startup);
    let mut search = Search::new(worker, request.criteria.clone());
    search.first = request.first;
    limit.extend(search.extra_wait());
    let who = LoginAs { startup: &startup, credentials: &credentials, restoring: None };
    let seat = seat(worker, request, &startup)?;
    let names = request.names.of_login();
    // The server is the judge of the password, so each client logs in to one.
    let who_is_it = PooledClient::Unproven;
    let pooled = seat.as_ref().map(|seat| Pooled { seat, names, who: who_is_it, start: None });
    let wanted = SessionState::new();
    let mut taken = {
        let taking = pin!(check_out(&mut search, who, &wanted, pooled));
        unless_client_leaves(client, &client_read_ahead, taking).await??
    };
    let proof = std::mem::take(&mut taken.login_reply.proof);
    let credentials = credentials.kept(startup.user(), proof);
    let relogin = Some(Relogin::new(worker, startup, credentials));
    Ok(Authenticated { taken, client_read_ahead, relogin, seat, version, preface })
}
