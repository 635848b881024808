//! The place of a client among those of its pools.

use std::future::{Future, poll_fn};
use std::task::Poll;

use trunkline_codec::startup::StartupMessage;
use trunkline_net::Transport;
use trunkline_pool::{PoolMode, ServerReuse};
use trunkline_session::StartupSettings;

use super::LoginFailure;
use super::packet::SplitPacket;
use super::request::StartupRequest;
use crate::context::Worker;
use crate::errors::Refusal;
use crate::pool::seat::ClientSeat;
use crate::server::connection::ReadyServer;
use crate::settings::AddHost;

/// How a client that has proved who it is gets server connections.
pub(super) struct Seated {
    /// Its place among those that share them; `None` for one that has its own to itself.
    pub(super) seat: Option<ClientSeat>,
    /// The startup packet for servers.
    pub(super) startup: StartupMessage,
    /// Settings of its own packet that are not in that one.
    pub(super) settings: Option<StartupSettings>,
}

/// Takes a place for a client.
pub(super) fn seat(
    worker: &Worker,
    request: &StartupRequest,
    startup: StartupMessage,
) -> Result<Seated, LoginFailure> {
    let live = worker.shared.live();
    let [user, database] = request.names.of_login();
    let listener = request.criteria.listener.settings.options.pool_mode;
    let mode = live.pool.mode_of(listener, user, database);
    let shares = mode == PoolMode::Transaction || live.pool.server_reuse == ServerReuse::On;
    if !shares || request.is_replication || !request.is_in_utf8() {
        return Ok(Seated { seat: None, startup, settings: None });
    }
    let SplitPacket { login, settings } = match mode {
        PoolMode::Transaction => SplitPacket::of(startup),
        // What a client leaves is reset to what its login has given it.
        PoolMode::Session => SplitPacket { login: startup, settings: None },
    };
    // The name of each client would make each its own pool.
    let is_shown = request.criteria.listener.settings.options.application_name_add_host == AddHost::On;
    if is_shown && login.get("application_name").is_some() {
        return Ok(Seated { seat: None, startup: login, settings: None });
    }
    let seat = worker.seats.borrow_mut().take(&worker.shared.pools, mode, [user, database], &login);
    let seat = seat.map_err(|refusal| Refusal::Pool { why: refusal.to_string() })?;
    let settings = settings.map(|settings| seat.share_startup(settings));
    Ok(Seated { seat: Some(seat), startup: login, settings })
}

/// What the client is told of a connection that another client has logged in to.
pub(super) fn tell_login(taken: &mut ReadyServer) {
    if taken.server.member.is_some() {
        taken.login_reply.messages = taken.server.state.parameter_messages(&taken.login_reply.messages);
    }
}

/// Takes a server for a client, whose place in a queue is another's as soon as it leaves. One that has sent more already is
/// not looked at: it may have closed its sending side and still want its answers.
pub(super) async fn unless_client_leaves<T>(
    client: &Transport,
    read_ahead: &[u8],
    taking: impl Future<Output = T>,
) -> Result<T, LoginFailure> {
    let left = poll_fn(|cx| match client.poll_peek(cx, &mut [0]) {
        Poll::Ready(Ok(0) | Err(_)) if read_ahead.is_empty() => Poll::Ready(()),
        Poll::Ready(_) | Poll::Pending => Poll::Pending,
    });
    tokio::select! {
        biased;
        taken = taking => Ok(taken),
        () = left => Err(LoginFailure::ClientGone),
    }
}
