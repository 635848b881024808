//! A session that moves never sees less than it has seen, as long as some server it may have shows that.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_cluster::{Cluster, Server};
use trunkline_codec::write;
use trunkline_tests::{Auth, Endpoint, EndpointBuilder, Login, Wire, eventually, own_cluster};

const PATIENCE: Duration = Duration::from_secs(30);

fn cluster() -> Cluster {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE TABLE seen (n int)").unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

/// A replica whose replay is paused stays eligible throughout, and a session that is thrown out is one whose server is
/// lost.
fn endpoint(cluster: &Cluster) -> EndpointBuilder {
    let endpoint = Endpoint::over(cluster).auth(Auth::Verify).key("health.max_lag", "\"60s\"");
    endpoint.key("session.on_terminate", "\"move\"")
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
    let leaves = |line: &str| line.contains("message=\"session moved\"") && line.contains("from=primary");
    eventually(PATIENCE, "the move is logged", || endpoint.log().contains(" to=primary "));
    assert!(!endpoint.log().lines().any(leaves), "{}", endpoint.log());
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
    // Its name is the empty one, which any Query would take away.
    wire.send_with(|out| {
        write::parse(out, b"", b"SELECT max(n) FROM seen", &[]).unwrap();
        write::sync(out);
    });
    assert_eq!(wire.read_answer().tags(), "1Z");
    server.kill();
    wire.send_with(|out| {
        write::bind(out, b"", b"", std::iter::empty()).unwrap();
        write::execute(out, b"", 0).unwrap();
        write::sync(out);
    });
    let login = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%pg_last_wal_replay_lsn%' \
                 AND pid <> pg_backend_pid() AND usename = 'postgres'";
    eventually(PATIENCE, "the session asks the other replica", || behind.psql(login).unwrap() == "t");
    behind.resume_replay().unwrap();
    assert_eq!(wire.read_answer().value(), "1", "{}", endpoint.log());
}

#[test]
fn a_statement_on_a_table_that_the_next_standby_does_not_have_yet_goes_elsewhere() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.reads());
    let server = server_of(&cluster, &mut wire);
    other(&cluster, server).pause_replay().unwrap();
    cluster.primary.psql("CREATE TABLE fresh AS SELECT 7 AS n").unwrap();
    eventually(PATIENCE, "the table is there", || wire.query("SELECT n FROM fresh").error.is_none());
    wire.send_with(|out| {
        write::parse(out, b"s", b"SELECT n FROM fresh", &[]).unwrap();
        write::sync(out);
    });
    assert_eq!(wire.read_answer().tags(), "1Z");
    server.kill();
    wire.send_with(|out| {
        write::bind(out, b"", b"s", std::iter::empty()).unwrap();
        write::execute(out, b"", 0).unwrap();
        write::sync(out);
    });
    let answer = wire.read_answer();
    assert_eq!((answer.error.as_ref(), answer.rows.len()), (None, 1), "{}", endpoint.log());
    assert_eq!(server_of(&cluster, &mut wire).name(), "primary");
}

/// Whatever happens to the servers, in whatever order, each session sees the rows come and never go.
#[test]
fn nobody_goes_back_in_time_while_servers_pause_and_sessions_are_thrown_out() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let port = endpoint.reads();
    let is_over = AtomicBool::new(false);
    let watch = || {
        let mut wire = Login::default().connect(port);
        let (mut seen, mut looks) = (0, 0_u32);
        while !is_over.load(Ordering::Relaxed) {
            let now = newest(&mut wire);
            assert!(now >= seen, "{now} after {seen}");
            (seen, looks) = (now, looks + 1);
        }
        (seen, looks)
    };
    let throw_out = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE query LIKE '%FROM seen%' AND pid <> pg_backend_pid()";
    let mut n = 0;
    let seen = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..4).map(|_| scope.spawn(watch)).collect();
        for round in 0..12 {
            let (paused, lively) = (&cluster.replicas[round % 2], &cluster.replicas[(round + 1) % 2]);
            paused.pause_replay().unwrap();
            for _ in 0..3 {
                n += 1;
                cluster.primary.psql(&format!("INSERT INTO seen VALUES ({n})")).unwrap();
                lively.psql(throw_out).unwrap();
            }
            paused.resume_replay().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        sessions.into_iter().map(|session| session.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(seen.iter().all(|(seen, looks)| *seen > 0 && *looks > 20), "{seen:?}");
}
