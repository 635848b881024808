//! The way of a connection to a client.

use std::time::Instant;

use crate::answer::{CheckFirst, CheckOut, Effects, Given};
use crate::connection::{CarriedState, Fits};
use crate::key::PoolBound;
use crate::limits::{PREFERENCE_DEPTH, WAITERS_MAX, WAITERS_PER_KEY_MAX};
use crate::pools::Pools;
use crate::pools::serving::Reserve;
use crate::store::connections::ConnectionStage;
use crate::store::waiting::{QueueStage, QueuedClient, WaitNotice};
use crate::waiter::{PoolAsk, PoolRefusal};

impl Pools {
    /// Gives the client an idle connection, a place for a new one, or a place in the queue.
    ///
    /// The first candidate decides that has an idle connection that fits, or room for another one. Idle ones that do not fit
    /// make room, the one that was idle longest first; so do those of other pools where `pool_size` or a limit of database or
    /// user is reached.
    pub fn check_out(&mut self, ask: &PoolAsk<'_>, now: Instant) -> CheckOut {
        if self.keys.of(ask.key).is_none() {
            return CheckOut::Refused(PoolRefusal::UnknownKey);
        }
        let key = ask.key.index;
        for server in ask.candidates {
            let Some(pool) = self.find_or_add_pool(key, *server) else { continue };
            if let Some(index) = self.best_idle(pool, &ask.state, ask.fits, ask.worker)
                && let Some(given) = self.give_idle(pool, index, now)
            {
                return CheckOut::Idle(given);
            }
            if let Some(room) = self.room(pool, Reserve::Closed) {
                let mut effects = Effects::default();
                let place = self.open_in(pool, room, &mut effects);
                return match place {
                    Some(place) => CheckOut::Open { place, effects },
                    None => continue,
                };
            }
            // Nothing comes of a pool that is there only because a limit allows it nothing, unless clients wait for it.
            self.tidy(pool);
        }
        self.wait(ask, now)
    }

    /// The connection has answered the check that it needed.
    pub fn checked(&mut self, token: crate::ConnectionToken) {
        let Some(index) = self.connections.find(token) else { return };
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.stage == ConnectionStage::Testing {
            connection.stage = ConnectionStage::Held;
            if let Some(pool) = self.pools.get_mut(connection.pool) {
                pool.testing -= 1;
            }
        }
    }

    /// The idle connection of a pool that costs least to bring to this state: one that is in it, then one with the same marks,
    /// so that others are left to clients that only those fit, then one that belongs to the client's worker, then the one used
    /// last.
    pub(super) fn best_idle(
        &self,
        pool: usize,
        asked: &CarriedState,
        fits: Fits,
        worker: u16,
    ) -> Option<usize> {
        let pool = self.pools.get(pool)?;
        let mut best: Option<(u8, usize)> = None;
        for (seen, (index, connection)) in self.connections.newest_first(&pool.idle).enumerate() {
            if best.is_some() && seen >= PREFERENCE_DEPTH {
                break;
            }
            let costs = match connection.state.fingerprint == asked.fingerprint {
                true => 0,
                false if !fits(asked, &connection.state) => continue,
                false if connection.state.marks == asked.marks => 2,
                false => 4,
            };
            let costs = costs + u8::from(connection.token.worker != worker);
            if costs == 0 {
                return Some(index);
            }
            if best.is_none_or(|(least, _)| costs < least) {
                best = Some((costs, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn give_idle(&mut self, pool: usize, index: usize, now: Instant) -> Option<Given> {
        let pool = self.pools.get_mut(pool)?;
        let since = self.connections.get(index)?.idle_since()?;
        let check = self.settings.check_first(since, now);
        let stage = match check {
            CheckFirst::Needed => ConnectionStage::Testing,
            CheckFirst::Unneeded => ConnectionStage::Held,
        };
        self.connections.unlink(&mut pool.idle, index, stage);
        pool.busy += 1;
        pool.testing += u32::from(check == CheckFirst::Needed);
        self.totals.reused += u64::from(pool.bound != PoolBound::Own);
        let connection = self.connections.get(index)?;
        Some(Given { token: connection.token, server: pool.server, state: connection.state, check })
    }

    fn wait(&mut self, ask: &PoolAsk<'_>, now: Instant) -> CheckOut {
        let of_key = self.keys.get(ask.key.index).map_or(0, |entry| entry.queue.len());
        if of_key >= WAITERS_PER_KEY_MAX || self.clients.len() >= WAITERS_MAX {
            self.totals.refused += 1;
            return CheckOut::Refused(PoolRefusal::TooManyWaiters);
        }
        let client = QueuedClient {
            key: ask.key.index,
            worker: ask.worker,
            client: ask.client,
            state: ask.state,
            fits: ask.fits,
            since: now,
            candidates: ask.candidates.into(),
            stage: QueueStage::Waiting,
            notice: WaitNotice::Owed,
            passed: 0,
        };
        let ticket = self.clients.add(client);
        let queues = self.enqueue(ticket);
        if queues == 0 && !ask.candidates.is_empty() {
            self.dequeue(ticket);
            self.clients.remove(ticket);
            self.totals.refused += 1;
            return CheckOut::Refused(PoolRefusal::TooManyPools);
        }
        self.totals.waited += 1;
        CheckOut::Wait(ticket)
    }
}

impl crate::settings::PoolSettings {
    /// Whether a connection that has been idle since then is asked for a sign of life first.
    pub(crate) fn check_first(&self, idle_since: Instant, now: Instant) -> CheckFirst {
        match now.saturating_duration_since(idle_since) >= self.server_check_delay {
            true => CheckFirst::Needed,
            false => CheckFirst::Unneeded,
        }
    }
}
