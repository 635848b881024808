//! The configuration as written.
//!
//! Most keys are written to the proxy's own settings at once. Here are the others: those that are checked against
//! another key, whose source is kept for the message, and those that are parts of one setting.

use std::net::SocketAddr;
use std::time::Duration;

use trunkline_proxy::settings::{ListenerOptions, Settings};
use trunkline_tls::TlsVersion;
use trunkline_tls::accept::{AcceptSettings, ClientSslMode};
use trunkline_tls::connect::{ConnectSettings, Negotiation, ServerSslMode};
use trunkline_topology::{Address, ServerSpec};

use super::Source;
use super::checked::LogSettings;

mod discovery;
mod pool;

pub use discovery::{DiscoverySection, SourceEntry, SourceWord};
pub use pool::{OverrideEntry, PoolSection};

/// A value and where it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub source: Source,
}

impl<T> Sourced<T> {
    /// Replaces the value: a later source wins.
    pub fn put(&mut self, value: T, source: &Source) {
        *self = Sourced { value, source: source.clone() };
    }
}

/// One `[[server]]`.
#[derive(Clone, Debug, Default)]
pub struct ServerEntry {
    /// Where the entry begins.
    pub source: Source,
    /// Its name in logs, metrics and checks.
    pub name: Sourced<Option<String>>,
    /// `host:port`.
    pub address: Sourced<Option<String>>,
    /// Its own TLS, in place of `[server_tls]`.
    pub tls: ConnectOverrides,
    /// All other keys.
    pub spec: ServerSpec,
}

/// The keys of `[server_tls]` that a `[[server]]` has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOverrides {
    /// Whether, and what is checked.
    pub sslmode: Option<ServerSslMode>,
    /// Who vouches for it.
    pub sslrootcert: Option<String>,
    /// What those have revoked.
    pub sslcrl: Option<String>,
    /// The proxy's own certificate.
    pub sslcert: Option<String>,
    /// Its key.
    pub sslkey: Option<String>,
    /// How TLS is begun.
    pub sslnegotiation: Option<Negotiation>,
    /// Whether it is told by which name it is connected to.
    pub sslsni: Option<bool>,
    /// The oldest version of TLS.
    pub min_protocol_version: Option<TlsVersion>,
    /// The newest.
    pub max_protocol_version: Option<TlsVersion>,
}

impl ConnectOverrides {
    /// What is in force for the server: its own keys before those of all; `None` if it has none.
    #[must_use]
    pub fn over(&self, all: &ConnectSettings) -> Option<ConnectSettings> {
        if *self == Self::default() {
            return None;
        }
        let own = self.clone();
        Some(ConnectSettings {
            sslmode: own.sslmode.unwrap_or(all.sslmode),
            sslrootcert: own.sslrootcert.or_else(|| all.sslrootcert.clone()),
            sslcrl: own.sslcrl.or_else(|| all.sslcrl.clone()),
            sslcert: own.sslcert.or_else(|| all.sslcert.clone()),
            sslkey: own.sslkey.or_else(|| all.sslkey.clone()),
            sslnegotiation: own.sslnegotiation.unwrap_or(all.sslnegotiation),
            sslsni: own.sslsni.unwrap_or(all.sslsni),
            min_protocol_version: own.min_protocol_version.unwrap_or(all.min_protocol_version),
            max_protocol_version: own.max_protocol_version.unwrap_or(all.max_protocol_version),
        })
    }
}

/// One `[[listener]]`.
#[derive(Clone, Debug, Default)]
pub struct ListenerEntry {
    /// Where the entry begins.
    pub source: Source,
    /// Its name in logs and metrics.
    pub name: Sourced<Option<String>>,
    /// Where it listens.
    pub address: Sourced<Option<Address>>,
    /// What it says over `[client_tls]`.
    pub client_tls: AcceptOverrides,
    /// All other keys.
    pub options: ListenerOptions,
}

/// The keys of `[client_tls]` that a listener has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptOverrides {
    /// Whether clients may, or must use TLS.
    pub sslmode: Option<ClientSslMode>,
    /// The certificate.
    pub cert_file: Option<String>,
    /// Its key.
    pub key_file: Option<String>,
    /// Who vouches for clients.
    pub ca_file: Option<String>,
    /// What those have revoked.
    pub crl_file: Option<String>,
    /// The oldest version.
    pub min_protocol_version: Option<TlsVersion>,
    /// The newest.
    pub max_protocol_version: Option<TlsVersion>,
    /// The ciphers.
    pub ciphers: Option<String>,
}

