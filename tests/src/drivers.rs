//! Clients that people use: psql, pgbench, psycopg.

use std::io::Write as _;
use std::process::{Command, Output};

use trunkline_cluster::PgInstall;

use crate::{root, tls_is_on};

/// Connection environment of the superuser, for any libpq program.
fn client(program: &str, port: u16) -> Command {
    let mut command = match PgInstall::find(None) {
        Ok(install) => install.command(program),
        Err(error) => panic!("{error}"),
    };
    environment(&mut command, port);
    command
}

fn environment(command: &mut Command, port: u16) {
    command.envs([
        ("PGHOST", "127.0.0.1"),
        ("PGUSER", "postgres"),
        ("PGPASSWORD", "postgres"),
        ("PGDATABASE", "appdb"),
        ("PGCONNECT_TIMEOUT", "20"),
        // Trunkline answers 'N' to both; asking costs round trips that no test is about.
        ("PGGSSENCMODE", "disable"),
    ]);
    command.env("PGPORT", port.to_string());
    if tls_is_on() {
        // A login that could be bound to the client's TLS cannot be relayed into the server's.
        command.env("PGCHANNELBINDING", "disable");
    }
}

/// What `sql` returns through a fresh psql.
///
/// # Panics
/// When psql fails, with what it said.
#[track_caller]
pub fn psql(port: u16, sql: &str) -> String {
    let output = psql_output(port, &[], sql);
    assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// How a fresh psql ends; `extra` is more of its environment, such as `PGUSER`.
#[must_use]
pub fn psql_output(port: u16, extra: &[(&str, &str)], sql: &str) -> Output {
    let mut command = client("psql", port);
    command.envs(extra.iter().copied()).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    command.output().expect("psql is beside the server's programs")
}

/// A pgbench run's result.
#[derive(Debug)]
pub struct Pgbench {
    /// How it ended.
    pub is_success: bool,
    /// Transactions processed, when it says.
    pub processed: Option<u64>,
    /// All its output.
    pub output: String,
}

/// Runs pgbench against `port` with a script of one statement.
#[must_use]
pub fn pgbench(port: u16, arguments: &[&str], script: &str) -> Pgbench {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::io::Write::write_all(&mut file, script.as_bytes()).expect("it takes a line");
    let mut command = client("pgbench", port);
    command.arg("-n").args(arguments).arg("-f").arg(file.path());
    let output = command.output().expect("pgbench is beside the server's programs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let processed = text.lines().find_map(|line| {
        let count = line.strip_prefix("number of transactions actually processed: ")?;
        count.split('/').next()?.trim().parse().ok()
    });
    Pgbench { is_success: output.status.success(), processed, output: text }
}

/// What a Python program prints that uses the driver in `target/venv`.
///
/// # Panics
/// When it fails, with its traceback.
#[track_caller]
#[must_use]
pub fn python(port: u16, program: &str) -> String {
    let interpreter = root().join("target/venv/bin/python");
    assert!(interpreter.exists(), "{} is missing: scripts/ci/tools.sh all makes it", interpreter.display());
    let mut command = Command::new(interpreter);
    environment(&mut command, port);
    let output = command.args(["-c", program]).output().expect("the interpreter runs");
    assert!(output.status.success(), "python: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Says that a driver is not tried, past the harness, which hides what passing tests print.
pub fn driver_skipped(driver: &str, why: &str) {
    let _unseen = writeln!(std::io::stderr(), "    {driver}: SKIPPED, {why}");
}

/// Whether such a program can be run.
#[must_use]
pub fn has_program(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(name).exists())
}
