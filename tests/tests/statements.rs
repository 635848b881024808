//! Prepared statements outlive their server: after a move they answer as the old server would have, or fail as it would.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use trunkline_cluster::{Cluster, Server};
use trunkline_codec::frontend::Target;
use trunkline_codec::write;
use trunkline_tests::{Answer, Auth, Endpoint, Wire, binary, eventually, own_cluster};

const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster and an endpoint whose servers can be drained.
struct Stage {
    cluster: Cluster,
    endpoint: Endpoint,
    socket: PathBuf,
    _directory: TempDir,
}

impl Stage {
    fn set_up() -> Self {
        let cluster = own_cluster(2);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let endpoint =
            Endpoint::over(&cluster).auth(Auth::Verify).flag("--admin", socket.to_str().unwrap()).start();
        Self { cluster, endpoint, socket, _directory: directory }
    }

    /// Runs SQL on the primary, and waits until the replicas have it.
    fn write(&self, sql: &str) {
        self.cluster.primary.psql(sql).unwrap();
        self.cluster.wait_caught_up().unwrap();
    }

    fn server_of(&self, wire: &mut Wire) -> &Server {
        let name = wire.value("SHOW cluster_name");
        self.cluster.replicas.iter().find(|server| server.name() == name).unwrap()
    }

