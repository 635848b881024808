//! The endpoint of a worker, and what makes its one session leave its server.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use trunkline_cluster::Cluster;
use trunkline_tests::{Auth, Endpoint, Forwarder, Wire, eventually};

use super::script::Move;
use super::world::World;

/// How long a move may take until the session counts as one that stays, which any may.
pub(crate) const MOVE_TIMEOUT: Duration = Duration::from_millis(600);
/// The same of a session that has to move: what the machine does beside it keeps none.
pub(crate) const SURE_MOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to come back, or sessions to be spread.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sessions that crowd a server.
const CROWD: usize = 8;
/// How long a question of the proxy's own may take; of a session in a transaction it is not asked.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at the session.
const LOOK: Duration = Duration::from_millis(3);

/// What became of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session is off that server.
    Left,
    /// It is pinned, in a transaction or at work: why, in the proxy's words.
    Stayed(String),
    /// It had no server to leave.
    Nowhere,
}

/// An endpoint in front of two replicas, each reached through a forwarder.
#[derive(Debug)]
pub(crate) struct Mover {
    pub(crate) endpoint: Endpoint,
    links: Vec<Forwarder>,
    socket: PathBuf,
    _directory: TempDir,
    away: Away,
    pub(crate) move_timeout: Duration,
    pub(crate) cluster: Arc<Cluster>,
}

/// What the last move left to be put right.
#[derive(Debug, Default)]
enum Away {
    #[default]
    Nothing,
    /// This server is to be made ready again.
    Set(String),
    /// This replica is to be started.
    Crashed(usize),
    /// This replica is to replay again.
    Lagging(usize),
    /// So many sessions crowd one server.
    Crowded(Vec<Wire>),
}

#[derive(Debug)]
struct Seen {
    server: Option<String>,
    pinned: Option<String>,
    state: String,
}

impl Mover {
    pub(crate) fn start(cluster: Arc<Cluster>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let links: Vec<Forwarder> =
            cluster.replicas[..2].iter().map(|server| Forwarder::to(server.port())).collect();
        let mut builder = Endpoint::over(&cluster).without(cluster.replicas[2].name()).auth(Auth::Verify);
        // Its passwords change: more logins fail than a client may have fail.
        builder = builder.key("auth.failures_max", "0");
        for (server, link) in cluster.replicas.iter().zip(&links) {
            builder = builder.through(server.name(), link.port());
        }
        let endpoint = builder
            .flag("--admin", socket.to_str().unwrap())
            .key("health.max_lag", "\"1s\"")
            .key("health.tick", "\"100ms\"")
            .key("health.fast_interval", "\"100ms\"")
            .key("health.fallback.mode", "\"none\"")
            .key("limits.moves_per_second_max", "0")
            .key("runtime.threads", "1")
            .start();
        Self {
            endpoint,
            links,
            socket,
            _directory: directory,
            away: Away::Nothing,
            move_timeout: MOVE_TIMEOUT,
            cluster,
        }
    }

    /// Sends the session of the client at `port` away, and waits until it has left or is seen to stay.
    pub(crate) fn make(&mut self, how: Move, world: &mut World, port: u16) -> Outcome {
        self.settle();
        if matches!(how, Move::Lost | Move::Crash) && world.await_known_defaults() {
            // What they do not tell the proxy asks the session's server for, once the session is idle.
            let is_asked =
                || self.look(port).and_then(|seen| seen.pinned).is_some_and(|why| is_transient(&why));
            let deadline = Instant::now() + QUESTION_TIMEOUT;
            while is_asked() && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
        }
        let Some(Seen { server: Some(server), .. }) = self.look(port) else { return Outcome::Nowhere };
        match how {
            Move::Drain | Move::Maint => {
                let word = if how == Move::Drain { "drain" } else { "maint" };
                self.http("POST", &format!("/servers/{server}/{word}"));
                self.away = Away::Set(server.clone());
            }
            Move::Lost => self.cut(&server, world),
            Move::Crash => {
                self.cluster.replicas[replica(&server)].kill_postmaster();
                self.away = Away::Crashed(replica(&server));
            }
            Move::Lag => self.make_lag(&server, world),
            Move::Spread => self.crowd(&server),
        }
        self.await_leaving(&server, how, port)
    }

