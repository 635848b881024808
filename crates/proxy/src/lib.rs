//! Everything of Trunkline that awaits: sockets, login, routing, relay, cancel.
//!
//! [`serve`] starts it from [`settings::Settings`] and returns a [`Running`], by which the caller drains,
//! reloads and stops it. A connection's way through the folders: `worker` (accept, placement) -> `login`
//! (first packets, authentication, taking a server by `server`) -> `relay` (two pumps around the
//! pure machine of `trunkline-session`).

mod access;
mod admission;
mod aside;
mod cancel;
mod certificates;
mod client;
mod context;
mod defaults;
mod encryption;
mod errors;
mod failure;
mod fleet;
mod functions;
mod learned;
pub mod limits;
mod listening;
mod login;
mod moves;
mod net;
mod pool;
mod relay;
mod reload;
mod serve;
mod server;
pub mod settings;
mod slow;
mod snapshots;
mod speeds;
#[cfg(test)]
mod testing;
mod worker;

pub use access::Access;
pub use certificates::watch_probes;
pub use context::{AuthReason, ChosenMode, SettledAuth};
pub use failure::{ReloadError, StartError};
pub use fleet::WatchedServers;
pub use reload::asked_for_login;
pub use serve::{Bound, Pulse, Running, serve};
