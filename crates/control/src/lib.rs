//! What is asked beside the proxy, by load balancers, Prometheus, operators and people.
//!
//! - [`contract`]: pure; HTTP answers and agent-check lines from the verdicts, and the table of paths.
//! - [`http`]: serves the contract, `/metrics` and a page, and HAProxy's agent-check beside them.
//! - [`fleet`]: servers that an operator adds, changes or takes out.
//! - [`explain`]: where a request would go, of listeners that choose a server for each.
//! - [`admin`]: what an operator may ask of a running proxy, over a Unix socket.
//!
//! All of it reads verdicts and counters and needs no proxy: `trunkline health` serves it alone.

pub mod admin;
pub mod contract;
pub mod explain;
pub mod fleet;
pub mod http;
pub mod limits;
mod listen;
pub mod reload;

pub use self::listen::{ListenError, listen, listen_beside};
