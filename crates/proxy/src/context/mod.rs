//! What a session is given to work with: the proxy's state ([`Shared`], [`Live`]) and its thread's ([`Worker`]).

mod handle;
mod journal;
mod shared;
mod slots;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;
use trunkline_session::LoginParameters;

pub(crate) use self::handle::{Handoff, Inbox, WorkerHandle};
pub(crate) use self::journal::{Journal, JournalPool};
pub(crate) use self::shared::{BoundListener, Live, RunPhase, Shared};
pub(crate) use self::slots::{Order, Slot, SlotGuard, Slots};
use crate::limits::READ_BUFFER_BYTES;
use crate::net::Connector;
use trunkline_telemetry::metrics::ThreadMetrics;

/// What the sessions of one thread share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<ThreadMetrics>,
    /// How servers are reached.
    pub(crate) connector: Connector,
    pub(crate) slots: Slots,
    /// Whether the process goes on: a login that is under way when it does not is refused.
    pub(crate) phase: watch::Receiver<RunPhase>,
    /// Every read of every session goes through here, so that an idle session owns no buffer.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    pub(crate) journals: RefCell<JournalPool>,
    /// What the last login's server told of its parameters: nearly always what the next one's tells.
    pub(crate) parameters: RefCell<Arc<LoginParameters>>,
}

impl Worker {
    /// Of a thread without sessions.
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        connector: Connector,
        phase: watch::Receiver<RunPhase>,
    ) -> Rc<Self> {
        Rc::new(Worker {
            index,
            metrics: shared.metrics.thread(index),
            shared,
            connector,
            slots: Slots::default(),
            phase,
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
            journals: RefCell::default(),
            parameters: RefCell::default(),
        })
    }
}
