//! A loss that cannot be hidden is one truthful error, and the connection works on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_cluster::{Cluster, Server};
use trunkline_codec::write;
use trunkline_tests::{
    Answer, Auth, Endpoint, Forwarder, Login, ServerError, Weather, Wire, eventually, http_get, own_cluster,
    python, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn verified(cluster: &Cluster) -> Endpoint {
    Endpoint::over(cluster).auth(Auth::Verify).start()
}

/// The same, but a session that an operator ends is one whose server is lost.
fn losing(cluster: &Cluster) -> Endpoint {
    Endpoint::over(cluster).auth(Auth::Verify).key("session.on_terminate", "\"move\"").start()
}

/// A session on this server, `begin` run before that is looked at.
fn session_on(endpoint: &Endpoint, server: &Server, begin: &[&str]) -> Wire {
    let mut other = Vec::new();
    for _ in 0..20 {
        let mut wire = Login::default().connect(endpoint.reads());
        begin.iter().for_each(|sql| assert_eq!(code(&wire.query(sql)), "", "{sql}"));
        if wire.value("SHOW cluster_name") == server.name() {
            return wire;
        }
        other.push(wire);
    }
    panic!("no session comes to {}", server.name());
}

/// A session in a transaction on this server: it stays there also when sessions are spread.
fn transaction_on(endpoint: &Endpoint, server: &Server) -> Wire {
    session_on(endpoint, server, &["SET work_mem = '7MB'", "BEGIN"])
}

/// The transaction status of the ReadyForQuery at the end, which must be the only one.
#[track_caller]
fn status(answer: &Answer) -> char {
    assert_eq!(answer.messages.iter().filter(|message| message.tag == b'Z').count(), 1, "{}", answer.tags());
    let last = answer.messages.last().unwrap();
    assert_eq!(last.tag, b'Z', "{}", answer.tags());
    char::from(last.body[0])
}

/// The one error of an answer, which tells of a lost server and leaves the connection.
#[track_caller]
fn loss(answer: &Answer) -> &ServerError {
    assert_eq!(answer.messages.iter().filter(|message| message.tag == b'E').count(), 1, "{}", answer.tags());
    let error = answer.error.as_ref().unwrap();
    assert_eq!(error.severity, "ERROR", "{error:?}");
    assert!(["57P01", "57P02", "08006"].contains(&error.code.as_str()), "{error:?}");
    error
}

fn code(answer: &Answer) -> &str {
    answer.error.as_ref().map_or("", |error| &error.code)
}

/// Requests that failed with the connection kept, and sessions lost.
fn counted(endpoint: &Endpoint) -> (f64, f64) {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let sum = |family: &str| {
        let samples = metrics.lines().filter(|line| line.starts_with(&format!("{family}{{")));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    (sum("trunkline_requests_failed_total"), sum("trunkline_sessions_lost_total"))
}

/// Kills the postmaster, and waits until so many sessions have noticed: a backend may answer until it does.
fn die_for_all(endpoint: &Endpoint, victim: &Server, sessions: usize) {
    victim.kill_postmaster();
    eventually(PATIENCE, "every session has lost its server", || {
        endpoint.log().matches("server was lost, the request in flight fails").count() == sessions
    });
}

/// Runs one statement by the extended protocol.
fn extended(wire: &mut Wire, sql: &str) -> Answer {
    wire.send_with(|out| {
        write::parse(out, b"", sql.as_bytes(), &[]).unwrap();
        write::bind(out, b"", b"", std::iter::empty()).unwrap();
        write::execute(out, b"", 0).unwrap();
        write::sync(out);
    });
    wire.read_answer()
}

fn simple(wire: &mut Wire, sql: &str) -> Answer {
    wire.query(sql)
}

const PROTOCOLS: [fn(&mut Wire, &str) -> Answer; 2] = [simple, extended];

#[test]
fn an_answer_cut_in_its_middle_is_one_error_and_the_connection_works_on() {
    let cluster = shared_cluster();
    for ask in PROTOCOLS {
        let way = Forwarder::to(cluster.replicas[0].port());
        let endpoint = Endpoint::over(cluster).auth(Auth::Verify).through("replica1", way.port()).start();
        let mut wire = session_on(&endpoint, &cluster.replicas[0], &[]);
        way.set(Weather::CutAfter(1_000_000));
        let answer = ask(&mut wire, "SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g");
        assert!(loss(&answer).text.contains("inside its answer"), "{:?}", answer.error);
        assert_eq!(status(&answer), 'I');
        assert!((100..20_000).contains(&answer.rows.len()), "{} rows", answer.rows.len());
        for (row, expected) in answer.rows.iter().zip(1_u32..) {
            assert_eq!(row[0].as_deref(), Some(expected.to_string().as_str()), "a row mixed or twice");
        }
        assert_eq!(wire.value("SHOW cluster_name"), "replica2");
        assert_eq!(counted(&endpoint), (1.0, 0.0));
    }
}

#[test]
fn a_transaction_on_a_server_that_dies_has_failed_until_rollback() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let victim = &cluster.replicas[0];
    let mut wires: Vec<Wire> = (0..6).map(|_| transaction_on(&endpoint, victim)).collect();
    for wire in &mut wires {
        for sql in ["SET LOCAL lock_timeout = '9s'", "SET statement_timeout = '77s'", "SELECT 1"] {
            assert_eq!(code(&wire.query(sql)), "", "{sql}");
        }
    }
    die_for_all(&endpoint, victim, wires.len());
    for (wire, ask) in wires.iter_mut().zip(PROTOCOLS.into_iter().cycle()) {
        let first = ask(wire, "SELECT 1");
        assert!(loss(&first).text.contains("inside a transaction"), "{:?}", first.error);
        assert_eq!((first.rows.len(), status(&first)), (0, 'E'));
        let second = ask(wire, "SELECT 2");
        assert_eq!((code(&second), status(&second)), ("25P02", 'E'));
        let end = ask(wire, "ROLLBACK");
        assert_eq!((code(&end), status(&end)), ("", 'I'));
        assert_eq!(wire.value("SHOW cluster_name"), "replica2");
        let settings = "SELECT current_setting('work_mem'), current_setting('lock_timeout'),
                        current_setting('statement_timeout')";
        let values = ["7MB", "0", "0"].map(|value| Some(value.to_owned()));
        assert_eq!(wire.query(settings).rows, [values.to_vec()]);
    }
    let told = wires.len() as f64;
    assert_eq!(counted(&endpoint), (told, 0.0), "{}", endpoint.log());
}

#[test]
fn a_commit_is_never_answered_with_success_and_a_rollback_needs_no_error() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let victim = &cluster.replicas[0];
    let mut wires: Vec<Wire> = (0..4).map(|_| transaction_on(&endpoint, victim)).collect();
    die_for_all(&endpoint, victim, wires.len());
    let (commits, rollbacks) = wires.split_at_mut(2);
    for (wire, ask) in commits.iter_mut().zip(PROTOCOLS) {
        let commit = ask(wire, "COMMIT");
        loss(&commit);
        assert_eq!(status(&commit), 'I', "as after any COMMIT that fails");
        assert_eq!(wire.value("SHOW work_mem"), "7MB");
    }
    for (wire, ask) in rollbacks.iter_mut().zip(PROTOCOLS) {
        let rollback = ask(wire, "ROLLBACK");
        assert_eq!((code(&rollback), status(&rollback)), ("", 'I'));
        assert_eq!(wire.value("SELECT 1"), "1");
    }
}

