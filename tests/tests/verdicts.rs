//! What health makes of servers that fail again and again: no verdict leaves a client without a server that answers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE, Server, StopMode};
use trunkline_tests::{Auth, Endpoint, Login, Wire, binary, eventually, http_get, own_cluster};

/// How long health's part may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn restart(server: &Server) {
    server.stop(StopMode::Fast).unwrap();
    server.start().unwrap();
}

/// Runs queries on one session and on fresh ones until `done`; the errors that came back.
fn read_until(port: u16, done: &AtomicBool) -> Vec<String> {
    let mut errors = Vec::new();
    let mut wire = Wire::login(port);
    while !done.load(Ordering::Relaxed) {
        errors.extend(wire.query("SELECT count(*) FROM pg_class").error.map(|error| format!("{error:?}")));
        match Login::default().try_connect(port) {
            Ok(mut fresh) => {
                errors.extend(fresh.query("SELECT 1").error.map(|error| format!("fresh: {error:?}")));
            }
            Err(error) => errors.push(format!("login: {error:?}")),
        }
    }
    errors
}

#[test]
fn replicas_restarted_in_turn_cost_no_read_though_the_primary_takes_none() {
    let cluster = own_cluster(2);
    let endpoint =
        Endpoint::over(&cluster).auth(Auth::Verify).key("health.fallback.mode", "\"none\"").start();
    let done = AtomicBool::new(false);
    let errors = std::thread::scope(|scope| {
        let reads = scope.spawn(|| read_until(endpoint.reads(), &done));
        for _ in 0..5 {
            for (replica, other) in [(0, "replica2"), (1, "replica1")] {
                // The other one has been down itself, up to a moment ago.
                endpoint.await_health(other, true, PATIENCE);
                restart(&cluster.replicas[replica]);
            }
        }
        done.store(true, Ordering::Relaxed);
        reads.join().unwrap()
    });
    assert_eq!(errors, [""; 0], "{}", endpoint.log());
}

/// The servers that refuse the monitoring role, as `/cluster` says.
fn refusing(endpoint: &Endpoint) -> Vec<String> {
    let body = http_get(endpoint.http(), "/cluster").unwrap().body;
    let cluster: serde_json::Value = serde_json::from_str(&body).unwrap();
    let members = cluster["members"].as_array().unwrap().iter();
    let refusing = members.filter(|member| member["monitor_refused"].is_string());
    refusing.map(|member| member["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_rotated_password_of_the_monitoring_role_is_told_of_every_server_that_serves_on() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).key("health.connect_check_interval", "\"200ms\"").start();
    let password = |password| {
        let sql = format!("ALTER ROLE {MONITOR_ROLE} PASSWORD '{password}'");
        cluster.primary.psql(&sql).unwrap();
    };
    password("another");
    eventually(PATIENCE, "both say so", || refusing(&endpoint) == ["primary", "replica1"]);
    assert_eq!((endpoint.status_of("/primary"), endpoint.status_of("/replica1")), (200, 200));
    // One that restarts has the refusal as its reason, not what it said last when it ended.
    restart(&cluster.replicas[0]);
    eventually(PATIENCE, "the newest failure is the reason", || {
        http_get(endpoint.http(), "/replica1").is_some_and(|answer| answer.body.contains("28P01"))
    });
    password(MONITOR_PASSWORD);
    eventually(PATIENCE, "none says so any more", || refusing(&endpoint).is_empty());
    endpoint.await_health("replica1", true, PATIENCE);
    let said = |words: &str| endpoint.log().lines().filter(|line| line.contains(words)).count();
    let accepts = || said("the server accepts the monitoring role again");
    eventually(PATIENCE, "the log says so of both", || accepts() >= 2);
    assert_eq!((said("the server refuses the monitoring role"), accepts()), (2, 2), "{}", endpoint.log());
}

/// Puts the servers of `new` where those of `old` were, as a restore or pg_upgrade does.
fn replace(old: &Cluster, new: &Cluster) {
    let ports: Vec<u16> = old.servers().map(Server::port).collect();
    let primary = format!("{} port={}", new.primary.conninfo(), ports[0]);
    new.replicas[0].set("primary_conninfo", &primary).unwrap();
    for (server, port) in new.servers().zip(&ports) {
        server.set("port", &port.to_string()).unwrap();
    }
    for server in old.servers().chain(new.servers()) {
        server.stop(StopMode::Fast).unwrap();
    }
    for server in new.servers() {
        server.launch().unwrap();
    }
}

#[test]
fn a_re_initialised_cluster_is_adopted_after_a_while_or_when_an_operator_says_so() {
    let (old, new) = (own_cluster(1), own_cluster(1));
    let endpoint = Endpoint::over(&old).auth(Auth::Verify).key("health.adopt_after", "\"2s\"").start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let by_hand = Endpoint::over(&old)
        .key("health.adopt_after", "\"0s\"")
        .flag("--admin", socket.to_str().unwrap())
        .start();
    let adopt = || {
        let output = Command::new(binary()).args(["adopt", "--admin"]).arg(&socket).output().unwrap();
        (output.status.success(), [output.stdout, output.stderr].concat())
    };
    let (is_done, said) = adopt();
    let said = String::from_utf8(said).unwrap();
    assert!(
        !is_done && said.contains("primary, replica1 answers as a server of the present cluster"),
        "{said}"
    );
    replace(&old, &new);
    for name in ["primary", "replica1"] {
        endpoint.await_health(name, true, PATIENCE);
    }
    assert_eq!(Wire::login(endpoint.writes()).value("CREATE TEMP TABLE t (x int); SELECT 1"), "1");
    assert_eq!(Wire::login(endpoint.reads()).value("SHOW cluster_name"), "replica1");
    let reason = http_get(by_hand.http(), "/primary").unwrap().body;
    assert!(reason.contains("`trunkline adopt`, or a restart of `trunkline health`, makes it"), "{reason}");
    assert!(adopt().0);
    by_hand.await_health("replica1", true, PATIENCE);
}

#[test]
fn a_query_on_a_server_that_hangs_is_answered_by_another_as_soon_as_health_knows() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let mut wire = Wire::login(endpoint.reads());
    let name = wire.value("SHOW cluster_name");
    let server = cluster.replicas.iter().find(|replica| replica.name() == name).unwrap();
    server.pause();
    let began = Instant::now();
    assert_ne!(wire.value("SHOW cluster_name"), name);
    let took = began.elapsed();
    server.resume();
    println!("answered after {took:?}");
    // Health's part, up to 2.5 s, and what a busy machine adds. `server_stall` is 5 s more.
    assert!(took < Duration::from_secs(5), "{took:?}\n{}", endpoint.log());
}

#[test]
fn a_primary_restarted_seven_times_takes_writes_as_soon_as_it_answers() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    for _ in 0..7 {
        restart(&cluster.primary);
        let answers = Instant::now();
        let mut wire = Wire::login(endpoint.writes());
        assert_eq!(wire.value("CREATE TEMP TABLE t (x int); SELECT 1"), "1");
        assert!(answers.elapsed() < Duration::from_secs(5), "{:?}\n{}", answers.elapsed(), endpoint.log());
    }
}
