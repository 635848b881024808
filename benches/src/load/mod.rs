//! A closed loop of clients, each of which asks again as soon as it has its answer.
//!
//! The processor time of the measured processes is read by the load itself at both ends of the measured
//! window, so that logins and the warm-up are outside of it.

mod client;
mod cpu;
mod endpoint;
mod run;

pub use client::{Client, Mode, request};
pub use cpu::cpu_time;
pub use endpoint::{Endpoint, Negotiation};
pub use run::{Figures, Plan, bulk, closed_loop, hold, reconnect};
