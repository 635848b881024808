//! Rows of the health table that need their time: they run beside the other suites.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use trunkline_tests::{Watch, own_cluster, traffic};
use trunkline_topology::State;

#[test]
fn a_minute_of_silence_and_the_first_write_after_it_are_no_lag() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let watch = Watch::patient(&cluster);
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(60));
    cluster.primary.psql("INSERT INTO t VALUES (1)").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    watch.assert_only("replica1", State::Up, start);
    watch.assert_only("replica2", State::Up, start);
}

#[test]
fn with_the_primary_killed_the_replicas_serve_for_a_minute_and_more() {
    let cluster = own_cluster(2);
    let watch = Watch::patient(&cluster);
    let writes = traffic(&cluster.primary);
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    cluster.primary.kill();
    drop(writes);
    while start.elapsed() < Duration::from_secs(61) {
        assert_eq!(watch.status_of("/replica"), 200);
        assert_eq!(watch.status_of("/replica1"), 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    watch.assert_only("replica1", State::Up, start);
    watch.assert_only("replica2", State::Up, start);
    assert_eq!(watch.server("primary").state, State::Down);
}

#[test]
fn a_long_bulk_transaction_is_no_lag() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE TABLE bulk (i int, filler text)").unwrap();
    let watch = Watch::patient(&cluster);
    let start = Instant::now();
    cluster
        .primary
        .psql(
            "DO $$ BEGIN FOR i IN 1..120 LOOP
                 INSERT INTO bulk SELECT g, repeat('x', 200) FROM generate_series(1, 1000) g;
                 PERFORM pg_sleep(0.1);
             END LOOP; END $$",
        )
        .unwrap();
    assert!(start.elapsed() > Duration::from_secs(12));
    std::thread::sleep(Duration::from_secs(2));
    watch.assert_only("replica1", State::Up, start);
    watch.assert_only("replica2", State::Up, start);
}

#[test]
fn an_open_transaction_with_unflushed_wal_is_no_lag_at_all() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE TABLE t (i int, filler text)").unwrap();
    let watch = Watch::patient(&cluster);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let session = scope.spawn(|| {
            cluster.primary.psql(
                "BEGIN; INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g;
                 SELECT pg_sleep(20); COMMIT;",
            )
        });
        while !session.is_finished() {
            let lag = watch.server("replica1").lag.unwrap();
            assert!(lag.lo < Duration::from_secs(2), "proven lag {lag:?} while nothing is missing");
            std::thread::sleep(Duration::from_millis(20));
        }
        session.join().unwrap().unwrap();
    });
    watch.assert_only("replica1", State::Up, start);
}

#[test]
fn a_session_on_the_replica_that_blocks_replay_makes_it_lag_until_it_ends() {
    let cluster = own_cluster(1);
    cluster.replicas[0].set("max_standby_streaming_delay", "-1").unwrap();
    cluster.primary.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i").unwrap();
    cluster.wait_caught_up().unwrap();
    let watch = Watch::patient(&cluster);
    let reader = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t; SELECT pg_sleep(8); COMMIT;";
    std::thread::scope(|scope| {
        let session = scope.spawn(|| cluster.replicas[0].psql(reader));
        cluster.replicas[0]
            .wait_until(
                "the reader sleeps",
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep')",
            )
            .unwrap();
        // Its replay takes a lock that the reader's snapshot conflicts with.
        cluster.primary.psql("DROP TABLE t").unwrap();
        let writes = traffic(&cluster.primary);
        watch.await_state("replica1", State::Lagging, Duration::from_secs(7));
        drop(writes);
        session.join().unwrap().unwrap();
    });
    watch.await_state("replica1", State::Up, Duration::from_secs(15));
}
