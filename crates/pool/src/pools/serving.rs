//! What becomes free is given to those that wait.
//!
//! Pools that share a limit take turns: the one that was served longest ago is the next one, so that a user with many
//! clients leaves the others their share of a database. Within a pool, who has waited longest is served first.

use crate::answer::Effects;
use crate::connection::{CloseReason, ToClose};
use crate::pools::Pools;
use crate::settings::PoolSettings;
use crate::store::connections::ConnectionStage;
use crate::store::server_pool::{OpeningFor, ServerPool};
use crate::store::waiting::QueueStage;
use crate::waiter::{Grant, GrantKind, Ticket};

/// Whether a client may have a connection beyond `pool_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserve {
    Closed,
    /// It has waited for `reserve_pool_timeout`.
    Open,
}

/// Room for one more connection, when these idle ones are closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    evicted: [Option<usize>; 2],
}

/// Where something has become free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affected {
    pool: usize,
    groups: Option<[usize; 2]>,
}

impl PoolSettings {
    /// What a pool of this size may have at most.
    pub(crate) fn size_with_reserve(&self, size: u32) -> u32 {
        match self.reserve_pool_timeout.is_zero() {
            true => size,
            false => size.saturating_add(self.reserve_pool_size),
        }
    }
}

impl Pools {
    /// Gives what has become free to those that wait for it, and what becomes free by that, too.
    pub(super) fn settle(&mut self, freed: impl IntoIterator<Item = Affected>, effects: &mut Effects) {
        let mut work: Vec<Affected> = freed.into_iter().collect();
        while let Some(affected) = work.pop() {
            while self.clients.waiting > 0 && self.serve_one_of(affected, effects, &mut work) {}
            self.tidy(affected.pool);
        }
    }

    /// Serves a client of the pool whose turn it is.
    fn serve_one_of(&mut self, affected: Affected, effects: &mut Effects, work: &mut Vec<Affected>) -> bool {
        let Some([database, user]) = affected.groups else {
            return self.serve(affected.pool, effects, work);
        };
        let limits =
            [(self.settings.max_db_connections, database), (self.settings.max_user_connections, user)];
        let shared = limits.into_iter().filter(|(limit, _)| *limit > 0);
        let shared = shared.flat_map(|(_, group)| self.groups.pools(group).iter().copied());
        let mut turns: Vec<(u64, Ticket, usize)> = shared
            .chain([affected.pool])
            .filter_map(|index| {
                let pool = self.pools.get(index)?;
                Some((pool.served, *pool.queue.first()?, index))
            })
            .collect();
        turns.sort_unstable();
        turns.into_iter().any(|(_, _, pool)| self.serve(pool, effects, work))
    }

    /// Serves the client that has waited longest for this pool, if there is anything for it.
    pub(super) fn serve(&mut self, index: usize, effects: &mut Effects, work: &mut Vec<Affected>) -> bool {
        let Some(ticket) = self.pools.get(index).and_then(|pool| pool.queue.first().copied()) else {
            return false;
        };
        let Some(client) = self.clients.table.get(&ticket) else { return false };
        let (worker, id) = (client.worker, client.client);
        let idle = self.best_idle(index, &client.state, client.fits, worker);
        let (stage, what) = if let Some(given) = idle.and_then(|idle| self.hold(idle, ticket)) {
            given
        } else {
            let Some(room) = self.room(index, self.reserve_of(ticket)) else { return false };
            work.extend(self.make_room(room, effects).into_iter().flatten());
            let Some(place) = self.reserve(index, OpeningFor::Client) else { return false };
            let what = GrantKind::Open(place.server);
            (QueueStage::Place(place), what)
        };
        self.served += 1;
        if let Some(pool) = self.pools.get_mut(index) {
            pool.served = self.served;
        }
        self.dequeue(ticket);
        if let Some(client) = self.clients.table.get_mut(&ticket) {
            client.stage = stage;
        }
        self.totals.granted += 1;
        effects.grants.push(Grant { ticket, worker, client: id, what });
        true
    }

