//! The primary moves: writers wait for the next one, and the last one never gets a write again.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, Server, StopMode};
use trunkline_tests::{
    Answer, Auth, Endpoint, EndpointBuilder, Login, Wire, eventually, http_get, own_cluster,
};

/// How long the kernel's and the health checks' part in anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster with a table to write to, known to its replica.
fn cluster() -> Cluster {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE TABLE written (by text)").unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

/// The replica of a flag is held back for `failover_grace` after its promotion.
fn endpoint(cluster: &Cluster) -> EndpointBuilder {
    Endpoint::over(cluster).auth(Auth::Verify).key("health.failover_grace", "\"500ms\"")
}

fn state_of(endpoint: &Endpoint, server: &Server) -> String {
    let body = http_get(endpoint.http(), "/cluster").unwrap().body;
    let cluster: serde_json::Value = serde_json::from_str(&body).unwrap();
    let member = cluster["members"].as_array().unwrap().iter().find(|m| m["name"] == server.name());
    member.unwrap()["state"].as_str().unwrap().to_uppercase()
}

fn await_state(endpoint: &Endpoint, server: &Server, state: &str) {
    eventually(PATIENCE, &format!("{} is {state}", server.name()), || state_of(endpoint, server) == state);
}

/// Waits until health knows `server` as the primary.
fn await_primary(endpoint: &Endpoint, server: &Server) {
    let path = format!("/{}/primary", server.name());
    eventually(PATIENCE, &format!("{path} is healthy"), || endpoint.status_of(&path) == 200);
}

fn rows(server: &Server, by: &str) -> u32 {
    let sql = format!("SELECT count(*) FROM written WHERE by LIKE '{by}'");
    server.psql(&sql).unwrap().parse().unwrap()
}

/// The ErrorResponses in an answer, or before the end of the connection.
fn errors(answer: &Answer) -> usize {
    answer.messages.iter().filter(|message| message.tag == b'E').count()
}

fn prepare(wire: &mut Wire) {
    use trunkline_codec::write;
    wire.send_with(|out| {
        write::parse(
            out,
            b"insert",
            b"INSERT INTO written VALUES (current_setting('application_name'))",
            &[],
        )
        .unwrap();
        write::sync(out);
    });
    assert_eq!(wire.read_answer().error, None);
}

fn send_prepared(wire: &mut Wire) {
    use trunkline_codec::write;
    wire.send_with(|out| {
        write::bind(out, b"", b"insert", std::iter::empty()).unwrap();
        write::execute(out, b"", 0).unwrap();
        write::sync(out);
    });
}

#[test]
fn writers_wait_for_the_next_primary_and_go_on_there_as_they_were() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wires: Vec<Wire> = (0..8).map(|_| Login::default().connect(endpoint.writes())).collect();
    for (index, wire) in wires.iter_mut().enumerate() {
        assert_eq!(wire.query(&format!("SET application_name = 'writer {index}'")).error, None);
        prepare(wire);
    }
    cluster.primary.kill();
    // Half of them speak at once and wait, half speak when there is a primary again.
    let (early, late) = wires.split_at_mut(4);
    early.iter_mut().for_each(send_prepared);
    let port = endpoint.writes();
    let newcomer = std::thread::spawn(move || Login::default().connect(port).query("SELECT 1").error);
    cluster.replicas[0].promote().unwrap();
    for wire in early {
        assert_eq!(wire.read_answer().error, None, "{}", endpoint.log());
    }
    for wire in late {
        send_prepared(wire);
        assert_eq!(wire.read_answer().error, None, "{}", endpoint.log());
    }
    assert_eq!(newcomer.join().unwrap(), None, "a new session waits, too");
    assert_eq!(rows(&cluster.replicas[0], "writer %"), 8);
    assert_eq!(wires[0].value("SHOW application_name"), "writer 0");
}

#[test]
fn a_planned_switchover_costs_idle_writers_nothing() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.writes());
    assert_eq!(wire.query("INSERT INTO written VALUES ('before')").error, None);
    cluster.primary.stop(StopMode::Fast).unwrap();
    cluster.replicas[0].promote().unwrap();
    assert_eq!(wire.query("INSERT INTO written VALUES ('after')").error, None, "{}", endpoint.log());
    assert_eq!((rows(&cluster.replicas[0], "before"), rows(&cluster.replicas[0], "after")), (1, 1));
}

#[test]
fn a_write_in_flight_gets_one_error() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.writes());
    wire.send_query("INSERT INTO written SELECT 'in flight' FROM pg_sleep(60)");
    let working = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%' AND state = 'active'";
    eventually(PATIENCE, "the write runs", || cluster.primary.psql(working).unwrap() == "1");
    cluster.primary.kill();
    let answer = wire.read_answer();
    assert_eq!(errors(&answer), 1, "{}", answer.tags());
    assert!(["57P01", "08006"].contains(&answer.error.unwrap().code.as_str()));
}

