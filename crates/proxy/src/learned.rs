//! Requests of which something is known: that a standby has refused them and the primary has run them, so that the next such ones
//! go to the primary at once; or that a standby has run them, so that they write nothing on the primary either.
//!
//! A table of fixed size without a lock, shared by all sessions. Each entry is a part of the request's key, of 54 bits with its place, and
//! the minute in which it was learnt. The key is another one once the catalog has changed. What is forgotten is learnt anew.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::limits::{LEARNED_MINUTES, LEARNED_SETS, LEARNED_WAYS};

/// Bits of an entry for the minute.
const MINUTE_BITS: u32 = 20;
const MINUTE_MASK: u64 = (1 << MINUTE_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct LearnedRequests {
    begun: Instant,
    /// Zero for none.
    sets: Box<[[AtomicU64; LEARNED_WAYS]]>,
}

impl LearnedRequests {
    pub(crate) fn new(begun: Instant) -> Self {
        let empty = || std::array::from_fn(|_| AtomicU64::new(0));
        LearnedRequests { begun, sets: (0..LEARNED_SETS).map(|_| empty()).collect() }
    }

    /// The minute of `now`, from one on.
    fn minute(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.begun).as_secs() / 60 + 1) & MINUTE_MASK
    }

    fn set(&self, key: u64) -> Option<&[AtomicU64; LEARNED_WAYS]> {
        // The high bits are compared.
        let set = usize::try_from(key & MINUTE_MASK).unwrap_or_default();
        self.sets.get(set % LEARNED_SETS)
    }

    fn is_of(entry: u64, key: u64) -> bool {
        entry != 0 && entry >> MINUTE_BITS == key >> MINUTE_BITS
    }

    fn age(&self, entry: u64, now: Instant) -> u64 {
        self.minute(now).wrapping_sub(entry & MINUTE_MASK) & MINUTE_MASK
    }

    /// Whether this is known of such a request.
    pub(crate) fn knows(&self, key: u64, now: Instant) -> bool {
        self.set(key).is_some_and(|set| {
            set.iter()
                .map(|entry| entry.load(Relaxed))
                .any(|entry| Self::is_of(entry, key) && self.age(entry, now) < LEARNED_MINUTES)
        })
    }

    /// How many are known.
    pub(crate) fn count(&self, now: Instant) -> u64 {
        let entries = self.sets.iter().flatten().map(|entry| entry.load(Relaxed));
        let is_known = |entry: &u64| *entry != 0 && self.age(*entry, now) < LEARNED_MINUTES;
        entries.filter(is_known).map(|_| 1).sum()
    }

    /// It is known of such a request from now on.
    pub(crate) fn learn(&self, key: u64, now: Instant) {
        let Some(set) = self.set(key) else { return };
        let rank = |entry: &&AtomicU64| match entry.load(Relaxed) {
            same if Self::is_of(same, key) => u64::MAX,
            0 => u64::MAX - 1,
            other => self.age(other, now),
        };
        if let Some(entry) = set.iter().max_by_key(rank) {
            entry.store(key & !MINUTE_MASK | self.minute(now), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_learnt_is_known_for_an_hour() {
        let begun = Instant::now();
        let learned = LearnedRequests::new(begun);
        let (key, other) = (0xabcd_ef01_2345_6789, 0xabcd_ef02_2345_6789);
        assert!(!learned.knows(key, begun));
        learned.learn(key, begun);
        assert!(learned.knows(key, begun) && !learned.knows(other, begun));
        assert!(learned.knows(key, begun + 59 * MINUTE));
        assert_eq!(learned.count(begun + 59 * MINUTE), 1);
        assert_eq!(learned.count(begun + 60 * MINUTE), 0);
        assert!(!learned.knows(key, begun + 60 * MINUTE));
        learned.learn(key, begun + 60 * MINUTE);
        assert!(learned.knows(key, begun + 61 * MINUTE));
    }

    #[test]
    fn the_oldest_of_those_that_share_a_place_is_forgotten() {
        let begun = Instant::now();
        let learned = LearnedRequests::new(begun);
        let key = |number: usize| (number as u64 + 1) << MINUTE_BITS;
        let at = |number: usize| begun + u32::try_from(number).expect("few") * MINUTE;
        for number in 0..LEARNED_WAYS {
            learned.learn(key(number), at(number));
        }
        learned.learn(key(0), at(LEARNED_WAYS));
        learned.learn(key(LEARNED_WAYS), at(LEARNED_WAYS));
        let known = |number: usize| learned.knows(key(number), at(LEARNED_WAYS));
        let forgotten: Vec<_> = (0..=LEARNED_WAYS).filter(|number| !known(*number)).collect();
        assert_eq!(forgotten, [1]);
    }
}
