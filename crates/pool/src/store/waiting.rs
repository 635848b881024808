//! The clients that wait.

use std::collections::BTreeMap;
use std::time::Instant;

use trunkline_topology::ServerId;

use crate::connection::{CarriedState, Fits, ReservedPlace};
use crate::waiter::Ticket;

/// A client that waits, or has not yet taken what it was granted.
#[derive(Debug)]
pub(crate) struct QueuedClient {
    /// The index of its key.
    pub(crate) key: usize,
    pub(crate) worker: u16,
    pub(crate) client: u64,
    pub(crate) state: CarriedState,
    pub(crate) fits: Fits,
    pub(crate) since: Instant,
    pub(crate) candidates: Vec<ServerId>,
    pub(crate) stage: QueueStage,
    pub(crate) notice: WaitNotice,
}

/// Whether a client has been told that it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitNotice {
    Owed,
    Given,
}

/// Where a client is in its wait.
#[derive(Debug)]
pub(crate) enum QueueStage {
    /// In the queues of its key and of its candidates' pools.
    Waiting,
    /// In no queue: this connection is held for it.
    Connection(usize),
    /// In no queue: this place is held for it.
    Place(ReservedPlace),
}

impl QueuedClient {
    pub(crate) fn is_waiting(&self) -> bool {
        match self.stage {
            QueueStage::Waiting => true,
            QueueStage::Connection(_) | QueueStage::Place(_) => false,
        }
    }
}

/// All of them, in the order of their tickets.
#[derive(Debug)]
pub(crate) struct WaitingClients {
    pub(crate) table: BTreeMap<Ticket, QueuedClient>,
    /// How many of them wait.
    pub(crate) waiting: usize,
    last: u64,
    /// Since when the youngest one waits.
    latest: Option<Instant>,
    /// Those before it have been told that they wait, or need not be told.
    pub(crate) noticed: Ticket,
    /// From this one on, none may use the reserve.
    pub(crate) entitled: Ticket,
}

impl Default for WaitingClients {
    fn default() -> Self {
        WaitingClients {
            table: BTreeMap::new(),
            waiting: 0,
            last: Ticket::FIRST.0,
            latest: None,
            noticed: Ticket::FIRST,
            entitled: Ticket::FIRST,
        }
    }
}

impl Ticket {
    /// Older than all that are given.
    pub(crate) const FIRST: Ticket = Ticket(0);

    /// The next younger one.
    pub(crate) fn after(self) -> Self {
        Ticket(self.0.saturating_add(1))
    }
}

impl WaitingClients {
    /// A ticket younger than all others, and since when it waits: not before any of them, even if two threads read the clock
    /// in one order and come here in the other.
    pub(crate) fn ticket(&mut self, now: Instant) -> (Ticket, Instant) {
        self.last += 1;
        let since = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(since);
        (Ticket(self.last), since)
    }

    /// The first one that waits, from this ticket on.
    pub(crate) fn first_waiting(&self, from: Ticket) -> Option<(Ticket, &QueuedClient)> {
        let mut rest = self.table.range(from..);
        rest.find(|(_, client)| client.is_waiting()).map(|(ticket, client)| (*ticket, client))
    }
}
