//! What sessions work with: the state of the proxy ([`Shared`], [`Live`]) and of their thread ([`Worker`]).

mod auth_choice;
mod clock;
mod fills;
mod handle;
mod interned;
mod listeners;
mod positions;
mod shared;
mod slots;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use trunkline_session::{FirstStatements, JournalPool, KnownReads, LoginParameters, Rewritten};

pub(crate) use self::auth_choice::AuthChoice;
pub use self::auth_choice::{AuthReason, ChosenMode, SettledAuth};
use self::clock::PollClock;
pub(crate) use self::fills::{FillFault, FillLogin, FillLogins, FillNews, FillOffer};
pub(crate) use self::handle::{Handoff, Inbox, WorkerHandle};
pub(crate) use self::interned::{Interned, KnownNames, UserLogin};
pub(crate) use self::listeners::{
    BoundListener, CurrentListener, DoneSender, ListenerChange, ListeningSocket, OpenedSocket,
};
pub(crate) use self::positions::{TalliedPosition, TalliedPositions};
pub(crate) use self::shared::{Live, LiveStores, RunPhase, Shared, log_connection};
pub(crate) use self::slots::{Order, Slot, SlotGuard, Slots};
use crate::limits::READ_BUFFER_BYTES;
use crate::net::Connector;
use crate::pool::seat::Seats;
use crate::pool::shelf::Shelf;
use trunkline_telemetry::log_rate::LogRate;
use trunkline_telemetry::metrics::{Label as _, RefusalReason, ThreadMetrics};

/// What the sessions of one thread share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<ThreadMetrics>,
    /// How servers are reached.
    pub(crate) connector: Connector,
    pub(crate) slots: Slots,
    /// Its idle connections to servers.
    pub(crate) shelf: Rc<Shelf>,
    /// Whether the process is running: a login in progress is refused when it shuts down.
    pub(crate) phase: watch::Receiver<RunPhase>,
    /// Every read of every session goes through here, so that an idle session owns no buffer.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    /// Where a chunk becomes what goes to the other side, if that differs.
    pub(crate) rewritten: RefCell<Rewritten>,
    pub(crate) journals: RefCell<JournalPool>,
    /// Which of its new sessions have their first statement compared with those of other servers.
    pub(crate) first_statements: RefCell<FirstStatements>,
    pub(crate) clock: PollClock,
    /// Positions of servers, for sessions that read what they have written.
    pub(crate) positions: TalliedPositions,
    /// What its sessions' statements do, where they choose a server for each.
    pub(crate) known_reads: RefCell<KnownReads>,
    /// The parameters that the last login reported: the next one nearly always reports the same.
    pub(crate) parameters: RefCell<Arc<LoginParameters>>,
    /// The names of users, databases and listeners that its sessions have.
    pub(crate) names: RefCell<KnownNames>,
    /// What logs its sessions in on other servers.
    pub(crate) logins: RefCell<Interned<UserLogin>>,
    /// The places of its sessions among the clients of the pools.
    pub(crate) seats: RefCell<Seats>,
    /// Connections refused, by the reason.
    pub(crate) refusals: RefCell<[LogRate; RefusalReason::COUNT]>,
    /// Users whose secret could not be looked up.
    pub(crate) lookups_failed: RefCell<LogRate>,
    /// Doors closed after too many failures.
    pub(crate) doors_closed: RefCell<LogRate>,
}

impl Worker {
    /// A worker without sessions.
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
            shelf: Rc::default(),
            phase,
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
            rewritten: RefCell::default(),
            journals: RefCell::default(),
            first_statements: RefCell::new(FirstStatements::new(Instant::now())),
            clock: PollClock::default(),
            positions: TalliedPositions::default(),
            known_reads: RefCell::default(),
            parameters: RefCell::default(),
            names: RefCell::default(),
            seats: RefCell::default(),
            logins: RefCell::default(),
            refusals: RefCell::default(),
            lookups_failed: RefCell::default(),
            doors_closed: RefCell::default(),
        })
    }

    /// The parameters that a login reports. Sessions with equal parameters share one copy of some 350 bytes.
    pub(crate) fn shared_parameters(&self, told: &[u8]) -> Arc<LoginParameters> {
        let mut last = self.parameters.borrow_mut();
        if last.messages() != told {
            *last = Arc::new(LoginParameters::new(told));
        }
        Arc::clone(&last)
    }
}
