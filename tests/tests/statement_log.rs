//! Each statement's timing is logged when it is asked for.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use bytes::BytesMut;
use serde_json::Value;
use trunkline_codec::write;
use trunkline_tests::{Auth, Endpoint, Wire, eventually, shared_cluster};

/// The statement records of a log in JSON whose text contains `marker`, once there are `count`.
fn records(endpoint: &Endpoint, marker: &str, count: usize) -> Vec<Value> {
    let found = || -> Vec<Value> {
        let log = endpoint.log();
        let lines = log.lines().filter(|line| line.contains(marker));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    eventually(Duration::from_secs(30), &format!("{count} records of {marker:?} are logged"), || {
        found().len() >= count
    });
    let found = found();
    assert_eq!(found.len(), count, "{found:?}");
    found
}

#[test]
fn every_statement_is_logged_with_its_sql_its_server_and_its_times() {
    let endpoint =
        Endpoint::over(shared_cluster()).flag("--log-statements", "0").flag("--log-format", "json").start();
    let mut wire = Wire::login(endpoint.reads());
    assert!(wire.query("SELECT 'marker one' FROM pg_sleep(0.2)").error.is_none());
    let record = records(&endpoint, "marker one", 1).remove(0);
    assert_eq!(record["sql"], "SELECT 'marker one' FROM pg_sleep(0.2)");
    assert!(record["server.name"].as_str().is_some_and(|server| server.starts_with("replica")), "{record}");
    for key in ["first_us", "total_us"] {
        assert!(
            record[key].as_u64().is_some_and(|time| (200_000..5_000_000).contains(&time)),
            "{key}: {record}"
        );
    }
    assert!(record["wait_us"].as_u64().is_some_and(|time| time < 1_000_000), "{record}");
    assert_eq!((&record["rows"], &record["db.user"]), (&1.into(), &"postgres".into()));
}

#[test]
fn prepared_statements_are_logged_by_their_sql_each_on_its_own() {
    let endpoint =
        Endpoint::over(shared_cluster()).flag("--log-statements", "0").flag("--log-format", "json").start();
    let mut wire = Wire::login(endpoint.reads());
    let mut out = BytesMut::new();
    write::parse(&mut out, b"named", b"SELECT $1::text || 'marker two'", &[]).unwrap();
    write::sync(&mut out);
    wire.send(&out);
    assert!(wire.read_answer().error.is_none());
    let mut out = BytesMut::new();
    for value in ["a secret parameter", "b"] {
        write::bind(&mut out, b"", b"named", vec![Some(value.as_bytes())]).unwrap();
        write::execute(&mut out, b"", 0).unwrap();
    }
    write::sync(&mut out);
    wire.send(&out);
    assert_eq!(wire.read_answer().rows.len(), 2);
    let executed = records(&endpoint, "marker two", 2);
    assert!(executed.iter().all(|record| record.to_string().contains("SELECT $1::text || 'marker two'")));
    assert!(!endpoint.log().contains("a secret parameter"), "parameter values stay out of the log");
}

#[test]
fn the_threshold_separates_slow_from_fast_and_errors_carry_their_code() {
    let endpoint = Endpoint::over(shared_cluster())
        .flag("--log-statements", "300ms")
        .flag("--log-format", "json")
        .start();
    let mut wire = Wire::login(endpoint.reads());
    for _ in 0..20 {
        assert!(wire.query("SELECT 'fast marker'").error.is_none());
    }
    assert!(wire.query("SELECT 'slow marker' FROM pg_sleep(0.5)").error.is_none());
    assert!(wire.query("SELECT 1/(random()*0)::int, 'failing marker' FROM pg_sleep(0.5)").error.is_some());
    let _slow = records(&endpoint, "slow marker", 1);
    let failed = records(&endpoint, "failing marker", 1).remove(0);
    assert_eq!((&failed["sqlstate"], &failed["statement.tag"]), (&"22012".into(), &"22012 SELECT".into()));
    assert!(!endpoint.log().contains("fast marker"));
}

#[test]
fn by_default_no_statement_is_logged() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut wire = Wire::login(endpoint.reads());
    assert!(wire.query("SELECT 'unlogged marker' FROM pg_sleep(0.3)").error.is_none());
    drop(wire);
    assert!(!endpoint.log().contains("unlogged marker"));
}

#[test]
fn profile_prints_times_of_each_phase_and_the_share_of_each_replica() {
    let endpoint = Endpoint::over(shared_cluster()).auth(Auth::Verify).start();
    let output = std::process::Command::new(trunkline_tests::binary())
        .args(["profile", "-n", "10", "SELECT count(*) FROM numbers"])
        .envs([
            ("PGHOST", "127.0.0.1"),
            ("PGUSER", "postgres"),
            ("PGPASSWORD", "postgres"),
            ("PGDATABASE", "appdb"),
        ])
        .env("PGPORT", endpoint.reads().to_string())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for word in ["replica1", "replica2", "median", "p95"] {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}
