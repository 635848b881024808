//! What time brings about.

use std::time::{Duration, Instant};

use crate::answer::Effects;
use crate::connection::{CloseReason, ReservedPlace};
use crate::key::{PoolBound, PoolId};
use crate::limits::{FILLS_MAX, NOTICE_AFTER};
use crate::pools::Pools;
use crate::pools::serving::{Reserve, Room};
use crate::store::server_pool::{OpeningFor, ServerPool, Upkeep};
use crate::store::waiting::WaitNotice;
use crate::waiter::{LongWait, Ticket};

/// What time has brought about.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "clients wait for what is due"]
pub struct Due {
    /// Waits that `query_wait_timeout` has ended: the pools have forgotten them.
    pub expired: Vec<LongWait>,
    /// Waits that have passed [`NOTICE_AFTER`]: each once.
    pub notices: Vec<LongWait>,
    /// Connections idle too long or too old, and clients that may use the reserve now.
    pub effects: Effects,
    /// Places to fill pools up to `min_pool_size`, one of each pool at a time: open connections and check them in.
    pub open: Vec<(ReservedPlace, PoolId)>,
    /// When to ask again, at the latest; `None`: not until something else has happened.
    pub next: Option<Instant>,
}

impl Pools {
    /// What is due at this time.
    pub fn due(&mut self, now: Instant) -> Due {
        let mut due = Due { expired: self.expire(now), notices: self.notice(now), ..Due::default() };
        self.entitle(now, &mut due.effects);
        if self.is_look_due || self.upkeep_at.is_some_and(|at| at <= now) {
            self.close_unneeded(now, &mut due.effects);
            due.open = self.fill(now);
            self.is_look_due = false;
            self.upkeep_at = self.next_upkeep(now);
        }
        due.next = self.next_due(now);
        due
    }

