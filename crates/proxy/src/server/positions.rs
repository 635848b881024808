//! Asks servers for their WAL positions over idle connections of a pool, for sessions that read elsewhere what they have written.
//! Health asks too, less often: without an idle connection it is told to.

use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use trunkline_codec::ids::Lsn;
use trunkline_pool::CarriedState;
use trunkline_reactor::{spawn, timer};
use trunkline_session::{Position, ask_insert_position, ask_position};
use trunkline_topology::{Role, ServerId, ServerStatus};

use super::align::read_position;
use super::connection::ReadyServer;
use super::login::LoginReply;
use super::pooled::ask_last;
use crate::client::messages::ReadError;
use crate::context::{TalliedPosition, Worker};
use crate::limits::{POSITION_GAP, POSITION_PATIENCE};
use crate::pool::connection::ServerConnection;
use crate::pool::seat::{PoolSeat, SeatMode};
use crate::pool::start::PoolStart;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedPosition {
    /// Where the primary writes next.
    Insert,
    /// What a standby has replayed.
    Replay,
}

/// Has a server asked, in the background: what it tells is in the worker's positions.
/// `since` as for `TalliedPositions::wanted`.
pub(crate) fn ask_for_position(
    worker: &Rc<Worker>,
    seat: &Rc<PoolSeat>,
    carried: CarriedState,
    (server, what): (ServerId, AskedPosition),
    since: Option<Instant>,
) {
    if worker.positions.wanted(server, since) {
        spawn(ask_until_known(Rc::clone(worker), Rc::clone(seat), carried, server, what));
    }
}

async fn ask_until_known(
    worker: Rc<Worker>,
    seat: Rc<PoolSeat>,
    carried: CarriedState,
    server: ServerId,
    what: AskedPosition,
) {
    loop {
        let began = Instant::now();
        worker.positions.asks(server, began);
        let told = match idle_connection(&worker, &seat, carried, server).await {
            Some(connection) => ask(&worker, connection, what).await,
            None => None,
        };
        if told.is_none() {
            worker.shared.health.ask_now(server);
        }
        if told.is_some() && what == AskedPosition::Insert {
            // Who wants this reads on standbys next.
            ask_standbys(&worker, &seat, carried);
        }
        let told = told.map(|lsn| TalliedPosition { asked_at: began, lsn });
        if !worker.positions.answered(server, told) {
            return;
        }
        if seat.mode() == SeatMode::Own {
            // The client whose connection this is comes before the others that ask.
            worker.positions.answered(server, None);
            return worker.shared.health.ask_now(server);
        }
        timer::sleep(POSITION_GAP.max(began.elapsed())).await;
    }
}

fn ask_standbys(worker: &Rc<Worker>, seat: &Rc<PoolSeat>, carried: CarriedState) {
    let snapshot = worker.shared.health.load();
    let is_up = |server: &&ServerStatus| server.role == Role::Standby && server.state.takes_new();
    for standby in snapshot.servers.iter().filter(is_up) {
        ask_for_position(worker, seat, carried, (standby.id, AskedPosition::Replay), None);
    }
}

/// An idle connection of the pool, of this worker or another.
async fn idle_connection(
    worker: &Worker,
    seat: &PoolSeat,
    carried: CarriedState,
    server: ServerId,
) -> Option<Box<ServerConnection>> {
    let connection = match ask_last(worker, seat, server, carried, u64::MAX, Instant::now())? {
        PoolStart::Idle(connection, _) => connection,
        PoolStart::Coming(coming, _) => {
            let mut connection = coming.await.ok().flatten()?.adopt()?;
            if let Some(member) = &mut connection.member {
                member.renamed(worker.shelf.name(worker.index));
            }
            connection
        }
        PoolStart::Open(place) => {
            place.unused();
            return None;
        }
        // What is dropped gives its place up.
        PoolStart::Wait(_) | PoolStart::Gone => return None,
    };
    if connection.stream.is_silent() {
        return Some(connection);
    }
    connection.terminate();
    None
}

/// Asks on a connection that no session has, and gives it back.
async fn ask(worker: &Rc<Worker>, server: Box<ServerConnection>, what: AskedPosition) -> Option<Lsn> {
    server.stream.change_reader();
    let mut taken = ReadyServer::new(server, LoginReply::default());
    match timer::timeout(POSITION_PATIENCE, answer(&mut taken, what)).await {
        Ok(Ok(position)) if taken.login_reply.read_ahead.is_empty() => {
            let mut server = taken.server;
            server.state.unnamed_replaced();
            worker.put_back(server);
            match position {
                Position::UpTo(lsn) => Some(lsn),
                // It has another role now, or refuses to tell.
                Position::Everything | Position::Untold => None,
            }
        }
        Ok(_) | Err(_) => {
            taken.server.terminate();
            None
        }
    }
}

async fn answer(taken: &mut ReadyServer, what: AskedPosition) -> Result<Position, ReadError> {
    let mut question = BytesMut::new();
    match what {
        AskedPosition::Insert => ask_insert_position(&mut question),
        AskedPosition::Replay => ask_position(&mut question),
    }
    taken.server.stream.write_all(&question).await?;
    read_position(taken).await
}
