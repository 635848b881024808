//! How many sessions each server has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use trunkline_topology::{SERVERS_MAX, ServerId};

/// Sessions per server, by slot, over all threads; read by the balancers, one for the process.
#[derive(Debug)]
pub struct Attached(Box<[OnServer]>);

#[derive(Debug, Default)]
struct OnServer {
    sessions: AtomicU64,
    /// Those of them that are here only because no server of their first choice is available.
    standing_in: AtomicU64,
}

/// A session's place on a server: counted from the choice on, so that choices made at one time spread.
#[derive(Debug)]
pub struct Lease {
    attached: Arc<Attached>,
    server: ServerId,
    place: LeaseKind,
}

/// What a session is to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseKind {
    Own,
    StandsIn,
}

impl Attached {
    /// No sessions yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Attached((0..SERVERS_MAX).map(|_| OnServer::default()).collect()))
    }

    /// Sessions that this server has.
    #[must_use]
    pub fn sessions_on(&self, server: ServerId) -> u64 {
        self.on(server).sessions.load(Relaxed)
    }

    /// Sessions that this server has in the place of others.
    #[must_use]
    pub fn standing_in_on(&self, server: ServerId) -> u64 {
        self.on(server).standing_in.load(Relaxed)
    }

    pub(crate) fn lease(self: &Arc<Self>, server: ServerId) -> Lease {
        self.on(server).sessions.fetch_add(1, Relaxed);
        Lease { attached: Arc::clone(self), server, place: LeaseKind::Own }
    }

    fn on(&self, server: ServerId) -> &OnServer {
        &self.0[server.index()]
    }
}

impl Lease {
    /// Where the place is.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// The same place, counted among those in which the server stands in for others: `None` when it has `most` of them.
    #[must_use]
    pub fn standing_in(mut self, most: u64) -> Option<Self> {
        let next = |n| (n < most).then_some(n + 1);
        self.attached.on(self.server).standing_in.fetch_update(Relaxed, Relaxed, next).ok()?;
        self.place = LeaseKind::StandsIn;
        Some(self)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let on = self.attached.on(self.server);
        on.sessions.fetch_sub(1, Relaxed);
        match self.place {
            LeaseKind::Own => {}
            LeaseKind::StandsIn => _ = on.standing_in.fetch_sub(1, Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_in_is_counted_apart_and_up_to_the_bound() {
        let attached = Attached::new();
        let take = || attached.lease(ServerId(0));
        let _own = take();
        let first = take().standing_in(2).expect("below the bound");
        let _second = take().standing_in(2).expect("at the bound");
        assert!(take().standing_in(2).is_none());
        assert_eq!((attached.sessions_on(ServerId(0)), attached.standing_in_on(ServerId(0))), (3, 2));
        drop(first);
        assert!(take().standing_in(2).is_some());
    }
}
