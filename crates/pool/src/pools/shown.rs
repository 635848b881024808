//! What is counted.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use trunkline_topology::ServerId;

use crate::answer::CheckFirst;
use crate::counts::{LongestWait, PoolCounts, PoolCrowd, PoolTotals};
use crate::key::{PoolBound, PoolId, PoolKey};
use crate::pools::Pools;
use crate::store::keys::KeyEntry;
use crate::store::server_pool::ServerPool;

impl Pools {
    /// The clients of each key, without a server; the server connections of each pool, with its server. Clients that have
    /// connections of their [own](PoolBound::Own) are left out.
    pub fn counts(&self, now: Instant) -> impl Iterator<Item = (Option<ServerId>, &PoolKey, PoolCounts)> {
        let shared = |bound: PoolBound| bound != PoolBound::Own;
        let keys = self.keys.iter().filter(move |entry| shared(entry.key.bound()));
        let clients = keys.map(move |entry| (None, &entry.key, self.clients_of(entry, now)));
        let pools = self.pools.iter().filter(move |(_, pool)| shared(pool.bound));
        let servers = pools.filter_map(move |(_, pool)| {
            let entry = self.keys.get(pool.key)?;
            Some((Some(pool.server), &entry.key, self.connections_of(pool, now)))
        });
        clients.chain(servers)
    }

    /// The servers that there are connections to, each as often as pools have it.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> {
        self.pools.iter().map(|(_, pool)| pool.server)
    }

    /// What has happened since the start.
    #[must_use]
    pub fn totals(&self) -> &PoolTotals {
        &self.totals
    }

    /// The key of a handle, while it is known.
    #[must_use]
    pub fn key_of(&self, key: PoolId) -> Option<&PoolKey> {
        self.keys.entry(key).map(|entry| &entry.key)
    }

    /// Whether a client has joined the key and not left it.
    #[must_use]
    pub fn has_clients(&self, key: PoolId) -> bool {
        self.keys.entry(key).is_some_and(|entry| entry.clients > 0)
    }

    /// The clients that wait for connections of this key, and of those that share its size, and how many connections there
    /// are, to all servers.
    #[must_use]
    pub fn crowd_of(&self, key: PoolId) -> PoolCrowd {
        let Some(entry) = self.keys.entry(key) else { return PoolCrowd::default() };
        let groups = entry.pools.iter().filter_map(|(_, pool)| self.pools.get(*pool)).map(|pool| pool.both);
        let groups: SmallVec<[usize; 4]> = groups.collect();
        let sharing = groups.iter().flat_map(|group| self.groups.pools(*group));
        let mut keys: SmallVec<[usize; 8]> = sharing
            .filter_map(|pool| self.pools.get(*pool))
            .map(|pool| pool.key)
            .chain([key.index])
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let waiting = keys.iter().filter_map(|key| self.keys.get(*key)).map(|entry| entry.queue.len() as u64);
        let connections = groups.iter().map(|group| u64::from(self.groups.connections(*group)));
        PoolCrowd { waiting: waiting.sum(), connections: connections.sum() }
    }

    /// The keys whose clients have waited for longer than this.
    pub fn longest_waits(&self, than: Duration, now: Instant) -> impl Iterator<Item = LongestWait<'_>> {
        let is_anyone_waiting = self.clients.waiting > 0;
        let keys = self.keys.iter().filter(move |entry| is_anyone_waiting && !entry.queue.is_empty());
        let waits = keys.map(move |entry| {
            let counts = self.clients_of(entry, now);
            LongestWait { key: &entry.key, waiting: counts.cl_waiting, maxwait: counts.maxwait }
        });
        waits.filter(move |wait| wait.maxwait > than)
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
