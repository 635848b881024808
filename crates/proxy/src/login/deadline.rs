//! The time limit of one login.

use std::cell::Cell;
use std::time::{Duration, Instant};

use trunkline_reactor::timer;

/// When a login has taken too long. The search for a server extends it once: the client has done its part, and
/// must not be refused in the middle of a failover.
#[derive(Debug)]
pub(super) struct LoginDeadline(Cell<Instant>);

impl LoginDeadline {
    pub(super) fn within(limit: Duration) -> Self {
        LoginDeadline(Cell::new(Instant::now() + limit))
    }

    /// Extends the deadline.
    pub(super) fn extend(&self, by: Duration) {
        self.0.set(self.0.get() + by);
    }

    /// Returns at the deadline.
    pub(super) async fn passed(&self) {
        while Instant::now() < self.0.get() {
            timer::sleep_until(self.0.get()).await;
        }
    }
}
