//! All pools of the process.
//!
//! What holds after each call, and what everything here relies on: **a client waits only while there is nothing for it**, no
//! idle connection in a pool of its candidates and no room for another one. So whoever asks may be served before those who
//! wait: what it gets is of no use to them. And of the clients that wait for one pool only the first need be tried: what does
//! not do for it does for none.
//!
//! - `check_out`, `check_in`: the way of a connection to a client and back.
//! - `opening`: connections that come; `moved`: that go to another worker.
//! - `own`: connections that are one client's own.
//! - `serving`: what becomes free is given to those that wait.
//! - `waiting`: how a client gets into the queues and out of them.
//! - `upkeep`: what time brings about.
//! - `reload`: other settings, servers that are retired.
//! - `shown`: what is counted.

mod check_in;
mod check_out;
mod moved;
mod opening;
mod own;
mod reload;
mod serving;
mod shown;
#[cfg(test)]
mod tests;
mod upkeep;
mod waiting;

use std::time::Instant;

use slab::Slab;
use trunkline_topology::ServerId;

use crate::answer::Effects;
use crate::counts::PoolTotals;
use crate::key::{PoolBound, PoolId, PoolKey};
use crate::limits::POOLS_MAX;
use crate::settings::PoolSettings;
use crate::store::connections::{Connections, IdleList};
use crate::store::groups::{GroupName, LimitGroups, NO_GROUP};
use crate::store::keys::PoolKeys;
use crate::store::queue::TicketQueue;
use crate::store::server_pool::{OpeningPlace, ServerPool, Upkeep};
use crate::store::waiting::WaitingClients;
use crate::waiter::PoolRefusal;

pub use upkeep::Due;

/// All pools of the process.
#[derive(Debug, Default)]
pub struct Pools {
    settings: PoolSettings,
    keys: PoolKeys,
    pools: Slab<ServerPool>,
    /// Those of clients that have their own connections: some for each of their sessions.
    own_pools: usize,
    groups: LimitGroups,
    connections: Connections,
    openings: Slab<OpeningPlace>,
    /// Of the place given last.
    opening_serial: u64,
    /// Places that only `min_pool_size` asked for.
    fills: usize,
    clients: WaitingClients,
    /// Clients that have waited and were served.
    served: u64,
    /// When a connection may have been idle too long or be too old.
    upkeep_at: Option<Instant>,
    /// A pool may have become too small since the last look, or large enough to spare an idle connection.
    is_look_due: bool,
    totals: PoolTotals,
}

impl Pools {
    /// No pools yet.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Pools { settings, ..Pools::default() }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// Counts one more client of `key`, which is known until all of its clients [have left](Pools::leave).
    ///
    /// # Errors
    /// [`PoolRefusal::TooManyPools`] when there are [`KEYS_MAX`](crate::limits::KEYS_MAX) keys.
    pub fn join(&mut self, key: &PoolKey) -> Result<PoolId, PoolRefusal> {
        let id = self.keys.find_or_add(key).ok_or(PoolRefusal::TooManyPools)?;
        if let Some(entry) = self.keys.of(id) {
            entry.clients += 1;
        }
        Ok(id)
    }

    /// Counts one client more of a key that is still known: it has clients, or connections. Whether it is.
    #[must_use]
    pub fn join_again(&mut self, key: PoolId) -> bool {
        self.keys.of(key).map(|entry| entry.clients += 1).is_some()
    }

    /// Counts one client less. It neither waits nor has a connection; those that were its [own](PoolBound::Own) are closed.
    pub fn leave(&mut self, key: PoolId) -> Effects {
        let mut effects = Effects::default();
        let Some(entry) = self.keys.of(key) else { return effects };
        entry.clients = entry.clients.saturating_sub(1);
        if entry.clients == 0 {
            // What was kept for them by `min_pool_size` is so no longer.
            let pools: Vec<usize> = entry.pools.iter().map(|(_, pool)| *pool).collect();
            self.look_after_fills();
            for pool in pools {
                self.close_left(pool, &mut effects);
                self.tidy(pool);
            }
            self.keys.tidy(key.index);
        }
        effects
    }

    /// The pool of a key to a server, a new one where there is none. `None`: there are too many.
    fn find_or_add_pool(&mut self, key: usize, server: ServerId) -> Option<usize> {
        let entry = self.keys.get_mut(key)?;
        if let Some(pool) = entry.pool(server) {
            return Some(pool);
        }
        let (user, database, bound) = (entry.key.user(), entry.key.database(), entry.key.bound());
        let is_own = bound == PoolBound::Own;
        if !is_own && self.pools.len() - self.own_pools >= POOLS_MAX {
            return None;
        }
        self.own_pools += usize::from(is_own);
        let index = self.pools.vacant_key();
        let [of_database, of_user, both] = match bound {
            PoolBound::Own => [NO_GROUP; 3],
            PoolBound::Sized | PoolBound::Unlimited => {
                let names = [
                    GroupName::Database(database.into()),
                    GroupName::User(user.into()),
                    GroupName::both(&entry.key),
                ];
                names.map(|name| self.groups.join(server, name, index))
            }
        };
        self.pools.insert(ServerPool {
            server,
            key,
            database: of_database,
            user: of_user,
            both,
            bound,
            size: self.settings.size_of(user, database),
            idle: IdleList::default(),
            busy: 0,
            testing: 0,
            opening: 0,
            queue: TicketQueue::default(),
            // Behind those that wait already: a stranger with many keys gets no turns before others.
            served: self.served,
            upkeep: Upkeep::Left,
            fills: 0,
            fill_at: None,
        });
        entry.pools.push((server, index));
        Some(index)
    }

    /// Forgets a pool that nobody uses, and its key if nobody uses that either.
    fn tidy(&mut self, index: usize) {
        let is_unneeded = |pool: &ServerPool| pool.is_unused() && self.least(pool) == 0;
        if !self.pools.get(index).is_some_and(is_unneeded) {
            return;
        }
        let Some(pool) = self.pools.try_remove(index) else { return };
        self.own_pools -= usize::from(pool.bound == PoolBound::Own);
        pool.groups().into_iter().for_each(|group| self.groups.leave(group, index));
        if let Some(entry) = self.keys.get_mut(pool.key) {
            entry.pools.retain(|(_, of)| *of != index);
        }
        self.keys.tidy(pool.key);
    }
}
