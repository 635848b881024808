//! The death of a server is hidden from clients that have not begun to work.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use trunkline_cluster::StopMode;
use trunkline_tests::{
    Auth, Endpoint, Forwarder, Login, ServerError, Weather, Wire, eventually, own_cluster, pgbench, psql,
    shared_cluster,
};

/// Connects, asks and leaves `sessions` times from `workers` threads; `at` is called once, when that many are done.
fn fresh_sessions(
    port: u16,
    sessions: usize,
    workers: usize,
    at: (usize, &(dyn Fn() + Sync)),
) -> Vec<ServerError> {
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while begun.fetch_add(1, Ordering::Relaxed) < sessions {
                    if let Err(error) = one_session(port) {
                        errors.lock().unwrap().push(error);
                    }
                    if done.fetch_add(1, Ordering::Relaxed) + 1 == at.0 {
                        at.1();
                    }
                }
            });
        }
    });
    errors.into_inner().unwrap()
}

fn one_session(port: u16) -> Result<(), ServerError> {
    let mut wire = Login::default().try_connect(port)?;
    let answer = wire.query("SELECT count(*) FROM pg_class");
    wire.send(b"X\0\0\0\x04");
    answer.error.map_or(Ok(()), Err)
}

#[test]
fn sigkill_of_a_postmaster_during_a_thousand_fresh_sessions_reaches_no_client() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let kill = || cluster.replicas[0].kill_postmaster();
    let errors = fresh_sessions(endpoint.reads(), 1000, 4, (300, &kill));
    assert_eq!(errors, []);
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "replica2");
}

#[test]
fn sigkill_during_a_thousand_fresh_sessions_of_pgbench_reaches_no_client() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            pgbench(
                endpoint.reads(),
                &["-C", "-c", "4", "-j", "2", "-t", "250"],
                "SELECT count(*) FROM pg_class;",
            )
        });
        let sessions = "SELECT sum(sessions) > 100 FROM pg_stat_database";
        eventually(Duration::from_secs(20), "the run is under way", || {
            // Counted at the end of each session: it needs no clock.
            cluster.replicas[0].psql(sessions).is_ok_and(|answer| answer == "t")
        });
        cluster.replicas[0].kill_postmaster();
        run.join().unwrap()
    });
    assert!(run.is_success && run.processed == Some(1000), "{}", run.output);
}

#[test]
fn relay_loses_at_most_the_sessions_that_were_logging_in_and_says_so_properly() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Relay).start();
    let kill = || cluster.replicas[0].kill_postmaster();
    let errors = fresh_sessions(endpoint.reads(), 1000, 4, (300, &kill));
    assert!(errors.len() <= 4, "{errors:?}");
    assert!(errors.iter().all(|error| error.severity == "FATAL"), "{errors:?}");
}

#[test]
fn with_both_replicas_down_reads_arrive_at_the_primary_and_return_with_them() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).start();
    for replica in &cluster.replicas {
        replica.kill();
    }
    // No waiting for health: the first session already finds its way.
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "primary");
    cluster.replicas[1].start().unwrap();
    endpoint.await_health("replica2", true, Duration::from_secs(10));
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "replica2");
}

#[test]
fn with_fallback_none_reads_are_refused_when_both_replicas_are_down() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster)
        .key("health.fallback.mode", "\"none\"")
        .key("timeouts.acquire", "\"500ms\"")
        .start();
    for replica in &cluster.replicas {
        replica.kill();
    }
    let error = Login::default().try_connect(endpoint.reads()).unwrap_err();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "57P03"), "{error:?}");
    assert!(!error.text.contains("127.0.0.1"), "hosts stay in the log: {error:?}");
    assert_eq!(psql(endpoint.writes(), "SHOW cluster_name"), "primary");
}

