//! What is counted, listed and logged of the proxy's work.
//!
//! - [`metrics`]: counters and histograms, written by one thread each and added when read, with their closed sets of
//!   causes as labels.
//! - [`sessions`]: the sessions as an operator sees them, counted and listed on demand.
//! - [`statement_log`]: the log of statements, chosen by threshold and sample.
//! - [`log_rate`]: a line in the log now and then for what may happen often.
//! - [`exposition`]: all of it, and the health snapshot, in Prometheus' text format.
//!
//! Nothing here waits on the path of a query, and nothing here serves anything: others read it.

pub mod exposition;
pub mod limits;
pub mod log_rate;
pub mod metrics;
pub mod sessions;
pub mod statement_log;
