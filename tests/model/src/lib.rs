//! A model of a PostgreSQL server, and random clients for it: what the simulations of the session and of the relay
//! compare with. Nothing here is shared with the code under test.

pub mod rng;
pub mod script;
pub mod server;
pub mod wire;

pub use rng::Rng;
pub use server::Server;
