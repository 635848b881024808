//! A server that refuses to tell something is judged by the rest; managed PostgreSQL is asked in its own words.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;
use std::time::Duration;

use trunkline_cluster::{Cluster, MONITOR_ROLE};
use trunkline_tests::{
    Endpoint, EndpointBuilder, FakeOptions, FakeRow, FakeSays, FakeScript, FakeServer, binary, eventually,
    http_get, own_cluster, psql,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What `/cluster` says of a server: its state and the reason.
fn verdict(endpoint: &Endpoint, name: &str) -> (String, String) {
    let body = http_get(endpoint.http(), "/cluster").expect("the endpoint answers").body;
    let cluster: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    let members = cluster["members"].as_array().expect("a list");
    let member = members.iter().find(|member| member["name"] == name).expect("it is a member");
    let text = |key: &str| member[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// What `trunkline status` prints.
fn status(endpoint: &Endpoint) -> String {
    let http = format!("127.0.0.1:{}", endpoint.http());
    let output = Command::new(binary()).args(["status", "--http", &http]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn await_reason(endpoint: &Endpoint, name: &str, parts: &[&str]) {
    let what = format!("{name} says {parts:?}; it says {:?}", verdict(endpoint, name));
    eventually(PATIENCE, &what, || {
        let (_, reason) = verdict(endpoint, name);
        parts.iter().all(|part| reason.contains(part))
    });
}

/// The functions of PostgreSQL that a platform may refuse, whose verdict says so, and how it names them.
const REFUSABLE: [(&str, &str, &str); 9] = [
    ("pg_control_system()", "replica1", "pg_control_system"),
    ("pg_last_wal_receive_lsn()", "replica1", "pg_last_wal_receive_lsn"),
    ("pg_last_wal_replay_lsn()", "replica1", "pg_last_wal_replay_lsn"),
    ("pg_stat_get_wal_receiver()", "replica1", "pg_stat_wal_receiver"),
    ("pg_get_wal_replay_pause_state()", "replica1", "pg_get_wal_replay_pause_state"),
    ("pg_stat_get_activity(integer)", "replica1", "pg_stat_activity"),
    ("pg_last_xact_replay_timestamp()", "replica1", "pg_last_xact_replay_timestamp"),
    ("pg_current_wal_flush_lsn()", "primary", "pg_current_wal_flush_lsn"),
    ("pg_walfile_name(pg_lsn)", "primary", "pg_walfile_name"),
];

fn refuse(cluster: &Cluster, function: &str) {
    let sql =
        format!("REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC, pg_monitor, {MONITOR_ROLE}");
    cluster.primary.psql(&sql).unwrap();
    cluster.wait_caught_up().unwrap();
}

fn allow(cluster: &Cluster, function: &str) {
    cluster.primary.psql(&format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO PUBLIC")).unwrap();
    cluster.wait_caught_up().unwrap();
}

#[test]
fn each_function_that_a_server_refuses_costs_that_alone() {
    let cluster = own_cluster(1);
    for (function, server, named) in REFUSABLE {
        refuse(&cluster, function);
        let endpoint = Endpoint::over(&cluster).start();
        await_reason(&endpoint, server, &[named, "(42501)", "refused"]);
        assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "replica1", "{function}");
        assert_eq!(psql(endpoint.writes(), "SHOW cluster_name"), "primary", "{function}");
        assert!(status(&endpoint).contains(named), "{}", status(&endpoint));
        drop(endpoint);
        allow(&cluster, function);
    }
}

#[test]
fn functions_refused_while_it_serves_and_all_at_once_take_no_replica_out() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).start();
    let kept =
        |function: &str| !matches!(function, "pg_last_wal_replay_lsn()" | "pg_stat_get_activity(integer)");
    let mut all: Vec<&str> = REFUSABLE.iter().map(|(function, ..)| *function).filter(|f| kept(f)).collect();
    all.extend(["pg_current_wal_lsn()", "pg_control_checkpoint()", "pg_postmaster_start_time()"]);
    // Where the primary tells no position, its standbys' receivers do.
    all.retain(|function| *function != "pg_stat_get_wal_receiver()");
    for function in &all {
        refuse(&cluster, function);
    }
    await_reason(
        &endpoint,
        "replica1",
        &["pg_last_wal_receive_lsn (42501)", "pg_get_wal_replay_pause_state"],
    );
    await_reason(
        &endpoint,
        "primary",
        &["pg_current_wal_flush_lsn", "pg_current_wal_lsn", "pg_walfile_name"],
    );
    endpoint.await_health("replica1", true, PATIENCE);
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "replica1");
    // One that begins with it sees the same.
    let second = Endpoint::over(&cluster).start();
    await_reason(&second, "replica1", &["pg_control_system (42501)", "does not tell its position"]);
    assert!(!second.log().contains("refuses the monitoring role"), "{}", second.log());
}

#[test]
fn a_replica_that_refuses_is_still_seen_to_lag() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    for function in ["pg_last_wal_receive_lsn()", "pg_stat_get_wal_receiver()", "pg_control_system()"] {
        refuse(&cluster, function);
    }
    let endpoint = Endpoint::over(&cluster).start();
    cluster.replicas[0].pause_replay().unwrap();
    cluster.primary.psql("INSERT INTO t VALUES (1)").unwrap();
    await_reason(&endpoint, "replica1", &["at least", "behind", "pg_stat_wal_receiver (42501)"]);
    endpoint.await_health("replica1", false, PATIENCE);
    cluster.replicas[0].resume_replay().unwrap();
    endpoint.await_health("replica1", true, PATIENCE);
}

#[test]
fn an_operators_lag_query_decides() {
    let cluster = own_cluster(1);
    cluster
        .primary
        .psql("CREATE TABLE lag (ms text); INSERT INTO lag VALUES (20); GRANT SELECT ON lag TO PUBLIC")
        .unwrap();
    cluster.wait_caught_up().unwrap();
    let query = "\"SELECT ms FROM public.lag -- how far behind\"";
    let endpoint =
        Endpoint::over(&cluster).key("health.dialect", "\"custom\"").key("health.lag_query", query).start();
    await_reason(&endpoint, "replica1", &["0.02 s behind by lag_query"]);
    cluster.primary.psql("UPDATE lag SET ms = 60000").unwrap();
    await_reason(&endpoint, "replica1", &["at least 60.00 s behind"]);
    cluster.primary.psql("UPDATE lag SET ms = 0").unwrap();
    endpoint.await_health("replica1", true, PATIENCE);
    cluster.primary.psql("UPDATE lag SET ms = NULL").unwrap();
    await_reason(&endpoint, "replica1", &["nothing tells how far behind"]);
    endpoint.await_health("replica1", false, PATIENCE);
    cluster.primary.psql("UPDATE lag SET ms = 'soon'").unwrap();
    let nonsense = "lag_query gives neither milliseconds nor an LSN";
    await_reason(&endpoint, "replica1", &["nothing tells how far behind", nonsense]);
    cluster.primary.psql("DROP TABLE lag").unwrap();
    await_reason(&endpoint, "replica1", &["lag_query (42P01) is refused"]);
}

/// Fakes as servers of any role.
fn over(fakes: &[(&str, &FakeServer)]) -> EndpointBuilder {
    fakes.iter().fold(Endpoint::over_none(), |endpoint, (name, fake)| {
        endpoint.toml(&format!("[[server]]\nname = {name:?}\naddress = \"127.0.0.1:{}\"\n", fake.port()))
    })
}

#[track_caller]
fn await_up(endpoint: &Endpoint, name: &str) {
    let what = format!("{name} is up; it is {:?}", verdict(endpoint, name));
    eventually(PATIENCE, &what, || endpoint.status_of(&format!("/{name}")) == 200);
}

const INSTANCES: [&str; 3] = ["db-a", "db-b", "db-c"];

/// An instance of an Aurora cluster: PostgreSQL's functions of WAL are errors, the status is rows.
fn aurora(own: &str, writer: &str, positions: [u64; 3]) -> FakeScript {
    let row = |(name, position): (&str, u64)| -> FakeRow {
        let session = if name == writer { "MASTER_SESSION_ID" } else { "5b4b" };
        let age = (name != own).then(|| "2026-11-29 10:00:00+00".to_owned());
        [
            ("server_id", Some(name.to_owned())),
            ("session_id", Some(session.to_owned())),
            ("durable_lsn", Some(position.to_string())),
            ("highest_lsn_rcvd", Some(position.to_string())),
            ("current_read_lsn", (name != writer).then(|| position.to_string())),
            ("replica_lag_in_msec", (name != writer).then(|| "15".to_owned())),
            ("last_update_timestamp", age),
        ]
        .map(|(column, value)| (column.to_owned(), value))
        .to_vec()
    };
    let rows = INSTANCES.into_iter().zip(positions).map(row).collect();
    FakeScript::server(own != writer)
        .says("pg_settings", [("rds_extensions", "postgis,aurora_stat_utils"), ("has_rds_tools", "f")])
        .refuses("pg_control_system(", "55000")
        .refuses("pg_last_wal_replay_lsn(", "0A000")
        .refuses("pg_current_wal_flush_lsn(", "55000")
        .says("aurora_db_instance_identifier(", [("instance", own)])
        .with("aurora_replica_status(", FakeSays::Rows(rows))
}

#[test]
fn aurora_is_followed_through_a_failover() {
    let mut fakes = INSTANCES.map(|name| FakeServer::start(aurora(name, "db-a", [1000, 1000, 1000])));
    let servers: Vec<(&str, &FakeServer)> = INSTANCES.into_iter().zip(&fakes).collect();
    let endpoint = over(&servers).start();
    for name in INSTANCES {
        await_up(&endpoint, name);
    }
    await_reason(&endpoint, "db-a", &["primary", "pg_control_system (55000) is refused"]);
    await_reason(&endpoint, "db-b", &["in sync"]);

    for (fake, name) in fakes.iter().zip(INSTANCES) {
        fake.set(aurora(name, "db-a", [9000, 1000, 9000]));
    }
    await_reason(&endpoint, "db-b", &["at least", "behind"]);
    await_reason(&endpoint, "db-c", &["in sync"]);

    // The writer is gone; a reader is the writer, and the other reads go on.
    fakes[0].crash();
    for (fake, name) in fakes.iter().zip(INSTANCES).skip(1) {
        fake.set(aurora(name, "db-b", [9000, 9500, 9500]));
    }
    await_reason(&endpoint, "db-b", &["primary"]);
    await_reason(&endpoint, "db-c", &["in sync"]);
    fakes[0].set(aurora("db-a", "db-b", [9500, 9500, 9500]));
    fakes[0].listen();
    await_reason(&endpoint, "db-a", &["in sync"]);
    for name in INSTANCES {
        await_up(&endpoint, name);
    }
}

/// PostgreSQL's own functions as a plain server answers them.
fn plain(is_standby: bool, lsn: &str) -> FakeScript {
    let script = FakeScript::server(is_standby)
        .says("pg_control_system(", [("system_identifier", "7300000000000000001")]);
    let script = if is_standby {
        script
            .says("pg_last_wal_replay_lsn(", [("replay_lsn", lsn)])
            .says("pg_last_wal_receive_lsn(", [("receive_lsn", lsn)])
            .says(
                "pg_stat_wal_receiver",
                [
                    ("has_receiver", "t"),
                    ("status", "streaming"),
                    ("received_tli", "1"),
                    ("latest_end_lsn", lsn),
                ],
            )
            .says("pg_get_wal_replay_pause_state(", [("is_paused", "f")])
            .says("'startup'", [("sees_startup", "t"), ("startup_wait", "RecoveryWalStream")])
    } else {
        script
            .says("pg_current_wal_flush_lsn(", [("flush_lsn", lsn)])
            .says("pg_walfile_name(", [("tli_hex", "00000001")])
    };
    let silent: [(&str, &str); 0] = [];
    let known = [
        "pg_last_wal_replay_lsn(",
        "pg_last_wal_receive_lsn(",
        "pg_current_wal_flush_lsn(",
        "pg_walfile_name(",
        "pg_get_wal_replay_pause_state(",
        "pg_last_xact_replay_timestamp(",
    ];
    known.into_iter().fold(script, |script, name| {
        if script.says.iter().any(|(needle, _)| needle == name) { script } else { script.says(name, silent) }
    })
}

#[test]
fn an_rds_cluster_is_asked_as_postgres_and_known_by_its_instances() {
    let rds = |own: &str, is_standby: bool| {
        plain(is_standby, "0/5000000")
            .refuses("pg_control_system(", "42501")
            .says("pg_settings", [("rds_extensions", "rds_tools"), ("has_rds_tools", "t")])
            .says("rds_tools.show_topology(", [("source", "db-A"), ("own", own), ("instances", "db-A,db-B")])
            .says("multi_az_db_cluster_source_dbi_resource_id()", [])
            .says("dbi_resource_id(", [])
    };
    let fakes = [FakeServer::start(rds("db-A", false)), FakeServer::start(rds("db-B", true))];
    let stranger =
        FakeServer::start(rds("db-Y", true).says(
            "rds_tools.show_topology(",
            [("source", "db-X"), ("own", "db-Y"), ("instances", "db-X,db-Y")],
        ));
    let endpoint = over(&[("a", &fakes[0]), ("b", &fakes[1]), ("y", &stranger)]).start();
    await_up(&endpoint, "a");
    await_up(&endpoint, "b");
    await_reason(&endpoint, "b", &["in sync", "pg_control_system (42501) is refused"]);
    await_reason(&endpoint, "y", &["belongs to another cluster"]);
}

#[test]
fn a_server_without_wal_functions_serves_by_the_operators_word_or_query_alone() {
    let neon = |is_standby| FakeScript::server(is_standby).says("lag_ms", [("told_lag", "40")]);
    let fakes = [FakeServer::start(neon(false)), FakeServer::start(neon(true))];
    let servers = [("db1", &fakes[0]), ("db2", &fakes[1])];
    let endpoint = over(&servers).start();
    await_up(&endpoint, "db1");
    await_reason(&endpoint, "db2", &["nothing tells how far behind", "pg_last_wal_replay_lsn (42883)"]);
    assert_ne!(endpoint.status_of("/db2"), 200);
    drop(endpoint);
    let endpoint = over(&servers).key("health.lag_unknown", "\"serve\"").start();
    await_up(&endpoint, "db2");
    await_reason(&endpoint, "db2", &["serves by lag_unknown"]);
    drop(endpoint);
    let query = "\"SELECT lag_ms FROM public.lag\"";
    let endpoint = over(&servers).key("health.dialect", "\"custom\"").key("health.lag_query", query).start();
    await_up(&endpoint, "db2");
    await_reason(&endpoint, "db2", &["0.04 s behind by lag_query"]);
}

#[test]
fn a_server_that_refuses_options_is_asked_without_them() {
    let script = |is_standby| FakeScript { options: FakeOptions::Refused, ..plain(is_standby, "0/5000000") };
    let fakes = [FakeServer::start(script(false)), FakeServer::start(script(true))];
    let endpoint = over(&[("a", &fakes[0]), ("b", &fakes[1])]).start();
    await_up(&endpoint, "a");
    await_up(&endpoint, "b");
    // The operator's own options are sent, and refused.
    let login = "\"user=monitor dbname=appdb options='-c work_mem=8MB'\"";
    let endpoint = over(&[("a", &fakes[0]), ("b", &fakes[1])]).key("monitor.conninfo", login).start();
    await_reason(&endpoint, "a", &["unsupported startup parameter: options"]);
}
