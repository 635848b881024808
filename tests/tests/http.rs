//! The HTTP contract of the checker that Trunkline replaces, on the real binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use trunkline_cluster::{MONITOR_PASSWORD, MONITOR_ROLE, PortLease};
use trunkline_tests::{Endpoint, binary, eventually, http_get, own_cluster, shared_cluster};

fn exchange(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn bodies_begin_in_the_old_checkers_words() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).start();
    let body = |path| http_get(endpoint.http(), path).unwrap().body;
    let replica = body("/replica1");
    assert!(
        replica.starts_with("200 OK - Host: replica1 (replica), is_sync: True, lag: 0.00s, real_lag: 0s"),
        "{replica}"
    );
    assert!(
        body("/primary").starts_with("200 OK - Host: primary (primary), simple check passed"),
        "{}",
        body("/primary")
    );
    cluster.replicas[0].kill();
    endpoint.await_health("replica1", false, Duration::from_secs(15));
    let down = http_get(endpoint.http(), "/replica1").unwrap();
    assert_eq!(down.status, 503);
    assert!(down.body.starts_with("503 Service Unavailable - Host: replica1"), "{}", down.body);
    assert!(!down.body.contains("OK"), "HAProxy's expect string would take it for healthy: {}", down.body);
}

#[test]
fn fleet_paths_and_probes_answer() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    for path in [
        "/replica",
        "/read-only",
        "/primary",
        "/health",
        "/livez",
        "/readyz",
        "/liveness",
        "/readiness",
        "/replica1?lag=5s",
        "/replica1?lag=10MB",
        "/metrics",
        "/cluster",
    ] {
        assert_eq!(endpoint.status_of(path), 200, "{path}");
    }
    for path in ["/nobody", "/../etc/passwd", "/any.host:5432"] {
        assert_eq!(endpoint.status_of(path), 404, "{path}");
    }
    assert_eq!(endpoint.status_of("/replica1/primary"), 503);
}

#[test]
fn haproxys_requests_are_answered_as_it_sends_them() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    for request in [
        "OPTIONS / HTTP/1.0\r\n\r\n",
        "GET /replica1 HTTP/1.0\r\n\r\n",
        "HEAD /replica1 HTTP/1.0\r\n\r\n",
        "GET /replica1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "GET http://checker/replica1 HTTP/1.0\r\n\r\n",
    ] {
        let answer = exchange(endpoint.http(), request);
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 "), "{request:?}: {answer}");
    }
    let refused = exchange(endpoint.http(), "POST /replica1 HTTP/1.0\r\n\r\n");
    assert!(refused.contains(" 405 "), "{refused}");
    let json = http_get(endpoint.http(), "/replica1?format=json").unwrap();
    let value: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert!(value.get("state").is_some(), "{value}");
}

#[test]
fn the_health_command_serves_the_checks_without_the_proxy() {
    let cluster = shared_cluster();
    let (http, agent) = (PortLease::take().unwrap(), PortLease::take().unwrap());
    let mut child = Command::new(binary())
        .arg("health")
        .args(["--primary", &format!("primary=127.0.0.1:{}", cluster.primary.port())])
        .args(["--replica", &format!("replica1=127.0.0.1:{}", cluster.replicas[0].port())])
        .args([
            "--http",
            &format!("127.0.0.1:{}", http.port()),
            "--agent",
            &format!("127.0.0.1:{}", agent.port()),
        ])
        .args(["--monitor", &format!("user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname=appdb")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(Duration::from_secs(10), "it is healthy", || {
        http_get(http.port(), "/replica1").is_some_and(|answer| answer.status == 200)
    });
    let line = exchange(agent.port(), "replica1\n");
    assert!(line.starts_with("ready up 100%"), "{line:?}");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_status_command_shows_every_server() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let output = Command::new(binary())
        .arg("status")
        .args(["--http", &format!("127.0.0.1:{}", endpoint.http())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for word in ["primary", "replica1", "replica2", "UP"] {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}
