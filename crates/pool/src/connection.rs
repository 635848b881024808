//! Server connections as the pools know them, and what becomes of them.

use trunkline_topology::ServerId;

/// A server connection, by the name that its worker gave it. The pools never look into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionToken {
    /// The worker thread that has the connection's socket.
    pub worker: u16,
    /// The connection's place in its worker's table.
    pub slot: u32,
    /// Tells apart the connections that have had the slot.
    pub generation: u32,
}

/// What a server connection carries of the session that it had last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarriedState {
    /// Hash of the settings, role and what else is laid on a connection: where it is equal, nothing is to be sent.
    pub fingerprint: u64,
    /// What else decides whether a connection fits: bits of the caller's own meaning.
    pub marks: u64,
}

/// Whether a connection that is in the state `idle` can be brought to the state `asked`. Equal fingerprints always fit.
pub type Fits = fn(asked: &CarriedState, idle: &CarriedState) -> bool;

/// A place for a connection that is being opened, counted against all limits.
///
/// It goes back by [`opened`](crate::Pools::opened), [`open_failed`](crate::Pools::open_failed) or
/// [`unused`](crate::Pools::unused); one that is dropped stays taken.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is not given back stays taken"]
pub struct ReservedPlace {
    pub(crate) index: usize,
    pub(crate) serial: u64,
    pub(crate) server: ServerId,
}

impl ReservedPlace {
    /// The server to connect to.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }
}

/// Why a server connection is closed, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It was idle for `server_idle_timeout`.
    IdleTimeout,
    /// It is older than `server_lifetime`.
    Lifetime,
    /// Its server was [retired](crate::Pools::retire).
    Retired,
    /// Its pool has more connections than a reload left it.
    PoolSize,
    /// Its database or user has more connections than a reload left them.
    Limit,
    /// Its place was needed by a client that it could not serve.
    Evicted,
    /// It ended by itself: [`closed`](crate::Pools::closed).
    Ended,
    /// It was its client's [own](crate::PoolBound::Own), which has left it. Never counted.
    Left,
    /// The pools do not know it. Never counted.
    Unknown,
}

impl CloseReason {
    /// All that are counted.
    pub const COUNTED: [CloseReason; 7] = [
        CloseReason::IdleTimeout,
        CloseReason::Lifetime,
        CloseReason::Retired,
        CloseReason::PoolSize,
        CloseReason::Limit,
        CloseReason::Evicted,
        CloseReason::Ended,
    ];

    /// The word for it in metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::Lifetime => "lifetime",
            CloseReason::Retired => "retired",
            CloseReason::PoolSize => "pool_size",
            CloseReason::Limit => "limit",
            CloseReason::Evicted => "evicted",
            CloseReason::Ended => "ended",
            CloseReason::Left => "left",
            CloseReason::Unknown => "unknown",
        }
    }
}

/// A connection that its worker must close. The pools have forgotten it: nothing is to be reported of it, and its place is
/// free. So a server may have more connections than a limit says for as long as its worker takes to close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToClose {
    /// The connection.
    pub token: ConnectionToken,
    /// Its server.
    pub server: ServerId,
    /// Why.
    pub reason: CloseReason,
}
