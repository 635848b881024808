//! The budget of system calls: what the kernel's TCP costs cannot be saved, calls can.
//!
//! One query is two reads, two writes and, for a lone client, two waits; clients in a batch share the waits.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_cluster::PortLease;

/// System calls per query of a lone client.
const BUDGET_ALONE: f64 = 6.02;
/// And of each of sixteen.
const BUDGET_OF_SIXTEEN: f64 = 4.3;
/// How long each load runs.
const LOAD_SECONDS: f64 = 3.0;
/// Timers, the login and news of health make calls, too, whatever the number of queries: on a slow machine
/// they would count as more per query.
const BESIDE_QUERIES_PER_SECOND: f64 = 20.0;
/// How long the proxy may take to find its server healthy.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

struct Stage {
    proxy: Running,
    _server: Running,
    reads: PortLease,
    _http: PortLease,
}

fn stage() -> Stage {
    let mut server = Command::new(env!("CARGO_BIN_EXE_fakepg"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("fakepg runs");
    let mut port = String::new();
    BufReader::new(server.stdout.take().expect("it is piped"))
        .read_line(&mut port)
        .expect("it says its port");
    let (reads, http) = (PortLease::take().expect("a free port"), PortLease::take().expect("a free port"));
    let proxy = Command::new(trunkline_tests::binary())
        .args(["serve", "--config", "/dev/null", "--threads", "1", "--monitor", "user=bench dbname=bench"])
        .args(["--primary", &format!("primary=127.0.0.1:{}", port.trim())])
        .args([
            "--reads",
            &format!("127.0.0.1:{}", reads.port()),
            "--http",
            &format!("127.0.0.1:{}", http.port()),
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let stage = Stage { proxy: Running(proxy), _server: Running(server), reads, _http: http };
    let deadline = Instant::now() + READY_TIMEOUT;
    while !is_served(stage.reads.port()) {
        assert!(Instant::now() < deadline, "the proxy serves nobody");
        std::thread::sleep(Duration::from_millis(50));
    }
    stage
}

fn is_served(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok() && load(port, 1, "0.01").is_some()
}

fn load(port: u16, clients: u32, seconds: &str) -> Option<f64> {
    let out = Command::new(env!("CARGO_BIN_EXE_pgload"))
        .args(["loop", "--warm-up", "0", "--seconds", seconds, "--port", &port.to_string()])
        .args(["--clients", &clients.to_string()])
        .stderr(Stdio::null())
        .output()
        .expect("pgload runs");
    let figures: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
    figures["count"].as_f64()
}

/// The thread that relays: the others probe and log.
fn worker(pid: u32) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut ids = tasks.flatten().filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "worker-0")
    });
    ids.next()?.file_name().to_str()?.parse().ok()
}

/// System calls of the relaying thread per query, as strace counts them.
fn calls_per_query(stage: &Stage, clients: u32) -> Option<f64> {
    let thread = worker(stage.proxy.0.id()).expect("the proxy has a worker");
    let mut strace =
        Command::new("strace").args(["-c", "-p", &thread.to_string()]).stderr(Stdio::piped()).spawn().ok()?;
    std::thread::sleep(Duration::from_millis(300));
    load(stage.reads.port(), clients, &LOAD_SECONDS.to_string()).expect("the proxy serves");
    // What strace is attached to lives on; it tells its figures on SIGINT.
    trunkline_cluster::send_signal(i32::try_from(strace.id()).ok()?, nix::sys::signal::Signal::SIGINT);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut strace.stderr.take()?, &mut told).ok()?;
    strace.wait().ok()?;
    let calls = |name: &str| {
        let line = told.lines().find(|line| line.split_whitespace().last() == Some(name))?;
        line.split_whitespace().nth(3)?.parse::<f64>().ok()
    };
    let beside = BESIDE_QUERIES_PER_SECOND * LOAD_SECONDS;
    Some((calls("total")? - beside).max(0.0) / (calls("sendto")? / 2.0))
}

#[test]
fn a_query_keeps_to_its_budget_of_system_calls() {
    if !Path::new("/usr/bin/strace").exists() {
        eprintln!("not counted: strace is not installed");
        return;
    }
    let stage = stage();
    for (clients, budget) in [(1, BUDGET_ALONE), (16, BUDGET_OF_SIXTEEN)] {
        let Some(calls) = calls_per_query(&stage, clients) else {
            eprintln!("not counted: strace may not attach here");
            return;
        };
        assert!(calls <= budget, "{clients} clients: {calls:.3} system calls per query, {budget} allowed");
        println!("{clients} clients: {calls:.3} system calls per query");
    }
}