#[test]
fn with_the_primary_down_reads_go_on() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).key("timeouts.acquire", "\"500ms\"").start();
    let mut held = Wire::login(endpoint.reads());
    cluster.primary.kill();
    endpoint.await_health("primary", false, Duration::from_secs(15));
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert_eq!(fresh_sessions(endpoint.reads(), 20, 2, (0, &|| {})), []);
        assert_eq!(held.value("SELECT 1"), "1");
        assert_eq!((endpoint.status_of("/replica1"), endpoint.status_of("/replica2")), (200, 200));
    }
    let error = Login::default().try_connect(endpoint.writes()).unwrap_err();
    assert_eq!(error.code, "57P03", "{error:?}");
    cluster.primary.start().unwrap();
    endpoint.await_health("primary", true, Duration::from_secs(10));
    assert_eq!(psql(endpoint.writes(), "SHOW cluster_name"), "primary");
}

#[test]
fn a_replica_that_shuts_down_smartly_gets_no_new_sessions_and_its_shutdown_completes() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).start();
    cluster.replicas[0].request_stop(StopMode::Smart);
    assert_eq!(fresh_sessions(endpoint.reads(), 20, 2, (0, &|| {})), []);
    cluster.replicas[0].wait_stopped(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_full_server_is_passed_over() {
    let cluster = trunkline_tests::cluster_of(
        shared_install(),
        2,
        &[("max_connections", "20"), ("superuser_reserved_connections", "0")],
    );
    let endpoint = Endpoint::over(&cluster).start();
    let full = cluster.replicas[0].port();
    let mut held = Vec::new();
    let refusal = loop {
        match Login::default().try_connect(full) {
            Ok(wire) => held.push(wire),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.code, "53300");
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(&cluster).auth(auth).not_awaiting("replica1").start();
        assert_eq!(fresh_sessions(endpoint.reads(), 20, 1, (0, &|| {})), [], "{auth:?}");
    }
    assert_eq!(fresh_sessions(endpoint.reads(), 20, 1, (0, &|| {})), []);
}

fn shared_install() -> trunkline_cluster::PgInstall {
    trunkline_cluster::PgInstall::find(None).unwrap()
}

#[test]
fn a_hung_server_costs_new_sessions_a_moment_and_then_nothing() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).key("timeouts.connect", "\"1s\"").start();
    cluster.replicas[0].pause();
    let start = Instant::now();
    assert_eq!(fresh_sessions(endpoint.reads(), 8, 4, (0, &|| {})), []);
    endpoint.await_health("replica1", false, Duration::from_secs(15));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(fresh_sessions(endpoint.reads(), 40, 2, (0, &|| {})), []);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    cluster.replicas[0].resume();
    endpoint.await_health("replica1", true, Duration::from_secs(15));
}

#[test]
fn a_black_hole_on_the_way_to_a_replica_takes_it_out_and_back_in() {
    let cluster = shared_cluster();
    let way = Forwarder::to(cluster.replicas[0].port());
    let endpoint =
        Endpoint::over(cluster).through("replica1", way.port()).key("timeouts.connect", "\"1s\"").start();
    way.set(Weather::Stalled);
    endpoint.await_health("replica1", false, Duration::from_secs(15));
    assert_eq!(fresh_sessions(endpoint.reads(), 10, 2, (0, &|| {})), []);
    way.set(Weather::Fair);
    endpoint.await_health("replica1", true, Duration::from_secs(15));
}

#[test]
fn a_server_lost_during_its_login_is_replaced_by_another() {
    let cluster = shared_cluster();
    for cut in [0, 1, 20, 100, 300] {
        let way = Forwarder::to(cluster.replicas[0].port());
        let endpoint = Endpoint::over(cluster).auth(Auth::Verify).through("replica1", way.port()).start();
        // Probes hold their connections; what is cut is the next session's.
        way.set(Weather::CutAfter(cut));
        assert_eq!(fresh_sessions(endpoint.reads(), 6, 1, (0, &|| {})), [], "cut after {cut} bytes");
    }
}

#[test]
fn a_server_lost_before_the_first_query_is_replaced_by_another() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let mut held: Vec<Wire> = (0..6).map(|_| Wire::login(endpoint.reads())).collect();
    cluster.replicas[0].kill();
    endpoint.await_health("replica1", false, Duration::from_secs(15));
    for wire in &mut held {
        assert_eq!(wire.value("SHOW cluster_name"), "replica2");
    }
}
