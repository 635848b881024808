//! What `trunkline init-sql` prints is run as it is, and suffices for `verify`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use trunkline_cluster::{Cluster, MONITOR_PASSWORD, PgInstall, PortLease, send_signal};
use trunkline_tests::{Auth, Endpoint, Login, binary, own_cluster, shared_cluster};

/// What the command prints.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(binary()).arg("init-sql").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a file through psql as the superuser. `\password` asks its terminal, or without one its standard input.
fn run_by_psql(cluster: &Cluster, sql: &str, password: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(sql.as_bytes()).unwrap();
    let psql = PgInstall::find(None).unwrap().bin.join("psql");
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(psql).args(["-X", "-h"]).arg(cluster.socket_dir());
    command.args(["-p", &cluster.primary.port().to_string(), "-U", "postgres", "-d", "appdb", "-f"]);
    command.arg(file.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    write!(child.stdin.take().unwrap(), "{password}\n{password}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A cluster without a monitoring role, with an ordinary user.
fn bare_cluster() -> Cluster {
    let cluster = own_cluster(1);
    cluster
        .primary
        .psql(
            "CREATE ROLE app LOGIN PASSWORD 'app secret';
             CREATE ROLE expired_user LOGIN PASSWORD 'e' VALID UNTIL '2001-01-01'",
        )
        .unwrap();
    forget_role(&cluster);
    cluster
}

fn forget_role(cluster: &Cluster) {
    cluster
        .primary
        .psql(
            "DROP SCHEMA IF EXISTS trunkline CASCADE;
             DROP OWNED BY trunkline_monitor; DROP ROLE trunkline_monitor",
        )
        .unwrap();
}

fn logs_in_through_verify(cluster: &Cluster) {
    cluster.wait_caught_up().unwrap();
    let endpoint = Endpoint::over(cluster).auth(Auth::Verify).start();
    let mut wire = Login::of("app", "app secret").connect(endpoint.reads());
    assert_eq!(wire.value("SELECT current_user"), "app");
    for user in ["app", "nobody", "expired_user"] {
        let error = Login::of(user, "wrong").try_connect(endpoint.reads()).unwrap_err();
        assert_eq!(error.code, "28P01", "{user}: {error:?}");
    }
}

#[test]
fn each_recipe_lets_an_ordinary_user_log_in_through_verify() {
    let cluster = bare_cluster();
    run_by_psql(&cluster, &printed(&[]), MONITOR_PASSWORD);
    let may_read = "SELECT has_table_privilege('trunkline_monitor', 'pg_authid', 'SELECT'), \
                    has_function_privilege('trunkline_monitor', 'trunkline.user_secret(text)', 'EXECUTE'), \
                    has_function_privilege('app', 'trunkline.user_secret(text)', 'EXECUTE')";
    assert_eq!(cluster.primary.psql(may_read).unwrap(), "f|t|f");
    cluster.primary.psql("CREATE ROLE no_login").unwrap();
    let says = "SELECT string_agg(concat_ws(' ', name, is_expired, can_login), ', ' ORDER BY name) \
                FROM unnest(ARRAY['app', 'expired_user', 'no_login']) AS wanted, trunkline.user_secret(wanted)";
    assert_eq!(cluster.primary.psql(says).unwrap(), "app f t, expired_user t t, no_login f f");
    logs_in_through_verify(&cluster);
    forget_role(&cluster);
    run_by_psql(&cluster, &printed(&["--verify", "pg_authid"]), MONITOR_PASSWORD);
    logs_in_through_verify(&cluster);
}

#[test]
fn a_function_whose_owner_may_not_read_secrets_is_not_asked() {
    let cluster = own_cluster(1);
    cluster
        .primary
        .psql(
            "REVOKE SELECT ON pg_authid FROM trunkline_monitor;
             CREATE ROLE app LOGIN PASSWORD 'app secret';
             CREATE ROLE forger; GRANT CREATE ON DATABASE appdb TO forger; SET ROLE forger;
             CREATE SCHEMA trunkline; GRANT USAGE ON SCHEMA trunkline TO trunkline_monitor;
             CREATE FUNCTION trunkline.user_secret(wanted text)
             RETURNS TABLE (name text, secret text, is_expired boolean, can_login boolean)
             LANGUAGE sql AS $$ SELECT wanted, 'invented', false, true $$",
        )
        .unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let error = Login::of("app", "app secret").try_connect(endpoint.reads()).unwrap_err();
    assert_eq!(error.code, "57P03", "{error:?}");
    let log = endpoint.log();
    assert!(log.contains("(SQLSTATE 42501); run what `trunkline init-sql` prints"), "{log}");
    // What that is mends it without a restart, and keeps the role that is there, with its password.
    cluster.primary.psql("DROP OWNED BY forger CASCADE").unwrap();
    run_by_psql(&cluster, &printed(&[]), "not asked for");
    cluster.wait_caught_up().unwrap();
    assert_eq!(Login::of("app", "app secret").connect(endpoint.reads()).value("SELECT 1"), "1");
}

#[test]
fn a_query_that_says_null_of_an_unknown_user_refuses_as_a_server_does() {
    let cluster = own_cluster(1);
    cluster
        .primary
        .psql(
            "CREATE FUNCTION public.own_secret(wanted text, OUT name text, OUT secret text) LANGUAGE sql SECURITY DEFINER \
             AS $$ SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = wanted $$",
        )
        .unwrap();
    cluster.wait_caught_up().unwrap();
    let own = "\"SELECT name, secret FROM public.own_secret($1)\"";
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).key("auth.query", own).start();
    let error = Login::of("nobody", "x").try_connect(endpoint.reads()).unwrap_err();
    assert_eq!(error.code, "28P01", "{error:?}");
    assert_eq!(Login::default().connect(endpoint.reads()).value("SELECT 1"), "1");
}

#[test]
fn the_log_says_at_the_start_whether_sessions_can_move_and_what_makes_them() {
    let cluster = shared_cluster();
    let [relay, verify] = [Auth::Relay, Auth::Verify].map(|auth| Endpoint::over(cluster).auth(auth).start());
    let log = relay.log();
    for said in ["sessions cannot move to another server", "trunkline init-sql", "--auth verify"] {
        assert!(log.contains(said), "{said} is missing in:\n{log}");
    }
    let log = verify.log();
    assert!(log.contains("sessions can move to another server") && !log.contains("init-sql"), "{log}");
}

#[test]
fn a_monitor_without_a_password_is_told_which_key_is_missing() {
    let cluster = shared_cluster();
    let port = PortLease::take().unwrap();
    // It runs until it has said so, and 20 s at most.
    let mut command = Command::new("timeout");
    command.arg("20").arg(binary());
    command.args(["serve", "--http", "off", "--monitor", "user=trunkline_monitor"]);
    command.args(["--primary", &format!("127.0.0.1:{}", cluster.primary.port())]);
    command.args(["--reads", &format!("127.0.0.1:{}", port.port())]);
    command.env("NO_COLOR", "1").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let said = log.lines().map_while(Result::ok).find(|line| line.contains("none is set"));
    send_signal(child.id().try_into().unwrap(), Signal::SIGTERM);
    child.wait().unwrap();
    let said = said.unwrap();
    assert!(said.contains("the server asks for a password, and none is set"), "{said}");
}
