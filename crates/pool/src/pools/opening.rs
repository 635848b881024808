//! Connections that come.

use std::time::{Duration, Instant};

use crate::answer::Effects;
use crate::connection::{CloseReason, ConnectionToken, ReservedPlace, ToClose};
use crate::key::PoolBound;
use crate::limits::FILL_RETRY;
use crate::pools::Pools;
use crate::store::connections::KeepAfterUse;
use crate::store::server_pool::{OpeningFor, OpeningPlace, Upkeep};

impl Pools {
    /// The connection of this place is there; it is its client's until it is checked in, in whatever state it is then.
    pub fn opened(&mut self, place: ReservedPlace, token: ConnectionToken, now: Instant) -> Effects {
        let mut effects = Effects::default();
        debug_assert!(self.connections.find(token).is_none(), "{token:?} is the name of another connection");
        if self.connections.find(token).is_some() {
            // Its worker has lost it without a word.
            effects = self.closed(token);
        }
        let Some(opening) = self.give_up(&place) else {
            effects.close.push(ToClose { token, server: place.server, reason: CloseReason::Unknown });
            return effects;
        };
        let Some(pool) = self.pools.get_mut(opening.pool) else { return effects };
        pool.opening -= 1;
        pool.busy += 1;
        pool.fill_at = None;
        if opening.keep == KeepAfterUse::Keep {
            pool.upkeep = Upkeep::Filled;
        }
        let is_own = pool.bound == PoolBound::Own;
        let lifetime = if is_own { Duration::ZERO } else { self.settings.server_lifetime };
        let old_at = self.connections.add(token, opening.pool, opening.keep, now, lifetime);
        self.totals.opened += u64::from(!is_own);
        self.look_after(old_at, now);
        effects
    }

    /// The connection of this place cannot be opened.
    pub fn open_failed(&mut self, place: ReservedPlace, now: Instant) -> Effects {
        let mut effects = Effects::default();
        self.totals.open_failed += 1;
        if let Some(pool) = self.openings.get(place.index).map(|opening| opening.pool)
            && let Some(pool) = self.pools.get_mut(pool)
        {
            pool.fill_at = now.checked_add(FILL_RETRY);
        }
        self.release(&place, &mut effects);
        effects
    }

    /// The client of this place has gone before anything was tried.
    pub fn unused(&mut self, place: ReservedPlace) -> Effects {
        let mut effects = Effects::default();
        self.release(&place, &mut effects);
        effects
    }

    /// Takes a place in a pool that has room.
    pub(super) fn reserve(&mut self, index: usize, purpose: OpeningFor) -> Option<ReservedPlace> {
        let pool = self.pools.get_mut(index)?;
        pool.opening += 1;
        pool.fills += u32::from(purpose == OpeningFor::Fill);
        let server = pool.server;
        pool.groups().into_iter().for_each(|group| self.groups.add_connection(group));
        self.opening_serial += 1;
        let serial = self.opening_serial;
        let opening = OpeningPlace { serial, pool: index, keep: KeepAfterUse::Keep, purpose };
        self.fills += usize::from(purpose == OpeningFor::Fill);
        self.look_after_fills();
        Some(ReservedPlace { index: self.openings.insert(opening), serial, server })
    }

    /// Frees a place, and serves those that have waited for it.
    pub(super) fn release(&mut self, place: &ReservedPlace, effects: &mut Effects) {
        let Some(opening) = self.give_up(place) else { return };
        if let Some(pool) = self.pools.get_mut(opening.pool) {
            pool.opening -= 1;
            pool.groups().into_iter().for_each(|group| self.groups.drop_connection(group));
        }
        self.look_after_fills();
        self.settle(opening.pool, effects);
    }

    fn give_up(&mut self, place: &ReservedPlace) -> Option<OpeningPlace> {
        if self.openings.get(place.index)?.serial != place.serial {
            return None;
        }
        let opening = self.openings.try_remove(place.index)?;
        if opening.purpose == OpeningFor::Fill {
            self.fills -= 1;
            if let Some(pool) = self.pools.get_mut(opening.pool) {
                pool.fills -= 1;
            }
        }
        Some(opening)
    }
}
