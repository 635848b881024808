//! What the pools remember: tables that know nothing of each other but by index.

pub(crate) mod connections;
pub(crate) mod groups;
pub(crate) mod keys;
pub(crate) mod queue;
pub(crate) mod server_pool;
pub(crate) mod waiting;
