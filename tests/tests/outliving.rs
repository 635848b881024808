//! Sessions outlive their servers: what a client works on is never the server's death.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use trunkline_cluster::{Cluster, PgInstall, Server, StopMode};
use trunkline_tests::{
    Auth, Endpoint, Login, Pgbench, Wire, binary, cluster_of, eventually, http_get, own_cluster, pgbench,
};

/// How long each pgbench runs: a fault early on, a return, and some time after.
const RUN_SECONDS: &str = "10";
/// A read with a row, so that an answer is more than its end.
const READ: &str = "SELECT relname FROM pg_catalog.pg_class WHERE oid = 1259;";
/// How long the kernel's and the health checks' part in anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs pgbench in each of its modes at once, five clients each, and does `fault` once all are at work on `victim`.
fn under_load(endpoint: &Endpoint, victim: &Server, fault: impl FnOnce()) -> Vec<Pgbench> {
    let port = endpoint.reads();
    std::thread::scope(|scope| {
        let runs: Vec<_> = ["simple", "extended", "prepared"]
            .into_iter()
            .map(|mode| {
                let arguments = ["-M", mode, "-c", "5", "-j", "1", "-T", RUN_SECONDS];
                scope.spawn(move || pgbench(port, &arguments, READ))
            })
            .collect();
        let working =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench' AND query <> ''";
        eventually(PATIENCE, "sessions are at work on the victim", || {
            victim.psql(working).is_ok_and(|count| count.parse::<u32>().is_ok_and(|count| count >= 5))
        });
        fault();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

fn assert_unharmed(endpoint: &Endpoint, runs: &[Pgbench]) {
    for run in runs {
        assert!(run.is_success, "{}\n{}", run.output, endpoint.log());
        assert!(run.output.contains("number of failed transactions: 0 "), "{}", run.output);
    }
    assert_eq!(counted(endpoint, "trunkline_sessions_lost_total"), 0.0, "{}", endpoint.log());
}

/// The sum of a family of metrics over all labels.
fn counted(endpoint: &Endpoint, family: &str) -> f64 {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let samples = metrics.lines().filter(|line| line.starts_with(&format!("{family}{{")));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn verified(cluster: &Cluster) -> Endpoint {
    Endpoint::over(cluster).auth(Auth::Verify).start()
}

#[test]
fn pgbench_in_every_mode_survives_the_sigkill_of_a_replica_and_its_return() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let victim = &cluster.replicas[0];
    let runs = under_load(&endpoint, victim, || {
        victim.kill_postmaster();
        victim.wait_stopped(PATIENCE).unwrap();
        victim.start().unwrap();
    });
    assert_unharmed(&endpoint, &runs);
    assert!(
        counted(&endpoint, "trunkline_session_moves_total")
            + counted(&endpoint, "trunkline_requests_repeated_total")
            > 0.0
    );
}

#[test]
fn pgbench_in_every_mode_survives_a_fast_and_then_an_immediate_shutdown() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let victim = &cluster.replicas[0];
    let runs = under_load(&endpoint, victim, || {
        for mode in [StopMode::Fast, StopMode::Immediate] {
            victim.stop(mode).unwrap();
            victim.start().unwrap();
        }
    });
    assert_unharmed(&endpoint, &runs);
}

#[test]
fn pgbench_in_every_mode_survives_the_termination_of_its_backends() {
    let cluster = own_cluster(2);
    let endpoint =
        Endpoint::over(&cluster).auth(Auth::Verify).key("session.on_terminate", "\"move\"").start();
    let victim = &cluster.replicas[0];
    let terminate =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgbench'";
    let runs = under_load(&endpoint, victim, || {
        for _ in 0..10 {
            victim.psql(terminate).unwrap();
        }
    });
    assert_unharmed(&endpoint, &runs);
}

#[test]
fn pgbench_in_every_mode_survives_a_server_that_hangs() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let victim = &cluster.replicas[0];
    let runs = under_load(&endpoint, victim, || victim.pause());
    victim.resume();
    assert_unharmed(&endpoint, &runs);
}

#[test]
fn a_drained_server_is_empty_soon_and_nobody_notices() {
    let cluster = own_cluster(2);
    let socket = cluster.directory().join("admin.sock");
    let endpoint =
        Endpoint::over(&cluster).auth(Auth::Verify).flag("--admin", socket.to_str().unwrap()).start();
    let victim = &cluster.replicas[0];
    let runs = under_load(&endpoint, victim, || {
        operator(&socket, "drain", victim.name());
        eventually(PATIENCE, "the drained server has no sessions", || {
            endpoint.sessions_on(victim.name()) == 0
        });
        operator(&socket, "ready", victim.name());
        eventually(PATIENCE, "sessions come back", || endpoint.sessions_on(victim.name()) > 0);
    });
    assert_unharmed(&endpoint, &runs);
}

fn operator(socket: &Path, wanted: &str, server: &str) {
    let mut command = Command::new(binary());
    let output = command.args([wanted, server, "--admin"]).arg(socket).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The server that answers this session now.
fn server_of<'c>(cluster: &'c Cluster, wire: &mut Wire) -> &'c Server {
    let name = wire.value("SHOW cluster_name");
    cluster.replicas.iter().find(|server| server.name() == name).unwrap()
}

