//! Drivers, their pools, and what is built on them, in transaction mode and on one port for reads and writes: what a program
//! does there is what it does on a direct connection. Each has more clients at once than the pool has server connections.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use trunkline_cluster::{Cluster, PgInstall};
use trunkline_tests::{
    Endpoint, EndpointBuilder, Login, driver_skipped, eventually, has_program, root, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Server connections of each pool; the programs have at least twice as many clients.
const POOL_SIZE: u16 = 3;
/// A session that keeps a server connection for no reason makes others wait, and then fail.
const QUERY_WAIT: &str = "\"20s\"";
/// How long one of the replicas waits until it shows what was committed.
const DELAY: &str = "300ms";
/// Returns when the replicas show what the primary has committed by now.
const SETTLED: &str = "DO $$ DECLARE written pg_lsn = pg_current_wal_flush_lsn(); BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn < written) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$";
/// The password of each role.
const PASSWORD: &str = "secret";
/// Where Debian's packages of Go libraries are.
const GO_LIBRARIES: &str = "/usr/share/gocode";
/// Where Debian's package has it.
const PGJDBC: &str = "/usr/share/java/postgresql.jar";

/// A program of the directory `pooling_clients`.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pooling_clients").join(name)
}

/// A primary and two replicas, of which one is late.
fn cluster() -> &'static Cluster {
    static DELAYED: Once = Once::new();
    let cluster = shared_cluster();
    DELAYED.call_once(|| cluster.replicas[1].set("recovery_min_apply_delay", DELAY).unwrap());
    cluster
}

fn pooling() -> EndpointBuilder {
    Endpoint::over(cluster()).pooling(POOL_SIZE).key("pool.query_wait_timeout", QUERY_WAIT)
}

/// What `program` prints on the primary itself, through a pool of it, and where its reads go to replicas, each in a new database of
/// its own, is the same.
///
/// It runs the command `SETTLED` where one of its clients looks at what another has written: a replica may not show it yet.
#[track_caller]
fn assert_as_direct(name: &str, program: impl Fn() -> Command) {
    let primary = &cluster().primary;
    // Drivers refuse the cheap password of the tests' superuser.
    primary.psql(&format!("CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{PASSWORD}'")).unwrap();
    let database = |how: &str| {
        let database = format!("{name}_{how}");
        primary.psql(&format!("CREATE DATABASE {database} OWNER {name}")).unwrap();
        database
    };
    let run = |database: &str, port: u16| {
        let mut program = program();
        program.envs([("PGUSER", name), ("PGPASSWORD", PASSWORD), ("PGDATABASE", database)]);
        program.env("SETTLED", settled());
        said(program, port)
    };
    let direct = run(&database("direct"), primary.port());
    assert!(direct.ends_with("done"), "{direct}");
    let assert_same = |other: &str| {
        let differences = differences(&direct, other);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    };
    assert_same(&run(&database("pooled"), pooling().start().writes()));
    let listener =
        "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";
    let split = pooling().toml(listener).start();
    let database = database("split");
    reads_on_replica(&split, &database);
    assert_same(&run(&database, split.writes()));
}

fn reads_on_replicas(split: &Endpoint) -> u64 {
    split.counted("trunkline_requests_routed_total{reason=\"proven\"}")
}

/// Reads in this database until a replica is asked: its catalog is known then.
#[track_caller]
fn reads_on_replica(split: &Endpoint, database: &str) {
    let parameters = vec![("database".to_owned(), database.to_owned())];
    let mut wire = Login { parameters, ..Login::default() }.connect(split.writes());
    let before = reads_on_replicas(split);
    eventually(PATIENCE, "a read goes to a replica", || {
        wire.value("SELECT 1");
        reads_on_replicas(split) > before
    });
}

/// The command for the shell.
fn settled() -> String {
    let psql = PgInstall::find(None).unwrap().bin.join("psql");
    format!("{} -Xq '{}' -c '{SETTLED}'", psql.display(), cluster().primary.conninfo())
}

