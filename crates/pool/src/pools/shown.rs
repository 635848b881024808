//! What is counted.

use std::time::{Duration, Instant};

use trunkline_topology::ServerId;

use crate::answer::CheckFirst;
use crate::counts::{PoolCounts, PoolTotals};
use crate::key::PoolKey;
use crate::pools::Pools;
use crate::store::keys::KeyEntry;
use crate::store::server_pool::ServerPool;

impl Pools {
    /// The clients of each key, without a server; the server connections of each pool, with its server.
    pub fn counts(&self, now: Instant) -> impl Iterator<Item = (Option<ServerId>, &PoolKey, PoolCounts)> {
        let clients = self.keys.iter().map(move |entry| (None, &entry.key, self.clients_of(entry, now)));
        let servers = self.pools.iter().filter_map(move |(_, pool)| {
            let entry = self.keys.get(pool.key)?;
            Some((Some(pool.server), &entry.key, self.connections_of(pool, now)))
        });
        clients.chain(servers)
    }

    /// What has happened since the start.
    #[must_use]
    pub fn totals(&self) -> &PoolTotals {
        &self.totals
    }

    fn clients_of(&self, entry: &KeyEntry, now: Instant) -> PoolCounts {
        let waiting = entry.queue.len() as u64;
        let first = entry.queue.first().and_then(|ticket| self.clients.get(ticket));
        let maxwait = first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first.since));
        PoolCounts {
            cl_active: entry.clients.saturating_sub(waiting),
            cl_waiting: waiting,
            maxwait,
            ..PoolCounts::default()
        }
    }

    fn connections_of(&self, pool: &ServerPool, now: Instant) -> PoolCounts {
        let idle = self.connections.newest_first(&pool.idle);
        let idle = idle.filter_map(|(_, connection)| connection.idle_since());
        let used = idle.filter(|since| self.settings.check_first(*since, now) == CheckFirst::Needed);
        let sv_used = used.count() as u64;
        PoolCounts {
            sv_active: u64::from(pool.busy - pool.testing),
            sv_idle: u64::from(pool.idle.len()) - sv_used,
            sv_used,
            sv_tested: u64::from(pool.testing),
            sv_login: u64::from(pool.opening),
            ..PoolCounts::default()
        }
    }
}
