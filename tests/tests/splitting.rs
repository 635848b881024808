//! One port for reads and writes: requests that read go to replicas, all else to the primary, and a session reads what it has
//! written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "splitting/seen.rs"]
mod seen;

use std::collections::BTreeMap;
use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_codec::write;
use trunkline_tests::{Answer, Endpoint, EndpointBuilder, Login, PoolRole, Wire, eventually, http_get};
use trunkline_tests::{own_cluster, shared_cluster};

#[path = "splitting/session_mode.rs"]
mod session_mode;

const PATIENCE: Duration = Duration::from_secs(60);

/// Its listener for writes splits. Sessions share four connections of a pool, or have their own: what is promised is the same.
fn endpoint(cluster: &Cluster) -> EndpointBuilder {
    let listener =
        "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";
    // A replica whose replay is paused stays eligible throughout.
    let builder = Endpoint::over(cluster).pooling(4).toml(listener).key("health.max_lag", "\"600s\"");
    builder.key("pool.pool_mode", &format!("\"{}\"", pool_mode()))
}

/// That of `TRUNKLINE_TEST_POOL_MODE`, by which the whole suite runs in either. Without, tests are dealt out to both by their names.
fn pool_mode() -> String {
    let dealt = |name: &str| if name.len().is_multiple_of(2) { "session" } else { "transaction" };
    let this = std::thread::current();
    std::env::var("TRUNKLINE_TEST_POOL_MODE")
        .unwrap_or_else(|_unset| dealt(this.name().unwrap_or_default()).into())
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

/// Waits until this read goes to a replica: the catalog was read, and some replica shows enough.
#[track_caller]
fn reads_on_replica(endpoint: &Endpoint, wire: &mut Wire, read: &str) {
    eventually(PATIENCE, "the read goes to a replica", || {
        let before = count(endpoint, "proven");
        run(wire, read);
        count(endpoint, "proven") > before
    });
}

/// Why this request went where it did: it counts once, behind its answer if a replica has run it.
#[track_caller]
fn reason_of(endpoint: &Endpoint, wire: &mut Wire, sql: &str) -> String {
    let all = |routed: &BTreeMap<String, u64>| routed.values().sum::<u64>();
    let (before, mut after) = (routed(endpoint), BTreeMap::new());
    wire.query(sql);
    eventually(PATIENCE, "the request is counted", || {
        after = routed(endpoint);
        all(&after) > all(&before)
    });
    let grown = |reason: &&String| after[*reason] > before.get(*reason).copied().unwrap_or_default();
    after.keys().filter(grown).cloned().collect::<Vec<_>>().join(" ")
}

#[test]
fn reads_go_to_replicas_and_all_else_to_the_primary() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_reasons");
    sql(cluster, "CREATE TABLE plain_reads AS SELECT 1 AS n; GRANT ALL ON plain_reads TO of_reasons");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut wire, "SELECT n FROM plain_reads");
    let cases = [
        ("VALUES (1)", "proven"),
        ("TABLE plain_reads", "proven"),
        ("(SELECT n FROM plain_reads) UNION (SELECT 2);", "proven"),
        ("/* to read */ WITH a AS (SELECT n FROM plain_reads) SELECT count(*) FROM a", "proven"),
        ("SELECT n FROM plain_reads FOR UPDATE", "unknown"),
        ("SELECT pg_is_in_recovery()", "unknown"),
        ("SELECT 1; SELECT 2", "unknown"),
        ("SHOW transaction_read_only", "unknown"),
        ("EXPLAIN SELECT 1", "unknown"),
        ("SET TimeZone = 'UTC'", "unknown"),
        ("", "unknown"),
    ];
    for (sql, reason) in cases {
        // A look of the catalog may be due.
        if reason == "proven" {
            reads_on_replica(&endpoint, &mut wire, sql);
        } else {
            assert_eq!(reason_of(&endpoint, &mut wire, sql), reason, "{sql}");
        }
    }
    assert_eq!(reason_of(&endpoint, &mut wire, "BEGIN"), "transaction");
    run(&mut wire, "COMMIT");
    run(&mut wire, "SET default_transaction_isolation = 'serializable'");
    assert_eq!(reason_of(&endpoint, &mut wire, "SELECT n FROM plain_reads"), "session");
    assert_eq!(wire.parameters["in_hot_standby"], "off", "the client knows of the primary only");
}

