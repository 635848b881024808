//! What the usual lag formulas get wrong, one row at a time; the rows that need minutes are in slow_health.rs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{Server, StopMode, send_signal};
use trunkline_tests::{
    Forwarder, Login, Watch, Weather, cluster_of, eventually, own_cluster, spec, test_judge, traffic,
};
use trunkline_topology::{ExpectedRole, State};

const MAX_LAG: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);
/// How long the next probe may take on a busy machine.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn paused_replay_and_one_insert_leaves_in_max_lag_and_a_tick_and_returns_without_a_write() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let watch = Watch::over(&cluster);
    cluster.wait_caught_up().unwrap();
    cluster.replicas[0].pause_replay().unwrap();
    let start = Instant::now();
    cluster.primary.psql("INSERT INTO t VALUES (1)").unwrap();
    watch.await_state("replica1", State::Lagging, MAX_LAG + TICK + SLACK);
    assert!(start.elapsed() >= MAX_LAG, "{:?} is before the limit", start.elapsed());
    watch.assert_only("replica2", State::Up, start);
    cluster.replicas[0].resume_replay().unwrap();
    watch.await_state("replica1", State::Up, 4 * TICK);
}

#[test]
fn a_stopped_walsender_is_lag_although_the_replica_has_applied_all_it_got() {
    let cluster = own_cluster(1);
    let watch = Watch::over(&cluster);
    let senders = cluster.primary.children_titled("walsender");
    assert_eq!(senders.len(), 1, "{senders:?}");
    send_signal(senders[0], Signal::SIGSTOP);
    let writes = traffic(&cluster.primary);
    watch.await_state("replica1", State::Lagging, MAX_LAG + 2 * TICK + SLACK);
    send_signal(senders[0], Signal::SIGCONT);
    watch.await_state("replica1", State::Up, Duration::from_secs(5));
    drop(writes);
}

#[test]
fn a_replica_without_its_upstream_lags_and_so_does_its_cascade() {
    let cluster = own_cluster(1);
    let cascade = cluster.add_standby("cascade", &cluster.replicas[0]).unwrap();
    let watch = Watch::settled(vec![
        spec("primary", cluster.primary.port(), ExpectedRole::Primary),
        spec("replica1", cluster.replicas[0].port(), ExpectedRole::Replica),
        spec("cascade", cascade.port(), ExpectedRole::Replica),
    ]);
    let before = cluster.replicas[0].psql("SHOW primary_conninfo").unwrap();
    cluster.replicas[0].set("primary_conninfo", "host=127.0.0.1 port=1").unwrap();
    let writes = traffic(&cluster.primary);
    watch.await_state("replica1", State::Lagging, MAX_LAG + 4 * TICK + SLACK);
    watch.await_state("cascade", State::Lagging, 2 * TICK + SLACK);
    cluster.replicas[0].set("primary_conninfo", &before).unwrap();
    watch.await_state("replica1", State::Up, Duration::from_secs(10));
    watch.await_state("cascade", State::Up, Duration::from_secs(10));
    drop(writes);
}

#[test]
fn a_wal_switch_on_an_idle_primary_is_no_lag() {
    let cluster = own_cluster(1);
    let watch = Watch::over(&cluster);
    let start = Instant::now();
    cluster.primary.psql("CREATE TABLE t ()").unwrap();
    cluster.primary.psql("SELECT pg_switch_wal()").unwrap();
    cluster.wait_caught_up().unwrap();
    watch.await_probes("replica1", 4, PROBE_PATIENCE);
    watch.assert_only("replica1", State::Up, start);
    let lag = watch.server("replica1").lag.unwrap();
    assert_eq!(lag.lo, Duration::ZERO, "{lag:?}");
}

#[test]
fn the_first_write_after_an_idle_time_is_no_lag() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let watch = Watch::over(&cluster);
    let start = Instant::now();
    // Longer than max_lag, so that a formula that counts idle time would show.
    std::thread::sleep(2 * MAX_LAG);
    cluster.primary.psql("INSERT INTO t VALUES (1)").unwrap();
    watch.await_probes("replica1", 4, PROBE_PATIENCE);
    watch.assert_only("replica1", State::Up, start);
}

#[test]
fn a_restarted_replica_of_an_idle_primary_is_back_within_two_seconds_without_a_write() {
    let cluster = own_cluster(1);
    let watch = Watch::over(&cluster);
    let written = cluster.primary.psql("SELECT pg_current_wal_insert_lsn()").unwrap();
    cluster.replicas[0].stop(StopMode::Fast).unwrap();
    watch.await_state("replica1", State::Down, SLACK);
    cluster.replicas[0].start().unwrap();
    watch.await_state("replica1", State::Up, Duration::from_secs(2) + SLACK);
    let now = cluster.primary.psql("SELECT pg_current_wal_insert_lsn()").unwrap();
    assert_eq!(now, written, "the primary stayed idle");
}

