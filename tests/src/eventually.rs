//! Waiting for something that must happen, without sleeping longer than it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Returns as soon as `condition` holds, and how long that took.
///
/// # Panics
/// When it does not hold within `limit`, naming `what` was awaited.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(POLL);
    }
    start.elapsed()
}

/// The first `Some` that `look` gives, and how long that took.
///
/// # Panics
/// As [`eventually`].
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let mut found = None;
    let took = eventually(limit, what, || {
        found = look();
        found.is_some()
    });
    (found.expect("eventually returns when it is some"), took)
}

/// Sets its flag when it is dropped: threads of a scope that run until then end also where the test has failed.
#[derive(Debug)]
#[must_use]
pub struct SetWhenDropped<'f>(pub &'f AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
