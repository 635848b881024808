//! Bounds of the servers beside the proxy.

use std::time::Duration;

/// Sessions listed to an operator; all are counted.
pub const SESSIONS_LISTED_MAX: usize = 1000;

/// Pause after `accept` failed for want of file descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
