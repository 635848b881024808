//! A session whose server goes is told so, properly.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_cluster::{Server, StopMode};
use trunkline_tests::{
    Answer, Auth, Endpoint, Forwarder, ServerError, Weather, Wire, eventually, own_cluster, shared_cluster,
};

/// A session on `server` that has already worked, and so cannot be moved.
fn working_session(endpoint: &Endpoint, server: &Server) -> Wire {
    loop {
        let mut wire = Wire::login(endpoint.reads());
        if wire.value("SHOW cluster_name") == server.name() {
            // Pinned also once sessions can be moved.
            assert!(wire.query("SELECT pg_advisory_lock(1)").error.is_none());
            return wire;
        }
    }
}

/// The last words: one FATAL, then the end.
fn last_words(answer: &Answer) -> &ServerError {
    let error = answer.error.as_ref().expect("an error was told");
    assert_eq!(error.severity, "FATAL", "{error:?} in {}", answer.tags());
    assert!(answer.tags().ends_with('E'), "nothing follows: {}", answer.tags());
    error
}

const LOST: [&str; 4] = ["57P01", "57P02", "08006", "08P01"];

#[test]
fn an_idle_session_is_told_when_its_server_is_killed() {
    let cluster = own_cluster(2);
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(&cluster).auth(auth).start();
        let mut wire = working_session(&endpoint, &cluster.replicas[0]);
        cluster.replicas[0].kill();
        let answer = wire.read_answer();
        assert!(LOST.contains(&last_words(&answer).code.as_str()), "{answer:?}");
        cluster.replicas[0].start().unwrap();
    }
}

#[test]
fn an_idle_session_gets_the_words_of_a_fast_shutdown() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).start();
    let mut wire = working_session(&endpoint, &cluster.replicas[0]);
    cluster.replicas[0].stop(StopMode::Fast).unwrap();
    assert_eq!(last_words(&wire.read_answer()).code, "57P01");
}

#[test]
fn an_idle_session_is_told_of_an_immediate_shutdown() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).start();
    let mut wire = working_session(&endpoint, &cluster.replicas[0]);
    cluster.replicas[0].stop(StopMode::Immediate).unwrap();
    let answer = wire.read_answer();
    let code = last_words(&answer).code.clone();
    assert!(LOST.contains(&code.as_str()), "{answer:?}");
}

#[test]
fn a_busy_session_is_told_when_its_server_is_killed() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).start();
    let mut wire = working_session(&endpoint, &cluster.replicas[0]);
    wire.send_query("SELECT pg_sleep(60) /* busy */");
    cluster.replicas[0]
        .wait_until("it runs", "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep')")
        .unwrap();
    cluster.replicas[0].kill();
    let answer = wire.read_answer();
    assert!(LOST.contains(&last_words(&answer).code.as_str()), "{answer:?}");
}

#[test]
fn a_terminated_backend_says_so_itself() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).start();
    let mut wire = working_session(&endpoint, &cluster.replicas[0]);
    let pid = wire.value("SELECT pg_backend_pid()");
    cluster.replicas[0].psql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    let error = last_words(&wire.read_answer()).clone();
    assert_eq!(
        (error.code.as_str(), error.text.lines().next().unwrap()),
        ("57P01", "terminating connection due to administrator command")
    );
}

/// What a session sees whose connection is cut `after` bytes into its answer.
fn cut_answer(after: usize, sql: &str) -> (Answer, bool) {
    let cluster = shared_cluster();
    let way = Forwarder::to(cluster.replicas[0].port());
    let endpoint = Endpoint::over(cluster)
        .without("replica2")
        .through("replica1", way.port())
        .key("health.fallback.mode", "\"none\"")
        .key("health.tick", "\"60s\"")
        .not_awaiting("primary")
        .start();
    let mut wire = Wire::login(endpoint.reads());
    assert_eq!(wire.value("SELECT 1"), "1");
    way.set(Weather::CutAfter(after));
    wire.send_query(sql);
    let answer = wire.read_answer();
    let is_whole = answer.messages.last().is_some_and(|message| message.tag == b'E');
    (answer, is_whole)
}

#[test]
fn death_between_or_inside_small_messages_is_told_at_a_boundary() {
    for after in [0, 3, 40, 1000, 5000, 20_001, 100_003] {
        let (answer, is_whole) = cut_answer(after, "SELECT repeat('x', 100) FROM generate_series(1, 5000)");
        assert!(is_whole, "after {after} bytes: {} then {:?}", answer.tags().len(), answer.error);
        assert!(LOST.contains(&last_words(&answer).code.as_str()), "{:?}", answer.error);
        assert!(answer.rows.iter().all(|row| row[0].as_deref().is_some_and(|value| value.len() == 100)));
    }
}

#[test]
fn death_inside_a_large_message_closes_without_a_lie() {
    let (answer, is_whole) = cut_answer(1_000_000, "SELECT repeat('x', 10000000)");
    assert!(!is_whole && answer.rows.is_empty(), "{}", answer.tags());
    assert_eq!(answer.error.unwrap().severity, "EOF");
}

#[test]
fn a_client_that_leaves_takes_its_server_session_with_it() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).start();
    let count =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%who leaves%' AND pid <> pg_backend_pid()";
    let present =
        || cluster.replicas.iter().map(|replica| replica.psql(count).unwrap()).any(|count| count != "0");
    let mut idle = Wire::login(endpoint.reads());
    assert_eq!(idle.value("SELECT 'who leaves'"), "who leaves");
    let mut in_transaction = Wire::login(endpoint.reads());
    assert!(in_transaction.query("BEGIN; SELECT 'who leaves'").error.is_none());
    let mut writing = Wire::login(endpoint.reads());
    writing.send_query("SELECT 'who leaves', generate_series(1, 100000000)");
    eventually(Duration::from_secs(30), "they are there", present);
    drop((idle, in_transaction, writing));
    eventually(Duration::from_secs(30), "they are gone", || !present());
}
