//! What is shown of a pool, in the words of PgBouncer's `SHOW POOLS`.

use std::time::Duration;

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
