//! Which server a session may have, and which of those it gets. Pure: snapshots and counts in, choices out.
//!
//! - [`attrs`]: what a listener's configuration asks of its servers.
//! - [`eligible`]: which servers its sessions may have.
//! - [`balance`]: which of them a session gets, and how many sessions each has.

pub mod attrs;
pub mod balance;
pub mod eligible;

pub use attrs::{Fallback, InvalidFallback, InvalidTargetSessionAttrs, TargetSessionAttrs};
pub use balance::{Attached, Balance, Balancer, Lease};
pub use eligible::{Candidate, Candidates, Tier, candidates, may_stay};
