//! Connections to servers.

mod connect;

pub(crate) use self::connect::{connect, open};
