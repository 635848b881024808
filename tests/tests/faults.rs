//! The table of faults: what a pool of readers, and clients that log in all the time, see of each fault there is.
//!
//! `cargo test -p trunkline-tests --test faults -- --nocapture` prints it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, Server, StopMode};
use trunkline_tests::{Auth, Commits, Endpoint, EndpointBuilder, Login, Wire, eventually, own_cluster};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How old a read may be: 2 s, which is the harness's `max_lag` for every endpoint, 1 s, and what a busy machine adds.
const AGE_MAX: Duration = Duration::from_secs(4);
/// The longest that a read takes: 3 s, and what a busy machine adds.
const STALL_MAX: Duration = Duration::from_secs(5);
/// Sessions that last as long as the fault.
const SESSIONS: usize = 8;
/// How often each replica is restarted.
const RESTARTS: usize = 5;
/// Reads that the replicas cancel, and how long a busy machine may need to bring them about.
const CONFLICTS: u64 = 100;
const CONFLICTS_PATIENCE: Duration = Duration::from_secs(300);

/// Each has the machine to itself.
static ALONE: Mutex<()> = Mutex::new(());

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    reads: usize,
    /// Of queries and logins. A session that is lost gives one for its query.
    errors: Vec<String>,
    stall: Duration,
    age: Duration,
}

/// Clients at work.
struct Load<'l> {
    port: u16,
    /// Its first column counts the commits that it shows, if there are any.
    sql: &'l str,
    commits: &'l Commits,
    is_over: AtomicBool,
    seen: Mutex<Seen>,
}

