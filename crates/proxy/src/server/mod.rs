//! The server's side of a session: connecting, logging in as its user, and taking one of several.

mod align;
mod freshness;
pub(crate) mod login;
mod restore;
mod role;
pub(crate) mod take;
