//! What etcd and Patroni are started with, and what a new cluster gets.

use std::path::Path;

use serde_json::{Value, json};
use trunkline_cluster::{MONITOR_ROLE, PgInstall, ServerAccount};

use crate::cluster::{CHEAP_MONITOR, CHEAP_POSTGRES};
use crate::{Machine, TestNetwork};

/// Patroni's REST API, where Debian's packages have it.
pub(super) const REST_PORT: u16 = 8008;
/// PostgreSQL.
pub(super) const SERVER_PORT: u16 = 5432;
/// The last part of etcd's address.
const ETCD: u8 = 10;
/// How long a leader that says nothing keeps its lock, in seconds. Patroni's own rule: `loop_wait` + 2 * `retry_timeout`.
const TTL_SECONDS: u32 = 7;
/// Seconds between two looks of Patroni.
const LOOP_WAIT_SECONDS: u32 = 1;
/// Seconds until Patroni gives up on etcd, or on PostgreSQL.
const RETRY_TIMEOUT_SECONDS: u32 = 3;

/// Starts etcd on a machine of its own.
pub(super) fn start_etcd(network: &TestNetwork, account: &ServerAccount, directory: &Path) -> Machine {
    let mut machine = network.boot(ETCD, &directory.join("etcd.machine.log"));
    let (data, log) = (directory.join("etcd"), directory.join("etcd.log"));
    let clients = format!("http://{}:2379", machine.address());
    let peers = format!("http://{}:2380", machine.address());
    let data = data.display().to_string();
    let members = format!("etcd={peers}");
    let words = [
        ("--name", "etcd"),
        ("--data-dir", &data),
        ("--listen-client-urls", &clients),
        ("--advertise-client-urls", &clients),
        ("--listen-peer-urls", &peers),
        ("--initial-advertise-peer-urls", &peers),
        ("--initial-cluster", &members),
    ];
    let words: Vec<&str> =
        std::iter::once("etcd").chain(words.iter().flat_map(|&(key, value)| [key, value])).collect();
    machine.run(account, &log, &[words.as_slice(), &["--unsafe-no-fsync"]].concat());
    machine
}

/// The configuration of a member; JSON is YAML.
pub(super) fn member_config(name: &str, machine: &Machine, install: &PgInstall, directory: &Path) -> Value {
    let address = machine.address();
    let (rest, server) = (format!("{address}:{REST_PORT}"), format!("{address}:{SERVER_PORT}"));
    let [a, b, c, _] = address.octets();
    let network = format!("{a}.{b}.{c}.0/24");
    json!({
        "scope": "trunkline",
        "name": name,
        "restapi": {"listen": rest, "connect_address": rest},
        "etcd3": {"hosts": [format!("{a}.{b}.{c}.{ETCD}:2379")]},
        "bootstrap": {
            "dcs": {
                "ttl": TTL_SECONDS,
                "loop_wait": LOOP_WAIT_SECONDS,
                "retry_timeout": RETRY_TIMEOUT_SECONDS,
                "synchronous_mode": true,
                "postgresql": {
                    "use_pg_rewind": true,
                    "use_slots": true,
                    "parameters": {
                        // Nothing here outlives the test, so nothing is worth a disk's wait.
                        "fsync": "off",
                        "wal_log_hints": "on",
                        "max_connections": 100,
                        "shared_buffers": "32MB",
                        "wal_retrieve_retry_interval": "200ms",
                        "dynamic_shared_memory_type": "mmap",
                        "timezone": "UTC",
                    },
                },
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
        },
        "postgresql": {
            "listen": server,
            "connect_address": server,
            "bin_dir": install.bin,
            "data_dir": directory.join(name),
            "pgpass": directory.join(format!("{name}.pgpass")),
            "use_unix_socket": true,
            "authentication": {
                "superuser": {"username": "postgres", "password": "postgres"},
                "replication": {"username": "replicator", "password": "replicator"},
            },
            "parameters": {"unix_socket_directories": directory.join(format!("{name}.sockets"))},
            "pg_hba": [
                "local all all trust",
                format!("host all all {network} scram-sha-256"),
                format!("host replication all {network} scram-sha-256"),
            ],
            "basebackup": [{"checkpoint": "fast"}, "no-sync"],
        },
    })
}

/// The roles and the database of a new cluster, each statement with the database it runs in.
pub(super) fn roles() -> Vec<(&'static str, String)> {
    vec![
        ("postgres", format!("CREATE ROLE {MONITOR_ROLE} LOGIN PASSWORD '{CHEAP_MONITOR}'")),
        ("postgres", format!("GRANT pg_monitor TO {MONITOR_ROLE}")),
        ("postgres", format!("ALTER ROLE postgres PASSWORD '{CHEAP_POSTGRES}'")),
        ("postgres", "CREATE DATABASE appdb".to_owned()),
        // Privileges on a shared catalogue are kept per database.
        ("appdb", format!("GRANT SELECT ON pg_authid TO {MONITOR_ROLE}")),
    ]
}