impl Load<'_> {
    fn pooled(&self) {
        let mut wire = Wire::login(self.port);
        while !self.is_over.load(Ordering::Relaxed) {
            if !self.read(&mut wire, Instant::now()) {
                wire = Wire::login(self.port);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn fresh(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            match Login::default().try_connect(self.port) {
                Ok(mut wire) => drop(self.read(&mut wire, asked)),
                Err(error) => self.seen.lock().unwrap().errors.push(format!("login: {error:?}")),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the session is of use afterwards.
    fn read(&self, wire: &mut Wire, asked: Instant) -> bool {
        let answer = wire.query(self.sql);
        let took = asked.elapsed();
        let mut seen = self.seen.lock().unwrap();
        seen.reads += 1;
        seen.stall = seen.stall.max(took);
        match answer.error {
            None => {
                let shown = answer.value().parse().unwrap();
                seen.age = seen.age.max(self.commits.age(shown, asked));
                true
            }
            Some(error) => {
                seen.errors.push(format!("{error:?}"));
                error.severity != "FATAL"
            }
        }
    }
}

/// What `sql` sees while `fault` happens and ends.
fn under(endpoint: &Endpoint, commits: &Commits, sql: &str, fault: impl FnOnce()) -> Seen {
    let seen = Mutex::default();
    let load = Load { port: endpoint.reads(), sql, commits, is_over: AtomicBool::new(false), seen };
    std::thread::scope(|scope| {
        let _over = Over(&load.is_over);
        (0..SESSIONS).for_each(|_| drop(scope.spawn(|| load.pooled())));
        scope.spawn(|| load.fresh());
        eventually(PATIENCE, "all are at work", || load.seen.lock().unwrap().reads > 10 * SESSIONS);
        fault();
    });
    load.seen.into_inner().unwrap()
}

/// Ends the threads that wait for it, also when the test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn verified(cluster: &Cluster) -> EndpointBuilder {
    Endpoint::over(cluster).auth(Auth::Verify)
}

fn unnoticed(name: &str, seen: &Seen, endpoint: &Endpoint) {
    println!(
        "{name}: {} reads, {} errors, oldest {:.2?}, longest stall {:.2?}",
        seen.reads,
        seen.errors.len(),
        seen.age,
        seen.stall
    );
    assert_eq!(seen.errors, [""; 0], "{name}\n{}", endpoint.log());
    assert!(seen.age < AGE_MAX, "{name}: {seen:?}\n{}", endpoint.log());
    assert!(seen.stall < STALL_MAX, "{name}: {seen:?}\n{}", endpoint.log());
}

/// What happens to the replicas, up to its end.
type Fault = fn(&Endpoint, &Cluster);

fn die(endpoint: &Endpoint, server: &Server) {
    server.kill_postmaster();
    server.wait_stopped(PATIENCE).unwrap();
    endpoint.await_health(server.name(), false, PATIENCE);
}

fn return_of(endpoint: &Endpoint, server: &Server) {
    server.start().unwrap();
    endpoint.await_health(server.name(), true, PATIENCE);
}

fn killed(endpoint: &Endpoint, cluster: &Cluster) {
    die(endpoint, &cluster.replicas[0]);
    return_of(endpoint, &cluster.replicas[0]);
}

fn hung(endpoint: &Endpoint, cluster: &Cluster) {
    for server in &cluster.replicas {
        server.pause();
        endpoint.await_health(server.name(), false, PATIENCE);
        eventually(PATIENCE, "nobody waits for it", || endpoint.sessions_on(server.name()) == 0);
        server.resume();
        endpoint.await_health(server.name(), true, PATIENCE);
    }
}

fn lagging(endpoint: &Endpoint, cluster: &Cluster) {
    let server = &cluster.replicas[0];
    server.pause_replay().unwrap();
    endpoint.await_health(server.name(), false, PATIENCE);
    eventually(PATIENCE, "nobody reads from it", || endpoint.sessions_on(server.name()) == 0);
    server.resume_replay().unwrap();
    endpoint.await_health(server.name(), true, PATIENCE);
}

fn both_killed(endpoint: &Endpoint, cluster: &Cluster) {
    cluster.replicas.iter().for_each(Server::kill_postmaster);
    for server in &cluster.replicas {
        server.wait_stopped(PATIENCE).unwrap();
        endpoint.await_health(server.name(), false, PATIENCE);
    }
    cluster.replicas.iter().for_each(|server| return_of(endpoint, server));
}

fn restarted_in_turn(endpoint: &Endpoint, cluster: &Cluster) {
    for _ in 0..RESTARTS {
        for server in &cluster.replicas {
            server.stop(StopMode::Fast).unwrap();
            return_of(endpoint, server);
        }
    }
}

#[test]
fn reads_notice_nothing_of_servers_that_die_hang_lag_or_restart() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE TABLE truth (number bigint)").unwrap();
    cluster.wait_caught_up().unwrap();
    let (commits, is_over) = (Commits::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| commits.write(&cluster.primary, &is_over));
        let faults: [(&str, Fault); 4] = [
            ("replica killed", killed),
            ("each replica hung", hung),
            ("replica lagging", lagging),
            ("both killed", both_killed),
        ];
        let endpoint = verified(&cluster).start();
        for (name, fault) in faults {
            let seen =
                under(&endpoint, &commits, "SELECT count(*) FROM truth", || fault(&endpoint, &cluster));
            unnoticed(name, &seen, &endpoint);
        }
        drop(endpoint);
        let endpoint = verified(&cluster).key("health.fallback.mode", "\"none\"").start();
        let rolling = || restarted_in_turn(&endpoint, &cluster);
        let seen = under(&endpoint, &commits, "SELECT count(*) FROM truth", rolling);
        unnoticed("both restarted in turn, five times", &seen, &endpoint);
    });
}

/// How many reads this replica has canceled.
fn conflicts(server: &Server) -> u64 {
    server.psql("SELECT sum(confl_snapshot) FROM pg_stat_database_conflicts").unwrap().parse().unwrap()
}

#[test]
fn reads_notice_nothing_of_conflicts_with_recovery() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = own_cluster(2);
    cluster
        .primary
        .psql("CREATE TABLE hot AS SELECT g AS id, 0 AS n FROM generate_series(1, 2000) g")
        .unwrap();
    for server in &cluster.replicas {
        server.set("max_standby_streaming_delay", "0").unwrap();
    }
    cluster.wait_caught_up().unwrap();
    let endpoint = verified(&cluster).start();
    let slow = "SELECT 0 * sum(h.n) FROM hot h, generate_series(1, 200)";
    let mut canceled = 0;
    let seen = under(&endpoint, &Commits::default(), slow, || {
        eventually(CONFLICTS_PATIENCE, "so many reads are canceled", || {
            cluster.primary.psql("UPDATE hot SET n = n + 1").unwrap();
            cluster.primary.psql("VACUUM hot").unwrap();
            canceled = cluster.replicas.iter().map(conflicts).sum();
            canceled >= CONFLICTS
        });
    });
    println!("{canceled} conflicts");
    unnoticed("conflicts", &seen, &endpoint);
}
