//! How many sessions each server has, and what is known of the servers besides their verdicts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use trunkline_topology::{SERVERS_MAX, ServerId};

use crate::zones::ZonePreference;

/// Sessions per server, by slot, over all threads, and what weighs the servers besides their verdicts; read by the balancers, one for
/// the process.
#[derive(Debug)]
pub struct Attached {
    servers: Box<[OnServer]>,
    zones: ArcSwap<ZonePreference>,
}

#[derive(Debug, Default)]
struct OnServer {
    sessions: AtomicU64,
    /// Those of them that are here only because no server of their first choice is available.
    standing_in: AtomicU64,
    /// What a slow server has lost of its weight, as the bits of an `f32`; in the upper half, whose it is.
    lost: AtomicU64,
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
        let servers = (0..SERVERS_MAX).map(|_| OnServer::default()).collect();
        Arc::new(Attached { servers, zones: ArcSwap::default() })
    }

    /// Puts a preference in force.
    pub fn prefer(&self, zones: ZonePreference) {
        self.zones.store(Arc::new(zones));
    }

    /// The preference in force.
    #[must_use]
    pub fn zones(&self) -> Arc<ZonePreference> {
        self.zones.load_full()
    }

    /// The share of its weight, 0 to 1, that a server keeps for its speed. 1 unless it was [slowed](Attached::slow).
    #[must_use]
    pub fn speed(&self, server: ServerId) -> f32 {
        let lost = self.on(server).lost.load(Relaxed);
        let (bits, whose) = (lost as u32, (lost >> u32::BITS) as u32);
        if whose == server.0 { 1.0 - f32::from_bits(bits) } else { 1.0 }
    }

    /// Leaves a server this share of its weight, 0 to 1.
    pub fn slow(&self, server: ServerId, speed: f32) {
        let lost = (1.0 - speed).clamp(0.0, 1.0).to_bits();
        self.on(server).lost.store(u64::from(server.0) << u32::BITS | u64::from(lost), Relaxed);
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
        &self.servers[server.index()]
    }
}

impl Lease {
    /// Where the place is.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// Whether it is among the places in which the server stands in for others.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.place == LeaseKind::StandsIn
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
    fn what_a_server_has_lost_is_not_the_next_ones_in_its_slot() {
        let attached = Attached::new();
        let (first, next) = (ServerId::new(1, 0), ServerId::new(1, 1));
        assert_eq!((attached.speed(ServerId(0)), attached.speed(first)), (1.0, 1.0));
        attached.slow(first, 0.25);
        assert_eq!((attached.speed(first), attached.speed(next)), (0.25, 1.0));
        attached.slow(next, 7.0);
        assert_eq!((attached.speed(first), attached.speed(next)), (1.0, 1.0));
    }

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
