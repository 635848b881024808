//! How a client gets into the queues, and out of them.

use std::time::Instant;

use smallvec::SmallVec;
use trunkline_topology::ServerId;

use crate::answer::{CheckFirst, Effects, Given, Taken, WaitState};
use crate::pools::Pools;
use crate::store::connections::ConnectionStage;
use crate::store::waiting::QueueStage;
use crate::waiter::{LongWait, Ticket};

/// Whether a client is in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JoinedQueues {
    Now,
    /// It was there.
    Before,
    /// There are too many pools.
    Never,
}

impl Pools {
    /// Whether a client waits for a connection, of whatever pool.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.clients.waiting > 0
    }

    /// Takes what a wait has brought, if it has ended.
    pub fn take(&mut self, ticket: Ticket, now: Instant) -> WaitState {
        if self.clients.get(ticket).is_some_and(|client| client.is_waiting()) {
            return WaitState::Waiting;
        }
        let taken = match self.clients.remove(ticket).map(|client| client.stage) {
            Some(QueueStage::Place(place)) => Some(Taken::Open(place)),
            Some(QueueStage::Connection(index)) => self.take_connection(index, now).map(Taken::Idle),
            Some(QueueStage::Waiting) | None => None,
        };
        taken.map_or(WaitState::Over, WaitState::Ready)
    }

    fn take_connection(&mut self, index: usize, now: Instant) -> Option<Given> {
        let connection = self.connections.get_mut(index)?;
        let pool = self.pools.get_mut(connection.pool)?;
        let ConnectionStage::Granted { idle_since, .. } = connection.stage else { return None };
        let check = self.settings.check_first(idle_since, now);
        connection.stage = match check {
            CheckFirst::Needed => ConnectionStage::Testing,
            CheckFirst::Unneeded => ConnectionStage::Held,
        };
        connection.unused_since = idle_since;
        pool.testing += u32::from(check == CheckFirst::Needed);
        self.totals.reused += 1;
        Some(Given { token: connection.token, server: pool.server, state: connection.state, check })
    }

    /// The client waits no longer; what was granted and not taken goes back. A ticket that was taken or has expired is
    /// ignored.
    pub fn cancel(&mut self, ticket: Ticket, now: Instant) -> Effects {
        let mut effects = Effects::default();
        if self.clients.get(ticket).is_some_and(|client| client.is_waiting()) {
            self.dequeue(ticket);
        }
        let Some(client) = self.clients.remove(ticket) else { return effects };
        match client.stage {
            QueueStage::Waiting => {}
            QueueStage::Place(place) => self.release(&place, &mut effects),
            QueueStage::Connection(index) => self.take_back(index, now, &mut effects),
        }
        self.keys.tidy(client.key);
        effects
    }

    /// The client has waited for `query_wait_timeout`, and has seen so before [`due`](Pools::due) has: as
    /// [`cancel`](Pools::cancel), and counted.
    pub fn expire_wait(&mut self, ticket: Ticket, now: Instant) -> Effects {
        if self.clients.get(ticket).is_some_and(|client| client.is_waiting()) {
            self.totals.expired += 1;
        }
        self.cancel(ticket, now)
    }

    /// A connection was granted and not taken.
    fn take_back(&mut self, index: usize, now: Instant, effects: &mut Effects) {
        let Some(connection) = self.connections.get(index) else { return };
        let ConnectionStage::Granted { idle_since, .. } = connection.stage else { return };
        let (token, pool) = (connection.token, connection.pool);
        if let Some(reason) = self.reason_to_close(index, now) {
            if let Some(server) = self.pools.get(pool).map(|pool| pool.server) {
                effects.close.push(crate::ToClose { token, server, reason });
            }
            self.end(index, reason, effects);
            return;
        }
        self.keep(index, idle_since, effects);
    }

    /// Other servers will do for a client that waits now, in any order. What it was granted already stays granted.
    ///
    /// Costs next to nothing where they are those of before: to be called as often as a client looks.
    pub fn set_candidates(&mut self, ticket: Ticket, candidates: &[ServerId]) -> Effects {
        let mut effects = Effects::default();
        let Some(client) = self.clients.get_mut(ticket) else { return effects };
        let (key, is_waiting) = (client.key, client.is_waiting());
        let mut left = SmallVec::new();
        if client.candidates[..] != *candidates {
            left = std::mem::replace(&mut client.candidates, candidates.into());
            left.retain(|server| !candidates.contains(server));
        }
        if !is_waiting {
            return effects;
        }
        for server in left {
            self.leave_queue(ticket, key, server);
        }
        // Of those of before, too, one may have had no queue for it, when there were too many pools.
        let mut queues = 0;
        for server in candidates {
            queues += usize::from(self.join_queue(ticket, key, *server) == JoinedQueues::Now);
        }
        if queues > 0 {
            self.offer(ticket, &mut effects);
        }
        effects
    }

    /// Serves this client if there is something for it.
    pub(super) fn offer(&mut self, ticket: Ticket, effects: &mut Effects) {
        let Some(client) = self.clients.get(ticket).filter(|client| client.is_waiting()) else {
            return;
        };
        let Some(entry) = self.keys.get(client.key) else { return };
        let pools: Vec<usize> = client.candidates.iter().filter_map(|server| entry.pool(*server)).collect();
        for index in pools {
            let first = self.pools.get(index).and_then(|pool| pool.queue.first());
            if first == Some(ticket) && self.serve(index, effects) {
                break;
            }
        }
    }

    /// Puts a client into the queues of its key and of its candidates; returns how many of the latter there are.
    pub(super) fn enqueue(&mut self, ticket: Ticket) -> usize {
        let Some(client) = self.clients.get_mut(ticket) else { return 0 };
        let key = client.key;
        let candidates = std::mem::take(&mut client.candidates);
        self.clients.waiting += 1;
        if let Some(entry) = self.keys.get_mut(key) {
            entry.queue.insert(ticket);
        }
        let mut queues = 0;
        for server in &candidates {
            queues += usize::from(self.join_queue(ticket, key, *server) != JoinedQueues::Never);
        }
        if let Some(client) = self.clients.get_mut(ticket) {
            client.candidates = candidates;
        }
        queues
    }

    /// Takes a client that waits out of all queues.
    pub(super) fn dequeue(&mut self, ticket: Ticket) {
        let Some(client) = self.clients.get_mut(ticket) else { return };
        let key = client.key;
        let candidates = std::mem::take(&mut client.candidates);
        self.clients.waiting -= 1;
        if let Some(entry) = self.keys.get_mut(key) {
            entry.queue.remove(ticket);
        }
        for server in &candidates {
            self.leave_queue(ticket, key, *server);
        }
        if let Some(client) = self.clients.get_mut(ticket) {
            client.candidates = candidates;
        }
    }

    /// Puts a client into the queue of a server's pool, a new one where there is none.
    fn join_queue(&mut self, ticket: Ticket, key: usize, server: ServerId) -> JoinedQueues {
        let Some(index) = self.find_or_add_pool(key, server) else { return JoinedQueues::Never };
        let Some(pool) = self.pools.get_mut(index) else { return JoinedQueues::Never };
        match pool.queue.insert(ticket) {
            true => JoinedQueues::Now,
            false => JoinedQueues::Before,
        }
    }

    /// Takes a client out of the queue of a server's pool, and the pool, if that was all of it.
    fn leave_queue(&mut self, ticket: Ticket, key: usize, server: ServerId) {
        let Some(index) = self.keys.get(key).and_then(|entry| entry.pool(server)) else { return };
        if let Some(pool) = self.pools.get_mut(index) {
            pool.queue.remove(ticket);
        }
        self.tidy(index);
    }

    /// How long a client has waited, for those who are told.
    pub(super) fn long_wait(&self, ticket: Ticket, now: Instant) -> Option<LongWait> {
        let client = self.clients.get(ticket)?;
        Some(LongWait {
            ticket,
            worker: client.worker,
            client: client.client,
            waited: now.saturating_duration_since(client.since),
            queue_len: self.keys.get(client.key).map_or(0, |entry| entry.queue.len()),
        })
    }
}
