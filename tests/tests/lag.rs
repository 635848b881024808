//! A replica with too much proven lag gets no reads, and comes back by itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use trunkline_tests::{Endpoint, Wire, own_cluster, psql, traffic};

const MAX_LAG: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(500);

#[test]
fn paused_replay_with_writes_leaves_in_time_and_returns_without_any_write() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).start();
    let replica = &cluster.replicas[0];
    let mut before = Wire::login(endpoint.reads());
    if before.value("SHOW cluster_name") != "replica1" {
        before = Wire::login(endpoint.reads());
    }

    let writes = traffic(&cluster.primary);
    replica.pause_replay().unwrap();
    let paused = Instant::now();
    let slack = Duration::from_millis(500);
    endpoint.await_health("replica1", false, MAX_LAG + TICK + slack);
    assert!(paused.elapsed() > MAX_LAG - Duration::from_millis(200), "too early: {:?}", paused.elapsed());

    for _ in 0..20 {
        assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "replica2");
    }
    // Lagging is not dead: who is there may stay.
    assert_eq!(before.value("SHOW cluster_name"), "replica1");
    assert!(endpoint.log().contains("LAGGING"), "the decision is logged");

    drop(writes);
    cluster.replicas[1]
        .wait_until(
            "it is current",
            &format!(
                "SELECT pg_last_wal_replay_lsn() >= '{}'",
                cluster.primary.psql("SELECT pg_current_wal_lsn()").unwrap()
            ),
        )
        .unwrap();
    let written = cluster.primary.psql("SELECT pg_current_wal_insert_lsn()").unwrap();
    replica.resume_replay().unwrap();
    endpoint.await_health("replica1", true, Duration::from_secs(4));
    assert_eq!(
        cluster.primary.psql("SELECT pg_current_wal_insert_lsn()").unwrap(),
        written,
        "no write was needed"
    );
    let names: Vec<String> = (0..10).map(|_| psql(endpoint.reads(), "SHOW cluster_name")).collect();
    assert!(names.contains(&"replica1".to_owned()), "{names:?}");
}

#[test]
fn paused_replay_without_writes_keeps_serving() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).start();
    cluster.primary.psql("CHECKPOINT").unwrap();
    cluster.wait_caught_up().unwrap();
    cluster.replicas[0].pause_replay().unwrap();
    let until = Instant::now() + 2 * MAX_LAG;
    while Instant::now() < until {
        assert_eq!(endpoint.status_of("/replica1"), 200);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn all_replicas_lagging_sends_reads_to_the_primary() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).start();
    let _writes = traffic(&cluster.primary);
    cluster.replicas[0].pause_replay().unwrap();
    endpoint.await_health("replica1", false, 2 * MAX_LAG);
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "primary");
    cluster.replicas[0].resume_replay().unwrap();
    endpoint.await_health("replica1", true, 2 * MAX_LAG);
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "replica1");
}
