//! How soon to look again: quickly while the verdict may be changing.

use std::time::Duration;

use crate::judge::JudgeSettings;

/// The run of equal outcomes so far.
#[derive(Debug, Default)]
pub(super) struct ProbePace {
    is_good: bool,
    streak: u32,
}

impl ProbePace {
    /// Counts an outcome.
    pub(super) fn count(&mut self, is_good: bool) {
        if self.is_good == is_good {
            self.streak = self.streak.saturating_add(1);
        } else {
            (self.is_good, self.streak) = (is_good, 1);
        }
    }

    /// Time until the next look, `steady` once the verdict is settled.
    pub(super) fn wait(&self, settings: &JudgeSettings, steady: Duration) -> Duration {
        let settled = if self.is_good { settings.rise } else { settings.fall };
        if self.streak < settled { settings.fast_interval.min(steady) } else { steady }
    }
}
