//! What is seen of where requests go: counts, the log of statements, `trunkline explain` and `trunkline status`.

use std::time::Instant;

use serde_json::Value;

use super::*;

/// The record of the log of statements whose SQL has this in it.
#[track_caller]
fn record(endpoint: &Endpoint, marker: &str) -> Value {
    let found = || {
        let log = endpoint.log();
        let line = log.lines().rfind(|line| line.contains(marker));
        line.and_then(|line| serde_json::from_str::<Value>(line).ok())
    };
    eventually(PATIENCE, &format!("{marker:?} is logged"), || found().is_some());
    found().unwrap()
}

#[test]
fn the_log_says_why_each_statement_went_where_it_did() {
    let endpoint =
        endpoint(shared_cluster()).flag("--log-statements", "0").flag("--log-format", "json").start();
    let role = PoolRole::create(shared_cluster(), "of_records");
    let mut wire = role.connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut wire, "SELECT 'a proven read'");
    run(&mut wire, "SHOW search_path -- 'no read'");
    run(&mut wire, "BEGIN");
    run(&mut wire, "SELECT 'in a transaction'");
    run(&mut wire, "COMMIT");
    run(&mut wire, "LISTEN records");
    run(&mut wire, "SELECT 'behind LISTEN'");
    let proven = record(&endpoint, "a proven read");
    assert_eq!(proven["route.reason"], "proven");
    assert!(proven["server.name"].as_str().unwrap().starts_with("replica"), "{proven}");
    assert!(proven["route.lsn"].as_str().unwrap().contains('/'), "{proven}");
    assert!(proven["route.behind_us"].is_u64(), "{proven}");
    for (marker, reason) in [
        ("no read", "unknown"),
        ("in a transaction", "transaction"),
        ("LISTEN records", "unknown"),
        ("behind LISTEN", "kept"),
    ] {
        let record = record(&endpoint, marker);
        assert_eq!((&record["route.reason"], &record["server.name"]), (&reason.into(), &"primary".into()));
        assert!(record.get("route.lsn").is_none(), "{record}");
    }
    let mut elsewhere = role.connect(endpoint.reads());
    run(&mut elsewhere, "SELECT 'by the port for reads'");
    assert!(record(&endpoint, "by the port for reads").get("route.reason").is_none());
}

#[test]
fn a_request_that_a_replica_has_refused_counts_once_and_is_learnt_until_its_function_changes() {
    // What others create would have it forgotten.
    let cluster = &own_cluster(2);
    let role = PoolRole::create(cluster, "of_lessons");
    let function = |body: &str| {
        let head = "CREATE OR REPLACE FUNCTION learn(n int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS";
        sql(cluster, &format!("{head} $$ BEGIN {body} RETURN n; END $$"));
    };
    sql(cluster, "CREATE TABLE learnt (n int)");
    function("INSERT INTO learnt VALUES (n);");
    let endpoint = endpoint(cluster).with_admin().start();
    let mut wire = role.connect(endpoint.writes());
    let other = "SELECT count(*) FROM pg_class";
    reads_on_replica(&endpoint, &mut wire, other);
    eventually(PATIENCE, "a replica is asked", || {
        let reason = reason_of(&endpoint, &mut wire, "SELECT learn(1)");
        assert!(!reason.contains(' '), "it counts twice: {reason}");
        let is_refused = reason == "refused";
        if !is_refused {
            // Until a replica shows what that has written.
            reads_on_replica(&endpoint, &mut wire, other);
        }
        is_refused
    });
    eventually(PATIENCE, "it is learnt", || endpoint.counted("trunkline_requests_learned") == 1);
    let status = endpoint.admin(&["status"]).1;
    let routed = status.lines().find(|line| line.starts_with("routed    ")).unwrap();
    assert!(routed.contains(" % on replicas (") && routed.ends_with("; 1 learned"), "{status}");
    assert_eq!(explained(&endpoint, &["SELECT learn(2)"])["reason"], "learned");
    function("");
    reads_on_replica(&endpoint, &mut wire, "SELECT learn(2)");
}

