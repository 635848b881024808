//! A line in the log now and then for what may happen often.

use std::time::Instant;

use crate::limits::COMPLAINT_INTERVAL;

/// What happens, and when it was last logged.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Pace {
    /// Counts one more. When it is time for a line, how many have had none since the last.
    pub(crate) fn note(&mut self) -> Option<u64> {
        self.note_at(Instant::now())
    }

    fn note_at(&mut self, now: Instant) -> Option<u64> {
        let since = |logged| now.saturating_duration_since(logged);
        if self.logged.is_some_and(|logged: Instant| since(logged) < COMPLAINT_INTERVAL) {
            self.unlogged += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_line_an_interval_tells_of_those_without() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.note_at(start), Some(0));
        assert_eq!(pace.note_at(start), None);
        assert_eq!(pace.note_at(start + COMPLAINT_INTERVAL - Duration::from_nanos(1)), None);
        assert_eq!(pace.note_at(start + COMPLAINT_INTERVAL), Some(2));
        assert_eq!(pace.note_at(start + 2 * COMPLAINT_INTERVAL), Some(0));
    }
}
