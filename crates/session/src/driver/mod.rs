//! What whoever drives a session keeps for it between two reads.
//!
//! - [`input`]: bytes of a peer that the session has not released, or that it processes again.
//! - [`journal`]: the request in flight, to be sent again.

pub(crate) mod input;
pub(crate) mod journal;
