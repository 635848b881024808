//! Counts connections to enforce limits: in total, per client address, per user, and before the startup packet.

mod startups;

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use self::startups::{StartupPermit, Startups};
use crate::errors::Refusal;
use crate::limits::REFUSED_EXTRA;
use crate::settings::LimitSettings;
use trunkline_telemetry::sessions::{Occupancy, Usage};

/// Sessions by what they have alike.
type Tallies<K> = HashSet<Tallied<K>>;

/// How many sessions have this alike.
#[derive(Debug)]
struct Tally<K> {
    key: K,
    count: AtomicUsize,
}

/// What a session is counted by: shared with the count, and so with the others that have it, and found anew only by the first
/// and the last of them. A thin pointer, for each session has it.
#[derive(Debug)]
struct Tallied<K>(Arc<Tally<K>>);

impl<K> Clone for Tallied<K> {
    fn clone(&self) -> Self {
        Tallied(Arc::clone(&self.0))
    }
}

impl<K: PartialEq> PartialEq for Tallied<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl<K: Eq> Eq for Tallied<K> {}

impl<K: Hash> Hash for Tallied<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl Borrow<IpAddr> for Tallied<IpAddr> {
    fn borrow(&self) -> &IpAddr {
        &self.0.key
    }
}

impl Borrow<[u8]> for Tallied<Box<[u8]>> {
    fn borrow(&self) -> &[u8] {
        &self.0.key
    }
}

/// The counts; one for the process.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    sockets: AtomicUsize,
    sessions: AtomicUsize,
    startups: Arc<Startups>,
    by_address: Mutex<Tallies<IpAddr>>,
    by_user: Mutex<Tallies<Box<[u8]>>>,
}

/// A session past its startup packet, counted until dropped.
#[derive(Debug)]
pub(crate) struct SessionPermit {
    admission: Arc<Admission>,
    address: Tallied<IpAddr>,
    /// Set once the client is authenticated: clients that only claim a name must not use up its limit.
    user: Option<Tallied<Box<[u8]>>>,
}

impl Admission {
    /// Counts a socket just accepted, until [it is closed](Self::socket_closed); `false` when there is no room even for cancel
    /// requests.
    pub(crate) fn admit_socket(&self, limits: &LimitSettings) -> bool {
        let room = limits.connections_max.saturating_add(limits.startups_max).saturating_add(REFUSED_EXTRA);
        take_one(&self.sockets, room)
    }

    /// A socket that was admitted is closed.
    pub(crate) fn socket_closed(&self) {
        self.sockets.fetch_sub(1, Relaxed);
    }

    /// Counts a connection whose startup packet is still to come; an older one may have to make room for it.
    pub(crate) fn admit_startup(&self, limits: &LimitSettings, address: IpAddr) -> StartupPermit {
        self.startups.admit(limits, address)
    }

    /// Counts a session whose startup packet has been read.
    pub(crate) fn admit_session(
        self: &Arc<Self>,
        limits: &LimitSettings,
        address: IpAddr,
    ) -> Result<SessionPermit, Refusal> {
        if !take_one(&self.sessions, limits.connections_max) {
            return Err(Refusal::TooMany { what: "to the proxy", limit: limits.connections_max });
        }
        let most = limits.connections_per_address_max;
        let Some(address) = take_one_of(&self.by_address, &address, most, |address| *address) else {
            self.sessions.fetch_sub(1, Relaxed);
            return Err(Refusal::TooMany { what: "from this client address", limit: most });
        };
        Ok(SessionPermit { admission: Arc::clone(self), address, user: None })
    }

    /// Sessions past their startup packet.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    /// How much of the limits is used.
    pub(crate) fn occupancy(&self, limits: &LimitSettings) -> Occupancy {
        let some = |max: usize| (max > 0).then_some(max);
        let usage = |used, max| Usage { used, max };
        Occupancy {
            sessions: usage(self.sessions(), Some(limits.connections_max)),
            startups: usage(self.startups.waiting(), Some(limits.startups_max)),
            one_user: usage(most(&self.by_user), some(limits.connections_per_user_max)),
            one_address: usage(most(&self.by_address), some(limits.connections_per_address_max)),
        }
    }
}

impl SessionPermit {
    /// Counts the session for its user, who has been authenticated.
    pub(crate) fn admit_user(&mut self, limits: &LimitSettings, user: &[u8]) -> Result<(), Refusal> {
        let counted =
            take_one_of(&self.admission.by_user, user, limits.connections_per_user_max, |user| user.into());
        let Some(user) = counted else {
            return Err(Refusal::TooMany { what: "of this user", limit: limits.connections_per_user_max });
        };
        self.user = Some(user);
        Ok(())
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.admission.sessions.fetch_sub(1, Relaxed);
        give_back_one_of(&self.admission.by_address, &self.address);
        if let Some(user) = &self.user {
            give_back_one_of(&self.admission.by_user, user);
        }
    }
}

