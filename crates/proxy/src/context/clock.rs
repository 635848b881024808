//! The time, read once for what a session does without a wait.

use std::cell::Cell;
use std::time::Instant;

/// The time as a worker's session has read it last, until it may have become another.
#[derive(Debug, Default)]
pub(crate) struct PollClock(Cell<Option<Instant>>);

impl PollClock {
    /// The time: read before, or else now.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.0.get().unwrap_or_else(|| {
            let now = Instant::now();
            self.0.set(Some(now));
            now
        })
    }

    /// A session is polled, or has done something that takes time: the next one to ask reads the time.
    #[inline]
    pub(crate) fn moves(&self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_until_it_moves() {
        let clock = PollClock::default();
        let first = clock.now();
        while Instant::now() == first {}
        assert_eq!(clock.now(), first);
        clock.moves();
        assert!(clock.now() > first);
    }
}