#[test]
fn who_reads_on_a_replica_is_told_so_whoever_had_its_connection() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_replicas");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    for n in 0..40 {
        reads_on_replica(&endpoint, &mut wire, &format!("SELECT {n}"));
    }
    assert_eq!(wire.parameters["in_hot_standby"], "off", "the client knows of the primary only");
    for _ in 0..8 {
        let mut reader = role.connect(endpoint.reads());
        assert_eq!(reader.value("SELECT pg_is_in_recovery()"), "t");
        assert_eq!(reader.parameters["in_hot_standby"], "on");
    }
}

#[test]
fn a_session_reads_what_it_has_written_however_far_replicas_are_behind() {
    let cluster = own_cluster(2);
    sql(&cluster, "CREATE TABLE written (n int)");
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.writes());
    let read = "SELECT count(*) FROM written";
    reads_on_replica(&endpoint, &mut wire, read);
    cluster.replicas[0].pause_replay().unwrap();
    for n in 1..=30 {
        run(&mut wire, "INSERT INTO written VALUES (1)");
        assert_eq!(wire.value(read), n.to_string(), "with one replica behind");
    }
    reads_on_replica(&endpoint, &mut wire, read);
    assert_eq!(wire.value(read), "30", "the other replica shows it");
    cluster.replicas[1].pause_replay().unwrap();
    run(&mut wire, "SET synchronous_commit = off");
    for n in 31..=60 {
        fine(&wire.extended("INSERT INTO written VALUES ($1)", &["1"]));
        assert_eq!(wire.extended(read, &[]).value(), n.to_string(), "with both replicas behind");
    }
    let proven = count(&endpoint, "proven");
    assert_eq!(wire.value(read), "60");
    assert_eq!(count(&endpoint, "proven"), proven, "no replica shows it");
    // Another session has written nothing, and need not see it.
    let mut other = Login::default().connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut other, read);
    cluster.replicas.iter().for_each(|replica| replica.resume_replay().unwrap());
    reads_on_replica(&endpoint, &mut wire, read);
    assert_eq!(wire.value(read), "60");
}

#[test]
fn a_function_that_writes_is_refused_once_and_then_known() {
    // What others create would have it forgotten.
    let cluster = &own_cluster(2);
    let role = PoolRole::create(cluster, "of_refusals");
    sql(
        cluster,
        "CREATE TABLE noted (n int);
         CREATE FUNCTION note(n int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN RAISE NOTICE 'noted'; INSERT INTO noted VALUES (n); RETURN (SELECT count(*) FROM noted); END $$;
         GRANT SELECT ON noted TO of_refusals",
    );
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut wire, "SELECT count(*) FROM noted");
    let mut noted = 0;
    eventually(PATIENCE, "a replica is asked first", || {
        noted += 1;
        let answer = wire.query("SELECT note(1)");
        assert_eq!(answer.value(), noted.to_string(), "it runs once, on the primary");
        assert_eq!(answer.tags().matches('N').count(), 1, "the notice of the replica is dropped");
        assert_eq!(wire.value("SELECT count(*) FROM noted"), noted.to_string());
        count(&endpoint, "refused") == 1
    });
    for n in 2..=3 {
        noted += 1;
        assert_eq!(wire.value(&format!("SELECT note({n})")), noted.to_string());
    }
    assert!(count(&endpoint, "learned") > 0 && count(&endpoint, "refused") == 1, "{:?}", routed(&endpoint));
    // In a series it is another request, refused before anything was forwarded.
    for n in ["4", "5"] {
        noted += 1;
        assert_eq!(wire.extended("SELECT note($1::int)", &[n]).value(), noted.to_string());
    }
    assert_eq!(sql(cluster, "SELECT count(*) FROM noted"), noted.to_string());
}

