//! Failed logins are slowed down, and then refused for a while, without I/O and without a clock of its own.
//!
//! What counts is who fails from where: the door that is closed to an address, or to one user from there, is open to all
//! others. A user's failures everywhere only slow down those addresses that have failed themselves: nobody can lock a
//! user out by the name alone.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Addresses, users, and users at an address whose failures are remembered. With more, some are forgotten.
pub const FAILURES_TRACKED_MAX: usize = 16_384;

/// How many times as many failures as one user's close the door to an address: one that is set up wrongly must not close it
/// to others behind the same address.
pub const ADDRESS_SHARE: u32 = 5;

/// The pause before a login that follows one failure; doubled with each, up to [`SLOW_PAUSE_MAX`].
pub const SLOW_PAUSE: Duration = Duration::from_millis(100);

/// The longest.
pub const SLOW_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Logins that are slowed down at one time. With more, they are refused.
pub const SLOWED_MAX: usize = 256;

/// How long a user who has logged in from an address that failures come from is let in there while its door is closed.
const KNOWN_KEPT: Duration = Duration::from_secs(3600);

/// How often what has become void is looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The bytes of a name that count. Source: PostgreSQL, src/include/pg_config_manual.h, `NAMEDATALEN` less one.
const USER_BYTES_MAX: usize = 63;

/// Of those that are full, how many are looked at to forget one.
const FORGOTTEN_OF: usize = 16;

/// How many failures are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureLimits {
    /// Failures of a user from one address that close the door; 0: it is never closed, and nothing is slowed down.
    pub max: u32,
    /// The time in which they count.
    pub window: Duration,
    /// How long it stays closed.
    pub pause: Duration,
}

impl FailureLimits {
    /// Failures of all users that close the door to an address.
    fn max_there(&self) -> u32 {
        self.max.saturating_mul(ADDRESS_SHARE)
    }
}

/// Who knocks: from where, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Knock<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// The user it names.
    pub user: &'a [u8],
}

/// Whether a login may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// At once.
    Open,
    /// After this pause.
    Slow(Duration),
    /// Not for this long.
    Closed(Duration),
}

/// To whom the door has been closed by a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedTo {
    /// To the user from that address.
    User,
    /// To all who come from there and have not been let in before.
    Address,
}

/// The failures of late; one for the process.
#[derive(Debug, Default)]
pub struct FailureGuard {
    table: Mutex<FailureTable>,
    /// Records of the table. Without any, as nearly always, it is not locked.
    tracked: AtomicUsize,
    slowed: AtomicUsize,
    /// Counts the doors that were closed.
    closings: watch::Sender<u64>,
}

/// A login that is slowed down, counted until dropped.
#[derive(Debug)]
pub struct SlowedPermit<'a>(&'a AtomicUsize);

#[derive(Debug, Default)]
struct FailureTable {
    records: HashMap<Suspect, FailureRecord>,
    swept: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Suspect {
    Address(IpAddr),
    UserFrom(IpAddr, Box<[u8]>),
    User(Box<[u8]>),
}

#[derive(Clone, Copy, Debug)]
struct FailureRecord {
    failures: u32,
    /// When the first of them was.
    since: Instant,
    closed_until: Option<Instant>,
    /// When the user was last let in, while failures came from the same address.
    known: Option<Instant>,
}

impl FailureGuard {
    /// Whether this login may begin now, go on, or end well. Of many that began at once, those that are under way when the
    /// door is closed learn nothing if they look whenever [`FailureGuard::closings`] changes.
    #[must_use]
    pub fn look(&self, limits: &FailureLimits, knock: Knock<'_>, now: Instant) -> Door {
        if limits.max == 0 || !self.has_any() {
            return Door::Open;
        }
        let (from, user) = (network_of(knock.address), name(knock.user));
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |suspect| table.records.get(&suspect).filter(|record| !record.is_void(limits, now)).copied();
        let pair = of(Suspect::UserFrom(from, user.clone()));
        let address = of(Suspect::Address(from));
        let is_known = pair.is_some_and(|pair| pair.is_known(now));
        let closed = pair.into_iter().chain(address.filter(|_| !is_known));
        if let Some(left) = closed.filter_map(|record| record.closed_for(now)).max() {
            return Door::Closed(left);
        }
        let failures = pair.map_or(0, |pair| pair.failures);
        let there = address.map_or(0, |address| address.failures);
        let everywhere = of(Suspect::User(user)).map_or(0, |user| user.failures);
        let pause = match is_known {
            true => pause_after(failures),
            false if there > 0 && everywhere >= limits.max => SLOW_PAUSE_MAX,
            // Of an address only once it is half way to a closed door.
            false => pause_after(failures.max(there.saturating_sub(limits.max_there() / 2))),
        };
        if pause.is_zero() { Door::Open } else { Door::Slow(pause) }
    }

    /// Whether there is anything to look at. While there is not, as nearly always, [every door is open](Self::look).
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.tracked.load(Relaxed) != 0
    }

