//! What threads see of each other's workers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;
use trunkline_net::Accepted;
use trunkline_topology::ClientAddress;

use super::listeners::{BoundListener, ListenerChange};
use crate::limits::{HANDOFF_QUEUE, LISTENER_CHANGES_MAX};
use crate::pool::mail::{PoolMail, PoolMailbox};
use trunkline_telemetry::limits::SESSIONS_QUESTIONS_MAX;
use trunkline_telemetry::sessions::SessionsQuery;

/// A connection accepted by another thread.
#[derive(Debug)]
pub(crate) struct Handoff {
    pub(crate) socket: Accepted,
    pub(crate) peer: ClientAddress,
    pub(crate) listener: Arc<BoundListener>,
}

/// What other threads see of a worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    /// Its connections, including those being handed over to it.
    pub(crate) connections: AtomicUsize,
    pub(crate) handoff: mpsc::Sender<Handoff>,
    pub(crate) questions: mpsc::Sender<SessionsQuery>,
    pub(crate) listeners: mpsc::Sender<ListenerChange>,
    pub(crate) pool_mail: PoolMailbox,
}

/// The worker's own end of its handle.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) handoffs: mpsc::Receiver<Handoff>,
    pub(crate) questions: mpsc::Receiver<SessionsQuery>,
    pub(crate) listeners: mpsc::Receiver<ListenerChange>,
    pub(crate) pool_mail: mpsc::UnboundedReceiver<PoolMail>,
}

impl WorkerHandle {
    pub(crate) fn new() -> (Self, Inbox) {
        let (handoff, handoffs) = mpsc::channel(HANDOFF_QUEUE);
        let (questions, asked) = mpsc::channel(SESSIONS_QUESTIONS_MAX);
        let (listeners, changes) = mpsc::channel(LISTENER_CHANGES_MAX);
        let (pool_mail, mail) = PoolMailbox::new();
        let handle =
            WorkerHandle { connections: AtomicUsize::new(0), handoff, questions, listeners, pool_mail };
        (handle, Inbox { handoffs, questions: asked, listeners: changes, pool_mail: mail })
    }
}
