//! `[monitor] password_command`: a password that another program keeps.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::time::Duration;

use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE};
use trunkline_tests::{Endpoint, EndpointBuilder, eventually, http_get, own_cluster, psql};

/// Far beyond what a healthy machine needs.
const PATIENCE: Duration = Duration::from_secs(40);

fn with_command(cluster: &Cluster, script: &str) -> EndpointBuilder {
    Endpoint::over(cluster)
        .key("monitor.user", &format!("{MONITOR_ROLE:?}"))
        .key("monitor.dbname", "\"appdb\"")
        .key("monitor.password_command", &format!("[\"sh\", \"-c\", {script:?}]"))
        .key("health.connect_check_interval", "\"1s\"")
        .with_admin()
}

/// A script that prints what the file says, and keeps count of its runs.
fn script(file: &Path, runs: &Path) -> String {
    format!("echo run >> {}; echo reading >&2; cat {}", runs.display(), file.display())
}

fn refusals(endpoint: &Endpoint) -> usize {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let flags = metrics.lines().filter(|line| line.starts_with("trunkline_server_monitor_refused{"));
    flags.filter(|line| line.ends_with(" 1")).count()
}

#[test]
fn password_is_asked_for_at_the_start_and_again_once_a_server_refuses_it() {
    let cluster = own_cluster(1);
    let directory = tempfile::tempdir().unwrap();
    let (file, runs) = (directory.path().join("password"), directory.path().join("runs"));
    std::fs::write(&file, format!("{MONITOR_PASSWORD}\n")).unwrap();
    let endpoint = with_command(&cluster, &script(&file, &runs)).start();
    let count = || std::fs::read_to_string(&runs).unwrap().lines().count();
    assert_eq!(count(), 1);
    assert_eq!(endpoint.admin(&["reload"]).0, Some(0));
    assert_eq!(count(), 1, "a reload of the same command needs no run");

    std::fs::write(&file, "a fresh one").unwrap();
    cluster.primary.psql(&format!("ALTER ROLE {MONITOR_ROLE} PASSWORD 'a fresh one'")).unwrap();
    cluster.wait_caught_up().unwrap();
    eventually(PATIENCE, "the command is run again", || count() > 1);
    eventually(PATIENCE, "every server takes the fresh password", || refusals(&endpoint) == 0);
    for server in ["primary", "replica1"] {
        endpoint.await_health(server, true, PATIENCE);
    }
    assert_eq!(psql(endpoint.reads(), "SELECT 1"), "1");
    let log = endpoint.log();
    assert!(log.contains("password_command says") && log.contains("line=reading"), "{log}");
    assert!(!log.contains("a fresh one"), "{log}");
}

#[test]
fn proxy_starts_without_a_password_and_takes_it_once_there_is_one() {
    let cluster = own_cluster(1);
    let directory = tempfile::tempdir().unwrap();
    let (file, runs) = (directory.path().join("password"), directory.path().join("runs"));
    let endpoint = with_command(&cluster, &script(&file, &runs));
    let endpoint = endpoint.not_awaiting("primary").not_awaiting("replica1").start();
    eventually(PATIENCE, "the log says why", || {
        endpoint.log().contains("password_command gives no password")
    });
    std::fs::write(&file, MONITOR_PASSWORD).unwrap();
    endpoint.await_health("primary", true, PATIENCE);
    endpoint.await_health("replica1", true, PATIENCE);
}
