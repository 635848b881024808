//! A client that keeps its connection after its server was lost with a request or transaction open.
//!
//! It gets one error. A transaction that was open has failed: the proxy puts the next server into a
//! failed transaction (see [`crate::carried::alignment`]), and that server answers everything that
//! follows. The protocol allows no error while the client waits for nothing. Then the error is a
//! [`DeferredError`]: it answers the client's next request, which goes to no server.

use bytes::Bytes;

/// An error that the client's next request gets.
#[derive(Debug)]
pub(crate) struct DeferredError {
    pub(crate) error: Bytes,
    pub(crate) delivery: Delivery,
    /// Whether the refused request is a COMMIT, which ends the transaction.
    pub(crate) is_commit: bool,
}

/// How much of the client's request has been refused.
///
/// ```text
///               the end of a Query
///  NotBegun ───────────────────────────────────> (done)
///    │  │  a long Query          its end            ^
///    │  └───────────────> InQuery ──────────────────┤
///    │  an extended message; error      Sync        │
///    └───────────────────────────> UntilSync ──────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    NotBegun,
    InQuery,
    UntilSync,
}
