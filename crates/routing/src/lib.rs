//! Which server a session may have, and which of those it gets. Pure: snapshots and counts in, choices out.
//!
//! - [`attrs`]: what a listener's configuration asks of its servers.
//! - [`load`]: how many sessions each server has, and what is known of it besides its verdict.
//! - [`candidate`]: a server that may be chosen.
//! - [`gray`]: which servers are up, but slow.
//! - [`zones`]: which servers are near.
//! - [`eligible`](mod@eligible): which servers a listener's sessions may have.
//! - [`floor`]: how far a standby must be to show what a session has written.
//! - [`credit`]: how long its reads may wait for one.
//! - [`balance`]: which of them a session gets.

pub mod attrs;
pub mod balance;
pub mod candidate;
pub mod credit;
pub mod eligible;
pub mod floor;
pub mod gray;
pub mod load;
pub mod zones;

pub use attrs::{Fallback, InvalidTargetSessionAttrs, TargetSessionAttrs};
pub use balance::{Balance, Balancer};
pub use candidate::Candidate;
pub use credit::{WaitCredit, WaitEnd};
pub use eligible::{Eligible, Rules, eligible};
pub use floor::{Floor, FloorPosition};
pub use load::{Attached, Lease};
pub use zones::ZonePreference;
