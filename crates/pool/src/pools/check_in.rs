//! The way of a connection back.

use std::time::Instant;

use crate::answer::{CheckIn, CheckedIn, Effects};
use crate::connection::{CarriedState, CloseReason, ConnectionToken};
use crate::pools::Pools;
use crate::store::connections::{ConnectionStage, KeepAfterUse};
use crate::store::waiting::QueueStage;
use crate::waiter::GrantKind;

/// How a connection comes back.
#[derive(Clone, Copy, Debug)]
enum ReturnKind {
    /// In this state.
    Used(CarriedState),
    /// As it was given.
    Untouched,
}

impl Pools {
    /// A client gives its connection back, in this state. One that no client has stays where it is.
    pub fn check_in(&mut self, token: ConnectionToken, state: CarriedState, now: Instant) -> CheckIn {
        let mut effects = Effects::default();
        let fate = match self.connections.find(token) {
            Some(index) => self.give_back(index, ReturnKind::Used(state), now, &mut effects),
            None => CheckedIn::Close(CloseReason::Unknown),
        };
        CheckIn { fate, effects }
    }

    /// A client gives its connection back that it has not used: it has been idle since before, in the state that it was in,
    /// whatever has become of a [check](crate::Given::check). One that no client has stays where it is.
    pub fn put_back(&mut self, token: ConnectionToken, now: Instant) -> CheckIn {
        let mut effects = Effects::default();
        let fate = match self.connections.find(token) {
            Some(index) => self.give_back(index, ReturnKind::Untouched, now, &mut effects),
            None => CheckedIn::Close(CloseReason::Unknown),
        };
        CheckIn { fate, effects }
    }

    fn give_back(&mut self, index: usize, how: ReturnKind, now: Instant, effects: &mut Effects) -> CheckedIn {
        let Some(connection) = self.connections.get_mut(index) else {
            return CheckedIn::Close(CloseReason::Unknown);
        };
        let was_testing = match connection.stage {
            ConnectionStage::Held => 0,
            ConnectionStage::Testing => 1,
            ConnectionStage::Idle { .. } | ConnectionStage::Granted { .. } => return CheckedIn::Idle,
        };
        let since = match how {
            ReturnKind::Used(state) => {
                connection.state = state;
                now
            }
            ReturnKind::Untouched => connection.unused_since,
        };
        connection.stage = ConnectionStage::Held;
        let (token, at) = (connection.token, connection.pool);
        if let Some(pool) = self.pools.get_mut(at) {
            pool.testing -= was_testing;
        }
        if let Some(reason) = self.reason_to_close(index, now) {
            self.end(index, reason, effects);
            return CheckedIn::Close(reason);
        }
        if self.clients.waiting > 0
            && let Some(grant) = self.hand_over(index, since)
        {
            return CheckedIn::GivenTo(grant);
        }
        self.keep(index, since, effects);
        if effects.is_empty() {
            return CheckedIn::Idle;
        }
        self.fate(token, effects)
    }

    /// What has become of a connection by the time that all who wait have had their chance.
    fn fate(&self, token: ConnectionToken, effects: &mut Effects) -> CheckedIn {
        if let Some(at) = effects.close.iter().position(|close| close.token == token) {
            return CheckedIn::Close(effects.close.remove(at).reason);
        }
        let got = |what: GrantKind| what == GrantKind::Idle(token);
        match effects.grants.iter().position(|grant| got(grant.what)) {
            Some(at) => CheckedIn::GivenTo(effects.grants.remove(at)),
            None => CheckedIn::Idle,
        }
    }

    /// A connection has ended, whoever had it. One that the pools do not know any longer is ignored.
    ///
    /// A client that it was granted to, and that has not taken it yet, waits on, in its old place.
    pub fn closed(&mut self, token: ConnectionToken) -> Effects {
        let mut effects = Effects::default();
        let Some(index) = self.connections.find(token) else { return effects };
        let stage = self.connections.get(index).map(|connection| connection.stage);
        let revoked = match stage {
            Some(ConnectionStage::Granted { ticket, .. }) => Some(ticket),
            Some(ConnectionStage::Idle { .. } | ConnectionStage::Testing | ConnectionStage::Held) | None => {
                None
            }
        };
        if let Some(ticket) = revoked
            && let Some(client) = self.clients.get_mut(ticket)
        {
            client.stage = QueueStage::Waiting;
            // It may have passed the time of its notice meanwhile.
            self.clients.noticed = self.clients.noticed.min(ticket);
            self.enqueue(ticket);
        }
        self.end(index, CloseReason::Ended, &mut effects);
        if let Some(ticket) = revoked {
            self.offer(ticket, &mut effects);
        }
        effects
    }

    /// Why a connection that a client has, or was granted, is not kept.
    pub(super) fn reason_to_close(&self, index: usize, now: Instant) -> Option<CloseReason> {
        let connection = self.connections.get(index)?;
        let pool = self.pools.get(connection.pool)?;
        if connection.keep == KeepAfterUse::Retired {
            return Some(CloseReason::Retired);
        }
        if connection.keep == KeepAfterUse::Replaced || self.is_left(pool) {
            return Some(CloseReason::Left);
        }
        if connection.old_at.is_some_and(|at| at <= now) {
            return Some(CloseReason::Lifetime);
        }
        if self.is_over_size(pool) {
            return Some(CloseReason::PoolSize);
        }
        self.is_over_limit(pool).then_some(CloseReason::Limit)
    }

    /// Puts a connection that a client had, or was granted, among the idle ones, serves those that have waited for it, and
    /// closes it if nobody has and there are too many.
    pub(super) fn keep(&mut self, index: usize, since: Instant, effects: &mut Effects) {
        let Some(connection) = self.connections.get(index) else { return };
        let (token, at) = (connection.token, connection.pool);
        let Some(pool) = self.pools.get_mut(at) else { return };
        pool.busy -= 1;
        self.connections.push(&mut pool.idle, index, since);
        self.look_after_idle(index);
        self.settle(at, effects);
        let is_spare = self.pools.get(at).is_some_and(|pool| self.has_spare(pool));
        if is_spare && self.connections.find(token) == Some(index) {
            // Nobody has waited for its place: who waits has found nothing idle.
            self.close_idle(index, CloseReason::PoolSize, effects);
            self.tidy(at);
        }
    }

    /// Forgets a connection, and serves those that have waited for its place.
    pub(super) fn end(&mut self, index: usize, reason: CloseReason, effects: &mut Effects) {
        let Some(pool) = self.connections.get(index).map(|connection| connection.pool) else { return };
        self.forget(index, reason);
        self.settle(pool, effects);
    }

    /// Forgets a connection. Its pool stays.
    pub(super) fn forget(&mut self, index: usize, reason: CloseReason) {
        let Some(connection) = self.connections.get(index) else { return };
        let Some(pool) = self.pools.get_mut(connection.pool) else { return };
        match connection.stage {
            ConnectionStage::Idle { .. } => {
                self.connections.unlink(&mut pool.idle, index, ConnectionStage::Held);
            }
            ConnectionStage::Testing => {
                pool.testing -= 1;
                pool.busy -= 1;
            }
            ConnectionStage::Held | ConnectionStage::Granted { .. } => pool.busy -= 1,
        }
        pool.groups().into_iter().for_each(|group| self.groups.drop_connection(group));
        self.connections.remove(index);
        self.totals.note_closed(reason);
        self.look_after_fills();
    }
}
