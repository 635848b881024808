//! One thread's tasks, sockets and timers.
//!
//! A worker of the proxy runs on this instead of tokio's runtime: a wake-up by the kernel reaches the task that
//! waits for it in some hundred instructions, a third of what it takes there, and sockets own less memory. Futures,
//! traits and channels are tokio's, so code that awaits them runs on either runtime.
//!
//! ```text
//! epoll_wait -> driver: records the readiness of sockets, wakes the waiting tasks
//!            -> executor: polls the woken tasks in order -> epoll_wait ...
//! ```
//!
//! Readiness is edge-triggered: it is noted until a read or write finds the opposite, so a query costs one call to
//! read and one to write on each side, and none to ask again.

mod driver;
mod executor;
mod stream;
mod thread;
pub mod timer;
mod waker_cell;

pub use executor::{Task, round, spawn};
pub use stream::{Accepted, Listener, Stream};
pub use thread::block_on;
pub use waker_cell::WakerCell;
