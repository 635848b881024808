//! Starts the servers, loads the table, and makes the configuration.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, ClusterError, ClusterSpec, MONITOR_PASSWORD, MONITOR_ROLE};
use trunkline_proxy::Running;
use trunkline_topology::State;

use super::certificates::CertificateFiles;
use super::ports::Ports;
use super::progress::DemoProgress;
use super::{Demo, SignalStreams};
use crate::Failure;
use crate::commands::serve::configure as checked;
use trunkline_topology::ExpectedRole;

use crate::config::ConfigSources;
use crate::config::admin_places::{DEMO_PREFIX, FILE};
use crate::config::checked::CheckedConfig;
use crate::config::flags::{FlagSessions, Flags, ListenerFlag, ServerFlag};
use crate::config::raw::ConfigPurpose;

/// The table of the setup that Trunkline replaces, with rows in it.
const TABLE: &str = "
    CREATE TABLE ynar (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        info text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO ynar (info) SELECT 'row ' || n FROM generate_series(1, 1000) AS n;
    ANALYZE ynar";

/// How long Trunkline may take to find all servers UP.
const UP_TIMEOUT: Duration = Duration::from_secs(20);

/// Interval of the checks for servers that were killed.
const REAP_INTERVAL: Duration = Duration::from_millis(100);

/// The directory of the demo: below the temporary one, where the servers' user has access.
pub(super) fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("{DEMO_PREFIX}{}", std::process::id()))
}

/// A cluster's error for the terminal; its text says what to do.
pub(super) fn failure(error: &ClusterError) -> Failure {
    let text = error.to_string();
    match text.split_once("\nHINT: ") {
        Some((message, hint)) => Failure::new(message).hint(hint),
        None => Failure::new(text),
    }
}

/// Starts the servers and creates the table on all of them; `None` when a signal came meanwhile.
pub(super) async fn start(
    spec: ClusterSpec,
    progress: &DemoProgress,
    signals: &mut SignalStreams,
) -> Result<Option<Cluster>, Failure> {
    let clock = *progress;
    let mut work = tokio::task::spawn_blocking(move || load(spec, clock));
    let mut is_wanted = true;
    let cluster = loop {
        tokio::select! {
            done = &mut work => break done.map_err(Failure::because("could not start the servers"))?,
            () = signals.ending() => {
                if !is_wanted {
                    // A second signal. The cluster's watcher removes the files after this process has exited.
                    std::process::exit(130);
                }
                is_wanted = false;
                progress.say("ending as soon as the servers can be stopped (again: at once)");
            }
        }
    };
    match cluster {
        Ok(cluster) if is_wanted => Ok(Some(cluster)),
        Ok(cluster) => {
            let ended = tokio::task::spawn_blocking(move || drop(cluster)).await;
            ended.map_err(Failure::because("could not stop the servers"))?;
            Ok(None)
        }
        Err(_) if !is_wanted => Ok(None),
        Err(error) => Err(failure(&error)),
    }
}

fn load(spec: ClusterSpec, progress: DemoProgress) -> Result<Cluster, ClusterError> {
    let cluster = Cluster::start(spec, &mut |step| progress.say(&step.to_string()))?;
    cluster.primary.psql(TABLE)?;
    cluster.wait_caught_up()?;
    progress.say("database appdb has table ynar with 1000 rows, on all servers");
    Ok(cluster)
}

/// The flags of `trunkline serve` for the servers on `ports`.
pub(super) fn configure(
    demo: &Demo,
    ports: &Ports,
    directory: &Path,
    tls: Option<&CertificateFiles>,
) -> Result<CheckedConfig, Failure> {
    let servers = ports.servers().enumerate().map(|(index, (name, lease))| {
        let (flag, role) = if index == 0 {
            ("--primary", ExpectedRole::Primary)
        } else {
            ("--replica", ExpectedRole::Replica)
        };
        ServerFlag { flag, role, text: format!("{name}=127.0.0.1:{}", lease.port()) }
    });
    let listener =
        |flag, sessions, port: u16| ListenerFlag { flag, sessions, text: format!("127.0.0.1:{port}") };
    let mut listeners = vec![
        listener("--reads", FlagSessions::Reads, ports.reads()),
        listener("--writes", FlagSessions::Writes, ports.writes()),
    ];
    listeners.extend(ports.split().map(|port| listener("--split", FlagSessions::Split, port)));
    let monitor = format!("user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname=appdb");
    let mut values = vec![
        ("monitor.conninfo", "--monitor", monitor),
        // Only sessions that can log in to any server show how sessions move.
        ("auth.mode", "--auth", demo.auth.clone()),
        ("admin.socket", "--admin", directory.join(FILE).display().to_string()),
        ("http.listen", "--http", format!("127.0.0.1:{}", ports.http())),
    ];
    values.extend(demo.max_lag.clone().map(|max_lag| ("health.max_lag", "--max-lag", max_lag)));
    if let Some(files) = tls {
        values.extend([
            ("client_tls.sslmode", "--tls", "require".to_owned()),
            ("client_tls.cert_file", "--tls", files.certificate.display().to_string()),
            ("client_tls.key_file", "--tls", files.key.display().to_string()),
            ("server_tls.sslmode", "--tls", "verify-full".to_owned()),
            ("server_tls.sslrootcert", "--tls", files.root.display().to_string()),
        ]);
    }
    if demo.statements {
        values.push(("log.statements.threshold", "--statements", "0".to_owned()));
    }
    let flags = Flags {
        purpose: ConfigPurpose::Proxy,
        // No configuration file and no environment: the demo is the same everywhere.
        file: Some(PathBuf::from("/dev/null")),
        servers: servers.collect(),
        listeners,
        values,
    };
    checked(&ConfigSources { flags, environment: HashMap::new() })
}

/// Waits until every server is UP.
pub(super) async fn wait_until_up(running: &Running, progress: &DemoProgress) -> Result<(), Failure> {
    let deadline = Instant::now() + UP_TIMEOUT;
    let mut changed = running.health().changed();
    loop {
        let waiting = {
            let snapshot = running.health().load();
            let waiting = snapshot.servers.iter().find(|server| server.state != State::Up);
            waiting.map(|server| format!("{} is {}: {}", server.name, server.state, server.reason))
        };
        let Some(waiting) = waiting else { break };
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("not all servers came up: {waiting}")));
        }
        // Snapshots that do not change are checked again, too.
        let _elapsed = tokio::time::timeout(Duration::from_millis(200), changed.changed()).await;
    }
    progress.say("Trunkline is in front of them, every server is UP");
    Ok(())
}

/// Reaps killed servers for ever: a zombie postmaster would keep its data directory locked, and nobody could start
/// it again by hand.
pub(super) async fn reap(cluster: &Cluster) -> Infallible {
    loop {
        for server in cluster.servers() {
            // The error means that the server still runs.
            let _running = server.wait_stopped(Duration::ZERO);
        }
        tokio::time::sleep(REAP_INTERVAL).await;
    }
}