/// The greatest of the counts.
fn most<K>(tallies: &Mutex<Tallies<K>>) -> usize {
    let tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
    tallies.iter().map(|tallied| tallied.0.count.load(Relaxed)).max().unwrap_or_default()
}

fn take_one(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

/// Counts one more; `None` at the limit. A `max` of 0 is no limit, but still counted: a limit may be set while sessions live.
fn take_one_of<K: Eq + Hash, Q: Eq + Hash + ?Sized>(
    tallies: &Mutex<Tallies<K>>,
    key: &Q,
    max: usize,
    new: impl FnOnce(&Q) -> K,
) -> Option<Tallied<K>>
where
    Tallied<K>: Borrow<Q>,
{
    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = tallies.get(key) else {
        let new = Tallied(Arc::new(Tally { key: new(key), count: AtomicUsize::new(1) }));
        tallies.insert(new.clone());
        return Some(new);
    };
    // Under the lock it grows no further.
    if max != 0 && known.0.count.load(Relaxed) >= max {
        return None;
    }
    known.0.count.fetch_add(1, Relaxed);
    Some(known.clone())
}

fn give_back_one_of<K: Eq + Hash>(tallies: &Mutex<Tallies<K>>, counted: &Tallied<K>) {
    if counted.0.count.fetch_sub(1, Relaxed) > 1 {
        return;
    }
    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
    // Others may have come meanwhile, and gone.
    if tallies.get(counted).is_some_and(|known| known.0.count.load(Relaxed) == 0) {
        tallies.remove(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn limits(all: usize, address: usize, user: usize) -> LimitSettings {
        LimitSettings {
            connections_max: all,
            connections_per_address_max: address,
            connections_per_user_max: user,
            ..LimitSettings::default()
        }
    }

    fn admit(admission: &Arc<Admission>, limits: &LimitSettings) -> Result<SessionPermit, Refusal> {
        let mut permit = admission.admit_session(limits, HOME)?;
        permit.admit_user(limits, b"a")?;
        Ok(permit)
    }

    #[test]
    fn each_limit_admits_its_number_and_not_one_more() {
        for limits in [limits(2, 0, 0), limits(9, 2, 0), limits(9, 0, 2)] {
            let admission = Arc::new(Admission::default());
            let first = admit(&admission, &limits).expect("below the limit");
            let _second = admit(&admission, &limits).expect("at the limit");
            let refused = admit(&admission, &limits).expect_err("past the limit");
            assert!(matches!(refused, Refusal::TooMany { limit: 2, .. }));
            drop(first);
            admit(&admission, &limits).expect("room again");
        }
    }

    #[test]
    fn what_is_used_is_told_beside_its_limit() {
        let admission = Arc::new(Admission::default());
        let limits = LimitSettings { startups_max: 4, ..limits(9, 0, 5) };
        let _waiting = admission.admit_startup(&limits, HOME);
        let _claimed = admission.admit_session(&limits, HOME).expect("room");
        let _user = admit(&admission, &limits).expect("room");
        let usage = |used, max| Usage { used, max };
        let expected = Occupancy {
            sessions: usage(2, Some(9)),
            startups: usage(1, Some(4)),
            one_user: usage(1, Some(5)),
            one_address: usage(2, None),
        };
        assert_eq!(admission.occupancy(&limits), expected);
    }

    #[test]
    fn who_only_claims_a_name_takes_none_of_its_places() {
        let admission = Arc::new(Admission::default());
        let limits = limits(9, 0, 1);
        let _claimed = admission.admit_session(&limits, HOME).expect("room");
        admit(&admission, &limits).expect("the user's own place");
    }

    #[test]
    fn a_refused_session_leaves_no_count_behind() {
        let admission = Arc::new(Admission::default());
        let held = admit(&admission, &limits(9, 0, 1)).expect("room");
        admit(&admission, &limits(9, 0, 1)).expect_err("one too many");
        drop(held);
        assert_eq!(admission.sessions(), 0);
        assert!(admission.by_address.lock().expect("not poisoned").is_empty());
        assert!(admission.by_user.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn sockets_have_room_beyond_the_sessions() {
        let limits = limits(1, 0, 0);
        let admission = Admission::default();
        let admitted = (0..10 + REFUSED_EXTRA).filter(|_| admission.admit_socket(&limits)).count();
        assert_eq!(admitted, 1 + REFUSED_EXTRA);
        admission.socket_closed();
        assert_eq!([admission.admit_socket(&limits), admission.admit_socket(&limits)], [true, false]);
    }
}
