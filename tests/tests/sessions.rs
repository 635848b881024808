//! What an operator sees of the sessions: who they are, where, what keeps them there, and what moved.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use trunkline_cluster::Cluster;
use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, Login, PoolRole, Wire, binary, eventually, http_get, own_cluster,
    shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// An endpoint with an admin socket.
struct Watched {
    endpoint: Endpoint,
    socket: PathBuf,
    _directory: TempDir,
}

impl Watched {
    fn start(builder: EndpointBuilder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let endpoint = builder.flag("--admin", socket.to_str().unwrap()).start();
        Self { endpoint, socket, _directory: directory }
    }

    fn verify(cluster: &Cluster) -> Self {
        Self::start(Endpoint::over(cluster).auth(Auth::Verify))
    }

    /// What one of the binary's admin commands prints.
    fn admin(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(binary());
        let output = command.args(arguments).arg("--admin").arg(&self.socket).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn listing(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.admin(&[&["sessions", "--json"], arguments].concat())).unwrap()
    }

    fn status(&self) -> String {
        let http = format!("127.0.0.1:{}", self.endpoint.http());
        let output = Command::new(binary()).args(["status", "--http", &http]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The value of one sample.
    fn sample(&self, series: &str) -> f64 {
        let metrics = http_get(self.endpoint.http(), "/metrics").unwrap().body;
        let line = metrics.lines().find(|line| line.starts_with(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("no {series}")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn row(listing: &Value, wire: &Wire) -> Value {
    let client = wire.stream.local_addr().unwrap().to_string();
    let rows = listing["sessions"].as_array().unwrap();
    rows.iter()
        .find(|row| row["client"] == client.as_str())
        .unwrap_or_else(|| panic!("{client}: {listing}"))
        .clone()
}

#[test]
fn each_session_is_listed_with_what_keeps_it_on_its_server() {
    let watched = Watched::verify(shared_cluster());
    let reads = watched.endpoint.reads();
    let (mut free, mut open) = (Wire::login(reads), Wire::login(reads));
    // A standby takes no LISTEN.
    let mut listens = Wire::login(watched.endpoint.writes());
    let server = free.value("SHOW cluster_name");
    assert_eq!(listens.query("LISTEN news").error, None);
    assert_eq!(open.query("BEGIN").error, None);

    let listing = watched.listing(&[]);
    let expected = [
        (&free, "reads", "idle", Value::Null),
        (&listens, "writes", "idle", "LISTEN".into()),
        (&open, "reads", "in transaction", "in a transaction".into()),
    ];
    for (wire, listener, state, pinned) in expected {
        let row = row(&listing, wire);
        assert_eq!((&row["listener"], &row["state"]), (&listener.into(), &state.into()), "{row}");
        assert_eq!(row["pinned"], pinned, "{row}");
        let told = i32::from_be_bytes(*wire.key_data.as_ref().unwrap().first_chunk().unwrap());
        assert_eq!(row["pid"], told, "{row}");
        assert_eq!((&row["user"], &row["database"]), (&"postgres".into(), &"appdb".into()), "{row}");
    }
    assert_eq!(row(&listing, &free)["server"], server.as_str());
    let ids = [&free, &listens, &open].map(|wire| row(&listing, wire)["id"].as_u64().unwrap());
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    assert_eq!((&listing["all"], &listing["movable"]), (&3.into(), &1.into()));
    assert_eq!(listing["pinned"], serde_json::json!({"listen": 1, "transaction": 1}));

    let pinned = watched.listing(&["--pinned"]);
    assert_eq!((pinned["sessions"].as_array().unwrap().len(), &pinned["all"]), (2, &3.into()));
    let bounded = watched.listing(&["--limit", "1"]);
    assert_eq!((bounded["sessions"].as_array().unwrap().len(), &bounded["all"]), (1, &3.into()));

    assert!(watched.admin(&["sessions"]).lines().any(|line| line.contains(" LISTEN")));
    let status = watched.status();
    assert!(status.contains("3, 1 movable, 2 pinned (1 listen, 1 transaction)"), "{status}");
    assert_eq!(watched.sample("trunkline_sessions_pinned{reason=\"listen\"}"), 1.0);
    assert_eq!(watched.sample("trunkline_sessions_movable"), 1.0);
    let doing = |state: &str| watched.sample(&format!("trunkline_sessions{{state=\"{state}\"}}"));
    assert_eq!(["active", "idle", "in_transaction", "waiting"].map(doing), [0.0, 2.0, 1.0, 0.0]);
    assert_eq!(watched.sample("trunkline_sessions_admitted"), 3.0);
    assert!(watched.sample("trunkline_sessions_admitted_max") > 3.0);
    assert!(watched.sample("process_open_fds") > 6.0, "two for each session");

    open.query("COMMIT");
    assert_eq!(row(&watched.listing(&[]), &open)["pinned"], Value::Null);
    drop((free, listens, open));
    eventually(PATIENCE, "nobody is left", || watched.listing(&[])["all"] == 0);
}

#[test]
fn of_more_sessions_than_are_asked_for_those_longest_here_are_listed() {
    let builder = Endpoint::over(shared_cluster()).auth(Auth::Verify).key("runtime.threads", "1");
    let watched = Watched::start(builder);
    let [first, second] = [(); 2].map(|()| Wire::login(watched.endpoint.reads()));
    drop(first);
    eventually(PATIENCE, "its place is free", || watched.listing(&[])["all"] == 1);
    let _third = Wire::login(watched.endpoint.reads());
    let listing = watched.listing(&["--limit", "1"]);
    assert_eq!(listing["all"], 2);
    let _it_is_listed = row(&listing, &second);
}

/// The path has an operator by which nothing equals anything.
#[test]
fn what_pinned_a_session_is_gone_once_the_server_has_nothing_of_it() {
    const EQUALS: &str = "CREATE SCHEMA odd; \
        CREATE FUNCTION odd.never(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false'; \
        CREATE OPERATOR odd.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = odd.never)";
    let cluster = own_cluster(0);
    let watched = Watched::verify(&cluster);
    assert_eq!(Wire::login(watched.endpoint.writes()).query(EQUALS).error, None);
    let mut wire = Wire::login(watched.endpoint.writes());
    assert_eq!(wire.query("SET search_path = odd, pg_catalog, public").error, None);
    let lock = [
        ("SELECT pg_try_advisory_lock(7)", Some("advisory lock")),
        ("SELECT pg_advisory_lock(7)", Some("advisory lock")),
        ("SELECT pg_advisory_unlock(7)", Some("advisory lock")),
        ("SELECT pg_advisory_unlock(7)", None),
    ];
    let table = [
        ("CREATE TEMP TABLE t (a int)", Some("temporary object")),
        ("INSERT INTO t VALUES (1)", Some("temporary object")),
        ("DROP TABLE t", None),
        ("CREATE TEMP TABLE t AS SELECT 1 AS a", Some("temporary object")),
        ("DISCARD TEMP", None),
        ("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT", None),
    ];
    for (sql, pinned) in lock.into_iter().chain(table) {
        assert_eq!(wire.query(sql).error, None, "{sql}");
        let is_so = || row(&watched.listing(&[]), &wire)["pinned"] == pinned.map_or(Value::Null, Value::from);
        eventually(PATIENCE, &format!("{pinned:?} after {sql}"), is_so);
    }
    let event = "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
        CREATE EVENT TRIGGER seen ON sql_drop EXECUTE FUNCTION seen()";
    assert_eq!(Wire::login(watched.endpoint.writes()).query(event).error, None);
    let mut other = Wire::login(watched.endpoint.writes());
    assert_eq!(other.query("COMMENT ON SCHEMA odd IS 'seen'").error, None);
    assert_eq!(row(&watched.listing(&[]), &other)["pinned"], "effects of COMMENT are not known");
    for (sql, pinned) in [
        ("CREATE TEMP TABLE t (a int)", "temporary object"),
        ("DROP TABLE t", "temporary object"),
        ("SELECT 1", "temporary object"),
    ] {
        assert_eq!(wire.query(sql).error, None, "{sql}");
        assert_eq!(row(&watched.listing(&[]), &wire)["pinned"], pinned, "{sql}");
    }
}

#[test]
fn nextval_pins_once_clients_ask_what_it_gave() {
    let role = PoolRole::create(shared_cluster(), "of_askers");
    let sql = "CREATE SEQUENCE asked; GRANT ALL ON SEQUENCE asked TO of_askers";
    shared_cluster().primary.psql(sql).unwrap();
    let watched = Watched::start(Endpoint::over(shared_cluster()).pooling(3));
    let [mut first, mut second] = [(), ()].map(|()| role.connect(watched.endpoint.writes()));
    let is_pinned = |wire: &Wire, by: Value| row(&watched.listing(&[]), wire)["pinned"] == by;
    assert_eq!(first.query("SELECT nextval('asked')").error, None);
    eventually(PATIENCE, "nobody asks", || is_pinned(&first, Value::Null));
    assert_eq!(second.query("SELECT lastval()").error.unwrap().code, "55000");
    assert_eq!(first.query("SELECT nextval('asked')").error, None);
    eventually(PATIENCE, "somebody has asked", || is_pinned(&first, "side effects of nextval".into()));
    // For as long as it likes: longer than a session stays that has added rows.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(is_pinned(&first, "side effects of nextval".into()));
    assert_eq!(first.query("DISCARD SEQUENCES").error, None);
    eventually(PATIENCE, "it has nothing to ask for", || is_pinned(&first, Value::Null));
    assert_eq!(first.query("SELECT nextval('asked')").error, None);
    assert_eq!(first.value("SELECT currval('asked')"), "3");
}

#[test]
fn a_session_whose_authentication_was_relayed_is_pinned_by_that() {
    let watched = Watched::start(Endpoint::over(shared_cluster()).auth(Auth::Relay));
    let wire = Wire::login(watched.endpoint.reads());
    assert_eq!(row(&watched.listing(&[]), &wire)["pinned"], "authentication was relayed");
}

#[test]
fn a_busy_session_is_counted_while_it_waits() {
    let watched = Watched::verify(shared_cluster());
    let mut wire = Wire::login(watched.endpoint.reads());
    wire.send_query("SELECT pg_sleep(1.5)");
    eventually(PATIENCE, "it is active", || row(&watched.listing(&[]), &wire)["state"] == "active");
    assert_eq!(wire.read_answer().error, None);
}

#[test]
fn moves_and_repeats_are_counted_by_cause_and_timed() {
    let cluster = own_cluster(2);
    let watched = Watched::verify(&cluster);
    let mut wire = Wire::login(watched.endpoint.reads());
    let first = wire.value("SHOW cluster_name");
    watched.admin(&["drain", &first]);
    let second = {
        eventually(PATIENCE, "it has left", || row(&watched.listing(&[]), &wire)["server"] != *first);
        wire.value("SHOW cluster_name")
    };
    assert_ne!(first, second);
    assert_eq!(
        watched.sample("trunkline_session_moves_ended_total{cause=\"ineligible\",outcome=\"taken\"}"),
        1.0
    );

    watched.admin(&["ready", &first]);
    watched.endpoint.await_health(&first, true, PATIENCE);
    wire.send_query("SELECT count(*) FROM generate_series(1, 15000000)");
    eventually(PATIENCE, "it is asked", || row(&watched.listing(&[]), &wire)["state"] == "active");
    cluster.replicas.iter().find(|replica| replica.name() == second).unwrap().kill();
    assert_eq!(wire.read_answer().error, None);
    // A backend may still say that its postmaster is gone, and on a busy machine it may outlive the verdict of the probes.
    let repeated = ["server_lost", "shutdown", "stalled"].map(|cause| {
        watched
            .sample(&format!("trunkline_request_repeats_ended_total{{cause=\"{cause}\",outcome=\"taken\"}}"))
    });
    assert_eq!(repeated.iter().sum::<f64>(), 1.0, "{repeated:?}");
    assert_eq!(watched.sample("trunkline_session_move_seconds_count{kind=\"move\",outcome=\"taken\"}"), 1.0);
    assert_eq!(
        watched.sample("trunkline_session_move_seconds_count{kind=\"repeat\",outcome=\"taken\"}"),
        1.0
    );
    let status = watched.status();
    assert!(status.contains("moved     1 (1 ineligible), median "), "{status}");
    assert!(status.contains("repeated  1 (1 s"), "{status}");
}

/// What servers know the sessions of the proxy's clients by.
fn names(cluster: &Cluster) -> Vec<String> {
    let sql = "SELECT application_name FROM pg_stat_activity WHERE usename = 'postgres' AND application_name LIKE 'reports%'";
    cluster
        .servers()
        .flat_map(|server| server.psql(sql).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn adding_hosts(cluster: &Cluster, auth: Auth) -> EndpointBuilder {
    let listener =
        "[[listener]]\nname = \"reads\"\naddress = \"127.0.0.1:1\"\napplication_name_add_host = \"on\"\n";
    Endpoint::over(cluster).auth(auth).toml(listener)
}

#[test]
fn servers_are_told_the_clients_address_and_the_client_its_own_name() {
    let cluster = own_cluster(1);
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = adding_hosts(&cluster, auth).start();
        let wire = Login::default().with("application_name", "reports").connect(endpoint.reads());
        let told = format!("reports - {}", wire.stream.local_addr().unwrap());
        assert_eq!(names(&cluster), [told], "{auth:?}");
        assert_eq!(wire.parameters["application_name"], "reports", "{auth:?}");
        // A listener that adds nothing.
        let other = Login::default().with("application_name", "reports").connect(endpoint.writes());
        assert!(names(&cluster).contains(&"reports".to_owned()), "{auth:?}");
        drop((wire, other));
        eventually(PATIENCE, "both have gone", || names(&cluster).is_empty());
    }
}

#[test]
fn a_name_of_the_longest_kind_and_a_move_keep_the_address() {
    let cluster = own_cluster(2);
    let watched = Watched::start(adding_hosts(&cluster, Auth::Verify));
    let long = format!("reports{}", "x".repeat(80));
    let mut wire = Login::default().with("application_name", &long).connect(watched.endpoint.reads());
    let address = format!(" - {}", wire.stream.local_addr().unwrap());
    let kept = &long[..63 - address.len()];
    let told = format!("{kept}{address}");
    assert_eq!(names(&cluster), std::slice::from_ref(&told));
    assert_eq!(wire.parameters["application_name"], long[..63], "as a server cuts it");

    let first = wire.value("SHOW cluster_name");
    watched.admin(&["drain", &first]);
    eventually(PATIENCE, "it has left", || row(&watched.listing(&[]), &wire)["server"] != *first);
    let answer = wire.query("SHOW cluster_name");
    assert_ne!(answer.value(), first);
    let renamed = answer
        .messages
        .iter()
        .any(|message| message.tag == b'S' && message.body.starts_with(b"application_name\0"));
    assert!(!renamed, "the client is not told of a name it did not ask for");
    assert_eq!(names(&cluster), [told]);
}

#[test]
fn connections_and_refusals_are_logged_with_who_came_where() {
    let cluster = shared_cluster();
    let logging = |key: &str| Endpoint::over(cluster).key(key, "true").start();
    let (begins, ends) = (logging("log.connections"), logging("log.disconnections"));
    for endpoint in [&begins, &ends] {
        drop(Login::default().connect(endpoint.reads()));
    }
    let line = |endpoint: &Endpoint, message: &str| -> String {
        let event = format!("level=info message={message} ");
        let find = || endpoint.log().lines().find(|line| line.contains(&event)).map(str::to_owned);
        eventually(PATIENCE, "it is logged", || find().is_some());
        find().unwrap()
    };
    let end = line(&ends, "disconnection");
    let what = " db.user=postgres db.name=appdb listener=reads session.seconds=0.";
    assert!(end.contains(" client.addr=127.0.0.1:") && end.contains(what), "{end}");
    let begin = line(&begins, "\"connection authorized\"");
    let what = " listener=reads db.user=postgres db.name=appdb server.name=";
    assert!(begin.contains(" client.addr=127.0.0.1:") && begin.contains(what), "{begin}");
    assert!(!begins.log().contains("disconnection") && !ends.log().contains("connection authorized"));
    let nobody = Login::default().with("trunkline.server", "nowhere");
    assert!(nobody.try_connect(begins.writes()).is_err());
    let refused = line(&begins, "\"connection was refused\"");
    assert!(
        refused.contains(" listener=writes db.user=postgres db.name=appdb reason=\"invalid value"),
        "{refused}"
    );
    let unknown = Login::of("nobody_of_this_name", "guessed");
    assert!(unknown.try_connect(begins.reads()).is_err());
    let refused = line(&begins, "\"connection was refused by its server\"");
    assert!(refused.contains(" db.user=nobody_of_this_name ") && refused.contains(" code=28"), "{refused}");
}

#[test]
fn the_admin_socket_is_made_and_found_in_the_service_managers_directory() {
    let directory = tempfile::tempdir().unwrap();
    let managed = directory.path().join("trunkline");
    let managed = managed.to_str().unwrap();
    let builder = Endpoint::over(shared_cluster()).key("admin.socket", "\"\"");
    let endpoint = builder.env("RUNTIME_DIRECTORY", managed).start();
    let run = |arguments: &[&str]| {
        Command::new(binary())
            .args(arguments)
            .env("RUNTIME_DIRECTORY", managed)
            .env_remove("TRUNKLINE_ADMIN")
            .env_remove("TRUNKLINE_HTTP")
            .output()
            .unwrap()
    };
    assert!(
        endpoint.log().contains(&format!("ready: admin on {managed}/admin.sock\n")),
        "{}",
        endpoint.log()
    );
    let listing: Value = serde_json::from_slice(&run(&["sessions", "--json"]).stdout).unwrap();
    assert_eq!(listing["all"], 0, "{listing}");
    let status: Value = serde_json::from_slice(&run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
    // What its death leaves behind is told from what was never there.
    endpoint.signal(Signal::SIGKILL);
    let socket = format!("{managed}/admin.sock");
    eventually(PATIENCE, "the socket is stale", || {
        let output = run(&["sessions", "--admin", &socket]);
        String::from_utf8_lossy(&output.stderr).contains("is not running")
    });
    let missing = run(&["drain", "replica1", "--admin", "/nowhere/admin.sock"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && said.contains("/nowhere/admin.sock: no such file"), "{said}");
}
