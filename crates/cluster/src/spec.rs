//! What cluster is wanted.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{PgInstall, PortLease};

/// The role that health probes log in as; a member of `pg_monitor`.
pub const MONITOR_ROLE: &str = "trunkline_monitor";
/// Its password: the servers listen on 127.0.0.1 and live for minutes.
pub const MONITOR_PASSWORD: &str = "trunkline_monitor";
/// The role in the standbys' `primary_conninfo`.
pub(crate) const REPLICATION_ROLE: &str = "trunkline_replication";
/// Its password.
pub(crate) const REPLICATION_PASSWORD: &str = "trunkline_replication";

/// Settings of every server. Nothing here outlives the process, so nothing is worth a disk's wait.
pub(crate) const SETTINGS: [(&str, &str); 20] = [
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    // What it reports of itself with client_min_messages = debug1 differs each time.
    ("jit", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "on"),
    ("wal_level", "replica"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("hot_standby", "on"),
    // A replica that restarts should be back in a fraction of a second, not in the default 5 s.
    ("wal_retrieve_retry_interval", "200ms"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    // Plain files in the data directory: nothing stays behind in /dev/shm after SIGKILL.
    ("dynamic_shared_memory_type", "mmap"),
    ("password_encryption", "scram-sha-256"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_checkpoints", "off"),
    ("logging_collector", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("lc_messages", "C"),
];

/// What the servers present, in PEM.
#[derive(Clone)]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What [`Cluster::start`](crate::Cluster::start) is asked for.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// The PostgreSQL to run.
    pub install: PgInstall,
    /// How many standbys; they are called replica1, replica2, ...
    pub replicas: usize,
    /// Created when absent, must be empty, removed at the end. The data directories are `primary`, `replica1`, ... in it.
    pub directory: PathBuf,
    /// The superuser.
    pub user: String,
    /// The superuser's password over TCP.
    pub password: String,
    /// The database that is created.
    pub database: String,
    /// Further lines for every server's postgresql.conf: name and value.
    pub settings: Vec<(String, String)>,
    /// Lines of pg_hba.conf that come before the default ones.
    pub hba: Vec<String>,
    /// With it, the servers let nobody in over TCP without TLS.
    pub certificate: Option<ServerCertificate>,
    /// Variables of every server's environment.
    pub environment: Vec<(String, String)>,
    /// Ports of the primary and of each standby, in this order. For those that are missing, free ones are found.
    pub ports: Vec<Arc<PortLease>>,
}

impl ClusterSpec {
    /// A primary and `replicas` standbys of `install` in `directory`, with the defaults of the demo:
    /// user and password `postgres`, database `appdb`, free ports.
    #[must_use]
    pub fn new(install: PgInstall, replicas: usize, directory: impl Into<PathBuf>) -> Self {
        Self {
            install,
            replicas,
            directory: directory.into(),
            user: "postgres".into(),
            password: "postgres".into(),
            database: "appdb".into(),
            settings: Vec::new(),
            hba: Vec::new(),
            certificate: None,
            environment: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// The text of pg_hba.conf: SCRAM over TCP, no password over the private socket directory.
    pub(crate) fn hba_text(&self) -> String {
        let mut text: String = self.hba.iter().map(|line| format!("{line}\n")).collect();
        let kind = if self.certificate.is_some() { "hostssl" } else { "host" };
        text.push_str(&format!(
            "local all,replication all trust\n\
             {kind} all,replication all 127.0.0.1/32 scram-sha-256\n",
        ));
        text
    }

    /// The text of a server's settings file, later lines winning.
    pub(crate) fn settings_text(&self, own: &[(String, String)]) -> String {
        let common = SETTINGS.iter().map(|&(name, value)| (name, value));
        // server.crt and server.key are its defaults for the files.
        let common = common.chain(self.certificate.as_ref().map(|_| ("ssl", "on")));
        let wanted = self.settings.iter().chain(own).map(|(name, value)| (name.as_str(), value.as_str()));
        common.chain(wanted).map(|(name, value)| format!("{name} = {}\n", quote(value))).collect()
    }
}

/// `value` between single quotes, as postgresql.conf, conninfo strings inside it and SQL literals want it.
pub(crate) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn settings_of_the_caller_come_last_and_are_quoted() {
        let install = PgInstall { bin: PathBuf::new(), lib: None, major: 15 };
        let mut spec = ClusterSpec::new(install, 2, "/tmp/x");
        spec.settings.push(("max_connections".into(), "7".into()));
        let text = spec.settings_text(&[("cluster_name".into(), "it's".into())]);
        assert!(text.ends_with("max_connections = '7'\ncluster_name = 'it''s'\n"), "{text}");
    }
}
