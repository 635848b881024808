//! The clients that wait.

use std::time::Instant;

use slab::Slab;
use smallvec::SmallVec;
use trunkline_topology::ServerId;

use crate::connection::{CarriedState, Fits, ReservedPlace};
use crate::store::queue::TicketQueue;
use crate::waiter::Ticket;

/// Tickets of those who are gone that may be in the order of all, besides as many as there are clients.
const SPARE_TICKETS: usize = 64;

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
    pub(crate) candidates: SmallVec<[ServerId; 4]>,
    pub(crate) stage: QueueStage,
    pub(crate) notice: WaitNotice,
    /// How often one that came later was served first.
    pub(crate) passed: u8,
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

/// All of them.
#[derive(Debug)]
pub(crate) struct WaitingClients {
    table: Slab<(Ticket, QueuedClient)>,
    /// Their tickets, and some of those who are gone.
    order: TicketQueue,
    /// How many of them wait.
    pub(crate) waiting: usize,
    /// The number of the youngest ticket.
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
            table: Slab::new(),
            order: TicketQueue::default(),
            waiting: 0,
            last: Ticket::FIRST.serial,
            latest: None,
            noticed: Ticket::FIRST,
            entitled: Ticket::FIRST,
        }
    }
}

impl WaitingClients {
    /// Adds a client, behind all others: it has not waited for longer than any of them, even if two threads read the clock in
    /// one order and come here in the other.
    pub(crate) fn add(&mut self, mut client: QueuedClient) -> Ticket {
        client.since = self.latest.map_or(client.since, |latest| latest.max(client.since));
        self.latest = Some(client.since);
        self.last += 1;
        let ticket = Ticket { serial: self.last, index: self.table.vacant_key() };
        self.table.insert((ticket, client));
        self.order.insert(ticket);
        ticket
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<&QueuedClient> {
        self.table.get(ticket.index).filter(|(own, _)| *own == ticket).map(|(_, client)| client)
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut QueuedClient> {
        self.table.get_mut(ticket.index).filter(|(own, _)| *own == ticket).map(|(_, client)| client)
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<QueuedClient> {
        self.get(ticket)?;
        let (_, client) = self.table.try_remove(ticket.index)?;
        while self.order.first().is_some_and(|first| self.get(first).is_none()) {
            self.order.0.pop_front();
        }
        if self.order.len() > 2 * self.table.len() + SPARE_TICKETS {
            let table = &self.table;
            self.order.0.retain(|ticket| table.get(ticket.index).is_some_and(|(own, _)| own == ticket));
        }
        Some(client)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Those from this ticket on, the oldest first.
    pub(crate) fn iter_from(&self, from: Ticket) -> impl Iterator<Item = (Ticket, &QueuedClient)> {
        let rest = self.order.0.range(self.order.place_of(from)..);
        rest.filter_map(|ticket| Some((*ticket, self.get(*ticket)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::CarriedState;

    fn client() -> QueuedClient {
        QueuedClient {
            key: 0,
            worker: 0,
            client: 0,
            state: CarriedState::default(),
            fits: |_, _| true,
            since: Instant::now(),
            candidates: SmallVec::new(),
            stage: QueueStage::Waiting,
            notice: WaitNotice::Owed,
            passed: 0,
        }
    }

    #[test]
    fn those_who_are_gone_are_forgotten_though_an_older_one_still_waits() {
        let mut clients = WaitingClients::default();
        let patient = clients.add(client());
        for _ in 0..10 * SPARE_TICKETS {
            let ticket = clients.add(client());
            assert!(clients.remove(ticket).is_some());
            assert!(clients.order.len() <= 2 + SPARE_TICKETS);
            assert!(clients.get(ticket).is_none() && clients.remove(ticket).is_none());
        }
        let younger = clients.add(client());
        let tickets: Vec<_> = clients.iter_from(Ticket::FIRST).map(|(ticket, _)| ticket).collect();
        assert_eq!(tickets, [patient, younger]);
        assert_eq!(clients.iter_from(patient.after()).count(), 1);
    }
}
