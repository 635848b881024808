//! One port for reads and writes: what reads see of writes, as clients and listeners want it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use trunkline_cluster::Cluster;
use trunkline_tests::{Answer, Endpoint, EndpointBuilder, Login, PoolRole, Wire, eventually, own_cluster};

const PATIENCE: Duration = Duration::from_secs(60);

/// Its listener for writes splits, and has these keys besides.
fn endpoint(cluster: &Cluster, keys: &str) -> EndpointBuilder {
    let listener =
        "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";
    // A replica whose replay is paused stays eligible throughout.
    Endpoint::over(cluster).pooling(4).toml(&format!("{listener}{keys}")).key("health.max_lag", "\"600s\"")
}

fn sql(cluster: &Cluster, text: &str) -> String {
    cluster.primary.psql(text).unwrap()
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

/// Waits until this read goes where it does for this reason.
#[track_caller]
fn goes(endpoint: &Endpoint, wire: &mut Wire, read: &str, reason: &str) {
    let what = format!("{read} goes where it does by {reason}");
    eventually(PATIENCE, &what, || endpoint.reasons_of(|| run(wire, read)) == reason);
}

/// Waits until this read shows that: where a connection to a replica is too young to be sure of, the primary answers.
#[track_caller]
fn shows(wire: &mut Wire, read: &str, value: &str) {
    eventually(PATIENCE, &format!("{read} shows {value}"), || wire.value(read) == value);
}

#[track_caller]
fn is_refused(answer: &Answer, text: &str) {
    let error = answer.error.as_ref().unwrap_or_else(|| panic!("no error in {}", answer.tags()));
    assert_eq!(error.code, "22023", "{}", error.text);
    assert!(error.text.contains(text), "{}", error.text);
}

const COUNT: &str = "SELECT count(*) FROM behind";

/// With an empty table that both replicas have.
fn cluster_with_table() -> Cluster {
    let cluster = own_cluster(2);
    sql(&cluster, "CREATE TABLE behind (n int)");
    cluster.wait_caught_up().unwrap();
    cluster
}

fn pause(cluster: &Cluster) {
    cluster.replicas.iter().for_each(|replica| replica.pause_replay().unwrap());
}

fn resume(cluster: &Cluster) {
    cluster.replicas.iter().for_each(|replica| replica.resume_replay().unwrap());
}

#[test]
fn a_read_behind_a_write_waits_for_a_replica_where_that_is_wanted() {
    let cluster = cluster_with_table();
    let keys = "read_your_writes = \"wait\"\nread_your_writes_wait = \"60s\"\n";
    let endpoint = endpoint(&cluster, keys).start();
    let mut wire = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    let mut written = 0;
    // Where a connection to a replica is too young to be sure of, the primary answers.
    eventually(PATIENCE, "a replica has the read once it shows enough", || {
        pause(&cluster);
        run(&mut wire, "INSERT INTO behind VALUES (1)");
        written += 1;
        let reasons = endpoint.reasons_of(|| {
            wire.send_query(COUNT);
            // The primary would have answered before this is done.
            resume(&cluster);
            assert_eq!(wire.read_answer().value(), written.to_string());
        });
        reasons == "proven"
    });
    // One after the other, as a pipeline has them: the wait holds up what is behind it.
    pause(&cluster);
    run(&mut wire, "INSERT INTO behind VALUES (1)");
    wire.send_query(COUNT);
    wire.send_query("INSERT INTO behind VALUES (1)");
    wire.send_query(COUNT);
    resume(&cluster);
    let answers = [(); 3].map(|()| wire.read_answer());
    answers.iter().for_each(fine);
    let values = [answers[0].value(), answers[2].value()];
    assert_eq!(values, [written + 1, written + 2].map(|n| n.to_string()));
}

#[test]
fn what_only_sets_or_shows_settings_is_no_write_to_wait_for() {
    let cluster = cluster_with_table();
    let endpoint = endpoint(&cluster, "").start();
    let mut wire = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    pause(&cluster);
    // Of another session: the primary writes where no replica is.
    sql(&cluster, "INSERT INTO behind VALUES (1)");
    for set in [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET search_path = public",
        "SHOW search_path",
        "RESET search_path",
    ] {
        run(&mut wire, set);
        goes(&endpoint, &mut wire, COUNT, "proven");
        assert_eq!(wire.value(COUNT), "0", "{set}");
    }
    fine(&wire.extended("SET default_transaction_read_only = off", &[]));
    goes(&endpoint, &mut wire, COUNT, "proven");
    run(&mut wire, "INSERT INTO behind VALUES (1)");
    goes(&endpoint, &mut wire, COUNT, "floor");
    assert_eq!(wire.value(COUNT), "2");
    resume(&cluster);
}

#[test]
fn a_read_that_has_waited_in_vain_goes_to_the_primary() {
    let cluster = cluster_with_table();
    let keys = "read_your_writes = \"wait\"\nread_your_writes_wait = \"1s\"\n";
    let endpoint = endpoint(&cluster, keys).start();
    let mut wire = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    pause(&cluster);
    for n in 1..=3 {
        run(&mut wire, "INSERT INTO behind VALUES (1)");
        let began = Instant::now();
        let reasons = endpoint.reasons_of(|| assert_eq!(wire.value(COUNT), n.to_string()));
        assert_eq!(reasons, "floor");
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    }
    run(&mut wire, "SET trunkline.read_your_writes = session");
    assert_eq!(endpoint.reasons_of(|| assert_eq!(wire.value(COUNT), "3")), "floor");
    // It sees what it has written again once it asks for that.
    run(&mut wire, "SET trunkline.read_your_writes = off");
    goes(&endpoint, &mut wire, COUNT, "proven");
    shows(&mut wire, COUNT, "0");
    assert_eq!(wire.value(&format!("/* trunkline.read_your_writes=session */ {COUNT}")), "3");
    run(&mut wire, "RESET trunkline.read_your_writes");
    assert_eq!(wire.value(COUNT), "3");
    is_refused(&wire.query("SET trunkline.read_your_writes = on"), "It must be session, wait or off.");
    resume(&cluster);
    goes(&endpoint, &mut wire, COUNT, "proven");
    assert_eq!(wire.value(COUNT), "3");
}

#[test]
fn a_read_that_waits_for_a_replica_is_canceled_and_ends_with_its_client() {
    let cluster = cluster_with_table();
    let role = PoolRole::create(&cluster, "of_waits");
    sql(&cluster, "GRANT ALL ON behind TO of_waits");
    let keys = "read_your_writes = \"wait\"\nread_your_writes_wait = \"60s\"\n";
    let endpoint = endpoint(&cluster, keys).start();
    let mut wire = role.connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    pause(&cluster);
    run(&mut wire, "INSERT INTO behind VALUES (1)");
    let (packet, is_over) = (wire.cancel_packet(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A request that comes before the read waits is for nothing.
            while !is_over.load(Ordering::Relaxed) {
                let mut canceler = Wire::connect(endpoint.writes());
                canceler.send(&packet);
                assert!(canceler.read_to_end().is_some(), "the proxy ends it");
            }
        });
        let answer = wire.query(COUNT);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(answer.error.unwrap().code, "57014");
    });
    run(&mut wire, "INSERT INTO behind VALUES (1)");
    wire.send_query(COUNT);
    drop(wire);
    eventually(Duration::from_secs(30), "the session has ended", || endpoint.pooled("cl_active", role) == 0);
    assert_eq!(sql(&cluster, COUNT), "2");
}

