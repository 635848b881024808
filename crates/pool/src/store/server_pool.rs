//! One pool: the connections of a key to a server.

use std::time::Instant;

use trunkline_topology::ServerId;

use crate::key::PoolBound;
use crate::store::connections::{IdleList, KeepAfterUse};
use crate::store::queue::TicketQueue;

/// The connections of a key to a server, and the clients that wait for one.
#[derive(Debug)]
pub(crate) struct ServerPool {
    pub(crate) server: ServerId,
    /// The index of its key.
    pub(crate) key: usize,
    /// The group that `max_db_connections` counts.
    pub(crate) database: usize,
    /// The group that `max_user_connections` counts.
    pub(crate) user: usize,
    /// The group that `pool_size` counts.
    pub(crate) both: usize,
    /// How it counts.
    pub(crate) bound: PoolBound,
    /// `pool_size` for the group.
    pub(crate) size: u32,
    pub(crate) idle: IdleList,
    /// Connections that a client has or was granted, those being tested among them.
    pub(crate) busy: u32,
    /// Connections that are being tested.
    pub(crate) testing: u32,
    /// Places of connections that are being opened.
    pub(crate) opening: u32,
    /// The clients that it would do for, the one that waits longest first.
    pub(crate) queue: TicketQueue,
    /// When it last served a client that waited, counted in such clients of all pools.
    pub(crate) served: u64,
    pub(crate) upkeep: Upkeep,
    /// Places of connections that are being opened only to fill it.
    pub(crate) fills: u32,
    /// When a connection may be opened again only to fill it.
    pub(crate) fill_at: Option<Instant>,
}

/// Whether a pool is kept at `min_pool_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// Not before a client has had a connection of it, nor after its server was retired.
    Left,
    Filled,
}

impl ServerPool {
    /// Its connections, with those that are being opened.
    pub(crate) fn total(&self) -> u32 {
        self.idle.len() + self.busy + self.opening
    }

    /// The groups that its connections count in.
    pub(crate) fn groups(&self) -> [usize; 3] {
        [self.database, self.user, self.both]
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.total() == 0 && self.queue.is_empty()
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct OpeningPlace {
    pub(crate) serial: u64,
    pub(crate) pool: usize,
    pub(crate) keep: KeepAfterUse,
    pub(crate) purpose: OpeningFor,
}

/// Why a connection is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpeningFor {
    Client,
    /// `min_pool_size`.
    Fill,
}
