//! The settings of a source, and its task.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::check::SocketHosts;
use crate::dns::{self, DnsSettings};
use crate::kubernetes::{self, KubernetesSettings};
use crate::news::NewsSender;
use crate::patroni::{self, PatroniSettings};
use crate::presence::SourceMemory;
use crate::standbys::{self, StandbysSettings};
use crate::surroundings::Surroundings;
use crate::topology::{self, TopologySettings};

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSettings {
    /// Its name: unique, of the letters of a server's name, because a file and the origin of its members have it.
    pub name: Arc<str>,
    /// Who is asked, and how.
    pub kind: SourceKind,
    /// The weight of members of which the source says none.
    pub weight: u16,
    /// Time between two questions; of a source that reports changes by itself, the longest time without a new question.
    pub interval: Duration,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The REST API of Patroni.
    Patroni(PatroniSettings),
    /// The API of Kubernetes.
    Kubernetes(KubernetesSettings),
    /// Name servers.
    Dns(DnsSettings),
    /// A managed cluster, by SQL.
    Topology(TopologySettings),
    /// The primary, by SQL.
    Standbys(StandbysSettings),
}

impl SourceKind {
    /// Its word in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Patroni(_) => "patroni",
            Self::Kubernetes(_) => "kubernetes",
            Self::Dns(_) => "dns",
            Self::Topology(topology) => topology.cluster.as_str(),
            Self::Standbys(_) => "standbys",
        }
    }

    /// Whether it is asked of the servers themselves, so that one must be known before.
    #[must_use]
    pub fn asks_servers(&self) -> bool {
        match self {
            Self::Topology(_) | Self::Standbys(_) => true,
            Self::Patroni(_) | Self::Kubernetes(_) | Self::Dns(_) => false,
        }
    }

    /// Whether its members may be behind Unix sockets: only what a server of the cluster itself says can mean this
    /// machine.
    pub(crate) fn socket_hosts(&self) -> SocketHosts {
        match self {
            Self::Standbys(_) => SocketHosts::Allowed,
            Self::Patroni(_) | Self::Kubernetes(_) | Self::Dns(_) | Self::Topology(_) => SocketHosts::Refused,
        }
    }
}

/// Asks a source until it is dropped.
pub(crate) async fn follow(
    settings: SourceSettings,
    around: Surroundings,
    memory: SourceMemory,
    news: NewsSender,
) -> Infallible {
    let interval = settings.interval;
    match &settings.kind {
        SourceKind::Patroni(patroni) => patroni::follow(patroni, interval, &news).await,
        SourceKind::Kubernetes(kubernetes) => kubernetes::follow(kubernetes, interval, &news).await,
        SourceKind::Dns(dns) => dns::follow(dns, &memory, &news).await,
        SourceKind::Topology(topology) => topology::follow(topology, interval, &around, &news).await,
        SourceKind::Standbys(standbys) => standbys::follow(standbys, interval, &around, &memory, &news).await,
    }
}
