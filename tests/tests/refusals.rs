//! A session that is to move to a server which refuses it stays where it is served, whatever the refusal and the reason
//! to move; and a client whose role a standby has yet to replay logs in elsewhere.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, Server};
use trunkline_tests::{Auth, Endpoint, Login, Wire, binary, eventually, http_get, own_cluster};

const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than a client may wait for a server that refuses its session.
const SOON: Duration = Duration::from_secs(5);

/// What makes servers refuse a role that is logged in.
struct Refusal {
    /// What the session does first.
    before: &'static str,
    /// What the primary is told; `ROLE` is the name of the role.
    statement: &'static str,
    /// Its name in the metrics.
    reason: &'static str,
}

const REFUSALS: [Refusal; 4] = [
    Refusal { before: "", statement: "ALTER ROLE ROLE PASSWORD 'next'", reason: "authentication" },
    Refusal { before: "", statement: "ALTER ROLE ROLE NOLOGIN", reason: "authentication" },
    Refusal { before: "", statement: "ALTER ROLE ROLE CONNECTION LIMIT 0", reason: "too_many_connections" },
    Refusal { before: "SET ROLE staff", statement: "REVOKE staff FROM ROLE", reason: "state" },
];

struct Stage {
    cluster: Cluster,
    endpoint: Endpoint,
    socket: PathBuf,
}

impl Stage {
    fn start() -> Self {
        let cluster = own_cluster(2);
        cluster.primary.psql("CREATE ROLE staff").unwrap();
        let socket = cluster.directory().join("admin.sock");
        let endpoint = Endpoint::over(&cluster)
            .auth(Auth::Verify)
            .flag("--admin", socket.to_str().unwrap())
            .key("health.max_lag", "\"1s\"")
            .start();
        Stage { cluster, endpoint, socket }
    }

    /// Has the primary execute it, and the replicas that replay do so, too.
    fn write(&self, statement: &str) {
        self.cluster.primary.psql(statement).unwrap();
        let replicas = self.cluster.replicas.iter();
        let position = self.cluster.primary.psql("SELECT pg_current_wal_lsn()").unwrap();
        for replica in
            replicas.filter(|replica| replica.psql("SELECT pg_is_wal_replay_paused()").unwrap() == "f")
        {
            let has_replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
            eventually(PATIENCE, "the replica has replayed it", || {
                replica.psql(&has_replayed).unwrap() == "t"
            });
        }
    }

    fn operate(&self, word: &str, server: &Server) {
        let mut command = Command::new(binary());
        let output = command.args([word, server.name(), "--admin"]).arg(&self.socket).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        if word == "ready" {
            self.endpoint.await_health(server.name(), true, PATIENCE);
        }
    }

