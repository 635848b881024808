//! Bounds of the listings and logs of sessions and statements.

use std::time::Duration;

/// Statement records waiting to be written; one more is dropped and counted.
pub const STATEMENT_LOG_QUEUE: usize = 8192;

/// Least time between two lines in the log about one kind of event that may happen often.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long an answer about the sessions may take; a worker that is late is left out, and said to be.
pub const SESSIONS_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Questions about its sessions that wait for one worker.
pub const SESSIONS_QUESTIONS_MAX: usize = 8;

/// Databases with a user whose pools have label values of their own in `/metrics`, in the order of their names; all others
/// are summed under [`OTHER_POOLS`]. Names come from clients: a series for each is memory of Prometheus'.
pub const POOLS_NAMED_MAX: usize = 256;

/// Database and user of the pools that have no label values of their own.
pub const OTHER_POOLS: &str = "other";
