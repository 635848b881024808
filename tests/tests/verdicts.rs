//! What health makes of servers that fail again and again: no verdict leaves a client without a server that answers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use trunkline_cluster::{Server, StopMode};
use trunkline_tests::{Auth, Endpoint, Login, Wire, own_cluster};

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
