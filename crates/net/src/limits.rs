//! The bounds of connections that are not settings.

use std::time::Duration;

/// Silence after which the kernel asks whether a client still lives, and between its questions.
pub const CLIENT_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a connection that closes waits for its peer to read the last bytes and close.
pub const LINGER: Duration = Duration::from_secs(2);

/// Bytes of the peer that a closing connection reads and throws away while it lingers.
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Connections waiting in the kernel for `accept`.
pub const LISTEN_BACKLOG: i32 = 4096;