    /// Sessions that have been refused by a server while they had another.
    fn refused(&self, reason: &str) -> f64 {
        let body = http_get(self.endpoint.http(), "/metrics").unwrap().body;
        let label = format!("reason=\"{reason}\"");
        let lines = body.lines().filter(|line| line.starts_with("trunkline_session_moves_refused_total"));
        lines
            .filter(|line| line.contains(&label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// So many sessions of a new role, all on one replica; the role is refused from then on.
    fn sessions(&self, number: usize, count: usize, refusal: &Refusal) -> (Vec<Wire>, &Server) {
        let role = format!("svc{number}");
        let [on, other] = &self.cluster.replicas[..] else { unreachable!("there are two") };
        self.write(&format!("CREATE ROLE {role} LOGIN PASSWORD 'kept' IN ROLE staff"));
        self.operate("drain", other);
        let login = || {
            let mut wire = Login::of(&role, "kept").connect(self.endpoint.reads());
            if !refusal.before.is_empty() {
                assert_eq!(wire.query(refusal.before).error, None);
            }
            wire
        };
        let sessions = (0..count).map(|_| login()).collect();
        self.write(
            &refusal
                .statement
                .replace("ROLE ROLE", &format!("ROLE {role}"))
                .replace("FROM ROLE", &format!("FROM {role}")),
        );
        (sessions, on)
    }

    /// Every session is served where it is, at once.
    fn assert_served(&self, sessions: &mut [Wire], on: &Server, why: &str) {
        for wire in sessions {
            let began = Instant::now();
            let answer = wire.query("SHOW cluster_name");
            assert_eq!(answer.error, None, "{why}: {}", self.endpoint.log());
            assert_eq!(answer.value(), on.name(), "{why}");
            assert!(began.elapsed() < SOON, "{why}: {:?}", began.elapsed());
        }
    }
}

#[test]
fn sessions_that_others_refuse_stay_on_a_server_that_is_drained_or_in_maintenance() {
    let stage = Stage::start();
    for (number, refusal) in REFUSALS.iter().enumerate() {
        let word = ["drain", "maint"][number % 2];
        let (mut sessions, on) = stage.sessions(number, 2, refusal);
        let other = &stage.cluster.replicas[1];
        stage.operate("ready", other);
        let before = stage.refused(refusal.reason);
        stage.operate(word, on);
        eventually(PATIENCE, "both are refused", || stage.refused(refusal.reason) >= before + 2.0);
        stage.assert_served(&mut sessions, on, refusal.statement);
        stage.operate("ready", on);
    }
}

#[test]
fn sessions_that_others_refuse_stay_where_too_many_are() {
    let stage = Stage::start();
    for (number, refusal) in REFUSALS.iter().enumerate() {
        let (mut sessions, on) = stage.sessions(number, 8, refusal);
        let before = stage.refused(refusal.reason);
        stage.operate("ready", &stage.cluster.replicas[1]);
        eventually(PATIENCE, "some were to move", || stage.refused(refusal.reason) > before);
        stage.assert_served(&mut sessions, on, refusal.statement);
    }
}

#[test]
fn sessions_that_others_refuse_stay_on_a_replica_that_lags() {
    let stage = Stage::start();
    stage.write("CREATE TABLE news (n int)");
    for (number, refusal) in REFUSALS.iter().enumerate() {
        let (mut sessions, on) = stage.sessions(number, 2, refusal);
        stage.operate("ready", &stage.cluster.replicas[1]);
        let before = stage.refused(refusal.reason);
        on.pause_replay().unwrap();
        eventually(PATIENCE, "both are refused", || {
            stage.cluster.primary.psql("INSERT INTO news VALUES (1)").unwrap();
            stage.refused(refusal.reason) >= before + 2.0
        });
        stage.assert_served(&mut sessions, on, refusal.statement);
        on.resume_replay().unwrap();
        stage.endpoint.await_health(on.name(), true, PATIENCE);
    }
}

#[test]
fn session_moves_once_the_others_take_it_again() {
    let stage = Stage::start();
    let refusal = &REFUSALS[2];
    let (mut sessions, on) = stage.sessions(0, 1, refusal);
    stage.operate("ready", &stage.cluster.replicas[1]);
    stage.operate("drain", on);
    eventually(PATIENCE, "it is refused", || stage.refused(refusal.reason) > 0.0);
    stage.assert_served(&mut sessions, on, refusal.statement);
    stage.write("ALTER ROLE svc0 CONNECTION LIMIT -1");
    eventually(PATIENCE, "it has moved", || stage.endpoint.sessions_on(on.name()) == 0);
    assert_eq!(sessions[0].value("SHOW cluster_name"), stage.cluster.replicas[1].name());
}

#[test]
fn client_whose_role_a_standby_has_yet_to_replay_logs_in_elsewhere() {
    let stage = Stage::start();
    let behind = &stage.cluster.replicas[0];
    behind.pause_replay().unwrap();
    stage.write("CREATE ROLE fresh LOGIN PASSWORD 'fresh'");
    for _ in 0..5 {
        let mut wire = Login::of("fresh", "fresh").connect(stage.endpoint.reads());
        assert_ne!(wire.value("SHOW cluster_name"), behind.name());
    }
    behind.resume_replay().unwrap();
}
