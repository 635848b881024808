//! Unix sockets, of servers and of the proxy's own: whatever goes over TCP goes there, too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_cluster::StopMode;
use trunkline_tests::{
    Auth, Endpoint, Wire, binary, eventually, http_get, own_cluster, psql_output, shared_cluster,
};

/// Far beyond what a healthy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn sessions_queries_and_cancels_go_over_the_socket() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over_sockets(shared_cluster()).auth(auth).start();
        for port in [endpoint.reads(), endpoint.writes()] {
            let mut wire = Wire::login(port);
            assert_eq!(wire.value("SELECT inet_server_addr() IS NULL"), "t", "{auth:?}");
            assert_eq!(
                wire.value("SELECT sum(length(repeat('x', 1000))) FROM generate_series(1, 10000)"),
                "10000000"
            );
            wire.send_query("SELECT pg_sleep(60)");
            let is_running = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
            eventually(PATIENCE, "the query runs", || {
                shared_cluster().servers().any(|server| server.psql(is_running).unwrap() == "t")
            });
            wire.cancel(port);
            assert_eq!(wire.read_answer().error.unwrap().code, "57014", "{auth:?}");
        }
    }
}

#[test]
fn the_cluster_page_tells_the_sockets_path() {
    let endpoint = Endpoint::over_sockets(shared_cluster()).start();
    let page = http_get(endpoint.http(), "/cluster").unwrap().body;
    let server = shared_cluster().servers().next().unwrap();
    let socket = format!("{}/.s.PGSQL.{}", shared_cluster().socket_dir().display(), server.port());
    assert!(page.contains(&socket), "{page}");
}

#[test]
fn a_server_that_dies_is_noticed_and_its_session_goes_on() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over_sockets(&cluster).auth(Auth::Verify).start();
    let mut wire = Wire::login(endpoint.reads());
    let own = wire.value("SELECT current_setting('cluster_name')");
    let victim = cluster.servers().find(|server| server.name() == own).unwrap();
    victim.stop(StopMode::Immediate).unwrap();
    let next = wire.value("SELECT current_setting('cluster_name')");
    assert_ne!(next, own);
    assert_eq!(wire.value("SELECT inet_server_addr() IS NULL"), "t");
    endpoint.await_health(&own, false, PATIENCE);
    let socket = format!("{}/.s.PGSQL.{}", cluster.socket_dir().display(), victim.port());
    let reason = format!("no socket {socket}: start the server");
    eventually(PATIENCE, "the page says what to do", || {
        http_get(endpoint.http(), "/cluster").unwrap().body.contains(&reason)
    });
}

#[test]
fn check_takes_the_directory_and_refuses_the_socket_itself() {
    let cluster = shared_cluster();
    let (directory, port) = (cluster.socket_dir().display(), cluster.primary.port());
    let check = |address: &str| {
        let output = Command::new(binary()).args(["check", "--primary", address]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (is_valid, said) = check(&format!("{directory}:{port}"));
    assert!(is_valid && said.contains(&format!(" {directory}:{port} ")), "{said}");
    let (is_valid, said) = check(&format!("{directory}/.s.PGSQL.{port}"));
    assert!(!is_valid && said.contains(&format!("write its directory, \"{directory}:{port}\"")), "{said}");
}

#[test]
fn clients_come_over_a_socket_that_goes_with_the_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let (host, port) = (directory.path().to_str().unwrap(), 5434);
    let socket = directory.path().join(format!(".s.PGSQL.{port}"));
    // As a dead process leaves it.
    drop(UnixListener::bind(&socket).unwrap());
    let listener = |mode: &str| {
        format!(
            "[[listener]]\nname = \"local\"\naddress = \"{host}:{port}\"\nunix_socket_permissions = \"{mode}\"\n"
        )
    };
    let builder = Endpoint::over(shared_cluster()).toml(&listener("0700")).with_admin();
    let mut endpoint = builder.key("log.connections", "\"on\"").start();
    let mode = || socket.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o700);
    let output = psql_output(port, &[("PGHOST", host)], "SELECT pg_is_in_recovery()");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "t\n", "{output:?}");
    eventually(PATIENCE, "the log has PostgreSQL's word", || endpoint.log().contains("client.addr=[local]"));

    endpoint.replace_toml(&listener("0777"));
    assert_eq!(endpoint.admin(&["reload"]).0, Some(0));
    assert_eq!(mode(), 0o777);

    let address = format!("{host}:{port}");
    let second = ["serve", "--primary", "127.0.0.1:1", "--http", "off", "--reads", &address];
    let output = Command::new(binary()).args(second).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let error = format!("could not listen on {} (reads): another process listens there", socket.display());
    assert!(!output.status.success() && said.contains(&error) && said.contains("HINT: "), "{said}");

    endpoint.signal(Signal::SIGTERM);
    assert!(endpoint.await_end(PATIENCE).success());
    assert!(!socket.exists());
}