/// The lines that are not the same.
fn differences(direct: &str, other: &str) -> Vec<String> {
    let mut others = other.lines();
    let mut different: Vec<String> = Vec::new();
    for line in direct.lines() {
        let other = others.next().unwrap_or("nothing");
        if line != other {
            different.push(format!("direct: {line}\nhere: {other}"));
        }
    }
    different.extend(others.map(|line| format!("direct: nothing\nhere: {line}")));
    different
}

/// What a program prints that takes its connection from the environment.
///
/// # Panics
/// When it fails, with what it said.
#[track_caller]
fn said(mut program: Command, port: u16) -> String {
    program.envs([("PGHOST", "127.0.0.1"), ("PGGSSENCMODE", "disable")]).env("PGPORT", port.to_string());
    let output = program.output().expect("the program runs");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    assert!(output.status.success(), "{out}\n{err}");
    out
}

fn python(program: &str) -> Command {
    let interpreter = root().join("target/venv/bin/python");
    assert!(interpreter.exists(), "{} is missing: scripts/ci/tools.sh all makes it", interpreter.display());
    let mut command = Command::new(interpreter);
    // Nothing compiled is left beside the program.
    command.arg("-B").arg(source(program));
    command
}

#[test]
fn psycopg_and_its_pool() {
    assert_as_direct("of_psycopg", || python("with_psycopg.py"));
}

#[test]
fn asyncpg_and_its_pool() {
    assert_as_direct("of_asyncpg", || python("with_asyncpg.py"));
}

#[test]
fn sqlalchemy_and_its_pools() {
    assert_as_direct("of_sqlalchemy", || python("with_sqlalchemy.py"));
}

#[test]
fn django_with_persistent_connections() {
    assert_as_direct("of_django", || python("with_django.py"));
}

#[test]
fn node_postgres_and_its_pool() {
    let modules = root().join("target/node/node_modules");
    if !has_program("node") || !modules.join("pg").exists() {
        return driver_skipped(
            "node postgres",
            "no node or no driver here (npm install --prefix target/node pg)",
        );
    }
    assert_as_direct("of_node", || {
        let mut node = Command::new("node");
        node.env("NODE_PATH", &modules).arg(source("with_node.js"));
        node
    });
}

#[test]
fn pgjdbc_in_many_threads() {
    if !has_program("java") || !Path::new(PGJDBC).exists() {
        return driver_skipped(
            "pgjdbc",
            "no Java or no driver here (apt-get install libpostgresql-jdbc-java)",
        );
    }
    assert_as_direct("of_pgjdbc", || {
        let mut java = Command::new("java");
        java.args(["-cp", PGJDBC]).arg(source("WithJdbc.java"));
        java
    });
}

#[test]
fn lib_pq_and_the_pool_of_go() {
    let driver = Path::new(GO_LIBRARIES).join("src/github.com/lib/pq");
    assert!(driver.exists(), "{} is missing: scripts/ci/tools.sh all installs it", driver.display());
    assert_as_direct("of_go", || {
        let mut go = Command::new("go");
        go.env("GOPATH", GO_LIBRARIES)
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "")
            .env("GOTOOLCHAIN", "local");
        go.env("GOCACHE", root().join("target/go")).arg("run").arg(source("with_go.go"));
        go
    });
}

#[test]
fn active_record_and_its_pool() {
    let ruby = || {
        let mut ruby = Command::new("ruby");
        ruby.arg(source("with_rails.rb"));
        ruby
    };
    let is_installed = Command::new("ruby").args(["-e", "require 'active_record'; require 'pg'"]).output();
    if !is_installed.is_ok_and(|output| output.status.success()) {
        return driver_skipped("active record", "no Rails here (apt-get install ruby-activerecord ruby-pg)");
    }
    assert_as_direct("of_rails", ruby);
}
