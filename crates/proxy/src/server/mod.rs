//! The server's side of a session: connecting, logging in as its user, and taking one of several.

mod align;
mod connect;
mod freshness;
pub(crate) mod login;
mod restore;
mod role;
pub(crate) mod take;

pub(crate) use connect::{connect, keep_alive, open};
