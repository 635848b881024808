//! The keys that clients have joined.

use std::collections::HashMap;

use slab::Slab;
use trunkline_topology::ServerId;

use crate::key::{PoolBound, PoolId, PoolKey};
use crate::limits::KEYS_MAX;
use crate::store::queue::TicketQueue;

/// A key, with all that is known of it.
#[derive(Debug)]
pub(crate) struct KeyEntry {
    pub(crate) key: PoolKey,
    serial: u64,
    /// Clients that have joined it.
    pub(crate) clients: u64,
    /// Its pools. Few: looked through one by one.
    pub(crate) pools: Vec<(ServerId, usize)>,
    /// Its clients that wait, the one that waits longest first.
    pub(crate) queue: TicketQueue,
}

impl KeyEntry {
    pub(crate) fn pool(&self, server: ServerId) -> Option<usize> {
        self.pools.iter().find(|(of, _)| *of == server).map(|(_, pool)| *pool)
    }
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct PoolKeys {
    table: Slab<KeyEntry>,
    by_key: HashMap<PoolKey, usize>,
    serial: u64,
    /// Those whose connections are their only client's own: no more than there are sessions.
    own: usize,
}

impl PoolKeys {
    /// The entry of a key, a new one where there is none. `None`: there are too many.
    pub(crate) fn find_or_add(&mut self, key: &PoolKey) -> Option<PoolId> {
        if let Some(index) = self.by_key.get(key).copied() {
            return self.table.get(index).map(|entry| PoolId { index, serial: entry.serial });
        }
        let is_own = key.bound() == PoolBound::Own;
        if !is_own && self.table.len() - self.own >= KEYS_MAX {
            return None;
        }
        self.own += usize::from(is_own);
        self.serial += 1;
        let serial = self.serial;
        let entry = KeyEntry {
            key: key.clone(),
            serial,
            clients: 0,
            pools: Vec::new(),
            queue: TicketQueue::default(),
        };
        let index = self.table.insert(entry);
        self.by_key.insert(key.clone(), index);
        Some(PoolId { index, serial })
    }

    /// The entry that this handle was given for.
    pub(crate) fn of(&mut self, id: PoolId) -> Option<&mut KeyEntry> {
        self.table.get_mut(id.index).filter(|entry| entry.serial == id.serial)
    }

    /// The same, to look at.
    pub(crate) fn entry(&self, id: PoolId) -> Option<&KeyEntry> {
        self.table.get(id.index).filter(|entry| entry.serial == id.serial)
    }

    /// The handle of the key at this index.
    pub(crate) fn id_of(&self, index: usize) -> Option<PoolId> {
        self.table.get(index).map(|entry| PoolId { index, serial: entry.serial })
    }

    pub(crate) fn get(&self, index: usize) -> Option<&KeyEntry> {
        self.table.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut KeyEntry> {
        self.table.get_mut(index)
    }

    /// Forgets a key that has neither clients nor pools.
    pub(crate) fn tidy(&mut self, index: usize) {
        let is_unused =
            |entry: &KeyEntry| entry.clients == 0 && entry.pools.is_empty() && entry.queue.is_empty();
        if self.table.get(index).is_some_and(is_unused)
            && let Some(entry) = self.table.try_remove(index)
        {
            self.by_key.remove(&entry.key);
            self.own -= usize::from(entry.key.bound() == PoolBound::Own);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &KeyEntry> {
        self.table.iter().map(|(_, entry)| entry)
    }
}
