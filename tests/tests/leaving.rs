//! Who leaves a server that lags or drains, and how fast.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, Server};
use trunkline_tests::{Auth, Endpoint, Login, Wire, binary, eventually, http_get, own_cluster};

const PATIENCE: Duration = Duration::from_secs(30);

/// Sessions by the member of the cluster they are on, or a member's state.
fn member(endpoint: &Endpoint, server: &Server, field: &str) -> serde_json::Value {
    let body = http_get(endpoint.http(), "/cluster").unwrap().body;
    let cluster: serde_json::Value = serde_json::from_str(&body).unwrap();
    let member = cluster["members"].as_array().unwrap().iter().find(|m| m["name"] == server.name()).cloned();
    member.unwrap()[field].clone()
}

fn sessions(endpoint: &Endpoint, server: &Server) -> u64 {
    member(endpoint, server, "sessions").as_u64().unwrap()
}

/// Stops the replay of `server` and writes until health has the proof that it lags.
fn make_lag(cluster: &Cluster, endpoint: &Endpoint, server: &Server) {
    server.pause_replay().unwrap();
    cluster.primary.psql("CREATE TABLE IF NOT EXISTS news (n int)").unwrap();
    eventually(PATIENCE, "the replica lags", || {
        cluster.primary.psql("INSERT INTO news VALUES (1)").unwrap();
        member(endpoint, server, "state").as_str().unwrap().eq_ignore_ascii_case("lagging")
    });
}

/// Ten sessions, each with the name of its server.
fn settled(endpoint: &Endpoint) -> Vec<(Wire, String)> {
    let login = || {
        let mut wire = Login::default().connect(endpoint.reads());
        let name = wire.value("SHOW cluster_name");
        (wire, name)
    };
    (0..10).map(|_| login()).collect()
}

#[test]
fn sessions_move_off_a_replica_that_lags() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).key("health.max_lag", "\"1s\"").start();
    let victim = &cluster.replicas[0];
    let mut wires = settled(&endpoint);
    // In a transaction it stays, with its snapshot; out of it, it goes.
    let (inside, _) = wires.iter_mut().find(|(_, name)| name == victim.name()).unwrap();
    assert_eq!(inside.query("BEGIN").error, None);
    make_lag(&cluster, &endpoint, victim);
    eventually(PATIENCE, "all but one have left", || sessions(&endpoint, victim) == 1);
    for (wire, _) in &mut wires {
        assert_eq!(wire.query("COMMIT").error, None);
        assert_eq!(wire.value("SHOW cluster_name"), cluster.replicas[1].name());
    }
}

#[test]
fn with_no_room_elsewhere_a_session_stays_on_a_replica_that_lags() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .key("health.max_lag", "\"1s\"")
        .key("health.fallback.primary_connections_max", "1")
        .key("timeouts.acquire", "\"1s\"")
        .key("log.level", "\"info,trunkline_proxy=debug\"")
        .start();
    let replica = &cluster.replicas[0];
    let mut wire = Login::default().connect(endpoint.reads());
    assert_eq!(wire.query("BEGIN").error, None);
    make_lag(&cluster, &endpoint, replica);
    eventually(PATIENCE, "it is to leave", || endpoint.log().contains("no longer eligible"));
    let first = Login::default().connect(endpoint.reads());
    assert_eq!(wire.query("COMMIT").error, None);
    assert_eq!(wire.value("SHOW cluster_name"), replica.name());
    drop(first);
    eventually(PATIENCE, "it goes where there is room again", || {
        wire.value("SHOW cluster_name") == cluster.primary.name()
    });
}

