//! Where no server takes a transaction that only reads and has begun without one.

use super::*;

fn waiting(endpoint: &Endpoint, role: PoolRole) -> bool {
    endpoint.pooled("cl_waiting", role) == 1
}

/// It fails, and is ended without a server.
#[track_caller]
fn has_failed(wire: &mut Wire, answer: &Answer, code: &str) {
    fails(answer, code);
    assert_eq!(status(answer), 'E');
    for answer in [wire.query("SELECT 1"), wire.extended("SELECT $1::int", &["1"]), wire.query("BEGIN")] {
        fails(&answer, "25P02");
        assert_eq!(status(&answer), 'E');
    }
}

/// Ends it with these words, by either protocol.
#[track_caller]
fn ends(answer: &Answer) {
    fine(answer);
    assert_eq!((answer.tags().contains('C'), status(answer)), (true, 'I'), "{}", answer.tags());
}

#[test]
fn a_wait_for_a_connection_ends_its_statement_and_the_session_goes_on() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_full_pools");
    let endpoint = endpoint(cluster).pooling(1).key("pool.query_wait_timeout", "\"1s\"").start();
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    run(&mut first, "BEGIN");
    run(&mut first, "SELECT 1");
    for (number, end) in ["ROLLBACK", "COMMIT"].into_iter().enumerate() {
        run(&mut second, "BEGIN READ ONLY");
        let answer = match number {
            0 => second.query("LISTEN of_full_pools"),
            _ => second.extended("SELECT pg_is_in_recovery()", &[]),
        };
        has_failed(&mut second, &answer, "53300");
        ends(&match number {
            0 => second.query(end),
            _ => second.extended(end, &[]),
        });
        run(&mut second, "BEGIN READ ONLY");
        ends(&second.query(end));
    }
    run(&mut first, "COMMIT");
    run(&mut second, "BEGIN READ ONLY");
    assert_eq!(second.value("SELECT pg_is_in_recovery()"), "f");
    run(&mut second, "COMMIT");
}

#[test]
fn a_wait_for_a_connection_can_be_canceled() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_cancels");
    let endpoint = endpoint(cluster).pooling(1).start();
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    run(&mut first, "BEGIN");
    run(&mut first, "SELECT 1");
    run(&mut second, "BEGIN READ ONLY");
    second.send_query("LISTEN of_cancels");
    eventually(PATIENCE, "it waits", || waiting(&endpoint, role));
    second.cancel(endpoint.writes());
    let answer = second.read_answer();
    has_failed(&mut second, &answer, "57014");
    ends(&second.query("ROLLBACK"));
    // A client that has asked for nothing is not refused anything.
    run(&mut second, "BEGIN READ ONLY");
    eventually(PATIENCE, "the primary is to begin it", || waiting(&endpoint, role));
    second.cancel(endpoint.writes());
    second.send_query("SHOW transaction_read_only");
    run(&mut first, "COMMIT");
    assert_eq!(second.read_answer().value(), "on");
    run(&mut second, "COMMIT");
}

#[test]
fn a_client_that_has_asked_for_nothing_is_refused_nothing() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_silence");
    let endpoint = endpoint(cluster).pooling(1).key("pool.query_wait_timeout", "\"1s\"").start();
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    run(&mut first, "BEGIN");
    run(&mut first, "SELECT 1");
    run(&mut second, "BEGIN READ ONLY");
    for _ in 0..2 {
        eventually(PATIENCE, "the primary is to begin it", || waiting(&endpoint, role));
        eventually(PATIENCE, "that has come to nothing", || !waiting(&endpoint, role));
    }
    run(&mut first, "COMMIT");
    assert_eq!(second.value("SHOW transaction_read_only"), "on");
    run(&mut second, "COMMIT");
}

#[test]
fn a_server_with_too_many_connections_refuses_the_statement() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_limits");
    let endpoint = endpoint(cluster).key("timeouts.failover_wait", "\"1s\"").start();
    let mut wire = role.connect(endpoint.writes());
    run(&mut wire, "SELECT 1");
    sql(cluster, "ALTER ROLE of_limits CONNECTION LIMIT 1");
    cluster.wait_caught_up().unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'of_limits'";
    let mut direct: Vec<Wire> = Vec::new();
    for server in cluster.servers() {
        server.psql(end).unwrap();
        eventually(PATIENCE, "its connections are closed", || role.processes(server).is_empty());
        direct.push(role.connect(server.port()));
    }
    run(&mut wire, "BEGIN READ ONLY");
    let answer = wire.query("SELECT 1");
    has_failed(&mut wire, &answer, "53300");
    ends(&wire.query("ROLLBACK"));
    drop(direct);
    eventually(PATIENCE, "it reads again", || wire.query("SELECT 1").error.is_none());
    run(&mut wire, "BEGIN READ ONLY");
    assert_eq!(wire.value("SELECT 1"), "1");
    run(&mut wire, "COMMIT");
}
