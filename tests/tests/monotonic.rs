//! A session that moves never sees less than it has seen, as long as some server it may have shows that.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_cluster::{Cluster, Server};
use trunkline_tests::{Auth, Endpoint, EndpointBuilder, Login, Wire, eventually, own_cluster};

const PATIENCE: Duration = Duration::from_secs(30);

fn cluster() -> Cluster {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE TABLE seen (n int)").unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

/// A replica whose replay is paused stays eligible throughout.
fn endpoint(cluster: &Cluster) -> EndpointBuilder {
    Endpoint::over(cluster).auth(Auth::Verify).key("health.max_lag", "\"60s\"")
}

fn server_of<'c>(cluster: &'c Cluster, wire: &mut Wire) -> &'c Server {
    let name = wire.value("SHOW cluster_name");
    cluster.servers().find(|server| server.name() == name).unwrap()
}

fn other<'c>(cluster: &'c Cluster, server: &Server) -> &'c Server {
    cluster.replicas.iter().find(|replica| replica.name() != server.name()).unwrap()
}

fn newest(wire: &mut Wire) -> i32 {
    wire.value("SELECT coalesce(max(n), 0) FROM seen").parse().unwrap()
}

/// Commits row `n` and has the session read it on its server, while the other replica replays nothing.
fn see(cluster: &Cluster, wire: &mut Wire, n: i32) {
    let server = server_of(cluster, wire);
    cluster.primary.psql(&format!("INSERT INTO seen VALUES ({n})")).unwrap();
    eventually(PATIENCE, "the session sees the row", || newest(wire) == n);
    assert_eq!(server_of(cluster, wire).name(), server.name());
}

#[test]
fn with_the_other_replica_behind_the_primary_answers() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.reads());
    let server = server_of(&cluster, &mut wire);
    other(&cluster, server).pause_replay().unwrap();
    for n in 1..=5 {
        see(&cluster, &mut wire, n);
    }
    server.kill();
    assert_eq!(newest(&mut wire), 5, "{}", endpoint.log());
    assert_eq!(server_of(&cluster, &mut wire).name(), "primary");
    // The replica may serve, but not this session: it is not tried again for every request.
    for _ in 0..20 {
        assert_eq!(newest(&mut wire), 5);
    }
    assert!(!endpoint.log().contains("session leaves its server"), "{}", endpoint.log());
}

#[test]
fn a_session_goes_back_to_the_server_it_lost_if_only_that_shows_enough() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).key("health.fallback.mode", "\"none\"").start();
    let mut wire = Login::default().connect(endpoint.reads());
    let server = server_of(&cluster, &mut wire);
    let behind = other(&cluster, server);
    behind.pause_replay().unwrap();
    for n in 1..=3 {
        see(&cluster, &mut wire, n);
        let backend = wire.value("SELECT pg_backend_pid()");
        server.psql(&format!("SELECT pg_terminate_backend({backend}, 5000)")).unwrap();
        assert_eq!(newest(&mut wire), n, "{}", endpoint.log());
    }
    // With nothing else left, old news are better than none.
    server.kill();
    assert_eq!(newest(&mut wire), 0, "{}", endpoint.log());
    assert_eq!(server_of(&cluster, &mut wire).name(), behind.name());
}

#[test]
fn a_server_that_is_a_moment_behind_is_waited_for() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.reads());
    let server = server_of(&cluster, &mut wire);
    let behind = other(&cluster, server);
    behind.pause_replay().unwrap();
    see(&cluster, &mut wire, 1);
    server.kill();
    wire.send_query("SELECT max(n), current_setting('cluster_name') FROM seen");
    let login = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%pg_last_wal_replay_lsn%' \
                 AND pid <> pg_backend_pid() AND usename = 'postgres'";
    eventually(PATIENCE, "the session asks the other replica", || behind.psql(login).unwrap() == "t");
    behind.resume_replay().unwrap();
    assert_eq!(wire.read_answer().value(), "1", "{}", endpoint.log());
}
