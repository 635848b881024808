//! Which server connection a client gets for a session or a transaction. Pure: events and times in, decisions out; no I/O, no
//! clock, no lock.
//!
//! A client [joins](Pools::join) a key, [checks out](Pools::check_out) a connection, and checks it [in](Pools::check_in) again.
//! Connections stay with the worker threads that opened them; here they are tokens. Whatever else an event leads to, a client
//! elsewhere whose wait is over or a connection to close, is in the [`Effects`] that it returns, for the caller to deliver.
//!
//! - [`settings`]: what the configuration asks for.
//! - [`key`]: what connections must have in common to stand in for each other.
//! - [`connection`]: server connections and places for them, and why they are closed.
//! - [`waiter`]: what a client asks for, and its place in the queue.
//! - [`answer`]: what the pools answer to a client, a connection that comes back, and any other event.
//! - [`pools`]: all pools of the process.
//! - [`counts`]: what `status` and the metrics show of a pool.
//! - [`limits`]: what bounds all of that.

pub mod answer;
pub mod connection;
pub mod counts;
pub mod key;
pub mod limits;
pub mod pools;
pub mod settings;
mod store;
pub mod waiter;

pub use answer::{CheckFirst, CheckIn, CheckOut, CheckedIn, Effects, Given, Taken, WaitState};
pub use connection::{CarriedState, CloseReason, ConnectionToken, Fits, ReservedPlace, ToClose};
pub use counts::{LongestWait, PoolCounts, PoolCrowd, PoolTotals};
pub use key::{PoolBound, PoolId, PoolKey, ServerLimit};
pub use pools::{Due, Pools};
pub use settings::{PoolMode, PoolOverride, PoolSettings, ServerReuse};
pub use waiter::{Grant, GrantKind, LongWait, PoolAsk, PoolRefusal, Ticket};
