//! The time limit of one login.

use std::cell::Cell;
use std::time::{Duration, Instant};

use trunkline_reactor::timer;

/// When a login has taken too long. The search for a primary may put it off: a client that has done its part is not
/// sent away in the middle of a failover, and one that dawdles gains nothing.
#[derive(Debug)]
pub(super) struct LoginDeadline(Cell<Instant>);

impl LoginDeadline {
    pub(super) fn within(limit: Duration) -> Self {
        LoginDeadline(Cell::new(Instant::now() + limit))
    }

    /// What follows may take so much longer.
    pub(super) fn extend(&self, by: Duration) {
        self.0.set(self.0.get() + by);
    }

    /// Returns when the time is over.
    pub(super) async fn passed(&self) {
        while Instant::now() < self.0.get() {
            timer::sleep_until(self.0.get()).await;
        }
    }
}
