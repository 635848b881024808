//! libpq 18 and what is built on it; that of Debian's version is what all other suites use.

use std::process::{Command, Output};

use trunkline_tests::pg18;

use crate::{endpoint, printed, trusted};

/// A program of PostgreSQL 18 that verifies in full and binds its login.
pub(super) fn client(program: &str, port: u16, negotiation: &str) -> Command {
    let mut command = pg18().command(program);
    command.envs([
        ("PGHOST", "127.0.0.1"),
        ("PGUSER", "app"),
        ("PGPASSWORD", "app secret"),
        ("PGDATABASE", "appdb"),
        ("PGSSLMODE", "verify-full"),
        ("PGCHANNELBINDING", "require"),
        ("PGSSLNEGOTIATION", negotiation),
    ]);
    command.env("PGSSLROOTCERT", trusted()).env("PGPORT", port.to_string());
    command
}

fn psql(port: u16, negotiation: &str, sql: &[&str]) -> Output {
    let mut command = client("psql", port, negotiation);
    command.args(["-XAtq", "-v", "ON_ERROR_STOP=1"]);
    for each in sql {
        command.args(["-c", each]);
    }
    command.output().unwrap()
}

/// What psql sends before it reads any answer.
const PIPELINE: &str = "\\startpipeline
SELECT 1 \\bind \\sendpipeline
SELECT $1 \\bind 2 \\sendpipeline
\\endpipeline
";

#[test]
fn psql_18_binds_its_login_however_tls_begins() {
    let endpoint = endpoint().start();
    for negotiation in ["postgres", "direct"] {
        let told = printed(&psql(endpoint.reads(), negotiation, &["\\conninfo"]));
        for (name, value) in [("SSL Connection", "true"), ("SSL Protocol", "TLSv1.3")] {
            assert!(told.lines().any(|line| line == format!("{name}|{value}")), "{negotiation}: {told}");
        }
        let ssl = "SELECT ssl, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let copied = "\\copy (SELECT repeat('x', 99) FROM generate_series(1, 10000)) TO PROGRAM 'wc -c'";
        let said = printed(&psql(endpoint.reads(), negotiation, &[ssl, copied]));
        assert_eq!(said, "t|app\n1000000", "{negotiation}");
        let mut piped = client("psql", endpoint.reads(), negotiation);
        piped.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        assert_eq!(printed(&fed(piped, PIPELINE)), "1\n2", "{negotiation}");
    }
    // What does not name the protocol, or trusts another root, gets nowhere.
    let mut other = client("psql", endpoint.reads(), "direct");
    other.env("PGSSLROOTCERT", "system").args(["-XAtqc", "SELECT 1"]);
    let output = other.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("certificate verify failed"), "{said}");
}

/// A program that reads `text`.
fn fed(mut command: Command, text: &str) -> Output {
    use std::io::{Seek as _, Write as _};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    command.stdin(file).output().unwrap()
}

#[test]
fn pgbench_18_runs_in_every_protocol_mode_however_tls_begins() {
    let endpoint = endpoint().start();
    let mut script = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut script, b"SELECT 1;\n").unwrap();
    for negotiation in ["postgres", "direct"] {
        for mode in ["simple", "extended", "prepared"] {
            let mut command = client("pgbench", endpoint.reads(), negotiation);
            command.args(["-n", "-C", "-c", "2", "-t", "20", "-M", mode, "-f"]).arg(script.path());
            let said = printed(&command.output().unwrap());
            assert!(said.contains("actually processed: 40/40"), "{negotiation}, {mode}: {said}");
        }
    }
}
