//! A line in the log now and then for what may happen often.

use std::time::Instant;

use crate::limits::LOG_INTERVAL;

/// One kind of event, and when it was last logged.
#[derive(Debug, Default)]
pub struct LogRate {
    logged: Option<Instant>,
    unlogged: u64,
}

impl LogRate {
    /// Counts one more. When it is time for a line, how many have had none since the last.
    pub fn note(&mut self) -> Option<u64> {
        self.note_at(Instant::now())
    }

    fn note_at(&mut self, now: Instant) -> Option<u64> {
        let since = |logged| now.saturating_duration_since(logged);
        if self.logged.is_some_and(|logged: Instant| since(logged) < LOG_INTERVAL) {
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
        let (mut rate, start) = (LogRate::default(), Instant::now());
        assert_eq!(rate.note_at(start), Some(0));
        assert_eq!(rate.note_at(start), None);
        assert_eq!(rate.note_at(start + LOG_INTERVAL - Duration::from_nanos(1)), None);
        assert_eq!(rate.note_at(start + LOG_INTERVAL), Some(2));
        assert_eq!(rate.note_at(start + 2 * LOG_INTERVAL), Some(0));
    }
}
