//! One port for reads and writes: a transaction that only reads runs on one replica as a whole, or on the primary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "splitting_transactions/held.rs"]
mod held;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use trunkline_cluster::Cluster;
use trunkline_codec::write;
use trunkline_tests::{Answer, Endpoint, EndpointBuilder, Login, PoolRole, Wire, eventually, http_get};
use trunkline_tests::{own_cluster, shared_cluster};

const PATIENCE: Duration = Duration::from_secs(60);

/// Its listener for writes splits.
fn endpoint(cluster: &Cluster) -> EndpointBuilder {
    let listener =
        "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";
    // A replica whose replay is paused stays eligible throughout.
    Endpoint::over(cluster).pooling(4).toml(listener).key("health.max_lag", "\"600s\"")
}

fn sql(cluster: &Cluster, text: &str) -> String {
    cluster.primary.psql(text).unwrap()
}

/// How many requests went where, by reason.
fn routed(endpoint: &Endpoint) -> BTreeMap<String, u64> {
    let page = http_get(endpoint.http(), "/metrics").unwrap().body;
    let counts =
        page.lines().filter_map(|line| line.strip_prefix("trunkline_requests_routed_total{reason=\""));
    counts
        .map(|line| {
            let (reason, count) = line.split_once("\"} ").unwrap();
            (reason.to_owned(), count.parse().unwrap())
        })
        .collect()
}

fn count(endpoint: &Endpoint, reason: &str) -> u64 {
    routed(endpoint).get(reason).copied().unwrap_or_default()
}

#[track_caller]
fn fine(answer: &Answer) {
    assert_eq!(answer.error, None, "{}", answer.tags());
}

/// Runs `sql`, which must work.
#[track_caller]
fn run(wire: &mut Wire, sql: &str) {
    let answer = wire.query(sql);
    assert_eq!(answer.error, None, "{sql}");
}

#[track_caller]
fn fails(answer: &Answer, code: &str) {
    assert_eq!(answer.error.as_ref().map(|error| &*error.code), Some(code), "{}", answer.tags());
}

/// The transaction status that a request has left.
fn status(answer: &Answer) -> char {
    char::from(answer.messages.last().unwrap().body[0])
}

/// Whether the only request since went to a replica and stayed there.
fn went_to_replica(endpoint: &Endpoint, before: &BTreeMap<String, u64>) -> bool {
    let grown = |reason: &str| count(endpoint, reason) > before.get(reason).copied().unwrap_or_default();
    // Where its connection is too young it is decided twice.
    grown("proven") && !grown("floor") && !grown("refused")
}

/// Waits until this read, the first of such a transaction, goes to a replica, where the transaction stays open.
#[track_caller]
fn begins_on_replica(endpoint: &Endpoint, wire: &mut Wire, begin: &str, read: &str) -> String {
    let mut value = String::new();
    eventually(PATIENCE, "the transaction goes to a replica", || {
        let before = routed(endpoint);
        run(wire, begin);
        value = wire.value(read);
        let is_there = went_to_replica(endpoint, &before);
        if !is_there {
            run(wire, "ROLLBACK");
        }
        is_there
    });
    value
}

/// Where a session is, by the server's own statistics: replicas on which this user is in a transaction.
fn replicas_in_transaction(cluster: &Cluster, user: &str) -> usize {
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND xact_start IS NOT NULL");
    cluster.replicas.iter().filter(|replica| replica.psql(&sql).unwrap() != "0").count()
}

fn primary_in_transaction(cluster: &Cluster, user: &str) -> bool {
    let text =
        format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND xact_start IS NOT NULL");
    sql(cluster, &text) != "0"
}

