//! `trunkline check --connect` on real servers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;

use trunkline_cluster::{MONITOR_PASSWORD, Server, StopMode};
use trunkline_tests::{binary, own_cluster};

/// Exit status and standard output.
fn check_as(user: &str, primary: &Server, replica: &Server, more: &[&str]) -> (i32, String) {
    let at = |server: &Server| format!("{}=127.0.0.1:{}", server.name(), server.port());
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["check", "--connect", "--primary", &at(primary), "--replica", &at(replica)]).args(more);
    command.args(["--monitor", &format!("user={user} dbname=appdb")]).current_dir(directory.path());
    let output = command.env("TRUNKLINE__MONITOR__PASSWORD", MONITOR_PASSWORD).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The same with `variables` in its environment.
fn check_with(variables: &[(&str, &str)], primary: &Server, replica: &Server) -> (i32, String) {
    let at = |server: &Server| format!("{}=127.0.0.1:{}", server.name(), server.port());
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["check", "--connect", "--primary", &at(primary), "--replica", &at(replica)]);
    command.args(["--monitor", "user=trunkline_monitor dbname=appdb"]).current_dir(directory.path());
    command.env("TRUNKLINE__MONITOR__PASSWORD", MONITOR_PASSWORD).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn check(primary: &Server, replica: &Server, more: &[&str]) -> (i32, String) {
    check_as("trunkline_monitor", primary, replica, more)
}

#[test]
fn the_servers_are_asked_and_what_is_wrong_is_said_with_what_mends_it() {
    let cluster = own_cluster(1);
    let (primary, replica) = (&cluster.primary, &cluster.replicas[0]);
    let (status, text) = check(primary, replica, &["--auth", "verify"]);
    assert_eq!(status, 0, "{text}");
    for role in ["pg_authid  primary", "pg_authid  standby"] {
        assert!(text.contains(&format!("yes      yes    yes         {role}")), "{text}");
    }

    let (status, text) = check(replica, primary, &[]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("it is a standby, and is configured as the primary"), "{text}");

    primary
        .psql("REVOKE SELECT ON pg_authid FROM trunkline_monitor; REVOKE pg_monitor FROM trunkline_monitor")
        .unwrap();
    cluster.wait_caught_up().unwrap();
    let (status, text) = check(primary, replica, &["--auth", "verify"]);
    assert_eq!(status, 1, "{text}");
    for said in ["GRANT pg_monitor TO \"trunkline_monitor\";", "(SQLSTATE 42501)", "trunkline init-sql"] {
        assert!(text.contains(said), "{said} is missing in:\n{text}");
    }

    let (status, text) = check_as("nobody", primary, replica, &[]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("(28P01)\n  HINT: Set [monitor] user"), "{text}");

    replica.stop(StopMode::Fast).unwrap();
    let (status, text) = check(primary, replica, &[]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("connection refused\n  HINT: Start PostgreSQL there"), "{text}");
}

#[test]
fn pools_that_a_server_has_no_room_for_are_warned_of() {
    let cluster = own_cluster(1);
    let (primary, replica) = (&cluster.primary, &cluster.replicas[0]);
    let pool = [("TRUNKLINE__POOL__POOL_MODE", "transaction"), ("TRUNKLINE__POOL__POOL_SIZE", "90000")];
    let (status, text) = check_with(&pool, primary, replica);
    assert_eq!(status, 0, "a warning is no fault: {text}");
    for server in [primary, replica] {
        let at = format!("warning: server {} (127.0.0.1:{}): ", server.name(), server.port());
        assert!(text.contains(&at), "{text}");
    }
    assert!(text.contains("one pool may have 90000 connections there, and it lets "), "{text}");
    let (status, text) = check_with(&pool[..1], primary, replica);
    assert_eq!((status, text.contains("warning: server")), (0, false), "{text}");
}
