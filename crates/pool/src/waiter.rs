//! Clients that ask for a server connection, and that wait for one.

use std::time::Duration;

use thiserror::Error;
use trunkline_topology::ServerId;

use crate::connection::{CarriedState, ConnectionToken, Fits};
use crate::key::PoolId;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct PoolAsk<'a> {
    /// The key, [joined](crate::Pools::join) by the client.
    pub key: PoolId,
    /// The servers that will do, in the balancer's order, best first.
    pub candidates: &'a [ServerId],
    /// The state that the connection is brought to.
    pub state: CarriedState,
    /// Which idle connections can be brought to that state.
    pub fits: Fits,
    /// The worker thread that the client is on.
    pub worker: u16,
    /// The client, in the caller's own numbering; given back with its [`Grant`].
    pub client: u64,
}

/// Why a client is neither served nor may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PoolRefusal {
    /// [`WAITERS_PER_KEY_MAX`](crate::limits::WAITERS_PER_KEY_MAX) or [`WAITERS_MAX`](crate::limits::WAITERS_MAX) wait.
    #[error("too many clients wait for a server connection")]
    TooManyWaiters,
    /// There are [`KEYS_MAX`](crate::limits::KEYS_MAX) keys or [`POOLS_MAX`](crate::limits::POOLS_MAX) pools.
    #[error("too many pools")]
    TooManyPools,
    /// The key was left by all who had joined it.
    #[error("the pool's key is no longer known")]
    UnknownKey,
}

/// A client's place in the queue. The smaller one is the older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Never given twice; 0 is older than all.
    pub(crate) serial: u64,
    /// Where its client is found.
    pub(crate) index: usize,
}

impl Ticket {
    /// Older than all that are given.
    pub(crate) const FIRST: Ticket = Ticket { serial: 0, index: 0 };

    /// Between this one and the next younger one.
    pub(crate) fn after(self) -> Self {
        Ticket { serial: self.serial.saturating_add(1), index: 0 }
    }
}

/// The end of a client's wait. What it got is held for it until it [takes](crate::Pools::take) it or
/// [cancels](crate::Pools::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which wait has ended.
    pub ticket: Ticket,
    /// The worker thread of the client.
    pub worker: u16,
    /// The client, as in its ask.
    pub client: u64,
    /// What it gets.
    pub what: GrantKind,
}

/// What a client that waited gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    /// A connection.
    Idle(ConnectionToken),
    /// A place for a connection to this server, which it opens for itself.
    Open(ServerId),
}

/// A client that has waited for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongWait {
    /// Its wait.
    pub ticket: Ticket,
    /// The worker thread of the client.
    pub worker: u16,
    /// The client, as in its ask.
    pub client: u64,
    /// How long it has waited.
    pub waited: Duration,
    /// How many wait for the same key, this one among them.
    pub queue_len: usize,
}
