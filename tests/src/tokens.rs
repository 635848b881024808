//! Clients that check of each row that it is theirs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{Cluster, Server, send_signal};

use crate::{Answer, Endpoint, EndpointBuilder, PoolRole, SetWhenDropped, eventually, within};

/// How long anything but the load may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of each answer; all of them have the client's token.
const ROWS: usize = 20;

/// What clients with a token each have seen, until they are told to end.
#[derive(Debug, Default)]
pub struct TokenLoad {
    is_over: AtomicBool,
    /// How many answers each client has checked.
    answers: Mutex<Vec<Arc<AtomicU64>>>,
    errors: Mutex<Vec<String>>,
}

/// How [`TokenLoad::under_kills`] went.
#[derive(Debug)]
pub struct TokenOutcome {
    /// Errors of the clients that read.
    pub reading: Vec<String>,
    /// Errors of the clients of the primary.
    pub writing: Vec<String>,
    /// How many server connections of each server were ended, the primary's first.
    pub ended: Vec<usize>,
    /// How often a replica ended as a whole, and started again.
    pub crashes: usize,
    /// How many answers were checked.
    pub answers: u64,
}

impl TokenLoad {
    /// What tells its clients to end.
    #[must_use]
    pub fn is_over(&self) -> &AtomicBool {
        &self.is_over
    }

    /// How many answers were checked.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.of_each().iter().sum()
    }

    /// All that its clients were told, connections that ended included.
    #[must_use]
    pub fn into_errors(self) -> Vec<String> {
        self.errors.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that asks in all ways, and connects again where its connection has ended.
    ///
    /// # Panics
    /// When a row is another client's.
    pub fn ask(&self, role: PoolRole, port: u16, token: &str) {
        let answers = Arc::default();
        lock(&self.answers).push(Arc::clone(&answers));
        while self.goes_on() {
            let ended = self.one_connection(role, port, token, &answers);
            if let Some(error) = ended {
                lock(&self.errors).push(error);
            }
        }
    }

    /// The endpoint that [`TokenLoad::under_kills`] needs: sessions survive what operators do, and a replica is back as soon as
    /// it answers, however often it was killed.
    #[must_use]
    pub fn endpoint(cluster: &Cluster, pool_size: u16) -> Endpoint {
        let builder: EndpointBuilder = Endpoint::over(cluster).pooling(pool_size).threads(2);
        builder.key("session.on_terminate", "\"move\"").key("health.damping_max", "\"0\"").start()
    }

    /// Half of so many `clients` read and half are on the primary, while server connections of `role` are ended on all
    /// servers in turn, and servers as a whole start again: replicas in turn, and at last the primary.
    ///
    /// # Panics
    /// When a row is another client's, or clients or servers do not go on.
    #[must_use]
    pub fn under_kills(
        cluster: &Cluster,
        endpoint: &Endpoint,
        role: PoolRole,
        clients: usize,
        load: Duration,
    ) -> TokenOutcome {
        let [reading, writing] = [Self::default(), Self::default()];
        let mut ended = vec![0; cluster.servers().count()];
        let mut crashes = 0;
        std::thread::scope(|scope| {
            let _over = [&reading, &writing].map(|seen| SetWhenDropped(&seen.is_over));
            for number in 0..clients {
                let (seen, port) = match number % 2 {
                    0 => (&reading, endpoint.reads()),
                    _ => (&writing, endpoint.writes()),
                };
                scope.spawn(move || seen.ask(role, port, &format!("token {number}")));
            }
            let all = || [reading.of_each(), writing.of_each()].concat();
            eventually(PATIENCE, "all clients have had an answer", || {
                all().len() == clients && all().iter().all(|answers| *answers > 0)
            });
            // A request is sent again to two further servers at most: no client is hit twice by one of its own.
            let all_go_on = || {
                let before = all();
                eventually(PATIENCE, "all clients go on", || {
                    all().iter().zip(&before).all(|(answers, before)| answers > before)
                });
            };
            let began = Instant::now();
            for replica in cluster.replicas.iter().cycle() {
                if began.elapsed() >= load {
                    break;
                }
                for (server, ended) in cluster.servers().zip(&mut ended) {
                    end_one(role, server);
                    *ended += 1;
                    all_go_on();
                }
                crash(role, replica);
                crashes += 1;
                all_go_on();
                endpoint.await_health(replica.name(), true, PATIENCE);
            }
            crash(role, &cluster.primary);
            all_go_on();
        });
        let answers = reading.answers() + writing.answers();
        TokenOutcome {
            reading: reading.into_errors(),
            writing: writing.into_errors(),
            ended,
            crashes,
            answers,
        }
    }

    fn of_each(&self) -> Vec<u64> {
        lock(&self.answers).iter().map(|answers| answers.load(Ordering::Relaxed)).collect()
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn one_connection(&self, role: PoolRole, port: u16, token: &str, answers: &AtomicU64) -> Option<String> {
        let mut wire = match role.login().try_connect(port) {
            Ok(wire) => wire,
            Err(error) => return Some(format!("login: {error:?}")),
        };
        let rows = format!("FROM generate_series(1, {ROWS})");
        let set = wire.query(&format!("SET application_name = '{token}'"));
        let prepared = wire.prepare("mine", &format!("SELECT '{token}', $1::text {rows}"));
        // The same for all clients, who have it under names of their own.
        let shared =
            wire.prepare(&format!("shared by {token}"), &format!("SELECT $1::text, $2::text {rows}"));
        if let Some(error) = set.error.or(prepared.error).or(shared.error) {
            return Some(format!("{error:?}"));
        }
        for turn in 0_u64.. {
            if !self.goes_on() {
                return None;
            }
            let number = turn.to_string();
            let answer = match turn % 5 {
                0 => wire.query(&format!("SELECT '{token}', {turn} {rows}")),
                1 => wire.extended(&format!("SELECT $1::text, $2::text {rows}"), &[token, &number]),
                2 => wire.execute("mine", &[&number]),
                3 => wire.execute(&format!("shared by {token}"), &[token, &number]),
                _ => wire.query(&format!("SELECT current_setting('application_name'), {turn} {rows}")),
            };
            if let Some(error) = &answer.error {
                return Some(format!("{error:?}"));
            }
            is_for(&answer, token, &number);
            answers.fetch_add(1, Ordering::Relaxed);
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

/// Ends one of the role's server connections on `server`, once there is one, as an operator does.
fn end_one(role: PoolRole, server: &Server) {
    let first = format!("SELECT min(pid) AS pid FROM pg_stat_activity WHERE usename = '{}'", role.name);
    let sql = format!("SELECT pg_terminate_backend(pid) FROM ({first}) first WHERE pid IS NOT NULL");
    eventually(PATIENCE, &format!("a server connection of {} is ended", server.name()), || {
        server.psql(&sql).expect("the server answers") == "t"
    });
}

/// Kills one of the role's server connections on `server`, once there is one: all of the server's processes end. Returns
/// when it has started again.
fn crash(role: PoolRole, server: &Server) {
    let what = format!("{} has a server connection", server.name());
    let (process, _) = within(PATIENCE, &what, || role.processes(server).first().copied());
    let checkpointer = || server.children_titled("checkpointer");
    let before = checkpointer();
    send_signal(process, Signal::SIGKILL);
    eventually(PATIENCE, &format!("{} starts again", server.name()), || {
        let now = checkpointer();
        !now.is_empty() && now != before
    });
    eventually(PATIENCE, &format!("{} answers again", server.name()), || server.psql("SELECT 1").is_ok());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
