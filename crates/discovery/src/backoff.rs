//! How long a source waits after errors.

use std::time::Duration;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// Pauses that double from [`BACKOFF_MIN`] to [`BACKOFF_MAX`], each shortened by chance by up to a half, so that many
/// proxies do not come back in the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: BACKOFF_MIN }
    }
}

impl Backoff {
    /// After one more error: how long to wait.
    pub(crate) fn after_error(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(BACKOFF_MAX);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// After an answer.
    pub(crate) fn after_answer(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_again_after_an_answer() {
        let mut backoff = Backoff::default();
        let first = backoff.after_error();
        assert!(first >= BACKOFF_MIN / 2 && first <= BACKOFF_MIN, "{first:?}");
        let last = (0..20).map(|_| backoff.after_error()).last().unwrap();
        assert!(last >= BACKOFF_MAX / 2 && last <= BACKOFF_MAX, "{last:?}");
        backoff.after_answer();
        assert!(backoff.after_error() <= BACKOFF_MIN);
    }
}
