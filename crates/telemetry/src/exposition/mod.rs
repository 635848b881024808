//! The counters, the sessions and the health snapshot in Prometheus' text format, as `/metrics` shows them.

mod health;
#[cfg(any(test, feature = "testing"))]
pub mod lint;
mod occupancy;
mod pools;
mod process;
#[cfg(test)]
mod reference;
mod render;
mod routed;
mod sources;
mod spread;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod tls;

pub use self::health::render_health;
pub use self::render::{LATENCY_BOUNDS, render_prometheus};
