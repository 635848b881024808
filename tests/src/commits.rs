//! When each of a series of commits was acknowledged, to hold reads against.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use trunkline_cluster::Server;

use crate::Wire;

/// How long a writer rests between two commits.
const PAUSE: Duration = Duration::from_millis(15);

/// When each commit was acknowledged; the number of a commit is its index.
#[derive(Debug, Default)]
pub struct Commits(Mutex<Vec<Instant>>);

impl Commits {
    /// Commits one row after the other to the table `truth` of `primary`.
    ///
    /// # Panics
    /// When the server refuses one.
    pub fn write(&self, primary: &Server, is_over: &AtomicBool) {
        let mut wire = Wire::login(primary.port());
        for number in 0_u64.. {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            let answer = wire.query(&format!("INSERT INTO truth VALUES ({number})"));
            assert!(answer.error.is_none(), "{:?}", answer.error);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            std::thread::sleep(PAUSE);
        }
    }

    /// How long the oldest commit that is missing when `shown` are shown had been acknowledged at `at`.
    #[must_use]
    pub fn age(&self, shown: usize, at: Instant) -> Duration {
        let commits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        commits.get(shown).map(|&missing| at.saturating_duration_since(missing)).unwrap_or_default()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
