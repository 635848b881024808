//! What becomes free is given to those that wait.
//!
//! Pools that share a limit take turns: the one that was served longest ago is the next one, so that a user with many
//! clients leaves the others their share of a database, and an application of many clients leaves the others that log in
//! by the same user their share of `pool_size`. Within a pool, who has waited longest is served first, but for a client of
//! the worker that has the connection: it may have come [`NEAR_WAIT`] later, and [`NEAR_PASSES`] such clients are served first
//! at most.

use std::time::Instant;

use trunkline_topology::ServerId;

use crate::answer::Effects;
use crate::connection::{CloseReason, ReservedPlace, ToClose};
use crate::key::{PoolBound, PoolId, ServerLimit};
use crate::limits::{NEAR_DEPTH, NEAR_PASSES, NEAR_WAIT};
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

impl Room {
    pub(super) fn by_closing(idle: usize) -> Self {
        Room { evicted: [Some(idle), None] }
    }
}

/// The groups whose limits pools share.
type SharedLimits = [Option<usize>; 3];

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
    /// Gives what has become free in a pool to those that wait for it.
    ///
    /// That concerns its own clients, and those of the pools that share a limit with it. What is closed for them was idle, so
    /// that it was there for everyone before: it ends nobody else's wait.
    pub(super) fn settle(&mut self, pool: usize, effects: &mut Effects) {
        if self.clients.waiting > 0 {
            // The pool itself may be gone before its place has found a client.
            let limits = self.limits_of(pool);
            while self.serve_one_of(pool, limits, effects) {}
        }
        self.tidy(pool);
    }

    /// Serves a client of the pool whose turn it is, of this one and those that share a limit with it.
    fn serve_one_of(&mut self, pool: usize, limits: SharedLimits, effects: &mut Effects) -> bool {
        let sharing = self.sharing(pool, limits);
        let mut turns: Vec<_> = sharing.filter_map(|index| self.turn_of(index)).collect();
        turns.sort_unstable();
        // Some are there once for each limit that they share.
        turns.dedup();
        turns.into_iter().any(|(_, _, pool)| self.serve(pool, effects))
    }

    /// The groups whose limits hold for a pool.
    fn limits_of(&self, index: usize) -> SharedLimits {
        let Some(pool) = self.pools.get(index) else { return [None; 3] };
        let limited = |limit: u32, group| (limit > 0).then_some(group);
        let size = match pool.bound {
            PoolBound::Sized => Some(pool.both),
            PoolBound::Unlimited => None,
            PoolBound::Own => return [None; 3],
        };
        let database = limited(self.settings.max_db_connections, pool.database);
        let user = limited(self.settings.max_user_connections, pool.user);
        [database, user, size]
    }

    /// This pool, and those that share one of these limits with it, some of them twice.
    fn sharing(&self, index: usize, limits: SharedLimits) -> impl Iterator<Item = usize> {
        let groups = limits.into_iter().flatten();
        groups.flat_map(|group| self.groups.pools(group).iter().copied()).chain([index])
    }

    /// When it is a pool's turn, if clients wait for it: the least is the next one.
    fn turn_of(&self, index: usize) -> Option<(u64, Ticket, usize)> {
        let pool = self.pools.get(index)?;
        Some((pool.served, pool.queue.first()?, index))
    }

    /// Serves the client that has waited longest for this pool, if there is anything for it.
    pub(super) fn serve(&mut self, index: usize, effects: &mut Effects) -> bool {
        let Some(ticket) = self.pools.get(index).and_then(|pool| pool.queue.first()) else {
            return false;
        };
        let Some(client) = self.clients.get(ticket) else { return false };
        let (worker, id) = (client.worker, client.client);
        let idle = self.best_idle(index, &client.state, client.fits, worker);
        let (stage, what) = if let Some(given) = idle.and_then(|idle| self.hold(idle, ticket)) {
            given
        } else {
            let Some(room) = self.room(index, self.reserve_of(ticket)) else { return false };
            let Some(place) = self.open_in(index, room, effects) else { return false };
            let what = GrantKind::Open(place.server);
            (QueueStage::Place(place), what)
        };
        self.grant(index, ticket, stage);
        effects.grants.push(Grant { ticket, worker, client: id, what });
        true
    }

    /// Ends a wait for this pool.
    fn grant(&mut self, index: usize, ticket: Ticket, stage: QueueStage) {
        self.served += 1;
        if let Some(pool) = self.pools.get_mut(index) {
            pool.served = self.served;
        }
        self.dequeue(ticket);
        if let Some(client) = self.clients.get_mut(ticket) {
            client.stage = stage;
        }
        self.totals.granted += 1;
    }

    /// Hands a connection that comes back to the client whose turn it is in its pool, if it fits and it is that pool's turn:
    /// the usual case, without the way through the idle ones.
    pub(super) fn hand_over(&mut self, index: usize, idle_since: Instant) -> Option<Grant> {
        let connection = self.connections.get(index)?;
        let (token, at, state) = (connection.token, connection.pool, connection.state);
        let first = self.pools.get(at)?.queue.first()?;
        let ticket = self.near(at, first, token.worker).unwrap_or(first);
        let client = self.clients.get(ticket)?;
        let fits = state.fingerprint == client.state.fingerprint || (client.fits)(&client.state, &state);
        if !fits || !self.is_next(at) {
            return None;
        }
        let (worker, client) = (client.worker, client.client);
        if ticket != first
            && let Some(passed) = self.clients.get_mut(first)
        {
            passed.passed += 1;
        }
        let connection = self.connections.get_mut(index)?;
        connection.stage = ConnectionStage::Granted { ticket, idle_since };
        self.grant(at, ticket, QueueStage::Connection(index));
        Some(Grant { ticket, worker, client, what: GrantKind::Idle(token) })
    }

    /// The client of a pool that a connection of this worker serves before the one that has waited longest: another worker
    /// would have to take the connection over for that one, and a client of this worker has waited as long, or nearly.
    fn near(&self, pool: usize, first: Ticket, worker: u16) -> Option<Ticket> {
        let oldest = self.clients.get(first)?;
        if oldest.worker == worker || oldest.passed >= NEAR_PASSES {
            return None;
        }
        let latest = oldest.since + NEAR_WAIT;
        let others = self.pools.get(pool)?.queue.0.iter().skip(1).take(NEAR_DEPTH);
        let others = others.filter_map(|ticket| Some((*ticket, self.clients.get(*ticket)?)));
        let mut near = others.take_while(|(_, client)| client.since <= latest);
        near.find(|(_, client)| client.worker == worker).map(|(ticket, _)| ticket)
    }

    /// Whether it is the turn of this pool, for which clients wait, among those that share a limit with it.
    fn is_next(&self, index: usize) -> bool {
        let limits = self.limits_of(index);
        if limits.into_iter().flatten().all(|group| self.groups.pools(group).len() == 1) {
            return true;
        }
        let Some(turn) = self.turn_of(index) else { return false };
        !self.sharing(index, limits).filter_map(|other| self.turn_of(other)).any(|other| other < turn)
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
        if pool.bound == PoolBound::Own {
            return Self::room_for_own(pool);
        }
        let size = match reserve {
            Reserve::Closed => pool.size,
            Reserve::Open => self.settings.size_with_reserve(pool.size),
        };
        if pool.bound == PoolBound::Sized && self.groups.connections(pool.both) >= size {
            // Instead of one of the same database and user: the numbers stay as they are.
            let oldest = self.oldest_idle(self.groups.pools(pool.both), |_| true)?;
            return Some(Room::by_closing(oldest));
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

    /// Closes the idle connections that room is made of, and takes a place there.
    pub(super) fn open_in(
        &mut self,
        pool: usize,
        room: Room,
        effects: &mut Effects,
    ) -> Option<ReservedPlace> {
        let emptied = room.evicted.map(|index| self.close_idle(index?, CloseReason::Evicted, effects));
        let place = self.reserve(pool, OpeningFor::Client);
        emptied.into_iter().flatten().for_each(|pool| self.tidy(pool));
        place
    }

    /// A server has refused a connection of this key for a limit of its own, and the place for it is still taken: closes the
    /// connection there that counts against the limit and has been idle longest, but for those that `min_pool_size` keeps: they
    /// would be opened again at once, in place of the one that room is made for. `None` if there is none.
    pub fn make_room(&mut self, key: PoolId, server: ServerId, limit: ServerLimit) -> Option<Effects> {
        let own = self.keys.of(key)?.pool(server)?;
        let pool = self.pools.get(own)?;
        let may_close = |other: &ServerPool| {
            other.server == server && self.groups.connections(other.both) > self.least(other)
        };
        let oldest = match limit {
            ServerLimit::User => self.oldest_idle(self.groups.pools(pool.user), may_close),
            ServerLimit::Database => self.oldest_idle(self.groups.pools(pool.database), may_close),
            ServerLimit::All => {
                let all: Vec<usize> = self.pools.iter().map(|(index, _)| index).collect();
                self.oldest_idle(&all, may_close)
            }
        };
        let mut effects = Effects::default();
        let emptied = self.close_idle(oldest?, CloseReason::Evicted, &mut effects)?;
        self.tidy(emptied);
        Some(effects)
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

    /// Whether a reload has left a pool's database and user together fewer connections than they have.
    pub(super) fn is_over_size(&self, pool: &ServerPool) -> bool {
        match pool.bound {
            PoolBound::Sized => {
                self.groups.connections(pool.both) > self.settings.size_with_reserve(pool.size)
            }
            PoolBound::Unlimited | PoolBound::Own => false,
        }
    }

    /// Whether more connections of a pool's database and user are idle than are kept.
    pub(super) fn has_spare(&self, pool: &ServerPool) -> bool {
        match pool.bound {
            PoolBound::Sized | PoolBound::Own => false,
            PoolBound::Unlimited => {
                let pools = self.groups.pools(pool.both).iter().filter_map(|pool| self.pools.get(*pool));
                pools.map(|pool| pool.idle.len()).sum::<u32>() > pool.size
            }
        }
    }

    /// Whether a reload has left a pool's database or user fewer connections than they have.
    pub(super) fn is_over_limit(&self, pool: &ServerPool) -> bool {
        let is_over = |limit: u32, group| limit > 0 && self.groups.connections(group) > limit;
        is_over(self.settings.max_db_connections, pool.database)
            || is_over(self.settings.max_user_connections, pool.user)
    }
}
