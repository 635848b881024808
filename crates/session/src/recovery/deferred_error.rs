//! A client that keeps its connection though its server was lost with something owed.
//!
//! It is told so by one error. A transaction that was open is failed from then on: the next server
//! is put into a failed transaction (see [`crate::carried::alignment`]), so that all that follows is
//! PostgreSQL's own. While the client is owed nothing, nothing may be said: then the error is its
//! [`DeferredError`], the answer to the next request, which goes to no server.

use bytes::Bytes;

/// An error the client is still to be told.
#[derive(Debug)]
pub(crate) struct DeferredError {
    pub(crate) error: Bytes,
    pub(crate) delivery: Delivery,
    /// Whether the request that is refused would have committed: the transaction ends with it.
    pub(crate) is_commit: bool,
}

/// How much of the client's request was refused.
///
/// ```text
///               the end of a Query
///  NotBegun ───────────────────────────────────> (told)
///    │  │  a long Query          its end            ^
///    │  └───────────────> InQuery ──────────────────┤
///    │  an extended message, told       Sync        │
///    └───────────────────────────> UntilSync ──────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    NotBegun,
    InQuery,
    UntilSync,
}