/// What `trunkline explain` says.
#[track_caller]
fn explained(endpoint: &Endpoint, arguments: &[&str]) -> Value {
    let (status, said) = endpoint.admin(&[&["explain", "--json"], arguments].concat());
    assert_eq!(status, Some(0), "{said}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn what_decides_where_a_request_goes_is_explained() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_explanations");
    sql(
        cluster,
        "CREATE TABLE explained (n int);
         CREATE FUNCTION tells() RETURNS boolean LANGUAGE sql AS $$ SELECT pg_is_in_recovery() $$;
         CREATE VIEW telling AS SELECT tells() AS it",
    );
    let endpoint = endpoint(cluster).with_admin().start();
    let (status, said) = endpoint.admin(&["explain", "SELECT 1"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the database has to be named: no session uses any now"), "{said}");
    eventually(PATIENCE, "the catalog is read without a session, too", || {
        explained(&endpoint, &["SELECT n FROM explained", "--database", "appdb"])["reason"] == "proven"
    });
    let mut wire = role.connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut wire, "SELECT 1");
    let (_, said) = endpoint.admin(&["explain", "SELECT 1", "--listener", "writes"]);
    assert!(
        said.starts_with("to      replica1 or replica2\nreason  proven\nwhy     it only reads"),
        "{said}"
    );
    for (sql, reason, because) in [
        ("BEGIN READ ONLY", "transaction", "it begins a transaction"),
        ("insert into explained values (1)", "unknown", "INSERT does more than read"),
        ("SELECT n FROM explained FOR UPDATE", "unknown", "UPDATE does more than read"),
        ("SELECT it FROM telling", "unknown", "by telling it uses what a replica does differently: "),
        ("SELECT tells()", "unknown", "pg_is_in_recovery"),
        ("SELECT * FROM never_made", "unknown", "never_made is not in the catalog of database appdb"),
    ] {
        let explained = explained(&endpoint, &[sql]);
        assert_eq!((&explained["reason"], &explained["servers"][0]), (&reason.into(), &"primary".into()));
        assert!(explained["because"].as_str().unwrap().contains(because), "{sql}: {explained}");
        assert_eq!(reason_of(&endpoint, &mut wire, sql), reason, "a session says the same of {sql}");
        wire.query("ROLLBACK");
    }
    let (status, said) = endpoint.admin(&["explain", "SELECT 1", "--listener", "reads"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the listener has to be one with route = \"statement\": writes"), "{said}");
}

#[test]
fn what_the_primary_runs_since_a_connection_is_too_young_counts_as_a_write() {
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_young");
    sql(
        &cluster,
        "CREATE TABLE put_by_view (n int);
         CREATE FUNCTION put_one() RETURNS int LANGUAGE sql SECURITY DEFINER AS
         $$ INSERT INTO put_by_view VALUES (1) RETURNING n $$;
         CREATE VIEW putting AS SELECT put_one() AS n;
         GRANT SELECT ON put_by_view, putting TO of_young",
    );
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster).start();
    let (mut other, read) = (Login::default().connect(endpoint.writes()), "SELECT count(*) FROM put_by_view");
    let mut wire = role.connect(endpoint.writes());
    // It gives the connection of its login back, and what it may have written with it is known when that of the other is.
    for wire in [&mut wire, &mut other] {
        run(wire, "SHOW search_path");
    }
    reads_on_replica(&endpoint, &mut other, read);
    cluster.replicas.iter().for_each(|replica| replica.pause_replay().unwrap());
    // The first connection of this user to a replica is opened for it.
    assert_eq!(wire.value("SELECT n FROM putting"), "1");
    // Health looks at the replicas meanwhile.
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        assert_eq!(wire.value(read), "1");
    }
    reads_on_replica(&endpoint, &mut other, read);
    assert_eq!(wire.value(read), "1");
}