#[test]
fn with_keep_sessions_stay_on_a_replica_that_lags() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .key("health.max_lag", "\"1s\"")
        .key("health.on_lagging", "\"keep\"")
        .start();
    let victim = &cluster.replicas[0];
    let mut wires = settled(&endpoint);
    make_lag(&cluster, &endpoint, victim);
    for _ in 0..3 {
        for (wire, name) in &mut wires {
            assert_eq!(wire.value("SHOW cluster_name"), *name);
        }
    }
    let newcomer = Login::default().connect(endpoint.reads()).value("SHOW cluster_name");
    assert_eq!(newcomer, cluster.replicas[1].name(), "new sessions go elsewhere");
}

#[test]
fn with_drain_sessions_that_cannot_move_end_at_their_next_idle_point() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Relay)
        .key("health.max_lag", "\"1s\"")
        .key("health.on_lagging", "\"drain\"")
        .start();
    let victim = &cluster.replicas[0];
    let mut wires = settled(&endpoint);
    let (inside, _) = wires.iter_mut().find(|(_, name)| name == victim.name()).unwrap();
    assert_eq!(inside.query("BEGIN").error, None);
    make_lag(&cluster, &endpoint, victim);
    eventually(PATIENCE, "all but one have ended", || sessions(&endpoint, victim) == 1);
    let (inside, _) = wires.iter_mut().find(|(_, name)| name == victim.name()).unwrap();
    assert_eq!(inside.query("SELECT 1").error, None, "a transaction goes on");
    assert_eq!(inside.query("COMMIT").error, None);
    for (mut wire, name) in wires {
        if name == victim.name() {
            let error = wire.read_answer().error.unwrap();
            assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "57P01"));
            assert!(error.text.contains("lags behind"), "{}", error.text);
        } else {
            assert_eq!(wire.value("SHOW cluster_name"), name);
        }
    }
}

#[test]
fn sessions_leave_no_faster_than_allowed() {
    let cluster = own_cluster(2);
    let socket = cluster.directory().join("admin.sock");
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .flag("--admin", socket.to_str().unwrap())
        .key("limits.moves_per_second_max", "2")
        .start();
    let victim = &cluster.replicas[0];
    let mut wires = settled(&endpoint);
    assert_eq!(sessions(&endpoint, victim), 5);
    let mut drain = Command::new(binary());
    let began = Instant::now();
    assert!(drain.args(["drain", victim.name(), "--admin"]).arg(&socket).output().unwrap().status.success());
    eventually(PATIENCE, "all have left", || sessions(&endpoint, victim) == 0);
    // The first leaves at once, the other four half a second apart.
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    for (wire, _) in &mut wires {
        assert_eq!(wire.value("SHOW cluster_name"), cluster.replicas[1].name());
    }
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_its_answer_though_its_session_leaves() {
    let cluster = own_cluster(2);
    let socket = cluster.directory().join("admin.sock");
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .flag("--admin", socket.to_str().unwrap())
        .key("limits.moves_per_second_max", "1000")
        .start();
    let victim = &cluster.replicas[0];
    // Of so many sizes some end just where the sockets are full: the server is done, and the proxy holds the rest.
    let mut wires: Vec<(Wire, usize)> =
        (1..=100).map(|step| (Login::default().connect(endpoint.reads()), step * 60)).collect();
    let before = sessions(&endpoint, victim);
    for (wire, rows) in &mut wires {
        wire.send_query(&format!("SELECT repeat('x', 1000) FROM generate_series(1, {rows})"));
    }
    let is_working = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT repeat%' \
                      AND state = 'active' AND wait_event IS DISTINCT FROM 'ClientWrite'";
    eventually(PATIENCE, "the servers have said what they can", || victim.psql(is_working).unwrap() == "0");
    let mut drain = Command::new(binary());
    assert!(drain.args(["drain", victim.name(), "--admin"]).arg(&socket).output().unwrap().status.success());
    eventually(PATIENCE, "some have left", || sessions(&endpoint, victim) < before);
    for (wire, rows) in &mut wires {
        let answer = wire.read_answer();
        assert_eq!((answer.error, answer.rows.len()), (None, *rows));
    }
}
