//! The client's side of a login: its first packets, and reading message by message.

pub(crate) mod first;
pub(crate) mod messages;