#[test]
fn an_old_primary_that_returns_is_fenced_and_gets_no_write() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wires: Vec<Wire> = (0..4).map(|_| Login::default().connect(endpoint.writes())).collect();
    cluster.primary.kill();
    cluster.replicas[0].promote().unwrap();
    cluster.primary.start().unwrap();
    await_state(&endpoint, &cluster.primary, "FENCED");
    for _ in 0..5 {
        wires.push(Login::default().connect(endpoint.writes()));
        for wire in &mut wires {
            assert_eq!(wire.query("INSERT INTO written VALUES ('late')").error, None, "{}", endpoint.log());
        }
    }
    assert_eq!((rows(&cluster.primary, "%"), rows(&cluster.replicas[0], "late")), (0, 35));
}

#[test]
fn a_paused_primary_that_resumes_after_the_promotion_gets_no_commit() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut inside = Login::default().connect(endpoint.writes());
    assert_eq!(inside.query("BEGIN").error, None);
    assert_eq!(inside.query("INSERT INTO written VALUES ('inside')").error, None);
    // Held by an advisory lock: idle, and it cannot move.
    let mut pinned = Login::default().connect(endpoint.writes());
    assert_eq!(pinned.value("SELECT pg_advisory_lock(1)"), "");
    let mut idle = Login::default().connect(endpoint.writes());
    cluster.primary.pause();
    await_state(&endpoint, &cluster.primary, "DOWN");
    cluster.replicas[0].promote().unwrap();
    await_primary(&endpoint, &cluster.replicas[0]);
    inside.send_query("COMMIT");
    let answer = inside.read_answer();
    assert_eq!(errors(&answer), 1, "{}", answer.tags());
    cluster.primary.resume();
    let refused = pinned.query("INSERT INTO written VALUES ('pinned')");
    assert_eq!(errors(&refused), 1, "{}", refused.tags());
    assert_eq!(idle.query("INSERT INTO written VALUES ('idle')").error, None);
    await_state(&endpoint, &cluster.primary, "FENCED");
    assert_eq!((rows(&cluster.primary, "%"), rows(&cluster.replicas[0], "%")), (0, 1));
}

/// Two primaries that both answer: the one left behind is dropped in the middle of a transaction.
#[test]
fn a_primary_that_lives_on_after_a_promotion_is_left_at_once() {
    let cluster = cluster();
    let port = cluster.replicas[0].port();
    let any = format!("[[server]]\nname = \"replica1\"\naddress = \"127.0.0.1:{port}\"\nrole = \"any\"\n");
    let endpoint = endpoint(&cluster).without("replica1").toml(&any).start();
    await_state(&endpoint, &cluster.replicas[0], "UP");
    let mut wire = Login::default().connect(endpoint.writes());
    assert_eq!(wire.query("BEGIN").error, None);
    assert_eq!(wire.query("INSERT INTO written VALUES ('inside')").error, None);
    let mut busy = Login::default().connect(endpoint.writes());
    busy.send_query("INSERT INTO written SELECT 'busy' FROM pg_sleep(20)");
    let at_work = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%' AND state = 'active'";
        cluster.primary.psql(sql).unwrap()
    };
    eventually(PATIENCE, "the write runs", || at_work() == "1");
    cluster.replicas[0].promote().unwrap();
    await_state(&endpoint, &cluster.primary, "FENCED");
    for answer in [wire.query("COMMIT"), busy.read_answer()] {
        assert_eq!(errors(&answer), 1, "{}", answer.tags());
    }
    eventually(PATIENCE, "the write ends", || at_work() == "0");
    assert_eq!(rows(&cluster.primary, "%"), 0);
}

#[test]
fn without_a_next_primary_the_wait_ends_with_a_reason() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster)
        .key("timeouts.acquire", "\"1s\"")
        .key("timeouts.login", "\"2s\"")
        .key("timeouts.failover_wait", "\"3s\"")
        .start();
    let mut wire = Login::default().connect(endpoint.writes());
    cluster.primary.kill();
    let began = Instant::now();
    let answer = wire.query("INSERT INTO written VALUES ('never')");
    let error = answer.error.unwrap();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "57P03"));
    assert!(error.text.starts_with("no primary is available for this session\n"), "{}", error.text);
    assert!(error.text.contains("within 3 s: primary is DOWN"), "{}", error.text);
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    let refused = Login::default().try_connect(endpoint.writes()).unwrap_err();
    assert_eq!(refused.code, "57P03", "the wait comes on top of the login's time: {}", refused.text);
    // Reads go on meanwhile.
    assert_eq!(Login::default().connect(endpoint.reads()).value("SELECT 1"), "1");
}

#[test]
fn what_a_client_no_longer_waits_for_is_not_done() {
    let cluster = cluster();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.writes());
    cluster.primary.kill();
    wire.send_query("INSERT INTO written VALUES ('abandoned')");
    eventually(PATIENCE, "the session has left its server", || endpoint.sessions_on("primary") == 0);
    drop(wire);
    cluster.replicas[0].promote().unwrap();
    await_primary(&endpoint, &cluster.replicas[0]);
    let mut other = Login::default().connect(endpoint.writes());
    assert_eq!(other.query("INSERT INTO written VALUES ('other')").error, None);
    assert_eq!((rows(&cluster.replicas[0], "abandoned"), rows(&cluster.replicas[0], "other")), (0, 1));
}
