//! The counters, the sessions and the health snapshot in Prometheus' text format, as `/metrics` shows them.

mod health;
#[cfg(test)]
pub(crate) mod lint;
#[cfg(test)]
mod reference;
mod render;
#[cfg(test)]
pub(crate) mod testing;
mod text;

pub use self::health::render_health;
pub use self::render::{LATENCY_BOUNDS, render_prometheus};
