//! Pools that share a limit: those of a database on a server, those of a user on a server, and those of both.

use std::collections::HashMap;

use slab::Slab;
use trunkline_topology::ServerId;

use crate::key::{PoolBound, PoolKey};

/// What the pools of a group have in common, besides their server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GroupName {
    /// `max_db_connections` counts.
    Database(Box<str>),
    /// `max_user_connections` counts.
    User(Box<str>),
    /// `pool_size` counts: all of them, or those that are idle.
    Both { database: Box<str>, user: Box<str>, bound: PoolBound },
}

impl GroupName {
    /// The group of all keys with the database, the user and the bound of this one.
    pub(crate) fn both(key: &PoolKey) -> Self {
        GroupName::Both { database: key.database().into(), user: key.user().into(), bound: key.bound() }
    }
}

/// In place of a group: the pool shares no limit. It has no pools and no connections.
pub(crate) const NO_GROUP: usize = usize::MAX;

/// Pools that share a limit.
#[derive(Debug)]
pub(crate) struct LimitGroup {
    server: ServerId,
    name: GroupName,
    /// Their connections, with those that are being opened.
    pub(crate) connections: u32,
    pools: Vec<usize>,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct LimitGroups {
    table: Slab<LimitGroup>,
    by_name: HashMap<(ServerId, GroupName), usize>,
}

impl LimitGroups {
    /// Adds a pool to the group of this name.
    pub(crate) fn join(&mut self, server: ServerId, name: GroupName, pool: usize) -> usize {
        let table = &mut self.table;
        let index = *self.by_name.entry((server, name)).or_insert_with_key(|(server, name)| {
            let group = LimitGroup { server: *server, name: name.clone(), connections: 0, pools: Vec::new() };
            table.insert(group)
        });
        if let Some(group) = self.table.get_mut(index) {
            group.pools.push(pool);
        }
        index
    }

    /// Takes a pool out; the last one takes its group along.
    pub(crate) fn leave(&mut self, index: usize, pool: usize) {
        let Some(group) = self.table.get_mut(index) else { return };
        group.pools.retain(|member| *member != pool);
        if group.pools.is_empty()
            && let Some(group) = self.table.try_remove(index)
        {
            self.by_name.remove(&(group.server, group.name));
        }
    }

    pub(crate) fn connections(&self, index: usize) -> u32 {
        self.table.get(index).map_or(0, |group| group.connections)
    }

    pub(crate) fn add_connection(&mut self, index: usize) {
        if let Some(group) = self.table.get_mut(index) {
            group.connections += 1;
        }
    }

    pub(crate) fn drop_connection(&mut self, index: usize) {
        if let Some(group) = self.table.get_mut(index) {
            group.connections -= 1;
        }
    }

    /// The pools of a group.
    pub(crate) fn pools(&self, index: usize) -> &[usize] {
        self.table.get(index).map_or(&[], |group| &group.pools)
    }

    /// All groups.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &GroupName)> {
        self.table.iter().map(|(index, group)| (index, &group.name))
    }
}
