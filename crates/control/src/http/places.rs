//! Who may have an HTTP connection: as many as there are places, with a share for each address and a reserve for checks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::{CHECKERS_RESERVED, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};

/// The places for connections; one set for a listener.
#[derive(Debug)]
pub(super) struct Places {
    /// Whose connections may use every place and have no share.
    checkers: Checkers,
    taken: Mutex<TakenPlaces>,
}

/// The networks that checks come from. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Checkers(Arc<ArcSwap<Vec<IpNet>>>);

impl Checkers {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Checkers(Arc::new(ArcSwap::from_pointee(networks)))
    }

    /// Other networks, for the connections that follow.
    pub fn set(&self, networks: Vec<IpNet>) {
        self.0.store(Arc::new(networks));
    }

    fn have(&self, address: IpAddr) -> bool {
        self.0.load().iter().any(|network| network.contains(&address))
    }

    /// Places that all others may have together.
    fn others_max(&self) -> usize {
        if self.0.load().is_empty() { CONNECTIONS_MAX } else { CONNECTIONS_MAX - CHECKERS_RESERVED }
    }
}

#[derive(Debug, Default)]
struct TakenPlaces {
    all: usize,
    /// Connections of other addresses than the checkers', each at least 1.
    by_address: HashMap<IpAddr, usize>,
    /// The sum of `by_address`.
    others: usize,
}

/// One connection's place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// The address whose share it counts against; `None` for a checker.
    address: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(checkers: Checkers) -> Arc<Self> {
        Arc::new(Places { checkers, taken: Mutex::default() })
    }

    /// A place for a connection from `address`, if there is one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let is_checker = self.checkers.have(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= CONNECTIONS_MAX {
            return None;
        }
        if !is_checker {
            let share = taken.by_address.get(&address).copied().unwrap_or_default();
            let is_full = taken.others >= self.checkers.others_max();
            if is_full || share >= CONNECTIONS_PER_ADDRESS_MAX {
                return None;
            }
            taken.by_address.insert(address, share + 1);
            taken.others += 1;
        }
        taken.all += 1;
        Some(Place { places: Arc::clone(self), address: (!is_checker).then_some(address) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        let Some(address) = self.address else { return };
        taken.others -= 1;
        if let Some(share) = taken.by_address.get_mut(&address) {
            *share -= 1;
            if *share == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: usize) -> IpAddr {
        let last = u32::try_from(last).expect("few addresses");
        IpAddr::V4((u32::from_be_bytes([192, 0, 2, 0]) + last).into())
    }

    fn checker() -> IpAddr {
        "10.1.2.3".parse().expect("an address")
    }

    fn places() -> Arc<Places> {
        Places::new(Checkers::new(vec!["10.0.0.0/8".parse().expect("a network")]))
    }

    #[test]
    fn an_address_has_its_share_and_not_one_more() {
        let places = places();
        let mut held: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| places.take(address(1))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(address(1)).is_none());
        assert!(places.take(address(2)).is_some(), "another address has a share of its own");
        held.pop();
        assert!(places.take(address(1)).is_some(), "a place that was given back");
    }

    #[test]
    fn checkers_find_their_reserve_when_all_others_are_taken() {
        let places = places();
        let others = CONNECTIONS_MAX - CHECKERS_RESERVED;
        let mut held: Vec<_> = (0..others).map(|n| places.take(address(n))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(address(others)).is_none());
        held.extend((0..CHECKERS_RESERVED).map(|_| places.take(checker())));
        assert!(held.iter().all(Option::is_some), "a checker has no share");
        assert!(places.take(checker()).is_none(), "all places are taken");
    }

    #[test]
    fn without_checkers_every_place_is_for_all() {
        let places = Places::new(Checkers::default());
        let held: Vec<_> = (0..CONNECTIONS_MAX).map(|n| places.take(address(n))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(address(CONNECTIONS_MAX)).is_none());
    }

    #[test]
    fn who_checks_may_change() {
        let checkers = Checkers::default();
        let places = Places::new(checkers.clone());
        let mut held: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| places.take(checker())).collect();
        assert!(places.take(checker()).is_none(), "it has its share");
        checkers.set(vec!["10.0.0.0/8".parse().expect("a network")]);
        held.push(places.take(checker()));
        assert!(held.iter().all(Option::is_some), "it has none any more");
    }

    #[test]
    fn places_given_back_leave_no_count_behind() {
        let places = places();
        let held = [places.take(address(1)), places.take(address(1)), places.take(checker())];
        drop(held);
        let taken = places.taken.lock().expect("not poisoned");
        assert_eq!((taken.all, taken.others, taken.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn an_ipv4_address_within_ipv6_is_the_same_address() {
        let places = places();
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().expect("an address");
        assert!(places.take(mapped).expect("free").address.is_none());
    }
}