    /// Holds an idle connection for a client that waits.
    fn hold(&mut self, index: usize, ticket: Ticket) -> Option<(QueueStage, GrantKind)> {
        let connection = self.connections.get(index)?;
        let (token, idle_since) = (connection.token, connection.idle_since()?);
        let pool = self.pools.get_mut(connection.pool)?;
        let stage = ConnectionStage::Granted { ticket, idle_since };
        self.connections.unlink(&mut pool.idle, index, stage);
        pool.busy += 1;
        Some((QueueStage::Connection(index), GrantKind::Idle(token)))
    }

    /// Whether this client may use the reserve.
    pub(super) fn reserve_of(&self, ticket: Ticket) -> Reserve {
        match ticket < self.clients.entitled {
            true => Reserve::Open,
            false => Reserve::Closed,
        }
    }

    /// How a pool gets room for one more connection, if it can.
    pub(super) fn room(&self, index: usize, reserve: Reserve) -> Option<Room> {
        let pool = self.pools.get(index)?;
        let size = match reserve {
            Reserve::Closed => pool.size,
            Reserve::Open => self.settings.size_with_reserve(pool.size),
        };
        if pool.total() >= size {
            // Instead of one of its own: the numbers stay as they are.
            return pool.idle.oldest().map(|own| Room { evicted: [Some(own), None] });
        }
        let database = self.has_reached(self.settings.max_db_connections, pool.database);
        let user = self.has_reached(self.settings.max_user_connections, pool.user);
        let evicted = match (database, user) {
            (false, false) => [None, None],
            (true, false) => [Some(self.oldest_idle(self.groups.pools(pool.database), |_| true)?), None],
            (false, true) => [Some(self.oldest_idle(self.groups.pools(pool.user), |_| true)?), None],
            (true, true) => {
                let of_database = self.groups.pools(pool.database);
                match self.oldest_idle(of_database, |other| other.user == pool.user) {
                    Some(both) => [Some(both), None],
                    None => {
                        let one = self.oldest_idle(of_database, |_| true)?;
                        let other = self.oldest_idle(self.groups.pools(pool.user), |_| true)?;
                        [Some(one), Some(other)]
                    }
                }
            }
        };
        Some(Room { evicted })
    }

    /// Closes the idle connections that room is made of; returns where that matters to others.
    pub(super) fn make_room(&mut self, room: Room, effects: &mut Effects) -> [Option<Affected>; 2] {
        room.evicted.map(|evicted| {
            let pool = self.close_idle(evicted?, CloseReason::Evicted, effects)?;
            self.affected(pool)
        })
    }

    /// Closes an idle connection; returns its pool, which stays.
    pub(super) fn close_idle(
        &mut self,
        index: usize,
        reason: CloseReason,
        effects: &mut Effects,
    ) -> Option<usize> {
        let connection = self.connections.get(index)?;
        let (token, pool) = (connection.token, connection.pool);
        let server = self.pools.get(pool)?.server;
        self.forget(index, reason);
        effects.close.push(ToClose { token, server, reason });
        Some(pool)
    }

    pub(super) fn oldest_idle(&self, pools: &[usize], counts: impl Fn(&ServerPool) -> bool) -> Option<usize> {
        let pools = pools.iter().filter_map(|pool| self.pools.get(*pool));
        let idle = pools.filter(|pool| counts(pool)).filter_map(|pool| pool.idle.oldest());
        idle.min_by_key(|index| self.connections.get(*index).and_then(|connection| connection.idle_since()))
    }

    fn has_reached(&self, limit: u32, group: usize) -> bool {
        limit > 0 && self.groups.connections(group) >= limit
    }

    /// Whether a reload has left a pool's database or user fewer connections than they have.
    pub(super) fn is_over_limit(&self, pool: &ServerPool) -> bool {
        let is_over = |limit: u32, group| limit > 0 && self.groups.connections(group) > limit;
        is_over(self.settings.max_db_connections, pool.database)
            || is_over(self.settings.max_user_connections, pool.user)
    }

    /// Whom it concerns that something is free in this pool.
    pub(super) fn affected(&self, pool: usize) -> Option<Affected> {
        let groups = match self.settings.max_db_connections == 0 && self.settings.max_user_connections == 0 {
            true => None,
            false => self.pools.get(pool).map(|pool| [pool.database, pool.user]),
        };
        Some(Affected { pool, groups })
    }
}