#[test]
fn a_replica_restarted_while_the_primary_is_down_serves() {
    let cluster = own_cluster(2);
    let watch = Watch::over(&cluster);
    cluster.primary.kill();
    watch.await_state("primary", State::Down, SLACK);
    cluster.replicas[0].stop(StopMode::Fast).unwrap();
    watch.await_state("replica1", State::Down, SLACK);
    cluster.replicas[0].start().unwrap();
    watch.await_state("replica1", State::Up, Duration::from_secs(4));
    assert_eq!(watch.status_of("/replica1"), 200);
    assert_eq!(watch.status_of("/replica"), 200);
}

#[test]
fn a_killed_server_is_down_in_a_moment_and_the_rest_stays() {
    let cluster = own_cluster(2);
    let watch = Watch::over(&cluster);
    let start = Instant::now();
    cluster.replicas[0].kill();
    watch.await_state("replica1", State::Down, SLACK);
    watch.assert_only("replica2", State::Up, start);
    watch.assert_only("primary", State::Up, start);
    assert_eq!((watch.status_of("/replica1"), watch.status_of("/replica2")), (503, 200));
}

#[test]
fn a_promoted_replica_is_out_at_once_and_what_follows_it_is_fenced() {
    let cluster = own_cluster(2);
    let cascade = cluster.add_standby("cascade", &cluster.replicas[0]).unwrap();
    let watch = Watch::settled(vec![
        spec("primary", cluster.primary.port(), ExpectedRole::Primary),
        spec("replica1", cluster.replicas[0].port(), ExpectedRole::Replica),
        spec("replica2", cluster.replicas[1].port(), ExpectedRole::Replica),
        spec("cascade", cascade.port(), ExpectedRole::Replica),
    ]);
    cluster.replicas[0].promote().unwrap();
    let start = Instant::now();
    eventually(TICK + SLACK, "the promoted replica serves no reads", || watch.status_of("/replica1") == 503);
    // It goes its own way, and its cascade with it.
    cluster.replicas[0].psql("CREATE TABLE elsewhere ()").unwrap();
    eventually(Duration::from_secs(15), "the cascade serves no reads", || {
        matches!(watch.server("cascade").state, State::Fenced | State::Down)
    });
    assert!(watch.verdicts_since("replica2", start).iter().all(|verdict| verdict.state != State::Fenced));
}

/// Has a standby follow another server than it did.
fn repoint(standby: &Server, to: &Server) {
    let conninfo = standby.psql("SHOW primary_conninfo").unwrap();
    let words: Vec<&str> = conninfo.split(' ').filter(|word| !word.starts_with("port=")).collect();
    let login = "user=trunkline_replication password=trunkline_replication";
    standby.set("primary_conninfo", &format!("{} {login} port={}", words.join(" "), to.port())).unwrap();
}

#[test]
fn a_server_promoted_beside_the_primary_waits_for_the_standbys() {
    let cluster = own_cluster(2);
    let any = |name: &str, port| spec(name, port, ExpectedRole::Any);
    let [promoted, follower] = &cluster.replicas[..] else { panic!("two replicas") };
    let watch = Watch::settled(vec![
        any("primary", cluster.primary.port()),
        any("replica1", promoted.port()),
        any("replica2", follower.port()),
    ]);
    let start = Instant::now();
    promoted.promote().unwrap();
    watch.await_state("replica1", State::Fenced, Duration::from_secs(10));
    watch.assert_only("primary", State::Up, start);
    promoted.psql("SELECT pg_create_physical_replication_slot('replica2', true)").unwrap();
    repoint(follower, promoted);
    watch.await_state("replica1", State::Up, Duration::from_secs(15));
    watch.await_state("primary", State::Fenced, Duration::from_secs(10));
    watch.await_state("replica2", State::Up, Duration::from_secs(15));
}

