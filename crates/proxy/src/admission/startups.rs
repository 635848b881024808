//! Connections whose startup packet has not come yet.
//!
//! Each costs a descriptor and may stay silent for as long as a login may take. They have a share of their own, in all and
//! for each client address. Once it is used up the oldest is closed for a new one: a client that sends its startup packet
//! is not the oldest for long.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::settings::LimitSettings;

/// An address may have one in so many of the places.
const ADDRESS_SHARE: usize = 4;

/// The connections that wait for their startup packets; one set for the process.
#[derive(Debug, Default)]
pub(crate) struct Startups(Mutex<WaitingStartups>);

#[derive(Debug, Default)]
struct WaitingStartups {
    next: u64,
    /// The oldest first.
    by_age: BTreeMap<u64, WaitingStartup>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct WaitingStartup {
    address: IpAddr,
    displaced: oneshot::Sender<()>,
}

/// A connection's place among them, free again when dropped.
#[derive(Debug)]
pub(crate) struct StartupPermit {
    startups: Arc<Startups>,
    number: u64,
    displaced: oneshot::Receiver<()>,
}

impl Startups {
    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_age.len()
    }

    /// A place for a connection just accepted. The oldest connection makes room if there is none: of this address when
    /// its share is used up, or else of all.
    pub(crate) fn admit(self: &Arc<Self>, limits: &LimitSettings, address: IpAddr) -> StartupPermit {
        let (sender, displaced) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = waiting.by_address.get(&address);
        if of_address.is_some_and(|numbers| numbers.len() >= address_share(limits)) {
            let oldest = of_address.and_then(|numbers| numbers.first().copied());
            waiting.displace(oldest);
        } else if waiting.by_age.len() >= limits.startups_max {
            let oldest = waiting.by_age.first_key_value().map(|(number, _)| *number);
            waiting.displace(oldest);
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_age.insert(number, WaitingStartup { address, displaced: sender });
        waiting.by_address.entry(address).or_default().insert(number);
        StartupPermit { startups: Arc::clone(self), number, displaced }
    }
}

/// Connections of one address. An address with a bound on its sessions has no more here.
fn address_share(limits: &LimitSettings) -> usize {
    let share = (limits.startups_max / ADDRESS_SHARE).max(1);
    match limits.connections_per_address_max {
        0 => share,
        most => share.min(most),
    }
}

impl WaitingStartups {
    fn displace(&mut self, number: Option<u64>) {
        if let Some(startup) = number.and_then(|number| self.remove(number)) {
            // Its task may have ended on another thread.
            let _ended = startup.displaced.send(());
        }
    }

    fn remove(&mut self, number: u64) -> Option<WaitingStartup> {
        let startup = self.by_age.remove(&number)?;
        if let Some(numbers) = self.by_address.get_mut(&startup.address) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_address.remove(&startup.address);
            }
        }
        Some(startup)
    }
}

impl StartupPermit {
    /// Returns when the connection has to make room for a newer one.
    pub(crate) async fn displaced(&mut self) {
        if (&mut self.displaced).await.is_err() {
            // The sender stays in the set until this is dropped, or displaced.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for StartupPermit {
    fn drop(&mut self) {
        let mut waiting = self.startups.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(startups: usize, per_address: usize) -> LimitSettings {
        LimitSettings {
            startups_max: startups,
            connections_per_address_max: per_address,
            ..LimitSettings::default()
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_displaced(permit: &mut StartupPermit) -> bool {
        permit.displaced.try_recv().is_ok()
    }

    #[test]
    fn one_more_than_all_places_displaces_the_oldest() {
        let startups = Arc::new(Startups::default());
        let mut held: Vec<_> = (0..4).map(|n| startups.admit(&limits(4, 0), address(n))).collect();
        assert!(!held.iter_mut().any(is_displaced));
        let mut newest = startups.admit(&limits(4, 0), address(9));
        let displaced: Vec<_> = held.iter_mut().map(is_displaced).collect();
        assert_eq!((displaced, is_displaced(&mut newest)), (vec![true, false, false, false], false));
    }

    #[test]
    fn an_address_past_its_share_displaces_its_own_oldest() {
        for (limits, share) in [(limits(16, 0), 4), (limits(16, 2), 2), (limits(2, 0), 1)] {
            let startups = Arc::new(Startups::default());
            let mut other = startups.admit(&limits, address(1));
            let mut held: Vec<_> = (0..share).map(|_| startups.admit(&limits, address(2))).collect();
            assert!(!held.iter_mut().any(is_displaced), "{limits:?}");
            let _one_more = startups.admit(&limits, address(2));
            assert!(is_displaced(&mut held[0]) && !held[1..].iter_mut().any(is_displaced), "{limits:?}");
            assert!(!is_displaced(&mut other), "{limits:?}");
        }
    }

    #[test]
    fn a_place_given_back_is_free_and_leaves_no_count_behind() {
        let startups = Arc::new(Startups::default());
        let limits = limits(2, 0);
        let mut first = startups.admit(&limits, address(1));
        drop(startups.admit(&limits, address(2)));
        let second = startups.admit(&limits, address(2));
        assert!(!is_displaced(&mut first));
        drop((first, second));
        let waiting = startups.0.lock().expect("not poisoned");
        assert!(waiting.by_age.is_empty() && waiting.by_address.is_empty());
    }
}
