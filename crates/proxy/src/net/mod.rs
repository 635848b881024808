//! Connections to servers.

mod connector;
#[cfg(test)]
pub(crate) mod memory;

pub(crate) use self::connector::{Connector, Reached, ServerPlace, TlsPlace, WithoutTls};