#[test]
fn after_a_failover_that_lost_wal_the_diverged_replica_is_out_and_the_other_serves() {
    let cluster = own_cluster(3);
    let any = |name: &str, port| spec(name, port, ExpectedRole::Any);
    let [new_primary, diverged, follower] = &cluster.replicas[..] else { panic!("three replicas") };
    let watch = Watch::settled(vec![
        any("primary", cluster.primary.port()),
        any("replica1", new_primary.port()),
        any("replica2", diverged.port()),
        any("replica3", follower.port()),
    ]);
    // The two that will go on miss the last writes.
    for server in [new_primary, follower] {
        server.set("primary_conninfo", "host=127.0.0.1 port=1").unwrap();
        server.wait_until("its receiver is gone", "SELECT count(*) = 0 FROM pg_stat_wal_receiver").unwrap();
    }
    cluster.primary.psql("CREATE TABLE lost AS SELECT generate_series(1, 1000)").unwrap();
    diverged.wait_until("it has the lost writes", "SELECT to_regclass('lost') IS NOT NULL").unwrap();
    cluster.primary.kill();
    new_primary.promote().unwrap();
    new_primary.psql("SELECT pg_create_physical_replication_slot(name, true) FROM unnest('{replica2,replica3}'::text[]) AS name").unwrap();
    for server in [diverged, follower] {
        repoint(server, new_primary);
    }
    let _writes = traffic(new_primary);
    // failover_grace is 10 s.
    watch.await_state("replica3", State::Up, Duration::from_secs(15));
    eventually(Duration::from_secs(20), "the diverged replica is out", || {
        matches!(watch.server("replica2").state, State::Down | State::Fenced)
    });
    assert_eq!(watch.server("replica3").state, State::Up);
    assert_eq!(watch.status_of("/replica2"), 503);
}

#[test]
fn a_replica_delayed_by_more_than_the_limit_is_never_fit_and_says_why() {
    let cluster = own_cluster(1);
    cluster.replicas[0].set("recovery_min_apply_delay", "6s").unwrap();
    let watch = Watch::start(
        vec![
            spec("primary", cluster.primary.port(), ExpectedRole::Primary),
            spec("replica1", cluster.replicas[0].port(), ExpectedRole::Replica),
        ],
        test_judge(),
    );
    watch.await_state("replica1", State::Lagging, Duration::from_secs(5));
    let settled = Instant::now();
    assert!(
        watch.server("replica1").reason.contains("recovery_min_apply_delay"),
        "{:?}",
        watch.server("replica1").reason
    );
    // Between writes its lag is zero: it must not come and go with them.
    let writes = traffic(&cluster.primary);
    std::thread::sleep(MAX_LAG);
    drop(writes);
    std::thread::sleep(MAX_LAG);
    watch.assert_only("replica1", State::Lagging, settled);
}

#[test]
fn a_replica_whose_clock_is_wrong_is_judged_by_ours() {
    for skew in ["5 s", "-5 s"] {
        let cluster = own_cluster(1);
        // The probe's own now(), shifted on standbys alone.
        let shift = format!(
            "CREATE SCHEMA skewed;
             GRANT USAGE ON SCHEMA skewed TO trunkline_monitor;
             CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
                 $$SELECT pg_catalog.clock_timestamp()
                       + CASE WHEN pg_is_in_recovery() THEN interval '{skew}' ELSE interval '0' END$$;
             ALTER ROLE trunkline_monitor SET search_path = skewed, pg_catalog"
        );
        cluster.primary.psql(&shift).unwrap();
        cluster.wait_caught_up().unwrap();
        let watch = Watch::over(&cluster);
        let start = Instant::now();
        let writes = traffic(&cluster.primary);
        std::thread::sleep(2 * MAX_LAG);
        drop(writes);
        std::thread::sleep(MAX_LAG);
        watch.assert_only("replica1", State::Up, start);
        let lag = watch.server("replica1").lag.unwrap();
        assert!(lag.est < TICK && lag.hi.is_some_and(|hi| hi < 4 * TICK), "{skew}: {lag:?}");
    }
}

#[test]
fn a_stopped_postmaster_is_noticed_although_old_connections_answer() {
    let cluster = own_cluster(1);
    let watch = Watch::over(&cluster);
    let postmaster = cluster.replicas[0].postmaster_pid().unwrap();
    send_signal(postmaster, Signal::SIGSTOP);
    // Fresh connections are tried every second here and may hang for one; two must fail.
    watch.await_state("replica1", State::Down, Duration::from_secs(6));
    send_signal(postmaster, Signal::SIGCONT);
    watch.await_state("replica1", State::Up, Duration::from_secs(6));
}

#[test]
fn a_hung_probe_backend_hangs_nothing() {
    let cluster = own_cluster(1);
    let watch = Watch::over(&cluster);
    let probe: i32 = cluster.replicas[0]
        .psql("SELECT pid FROM pg_stat_activity WHERE usename = 'trunkline_monitor' ORDER BY backend_start LIMIT 1")
        .unwrap()
        .parse()
        .unwrap();
    send_signal(probe, Signal::SIGSTOP);
    // One may be on its way, one hangs, and another connection has the next.
    watch.await_probes("replica1", 3, PROBE_PATIENCE);
    watch.await_state("replica1", State::Up, Duration::from_secs(3));
    send_signal(probe, Signal::SIGCONT);
}

