//! Who may be a server of the cluster, asked of those who know: DNS, Patroni, Kubernetes, or the cluster itself.
//!
//! A source says who *may* be there; health alone says who serves. What a source says of roles starts a probe and is never
//! a verdict.
//!
//! ```text
//! patroni ─┐  Members              ┌─ kept: the last good answer, on disk
//! dns     ─┼──────────▶ discovery ─┤
//! ...     ─┘  by news   check      └─▶ found ──▶ merge: with the configured servers, what is wanted
//! ```
//!
//! - [`member`]: one server as a source names it.
//! - [`source`]: the settings of a source.
//! - [`check`]: what an answer must be before anybody believes it.
//! - [`mod@merge`]: configured, added and discovered servers become one list.
//! - [`dns`], [`patroni`], [`kubernetes`]: those who are asked beside the cluster; [`standbys`], [`topology`]: the cluster itself, by
//!   SQL.
//! - [`discovery`]: the handle, and the task that owns what was found.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that cannot go on panics"))]

mod backoff;
pub mod check;
pub mod discovery;
pub mod dns;
pub mod found;
pub mod http;
mod kept;
pub mod kubernetes;
pub mod limits;
pub mod member;
pub mod merge;
pub mod news;
pub mod patroni;
mod presence;
pub mod source;
mod sql;
pub mod standbys;
pub mod surroundings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topology;

pub use check::AnswerFault;
pub use discovery::Discovery;
pub use found::{Found, SourceStatus};
pub use member::{Member, RoleHint};
pub use merge::merge;
pub use news::{NewsSender, SourceError};
pub use source::{SourceKind, SourceSettings};
pub use surroundings::Surroundings;
