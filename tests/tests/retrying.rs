//! Which reads are sent again to another server is for the operator and the client to say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_cluster::{Cluster, PortLease, Server};
use trunkline_tests::{Answer, Auth, Endpoint, EndpointBuilder, Login, Wire, eventually, shared_cluster};

/// Runs for seconds and gives one row at its end.
const SLOW: &str = "SELECT count(*) FROM (SELECT generate_series(1, 12345678)) AS numbers";

fn server_of<'c>(cluster: &'c Cluster, wire: &mut Wire) -> &'c Server {
    let name = wire.value("SHOW cluster_name");
    cluster.replicas.iter().find(|server| server.name() == name).unwrap()
}

/// An endpoint for which a session that an operator ends is one whose server is lost.
fn losing(cluster: &Cluster) -> EndpointBuilder {
    Endpoint::over(cluster).auth(Auth::Verify).key("session.on_terminate", "\"move\"")
}

/// Runs `sql`, a variant of [`SLOW`] marked with `mark`, and has its server end the session meanwhile.
fn interrupted(cluster: &Cluster, wire: &mut Wire, mark: &str, sql: &str) -> Answer {
    let victim = server_of(cluster, wire);
    wire.send_query(sql);
    let terminate = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE state = 'active' AND starts_with(query, '/* {mark} */ SELECT') AND pid <> pg_backend_pid()"
    );
    eventually(Duration::from_secs(20), "the read is interrupted", || {
        victim.psql(&terminate).is_ok_and(|count| count == "1")
    });
    wire.read_answer()
}

/// The lines of the log that tell of a request sent again.
fn told(endpoint: &Endpoint) -> Vec<String> {
    let log = endpoint.log();
    log.lines().filter(|line| line.contains("request is sent again")).map(str::to_owned).collect()
}

#[test]
fn a_read_of_up_to_journal_max_goes_elsewhere_and_is_logged_without_its_values() {
    let cluster = shared_cluster();
    let endpoint = losing(cluster).key("retry.journal_max", "\"100KiB\"").start();
    let mut wire = Login::default().connect(endpoint.reads());
    let short = format!("/* jm1 */ {SLOW}");
    let long = format!("/* jm2 */ {SLOW} WHERE 1 = 1 -- {}", "x".repeat(90_000));
    for (mark, sql) in [("jm1", short), ("jm2", long)] {
        let answer = interrupted(cluster, &mut wire, mark, &sql);
        assert_eq!(answer.value(), "12345678", "{}", endpoint.log());
    }
    let too_long = format!("/* jm3 */ {SLOW} -- {}", "x".repeat(110_000));
    let answer = interrupted(cluster, &mut wire, "jm3", &too_long);
    assert_eq!(answer.error.unwrap().code, "57P01");
    assert_eq!(wire.value("SELECT 1"), "1");
    let lines = told(&endpoint);
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        let fingerprint = line.split("statement.fingerprint=").nth(1).unwrap();
        assert!(fingerprint.chars().take_while(char::is_ascii_hexdigit).count() == 16, "{line}");
        assert!(line.contains("took_us=") && !line.contains("12345678"), "{line}");
    }
}

#[test]
fn a_session_or_a_listener_may_opt_out() {
    let cluster = shared_cluster();
    let lease = PortLease::take().unwrap();
    let listener =
        format!("[[listener]]\nname = \"once\"\naddress = \"127.0.0.1:{}\"\nretry = \"off\"\n", lease.port());
    let endpoint = losing(cluster).toml(&listener).start();
    let options = |value: &str| Login::default().with("options", &format!("-c trunkline.retry={value}"));
    let (reads, once) = (endpoint.reads(), lease.port());
    for (mark, login, port, is_repeated) in [
        ("oo1", options("off"), reads, false),
        ("oo2", Login::default(), once, false),
        ("oo3", options("on"), once, true),
    ] {
        let mut wire = login.connect(port);
        let answer = interrupted(cluster, &mut wire, mark, &format!("/* {mark} */ {SLOW}"));
        assert_eq!(answer.error.is_none(), is_repeated, "{mark}: {:?}", answer.error);
        assert_eq!(wire.value("SELECT 1"), "1", "the connection is kept");
    }
    assert_eq!(options("maybe").try_connect(reads).unwrap_err().code, "22023");
}
