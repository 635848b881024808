//! Drivers, their pools, and what is built on them, in transaction mode: what a program does there is what it does on a
//! direct connection. Each has more clients at once than the pool has server connections.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::Command;

use trunkline_tests::{Endpoint, driver_skipped, has_program, root, shared_cluster};

/// Server connections of each pool; the programs have at least twice as many clients.
const POOL_SIZE: u16 = 3;
/// A session that keeps a server connection for no reason makes others wait, and then fail.
const QUERY_WAIT: &str = "\"20s\"";
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

/// What `program` prints on the primary itself and through a pool of it, each in a new database of its own, is the same.
#[track_caller]
fn assert_as_direct(name: &str, program: impl Fn() -> Command) {
    let primary = &shared_cluster().primary;
    // Drivers refuse the cheap password of the tests' superuser.
    primary.psql(&format!("CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{PASSWORD}'")).unwrap();
    let endpoint = Endpoint::over(shared_cluster())
        .pooling(POOL_SIZE)
        .key("pool.query_wait_timeout", QUERY_WAIT)
        .start();
    let run = |how: &str, port: u16| {
        let database = format!("{name}_{how}");
        primary.psql(&format!("CREATE DATABASE {database} OWNER {name}")).unwrap();
        let mut program = program();
        program.envs([("PGUSER", name), ("PGPASSWORD", PASSWORD), ("PGDATABASE", &database)]);
        said(program, port)
    };
    let direct = run("direct", primary.port());
    assert!(direct.ends_with("done"), "{direct}");
    let pooled = run("pooled", endpoint.writes());
    let differences = differences(&direct, &pooled);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The lines that are not the same.
fn differences(direct: &str, pooled: &str) -> Vec<String> {
    let mut pooled = pooled.lines();
    let mut different: Vec<String> = Vec::new();
    for line in direct.lines() {
        let other = pooled.next().unwrap_or("nothing");
        if line != other {
            different.push(format!("direct: {line}\npooled: {other}"));
        }
    }
    different.extend(pooled.map(|line| format!("direct: nothing\npooled: {line}")));
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
