//! Which cluster a server is of.
//!
//! PostgreSQL has the system identifier. Where that is refused, or a copy of the storage has the same one, a managed
//! cluster is known by its instances: each tells its own name, the writer's and the others'.

use std::sync::Arc;

use trunkline_codec::ids::SystemIdentifier;

/// What an instance of a managed cluster says of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The instance that says it.
    pub own: Arc<str>,
    /// The one that accepts writes.
    pub writer: Option<Arc<str>>,
    /// All of them.
    pub instances: Vec<Arc<str>>,
    /// Where its data is.
    pub storage: Storage,
}

/// Where the data of an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Its own, as with PostgreSQL's replication: it can diverge.
    Own,
    /// All instances have the same, as on Aurora.
    Shared,
}

impl Membership {
    /// Whether the server calls itself the writer.
    #[must_use]
    pub fn is_writer(&self) -> bool {
        self.writer.as_ref() == Some(&self.own)
    }

    fn knows(&self, instance: &Arc<str>) -> bool {
        self.own == *instance || self.instances.contains(instance)
    }

    /// Whether two that both have a writer do not know each other. One that has just come knows no writer yet.
    fn is_foreign_to(&self, other: &Self) -> bool {
        self.is_settled_with(other) && !self.is_known_with(other)
    }

    /// Whether the two tell if they are one cluster: one that knows no writer, and that nobody knows, may be of any.
    fn is_comparable_to(&self, other: &Self) -> bool {
        self.is_settled_with(other) || self.is_known_with(other)
    }

    fn is_settled_with(&self, other: &Self) -> bool {
        self.writer.is_some() && other.writer.is_some()
    }

    fn is_known_with(&self, other: &Self) -> bool {
        self.knows(&other.own) || other.knows(&self.own)
    }
}

/// By what a cluster is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterIdentity<'a> {
    pub(super) system: Option<SystemIdentifier>,
    pub(super) membership: Option<&'a Membership>,
}

impl ClusterIdentity<'_> {
    /// Whether it is known by anything. An instance without a writer knows no cluster yet.
    pub(super) fn is_known(&self) -> bool {
        self.system.is_some() || self.membership.is_some_and(|membership| membership.writer.is_some())
    }

    /// Whether the two are known not to be the same.
    pub(super) fn is_foreign_to(&self, other: &ClusterIdentity<'_>) -> bool {
        let by_system = matches!((self.system, other.system), (Some(own), Some(other)) if own != other);
        let by_instances = matches!(
            (self.membership, other.membership),
            (Some(own), Some(other)) if own.is_foreign_to(other)
        );
        by_system || by_instances
    }

    /// Whether the two can be compared at all. Where both have instances these count alone: a copy of the storage has the
    /// same system identifier.
    pub(super) fn is_comparable_to(&self, other: &ClusterIdentity<'_>) -> bool {
        match (self.membership, other.membership) {
            (Some(own), Some(other)) => own.is_comparable_to(other),
            (None, _) | (_, None) => self.system.is_some() && other.system.is_some(),
        }
    }
}
