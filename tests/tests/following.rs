//! Whatever way a session's state is changed in: it moves with it, or stays where it has it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_codec::write;
use trunkline_tests::{
    Answer, Auth, Endpoint, Login, Wire, binary, eventually, functions_not_judged, own_cluster,
    reached_without_a_name, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a client sends.
#[derive(Clone, Copy)]
enum Step {
    Query(&'static str),
    /// A Parse with this name.
    Parse(&'static str, &'static str),
    /// The unnamed statement of this SQL, with these parameters, at most so many rows at a time, twice.
    Rows(&'static str, &'static [&'static str], i32),
    /// A FunctionCall with arguments in text format.
    Call(u32, &'static [&'static str]),
}

use Step::{Call, Parse, Query, Rows};

/// What becomes of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Moves,
    Stays,
}

use Then::{Moves, Stays};

const WORK_MEM: &str = "SHOW work_mem";
const TENANT: &str = "SELECT current_setting('app.tenant', true)";
const LOCKS: &str =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted";
const CONNECTIONS: &str = "SELECT dblink_get_connections()";
const TENANT_A: &str = "SELECT set_config('app.tenant', 'a', false)";
const LOCK: &str = "SELECT pg_advisory_lock_shared(1)";

/// What is done, what of it is asked for, and what becomes of the session.
const WAYS: &[(&[Step], &str, Then)] = &[
    // FunctionCall: set_config, the locks, current_setting.
    (&[Call(2078, &["app.tenant", "a'b", "f"])], TENANT, Moves),
    (&[Query("BEGIN"), Call(2078, &["app.tenant", "a", "f"]), Query("ROLLBACK")], TENANT, Moves),
    (&[Call(2078, &["work_mem", "nonsense", "f"])], WORK_MEM, Moves),
    (&[Call(2881, &["1"])], LOCKS, Stays),
    (&[Call(2887, &["1", "2"])], LOCKS, Stays),
    (&[Call(2881, &["1"]), Call(2892, &[])], LOCKS, Moves),
    (&[Call(2077, &["work_mem"])], WORK_MEM, Moves),
    // EXECUTE, and EXPLAIN ANALYZE EXECUTE, of what a Parse made.
    (&[Parse("s", "SET work_mem = '7MB'"), Query("EXECUTE s")], WORK_MEM, Moves),
    (&[Parse("s", "SET work_mem = '7MB'"), Query("BEGIN; EXECUTE s; ROLLBACK")], WORK_MEM, Moves),
    (&[Parse("S", TENANT_A), Query("EXECUTE \"S\"")], TENANT, Moves),
    (&[Parse("s", TENANT_A), Query("EXPLAIN ANALYZE EXECUTE s")], TENANT, Stays),
    (&[Parse("s", LOCK), Query("EXECUTE S")], LOCKS, Stays),
    (&[Parse("s", LOCK), Query("EXPLAIN (ANALYZE, COSTS OFF) EXECUTE s")], LOCKS, Stays),
    (&[Parse("s", LOCK), Parse("t", "EXECUTE s"), Query("EXECUTE t")], LOCKS, Stays),
    (&[Parse("s", "SELECT set_config($1, $2, false)"), Query("EXECUTE s('app.tenant', 'a')")], TENANT, Stays),
    (&[Query("PREPARE s AS SELECT pg_advisory_lock_shared($1)"), Query("EXECUTE s(1)")], LOCKS, Stays),
    // Several reasons in one text.
    (
        &[Query("SELECT pg_advisory_lock_shared(1), dblink_connect('x', @)"), Query("DISCARD ALL")],
        CONNECTIONS,
        Stays,
    ),
    (
        &[Query("SELECT pg_advisory_lock_shared(1); SELECT dblink_connect('x', @)"), Query("DISCARD ALL")],
        CONNECTIONS,
        Stays,
    ),
    (&[Query("DO $$BEGIN PERFORM dblink_connect('x', @); END$$"), Query("DISCARD ALL")], CONNECTIONS, Stays),
    (
        &[
            Query(
                "DO $$BEGIN EXECUTE 'SELECT dblink_' || 'connect(''x'', ' || quote_literal(@) || ')'; END$$",
            ),
            Query("DISCARD ALL"),
        ],
        CONNECTIONS,
        Stays,
    ),
    (&[Query(LOCK), Query("DISCARD ALL")], LOCKS, Moves),
    // The view whose update is a set_config.
    (&[Query("UPDATE pg_settings SET setting = '7MB' WHERE name = 'work_mem'")], WORK_MEM, Stays),
    (
        &[Rows("UPDATE pg_catalog.\"pg_settings\" SET setting = $1 WHERE name = 'work_mem'", &["7MB"], 0)],
        WORK_MEM,
        Stays,
    ),
    (
        &[Query("EXPLAIN ANALYZE UPDATE pg_settings SET setting = '7MB' WHERE name = 'work_mem'")],
        WORK_MEM,
        Stays,
    ),
    // set_config wherever it may stand.
    (&[Query("SELECT 1 WHERE set_config('app.tenant', 'a', false) = 'a'")], TENANT, Stays),
    (
        &[Query("WITH x AS MATERIALIZED (SELECT set_config('app.tenant', 'a', false)) SELECT * FROM x")],
        TENANT,
        Stays,
    ),
    (&[Query("SELECT (SELECT set_config('app.tenant', 'a', false))")], TENANT, Stays),
    (&[Query("SELECT upper(set_config('app.tenant', 'a', false))")], TENANT, Stays),
    (&[Query("VALUES (set_config('app.tenant', 'a', false))")], TENANT, Stays),
    (&[Query("SELECT 1 ORDER BY set_config('app.tenant', 'a', false)")], TENANT, Stays),
    (&[Query("SELECT pg_catalog . \"set_config\" /* x */ ('app.tenant', 'a', false), 1")], TENANT, Stays),
    (&[Query("SELECT U&\"\\0073et_config\"('app.tenant', 'a', false)")], TENANT, Stays),
    (&[Query("SELECT U&\"!0073et_config\" UESCAPE '!' ('app.tenant', 'a', false)")], TENANT, Stays),
    (&[Query("EXPLAIN ANALYZE SELECT set_config('app.tenant', 'a', false)")], TENANT, Stays),
    (&[Query("COPY (SELECT set_config('app.tenant', 'a', false)) TO STDOUT")], TENANT, Stays),
    (
        &[Query("BEGIN; DECLARE c CURSOR FOR SELECT set_config('app.tenant', 'a', false); FETCH c; COMMIT")],
        TENANT,
        Stays,
    ),
    (
        &[Rows("SELECT set_config('app.tenant', i::text, false) FROM generate_series(1, 9) i", &[], 2)],
        TENANT,
        Stays,
    ),
    (&[Rows("SELECT set_config('app.tenant', $1, false)", &["a"], 1)], TENANT, Moves),
    (&[Query("SELECT 1; SELECT set_config('app.tenant', 'a', false); SELECT 2")], TENANT, Moves),
    (
        &[Query("SELECT query_to_xml('SELECT set_config(''app.tenant'', ''a'', false)', true, true, '')")],
        TENANT,
        Stays,
    ),
    // Inside a DO.
    (&[Query("DO $$BEGIN SET work_mem = '7MB'; END$$")], WORK_MEM, Stays),
    (
        &[Query("DO $$BEGIN EXECUTE 'SET work' || '_mem = ''7MB'''; END$$"), Query("DISCARD ALL")],
        WORK_MEM,
        Stays,
    ),
    (&[Query("DO $$BEGIN SET work_mem = '7MB'; END$$"), Query("DISCARD ALL")], WORK_MEM, Moves),
    // What is given back.
    (&[Query(LOCK), Query("SELECT pg_advisory_unlock_all()")], LOCKS, Moves),
    (&[Query("SELECT pg_advisory_unlock(1)")], LOCKS, Moves),
    (
        &[Query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; ROLLBACK")],
        "SELECT count(*) FROM pg_cursors WHERE is_holdable",
        Moves,
    ),
    (
        &[Query("DECLARE c CURSOR WITH HOLD FOR SELECT 1")],
        "SELECT count(*) FROM pg_cursors WHERE is_holdable",
        Stays,
    ),
];

/// The SQL, with a connection string to this server for `@`.
fn filled(sql: &str, target: &str) -> String {
    sql.replace('@', &format!("'{target}'"))
}

fn take(wire: &mut Wire, step: Step, target: &str) -> Answer {
    match step {
        Query(sql) => return wire.query(&filled(sql, target)),
        Parse(name, sql) => wire.send_with(|out| {
            write::parse(out, name.as_bytes(), sql.as_bytes(), &[]).unwrap();
            write::sync(out);
        }),
        Rows(sql, parameters, rows) => wire.send_with(|out| {
            write::parse(out, b"", sql.as_bytes(), &[]).unwrap();
            write::bind(out, b"", b"", parameters.iter().map(|value| Some(value.as_bytes()))).unwrap();
            write::execute(out, b"", rows).unwrap();
            write::execute(out, b"", rows).unwrap();
            write::sync(out);
        }),
        Call(function, arguments) => wire.send(&function_call(function, arguments)),
    }
    wire.read_answer()
}

fn function_call(function: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = function.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 0, u8::try_from(arguments.len()).unwrap()]);
    for argument in arguments {
        body.extend_from_slice(&u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    let mut message = vec![b'F'];
    message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend_from_slice(&body);
    message
}

/// What a question is answered with.
fn asked(wire: &mut Wire, question: &str) -> Vec<Vec<Option<String>>> {
    let answer = wire.query(question);
    assert_eq!(answer.error, None, "{question}");
    answer.rows
}

fn operator(socket: &Path, wanted: &str, server: &str) {
    let mut command = Command::new(binary());
    let output = command.args([wanted, server, "--admin"]).arg(socket).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn server_of(wire: &mut Wire) -> String {
    wire.value("SHOW cluster_name")
}

/// A session, and how it was when its server was left.
struct Way {
    wire: Wire,
    steps: String,
    question: &'static str,
    answer: Vec<Vec<Option<String>>>,
    then: Then,
    server: String,
}

fn begin(cluster: &Cluster, endpoint: &Endpoint) -> Vec<Way> {
    let target = cluster.primary.conninfo();
    let begun = WAYS.iter().map(|&(steps, question, then)| {
        let mut direct = Login::default().connect(cluster.replicas[0].port());
        let mut wire = Login::default().connect(endpoint.reads());
        let mut told = String::new();
        for step in steps {
            let (here, there) = (take(&mut wire, *step, &target), take(&mut direct, *step, &target));
            assert_eq!(here.tags().replace('S', ""), there.tags().replace('S', ""), "{told}");
            told.push_str(&match *step {
                Query(sql) | Parse(_, sql) | Rows(sql, _, _) => format!("{sql} / "),
                Call(function, arguments) => format!("{function}{arguments:?} / "),
            });
        }
        let answer = asked(&mut wire, question);
        assert_eq!(answer, asked(&mut direct, question), "{told}");
        let server = server_of(&mut wire);
        Way { wire, steps: told, question, answer, then, server }
    });
    begun.collect()
}

#[test]
fn a_session_keeps_what_it_has_whatever_way_that_came() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE EXTENSION dblink").unwrap();
    cluster.wait_caught_up().unwrap();
    let socket = cluster.directory().join("admin.sock");
    let endpoint =
        Endpoint::over(&cluster).auth(Auth::Verify).flag("--admin", socket.to_str().unwrap()).start();
    let mut ways = begin(&cluster, &endpoint);
    for victim in ["replica1", "replica2"] {
        operator(&socket, "drain", victim);
        for way in ways.iter_mut().filter(|way| way.then == Moves) {
            eventually(PATIENCE, &format!("{} has moved", way.steps), || server_of(&mut way.wire) != victim);
        }
        for way in &mut ways {
            assert_eq!(asked(&mut way.wire, way.question), way.answer, "{}", way.steps);
            let is_where_it_was = server_of(&mut way.wire) == way.server;
            assert!(way.then == Moves || is_where_it_was, "{} moved", way.steps);
        }
        operator(&socket, "ready", victim);
        endpoint.await_health(victim, true, PATIENCE);
    }
}

/// A new version of PostgreSQL adds none unseen.
#[test]
fn every_function_of_the_server_is_judged() {
    let server = &shared_cluster().primary;
    assert_eq!(functions_not_judged(server), [""; 0]);
    assert_eq!(
        reached_without_a_name(server),
        ["rule pg_settings_n on pg_settings", "rule pg_settings_u on pg_settings"]
    );
}
