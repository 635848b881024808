//! One port for reads and writes: clients that are told up to where they have written, for others to read that.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_codec::write;
use trunkline_tests::{
    Answer, Endpoint, EndpointBuilder, Login, PoolRole, Wire, eventually, own_cluster, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(60);

const LISTENER: &str =
    "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";

/// Its listener for writes splits, in this mode of pools.
fn endpoint(cluster: &Cluster, mode: &str) -> EndpointBuilder {
    // A replica whose replay is paused stays eligible throughout.
    let endpoint = Endpoint::over(cluster).pooling(4).toml(LISTENER).key("health.max_lag", "\"600s\"");
    endpoint.key("pool.pool_mode", &format!("\"{mode}\""))
}

/// A client that is told positions.
fn told() -> Login {
    Login::default().with("trunkline.report_lsn", "on")
}

fn sql(cluster: &Cluster, text: &str) -> String {
    cluster.primary.psql(text).unwrap()
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

/// The positions that an answer tells.
fn positions(answer: &Answer) -> Vec<String> {
    let statuses = answer.messages.iter().filter(|message| message.tag == b'S');
    let texts = statuses.map(|message| String::from_utf8(message.body.clone()).unwrap());
    texts
        .filter_map(|text| Some(text.strip_prefix("trunkline.lsn\0")?.strip_suffix('\0')?.to_owned()))
        .collect()
}

/// The one position that an answer tells, right before its end.
#[track_caller]
fn position(answer: &Answer) -> String {
    assert_eq!(answer.error, None);
    assert!(answer.tags().ends_with("SZ"), "{}", answer.tags());
    let [position] = &positions(answer)[..] else { panic!("{:?}", positions(answer)) };
    position.clone()
}

#[track_caller]
fn silent(answer: &Answer) {
    assert_eq!(answer.error, None);
    assert_eq!(positions(answer), Vec::<String>::new());
}

const COUNT: &str = "SELECT count(*) FROM told";
const INSERT: &str = "INSERT INTO told VALUES (1)";

/// With an empty table that both replicas have.
fn cluster_with_table() -> Cluster {
    let cluster = own_cluster(2);
    sql(&cluster, "CREATE TABLE told (n int)");
    cluster.wait_caught_up().unwrap();
    cluster
}

#[test]
fn another_session_reads_what_was_written_up_to_the_position_that_its_writer_was_told() {
    for mode in ["transaction", "session"] {
        let cluster = cluster_with_table();
        let [first, second] = [(); 2].map(|()| endpoint(&cluster, mode).start());
        let mut writer = told().connect(first.writes());
        let mut readers = [&first, &second].map(|endpoint| Login::default().connect(endpoint.writes()));
        goes(&first, &mut readers[0], COUNT, "proven");
        goes(&second, &mut readers[1], COUNT, "proven");
        cluster.replicas.iter().for_each(|replica| replica.pause_replay().unwrap());
        let mut lsn = position(&writer.query(INSERT));
        assert_eq!(writer.parameters["trunkline.lsn"], lsn);
        for (wire, endpoint) in readers.iter_mut().zip([&first, &second]) {
            // Where a connection to a replica is too young to be sure of, the primary answers.
            eventually(PATIENCE, "a replica does not show it", || wire.value(COUNT) == "0");
            let hinted = format!("/* trunkline.min_lsn={lsn} */ {COUNT}");
            assert_eq!(endpoint.reasons_of(|| assert_eq!(wire.value(&hinted), "1")), "floor");
            run(wire, &format!("SET trunkline.min_lsn = '{lsn}'"));
            assert_eq!(wire.value(COUNT), "1");
        }
        cluster.replicas.iter().for_each(|replica| replica.resume_replay().unwrap());
        for (wire, endpoint) in readers.iter_mut().zip([&first, &second]) {
            // What others do to the log lets a replica replay past a position between two records.
            lsn = position(&writer.extended(INSERT, &[]));
            run(wire, &format!("SET trunkline.min_lsn = '{lsn}'"));
            let count = sql(&cluster, COUNT);
            goes(endpoint, wire, COUNT, "proven");
            assert_eq!(wire.value(COUNT), count);
        }
        let beyond = readers[0].query(&format!("/* trunkline.min_lsn=9/{} */ {COUNT}", &lsn[2..]));
        assert_eq!(beyond.error.unwrap().code, "22023", "no timeline of this cluster is that high");
        // Of a timeline that has ended.
        goes(&first, &mut readers[0], &format!("/* trunkline.min_lsn=0/{} */ {COUNT}", &lsn[2..]), "floor");
    }
}

#[test]
fn every_unit_that_may_have_written_is_followed_by_one_position() {
    let cluster = cluster_with_table();
    for mode in ["transaction", "session"] {
        let endpoint = endpoint(&cluster, mode).start();
        let mut wire = told().connect(endpoint.writes());
        let mut last = "1/".to_owned();
        let mut later = |answer: &Answer| {
            let told = position(answer);
            let sql = |lsn: &str| format!("SELECT '{}'::pg_lsn", lsn.trim_start_matches("1/"));
            if last != "1/" {
                assert_eq!(sql_bool(&cluster, &format!("({}) < ({})", sql(&last), sql(&told))), "t");
            }
            last = told;
        };
        later(&wire.query(INSERT));
        later(&wire.extended("INSERT INTO told VALUES ($1)", &["2"]));
        // A pipeline of either protocol.
        (0..3).for_each(|_| wire.send_query(INSERT));
        (0..3).for_each(|_| wire.send_extended(INSERT, &[]));
        wire.send_query("oops");
        wire.send_query(INSERT);
        (0..6).for_each(|_| later(&wire.read_answer()));
        let failed = wire.read_answer();
        assert_eq!(
            (failed.error.unwrap().code.as_str(), failed.messages.last().unwrap().tag),
            ("42601", b'Z')
        );
        later(&wire.read_answer());
        silent(&wire.query("BEGIN"));
        silent(&wire.query(INSERT));
        silent(&wire.extended(INSERT, &[]));
        later(&wire.query("COMMIT"));
        // Rows of a COPY are in no message that ends it.
        wire.send_with(|out| {
            write::query(out, b"COPY told FROM STDIN").expect("short");
            out.extend_from_slice(b"d\0\0\0\x061\nc\0\0\0\x04");
        });
        later(&wire.read_answer());
        goes(&endpoint, &mut wire, COUNT, "proven");
        eventually(PATIENCE, "a replica tells no position", || {
            let mut answer = Answer::default();
            let reasons = endpoint.reasons_of(|| answer = wire.query(COUNT));
            assert_eq!(answer.error, None);
            reasons == "proven" && positions(&answer).is_empty()
        });
    }
}

#[track_caller]
fn sql_bool(cluster: &Cluster, condition: &str) -> String {
    sql(cluster, &format!("SELECT {condition}"))
}

#[test]
fn a_question_for_a_position_leaves_nothing_that_a_client_meets() {
    let cluster = cluster_with_table();
    for mode in ["transaction", "session"] {
        let endpoint = endpoint(&cluster, mode).start();
        let mut wire = told().connect(endpoint.writes());
        // The unnamed statement outlives the question, and so does a named one.
        wire.send_with(|out| {
            write::parse(out, b"", b"INSERT INTO told VALUES (7) RETURNING n", &[]).expect("short");
            write::sync(out);
        });
        position(&wire.read_answer());
        assert_eq!(wire.execute("", &[]).value(), "7");
        position(&wire.prepare("named", "INSERT INTO told VALUES (8) RETURNING n"));
        for _ in 0..3 {
            let answer = wire.execute("named", &[]);
            assert_eq!(answer.value(), "8");
            position(&answer);
        }
        // A failed series does not skip it.
        wire.send_with(|out| {
            write::parse(out, b"", b"INSERT INTO told VALUES (1/0)", &[]).expect("short");
            write::bind(out, b"", b"", std::iter::empty()).expect("short");
            write::execute(out, b"", 0).expect("short");
            write::execute(out, b"", 0).expect("short");
            write::sync(out);
        });
        let failed = wire.read_answer();
        assert_eq!(failed.error.as_ref().unwrap().code, "22012");
        assert_eq!(positions(&failed).len(), 1);
        let names = "SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'wal' OR name ~ 'trunkline: prepare'";
        assert_eq!(wire.value(&format!("{names} AND pg_backend_pid() > 0")), "0");
    }
}

#[test]
fn a_position_that_the_primary_does_not_tell_is_one_that_only_the_primary_shows() {
    let cluster = cluster_with_table();
    let role = PoolRole::create(&cluster, "of_untold");
    sql(
        &cluster,
        "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC; GRANT ALL ON told TO of_untold;
         GRANT EXECUTE ON FUNCTION pg_current_wal_insert_lsn() TO trunkline_monitor",
    );
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster, "transaction").start();
    let mut wire = role.login().with("trunkline.report_lsn", "on").connect(endpoint.writes());
    let mut reader = Login::default().connect(endpoint.writes());
    goes(&endpoint, &mut reader, COUNT, "proven");
    cluster.replicas.iter().for_each(|replica| replica.pause_replay().unwrap());
    for count in 1..=3 {
        let lsn = position(&wire.query(INSERT));
        assert_eq!(lsn, "0/FFFFFFFF/FFFFFFFF");
        assert_eq!(reader.value(&format!("/* trunkline.min_lsn={lsn} */ {COUNT}")), count.to_string());
    }
    cluster.replicas.iter().for_each(|replica| replica.resume_replay().unwrap());
}

#[test]
fn a_session_and_a_transaction_say_whether_positions_are_told() {
    let cluster = shared_cluster();
    let endpoint = endpoint(cluster, "transaction").start();
    let mut wire = Login::default().connect(endpoint.writes());
    const WRITE: &str = "SELECT pg_current_xact_id()";
    silent(&wire.query(WRITE));
    silent(&wire.query("SET trunkline.report_lsn = on"));
    position(&wire.query(WRITE));
    assert_eq!(wire.value("SHOW trunkline.report_lsn"), "on");
    silent(&wire.query("RESET trunkline.report_lsn"));
    silent(&wire.query(WRITE));
    run(&mut wire, "BEGIN");
    silent(&wire.query("SET LOCAL trunkline.report_lsn = on"));
    silent(&wire.query(WRITE));
    position(&wire.query("COMMIT"));
    silent(&wire.query(WRITE));
    run(&mut wire, "BEGIN");
    run(&mut wire, "SET trunkline.report_lsn = on");
    silent(&wire.query("ROLLBACK"));
    silent(&wire.query(WRITE));
    let refused = wire.query("SET trunkline.report_lsn = perhaps").error.unwrap();
    assert_eq!(refused.code, "22023");
    assert!(refused.text.contains("It must be on or off."), "{}", refused.text);
    let refused = Login::default().with("trunkline.report_lsn", "perhaps").try_connect(endpoint.writes());
    assert_eq!(refused.unwrap_err().code, "22023");
    // Another listener accepts it and tells nothing.
    let mut reads = told().connect(endpoint.reads());
    silent(&reads.query("SELECT 1"));
    let mut wire = Login::default().with("options", "-c trunkline.report_lsn=on").connect(endpoint.writes());
    position(&wire.query(WRITE));
    silent(&wire.query("SET trunkline.report_lsn = off"));
    silent(&wire.query(WRITE));
}

/// Such a transaction, of which a replica has run one, only reads on the primary, too; what comes behind its end may write.
#[test]
fn a_write_behind_the_end_of_a_transaction_that_only_reads_is_told_of() {
    let cluster = cluster_with_table();
    let endpoint = endpoint(&cluster, "transaction").start();
    let mut wire = told().connect(endpoint.writes());
    eventually(PATIENCE, "a replica runs the transaction", || {
        let reasons = endpoint.reasons_of(|| {
            for sql in ["BEGIN READ ONLY", COUNT, "COMMIT"] {
                run(&mut wire, sql);
            }
        });
        reasons.contains("proven")
    });
    cluster.replicas.iter().for_each(|replica| replica.pause_replay().unwrap());
    position(&wire.query(INSERT));
    run(&mut wire, "BEGIN READ ONLY");
    assert_eq!(wire.value(COUNT), "1", "the primary has answered");
    position(&wire.query(&format!("COMMIT; {INSERT}")));
    cluster.replicas.iter().for_each(|replica| replica.resume_replay().unwrap());
}