#[test]
fn a_session_that_may_read_old_data_writes_and_reads_without_a_wait() {
    let cluster = cluster_with_table();
    let endpoint = endpoint(&cluster, "read_your_writes = \"off\"\n").start();
    let mut wire = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    pause(&cluster);
    for _ in 0..10 {
        run(&mut wire, "INSERT INTO behind VALUES (1)");
        assert_eq!(endpoint.reasons_of(|| assert_eq!(wire.value(COUNT), "0")), "proven");
    }
    // What no replica has yet is the primary's.
    run(&mut wire, "CREATE TABLE newer AS SELECT 7 AS n");
    assert_eq!(wire.value("SELECT n FROM newer"), "7");
    let mut strict =
        Login::default().with("trunkline.read_your_writes", "session").connect(endpoint.writes());
    run(&mut strict, "INSERT INTO behind VALUES (1)");
    assert_eq!(strict.value(COUNT), "11");
    resume(&cluster);
}

/// What the primary has written, as the text of a position.
fn written(cluster: &Cluster) -> String {
    sql(cluster, "INSERT INTO behind VALUES (1)");
    sql(cluster, "SELECT pg_current_wal_insert_lsn()")
}

#[test]
fn a_position_that_a_client_brings_is_shown_by_its_reads() {
    let cluster = cluster_with_table();
    let endpoint = endpoint(&cluster, "").start();
    let [mut wire, first, second] = [(); 3].map(|()| Login::default().connect(endpoint.writes()));
    let mut others = [first, second];
    // The primary runs without a word what a replica has run for the session.
    goes(&endpoint, &mut wire, COUNT, "proven");
    others.iter_mut().for_each(|other| goes(&endpoint, other, COUNT, "proven"));
    pause(&cluster);
    let lsn = written(&cluster);
    // Another session has written it.
    shows(&mut wire, COUNT, "0");
    for (mut wire, value) in others.into_iter().zip([lsn.clone(), format!("1/{lsn}")]) {
        let hinted = format!("/*trunkline.min_lsn='{}'*/ {COUNT}", value.replace('/', "%2F"));
        assert_eq!(endpoint.reasons_of(|| assert_eq!(wire.value(&hinted), "1")), "floor");
        shows(&mut wire, COUNT, "0");
        // A SET is a write, which its own session sees from then on.
        run(&mut wire, &format!("SET trunkline.min_lsn = '{value}'"));
        assert_eq!(endpoint.reasons_of(|| assert_eq!(wire.value(COUNT), "1")), "floor");
        assert_eq!(wire.extended(COUNT, &[]).value(), "1");
        let mut own = Login::default().with("trunkline.min_lsn", &value).connect(endpoint.writes());
        assert_eq!(own.value(COUNT), "1");
    }
    // Of a timeline that has ended, it is the primary's for good.
    let of_past = format!("/* trunkline.min_lsn=0/{lsn} */ {COUNT}");
    assert_eq!(wire.value(&of_past), "1");
    run(&mut wire, &format!("SET trunkline.min_lsn = '{lsn}'"));
    resume(&cluster);
    goes(&endpoint, &mut wire, COUNT, "proven");
    assert_eq!(wire.value(COUNT), "1");
    goes(&endpoint, &mut wire, &of_past, "floor");
    // A later one, from elsewhere, that this proxy has not heard of.
    let later = written(&cluster);
    assert_eq!(wire.value(&format!("/* trunkline.min_lsn={later} */ {COUNT}")), "2");
}