#[test]
fn a_request_in_flight_in_a_transaction_fails_with_it() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let victim = &cluster.replicas[0];
    let mut wire = transaction_on(&endpoint, victim);
    wire.send_query("SELECT pg_sleep(600)");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually(PATIENCE, "the query runs", || victim.psql(sleeping).is_ok_and(|count| count == "1"));
    victim.kill();
    let answer = wire.read_answer();
    assert_eq!(loss(&answer).code, "08006");
    assert_eq!(status(&answer), 'E');
    assert_eq!(code(&wire.query("SELECT 1")), "25P02");
    assert_eq!(status(&wire.query("COMMIT")), 'I');
    assert_eq!(wire.value("SHOW cluster_name"), "replica2");
}

#[test]
fn a_write_in_flight_fails_once_and_says_what_is_not_known() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let endpoint = losing(&cluster);
    let mut wire = Login::default().connect(endpoint.writes());
    wire.send_query("INSERT INTO t SELECT 1 FROM pg_sleep(600)");
    let sleeping =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually(PATIENCE, "the write runs", || cluster.primary.psql(sleeping).is_ok_and(|n| n == "1"));
    let answer = wire.read_answer();
    let error = loss(&answer);
    assert_eq!(error.code, "57P01");
    assert!(error.text.contains("may or may not have taken effect"), "{error:?}");
    assert_eq!(status(&answer), 'I');
    assert_eq!(code(&wire.query("INSERT INTO t VALUES (2)")), "");
    assert_eq!(wire.value("SELECT string_agg(i::text, ',') FROM t"), "2");
}

#[test]
fn psycopg_rolls_back_and_works_on() {
    let cluster = shared_cluster();
    let endpoint = losing(cluster);
    let said = python(
        endpoint.reads(),
        r#"
import psycopg
with psycopg.connect("") as conn:
    conn.execute("SET work_mem = '7MB'")
    conn.commit()
    for sql in ["SELECT 1", "SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 2"]:
        try:
            conn.execute(sql)
        except psycopg.Error as error:
            print(error.sqlstate, conn.info.transaction_status.name)
    conn.rollback()
    print(conn.execute("SHOW work_mem").fetchone()[0])
    try:
        with conn.transaction():
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    except psycopg.Error as error:
        print(error.sqlstate)
    conn.rollback()
    with conn.transaction():
        print(conn.execute("SELECT 'alive'").fetchone()[0])
"#,
    );
    assert_eq!(said, "57P01 INERROR\n25P02 INERROR\n7MB\n57P01\nalive");
    assert_eq!(counted(&endpoint), (2.0, 0.0));
}
