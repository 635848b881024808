//! Which servers have exported snapshots.
//!
//! `SET TRANSACTION SNAPSHOT` finds a snapshot only on the server that exported it. `pg_dump -j` exports one in its first
//! session and then logs its workers in. So while a session has a snapshot exported, new sessions of the same client
//! address, user and application go to its server first.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use trunkline_routing::Candidate;
use trunkline_topology::ServerId;

/// The sessions of one client address, user and application, by a hash: a collision only makes another session begin on
/// the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientGroup(u64);

impl ClientGroup {
    pub(crate) fn of(address: IpAddr, user: &[u8], application: &[u8]) -> Self {
        // Keyed, or a client would find the name of an application by which it meets others.
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        ClientGroup(KEYS.hash_one((address.to_canonical(), user, application)))
    }
}

/// The sessions that have a snapshot exported, at most one entry for each; one set for the process.
#[derive(Debug, Default)]
pub(crate) struct ExportedSnapshots {
    /// Mostly zero: then no login looks further.
    count: AtomicUsize,
    /// The newest last.
    by_group: Mutex<HashMap<ClientGroup, Vec<ServerId>>>,
}

/// One session's exported snapshot, until dropped.
#[derive(Debug)]
pub(crate) struct ExportedSnapshot {
    snapshots: Arc<ExportedSnapshots>,
    group: ClientGroup,
    server: ServerId,
}

impl ExportedSnapshots {
    /// A session of this group exports a snapshot on its server.
    pub(crate) fn export(self: &Arc<Self>, group: ClientGroup, server: ServerId) -> ExportedSnapshot {
        let mut by_group = self.by_group.lock().unwrap_or_else(PoisonError::into_inner);
        by_group.entry(group).or_default().push(server);
        self.count.fetch_add(1, Relaxed);
        ExportedSnapshot { snapshots: Arc::clone(self), group, server }
    }

    /// The server of the newest snapshot that a session of this group has exported.
    pub(crate) fn server_for(&self, group: ClientGroup) -> Option<ServerId> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        let by_group = self.by_group.lock().unwrap_or_else(PoisonError::into_inner);
        by_group.get(&group).and_then(|servers| servers.last().copied())
    }
}

impl Drop for ExportedSnapshot {
    fn drop(&mut self) {
        let mut by_group = self.snapshots.by_group.lock().unwrap_or_else(PoisonError::into_inner);
        self.snapshots.count.fetch_sub(1, Relaxed);
        let Some(servers) = by_group.get_mut(&self.group) else { return };
        if let Some(at) = servers.iter().rposition(|server| *server == self.server) {
            servers.remove(at);
        }
        if servers.is_empty() {
            by_group.remove(&self.group);
        }
    }
}

/// Leaves only the server that comes first, if it is among the candidates and has not failed.
pub(crate) fn keep_first(servers: &mut Vec<Candidate>, first: Option<ServerId>, excluded: &[ServerId]) {
    let first = first.filter(|first| !excluded.contains(first));
    if first.is_some_and(|first| servers.iter().any(|candidate| candidate.id == first)) {
        servers.retain(|candidate| Some(candidate.id) == first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(user: &str, application: &str) -> ClientGroup {
        ClientGroup::of(IpAddr::from([192, 0, 2, 1]), user.as_bytes(), application.as_bytes())
    }

    #[test]
    fn a_snapshot_is_found_by_its_own_group_while_it_is_exported() {
        let snapshots = Arc::new(ExportedSnapshots::default());
        let exported = snapshots.export(group("app", "pg_dump"), ServerId(2));
        let later = snapshots.export(group("app", "pg_dump"), ServerId(1));
        let find = |user, application| snapshots.server_for(group(user, application));
        assert_eq!(find("app", "pg_dump"), Some(ServerId(1)), "the newest");
        assert_eq!(
            (find("app", "psql"), find("other", "pg_dump"), find("appp", "g_dump")),
            (None, None, None)
        );
        drop(later);
        assert_eq!(find("app", "pg_dump"), Some(ServerId(2)));
        drop(exported);
        assert_eq!(find("app", "pg_dump"), None);
        assert!(snapshots.by_group.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn the_first_server_is_alone_unless_it_failed_or_is_no_candidate() {
        let left = |first, excluded: &[ServerId]| {
            let mut servers = [0, 1, 2].map(|id| Candidate { id: ServerId(id), weight: 1.0 }).to_vec();
            keep_first(&mut servers, first, excluded);
            servers.len()
        };
        assert_eq!(left(Some(ServerId(1)), &[]), 1);
        assert_eq!(left(Some(ServerId(1)), &[ServerId(1)]), 3);
        assert_eq!(left(Some(ServerId(7)), &[]), 3);
        assert_eq!(left(None, &[]), 3);
    }
}
