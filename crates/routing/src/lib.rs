//! Which server a session may have, and which of those it gets. Pure: snapshots and counts in, choices out.
//!
//! - [`attrs`]: what a listener's configuration asks of its servers.
//! - [`eligible`]: which servers its sessions may have.

pub mod attrs;
pub mod eligible;

pub use attrs::{Fallback, InvalidFallback, InvalidTargetSessionAttrs, TargetSessionAttrs};
pub use eligible::{Candidate, Candidates, Tier, candidates, may_stay};
