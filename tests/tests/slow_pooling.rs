//! Transaction mode with hundreds of clients, for as long as the environment asks: 500 of pgbench on 20 server
//! connections, and 200 that check each row, while replicas are killed and come back.
//!
//! `TRUNKLINE_POOLING_SECONDS` is how long each load lasts: each protocol of pgbench, and the rows.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_tests::{
    ClientLoad, Endpoint, Pgbench, PoolRole, SetWhenDropped, TokenLoad, eventually, own_cluster, pgbench,
};

/// How long anything but the load may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of each protocol, where the environment says nothing.
const PGBENCH_SECONDS: u64 = 20;
/// Of the rows with tokens.
const TOKENS_SECONDS: u64 = 60;
/// On each of two replicas.
const POOL_SIZE: u16 = 10;
/// A read, of rows that the client chooses.
const SCRIPT: &str = "\\set number random(0, 999)\nSELECT i, i * 2 FROM numbers WHERE i = :number;";

/// What the environment says, or `seconds`.
fn load_of(seconds: u64) -> Duration {
    let said = std::env::var("TRUNKLINE_POOLING_SECONDS").ok();
    Duration::from_secs(said.map_or(seconds, |text| text.parse().unwrap()))
}

/// Kills replicas by turns, the whole server by SIGKILL, and lets them serve again, until `is_over`. How often it did.
fn kill_replicas(cluster: &Cluster, endpoint: &Endpoint, is_over: &AtomicBool) -> usize {
    let mut kills = 0;
    for replica in cluster.replicas.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        replica.kill();
        kills += 1;
        endpoint.await_health(replica.name(), false, PATIENCE);
        replica.start().unwrap();
        endpoint.await_health(replica.name(), true, PATIENCE);
        eventually(PATIENCE, "it serves again", || {
            is_over.load(Ordering::Relaxed) || endpoint.sessions_on(replica.name()) > 0
        });
    }
    kills
}

/// 500 clients by one protocol of pgbench, and how often a replica was killed meanwhile.
fn under_kills(cluster: &Cluster, endpoint: &Endpoint, protocol: &str, load: Duration) -> (Pgbench, usize) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let kills = scope.spawn(|| kill_replicas(cluster, endpoint, &is_over));
        let over = SetWhenDropped(&is_over);
        let seconds = load.as_secs().to_string();
        let arguments = ["-M", protocol, "-c", "500", "-j", "2", "-T", &seconds];
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
    let endpoint = Endpoint::over(&cluster).pooling(POOL_SIZE).threads(2).start();
    for protocol in ["simple", "extended", "prepared"] {
        let (run, kills) = under_kills(&cluster, &endpoint, protocol, load);
        assert!(run.is_success && !run.output.contains("aborted"), "{protocol}: {}", run.output);
        let processed = run.processed.unwrap();
        println!("{protocol}: {processed} queries, {kills} kills");
        assert!(processed > 500, "{protocol}: {}", run.output);
        assert!(kills > 0, "{protocol}: no replica was killed");
    }
}

#[test]
fn two_hundred_clients_get_their_own_rows_while_servers_are_killed() {
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_tokens");
    let builder = Endpoint::over(&cluster).pooling(POOL_SIZE).threads(2);
    let endpoint = builder.key("session.on_terminate", "\"move\"").start();
    let outcome = TokenLoad::under_kills(&cluster, &endpoint, role, 200, load_of(TOKENS_SECONDS));
    println!("{} answers, {} kills, {} writers told", outcome.answers, outcome.kills, outcome.writing.len());
    assert!(outcome.reading.is_empty(), "{:#?}", outcome.reading);
    // Each connection to the primary may have had a request in flight.
    assert!(outcome.writing.len() <= usize::from(POOL_SIZE) * outcome.kills, "{outcome:#?}");
}
