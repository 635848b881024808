//! What the pools answer: to a client that asks, to a connection that comes back, to any other event.

use trunkline_topology::ServerId;

use crate::connection::{CarriedState, CloseReason, ConnectionToken, ReservedPlace, ToClose};
use crate::waiter::{Grant, PoolRefusal, Ticket};

/// What a client gets.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what was checked out must be checked in"]
pub enum CheckOut {
    /// An idle connection, now the client's.
    Idle(Given),
    /// A place for a connection that the client opens for itself.
    Open {
        /// The place, and the server to connect to.
        place: ReservedPlace,
        /// Idle connections that made room for it.
        effects: Effects,
    },
    /// Nothing is free; a [`Grant`] follows, or the end of `query_wait_timeout`.
    Wait(Ticket),
    /// It may not even wait.
    Refused(PoolRefusal),
}

/// An idle connection that a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The connection.
    pub token: ConnectionToken,
    /// Its server.
    pub server: ServerId,
    /// The state that it is in.
    pub state: CarriedState,
    /// Whether it must be asked for a sign of life before it is used.
    pub check: CheckFirst,
}

/// Whether a connection must be asked for a sign of life before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFirst {
    /// It was idle for longer than `server_check_delay`. It counts as being tested until
    /// [`checked`](crate::Pools::checked) says that it answered.
    Needed,
    /// It has served a moment ago.
    Unneeded,
}

/// What a client that waited has taken.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what was taken must be checked in"]
pub enum Taken {
    /// A connection.
    Idle(Given),
    /// A place for a connection that the client opens for itself.
    Open(ReservedPlace),
}

/// How far a client's wait is.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what was taken must be checked in"]
pub enum WaitState {
    /// It has ended: this is the client's now.
    Ready(Taken),
    /// It goes on. What was granted, if anything, was lost meanwhile, and the client has its old place in the queue.
    Waiting,
    /// It was ended before, and nothing comes of it any more: `query_wait_timeout` has [expired](crate::Due::expired), or what
    /// it brought was taken, or it was [cancelled](crate::Pools::cancel).
    Over,
}

/// What an event leads to elsewhere: the caller must deliver all of it. Mostly empty, and then without an allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "grants that are not delivered leave clients waiting"]
pub struct Effects {
    /// Clients whose wait is over: tell their workers.
    pub grants: Vec<Grant>,
    /// Connections to close: tell their workers.
    pub close: Vec<ToClose>,
}

impl Effects {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.close.is_empty()
    }
}

/// What becomes of a connection that was checked in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the connection may have to be closed"]
pub struct CheckIn {
    /// Of the connection itself.
    pub fate: CheckedIn,
    /// Of others. The connection itself is not in it.
    pub effects: Effects,
}

/// What becomes of the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckedIn {
    /// It waits for its next client.
    Idle,
    /// This client has waited for it.
    GivenTo(Grant),
    /// It must be closed; the pools have forgotten it.
    Close(CloseReason),
}
