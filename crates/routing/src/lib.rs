//! Which server a session may have, and which of those it gets. Pure: snapshots and counts in, choices out.
//!
//! - [`attrs`]: what a listener's configuration asks of its servers.
//! - [`load`]: how many sessions each server has.
//! - [`eligible`](mod@eligible): which servers a listener's sessions may have.
//! - [`balance`]: which of them a session gets.

pub mod attrs;
pub mod balance;
pub mod eligible;
pub mod load;

pub use attrs::{Fallback, InvalidTargetSessionAttrs, TargetSessionAttrs};
pub use balance::{Balance, Balancer};
pub use eligible::{Candidate, Eligible, Rules, eligible};
pub use load::{Attached, Lease};