#[test]
fn a_function_that_no_replica_was_asked_about_counts_as_a_write() {
    let cluster = own_cluster(2);
    sql(
        &cluster,
        "CREATE TABLE put_there (n int);
         CREATE FUNCTION put(n int) RETURNS int LANGUAGE sql AS $$ INSERT INTO put_there VALUES (n) RETURNING n $$",
    );
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster).with_admin().start();
    let mut wire = Login::of("postgres", "postgres").connect(endpoint.writes());
    let read = "SELECT count(*) FROM put_there";
    reads_on_replica(&endpoint, &mut wire, read);
    let replicas = || cluster.replicas.iter();
    let set = |wanted: &str| {
        for replica in replicas() {
            assert_eq!(endpoint.admin(&[wanted, replica.name()]).0, Some(0), "{wanted}");
        }
    };
    replicas().for_each(|replica| replica.pause_replay().unwrap());
    set("drain");
    let before = count(&endpoint, "no_standby");
    assert_eq!(wire.value("SELECT put(1)"), "1");
    assert!(count(&endpoint, "no_standby") > before, "{:?}", routed(&endpoint));
    set("ready");
    for _ in 0..20 {
        assert_eq!(wire.value(read), "1");
    }
    replicas().for_each(|replica| replica.resume_replay().unwrap());
    reads_on_replica(&endpoint, &mut wire, read);
    assert_eq!(wire.value(read), "1");
}

#[test]
fn what_a_replica_cannot_judge_is_the_primarys() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_judgements");
    sql(
        cluster,
        "CREATE TABLE kept (n int);
         CREATE FUNCTION swallow() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN INSERT INTO kept VALUES (1); RETURN 'kept'; EXCEPTION WHEN OTHERS THEN RETURN 'lost'; END $$;
         CREATE VIEW swallowing AS SELECT swallow() AS how;
         GRANT SELECT ON kept, swallowing TO of_judgements",
    );
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut wire, "SELECT count(*) FROM kept");
    for n in 1..=5 {
        for sql in ["SELECT swallow()", "SELECT how FROM swallowing"] {
            reads_on_replica(&endpoint, &mut wire, "SELECT count(*) FROM kept");
            assert_eq!(wire.value(sql), "kept", "{sql}");
        }
        assert_eq!(wire.value("SELECT count(*) FROM kept"), (2 * n).to_string());
    }
    assert_eq!(count(&endpoint, "refused"), 0, "no replica was asked");
}

#[test]
fn what_belongs_together_stays_together() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_state");
    sql(
        cluster,
        "CREATE TABLE together (n int); GRANT ALL ON together TO of_state; CREATE SEQUENCE ids; GRANT ALL ON ids TO of_state",
    );
    let endpoint = endpoint(cluster).start();
    let [mut wire, mut other] = [(), ()].map(|()| role.connect(endpoint.writes()));
    let read = "SELECT count(*) FROM together";
    fine(&wire.prepare("by_name", read));
    eventually(PATIENCE, "a prepared statement runs on a replica", || {
        let before = count(&endpoint, "proven");
        fine(&wire.execute("by_name", &[]));
        count(&endpoint, "proven") > before
    });
    for n in 1..=5 {
        // A transaction has the primary for all of it.
        run(&mut wire, "BEGIN");
        run(&mut wire, "INSERT INTO together VALUES (1)");
        assert_eq!(wire.execute("by_name", &[]).value(), n.to_string());
        run(&mut wire, "COMMIT");
        assert_eq!(wire.execute("by_name", &[]).value(), n.to_string());
        // So has one text.
        assert_eq!(
            wire.query("SELECT 1; INSERT INTO together VALUES (2); SELECT 3").tags().matches('C').count(),
            3
        );
        run(&mut wire, "DELETE FROM together WHERE n = 2");
    }
    run(&mut wire, "BEGIN READ ONLY");
    assert_eq!(wire.query("INSERT INTO together VALUES (1)").error.unwrap().code, "25006");
    run(&mut wire, "ROLLBACK");
    run(&mut wire, "SET my.tenant = 'a'");
    assert_eq!(wire.value("SELECT current_setting('my.tenant')"), "a");
    assert_eq!(wire.value("SELECT nextval('ids')"), wire.value("SELECT currval('ids')"));
    run(&mut wire, "CREATE TEMP TABLE mine AS SELECT 7 AS n");
    assert_eq!(wire.value("SELECT n FROM mine"), "7");
    assert_eq!(other.value("SELECT pg_try_advisory_lock(1)"), "t");
    assert_eq!(wire.value("SELECT pg_try_advisory_lock(1)"), "f");
    run(&mut wire, "DISCARD ALL");
    run(&mut other, "LISTEN news");
    run(&mut wire, "NOTIFY news");
    eventually(PATIENCE, "the notification comes", || other.query("SELECT 1").tags().contains('A'));
}