#[test]
fn a_hung_server_is_down_within_a_tick_and_its_timeouts() {
    let cluster = own_cluster(1);
    let watch = Watch::over(&cluster);
    cluster.replicas[0].pause();
    watch.await_state("replica1", State::Down, Duration::from_millis(2500) + SLACK);
    cluster.replicas[0].resume();
    watch.await_state("replica1", State::Up, Duration::from_secs(6));
}

#[test]
fn a_black_hole_is_down_within_a_tick_and_its_timeouts() {
    let cluster = own_cluster(1);
    let way = Forwarder::to(cluster.replicas[0].port());
    let watch = Watch::through(&cluster, &way);
    way.set(Weather::Stalled);
    watch.await_state("replica1", State::Down, Duration::from_millis(2500) + SLACK);
    assert!(!watch.snapshot().is_stale(Instant::now()), "the others are still watched");
    way.set(Weather::Fair);
    watch.await_state("replica1", State::Up, Duration::from_secs(6));
}

#[test]
fn a_full_server_is_saturated_and_not_down() {
    let install = trunkline_cluster::PgInstall::find(None).unwrap();
    let cluster =
        cluster_of(install, 1, &[("max_connections", "20"), ("superuser_reserved_connections", "0")]);
    let watch = Watch::over(&cluster);
    let start = Instant::now();
    let mut held = Vec::new();
    while let Ok(wire) = Login::default().try_connect(cluster.replicas[0].port()) {
        held.push(wire);
    }
    watch.await_server("replica1", "it is saturated", Duration::from_secs(4), |server| server.saturated);
    assert!(!watch.server("replica1").is_eligible());
    drop(held);
    watch.await_server("replica1", "it has room", Duration::from_secs(4), |server| !server.saturated);
    watch.assert_only("replica1", State::Up, start);
}

#[test]
fn a_smart_shutdown_completes_although_it_is_watched() {
    let cluster = own_cluster(1);
    let watch = Watch::over(&cluster);
    cluster.replicas[0].request_stop(StopMode::Smart);
    cluster.replicas[0].wait_stopped(Duration::from_secs(5)).unwrap();
    watch.await_state("replica1", State::Down, SLACK);
}

#[test]
fn a_restarted_primary_costs_the_replicas_nothing() {
    let cluster = own_cluster(2);
    let watch = Watch::over(&cluster);
    let start = Instant::now();
    cluster.primary.stop(StopMode::Immediate).unwrap();
    watch.await_state("primary", State::Down, SLACK);
    cluster.primary.start().unwrap();
    watch.await_state("primary", State::Up, Duration::from_secs(4));
    let _writes = traffic(&cluster.primary);
    for name in ["replica1", "replica2"] {
        watch.await_probes(name, 3, PROBE_PATIENCE);
    }
    watch.assert_only("replica1", State::Up, start);
    watch.assert_only("replica2", State::Up, start);
}

#[test]
fn nothing_is_healthy_before_it_is_known() {
    let cluster = own_cluster(1);
    let watch = Watch::start(
        vec![
            spec("primary", cluster.primary.port(), ExpectedRole::Primary),
            spec("replica1", 1, ExpectedRole::Replica),
        ],
        test_judge(),
    );
    let first = watch.verdicts_since("replica1", Instant::now());
    assert!(first.iter().all(|verdict| matches!(verdict.state, State::Unknown | State::Down)), "{first:?}");
    watch.await_state("primary", State::Up, Duration::from_secs(5));
    assert_ne!(watch.server("replica1").state, State::Up);
}

#[test]
fn a_wrong_monitoring_password_is_unknown_and_never_healthy() {
    let cluster = own_cluster(1);
    cluster.primary.psql("ALTER ROLE trunkline_monitor PASSWORD 'changed'").unwrap();
    cluster.wait_caught_up().unwrap();
    let watch =
        Watch::start(vec![spec("replica1", cluster.replicas[0].port(), ExpectedRole::Replica)], test_judge());
    watch.await_server("replica1", "the refusal is told", Duration::from_secs(5), |server| {
        server.reason.contains("28P01")
            || server.reason.contains("password")
            || server.reason.contains("login")
    });
    watch.await_probes("replica1", 2, PROBE_PATIENCE);
    let verdicts = watch.verdicts_since("replica1", Instant::now() - Duration::from_secs(60));
    assert!(verdicts.iter().all(|verdict| verdict.state != State::Up), "{verdicts:?}");
    assert_eq!(watch.status_of("/replica1"), 503);
}