    /// When to ask for what is [due](Pools::due), at the latest: to be asked after every call that may have changed it.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.is_look_due {
            return Some(now);
        }
        let wait_end = self.waits_until(Ticket::FIRST, self.settings.query_wait_timeout);
        let notice = self.waits_until(self.clients.noticed, NOTICE_AFTER);
        let reserve = match self.settings.reserve_pool_size {
            0 => None,
            _ => self.waits_until(self.clients.entitled, self.settings.reserve_pool_timeout),
        };
        [wait_end, notice, reserve, self.upkeep_at].into_iter().flatten().min()
    }

    /// When the first client from this ticket on will have waited for so long. Zero is never.
    fn waits_until(&self, from: Ticket, time: Duration) -> Option<Instant> {
        if time.is_zero() {
            return None;
        }
        let first = self.clients.iter_from(from).find(|(_, client)| client.is_waiting());
        first?.1.since.checked_add(time)
    }

    /// The clients from this ticket on that have waited for so long, those left out that were granted something.
    fn have_waited(&self, from: Ticket, time: Duration, now: Instant) -> Vec<Ticket> {
        if time.is_zero() {
            return Vec::new();
        }
        let old = self.clients.iter_from(from);
        let old = old.take_while(|(_, client)| now.saturating_duration_since(client.since) >= time);
        old.filter(|(_, client)| client.is_waiting()).map(|(ticket, _)| ticket).collect()
    }

    fn expire(&mut self, now: Instant) -> Vec<LongWait> {
        let tickets = self.have_waited(Ticket::FIRST, self.settings.query_wait_timeout, now);
        // All are told the queue's length from before.
        let expired: Vec<_> = tickets.iter().filter_map(|ticket| self.long_wait(*ticket, now)).collect();
        for ticket in tickets {
            self.dequeue(ticket);
            if let Some(client) = self.clients.remove(ticket) {
                self.keys.tidy(client.key);
            }
            self.totals.expired += 1;
        }
        expired
    }

    fn notice(&mut self, now: Instant) -> Vec<LongWait> {
        let tickets = self.have_waited(self.clients.noticed, NOTICE_AFTER, now);
        if let Some(last) = tickets.last() {
            self.clients.noticed = last.after();
        }
        let mut notices = Vec::new();
        for ticket in tickets {
            let Some(client) = self.clients.get_mut(ticket) else { continue };
            if std::mem::replace(&mut client.notice, WaitNotice::Given) == WaitNotice::Owed {
                notices.extend(self.long_wait(ticket, now));
            }
        }
        notices
    }

    /// Opens the reserve to those that have waited for it.
    fn entitle(&mut self, now: Instant, effects: &mut Effects) {
        if self.settings.reserve_pool_size == 0 {
            return;
        }
        let timeout = self.settings.reserve_pool_timeout;
        for ticket in self.have_waited(self.clients.entitled, timeout, now) {
            self.clients.entitled = ticket.after();
            self.offer(ticket, effects);
        }
    }

    /// Closes idle connections that are too old, or too many for too long. Nobody has waited for their places: who waits has
    /// found nothing idle.
    fn close_unneeded(&mut self, now: Instant, effects: &mut Effects) {
        let is_old = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let old = self
            .connections
            .iter()
            .filter(|(_, connection)| is_old(connection.old_at) && connection.idle_since().is_some());
        for index in old.map(|(index, _)| index).collect::<Vec<_>>() {
            self.close_idle(index, CloseReason::Lifetime, effects);
        }
        for pool in self.pools.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            while let Some(index) = self.idle_too_long(pool, now) {
                self.close_idle(index, CloseReason::IdleTimeout, effects);
            }
            self.tidy(pool);
        }
    }

    /// The oldest idle connection of a pool, if it is to be closed.
    fn idle_too_long(&self, pool: usize, now: Instant) -> Option<usize> {
        let pool = self.pools.get(pool).filter(|pool| pool.bound != PoolBound::Own)?;
        if self.groups.connections(pool.both) <= self.least(pool) {
            return None;
        }
        let oldest = pool.idle.oldest()?;
        (self.idle_until(oldest)? <= now).then_some(oldest)
    }

    fn idle_until(&self, index: usize) -> Option<Instant> {
        let timeout = self.settings.server_idle_timeout;
        let since = self.connections.get(index)?.idle_since()?;
        if timeout.is_zero() { None } else { since.checked_add(timeout) }
    }

    /// What a pool is kept at, together with those of the other keys of its database and user.
    pub(super) fn least(&self, pool: &ServerPool) -> u32 {
        let has_clients = self.keys.get(pool.key).is_some_and(|entry| entry.clients > 0);
        match pool.upkeep {
            Upkeep::Filled if has_clients && pool.bound != PoolBound::Own => {
                self.settings.min_pool_size.min(pool.size)
            }
            Upkeep::Filled | Upkeep::Left => 0,
        }
    }

    /// Reserves places for pools that have fewer connections than `min_pool_size`.
    fn fill(&mut self, now: Instant) -> Vec<(ReservedPlace, PoolId)> {
        let mut open = Vec::new();
        if self.settings.min_pool_size == 0 {
            return open;
        }
        for index in self.pools.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            if self.fills >= FILLS_MAX {
                break;
            }
            if self.is_to_be_filled(index, now)
                && let Some(key) = self.pools.get(index).and_then(|pool| self.keys.id_of(pool.key))
                && let Some(place) = self.reserve(index, OpeningFor::Fill)
            {
                open.push((place, key));
            }
        }
        open
    }

    fn is_to_be_filled(&self, index: usize, now: Instant) -> bool {
        let Some(pool) = self.pools.get(index) else { return false };
        // Nothing is closed for it.
        self.is_too_small(pool)
            && pool.fills == 0
            && pool.fill_at.is_none_or(|at| at <= now)
            && self.room(index, Reserve::Closed) == Some(Room::default())
    }

    fn is_too_small(&self, pool: &ServerPool) -> bool {
        self.groups.connections(pool.both) < self.least(pool)
    }

    /// When there may be something to close or to fill again.
    fn next_upkeep(&self, now: Instant) -> Option<Instant> {
        let timeout = Some(self.settings.server_idle_timeout).filter(|timeout| !timeout.is_zero());
        // One that has a client now cannot be idle for too long before that.
        let soonest = timeout.and_then(|timeout| now.checked_add(timeout));
        let connections = self.connections.iter().flat_map(|(index, connection)| {
            [connection.old_at, self.idle_until(index).or(soonest)].into_iter().flatten()
        });
        let fills = self.pools.iter().filter(|(_, pool)| self.is_too_small(pool));
        let fills = fills.filter_map(|(_, pool)| pool.fill_at);
        // What is past is kept by `min_pool_size`, or has a client: that is seen to when it is given back.
        connections.chain(fills).filter(|at| *at > now).min()
    }

    /// A connection was opened: it will be idle too long or too old one day.
    pub(super) fn look_after(&mut self, old_at: Option<Instant>, now: Instant) {
        let timeout = self.settings.server_idle_timeout;
        let idle = if timeout.is_zero() { None } else { now.checked_add(timeout) };
        self.upkeep_at = [self.upkeep_at, idle, old_at].into_iter().flatten().min();
        self.look_after_fills();
    }

    /// A connection is idle again, and has been so for a while.
    pub(super) fn look_after_idle(&mut self, index: usize) {
        self.upkeep_at = [self.upkeep_at, self.idle_until(index)].into_iter().flatten().min();
    }

    /// The next look at the pools is due at once, if any might be too small, or large enough to spare an idle connection.
    pub(super) fn look_after_fills(&mut self) {
        self.is_look_due |= self.settings.min_pool_size > 0;
    }
}
