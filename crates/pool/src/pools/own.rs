//! Connections that are one client's own: it has one to each server at most, and takes turns on them itself.

use trunkline_topology::ServerId;

use crate::answer::Effects;
use crate::connection::CloseReason;
use crate::key::{PoolBound, PoolId};
use crate::pools::Pools;
use crate::pools::serving::Room;
use crate::store::connections::KeepAfterUse;
use crate::store::server_pool::ServerPool;

impl Pools {
    /// Whether the connections of this key are its only client's [own](PoolBound::Own).
    #[must_use]
    pub fn is_own(&self, key: PoolId) -> bool {
        self.keys.entry(key).is_some_and(|entry| entry.key.bound() == PoolBound::Own)
    }

    /// Closes the connection to `server` that is the own of this key's client, which has another one in its place: at once if it is
    /// idle, or else when it comes back from whoever asks a question on it, or gives it its state back.
    pub fn close_own(&mut self, key: PoolId, server: ServerId) -> Effects {
        let mut effects = Effects::default();
        let pool = self.keys.entry(key).and_then(|entry| entry.pool(server));
        if let Some(pool) = pool {
            self.close_left(pool, &mut effects);
            self.replace(pool);
            self.tidy(pool);
        }
        effects
    }

    /// Has what is not idle of such a pool closed once it is checked in.
    fn replace(&mut self, index: usize) {
        let is_in_use = |pool: &&ServerPool| pool.bound == PoolBound::Own && pool.total() > 0;
        if self.pools.get(index).filter(is_in_use).is_none() {
            return;
        }
        for (_, connection) in self.connections.iter_mut().filter(|(_, it)| it.pool == index) {
            connection.keep = KeepAfterUse::Replaced;
        }
        for (_, opening) in self.openings.iter_mut().filter(|(_, it)| it.pool == index) {
            opening.keep = KeepAfterUse::Replaced;
        }
    }

    /// Closes the idle connections of a pool that are nobody's but one client's.
    pub(super) fn close_left(&mut self, pool: usize, effects: &mut Effects) {
        while let Some(pool) = self.pools.get(pool).filter(|pool| pool.bound == PoolBound::Own)
            && let Some(index) = pool.idle.oldest()
        {
            self.close_idle(index, CloseReason::Left, effects);
        }
    }

    /// Whether the client has left whose own the connections of this pool are.
    pub(super) fn is_left(&self, pool: &ServerPool) -> bool {
        pool.bound == PoolBound::Own && self.keys.get(pool.key).is_none_or(|entry| entry.clients == 0)
    }

    /// Room for the one connection of such a pool. An idle one that is there does not fit any more.
    pub(super) fn room_for_own(pool: &ServerPool) -> Option<Room> {
        match pool.total() {
            0 => Some(Room::default()),
            _ => Some(Room::by_closing(pool.idle.oldest()?)),
        }
    }
}
