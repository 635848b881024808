//! The place of a client among those of its pools.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bytes::BytesMut;
use trunkline_codec::scan::{Piece, Scanner};
use trunkline_codec::startup::StartupMessage;
use trunkline_net::Transport;
use trunkline_pool::{PoolMode, ServerReuse};

use super::LoginFailure;
use super::request::StartupRequest;
use crate::context::Worker;
use crate::errors::Refusal;
use crate::pool::seat::{ClientSeat, SeatMode};
use crate::server::connection::ReadyServer;
use crate::settings::AddHost;

/// Takes a place for a client that has proved who it is; `None` for one that has one server connection to itself.
pub(super) fn seat(
    worker: &Worker,
    request: &StartupRequest,
    startup: &StartupMessage,
) -> Result<Option<ClientSeat>, LoginFailure> {
    let live = worker.shared.live();
    let [user, database] = request.names.of_login();
    let listener = request.criteria.listener.settings.options.pool_mode;
    let mode = live.pool.mode_of(listener, user, database);
    // It takes turns on a connection to the primary and one to a standby.
    let is_own = mode == PoolMode::Session && request.criteria.is_split();
    let shares = is_own || mode == PoolMode::Transaction || live.pool.server_reuse == ServerReuse::On;
    // The name of each client would make each its own pool.
    let is_shown = request.criteria.listener.settings.options.application_name_add_host == AddHost::On;
    if !shares || is_shown || request.is_replication() || !request.is_in_utf8() {
        return Ok(None);
    }
    let pools = &worker.shared.pools;
    let seat = match is_own {
        true => ClientSeat::own(pools, [user, database]),
        false => worker.seats.borrow_mut().take(pools, mode, [user, database], startup),
    };
    seat.map(Some).map_err(|refusal| Refusal::Pool { why: refusal.to_string() }.into())
}

/// What the client is told of a connection that another client has logged in to. Of one that is its own it also gets the notices
/// of the login, such as those of an event trigger.
pub(super) fn tell_login(taken: &mut ReadyServer, seat: Option<&ClientSeat>) {
    if taken.server.member.is_none() {
        return;
    }
    let reported = std::mem::take(&mut taken.login_reply.messages);
    let mut told = taken.server.state.parameter_messages(&reported);
    if seat.is_some_and(|seat| seat.mode() == SeatMode::Own) {
        append_notices(&mut told, &reported);
    }
    taken.login_reply.messages = told;
}

/// Appends the NoticeResponse messages among `reported`.
fn append_notices(out: &mut BytesMut, reported: &[u8]) {
    let mut scanner = Scanner::backend();
    let (mut start, mut at) = (0, 0);
    while let Ok(Some(piece)) = scanner.next(reported, &mut at) {
        if let Piece::Message { tag: b'N', .. } = piece {
            out.extend_from_slice(&reported[start..at]);
        }
        start = at;
    }
}

/// Takes a server for a client, whose place in a queue is another's as soon as it leaves. One that has sent more already is
/// not looked at: it may have closed its sending side and still want its answers. By a pointer: the search is large.
pub(super) async fn unless_client_leaves<T>(
    client: &Transport,
    read_ahead: &[u8],
    taking: Pin<&mut impl Future<Output = T>>,
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
