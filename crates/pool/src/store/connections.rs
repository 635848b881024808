//! The connections, and the lists of those that are idle.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::connection::{CarriedState, ConnectionToken};
use crate::waiter::Ticket;

/// No connection, in a list.
const NIL: usize = usize::MAX;

/// Parts of `server_lifetime`'s last tenth, over which the ends of connections opened together are spread.
const SPREAD_PARTS: u32 = 1 << 10;

/// One connection.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    pub(crate) token: ConnectionToken,
    pub(crate) pool: usize,
    pub(crate) state: CarriedState,
    pub(crate) stage: ConnectionStage,
    pub(crate) keep: KeepAfterUse,
    /// When it is too old.
    pub(crate) old_at: Option<Instant>,
    opened_at: Instant,
    /// Since when it had been idle when its client got it; since it was opened, if no other had it before.
    pub(crate) unused_since: Instant,
    spread: u32,
    /// Its neighbours in the list of idle ones.
    newer: usize,
    older: usize,
}

/// Who has a connection.
///
/// ```text
/// opened -> Held -> Idle -> Held | Testing -> Held -> Idle ...
///                   Idle -> Granted -> Held | Testing
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionStage {
    /// Nobody: it is in its pool's list.
    Idle { since: Instant },
    /// A client that has waited for it and not taken it yet.
    Granted { ticket: Ticket, idle_since: Instant },
    /// A client, which sees first whether it answers.
    Testing,
    /// A client.
    Held,
}

/// Whether a connection is kept when its client gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAfterUse {
    Keep,
    /// Its server was retired since it was opened.
    Retired,
    /// The client whose own it is has another one in its place.
    Replaced,
}

/// The idle connections of a pool, in the order of their last use, the newest first.
#[derive(Debug)]
pub(crate) struct IdleList {
    newest: usize,
    oldest: usize,
    len: u32,
}

impl Default for IdleList {
    fn default() -> Self {
        IdleList { newest: NIL, oldest: NIL, len: 0 }
    }
}

impl IdleList {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The one that has been idle longest.
    pub(crate) fn oldest(&self) -> Option<usize> {
        (self.oldest != NIL).then_some(self.oldest)
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: Slab<PooledConnection>,
    by_token: HashMap<ConnectionToken, usize, BuildHasherDefault<TokenHasher>>,
    opened: u32,
}

impl Connections {
    /// Has another name for one that there is.
    pub(crate) fn rename(&mut self, token: ConnectionToken, to: ConnectionToken) {
        let Some(index) = self.by_token.remove(&token) else { return };
        self.by_token.insert(to, index);
        if let Some(connection) = self.table.get_mut(index) {
            connection.token = to;
        }
    }

    /// Adds one that a client has; returns when it will be too old.
    pub(crate) fn add(
        &mut self,
        token: ConnectionToken,
        pool: usize,
        keep: KeepAfterUse,
        now: Instant,
        lifetime: Duration,
    ) -> Option<Instant> {
        self.opened = self.opened.wrapping_add(1);
        // The golden ratio spreads numbers that follow each other evenly.
        let spread = self.opened.wrapping_mul(0x9E37_79B9) >> (u32::BITS - SPREAD_PARTS.ilog2());
        let old_at = old_at(now, lifetime, spread);
        let connection = PooledConnection {
            token,
            pool,
            state: CarriedState::default(),
            stage: ConnectionStage::Held,
            keep,
            old_at,
            opened_at: now,
            unused_since: now,
            spread,
            newer: NIL,
            older: NIL,
        };
        let index = self.table.insert(connection);
        self.by_token.insert(token, index);
        old_at
    }

    /// Forgets one that is in no list.
    pub(crate) fn remove(&mut self, index: usize) -> Option<PooledConnection> {
        let connection = self.table.try_remove(index)?;
        self.by_token.remove(&connection.token);
        Some(connection)
    }

    pub(crate) fn find(&self, token: ConnectionToken) -> Option<usize> {
        self.by_token.get(&token).copied()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&PooledConnection> {
        self.table.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut PooledConnection> {
        self.table.get_mut(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &PooledConnection)> {
        self.table.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut PooledConnection)> {
        self.table.iter_mut()
    }

    /// Puts another lifetime in force.
    pub(crate) fn set_lifetime(&mut self, lifetime: Duration) {
        for (_, connection) in &mut self.table {
            connection.old_at = old_at(connection.opened_at, lifetime, connection.spread);
        }
    }

    /// Puts one that is in no list into this one: to the front, unless it has been idle since before others.
    pub(crate) fn push(&mut self, list: &mut IdleList, index: usize, since: Instant) {
        let (mut newer, mut older) = (NIL, list.newest);
        while let Some(next) = self.table.get(older)
            && next.idle_since().is_some_and(|other| other > since)
        {
            (newer, older) = (older, next.older);
        }
        let Some(connection) = self.table.get_mut(index) else { return };
        connection.stage = ConnectionStage::Idle { since };
        connection.unused_since = since;
        connection.newer = newer;
        connection.older = older;
        match self.table.get_mut(newer) {
            Some(newer) => newer.older = index,
            None => list.newest = index,
        }
        match self.table.get_mut(older) {
            Some(older) => older.newer = index,
            None => list.oldest = index,
        }
        list.len += 1;
    }

    /// Takes one out of this list, which has it.
    pub(crate) fn unlink(&mut self, list: &mut IdleList, index: usize, stage: ConnectionStage) {
        let Some(connection) = self.table.get_mut(index) else { return };
        let (newer, older) = (connection.newer, connection.older);
        connection.stage = stage;
        connection.newer = NIL;
        connection.older = NIL;
        match self.table.get_mut(newer) {
            Some(newer) => newer.older = older,
            None => list.newest = older,
        }
        match self.table.get_mut(older) {
            Some(older) => older.newer = newer,
            None => list.oldest = newer,
        }
        list.len -= 1;
    }

    /// Those of a list, the one used last first.
    pub(crate) fn newest_first(&self, list: &IdleList) -> impl Iterator<Item = (usize, &PooledConnection)> {
        let mut at = list.newest;
        std::iter::from_fn(move || {
            let connection = self.table.get(at)?;
            let index = std::mem::replace(&mut at, connection.older);
            Some((index, connection))
        })
    }
}

impl PooledConnection {
    /// Since when it has not been used, if it is idle.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        match self.stage {
            ConnectionStage::Idle { since } => Some(since),
            ConnectionStage::Granted { .. } | ConnectionStage::Testing | ConnectionStage::Held => None,
        }
    }
}

/// When a connection is too old: somewhere in the last tenth of its lifetime, so that those opened together do not end
/// together.
fn old_at(opened_at: Instant, lifetime: Duration, spread: u32) -> Option<Instant> {
    if lifetime.is_zero() {
        return None;
    }
    let tenth = lifetime / 10;
    opened_at.checked_add(lifetime - tenth)?.checked_add(tenth / SPREAD_PARTS * spread)
}

/// For tokens, which nobody outside chooses: fast rather than safe from collisions that are meant.
#[derive(Clone, Copy, Debug, Default)]
struct TokenHasher(u64);

impl TokenHasher {
    fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add(u64::from(*byte));
        }
    }

    fn write_u16(&mut self, value: u16) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
