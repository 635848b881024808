//! A replica that is up and fresh but slow loses its share and gets it back; uneven loads cost nobody anything.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_cluster::Cluster;
use trunkline_tests::{
    Auth, Endpoint, Forwarder, Login, Weather, Wire, binary, eventually, http_get, own_cluster,
};

/// Sessions of a load.
const SESSIONS: usize = 24;

/// How long anything may take on a busy machine. What the times are when it is not is printed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a session of a load runs, in turn.
const STATEMENTS: [&str; 4] = [
    "SELECT 1",
    "SELECT count(*) FROM generate_series(1, 200)",
    "SELECT relname FROM pg_class WHERE oid = 1259",
    "SELECT current_setting('work_mem')",
];

/// Sessions that run one statement after the other until this is dropped.
struct Load {
    is_over: Arc<AtomicBool>,
    sessions: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(port: u16, login: &Login, sessions: usize, statements: &'static [&'static str]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let session = |_| {
            let (is_over, mut wire) = (Arc::clone(&is_over), login.connect(port));
            std::thread::spawn(move || {
                for sql in statements.iter().cycle() {
                    if is_over.load(Relaxed) {
                        return;
                    }
                    wire.value(sql);
                    // A client thinks; and the machine has other tests to run.
                    std::thread::sleep(Duration::from_millis(10));
                }
            })
        };
        let sessions = (0..sessions).map(session).collect();
        Load { is_over, sessions }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        let failed = self.sessions.drain(..).filter_map(|session| session.join().err()).count();
        assert!(failed == 0 || std::thread::panicking(), "{failed} sessions saw an error");
    }
}

fn started(cluster: &Cluster) -> Endpoint {
    Endpoint::over(cluster).auth(Auth::Verify).start()
}

/// What `/cluster` says of a server's speed.
fn speed(endpoint: &Endpoint, name: &str) -> Value {
    let body = http_get(endpoint.http(), "/cluster").unwrap().body;
    let cluster: Value = serde_json::from_str(&body).unwrap();
    let members = cluster["members"].as_array().unwrap().clone();
    members.into_iter().find(|member| member["name"] == name).unwrap()["speed"].clone()
}

fn share_kept(endpoint: &Endpoint, name: &str) -> f64 {
    speed(endpoint, name)["share"].as_f64().unwrap_or(1.0)
}

/// Statements that each server has completed.
fn statements(endpoint: &Endpoint, name: &str) -> f64 {
    let text = http_get(endpoint.http(), "/metrics").unwrap().body;
    let begins = format!("trunkline_statements_total{{server=\"{name}\"");
    let counts = text.lines().filter(|line| line.starts_with(&begins));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// A server's share of the statements of the next three seconds, relative to an even one of three.
fn share_of_statements(endpoint: &Endpoint, name: &str) -> f64 {
    let all =
        |endpoint: &Endpoint| ["replica1", "replica2", "replica3"].map(|name| statements(endpoint, name));
    let before = (all(endpoint), statements(endpoint, name));
    std::thread::sleep(Duration::from_secs(3));
    let after = (all(endpoint), statements(endpoint, name));
    let ran = after.0.iter().sum::<f64>() - before.0.iter().sum::<f64>();
    3.0 * (after.1 - before.1) / ran
}

#[test]
fn one_replica_of_three_behind_50_ms_loses_its_share_and_has_it_again() {
    let cluster = own_cluster(3);
    let network = Forwarder::to(cluster.replicas[1].port());
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).through("replica2", network.port()).start();
    let _load = Load::start(endpoint.reads(), &Login::default(), SESSIONS, &STATEMENTS);
    eventually(PATIENCE, "the servers are compared", || {
        speed(&endpoint, "replica2")["verdict"] == "fine" && endpoint.sessions_on("replica2") >= 7
    });
    network.set(Weather::Slow(Duration::from_millis(25)));
    let since = Instant::now();
    eventually(PATIENCE, "the slow one keeps a tenth", || share_kept(&endpoint, "replica2") <= 0.11);
    eventually(PATIENCE, "its sessions have moved", || endpoint.sessions_on("replica2") <= 2);
    println!("slow after {:?}", since.elapsed());
    let share = share_of_statements(&endpoint, "replica2");
    assert!(share < 0.2, "{share} of its share of the statements");
    for peer in ["replica1", "replica3"] {
        assert!(share_kept(&endpoint, peer) >= 0.8, "{peer}: {}", speed(&endpoint, peer));
    }
    assert_eq!(endpoint.status_of("/replica2"), 200, "it is up all the while");
    let http = format!("127.0.0.1:{}", endpoint.http());
    let output = Command::new(binary()).args(["status", "--why", "--http", &http]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = told.lines().rfind(|line| line.starts_with("replica2")).unwrap_or_default();
    assert!(line.contains("0.10") && line.contains("slow"), "{told}");

    network.set(Weather::Fair);
    let since = Instant::now();
    eventually(PATIENCE, "it has its weight again", || share_kept(&endpoint, "replica2") >= 1.0);
    eventually(PATIENCE, "it has its sessions again", || endpoint.sessions_on("replica2") >= 7);
    println!("fast again after {:?}", since.elapsed());
    let share = share_of_statements(&endpoint, "replica2");
    assert!(share > 0.8, "{share} of its share of the statements");
}

/// A fair stand-in for a processor that others use: the server stands still for most of the time.
#[test]
fn a_replica_that_stands_still_for_most_of_the_time_loses_weight_and_has_it_again() {
    let cluster = own_cluster(3);
    let endpoint = started(&cluster);
    let _load = Load::start(endpoint.reads(), &Login::default(), SESSIONS, &STATEMENTS);
    let hogged = &cluster.replicas[0];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                hogged.pause();
                std::thread::sleep(Duration::from_millis(80));
                hogged.resume();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let found = eventually(PATIENCE, "it has lost half of its weight or more", || {
            share_kept(&endpoint, "replica1") <= 0.5
        });
        println!("slow after {found:?}");
        is_over.store(true, Relaxed);
    });
    let since = eventually(PATIENCE, "it has its weight again", || share_kept(&endpoint, "replica1") >= 1.0);
    println!("fast again after {since:?}");
}

