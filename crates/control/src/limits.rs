//! Bounds of the servers beside the proxy.

use std::time::Duration;

/// Sessions listed to an operator; all are counted.
pub const SESSIONS_LISTED_MAX: usize = 1000;

/// Pools listed by `/cluster`, in the order of their names; all are counted.
pub const POOLS_LISTED_MAX: usize = 1000;

/// Reloads asked for that wait while one is under way; one more is refused.
pub const RELOADS_WAITING_MAX: usize = 1;

/// Pause after `accept` failed for want of file descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