impl AcceptOverrides {
    /// What is in force where `all` is for every listener.
    #[must_use]
    pub fn over(&self, all: &AcceptSettings) -> AcceptSettings {
        let either = |own: &Option<String>, all: &Option<String>| own.clone().or_else(|| all.clone());
        AcceptSettings {
            sslmode: self.sslmode.or(all.sslmode),
            cert_file: either(&self.cert_file, &all.cert_file),
            key_file: either(&self.key_file, &all.key_file),
            ca_file: either(&self.ca_file, &all.ca_file),
            crl_file: either(&self.crl_file, &all.crl_file),
            min_protocol_version: self.min_protocol_version.unwrap_or(all.min_protocol_version),
            max_protocol_version: self.max_protocol_version.unwrap_or(all.max_protocol_version),
            ciphers: either(&self.ciphers, &all.ciphers),
        }
    }
}

/// What a configuration is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigPurpose {
    /// The proxy with its health checks.
    #[default]
    Proxy,
    /// The health checks alone: listeners stay closed.
    HealthChecks,
}

/// Every section, as written.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// What it is for.
    pub purpose: ConfigPurpose,
    /// `[[server]]`, in order.
    pub servers: Vec<ServerEntry>,
    /// `[[listener]]`, in order.
    pub listeners: Vec<ListenerEntry>,
    /// `[discovery]`.
    pub discovery: DiscoverySection,
    /// `[monitor]`.
    pub monitor: MonitorSection,
    /// `[client_tls]`: what a listener has that says nothing else.
    pub client_tls: AcceptSettings,
    /// `[auth]`: where secrets come from.
    pub auth: SecretsSection,
    /// `[server_tls]`.
    pub server_tls: ConnectSettings,
    /// `[health]`: keys with conditions.
    pub health: HealthSection,
    /// `[pool]`: keys with conditions, and overrides.
    pub pool: PoolSection,
    /// `[http] listen`.
    pub http_listen: Sourced<Option<SocketAddr>>,
    /// `[agent] listen`.
    pub agent_listen: Sourced<Option<SocketAddr>>,
    /// `[admin] socket`.
    pub admin_socket: Sourced<Option<String>>,
    /// `[runtime] zone_file`.
    pub zone_file: Sourced<Option<String>>,
    /// `[log] level`.
    pub log_level: Sourced<Option<String>>,
    /// All other keys of `[log]`.
    pub log: LogSettings,
    /// All other keys.
    pub proxy: Settings,
}

/// `[monitor]`: how the probes log in.
#[derive(Clone, Debug, Default)]
pub struct MonitorSection {
    /// libpq key/value string or URI.
    pub conninfo: Sourced<Option<String>>,
    /// Role name.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// What prints its password.
    pub password_command: Sourced<Option<Vec<String>>>,
    /// Database connected to.
    pub dbname: Option<String>,
}

/// The keys of `[auth]` that say where secrets come from.
#[derive(Clone, Debug, Default)]
pub struct SecretsSection {
    /// Query for a user's secret.
    pub query: Option<String>,
    /// File of users and secrets.
    pub users_file: Sourced<Option<String>>,
}

/// The keys of `[health]` that are checked against each other, or parsed further.
#[derive(Clone, Debug, Default)]
pub struct HealthSection {
    /// Time between probes of one server.
    pub tick: Sourced<Duration>,
    /// Between probes after a soft failure.
    pub fast_interval: Sourced<Duration>,
    /// Estimated lag below which a replica comes back; zero = half of max_lag.
    pub readmit_lag: Sourced<Duration>,
    /// Lag beyond which a replica is no fallback either; zero = 30 s, at least max_lag.
    pub hard_max_lag: Sourced<Duration>,
    /// What replicas do while the primary does not answer: `serve`, `drain`, `serve_for:60s`.
    pub primary_unknown: Sourced<Option<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_what_it_says_itself_and_the_rest_of_all() {
        let all = ConnectSettings {
            sslmode: ServerSslMode::VerifyFull,
            sslrootcert: Some("root".into()),
            ..ConnectSettings::default()
        };
        assert_eq!(ConnectOverrides::default().over(&all), None);
        let own = ConnectOverrides {
            sslsni: Some(false),
            max_protocol_version: Some(TlsVersion::V12),
            ..ConnectOverrides::default()
        };
        let wanted = ConnectSettings { sslsni: false, max_protocol_version: TlsVersion::V12, ..all.clone() };
        assert_eq!(own.over(&all), Some(wanted));
    }
}
