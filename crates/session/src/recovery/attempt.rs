//! The request in flight, as far as it may be sent again to another server.

use crate::pin::NotRepeatable;

/// What was sent since the session was last idle, and whether it could be sent again.
///
/// ```text
///        a request, the session movable           something of its answer is forwarded,
///  Idle ─────────────────────────────────> Open ──── or more than one unit is sent ────> Closed
///    ^ └──── a request, the session pinned ───────────────────────────────────────────────^  │
///    └──────────────────────────── ReadyForQuery, nothing in flight ─────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Attempt {
    #[default]
    Idle,
    Open {
        unit: Unit,
        flush: Flush,
    },
    Closed(NotRepeatable),
}

/// How much of a unit was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Extended messages, and no Sync yet.
    Begun,
    /// One Query, or extended messages and their Sync.
    Whole,
}

/// Whether the client may wait for answers before its Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    NotSent,
    Sent,
}
