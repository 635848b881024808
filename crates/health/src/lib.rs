//! Is this PostgreSQL server fit to serve? Probes and the judgement over them.
//!
//! - [`judge`]: pure; observations in, verdicts out. The LSN clock lives here.
//! - [`probe`]: the question, over tokio-postgres.
//! - [`monitor`]: asks every server every tick, feeds the judge, publishes the verdicts.
//! - [`snapshot`]: what everyone reads. Unknown is never healthy, and lag unknown is never zero.
//! - [`termination`]: pure; whose end it is when a server ends a session.
//! - [`pool`]: pure; which servers a listener's sessions may have.

pub mod judge;
pub mod monitor;
pub mod net;
pub mod pool;
pub mod probe;
pub mod snapshot;
pub mod termination;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use judge::{JudgeSettings, PrimaryUnknown};
pub use monitor::{Health, Monitor, MonitorSettings, PassiveFailure};
pub use net::{Address, Stream};
pub use pool::{Candidate, Candidates, Fallback, TargetSessionAttrs, Tier, candidates, may_stay};
pub use snapshot::{
    AdminState, ExpectedRole, Lag, Postmaster, Role, ServerId, ServerSpec, ServerStatus, Snapshot, State,
    Written,
};
pub use termination::{EndedBy, Sighting, Termination};

/// Most servers one monitor watches: a bound for everything kept per server.
pub const SERVERS_MAX: usize = 1024;