#[test]
fn a_transaction_that_only_reads_runs_on_one_replica() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_one_replica");
    sql(cluster, "CREATE TABLE read_together AS SELECT 1 AS n; GRANT ALL ON read_together TO of_one_replica");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    let read = "SELECT n FROM read_together";
    for begin in [
        "BEGIN READ ONLY",
        "start transaction isolation level repeatable read, read only;",
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE",
        "BEGIN; SET TRANSACTION READ ONLY",
    ] {
        assert_eq!(begins_on_replica(&endpoint, &mut wire, begin, read), "1");
        let before = routed(&endpoint);
        assert_eq!(replicas_in_transaction(cluster, "of_one_replica"), 1, "{begin}");
        assert!(!primary_in_transaction(cluster, "of_one_replica"), "{begin}");
        // By either protocol, with all that such a transaction may do anywhere.
        assert_eq!(wire.extended("SELECT n + $1::int FROM read_together", &["1"]).value(), "2");
        run(&mut wire, "SAVEPOINT a");
        fails(&wire.query("SELECT 1 / 0"), "22012");
        fails(&wire.query(read), "25P02");
        run(&mut wire, "ROLLBACK TO a");
        run(&mut wire, "SET LOCAL statement_timeout = '1min'");
        assert_eq!(wire.value("SHOW statement_timeout"), "1min");
        run(&mut wire, "DECLARE c CURSOR FOR SELECT n FROM read_together");
        assert_eq!(wire.value("FETCH c"), "1");
        fine(&wire.prepare("kept", "SELECT n + 10 FROM read_together"));
        assert_eq!(wire.execute("kept", &[]).value(), "11");
        let refused = wire.query("INSERT INTO read_together VALUES (2)");
        fails(&refused, "25006");
        assert_eq!(status(&refused), 'E');
        let end = wire.query("COMMIT");
        assert_eq!(status(&end), 'I');
        assert_eq!(routed(&endpoint), before, "it was decided once: {begin}");
        assert_eq!(wire.execute("kept", &[]).value(), "11", "behind it, the statement is there");
        assert_eq!(wire.value("SHOW statement_timeout"), "0");
        wire.query("DEALLOCATE ALL");
    }
    assert_eq!(count(&endpoint, "given_up"), 0);
    assert_eq!(sql(cluster, "SELECT count(*) FROM read_together"), "1");
}

#[test]
fn what_postgresql_says_to_begin_and_what_follows_is_what_the_client_gets() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_answers");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    begins_on_replica(&endpoint, &mut wire, "BEGIN READ ONLY", "SELECT 1");
    run(&mut wire, "ROLLBACK");
    let mut direct = role.connect(cluster.primary.port());
    let texts = [
        "BEGIN READ ONLY",
        "BEGIN",
        "COMMIT",
        "START TRANSACTION READ ONLY",
        "ROLLBACK",
        "ROLLBACK",
        "BEGIN READ ONLY",
        "SET TRANSACTION READ WRITE",
        "SHOW transaction_read_only",
        "COMMIT",
        "BEGIN READ ONLY",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW transaction_isolation",
        "ROLLBACK",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY, DEFERRABLE",
        "SHOW transaction_isolation",
        "COMMIT",
        "BEGIN READ ONLY",
        "SELECT pg_is_in_recovery()",
        "LISTEN of_answers",
        "SHOW transaction_read_only",
        "SELECT 1 / 0",
        "SELECT 1",
        "COMMIT AND CHAIN",
        "BEGIN READ ONLY",
        "SELECT 1",
        "COMMIT AND CHAIN",
        "SHOW transaction_read_only",
        "TABLE missing",
        "ROLLBACK",
        "BEGIN READ ONLY; SELECT 1; COMMIT",
        "BEGIN READ ONLY",
        "",
        "COMMIT",
        "BEGIN; SET TRANSACTION READ ONLY",
        "COMMIT",
    ];
    let shown = |answer: &Answer| {
        let bodies =
            answer.messages.iter().filter(|message| matches!(message.tag, b'C' | b'D' | b'Z' | b'I'));
        let bodies: Vec<_> = bodies.map(|message| (char::from(message.tag), message.body.clone())).collect();
        (bodies, answer.error.as_ref().map(|error| (error.code.clone(), error.text.clone())), answer.tags())
    };
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(shown(&wire.query(text)), shown(&direct.query(text)), "{number}: {text}");
    }
}

#[test]
fn what_a_replica_should_not_run_ends_the_transaction_once() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_ends");
    sql(
        cluster,
        "CREATE TABLE swallowed (n int);
         CREATE FUNCTION swallow_it() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN INSERT INTO swallowed VALUES (1); RETURN 'kept'; EXCEPTION WHEN OTHERS THEN RETURN 'lost'; END $$;
         GRANT SELECT ON swallowed TO of_ends",
    );
    let endpoint = endpoint(cluster).start();
    for (number, later) in [
        "SELECT pg_try_advisory_xact_lock(1)",
        "LISTEN of_ends",
        "SELECT pg_is_in_recovery()",
        "SELECT swallow_it()",
    ]
    .into_iter()
    .enumerate()
    {
        let mut wire = role.connect(endpoint.writes());
        // Each is another transaction.
        let read = format!("SELECT count(*){} FROM swallowed", " + 0".repeat(number));
        begins_on_replica(&endpoint, &mut wire, "BEGIN READ ONLY", &read);
        let answer = wire.query(later);
        fails(&answer, "40001");
        assert_eq!(status(&answer), 'E', "{later}");
        fails(&wire.query(&read), "25P02");
        assert_eq!(status(&wire.query("COMMIT")), 'I', "{later}");
        assert_eq!(replicas_in_transaction(cluster, "of_ends"), 0);
        // The next one begins where it can go on.
        let before = count(&endpoint, "learned");
        run(&mut wire, "BEGIN READ ONLY");
        run(&mut wire, &read);
        assert_eq!(count(&endpoint, "learned"), before + 1, "{later}");
        run(&mut wire, later);
        run(&mut wire, "ROLLBACK");
    }
    assert_eq!(count(&endpoint, "given_up"), 4);
}

