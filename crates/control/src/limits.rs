//! Bounds of the servers beside the proxy.

use std::time::Duration;

/// Sessions listed to an operator; all are counted.
pub const SESSIONS_LISTED_MAX: usize = 1000;

/// Least time between two lines in the log about connections that are refused or cannot be accepted.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Pause after `accept` failed for want of file descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
