//! A throw-away PostgreSQL primary with streaming standbys, for the demo and the tests.
//!
//! [`Cluster::start`] runs `initdb` once, starts the primary, copies it with `pg_basebackup` for each standby
//! (in parallel) and waits until all of them stream. Dropping the [`Cluster`] stops every server and removes
//! the directory; should the process die without a chance to do so, a small watcher shell does it instead.
//!
//! Everything blocks and uses the standard library only: a caller inside an async runtime starts a cluster
//! from a blocking thread. The servers listen on 127.0.0.1 (SCRAM) and on a private socket directory (trust,
//! for the harness itself). They trade durability for speed and must never hold data that matters.

mod account;
mod cluster;
mod error;
mod install;
mod port;
mod process;
mod progress;
mod reaper;
mod server;
mod spec;
mod tool;

pub use account::ServerAccount;
pub use cluster::Cluster;
pub use error::ClusterError;
pub use install::PgInstall;
pub use port::PortLease;
pub use process::{descendants, is_alive, resident_bytes, send_signal};
pub use progress::Progress;
pub use server::{Server, StopMode};
pub use spec::{ClusterSpec, MONITOR_PASSWORD, MONITOR_ROLE, ServerCertificate};
