//! Everything of Trunkline that awaits: sockets, login, routing, relay, cancel, HTTP.
//!
//! [`serve`] starts it from [`settings::Settings`] and returns a [`Running`], by which the caller drains,
//! reloads and stops it. A connection's way through the folders: `worker` (accept, placement) -> `login`
//! (first packets, authentication, taking a server by `route` and `server`) -> `relay` (two pumps around the
//! pure machine of `trunkline-session`).

mod admin;
mod admission;
pub mod auth;
mod cancel;
mod client;
mod context;
mod defaults;
mod errors;
pub mod exposition;
mod functions;
#[expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]
pub mod http;
pub mod limits;
mod login;
pub mod metrics;
mod moves;
mod net;
mod relay;
mod route;
mod serve;
mod server;
mod sessions;
pub mod settings;
mod statement_log;
mod worker;

pub use serve::{Bound, Running, StartError, listen, serve};
pub use sessions::Sessions;
