//! Which server connection a client gets for a session or a transaction. Pure: events and times in, decisions out.
//!
//! - [`settings`]: what the configuration asks for.
//! - [`counts`]: what `status` and the metrics show of a pool.

pub mod counts;
pub mod settings;

pub use counts::PoolCounts;
pub use settings::{PoolMode, PoolOverride, PoolSettings, ServerReuse};