#[test]
fn requests_that_are_sent_without_a_wait_are_answered_in_order() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_pipelines");
    sql(cluster, "CREATE TABLE piped (n int); GRANT ALL ON piped TO of_pipelines");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    let read = "SELECT count(*) FROM piped";
    reads_on_replica(&endpoint, &mut wire, read);
    let slow = "SELECT (SELECT count(*) FROM piped) FROM generate_series(1, 200000) AS i OFFSET 199999";
    for n in 1..=20 {
        // Behind a read that is on its way, perhaps on a replica.
        let before: u64 = routed(&endpoint).values().sum();
        wire.send_query(slow);
        eventually(PATIENCE, "the read is on its way", || routed(&endpoint).values().sum::<u64>() > before);
        wire.send_with(|out| {
            for text in ["INSERT INTO piped VALUES (1)", read] {
                write::query(out, text.as_bytes()).unwrap();
            }
        });
        let answers = [(); 3].map(|()| wire.read_answer());
        answers.iter().for_each(fine);
        assert_eq!(answers[0].value(), (n - 1).to_string());
        assert_eq!(answers[2].value(), n.to_string());
    }
    assert_eq!(sql(cluster, "SELECT count(*) FROM piped"), "20");
}

#[test]
fn most_reads_of_a_session_that_writes_now_and_then_run_on_replicas() {
    const ROUNDS: u64 = 10;
    const READS: u64 = 200;
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_load");
    sql(cluster, "CREATE TABLE loaded (who int, n int); GRANT ALL ON loaded TO of_load");
    let endpoint = endpoint(cluster).start();
    reads_on_replica(&endpoint, &mut role.connect(endpoint.writes()), "SELECT count(*) FROM loaded");
    let all = 2 * ROUNDS * READS;
    // A machine that is busy with other things answers late where the primary writes.
    let shares: Vec<u64> = (0..3)
        .map(|turn| {
            let before = count(&endpoint, "proven");
            std::thread::scope(|scope| {
                for who in [2 * turn, 2 * turn + 1] {
                    let port = endpoint.writes();
                    scope.spawn(move || {
                        let mut wire = role.connect(port);
                        for n in 1..=ROUNDS {
                            run(&mut wire, &format!("INSERT INTO loaded VALUES ({who}, {n})"));
                            for _ in 0..READS {
                                let read = format!("SELECT count(*) FROM loaded WHERE who = {who}");
                                assert_eq!(wire.value(&read), n.to_string());
                            }
                        }
                    });
                }
            });
            (count(&endpoint, "proven") - before) * 100 / all
        })
        .collect();
    assert!(shares.iter().any(|share| *share >= 60), "{shares:?} % ran on replicas: {:?}", routed(&endpoint));
}

#[test]
fn reads_go_on_while_the_primary_is_gone_and_writes_on_the_next_one() {
    let cluster = own_cluster(2);
    sql(&cluster, "CREATE TABLE outlived AS SELECT 1 AS n");
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster).start();
    let mut wire = Login::default().connect(endpoint.writes());
    let mut writer = Login::default().connect(endpoint.writes());
    let read = "SELECT count(*) FROM outlived";
    reads_on_replica(&endpoint, &mut wire, read);
    reads_on_replica(&endpoint, &mut writer, read);
    cluster.primary.kill();
    for _ in 0..20 {
        let answer = wire.query(read);
        assert_eq!(answer.error, None, "{:?}", routed(&endpoint));
        assert_eq!(answer.value(), "1");
    }
    cluster.replicas[0].promote().unwrap();
    run(&mut writer, "INSERT INTO outlived VALUES (2)");
    for _ in 0..20 {
        assert_eq!(writer.value(read), "2");
    }
    assert_eq!(cluster.replicas[0].psql(read).unwrap(), "2", "it was done once");
}

#[test]
fn a_read_on_a_replica_is_canceled_there() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_cancels");
    let endpoint = endpoint(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut wire, "SELECT count(*) FROM generate_series(1, 10) AS i");
    let long = "SELECT count(*) FROM generate_series(1, 4000000000) AS i";
    wire.send_query(long);
    let running =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'of_cancels' AND state = 'active'";
    let runs = || cluster.servers().any(|server| server.psql(running).unwrap() == "t");
    eventually(PATIENCE, "it runs", runs);
    wire.cancel(endpoint.writes());
    assert_eq!(wire.read_answer().error.unwrap().code, "57014");
    reads_on_replica(&endpoint, &mut wire, "SELECT count(*) FROM generate_series(1, 10) AS i");
}
