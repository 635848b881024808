//! What is shown of a pool, in the words of PgBouncer's `SHOW POOLS`.

use std::time::Duration;

use crate::connection::CloseReason;
use crate::key::PoolKey;

/// Clients and server connections of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Clients that have a server connection, or need none now.
    pub cl_active: u64,
    /// Clients that wait for a server connection.
    pub cl_waiting: u64,
    /// Server connections that a client has.
    pub sv_active: u64,
    /// Server connections that may be used at once.
    pub sv_idle: u64,
    /// Server connections that have been idle for longer than `server_check_delay`: checked before their next use.
    pub sv_used: u64,
    /// Server connections that are being checked or reset.
    pub sv_tested: u64,
    /// Server connections that are logging in.
    pub sv_login: u64,
    /// How long the client that waits longest has waited.
    pub maxwait: Duration,
}

/// The clients that wait for connections, and the connections that they wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCrowd {
    /// Clients that wait.
    pub waiting: u64,
    /// Server connections that there are, those that are being opened among them.
    pub connections: u64,
}

/// The longest wait of a key's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongestWait<'p> {
    /// The key.
    pub key: &'p PoolKey,
    /// How many of its clients wait.
    pub waiting: u64,
    /// How long the first of them has waited.
    pub maxwait: Duration,
}

/// What has happened in all pools since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolTotals {
    /// Connections that were opened.
    pub opened: u64,
    /// Places whose connection could not be opened.
    pub open_failed: u64,
    /// Times that a client got an idle connection, at once or after it had waited.
    pub reused: u64,
    /// Clients that had to wait.
    pub waited: u64,
    /// Clients whose wait has ended by a connection or a place for one.
    pub granted: u64,
    /// Clients that `query_wait_timeout` has sent away.
    pub expired: u64,
    /// Clients that found too many others waiting.
    pub refused: u64,
    closed: [u64; CloseReason::COUNTED.len()],
}

impl PoolTotals {
    /// Connections that were closed, by reason.
    pub fn closed(&self) -> impl Iterator<Item = (CloseReason, u64)> {
        CloseReason::COUNTED.into_iter().zip(self.closed)
    }

    pub(crate) fn note_closed(&mut self, reason: CloseReason) {
        let index = CloseReason::COUNTED.iter().position(|counted| *counted == reason);
        if let Some(count) = index.and_then(|index| self.closed.get_mut(index)) {
            *count += 1;
        }
    }
}
