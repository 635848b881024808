//! The settings that a session has by its login.
//!
//! - `startup`: those that its startup packet names.

pub(crate) mod startup;
