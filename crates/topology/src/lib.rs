//! The servers of one cluster as everyone above knows them: who they are, where, and the verdict on each. Pure: no I/O, no
//! clock, no judgement of its own.
//!
//! - [`snapshot`]: the verdict on every server at one moment. Unknown is never healthy, and lag unknown is never zero.
//! - [`dialect`]: in which words a server is asked how it is.
//! - [`state`]: the verdict, and what it means to others.
//! - [`address`]: where a server or a listener is, and where a client comes from.

pub mod address;
pub mod dialect;
pub mod snapshot;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use address::{Address, ClientAddress, SOCKET_PATH_MAX};
pub use dialect::{Dialect, InsertedAsked, ProbeSpec};
pub use snapshot::{
    AdminState, Endpoint, ExpectedRole, FlushedWal, Lag, Origin, Postmaster, Role, SERVERS_MAX, ServerId,
    ServerSpec, ServerStatus, Snapshot,
};
pub use state::{LogSeverity, State};
