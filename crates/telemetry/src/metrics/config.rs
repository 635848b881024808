//! Whether the configuration that was written last is the one in force.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the last reload of the configuration ended. The start counts as the first.
#[derive(Debug)]
pub struct ConfigReloads {
    is_last_successful: AtomicBool,
    /// In seconds since 1970.
    succeeded_at: AtomicU64,
}

impl ConfigReloads {
    pub(super) fn started() -> Self {
        ConfigReloads { is_last_successful: AtomicBool::new(true), succeeded_at: AtomicU64::new(now()) }
    }

    /// Notes the end of a reload: whether all of the configuration is in force.
    pub fn ended(&self, is_all_applied: bool) {
        if is_all_applied {
            self.succeeded_at.store(now(), Relaxed);
        }
        self.is_last_successful.store(is_all_applied, Relaxed);
    }

    /// Whether the last one put all of the configuration in force.
    #[must_use]
    pub fn is_last_successful(&self) -> bool {
        self.is_last_successful.load(Relaxed)
    }

    /// When that last happened, in seconds since 1970.
    #[must_use]
    pub fn succeeded_at(&self) -> u64 {
        self.succeeded_at.load(Relaxed)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