    /// A place among those that are slowed down, if there is one.
    #[must_use]
    pub fn slow_down(&self) -> Option<SlowedPermit<'_>> {
        let took = self.slowed.fetch_update(Relaxed, Relaxed, |n| (n < SLOWED_MAX).then_some(n + 1));
        took.is_ok().then(|| SlowedPermit(&self.slowed))
    }

    /// Notes a wrong proof. Says to whom it has closed the door.
    pub fn failed(&self, limits: &FailureLimits, knock: Knock<'_>, now: Instant) -> Option<ClosedTo> {
        if limits.max == 0 {
            return None;
        }
        let (from, user) = (network_of(knock.address), name(knock.user));
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.note(limits, Suspect::User(user.clone()), now).failures += 1;
        let pair = table.note(limits, Suspect::UserFrom(from, user), now);
        let closed_to_user = pair.fail(limits, limits.max, now);
        let address = table.note(limits, Suspect::Address(from), now);
        let closed_to_address = address.fail(limits, limits.max_there(), now);
        self.tracked.store(table.records.len(), Relaxed);
        drop(table);
        if closed_to_address || closed_to_user {
            self.closings.send_modify(|closings| *closings = closings.wrapping_add(1));
        }
        if closed_to_address { Some(ClosedTo::Address) } else { closed_to_user.then_some(ClosedTo::User) }
    }

    /// Changes whenever a door is closed, whose is to be looked at then.
    #[must_use]
    pub fn closings(&self) -> watch::Receiver<u64> {
        self.closings.subscribe()
    }

    /// How often it has been: another number than before means that [`FailureGuard::closings`] has changed.
    pub fn doors_closed(&self) -> u64 {
        *self.closings.borrow()
    }

    /// Notes that a user was let in.
    pub fn let_in(&self, limits: &FailureLimits, knock: Knock<'_>, now: Instant) {
        if limits.max == 0 || !self.has_any() {
            return;
        }
        let from = network_of(knock.address);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.records.contains_key(&Suspect::Address(from)) {
            table.note(limits, Suspect::UserFrom(from, name(knock.user)), now).known = Some(now);
            self.tracked.store(table.records.len(), Relaxed);
        }
    }
}

impl Drop for SlowedPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl FailureTable {
    /// The record of a suspect; a new one if there is none, or a void one.
    fn note(&mut self, limits: &FailureLimits, suspect: Suspect, now: Instant) -> &mut FailureRecord {
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL);
        if is_due {
            self.records.retain(|_, record| !record.is_void(limits, now));
            self.swept = Some(now);
        }
        if self.records.len() >= FAILURES_TRACKED_MAX && !self.records.contains_key(&suspect) {
            self.forget_one();
        }
        let record = self.records.entry(suspect).or_insert_with(|| FailureRecord::new(now));
        if record.has_lapsed(limits, now) {
            *record = FailureRecord { known: record.known, ..FailureRecord::new(now) };
        }
        record
    }

    fn forget_one(&mut self) {
        let least = self.records.iter().take(FORGOTTEN_OF).min_by_key(|(_, record)| record.weight());
        if let Some(suspect) = least.map(|(suspect, _)| suspect.clone()) {
            self.records.remove(&suspect);
        }
    }
}

impl FailureRecord {
    fn new(now: Instant) -> Self {
        FailureRecord { failures: 0, since: now, closed_until: None, known: None }
    }

    /// Counts one more; whether that closes the door.
    fn fail(&mut self, limits: &FailureLimits, max: u32, now: Instant) -> bool {
        if self.closed_for(now).is_some() {
            return false;
        }
        self.failures += 1;
        if self.failures < max {
            return false;
        }
        // What comes after the pause begins anew.
        (self.failures, self.since) = (0, now);
        self.closed_until = now.checked_add(limits.pause);
        true
    }

    fn closed_for(&self, now: Instant) -> Option<Duration> {
        let left = self.closed_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    fn is_known(&self, now: Instant) -> bool {
        self.known.is_some_and(|known| now.saturating_duration_since(known) < KNOWN_KEPT)
    }

    /// Its failures are too old to count.
    fn has_lapsed(&self, limits: &FailureLimits, now: Instant) -> bool {
        self.closed_for(now).is_none() && now.saturating_duration_since(self.since) >= limits.window
    }

    fn is_void(&self, limits: &FailureLimits, now: Instant) -> bool {
        self.has_lapsed(limits, now) && !self.is_known(now)
    }

    /// What is lost if it is forgotten.
    fn weight(&self) -> (Option<Instant>, u32) {
        (self.closed_until, self.failures)
    }
}

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        // 2 to the power of 5 is beyond the longest.
        n => (SLOW_PAUSE * (1 << (n - 1).min(5))).min(SLOW_PAUSE_MAX),
    }
}

/// Of IPv6 the network: whoever has one address has the others of its /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// A name as the servers cut it.
fn name(user: &[u8]) -> Box<[u8]> {
    user[..user.len().min(USER_BYTES_MAX)].into()
}