#[test]
fn a_hint_that_cannot_be_says_nothing_in_a_transaction_that_has_failed() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_bad_hints");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    let not_for_replicas =
        ["SET trunkline.route = nowhere", "/* trunkline.route=nowhere */ SELECT pg_is_in_recovery()"];
    for (number, later) in not_for_replicas.into_iter().enumerate() {
        // Each is another transaction.
        let read = format!("SELECT 1{}", " + 0".repeat(number));
        begins_on_replica(&endpoint, &mut wire, "BEGIN READ ONLY", &read);
        fails(&wire.query(later), "40001");
        fails(&wire.query(&format!("/* trunkline.route=nowhere */ {read}")), "25P02");
        run(&mut wire, "ROLLBACK");
    }
}

#[test]
fn a_transaction_sees_what_its_session_has_written() {
    let cluster = own_cluster(2);
    sql(&cluster, "CREATE TABLE written (n int)");
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.writes());
    let read = "SELECT count(*) FROM written";
    begins_on_replica(&endpoint, &mut wire, "BEGIN READ ONLY", read);
    run(&mut wire, "COMMIT");
    cluster.replicas.iter().for_each(|replica| replica.pause_replay().unwrap());
    for n in 1..=20 {
        run(&mut wire, "INSERT INTO written VALUES (1)");
        run(&mut wire, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        assert_eq!(wire.value(read), n.to_string());
        assert_eq!(wire.value(read), n.to_string());
        run(&mut wire, "COMMIT");
    }
    // A transaction that has only read, on the primary, is nothing to wait for.
    let lagging = &cluster.replicas[1];
    cluster.replicas[0].resume_replay().unwrap();
    assert_eq!(begins_on_replica(&endpoint, &mut wire, "BEGIN READ ONLY", read), "20");
    run(&mut wire, "COMMIT");
    lagging.resume_replay().unwrap();
}

#[test]
fn a_session_that_only_reads_by_default_needs_no_word_of_it() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_defaults");
    sql(cluster, "CREATE TABLE by_default AS SELECT 1 AS n; GRANT ALL ON by_default TO of_defaults");
    sql(cluster, "ALTER ROLE of_defaults SET default_transaction_read_only = on");
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    assert_eq!(begins_on_replica(&endpoint, &mut wire, "BEGIN", "SELECT n FROM by_default"), "1");
    assert_eq!(wire.value("SHOW transaction_read_only"), "on");
    run(&mut wire, "COMMIT");
    fails(&wire.query("UPDATE by_default SET n = 2"), "25006");
    run(&mut wire, "BEGIN READ WRITE");
    run(&mut wire, "UPDATE by_default SET n = 2");
    run(&mut wire, "COMMIT");
    assert_eq!(begins_on_replica(&endpoint, &mut wire, "BEGIN", "SELECT n FROM by_default"), "2");
    fails(&wire.query("UPDATE by_default SET n = 3"), "25006");
    run(&mut wire, "ROLLBACK");
    run(&mut wire, "SET default_transaction_read_only = off");
    run(&mut wire, "BEGIN");
    run(&mut wire, "UPDATE by_default SET n = 3");
    run(&mut wire, "COMMIT");
}

#[test]
fn a_session_that_makes_its_transactions_read_only_needs_no_word_of_it() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_own_defaults");
    sql(cluster, "CREATE TABLE by_session AS SELECT 1 AS n; GRANT ALL ON by_session TO of_own_defaults");
    let endpoint = endpoint(cluster).start();
    let read = "SELECT n FROM by_session";
    for (on, off) in [
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        ),
        ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
    ] {
        let mut wire = role.connect(endpoint.writes());
        run(&mut wire, on);
        assert_eq!(begins_on_replica(&endpoint, &mut wire, "BEGIN", read), "1", "{on}");
        assert_eq!(replicas_in_transaction(cluster, "of_own_defaults"), 1, "{on}");
        assert_eq!(wire.value("SHOW transaction_read_only"), "on");
        assert_eq!(wire.value("SHOW default_transaction_read_only"), "on");
        fails(&wire.query("UPDATE by_session SET n = 2"), "25006");
        run(&mut wire, "ROLLBACK");
        fails(&wire.query("UPDATE by_session SET n = 2"), "25006");
        eventually(PATIENCE, "what is no transaction goes to a replica", || {
            let before = routed(&endpoint);
            run(&mut wire, read);
            went_to_replica(&endpoint, &before)
        });
        run(&mut wire, off);
        run(&mut wire, "BEGIN");
        run(&mut wire, "UPDATE by_session SET n = 1");
        run(&mut wire, "COMMIT");
    }
}

