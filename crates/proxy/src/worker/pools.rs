//! What workers do for idle connections: mail, what is due, and servers that are to be left.

use std::rc::Rc;
use std::time::Instant;

use tokio::sync::mpsc;
use trunkline_reactor::spawn;
use trunkline_telemetry::metrics::PoolCloseReason;
use trunkline_topology::{ServerId, Snapshot, State};

use crate::context::Worker;
use crate::pool::mail::PoolMail;
use crate::server::ahead::open_ahead;
use crate::server::returned::close_forgotten;

/// Reads the worker's mail until the process ends.
pub(crate) async fn read_mail(worker: Rc<Worker>, mut mail: mpsc::UnboundedReceiver<PoolMail>) {
    while let Some(mail) = mail.recv().await {
        match mail {
            PoolMail::Granted { client } => worker.wake_waiter(client),
            PoolMail::Close { token, reason } => {
                if let Some(server) = worker.shelf.take(token) {
                    close_forgotten(server, reason);
                }
            }
            PoolMail::GiveBack => worker.slots.wake_keepers(),
            PoolMail::OpenAhead { place, key } => {
                let worker = Rc::clone(&worker);
                spawn(async move { open_ahead(&worker, place, key).await });
            }
            PoolMail::HandOver { token, to } => {
                let released = worker.shelf.take(token).and_then(|server| server.release());
                // Who asked for it may have gone: then the connection is closed, and its place is free.
                let _gone = to.send(released);
            }
        }
    }
}

/// Closes the worker's idle connections whose servers have said something; one worker does what is due in the pools.
pub(crate) fn tick(worker: &Worker) {
    for server in worker.shelf.take_loud() {
        tracing::debug!(server.name = %server.name, "the server has ended or spoken to an idle connection, which is closed");
        worker.metrics.pool_closed.one(PoolCloseReason::ServerClosed);
        server.terminate();
    }
    if worker.index == 0 {
        let (pools, now) = (&worker.shared.pools, Instant::now());
        pools.tick();
        pools.forget_old_vouchers();
        worker.shared.fills.retain_used(pools);
        pools.tell_of_waits(now);
        let due = pools.lock().due(now);
        pools.deliver(due.effects);
        for (place, key) in due.open {
            pools.open_ahead(place, key);
        }
    }
}

/// The verdicts have changed: idle connections to servers that no session may have are closed.
pub(crate) fn look(worker: &Worker) {
    // The pools are those of the process.
    if worker.index != 0 {
        return;
    }
    let snapshot = worker.shared.health.load();
    let mut left: Vec<ServerId> = {
        let pools = worker.shared.pools.lock();
        pools.servers().filter(|server| is_left(&snapshot, *server)).collect()
    };
    left.sort_unstable_by_key(|server| server.0);
    left.dedup();
    for server in left {
        let effects = worker.shared.pools.lock().retire(server);
        worker.shared.pools.deliver(effects);
    }
}

/// Whether no session may have this server: it is gone from the set, or leaving it, or does not serve.
fn is_left(snapshot: &Snapshot, id: ServerId) -> bool {
    snapshot.server(id).is_none_or(|server| {
        let is_out = matches!(server.state, State::Down | State::Fenced | State::Maint | State::Drain);
        server.is_leaving || is_out
    })
}

/// Closes all idle connections: the process ends.
pub(crate) fn close_all(worker: &Worker) {
    for server in worker.shelf.take_all() {
        worker.metrics.pool_closed.one(PoolCloseReason::Shutdown);
        server.terminate();
    }
}
