//! `password_command` of `[monitor]` and of `[auth]`: passwords that another program keeps.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::time::Duration;

use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE};
use trunkline_tests::{
    Endpoint, EndpointBuilder, Login, eventually, http_get, own_cluster, psql, psql_output,
};

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

/// Servers that refuse the monitoring role; `None` while nobody says.
fn refusals(endpoint: &Endpoint) -> Option<usize> {
    let metrics = http_get(endpoint.http(), "/metrics")?.body;
    let flags = metrics.lines().filter(|line| line.starts_with("trunkline_server_monitor_refused{"));
    Some(flags.filter(|line| line.ends_with(" 1")).count())
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
    eventually(PATIENCE, "every server takes the fresh password", || refusals(&endpoint) == Some(0));
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

/// The user's name is the last argument, and so what `sh -c` calls `$0`.
#[test]
fn users_whom_the_proxy_lets_in_without_a_password_get_theirs_from_the_command() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'of-day-one'").unwrap();
    cluster.wait_caught_up().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let hba = directory.path().join("hba");
    std::fs::write(&hba, "host all app 127.0.0.1/32 trust\n").unwrap();
    std::fs::write(directory.path().join("app"), "of-day-one").unwrap();
    let script = format!("cat {}/$0", directory.path().display());
    let endpoint = Endpoint::over(&cluster)
        .key("auth.hba_file", &format!("{hba:?}"))
        .key("auth.password_command", &format!("[\"sh\", \"-c\", {script:?}]"))
        .start();
    let app = [("PGUSER", "app"), ("PGPASSWORD", "")];
    let ask = || {
        let output = psql_output(endpoint.reads(), &app, "SELECT current_user");
        let text = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8_lossy(&text).trim_end().to_owned()
    };
    assert_eq!(ask(), "app");
    // A session that is there finds its way to another server.
    let mut wire = Login::of("app", "").connect(endpoint.reads());
    let victim = wire.value("SHOW cluster_name");
    let victim = cluster.replicas.iter().find(|replica| replica.name() == victim).unwrap();
    victim.kill_postmaster();
    assert_ne!(wire.value("SHOW cluster_name"), victim.name());

    cluster.primary.psql("ALTER ROLE app PASSWORD 'of-day-two'").unwrap();
    let other = cluster.replicas.iter().find(|replica| replica.name() != victim.name()).unwrap();
    eventually(PATIENCE, "the replica has it", || {
        other.psql("SELECT pg_last_wal_replay_lsn()").is_ok() && ask() != "app"
    });
    std::fs::write(directory.path().join("app"), "of-day-two").unwrap();
    eventually(PATIENCE, "the command is run again once its password is refused", || ask() == "app");
    assert!(!endpoint.log().contains("of-day"), "{}", endpoint.log());
}

/// The first client after a change of the password comes in: the server refuses what was kept, and the same login is tried once
/// more with what the command prints now.
#[test]
fn a_refused_password_is_replaced_within_the_same_login_and_once_only() {
    let cluster = own_cluster(0);
    cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'of-day-one'").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("hba"), "host all app 127.0.0.1/32 trust\n").unwrap();
    std::fs::write(path("password"), "of-day-one").unwrap();
    let script = script(&path("password"), &path("runs"));
    let endpoint = Endpoint::over(&cluster)
        .key("auth.hba_file", &format!("{:?}", path("hba")))
        .key("auth.password_command", &format!("[\"sh\", \"-c\", {script:?}]"))
        .start();
    let runs = || std::fs::read_to_string(path("runs")).unwrap().lines().count();
    let asked = || Login::of("app", "").try_connect(endpoint.writes()).map(|mut wire| wire.value("SELECT 1"));
    // The command is run no more than once a second for a user, and nothing tells when that second is over.
    let pause = || std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(asked().as_deref(), Ok("1"));
    assert_eq!(asked().as_deref(), Ok("1"));
    assert_eq!(runs(), 1, "it is kept");

    pause();
    cluster.primary.psql("ALTER ROLE app PASSWORD 'of-day-two'").unwrap();
    std::fs::write(path("password"), "of-day-two").unwrap();
    assert_eq!(asked().as_deref(), Ok("1"), "the first login that meets the change");
    assert_eq!(runs(), 2);
    assert_eq!(cluster.primary.log().matches("password authentication failed for user \"app\"").count(), 1);

    pause();
    std::fs::write(path("password"), "of no day").unwrap();
    cluster.primary.psql("ALTER ROLE app PASSWORD 'of-day-three'").unwrap();
    assert_eq!(asked().unwrap_err().code, "28P01");
    assert_eq!(runs(), 3, "a fresh one that is wrong, too, is the end");
    assert_eq!(cluster.primary.log().matches("password authentication failed for user \"app\"").count(), 3);
}

/// A server that trusts everybody has let the session in: on one that does not, the user is nobody.
#[test]
fn command_gives_no_password_to_whom_a_server_alone_has_let_in() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'of-day-one'").unwrap();
    cluster.wait_caught_up().unwrap();
    let (trusting, asking) = (&cluster.replicas[0], &cluster.replicas[1]);
    let rules = trusting.data_dir().join("pg_hba.conf");
    let text = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all app 127.0.0.1/32 trust\n{text}")).unwrap();
    trusting.psql("SELECT pg_reload_conf()").unwrap();
    let endpoint = Endpoint::over(&cluster)
        .key("auth.password_command", "[\"sh\", \"-c\", \"echo of-day-one\"]")
        .with_admin()
        .start();
    assert_eq!(endpoint.admin(&["drain", asking.name()]).0, Some(0));
    let mut wire = Login::of("app", "").connect(endpoint.reads());
    assert_eq!(wire.value("SHOW cluster_name"), trusting.name());
    assert_eq!(endpoint.admin(&["ready", asking.name()]).0, Some(0));
    endpoint.await_health(asking.name(), true, PATIENCE);
    trusting.kill_postmaster();
    let answer = wire.query("SHOW cluster_name");
    assert!(answer.error.is_some(), "{answer:?}");
}
