//! Transaction mode with hundreds of clients, for as long as the environment asks: 500 of pgbench on 20 server
//! connections, and 200 that check each row, while replicas are killed and come back.
//!
//! `TRUNKLINE_POOLING_SECONDS` is how long each load lasts: each protocol of pgbench, and the rows.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_tests::{
    ClientLoad, Endpoint, Pgbench, PoolRole, SetWhenDropped, TokenLoad, TokenOutcome, eventually,
    own_cluster, pgbench,
};

/// How long anything but the load may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of each protocol, where the environment says nothing.
const PGBENCH_SECONDS: u64 = 20;
/// Of the rows with tokens.
const TOKENS_SECONDS: u64 = 60;
/// Of pgbench.
const CLIENTS: u64 = 500;
/// On each of two replicas.
const POOL_SIZE: u16 = 10;
/// A read, of rows that the client chooses.
const SCRIPT: &str = "\\set number random(0, 999)\nSELECT i, i * 2 FROM numbers WHERE i = :number;";

/// What the environment says, or `seconds`.
fn load_of(seconds: u64) -> Duration {
    let said = std::env::var("TRUNKLINE_POOLING_SECONDS").ok();
    Duration::from_secs(said.map_or(seconds, |text| text.parse().unwrap()))
}

/// Waits until so many more statements have been answered, or `is_over`. Whether they were.
fn goes_on(endpoint: &Endpoint, statements: u64, is_over: &AtomicBool) -> bool {
    let answered = || endpoint.counted("trunkline_statements_total{");
    let goal = answered() + statements;
    let mut is_reached = false;
    eventually(PATIENCE, "the clients go on", || {
        is_reached = answered() >= goal;
        is_reached || is_over.load(Ordering::Relaxed)
    });
    is_reached
}

/// Kills replicas by turns, the whole server by SIGKILL, and lets them serve again, once all clients are in and until `is_over`.
/// How often each was killed while the clients went on.
fn kill_replicas(cluster: &Cluster, endpoint: &Endpoint, is_over: &AtomicBool) -> Vec<usize> {
    let mut kills = vec![0; cluster.replicas.len()];
    let role = PoolRole { name: "postgres" };
    let clients = || endpoint.pooled("cl_active", role) + endpoint.pooled("cl_waiting", role);
    eventually(PATIENCE, "all clients are in", || clients() == CLIENTS || is_over.load(Ordering::Relaxed));
    for (at, replica) in cluster.replicas.iter().enumerate().cycle() {
        if !goes_on(endpoint, CLIENTS, is_over) {
            break;
        }
        replica.kill();
        endpoint.await_health(replica.name(), false, PATIENCE);
        let has_gone_on = goes_on(endpoint, CLIENTS, is_over);
        kills[at] += usize::from(has_gone_on);
        replica.start().unwrap();
        endpoint.await_health(replica.name(), true, PATIENCE);
        eventually(PATIENCE, "it serves again", || {
            is_over.load(Ordering::Relaxed) || endpoint.sessions_on(replica.name()) > 0
        });
    }
    kills
}

/// 500 clients by one protocol of pgbench, and how often each replica was killed meanwhile.
fn under_kills(
    cluster: &Cluster,
    endpoint: &Endpoint,
    protocol: &str,
    load: Duration,
) -> (Pgbench, Vec<usize>) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let kills = scope.spawn(|| kill_replicas(cluster, endpoint, &is_over));
        let over = SetWhenDropped(&is_over);
        let [clients, seconds] = [CLIENTS, load.as_secs()].map(|number| number.to_string());
        let arguments = ["-M", protocol, "-c", &clients, "-j", "2", "-T", &seconds];
        let run = pgbench(endpoint.reads(), &arguments, SCRIPT);
        drop(over);
        (run, kills.join().unwrap())
    })
}

#[test]
fn five_hundred_clients_on_twenty_connections_see_no_replica_die() {
    let load = load_of(PGBENCH_SECONDS);
    let cluster = own_cluster(2);
    cluster.primary.psql(ClientLoad::TABLES).unwrap();
    cluster.wait_caught_up().unwrap();
    let builder = Endpoint::over(&cluster).pooling(POOL_SIZE).threads(2);
    let endpoint = builder.key("health.damping_max", "\"0\"").start();
    for protocol in ["simple", "extended", "prepared"] {
        // On a busy machine a replica may be back too late for the other one's turn.
        let is_enough = [1, 2, 4].into_iter().any(|factor| {
            let (run, kills) = under_kills(&cluster, &endpoint, protocol, factor * load);
            assert!(run.is_success && !run.output.contains("aborted"), "{protocol}: {}", run.output);
            let processed = run.processed.unwrap();
            println!("{protocol}: {processed} queries, {kills:?} kills");
            assert!(processed > CLIENTS, "{protocol}: {}", run.output);
            kills.iter().all(|kills| *kills > 0)
        });
        assert!(is_enough, "{protocol}: not each replica was killed");
    }
}

#[test]
fn two_hundred_clients_get_their_own_rows_while_servers_are_killed() {
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_tokens");
    let endpoint = TokenLoad::endpoint(&cluster, POOL_SIZE);
    let outcome = TokenLoad::under_kills(&cluster, &endpoint, role, 200, load_of(TOKENS_SECONDS));
    let TokenOutcome { reading, writing, ended, crashes, answers } = outcome;
    println!("{answers} answers, {ended:?} ended, {crashes} crashes, {} writers told", writing.len());
    assert!(reading.is_empty(), "{reading:#?}");
    // Each connection to the primary that was ended may have had a request in flight, and so may all that ended with it.
    assert!(writing.len() <= ended[0] + usize::from(POOL_SIZE), "{writing:#?}");
    assert!(ended.iter().all(|ended| *ended > 0) && crashes > 0, "{ended:?} {crashes}");
}
