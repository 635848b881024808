//! Is this PostgreSQL server fit to serve? Probes and the judgement over them.
//!
//! - [`judge`]: pure; observations in, verdicts out. The LSN clock lives here.
//! - [`probe`]: the question, over tokio-postgres.
//! - [`monitor`]: asks every server every tick, feeds the judge, publishes the verdicts.
//! - [`termination`]: pure; tells a server's shutdown from pg_terminate_backend when a session ends.
//!
//! The judge alone, on simulated time; `examples/judge.rs` has more, `examples/watch.rs` the whole monitor:
//!
//! ```
//! use std::time::Instant;
//!
//! use trunkline_health::judge::{Finding, Judge, Observation, ProbeFailure};
//! use trunkline_health::JudgeSettings;
//! use trunkline_topology::{AdminState, ExpectedRole, ServerId, ServerSpec, State};
//!
//! let now = Instant::now();
//! let replica = ServerSpec {
//!     name: "replica1".to_owned(),
//!     host: "10.0.0.11".to_owned(),
//!     port: 5432,
//!     expected_role: ExpectedRole::Replica,
//!     weight: 100,
//!     admin: AdminState::Ready, ..ServerSpec::default()
//! };
//! let mut judge = Judge::new(JudgeSettings::default(), vec![replica], now);
//! // Unknown is never healthy.
//! assert_eq!(judge.snapshot(now).servers[0].state, State::Unknown);
//!
//! let finding = Finding::ConnectFailed(ProbeFailure::Refused);
//! judge.observe(ServerId(0), Observation { sent_at: now, received_at: now, address: None, finding }, now);
//! assert_eq!(judge.snapshot(now).servers[0].state, State::Down);
//! ```

pub mod guard;
pub mod judge;
pub mod login;
pub mod monitor;
pub mod net;
pub mod probe;
pub mod termination;

pub use judge::{JudgeSettings, LagUnknown, PrimaryUnknown};
pub use login::{MonitorLogin, MonitorLoginError};
#[cfg(any(test, feature = "testing"))]
pub use monitor::ByHand;
pub use monitor::{Health, LoginRefusal, Monitor, MonitorSettings, PassiveFailure, try_login};
pub use net::ServerStream;
pub use termination::{EndedBy, Sighting, Termination};

pub use trunkline_topology::SERVERS_MAX;