#[test]
fn a_position_that_nobody_has_written_is_an_error_at_once() {
    let cluster = cluster_with_table();
    let endpoint = endpoint(&cluster, "").start();
    let mut wire = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    for beyond in ["FFFFFFFF/FFFFFFFF", "1/FFFFFFFF/0", "7/0/0"] {
        let hinted = format!("/* trunkline.min_lsn={beyond} */ {COUNT}");
        is_refused(&wire.query(&hinted), &format!("{beyond} is beyond the end of the write-ahead log"));
        is_refused(&wire.extended(&hinted, &[]), "is beyond");
        assert_eq!(wire.value(COUNT), "0", "the session goes on");
        run(&mut wire, &format!("SET trunkline.min_lsn = '{beyond}'"));
        is_refused(&wire.query(COUNT), "is beyond");
        run(&mut wire, "BEGIN");
        assert_eq!(wire.value(COUNT), "0", "a transaction is the primary's");
        run(&mut wire, "COMMIT");
        run(&mut wire, "SET trunkline.min_lsn = ''");
        goes(&endpoint, &mut wire, COUNT, "proven");
    }
    is_refused(&wire.query("SET trunkline.min_lsn = '12'"), "It must be a WAL position such as");
}

#[test]
fn reads_see_nothing_that_is_older_than_the_client_wants() {
    let cluster = cluster_with_table();
    let endpoint = endpoint(&cluster, "").start();
    let mut wire = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    run(&mut wire, "SET trunkline.max_staleness = 0");
    goes(&endpoint, &mut wire, COUNT, "floor");
    run(&mut wire, "SET trunkline.max_staleness = '30s'");
    goes(&endpoint, &mut wire, COUNT, "proven");
    run(&mut wire, "SET trunkline.max_staleness = '3s'");
    goes(&endpoint, &mut wire, COUNT, "proven");
    pause(&cluster);
    sql(&cluster, "INSERT INTO behind VALUES (1)");
    eventually(PATIENCE, "the replicas are too old", || {
        sql(&cluster, "INSERT INTO behind VALUES (1)");
        endpoint.reasons_of(|| run(&mut wire, COUNT)) == "floor"
    });
    let all = sql(&cluster, COUNT);
    assert_eq!(wire.value(COUNT), all);
    shows(&mut wire, &format!("/* trunkline.max_staleness=1h */ {COUNT}"), "0");
    resume(&cluster);
    goes(&endpoint, &mut wire, COUNT, "proven");
    assert_eq!(wire.value(COUNT), all);
    is_refused(
        &wire.query("SET trunkline.max_staleness = 'soon'"),
        "It must be a whole number of milliseconds",
    );
}

/// A read whose replica dies, and whose other replica is behind what it has shown, waits for the primary like any other.
#[test]
fn a_read_that_has_lost_its_replica_waits_its_turn_on_the_primary() {
    const SLOW: &str = "SELECT count(*) FROM behind, generate_series(1, 5000) a, generate_series(1, 5000) b";
    let cluster = cluster_with_table();
    let [first, second] = &cluster.replicas[..] else { panic!("two replicas") };
    let endpoint = endpoint(&cluster, "").pooling(1).start();
    let mut wire = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut wire, COUNT, "proven");
    second.pause_replay().unwrap();
    sql(&cluster, "INSERT INTO behind VALUES (1)");
    first.wait_until("the row is there", "SELECT count(*) = 1 FROM behind").unwrap();
    eventually(PATIENCE, "the read runs on the first replica, which has shown the row", || {
        if wire.value(COUNT) == "0" {
            return false;
        }
        wire.send_query(SLOW);
        let runs =
            format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND query = '{SLOW}'");
        eventually(PATIENCE, "the read runs", || {
            [first, second].iter().any(|replica| replica.psql(&runs).unwrap() == "t")
        });
        let is_first = first.psql(&runs).unwrap() == "t";
        if !is_first {
            fine(&wire.read_answer());
        }
        is_first
    });
    let mut holder = Login::default().connect(endpoint.writes());
    run(&mut holder, "BEGIN");
    run(&mut holder, "SELECT 1");
    first.kill();
    eventually(PATIENCE, "the other replica is behind", || {
        endpoint.log().contains("server has not replayed what the session has seen")
    });
    run(&mut holder, "COMMIT");
    assert_eq!(wire.read_answer().value(), "25000000");
}