/// Heavy statements of its own, and one tenant whose rows make the same statements slow in its sessions alone.
#[test]
fn uneven_loads_cost_no_replica_its_weight() {
    let cluster = own_cluster(3);
    let endpoint = started(&cluster);
    let _even = Load::start(
        endpoint.reads(),
        &Login::default(),
        SESSIONS,
        &["SELECT 1", "SELECT count(*) FROM generate_series(1, 100)", "SELECT pg_sleep(0.001)"],
    );
    let on = |name: &str| Login::default().with("options", &format!("-c trunkline.server={name}"));
    let _reports = Load::start(endpoint.reads(), &on("replica1"), 6, &["SELECT 'report', pg_sleep(0.05)"]);
    let _tenant = Load::start(
        endpoint.reads(),
        &on("replica2"),
        6,
        &["SELECT pg_sleep(0.06)", "SELECT count(*) FROM generate_series(1, 60000)"],
    );
    let until = Instant::now() + Duration::from_secs(40);
    while Instant::now() < until {
        for name in ["replica1", "replica2", "replica3"] {
            assert!(share_kept(&endpoint, name) >= 0.8, "{name}: {}", speed(&endpoint, name));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    for name in ["replica1", "replica2", "replica3"] {
        assert_ne!(speed(&endpoint, name)["cells"], 0, "{name} was compared");
    }
}

#[test]
fn switched_off_nobody_loses_weight() {
    let cluster = own_cluster(3);
    let network = Forwarder::to(cluster.replicas[1].port());
    let mut endpoint =
        Endpoint::over(&cluster).auth(Auth::Verify).through("replica2", network.port()).start();
    let _load = Load::start(endpoint.reads(), &Login::default(), SESSIONS, &STATEMENTS);
    network.set(Weather::Slow(Duration::from_millis(25)));
    eventually(PATIENCE, "it loses weight", || share_kept(&endpoint, "replica2") <= 0.5);
    endpoint.rewrite("health.slow_servers", "\"off\"");
    endpoint.signal(nix::sys::signal::Signal::SIGHUP);
    eventually(PATIENCE, "it has all of it", || speed(&endpoint, "replica2").is_null());
    eventually(PATIENCE, "it has its sessions again", || endpoint.sessions_on("replica2") >= 7);
    let mut direct = Wire::login(endpoint.reads());
    assert_eq!(direct.value("SELECT 1"), "1");
}