    fn operator(&self, wanted: &str, server: &str) {
        let output =
            Command::new(binary()).args([wanted, server, "--admin"]).arg(&self.socket).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A session beside the proxy and one through it.
    fn pair(&self) -> [Wire; 2] {
        [Wire::login(self.cluster.replicas[0].port()), Wire::login(self.endpoint.reads())]
    }

    /// Prepares on both, changes something, moves the one, and compares what both say then.
    #[track_caller]
    fn compare(&self, name: &str, before: &[Act], change: &str, after: &[Act]) -> Vec<String> {
        let [mut direct, mut moved] = self.pair();
        let home = self.server_of(&mut moved).name().to_owned();
        for act in before {
            let (one, other) = (act.run(&mut direct), act.run(&mut moved));
            assert_eq!(seen(&one), seen(&other), "{name}: before the move");
        }
        if !change.is_empty() {
            self.write(change);
        }
        self.operator("drain", &home);
        eventually(PATIENCE, "the session has left its server", || self.endpoint.sessions_on(&home) == 0);
        let mut all = Vec::new();
        for act in after {
            let (one, other) = (act.run(&mut direct), act.run(&mut moved));
            assert_eq!(seen(&one), seen(&other), "{name}: {act:?}");
            all.push(seen(&other).join(" "));
        }
        assert_ne!(moved.value("SHOW cluster_name"), home, "{name}: it has moved");
        self.operator("ready", &home);
        self.endpoint.await_health(&home, true, PATIENCE);
        all
    }
}

/// What a client does.
#[derive(Debug, Clone, Copy)]
enum Act<'a> {
    Query(&'a str),
    /// Parse and Sync: the client does not ask what it takes and returns.
    Prepare(&'a str, &'a str),
    /// The same with a Describe.
    PrepareDescribed(&'a str, &'a str),
    /// Bind, Describe of the portal, Execute, Sync.
    Run(&'a str, &'a [&'a [u8]]),
    Describe(&'a str),
    Close(&'a str),
    /// Two statements in one series.
    RunBoth(&'a str, &'a str),
}

impl Act<'_> {
    fn run(self, wire: &mut Wire) -> Answer {
        match self {
            Act::Query(sql) => return wire.query(sql),
            Act::Prepare(name, sql) => wire.send_with(|out| {
                write::parse(out, name.as_bytes(), sql.as_bytes(), &[]).unwrap();
                write::sync(out);
            }),
            Act::PrepareDescribed(name, sql) => wire.send_with(|out| {
                write::parse(out, name.as_bytes(), sql.as_bytes(), &[]).unwrap();
                write::describe(out, Target::Statement, name.as_bytes()).unwrap();
                write::sync(out);
            }),
            Act::Run(name, values) => wire.send_with(|out| {
                write::bind(out, b"", name.as_bytes(), values.iter().map(|value| Some(*value))).unwrap();
                write::describe(out, Target::Portal, b"").unwrap();
                write::execute(out, b"", 0).unwrap();
                write::sync(out);
            }),
            Act::Describe(name) => wire.send_with(|out| {
                write::describe(out, Target::Statement, name.as_bytes()).unwrap();
                write::sync(out);
            }),
            Act::Close(name) => wire.send_with(|out| {
                write::close(out, Target::Statement, name.as_bytes()).unwrap();
                write::sync(out);
            }),
            Act::RunBoth(one, other) => wire.send_with(|out| {
                for name in [one, other] {
                    write::bind(out, b"", name.as_bytes(), std::iter::empty()).unwrap();
                    write::execute(out, b"", 0).unwrap();
                }
                write::sync(out);
            }),
        }
        wire.read_answer()
    }
}

/// Messages as they came, but for parameters that a move tells; of errors the code and the message.
fn seen(answer: &Answer) -> Vec<String> {
    let messages = answer.messages.iter().filter(|message| message.tag != b'S');
    messages
        .map(|message| match message.tag {
            b'E' => {
                let error = trunkline_tests::ServerError::parse(&message.body);
                format!("E({} {})", error.code, error.text.lines().next().unwrap_or_default())
            }
            // The OID of a table may differ where the column is of another one of the same name.
            tag => format!("{}({})", char::from(tag), message.body.escape_ascii()),
        })
        .collect()
}

use Act::{Close, Describe, Prepare, PrepareDescribed, Query, Run, RunBoth};

#[test]
fn statements_keep_their_shape_or_fail_as_postgresql_fails() {
    let stage = Stage::set_up();
    let changes = [
        (
            "columns change places",
            "ALTER TABLE t ADD c int; ALTER TABLE t DROP a; ALTER TABLE t RENAME c TO a",
        ),
        ("one more column", "ALTER TABLE t ADD c int"),
        ("another type", "ALTER TABLE t ALTER a TYPE real"),
        ("another length", "ALTER TABLE t ALTER s TYPE varchar(20)"),
        ("another name", "ALTER TABLE t RENAME a TO z"),
        ("none any more", "DROP TABLE t"),
        ("nothing that matters", "ALTER TABLE t ADD CHECK (a > -100)"),
    ];
    for (name, change) in changes {
        for make in [
            PrepareDescribed("s", "SELECT * FROM t"),
            Prepare("s", "SELECT * FROM t"),
            Query("PREPARE s AS SELECT * FROM t"),
        ] {
            stage.write("DROP TABLE IF EXISTS t; CREATE TABLE t (a int, b int, s varchar(10)); INSERT INTO t VALUES (1, 2, 'x')");
            let after = [
                Run("s", &[]),
                Query("EXECUTE s"),
                Query("SELECT 1"),
                Run("s", &[]),
                Close("s"),
                Run("s", &[]),
            ];
            let said = stage.compare(&format!("{name}, {make:?}"), &[make, Run("s", &[])], change, &after);
            assert!(said[2].ends_with("Z(I)"), "the session goes on: {said:?}");
        }
    }
}

#[test]
fn parameters_keep_their_types() {
    let stage = Stage::set_up();
    stage.write("CREATE FUNCTION f(int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'int' $$");
    let number = 16909060_i32.to_be_bytes();
    let run = [Run("s", &[b"16909060"]), Run("t", &[b"7"])];
    let before = [Prepare("s", "SELECT f($1)"), Query("PREPARE t AS SELECT f($1)"), run[0]];
    let change = "CREATE FUNCTION f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'text' $$";
    stage.compare("a function of another type", &before, change, &run);
    assert_eq!(number.len(), 4);
}

#[test]
fn statements_are_made_under_what_holds_when_they_are_used() {
    let stage = Stage::set_up();
    for tenant in ["one", "two"] {
        stage.write(&format!(
            "CREATE SCHEMA {tenant}; CREATE TABLE {tenant}.orders (v text); INSERT INTO {tenant}.orders VALUES ('{tenant}')"
        ));
    }
    let begin = [Query("BEGIN"), Query("SELECT set_config('search_path', 'one', true)")];
    for make in [Prepare("q", "SELECT v FROM orders"), Query("PREPARE q AS SELECT v FROM orders")] {
        let before = [begin[0], begin[1], make, Query("COMMIT")];
        let after = [begin[0], begin[1], Run("q", &[]), Query("EXECUTE q"), Query("COMMIT"), Run("q", &[])];
        stage.compare("made in a transaction", &before, "", &after);
    }
    let before = [
        Query("SET search_path = one"),
        Prepare("q", "SELECT v FROM orders"),
        Query("SET search_path = two"),
    ];
    let after = [Query("SELECT 1"), Run("q", &[]), Query("SET search_path = one"), Run("q", &[])];
    stage.compare("made in another schema", &before, "", &after);
    let before = [
        Query("BEGIN"),
        Query("SET LOCAL ROLE app"),
        Prepare("q", "SELECT count(*) FROM pg_class"),
        Query("COMMIT"),
    ];
    stage.compare("made as another role", &before, "CREATE ROLE late", &[Run("q", &[])]);
}

#[test]
fn an_invalid_statement_fails_alone() {
    let stage = Stage::set_up();
    stage.write("CREATE TABLE gone (a int)");
    let before = [Prepare("bad", "SELECT * FROM gone"), Prepare("good", "SELECT 1")];
    let after = [
        Run("good", &[]),
        RunBoth("good", "bad"),
        RunBoth("bad", "good"),
        Query("BEGIN"),
        Run("bad", &[]),
        Run("good", &[]),
        Query("ROLLBACK"),
        Query("EXECUTE bad; SELECT 1"),
        Describe("good"),
        Query("DEALLOCATE bad"),
        Run("bad", &[]),
    ];
    let said = stage.compare("a table that was dropped", &before, "DROP TABLE gone", &after);
    assert!(said[2].contains("42P01"), "{said:?}");
}

#[test]
fn what_names_statements_in_sql_finds_them() {
    let stage = Stage::set_up();
    let before = [
        Prepare("a", "SELECT $1::int + 1"),
        Query("PREPARE b(text) AS SELECT upper($1)"),
        Prepare("runs", "EXECUTE b('x')"),
        PrepareDescribed("c", "SELECT 3"),
    ];
    let after = [
        Query("EXPLAIN (COSTS off, ANALYZE off) EXECUTE a(1)"),
        Query("SELECT 1; EXECUTE b('y')"),
        Run("runs", &[]),
        Query("SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name"),
        Prepare("a", "SELECT 2"),
        Query("PREPARE b AS SELECT 2"),
        Query("DEALLOCATE c"),
        Query("DEALLOCATE c"),
        Query("DEALLOCATE ALL"),
        Run("a", &[b"1"]),
    ];
    stage.compare("named in SQL", &before, "", &after);
}

#[test]
fn the_unnamed_statement_is_taken_along() {
    let stage = Stage::set_up();
    stage.write("CREATE TABLE u (a int)");
    let run = [Run("", &[])];
    stage.compare("described", &[PrepareDescribed("", "SELECT * FROM u")], "", &run);
    stage.compare("not described", &[Prepare("", "SELECT * FROM u")], "", &run);
    stage.compare("run already", &[Prepare("", "SELECT * FROM u"), run[0]], "", &run);
    stage.compare("changed", &[Prepare("", "SELECT * FROM u"), run[0]], "ALTER TABLE u ADD b int", &run);
}

#[test]
fn statements_outlive_a_server_that_dies() {
    let stage = Stage::set_up();
    stage.write("CREATE TABLE k (a int); INSERT INTO k VALUES (1)");
    let mut wire = Wire::login(stage.endpoint.reads());
    let before = [
        Prepare("same", "SELECT $1::int + a FROM k"),
        PrepareDescribed("changed", "SELECT * FROM k"),
        Query("PREPARE p AS SELECT 'p'"),
    ];
    for act in before {
        assert_eq!(act.run(&mut wire).error, None, "{act:?}");
    }
    let home = stage.server_of(&mut wire);
    home.kill_postmaster();
    home.wait_stopped(PATIENCE).unwrap();
    stage.cluster.primary.psql("ALTER TABLE k ADD b int DEFAULT 2").unwrap();
    let other = stage.cluster.replicas.iter().find(|replica| replica.name() != home.name()).unwrap();
    eventually(PATIENCE, "the other replica has the column", || {
        other.psql("SELECT b FROM k").is_ok_and(|answer| answer == "2")
    });
    assert_eq!(Run("same", &[b"41"]).run(&mut wire).value(), "42");
    let error = Run("changed", &[]).run(&mut wire).error.unwrap();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "0A000"));
    assert_eq!(Query("EXECUTE p").run(&mut wire).value(), "p");
}

#[test]
fn making_statements_takes_no_snapshot_in_a_transaction() {
    let stage = Stage::set_up();
    stage.write("CREATE TABLE log (a int)");
    let before = [
        Prepare("day", "SELECT '01/02/2020'::date - '2020-01-01'"),
        PrepareDescribed("all", "SELECT count(*) FROM log"),
    ];
    let after = [
        Query("BEGIN"),
        Query("SET LOCAL DateStyle = 'SQL, DMY'"),
        Query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
        Run("all", &[]),
        Run("day", &[]),
        Query("COMMIT"),
    ];
    let said = stage.compare("in a transaction", &before, "", &after);
    assert!(said.iter().all(|said| !said.contains("E(")), "{said:?}");

    let mut moved = Wire::login(stage.endpoint.reads());
    before.iter().for_each(|act| drop(act.run(&mut moved)));
    let home = stage.server_of(&mut moved).name().to_owned();
    stage.operator("drain", &home);
    eventually(PATIENCE, "the session has left its server", || stage.endpoint.sessions_on(&home) == 0);
    moved.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    moved.query("SET LOCAL TimeZone = 'UTC'");
    stage.write("INSERT INTO log VALUES (1)");
    assert_eq!(moved.value("SELECT count(*) FROM log"), "1", "the snapshot is that of the first query");
}

/// PostgreSQL compares the first 63 bytes of a name.
#[test]
fn names_are_cut_as_the_server_cuts_them() {
    let stage = Stage::set_up();
    let cut = "n".repeat(63);
    let [one, other] = ["one", "other"].map(|end| format!("{cut}{end}"));
    let prepare = format!("PREPARE {one} AS SELECT 'sql'");
    let [run, drop] = ["EXECUTE", "DEALLOCATE"].map(|word| format!("{word} \"{other}\""));
    let makes =
        [Prepare(&one, "SELECT 'protocol'"), PrepareDescribed(&one, "SELECT 'described'"), Query(&prepare)];
    for make in makes {
        let before = [make, Prepare(&other, "SELECT 'second'"), Run(&cut, &[])];
        let after = [
            Query(&run),
            Run(&other, &[]),
            Describe(&cut),
            Prepare(&other, "SELECT 'second'"),
            Query(&prepare),
            RunBoth(&one, &other),
            Query("SELECT name FROM pg_prepared_statements"),
            Close(&other),
            Run(&one, &[]),
            Prepare(&one, "SELECT 'again'"),
            Query(&drop),
            Run(&one, &[]),
        ];
        let said = stage.compare(&format!("{make:?}"), &before, "", &after);
        assert!(said[0].ends_with("Z(I)") && !said[0].contains("E("), "{said:?}");
    }
}
