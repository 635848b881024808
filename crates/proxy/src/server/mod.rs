//! The server side of a session: choosing a server, connecting to it, and logging in as the session's user.

pub(crate) mod ahead;
pub(crate) mod align;
pub(crate) mod connection;
mod criteria;
mod freshness;
mod idle;
pub(crate) mod login;
mod means;
mod mechanism;
pub(crate) mod patience;
pub(crate) mod pooled;
pub(crate) mod positions;
pub(crate) mod refused;
mod restore;
pub(crate) mod returned;
mod role;
pub(crate) mod take;
