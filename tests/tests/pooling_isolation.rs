//! Transaction mode under load: every row is for the client that asked, and no limit is exceeded.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{Server, send_signal};
use trunkline_tests::{
    Answer, Endpoint, PoolRole, SetWhenDropped, Wire, eventually, own_cluster, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Rows of each answer; all of them have the client's token.
const ROWS: usize = 20;

/// What 40 clients saw.
#[derive(Debug, Default)]
struct Seen {
    is_over: AtomicBool,
    answers: AtomicU64,
    errors: Mutex<Vec<String>>,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// A client that asks in all ways, and connects again where its connection has ended.
    fn ask(&self, role: PoolRole, port: u16, token: &str) {
        while self.goes_on() {
            let ended = self.one_connection(role, port, token);
            if let Some(error) = ended {
                self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
            }
        }
    }

    fn one_connection(&self, role: PoolRole, port: u16, token: &str) -> Option<String> {
        let mut wire = match role.login().try_connect(port) {
            Ok(wire) => wire,
            Err(error) => return Some(format!("login: {error:?}")),
        };
        let rows = format!("FROM generate_series(1, {ROWS})");
        let set = wire.query(&format!("SET application_name = '{token}'"));
        let prepared = wire.prepare("mine", &format!("SELECT '{token}', $1::text {rows}"));
        if let Some(error) = set.error.or(prepared.error) {
            return Some(format!("{error:?}"));
        }
        for turn in 0_u64.. {
            if !self.goes_on() {
                return None;
            }
            let number = turn.to_string();
            let answer = match turn % 4 {
                0 => wire.query(&format!("SELECT '{token}', {turn} {rows}")),
                1 => wire.extended(&format!("SELECT $1::text, $2::text {rows}"), &[token, &number]),
                2 => wire.execute("mine", &[&number]),
                _ => wire.query(&format!("SELECT current_setting('application_name'), {turn} {rows}")),
            };
            if let Some(error) = &answer.error {
                return Some(format!("{error:?}"));
            }
            is_for(&answer, token, &number);
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        None
    }
}

#[track_caller]
fn is_for(answer: &Answer, token: &str, number: &str) {
    assert_eq!(answer.rows.len(), ROWS, "{token} {number}");
    for row in &answer.rows {
        assert_eq!(row.as_slice(), [Some(token.to_owned()), Some(number.to_owned())], "another's row");
    }
}

/// Ends one of the role's server connections on `server`, if there is one: by a signal that makes all of its
/// processes end, or as an operator does.
fn kill_one(role: PoolRole, server: &Server, signal: Signal) {
    if let Some(&process) = role.processes(server).first() {
        send_signal(process, signal);
    }
}

#[test]
fn forty_clients_get_their_own_rows_while_server_connections_are_killed() {
    const LOAD: Duration = Duration::from_secs(10);
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_tokens");
    let builder = Endpoint::over(&cluster).pooling(2).threads(2);
    let endpoint = builder.key("session.on_terminate", "\"move\"").start();
    let [reading, writing] = [Seen::default(), Seen::default()];
    let mut kills = 0;
    std::thread::scope(|scope| {
        let _over = [&reading, &writing].map(|seen| SetWhenDropped(&seen.is_over));
        for number in 0..40 {
            let (seen, port) = match number % 2 {
                0 => (&reading, endpoint.reads()),
                _ => (&writing, endpoint.writes()),
            };
            scope.spawn(move || seen.ask(role, port, &format!("token {number}")));
        }
        let answered = |more: u64| {
            let goals = [&reading, &writing].map(|seen| seen.answers() + more);
            eventually(PATIENCE, "all go on", || {
                reading.answers() >= goals[0] && writing.answers() >= goals[1]
            });
        };
        let began = Instant::now();
        while began.elapsed() < LOAD {
            for server in cluster.servers() {
                answered(40);
                kill_one(role, server, Signal::SIGTERM);
                kills += 1;
            }
            // The whole server starts again after this one.
            let server = &cluster.replicas[kills % 2];
            kill_one(role, server, Signal::SIGKILL);
            answered(40);
            endpoint.await_health(server.name(), true, PATIENCE);
        }
        kill_one(role, &cluster.primary, Signal::SIGKILL);
        kills += 1;
        answered(100);
    });
    let [reading, writing] = [reading, writing].map(|seen| seen.errors.into_inner().unwrap());
    assert!(reading.is_empty(), "{reading:#?}");
    // Two connections to the primary may each have had a request in flight.
    assert!(writing.len() <= 2 * kills, "{kills} kills: {writing:#?}");
}

#[test]
fn no_more_server_connections_than_pool_size_also_after_a_reload() {
    let role = PoolRole::create(shared_cluster(), "of_sizes");
    let primary = &shared_cluster().primary;
    for threads in [1, 2] {
        let mut endpoint = Endpoint::over(shared_cluster()).pooling(3).threads(threads).start();
        let port = endpoint.writes();
        let seen = Seen::default();
        std::thread::scope(|scope| {
            let _over = SetWhenDropped(&seen.is_over);
            for number in 0..12 {
                let seen = &seen;
                scope.spawn(move || seen.ask(role, port, &format!("token {number}")));
            }
            for size in [3, 1, 4] {
                endpoint.rewrite("pool.pool_size", &size.to_string());
                endpoint.signal(Signal::SIGHUP);
                eventually(PATIENCE, "the size is in force", || role.processes(primary).len() == size);
                let goal = seen.answers() + 200;
                while seen.answers() < goal {
                    let open = role.processes(primary).len();
                    assert!(open <= size, "{open} of {size}");
                }
            }
        });
        assert_eq!(seen.errors.into_inner().unwrap(), Vec::<String>::new());
        drop(endpoint);
        eventually(PATIENCE, "none stays", || role.processes(primary).is_empty());
    }
}

#[test]
fn a_request_that_waits_too_long_fails_with_53300() {
    let role = PoolRole::create(shared_cluster(), "of_waits");
    let endpoint =
        Endpoint::over(shared_cluster()).pooling(1).key("pool.query_wait_timeout", "\"1s\"").start();
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    assert_eq!(first.query("BEGIN").error, None);
    let refused = second.query("SELECT 1").error.unwrap();
    assert_eq!(refused.code, "53300", "{refused:?}");
    assert_eq!(first.query("COMMIT").error, None);
    assert_eq!(role.connect(endpoint.writes()).value("SELECT 1"), "1");
}

#[test]
fn connections_that_are_idle_or_old_are_closed_and_no_client_sees_it() {
    let role = PoolRole::create(shared_cluster(), "of_ages");
    let primary = &shared_cluster().primary;
    let own = |wire: &mut Wire| wire.value("SELECT pg_backend_pid()").parse::<i32>().unwrap();
    let idle =
        Endpoint::over(shared_cluster()).pooling(2).key("pool.server_idle_timeout", "\"500ms\"").start();
    let mut wire = role.connect(idle.writes());
    for _ in 0..2 {
        let process = own(&mut wire);
        eventually(PATIENCE, "it is closed", || !role.processes(primary).contains(&process));
    }
    drop(idle);
    let old = Endpoint::over(shared_cluster()).pooling(2).key("pool.server_lifetime", "\"1s\"").start();
    let mut wire = role.connect(old.writes());
    let first = own(&mut wire);
    eventually(PATIENCE, "another one serves", || own(&mut wire) != first);
}

#[test]
fn a_terminated_idle_server_connection_ends_no_session() {
    let role = PoolRole::create(shared_cluster(), "of_ends");
    let primary = &shared_cluster().primary;
    let endpoint = Endpoint::over(shared_cluster()).pooling(2).start();
    let mut wires: Vec<Wire> = (0..6).map(|_| role.connect(endpoint.writes())).collect();
    for _ in 0..5 {
        // One that has just logged in keeps its connection until the defaults of its login have been read.
        eventually(PATIENCE, "all are idle", || {
            endpoint.pooled("sv_active", role) == 0 && endpoint.pooled("sv_idle", role) > 0
        });
        let kill = format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = '{}'",
            role.name
        );
        assert_ne!(primary.psql(&kill).unwrap(), "0");
        for wire in &mut wires {
            assert_eq!(wire.value("SELECT 1"), "1");
        }
    }
}
