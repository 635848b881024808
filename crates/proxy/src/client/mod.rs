//! The client side of a login: the first packets, and reading message by message.

pub(crate) mod first;
pub(crate) mod messages;
