//! Clients that check of each row that it is theirs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{Cluster, Server, send_signal};

use crate::{Answer, Endpoint, PoolRole, SetWhenDropped, eventually};

/// How long anything but the load may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of each answer; all of them have the client's token.
const ROWS: usize = 20;

/// What clients with a token each have seen, until they are told to end.
#[derive(Debug, Default)]
pub struct TokenLoad {
    is_over: AtomicBool,
    answers: AtomicU64,
    errors: Mutex<Vec<String>>,
}

/// How [`TokenLoad::under_kills`] went.
#[derive(Debug)]
pub struct TokenOutcome {
    /// Errors of the clients that read.
    pub reading: Vec<String>,
    /// Errors of the clients of the primary.
    pub writing: Vec<String>,
    /// How many server connections of the primary, or of a replica alone, were killed.
    pub kills: usize,
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
        self.answers.load(Ordering::Relaxed)
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
        while self.goes_on() {
            let ended = self.one_connection(role, port, token);
            if let Some(error) = ended {
                self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
            }
        }
    }

    /// Half of so many `clients` read and half are on the primary, while server connections of `role` are killed on all
    /// servers in turn, and replicas as a whole start again.
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
        let mut kills = 0;
        std::thread::scope(|scope| {
            let _over = [&reading, &writing].map(|seen| SetWhenDropped(&seen.is_over));
            for number in 0..clients {
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
            while began.elapsed() < load {
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
        let answers = reading.answers() + writing.answers();
        TokenOutcome { reading: reading.into_errors(), writing: writing.into_errors(), kills, answers }
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn one_connection(&self, role: PoolRole, port: u16, token: &str) -> Option<String> {
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
