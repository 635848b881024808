//! The budget of system calls: what the kernel's TCP costs cannot be saved, calls can.
//!
//! One query is two reads, two writes and, for a lone client, two waits; clients in a batch share the waits.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::stage::Stage;

mod stage;

/// System calls per query of a lone client.
const BUDGET_ALONE: f64 = 6.02;
/// And of each of sixteen.
const BUDGET_OF_SIXTEEN: f64 = 4.3;
/// How long each load runs.
const LOAD_SECONDS: f64 = 3.0;
/// Timers, the login and news of health make calls, too, whatever the number of queries: on a slow machine
/// they would count as more per query.
const BESIDE_QUERIES_PER_SECOND: f64 = 20.0;

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
    let thread = worker(stage.proxy_id()).expect("the proxy has a worker");
    let mut strace =
        Command::new("strace").args(["-c", "-p", &thread.to_string()]).stderr(Stdio::piped()).spawn().ok()?;
    std::thread::sleep(Duration::from_millis(300));
    stage.load(clients, LOAD_SECONDS).expect("the proxy serves");
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
    let stage = Stage::set(&[]);
    for (clients, budget) in [(1, BUDGET_ALONE), (16, BUDGET_OF_SIXTEEN)] {
        let Some(calls) = calls_per_query(&stage, clients) else {
            eprintln!("not counted: strace may not attach here");
            return;
        };
        assert!(calls <= budget, "{clients} clients: {calls:.3} system calls per query, {budget} allowed");
        println!("{clients} clients: {calls:.3} system calls per query");
    }
}
