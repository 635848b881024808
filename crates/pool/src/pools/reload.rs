//! Other settings, and servers that are retired.

use trunkline_topology::ServerId;

use crate::answer::Effects;
use crate::connection::CloseReason;
use crate::key::PoolBound;
use crate::pools::Pools;
use crate::settings::PoolSettings;
use crate::store::connections::KeepAfterUse;
use crate::store::groups::GroupName;
use crate::store::server_pool::Upkeep;
use crate::waiter::Ticket;

impl Pools {
    /// Closes all connections to a server that there are, those being opened among them: idle ones now, the others when they
    /// are checked in. Later ones are kept as usual: who must not use the server does not name it as a candidate.
    pub fn retire(&mut self, server: ServerId) -> Effects {
        let mut effects = Effects::default();
        let mut idle = Vec::new();
        for (index, connection) in self.connections.iter_mut() {
            if self.pools.get(connection.pool).is_some_and(|pool| pool.server == server) {
                connection.keep = KeepAfterUse::Retired;
                idle.extend(connection.idle_since().map(|_| index));
            }
        }
        for (_, opening) in &mut self.openings {
            if self.pools.get(opening.pool).is_some_and(|pool| pool.server == server) {
                opening.keep = KeepAfterUse::Retired;
            }
        }
        for (_, pool) in self.pools.iter_mut().filter(|(_, pool)| pool.server == server) {
            pool.upkeep = Upkeep::Left;
        }
        // Nobody has waited for their places: who waits has found nothing idle.
        for index in idle {
            self.close_idle(index, CloseReason::Retired, &mut effects);
        }
        for pool in self.pools.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            self.tidy(pool);
        }
        effects
    }

    /// Puts other settings in force, at once. Connections that are too many now are closed: idle ones at once, the others
    /// when they are checked in.
    pub fn reconfigure(&mut self, settings: PoolSettings) -> Effects {
        let mut effects = Effects::default();
        self.settings = settings;
        for (_, pool) in &mut self.pools {
            if let Some(entry) = self.keys.get(pool.key) {
                pool.size = self.settings.size_of(entry.key.user(), entry.key.database());
            }
        }
        self.connections.set_lifetime(self.settings.server_lifetime);
        for (_, connection) in self.connections.iter_mut() {
            if self.pools.get(connection.pool).is_some_and(|pool| pool.bound == PoolBound::Own) {
                connection.old_at = None;
            }
        }
        // Reckoned anew by the next look.
        self.clients.entitled = Ticket::FIRST;
        self.is_look_due = true;
        self.shrink_pools(&mut effects);
        self.shrink_groups(&mut effects);
        for pool in self.pools.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            self.settle(pool, &mut effects);
        }
        effects
    }

    fn shrink_pools(&mut self, effects: &mut Effects) {
        for index in self.pools.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            while let Some(pool) = self.pools.get(index)
                && (self.is_over_size(pool) || self.has_spare(pool))
                && let Some(oldest) = self.oldest_idle(self.groups.pools(pool.both), |_| true)
            {
                self.close_idle(oldest, CloseReason::PoolSize, effects);
            }
        }
    }

    fn shrink_groups(&mut self, effects: &mut Effects) {
        let (databases, users) = (self.settings.max_db_connections, self.settings.max_user_connections);
        let limits = self.groups.iter().map(|(group, name)| match name {
            GroupName::Database(_) => (group, databases),
            GroupName::User(_) => (group, users),
            // Seen to by way of their pools.
            GroupName::Both { .. } => (group, 0),
        });
        for (group, limit) in limits.filter(|(_, limit)| *limit > 0).collect::<Vec<_>>() {
            while self.groups.connections(group) > limit
                && let Some(oldest) = self.oldest_idle(self.groups.pools(group), |_| true)
            {
                self.close_idle(oldest, CloseReason::Limit, effects);
            }
        }
    }
}
