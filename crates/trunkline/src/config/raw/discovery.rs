//! `[discovery]`, as written.

use std::time::Duration;

use ipnet::IpNet;
use trunkline_discovery::dns::DnsFamily;

use super::Sourced;
use crate::config::Source;

/// `[discovery]`.
#[derive(Clone, Debug, Default)]
pub struct DiscoverySection {
    /// Where last good answers are kept.
    pub state_dir: Sourced<Option<String>>,
    /// `[[discovery.source]]`, in order.
    pub sources: Vec<SourceEntry>,
}

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceWord {
    /// Name servers.
    Dns,
    /// Patroni's REST API.
    Patroni,
    /// The API of Kubernetes.
    Kubernetes,
    /// An RDS Multi-AZ DB cluster, by SQL.
    Rds,
    /// Aurora, by SQL.
    Aurora,
    /// The primary, by SQL.
    Standbys,
}

impl SourceWord {
    /// Whether it is asked of the servers themselves.
    #[must_use]
    pub fn asks_servers(self) -> bool {
        match self {
            SourceWord::Rds | SourceWord::Aurora | SourceWord::Standbys => true,
            SourceWord::Dns | SourceWord::Patroni | SourceWord::Kubernetes => false,
        }
    }
}

/// One `[[discovery.source]]`: the keys of all kinds. Those of another kind than its own must not be written.
#[derive(Clone, Debug, Default)]
pub struct SourceEntry {
    /// Where the entry begins.
    pub source: Source,
    /// Its name.
    pub name: Sourced<Option<String>>,
    /// Its kind.
    pub kind: Option<SourceWord>,
    /// Time between two questions.
    pub interval: Sourced<Option<Duration>>,
    /// The weight of members of which it says none.
    pub weight: u16,
    /// DNS names.
    pub names: Sourced<Vec<String>>,
    /// A name server.
    pub resolver: Sourced<Option<String>>,
    /// Which addresses are servers.
    pub family: Option<DnsFamily>,
    /// Shortest time between two questions to DNS.
    pub ttl_min: Sourced<Duration>,
    /// Longest time between two questions to DNS.
    pub ttl_max: Sourced<Duration>,
    /// URLs of Patroni.
    pub urls: Sourced<Vec<String>>,
    /// URL of the Kubernetes API.
    pub api: Sourced<Option<String>>,
    /// User of basic authentication.
    pub username: Sourced<Option<String>>,
    /// Its password.
    pub password: Sourced<Option<String>>,
    /// The file of its password.
    pub password_file: Sourced<Option<String>>,
    /// Roots of certificates.
    pub ca_file: Sourced<Option<String>>,
    /// The proxy's own certificate.
    pub cert_file: Sourced<Option<String>>,
    /// Its key.
    pub key_file: Sourced<Option<String>>,
    /// Whether certificates are checked.
    pub verify: Sourced<bool>,
    /// For one answer of Patroni.
    pub timeout: Sourced<Duration>,
    /// Services of Kubernetes.
    pub services: Sourced<Vec<String>>,
    /// Their namespace.
    pub namespace: Sourced<Option<String>>,
    /// The token of the pod.
    pub token_file: Sourced<Option<String>>,
    /// The port of an EndpointSlice, by its name.
    pub port_name: Sourced<Option<String>>,
    /// Where an instance is, by its name.
    pub endpoint: Sourced<Option<String>>,
    /// Networks of standbys.
    pub networks: Sourced<Vec<IpNet>>,
    /// Port of standbys.
    pub port: Sourced<Option<u16>>,
    /// How long an absent standby is kept.
    pub forget_after: Sourced<Duration>,
}

impl SourceEntry {
    /// The keys that are written and belong to some kinds alone: name, where, and the kinds.
    #[must_use]
    pub fn written(&self) -> Vec<(&'static str, &Source, &'static [SourceWord])> {
        use SourceWord::{Aurora, Dns, Kubernetes, Patroni, Rds, Standbys};
        let all: [(&'static str, &Source, &'static [SourceWord]); 23] = [
            ("interval", &self.interval.source, &[Patroni, Kubernetes, Rds, Aurora, Standbys]),
            ("names", &self.names.source, &[Dns]),
            ("resolver", &self.resolver.source, &[Dns]),
            ("ttl_min", &self.ttl_min.source, &[Dns]),
            ("ttl_max", &self.ttl_max.source, &[Dns]),
            ("urls", &self.urls.source, &[Patroni]),
            ("api", &self.api.source, &[Kubernetes]),
            ("username", &self.username.source, &[Patroni]),
            ("password", &self.password.source, &[Patroni]),
            ("password_file", &self.password_file.source, &[Patroni]),
            ("ca_file", &self.ca_file.source, &[Patroni, Kubernetes]),
            ("cert_file", &self.cert_file.source, &[Patroni]),
            ("key_file", &self.key_file.source, &[Patroni]),
            ("verify", &self.verify.source, &[Patroni]),
            ("timeout", &self.timeout.source, &[Patroni]),
            ("services", &self.services.source, &[Kubernetes]),
            ("namespace", &self.namespace.source, &[Kubernetes]),
            ("token_file", &self.token_file.source, &[Kubernetes]),
            ("port_name", &self.port_name.source, &[Kubernetes]),
            ("endpoint", &self.endpoint.source, &[Rds, Aurora]),
            ("networks", &self.networks.source, &[Standbys]),
            ("port", &self.port.source, &[Standbys]),
            ("forget_after", &self.forget_after.source, &[Standbys]),
        ];
        // Where it is written is not kept: the problem is that of the entry.
        let family = self.family.map(|_| ("family", &self.source, [Dns].as_slice()));
        all.into_iter().filter(|(_, source, _)| **source != Source::Default).chain(family).collect()
    }
}
