//! One server as a source names it.

use std::sync::Arc;

/// A member of the cluster, as a source names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name there: a Patroni member, a pod, a DB instance.
    pub name: String,
    /// Host name or address; or the directory of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Its role there.
    pub role: RoleHint,
    /// Its share of sessions, if the source says; 0: none.
    pub weight: Option<u16>,
    /// Its zone, if the source says.
    pub zone: Option<Arc<str>>,
    /// What else the source says of it, for people to read, such as `nofailover` or `replicatefrom=pg2`.
    pub tags: Vec<Arc<str>>,
}

/// What a source says of a member's role. Its change starts a probe, no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleHint {
    /// Nothing.
    #[default]
    Unknown,
    /// It is the one that takes writes.
    Primary,
    /// It follows another.
    Replica,
}

impl RoleHint {
    /// `unknown`, `primary` or `replica`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}
