//! Who may be a server of the cluster, asked of those who know: DNS, Patroni, Kubernetes, or the cluster itself.
//!
//! A source says who *may* be there; health alone says who serves. What a source says of roles starts a probe and is never
//! a verdict.
//!
//! - [`member`]: one server as a source names it, checked before anybody believes it.

pub mod member;

pub use member::{Member, RoleHint};