    /// Puts right what the last move has done, and waits until both replicas serve.
    pub(crate) fn settle(&mut self) {
        match std::mem::take(&mut self.away) {
            Away::Nothing => return,
            Away::Set(server) => {
                self.http("POST", &format!("/servers/{server}/ready"));
                return;
            }
            Away::Crashed(index) => {
                let server = &self.cluster.replicas[index];
                server.wait_stopped(PATIENCE).unwrap();
                server.start().unwrap();
            }
            Away::Lagging(index) => self.cluster.replicas[index].resume_replay().unwrap(),
            Away::Crowded(crowd) => drop(crowd),
        }
        for server in &self.cluster.replicas[..2] {
            self.endpoint.await_health(server.name(), true, PATIENCE);
        }
    }

    /// Stops the replay of `server` and writes until health has the proof that it lags.
    fn make_lag(&mut self, server: &str, world: &mut World) {
        self.cluster.replicas[replica(server)].pause_replay().unwrap();
        self.away = Away::Lagging(replica(server));
        eventually(PATIENCE, "the replica lags", || {
            world.write();
            self.endpoint.status_of(&format!("/{server}")) != 200
        });
    }

    /// Fills `server` with sessions that cannot move, so that another has to.
    fn crowd(&mut self, server: &str) {
        let other = if server == "replica1" { "replica2" } else { "replica1" };
        self.http("POST", &format!("/servers/{other}/drain"));
        let busy = || {
            let mut wire = Wire::login(self.endpoint.reads());
            assert_eq!(wire.query("BEGIN").error, None);
            wire
        };
        let crowd = (0..CROWD).map(|_| busy()).collect();
        self.http("POST", &format!("/servers/{other}/ready"));
        self.away = Away::Crowded(crowd);
    }

    /// The process that serves the session, and the number of its replica.
    pub(crate) fn backends(&self, world: &mut World, port: u16) -> Vec<(usize, String)> {
        let Some(Seen { server: Some(server), .. }) = self.look(port) else { return Vec::new() };
        let index = replica(&server);
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{}'", world.database());
        let rows = world.ask(index, &sql);
        rows.into_iter().filter_map(|row| Some((index, row.into_iter().next()??))).collect()
    }

    fn await_leaving(&self, server: &str, how: Move, port: u16) -> Outcome {
        let timeout = if how == Move::Spread { PATIENCE } else { self.move_timeout };
        let deadline = Instant::now() + timeout;
        loop {
            match self.look(port) {
                None => return Outcome::Left,
                Some(seen) if seen.server.as_deref() != Some(server) => return Outcome::Left,
                // A loss is not asked who is pinned.
                Some(_) if matches!(how, Move::Lost | Move::Crash) => {}
                // It takes the proxy milliseconds.
                Some(seen) if seen.pinned.as_deref().is_some_and(is_transient) => {}
                Some(Seen { pinned: Some(reason), .. }) => return Outcome::Stayed(reason),
                // Where a move is sure, it is the end of what was asked before.
                Some(Seen { state, .. }) if state == "active" && timeout != SURE_MOVE_TIMEOUT => {
                    return Outcome::Stayed(state);
                }
                Some(_) => {}
            }
            if Instant::now() >= deadline {
                return Outcome::Stayed("no reason in time".to_owned());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Cuts what connects the endpoint with this world's database on `server`.
    fn cut(&self, server: &str, world: &mut World) {
        let index = replica(server);
        let sql = format!("SELECT client_port FROM pg_stat_activity WHERE datname = '{}'", world.database());
        for row in world.ask(index, &sql) {
            let port = row.first().and_then(|value| value.as_deref()).and_then(|port| port.parse().ok());
            if let Some(port) = port {
                self.links[index].cut_link(port);
            }
        }
    }

    fn look(&self, port: u16) -> Option<Seen> {
        let listing: Value = serde_json::from_str(&self.http("GET", "/sessions")).unwrap();
        let client = format!("127.0.0.1:{port}");
        let rows = listing["sessions"].as_array().unwrap();
        let row = rows.iter().find(|row| row["client"] == client.as_str())?;
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        Some(Seen { server: text("server"), pinned: text("pinned"), state: text("state").unwrap() })
    }

    fn http(&self, method: &str, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{method} {path}: {answer}");
        body.to_owned()
    }
}

/// Whether a reason that pins a session ends while its client is idle.
fn is_transient(reason: &str) -> bool {
    ["values of settings are being read", "function that is yet to be read"].contains(&reason)
}

/// The index of a replica by its name.
fn replica(name: &str) -> usize {
    let number: usize = name.strip_prefix("replica").unwrap().parse().unwrap();
    number - 1
}
