//! Is this PostgreSQL server fit to serve? Probes and the judgement over them.
//!
//! - [`judge`]: pure; observations in, verdicts out. The LSN clock lives here.
//! - [`probe`]: the question, over tokio-postgres.
//! - [`monitor`]: asks every server every tick, feeds the judge, publishes the verdicts.
//! - [`termination`]: pure; whose end it is when a server ends a session.

pub mod judge;
pub mod monitor;
pub mod net;
pub mod probe;
pub mod termination;

pub use judge::{JudgeSettings, PrimaryUnknown};
pub use monitor::{Health, Monitor, MonitorSettings, PassiveFailure};
pub use net::Stream;
pub use termination::{EndedBy, Sighting, Termination};

/// Most servers one monitor watches: a bound for everything kept per server.
pub const SERVERS_MAX: usize = 1024;
