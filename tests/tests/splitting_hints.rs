//! One port for reads and writes: what clients and the configuration say of where reads go.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_codec::write;
use trunkline_tests::shared_cluster;
use trunkline_tests::{Answer, Endpoint, EndpointBuilder, PoolRole, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

const LISTENER: &str =
    "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";

/// Its listener for writes splits, and has these keys besides.
fn endpoint(cluster: &Cluster, tables: &str) -> EndpointBuilder {
    // A replica whose replay is paused stays eligible throughout.
    Endpoint::over(cluster).pooling(4).toml(&format!("{LISTENER}{tables}")).key("health.max_lag", "\"600s\"")
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

/// Waits until this read goes where it does for this reason: the catalog was read, and some replica shows enough.
#[track_caller]
fn goes(endpoint: &Endpoint, wire: &mut Wire, read: &str, reason: &str) {
    let what = format!("{read} goes where it does by {reason}");
    eventually(PATIENCE, &what, || endpoint.reasons_of(|| run(wire, read)) == reason);
}

#[track_caller]
fn is_refused(answer: &Answer, text: &str) {
    let error = answer.error.as_ref().unwrap_or_else(|| panic!("no error in {}", answer.tags()));
    assert_eq!(error.code, "22023", "{}", error.text);
    assert!(error.text.contains(text), "{}", error.text);
}

const READ: &str = "SELECT n FROM hinted";
const WHERE: &str = "SELECT pg_is_in_recovery() FROM hinted";

/// A role that only one test uses, which may read the table.
fn role(cluster: &Cluster, name: &'static str) -> PoolRole {
    let role = PoolRole::create(cluster, name);
    sql(
        cluster,
        &format!(
            "BEGIN; SELECT pg_advisory_xact_lock(17); CREATE TABLE IF NOT EXISTS hinted AS SELECT 1 AS n;
             GRANT ALL ON hinted TO {name}; COMMIT"
        ),
    );
    cluster.wait_caught_up().unwrap();
    role
}

#[test]
fn a_session_says_where_its_reads_go() {
    let cluster = shared_cluster();
    let role = role(cluster, "of_hints");
    let endpoint = endpoint(cluster, "").start();
    let mut wire = role.connect(endpoint.writes());
    goes(&endpoint, &mut wire, READ, "proven");
    goes(&endpoint, &mut wire, "/* trunkline.route=primary */ SELECT n FROM hinted", "hint");
    goes(&endpoint, &mut wire, READ, "proven");
    assert_eq!(wire.value(WHERE), "f", "the catalog says that a replica answers otherwise");
    let trusted = "/*app='a',trunkline.route='standby'*/ SELECT pg_is_in_recovery() FROM hinted";
    goes(&endpoint, &mut wire, trusted, "trusted");
    assert_eq!(wire.value(trusted), "t");
    run(&mut wire, "SET trunkline.route = 'primary'");
    goes(&endpoint, &mut wire, READ, "hint");
    assert_eq!(wire.value("SHOW trunkline.route"), "primary");
    goes(&endpoint, &mut wire, "/* trunkline.route=auto */ SELECT n FROM hinted", "proven");
    run(&mut wire, "BEGIN; SET trunkline.route = standby; ROLLBACK");
    goes(&endpoint, &mut wire, READ, "hint");
    for back in ["RESET trunkline.route", "RESET ALL", "DISCARD ALL", "SET trunkline.route TO DEFAULT"] {
        run(&mut wire, back);
        goes(&endpoint, &mut wire, READ, "proven");
        run(&mut wire, "SET trunkline.route = 'Primary'");
        goes(&endpoint, &mut wire, READ, "hint");
    }
    run(&mut wire, "SET trunkline.route = standby");
    eventually(PATIENCE, "the read goes to a replica", || wire.value(WHERE) == "t");
    // A transaction is the primary's, whatever is said in it.
    run(&mut wire, "BEGIN");
    run(&mut wire, "SET LOCAL trunkline.route = standby");
    assert_eq!(wire.value(WHERE), "f");
    run(&mut wire, "COMMIT");
    fine(&wire.extended("SELECT set_config('trunkline.route', $1, false)", &["primary"]));
    assert_eq!(wire.extended(WHERE, &[]).value(), "f");
    goes(&endpoint, &mut wire, READ, "hint");
    fine(&wire.prepare("by_name", "/* trunkline.route=standby */ SELECT pg_is_in_recovery() FROM hinted"));
    eventually(PATIENCE, "a prepared statement goes to a replica", || {
        wire.execute("by_name", &[]).value() == "t"
    });
}

#[test]
fn a_startup_packet_says_where_reads_go() {
    let cluster = shared_cluster();
    let role = role(cluster, "of_options");
    let endpoint = endpoint(cluster, "").start();
    goes(&endpoint, &mut role.connect(endpoint.writes()), READ, "proven");
    let mut wire = role.login().with("options", "-c trunkline.route=primary").connect(endpoint.writes());
    goes(&endpoint, &mut wire, READ, "hint");
    assert_eq!(wire.value("SHOW trunkline.route"), "primary");
    run(&mut wire, "SET trunkline.route = auto");
    goes(&endpoint, &mut wire, READ, "proven");
    run(&mut wire, "RESET trunkline.route");
    goes(&endpoint, &mut wire, READ, "hint");
    let refused = role.login().with("trunkline.route", "replica").try_connect(endpoint.writes());
    assert_eq!(refused.unwrap_err().code, "22023");
    // A listener that does not choose for each request accepts the option, which says nothing there.
    let mut elsewhere = role.login().with("trunkline.route", "primary").connect(endpoint.reads());
    assert_eq!(elsewhere.value(WHERE), "t");
}

#[test]
fn a_hint_that_is_not_understood_is_an_error_and_the_session_goes_on() {
    let cluster = shared_cluster();
    let role = role(cluster, "of_mistakes");
    let endpoint = endpoint(cluster, "").start();
    let mut wire = role.connect(endpoint.writes());
    goes(&endpoint, &mut wire, READ, "proven");
    let value = "invalid value for parameter \"trunkline.route\": \"replica\"";
    for sql in [
        "SET trunkline.route = replica",
        "SET SESSION trunkline.route TO 'replica'",
        "/* trunkline.route=replica */ SELECT n FROM hinted",
    ] {
        is_refused(&wire.query(sql), value);
        let answer = wire.extended(sql, &[]);
        is_refused(&answer, "It must be auto, primary or standby.");
        assert_eq!(answer.tags(), "EZ", "one error for all of the series");
        assert_eq!(wire.value(READ), "1");
    }
    wire.send_with(|out| {
        for text in [READ, "/* trunkline.route=replica */ SELECT n FROM hinted", READ] {
            write::query(out, text.as_bytes()).unwrap();
        }
    });
    assert_eq!(wire.read_answer().value(), "1");
    // What is sent with others goes to the primary unread.
    let _either = wire.read_answer();
    assert_eq!(wire.read_answer().value(), "1");
    goes(&endpoint, &mut wire, READ, "proven");
    // Inside a transaction PostgreSQL takes any value: the next read tells.
    run(&mut wire, "BEGIN; SET trunkline.route = replica; COMMIT");
    is_refused(&wire.query(READ), value);
    is_refused(&wire.extended(READ, &[]), value);
    run(&mut wire, "UPDATE hinted SET n = 1");
    run(&mut wire, "RESET trunkline.route");
    goes(&endpoint, &mut wire, READ, "proven");
}

#[test]
fn what_a_client_vouches_for_and_a_replica_refuses_runs_on_the_primary_once() {
    let cluster = shared_cluster();
    let role = role(cluster, "of_trust");
    sql(
        cluster,
        "CREATE TABLE vouched (n int);
         CREATE FUNCTION vouch(n int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN PERFORM pg_is_in_recovery(); INSERT INTO vouched VALUES (n); RETURN (SELECT count(*) FROM vouched); END $$;
         GRANT SELECT ON vouched TO of_trust",
    );
    let endpoint = endpoint(cluster, "").start();
    let mut wire = role.login().with("trunkline.route", "standby").connect(endpoint.writes());
    let mut vouched = 0;
    eventually(PATIENCE, "a replica is asked first", || {
        vouched += 1;
        let reasons = endpoint.reasons_of(|| assert_eq!(wire.value("SELECT vouch(1)"), vouched.to_string()));
        assert_eq!(
            wire.value("SELECT count(*) FROM vouched"),
            vouched.to_string(),
            "it reads what it has written"
        );
        reasons == "refused"
    });
    assert_eq!(sql(cluster, "SELECT count(*) FROM vouched"), vouched.to_string());
    for (text, code) in [("INSERT INTO missing VALUES (1)", "42P01"), ("SELECT 1 FROM missing", "42P01")] {
        assert_eq!(wire.query(text).error.unwrap().code, code, "{text}");
    }
    assert_eq!(wire.query("SELECT 1; SELECT pg_is_in_recovery()").rows[1][0].as_deref(), Some("f"));
}

#[test]
fn the_configuration_says_where_reads_of_a_user_go() {
    let cluster = shared_cluster();
    let [jobs, web] = ["of_jobs", "of_web"].map(|name| role(cluster, name));
    let override_of =
        |hint: &str| format!("[[pool.override]]\nuser = \"of_jobs\"\nroute_hint = \"{hint}\"\n");
    let mut endpoint = endpoint(cluster, &override_of("primary")).with_admin().start();
    goes(&endpoint, &mut web.connect(endpoint.writes()), READ, "proven");
    let mut wire = jobs.connect(endpoint.writes());
    goes(&endpoint, &mut wire, READ, "hint");
    run(&mut wire, "SET trunkline.route = auto");
    goes(&endpoint, &mut wire, READ, "proven");
    let mut own = jobs.login().with("trunkline.route", "auto").connect(endpoint.writes());
    goes(&endpoint, &mut own, READ, "proven");
    endpoint.replace_toml(&format!("{LISTENER}{}", override_of("standby")));
    assert_eq!(endpoint.admin(&["reload"]).0, Some(0));
    let mut later = jobs.connect(endpoint.writes());
    eventually(PATIENCE, "the read goes to a replica", || later.value(WHERE) == "t");
    run(&mut wire, "RESET trunkline.route");
    goes(&endpoint, &mut wire, READ, "hint");
}
