//! Bounds on what the pools hold, and the times that no setting names.

use std::time::Duration;

/// Clients that may wait for a connection of one key. One more is refused.
pub const WAITERS_PER_KEY_MAX: usize = 100_000;

/// Clients that may wait in all. One more is refused.
pub const WAITERS_MAX: usize = 200_000;

/// Keys known at one time, but for those of sessions with connections of their own. A session of one more is refused.
pub const KEYS_MAX: usize = 65_536;

/// Pools at one time: pairs of a server and a key that have a connection, or a client that waits for one; but
/// for those of such sessions.
pub const POOLS_MAX: usize = 131_072;

/// Idle connections looked at for the one that costs least, once one that will do is found.
pub const PREFERENCE_DEPTH: usize = 32;

/// How much later a client may have come that is served first, since the connection is at its worker already: another one
/// would have to take it over.
pub const NEAR_WAIT: Duration = Duration::from_millis(2);

/// How often a client that has waited longest is passed by such clients. Where all workers have connections, one of its own
/// comes back before.
pub const NEAR_PASSES: u8 = 16;

/// Clients looked at for one that the connection is near to.
pub const NEAR_DEPTH: usize = 32;

/// How long a client waits before it is told so.
pub const NOTICE_AFTER: Duration = Duration::from_secs(5);

/// How long after a failed one the next connection is opened that only `min_pool_size` asks for.
/// Source: PgBouncer's default of `server_login_retry`.
pub const FILL_RETRY: Duration = Duration::from_secs(15);

/// Connections that are opened at one time only because `min_pool_size` asks for them.
pub const FILLS_MAX: usize = 32;
