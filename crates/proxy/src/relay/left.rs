//! Connections whose clients have gone: brought to what a new client finds, and given to the next one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use trunkline_reactor::{spawn, timer};
use trunkline_session::{Alignment, AlignmentReader, ConnectionState, SessionState, diff};
use trunkline_telemetry::metrics::PoolCloseReason;
use trunkline_telemetry::sessions::SessionNames;

use crate::context::Worker;
use crate::defaults::{ReportedDefaults, SessionDefaults};
use crate::limits::{DEFAULTS_NEWS_PATIENCE, POOL_RESET_TIMEOUT};
use crate::pool::connection::ServerConnection;
use crate::pool::seat::SeatMode;
use crate::server::align::run;

/// A connection whose client has gone.
pub(super) struct LeftConnection {
    pub(super) server: Box<ServerConnection>,
    pub(super) state: ConnectionState,
    pub(super) mode: SeatMode,
    pub(super) own: Arc<SessionDefaults>,
}

impl LeftConnection {
    pub(super) fn give_back(self, worker: &Rc<Worker>) {
        let LeftConnection { mut server, state, mode, own } = self;
        let defaults = own.digest();
        server.own = Some(own);
        match mode {
            SeatMode::Transaction if state.tainted().is_none() => {
                worker.check_in(server, state, defaults, Instant::now())
            }
            SeatMode::Own => server.terminate(),
            // Its client is the only one that it was pinned for.
            SeatMode::Transaction | SeatMode::Session => {
                spawn(reset(Rc::clone(worker), server, state, defaults));
            }
        }
    }
}

/// Gives a connection back once the defaults of its login are known; closes it where they remain in doubt.
pub(super) async fn confirm(
    worker: Rc<Worker>,
    mut left: LeftConnection,
    names: Arc<SessionNames>,
    told: ReportedDefaults,
) {
    let defaults = &worker.shared.defaults;
    let looked = async {
        while !left.own.is_looked_at(defaults) {
            defaults.next_look(left.server.lease.server()).await;
        }
    };
    let _elapsed = timer::timeout(DEFAULTS_NEWS_PATIENCE, looked).await;
    let in_doubt = Arc::make_mut(&mut left.own).confirm(defaults, names.of_login(), &told);
    if in_doubt.is_empty() && !left.own.is_unconfirmed() {
        left.give_back(&worker);
    } else {
        worker.metrics.pool_closed.one(PoolCloseReason::Login);
        left.server.terminate();
    }
}

/// Has the connection forget its session, and gives it back; closes it where that cannot be done.
async fn reset(worker: Rc<Worker>, server: Box<ServerConnection>, mut state: ConnectionState, defaults: u32) {
    let new = SessionState::new();
    if state.fits(&new) && diff(&state, &new).is_empty() {
        return worker.check_in(server, state, defaults, Instant::now());
    }
    let closed = &worker.metrics.pool_closed;
    let server = match state.proof() {
        Some(proof) => match run_alone(&worker, server, &proof).await {
            Some((server, told)) => {
                state.calls_told(told.row());
                server
            }
            None => return,
        },
        None => server,
    };
    let Some(mut after) = state.after_discard_all() else {
        closed.one(PoolCloseReason::Pinned);
        return server.terminate();
    };
    if let Some((server, told)) = run_alone(&worker, server, &ConnectionState::reset()).await {
        after.reported(told.parameters());
        worker.check_in(server, after, defaults, Instant::now());
    }
}

/// Runs this on a connection that no session has; `None`, and closed, where that fails.
async fn run_alone(
    worker: &Worker,
    server: Box<ServerConnection>,
    alignment: &Alignment,
) -> Option<(Box<ServerConnection>, AlignmentReader)> {
    let name = Arc::clone(&server.name);
    server.stream.change_reader();
    match timer::timeout(POOL_RESET_TIMEOUT, run(server, alignment)).await {
        Ok(Ok(answered)) => return Some(answered),
        Ok(Err(error)) => {
            tracing::warn!(server.name = %name, %error, "a server connection could not be reset for its next client, it is closed");
        }
        Err(_elapsed) => {
            tracing::warn!(server.name = %name, "a server connection was not reset in time for its next client, it is closed");
        }
    }
    worker.metrics.pool_closed.one(PoolCloseReason::ResetFailed);
    None
}