#[test]
fn a_client_that_begins_and_waits_gets_the_primary() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_waits");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    begins_on_replica(&endpoint, &mut wire, "BEGIN READ ONLY", "SELECT 1");
    run(&mut wire, "COMMIT");
    run(&mut wire, "BEGIN READ ONLY");
    wire.cancel(endpoint.writes());
    eventually(PATIENCE, "the primary has the transaction", || primary_in_transaction(cluster, "of_waits"));
    assert_eq!(wire.value("SHOW transaction_read_only"), "on");
    fails(&wire.query("CREATE TABLE none (n int)"), "25006");
    run(&mut wire, "ROLLBACK");
    // One that leaves it at that has never had a server.
    run(&mut wire, "BEGIN READ ONLY");
    drop(wire);
    let mut wire = role.connect(endpoint.writes());
    assert_eq!(wire.value("SELECT 1"), "1");
}

#[test]
fn a_series_that_begins_a_transaction_and_reads_goes_to_a_replica() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_series");
    sql(cluster, "CREATE TABLE in_series AS SELECT 7 AS n; GRANT ALL ON in_series TO of_series");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    let part = |out: &mut BytesMut, sql: &str, rows: i32| {
        write::parse(out, b"", sql.as_bytes(), &[]).unwrap();
        write::bind(out, b"", b"", std::iter::empty()).unwrap();
        write::execute(out, b"", rows).unwrap();
    };
    eventually(PATIENCE, "the series goes to a replica", || {
        let before = routed(&endpoint);
        wire.send_with(|out| {
            part(out, "BEGIN READ ONLY", 0);
            part(out, "SELECT n FROM in_series", 0);
            write::sync(out);
        });
        let answer = wire.read_answer();
        fine(&answer);
        assert_eq!((answer.value(), status(&answer)), ("7", 'T'));
        let is_there = went_to_replica(&endpoint, &before);
        if !is_there {
            run(&mut wire, "ROLLBACK");
        }
        is_there
    });
    assert_eq!(replicas_in_transaction(cluster, "of_series"), 1);
    // Units that are sent without a wait, the last of which is the primary's: behind the end nothing goes to the replica.
    wire.send_with(|out| {
        part(out, "SELECT n + 1 FROM in_series", 0);
        write::flush(out);
        write::sync(out);
        part(out, "COMMIT", 0);
        write::sync(out);
        part(out, "UPDATE in_series SET n = 8 RETURNING n", 0);
        write::sync(out);
        write::query(out, b"SELECT n FROM in_series").unwrap();
    });
    let answers = [(); 4].map(|()| wire.read_answer());
    answers.iter().for_each(fine);
    assert_eq!([0, 2, 3].map(|number: usize| answers[number].value()), ["8", "8", "8"]);
    assert_eq!(answers.iter().map(status).collect::<String>(), "TIII");
    assert_eq!(count(&endpoint, "given_up"), 0);
}

#[test]
fn the_first_request_is_repeated_and_a_later_one_fails_with_its_replica() {
    let cluster = own_cluster(2);
    sql(&cluster, "CREATE TABLE outlived AS SELECT 1 AS n");
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.writes());
    let read = "SELECT count(*) FROM outlived";
    begins_on_replica(&endpoint, &mut wire, "BEGIN READ ONLY", read);
    let port = |cluster: &Cluster| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        cluster.replicas.iter().position(|replica| replica.psql(sql).unwrap() != "0").unwrap()
    };
    let number = port(&cluster);
    cluster.replicas[number].kill();
    let answer = wire.query(read);
    assert!(answer.error.is_some() && status(&answer) == 'E', "what it has read is lost: {}", answer.tags());
    run(&mut wire, "ROLLBACK");
    // A transaction that has no server yet loses nothing.
    run(&mut wire, "BEGIN READ ONLY");
    cluster.replicas[1 - number].kill();
    assert_eq!(wire.value(read), "1");
    run(&mut wire, "COMMIT");
}
