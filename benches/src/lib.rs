//! What a proxied query costs, measured so that it can be repeated.
//!
//! Three binaries carry the side-by-side bench (`benches/side_by_side`, Python, the conductor):
//!
//! - `fakepg` ([`canned`]) answers from memory, so that the proxy and not PostgreSQL is what is measured;
//! - `pgload` ([`load`]) is a closed loop of clients that times each query;
//! - `bench-cluster` is a primary with two standbys for the cases that need the real server.

pub mod canned;
pub mod load;
pub mod tls;