#[test]
fn settings_and_prepared_statements_follow_the_session() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let mut wire = Login::default().connect(endpoint.reads());
    for sql in [
        "SET work_mem = '7MB'",
        "SET TIME ZONE 'Asia/Tokyo'",
        "BEGIN; SET statement_timeout = '77s'; COMMIT",
        "BEGIN",
        "SET lock_timeout = '99s'",
        "ROLLBACK",
    ] {
        assert_eq!(wire.query(sql).error, None, "{sql}");
    }
    assert_eq!(prepare(&mut wire), "12Z");
    server_of(&cluster, &mut wire).kill_postmaster();
    assert_eq!(wire.value("SHOW work_mem"), "7MB");
    assert_eq!(wire.value("SHOW timezone"), "Asia/Tokyo");
    assert_eq!(wire.value("SHOW lock_timeout"), "0");
    assert_eq!(execute(&mut wire), "42");
}

fn prepare(wire: &mut Wire) -> String {
    use trunkline_codec::write;
    wire.send_with(|out| {
        write::parse(out, b"answer", b"SELECT 42", &[]).unwrap();
        write::bind(out, b"", b"answer", std::iter::empty()).unwrap();
        write::sync(out);
    });
    wire.read_answer().tags()
}

fn execute(wire: &mut Wire) -> String {
    use trunkline_codec::write;
    wire.send_with(|out| {
        write::bind(out, b"", b"answer", std::iter::empty()).unwrap();
        write::execute(out, b"", 0).unwrap();
        write::sync(out);
    });
    let answer = wire.read_answer();
    assert_eq!(answer.error, None);
    answer.value().to_owned()
}

#[test]
fn the_rest_of_a_message_is_no_goodbye_whatever_it_begins_with() {
    let cluster = own_cluster(2);
    let builder = Endpoint::over(&cluster).auth(Auth::Verify).key("runtime.threads", "1");
    let endpoint = builder.key("log.level", "\"info,trunkline_proxy=debug\"").start();
    let (mut wire, mut other) = (Wire::login(endpoint.reads()), Wire::login(endpoint.writes()));
    let server = server_of(&cluster, &mut wire);
    let (head, rest) = b"Q\0\0\0\x0fSELECT 'X'\0".split_at(13);
    wire.send(head);
    // The thread has read the one before it answers the other.
    assert_eq!(other.value("SELECT 1"), "1");
    server.kill();
    eventually(PATIENCE, "the loss is noticed", || {
        endpoint.log().contains("the session continues on another server")
    });
    wire.send(rest);
    assert_eq!(wire.read_answer().value(), "X");
    let to = server_of(&cluster, &mut wire).name();
    let moved = format!("from={} to={to} cause=server_lost took_us=", server.name());
    eventually(PATIENCE, "the move is logged", || endpoint.log().contains(&moved));
    // On its server's death it says no more than that at level info.
    let log = endpoint.log();
    let told: Vec<&str> =
        log.lines().filter(|line| line.contains("level=info") && line.contains(" session.id=")).collect();
    assert!(told.len() == 1 && told[0].contains(&moved), "{told:?}");
}

#[test]
fn what_cannot_move_is_told_so_once() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let mut wire = Login::default().connect(endpoint.reads());
    assert_eq!(wire.value("SELECT pg_advisory_lock(1)"), "");
    let victim = server_of(&cluster, &mut wire);
    victim.kill_postmaster();
    // A backend may answer until it notices.
    eventually(PATIENCE, "the server's end is noticed", || endpoint.log().contains("its server was lost"));
    let answer = wire.query("SELECT 1");
    let error = answer.error.unwrap();
    assert_eq!((error.severity.as_str(), answer.rows.len()), ("FATAL", 0));
    assert!(["57P01", "08006"].contains(&error.code.as_str()), "{error:?}");
}

#[test]
fn long_lived_sessions_are_spread_again_after_a_replica_returns() {
    let cluster = own_cluster(2);
    let endpoint = verified(&cluster);
    let victim = &cluster.replicas[1];
    let mut wires: Vec<Wire> = (0..20).map(|_| Login::default().connect(endpoint.reads())).collect();
    victim.kill_postmaster();
    wires.iter_mut().for_each(|wire| assert_eq!(wire.value("SELECT 1"), "1"));
    victim.wait_stopped(PATIENCE).unwrap();
    victim.start().unwrap();
    eventually(PATIENCE, "the replica that came back has 40 to 60 % of the sessions", || {
        wires.iter_mut().for_each(|wire| assert_eq!(wire.value("SELECT 1"), "1"));
        (8..=12).contains(&endpoint.sessions_on(victim.name()))
    });
}

#[test]
fn reads_canceled_for_a_recovery_conflict_go_elsewhere() {
    let cluster = cluster_of(
        PgInstall::find(None).unwrap(),
        2,
        &[("max_standby_streaming_delay", "0"), ("hot_standby_feedback", "off")],
    );
    // The other replica may well wait for its reads: that is no reason to leave it.
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).key("health.max_lag", "\"60s\"").start();
    let primary = &cluster.primary;
    primary.psql("CREATE TABLE hot AS SELECT g AS id, 0 AS n FROM generate_series(1, 2000) g").unwrap();
    cluster.wait_caught_up().unwrap();
    // This one lets reads finish first, and cancels none.
    cluster.replicas[1].set("max_standby_streaming_delay", "-1").unwrap();
    let port = endpoint.reads();
    let run = std::thread::scope(|scope| {
        let slow = "SELECT sum(h.n) FROM hot h, generate_series(1, 1500);";
        let run = scope.spawn(move || pgbench(port, &["-c", "6", "-j", "1", "-T", "20"], slow));
        // The server's own count of conflicts may be of the probe's reads, or of a `psql`.
        eventually(PATIENCE, "a read canceled on the victim is repeated", || {
            primary.psql("UPDATE hot SET n = n + 1").unwrap();
            primary.psql("VACUUM hot").unwrap();
            counted(&endpoint, "trunkline_requests_repeated_total") > 0.0
        });
        run.join().unwrap()
    });
    assert_unharmed(&endpoint, &[run]);
}
