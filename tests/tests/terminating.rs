//! An operator's `pg_terminate_backend` ends that session; a server's end does not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{Cluster, MONITOR_ROLE, Server, StopMode, send_signal};
use trunkline_codec::write;
use trunkline_tests::{
    Answer, Auth, Endpoint, Forwarder, Login, ServerError, Wire, eventually, http_get, own_cluster,
    shared_cluster, within,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the endpoint logs when it has logged in to find out whose end it was.
const JUDGED: &str = "probed with a new login: the server ended a session";

/// A session that has worked, and its server.
fn session<'c>(cluster: &'c Cluster, endpoint: &Endpoint) -> (Wire, &'c Server) {
    let mut wire = Login::default().connect(endpoint.reads());
    let name = wire.value("SHOW cluster_name");
    let server = cluster.servers().find(|server| server.name() == name).unwrap();
    (wire, server)
}

/// Its server process.
fn backend(wire: &mut Wire) -> String {
    wire.value("SELECT pg_backend_pid()")
}

/// A session that can move, its server and its server process. Of a database that is new to the endpoint the functions
/// are yet to be read, and a session that has called one stays.
fn movable<'c>(cluster: &'c Cluster, endpoint: &Endpoint) -> (Wire, &'c Server, String) {
    let (found, _took) = within(PATIENCE, "a session can move", || {
        let (mut wire, server) = session(cluster, endpoint);
        let pid = backend(&mut wire);
        let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
        let is_movable = metrics.lines().any(|line| line == "trunkline_sessions_movable 1");
        is_movable.then_some((wire, server, pid))
    });
    found
}

fn terminate(server: &Server, backend: &str) {
    assert!(is_ended(server, backend), "there is a process {backend}");
}

/// Ends a server process, if there is such a one.
fn is_ended(server: &Server, backend: &str) -> bool {
    server.psql(&format!("SELECT pg_terminate_backend({backend})")).unwrap() == "t"
}

/// The last words: one FATAL with this code, then the end.
#[track_caller]
fn last_words(answer: &Answer, code: &str) -> ServerError {
    let error = answer.error.clone().unwrap();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", code), "{error:?}");
    assert!(answer.tags().ends_with('E'), "nothing follows: {}", answer.tags());
    error
}

/// Those of a backend that an operator has ended, in PostgreSQL's own words.
#[track_caller]
fn is_terminated(answer: &Answer) {
    let error = last_words(answer, "57P01");
    let first = error.text.lines().next().unwrap();
    assert_eq!(first, "terminating connection due to administrator command");
}

/// A sum over all samples of a family of metrics whose labels contain `label`.
fn counted(endpoint: &Endpoint, family: &str, label: &str) -> f64 {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let family = format!("{family}{{");
    let samples = metrics.lines().filter(|line| line.starts_with(&family) && line.contains(label));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn terminated(endpoint: &Endpoint, cause: &str) -> f64 {
    counted(endpoint, "trunkline_sessions_terminated_total", &format!("cause=\"{cause}\""))
}

fn lost(endpoint: &Endpoint) -> f64 {
    counted(endpoint, "trunkline_sessions_lost_total", "")
}

#[test]
fn a_kill_ends_that_client_with_the_servers_own_words() {
    let cluster = shared_cluster();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        let states: [(&[&str], &str); 5] = [
            (&[], "idle"),
            (&["BEGIN", "SELECT 1"], "in a transaction"),
            (&["BEGIN", "SELECT 1/0"], "in a failed transaction"),
            (&["SELECT pg_advisory_lock(1)"], "pinned"),
            (&["SET work_mem = '7MB'", "PREPARE p AS SELECT 1"], "with a state of its own"),
        ];
        for (begin, state) in states {
            let (mut wire, server) = session(cluster, &endpoint);
            let pid = backend(&mut wire);
            begin.iter().for_each(|sql| drop(wire.query(sql)));
            terminate(server, &pid);
            let answer = wire.read_answer();
            assert!(answer.error.is_some(), "{auth:?}, {state}: {}", endpoint.log());
            is_terminated(&answer);
        }
        if auth == Auth::Verify {
            assert_eq!(
                (terminated(&endpoint, "operator"), lost(&endpoint)),
                (5.0, 0.0),
                "{}",
                endpoint.log()
            );
            let line = "server ended the session, and serves others";
            eventually(PATIENCE, "each is logged", || endpoint.log().matches(line).count() == 5);
        }
    }
}

#[test]
fn a_kill_ends_a_running_request_in_either_protocol_and_whatever_it_does() {
    let cluster = shared_cluster();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = ";
        for (port, is_extended) in
            [(endpoint.reads(), false), (endpoint.reads(), true), (endpoint.writes(), false)]
        {
            let mut wire = Login::default().connect(port);
            let name = wire.value("SHOW cluster_name");
            let server = cluster.servers().find(|server| server.name() == name).unwrap();
            let pid = backend(&mut wire);
            if is_extended {
                series(&mut wire, "SELECT pg_sleep(600)");
                wire.send_with(write::sync);
            } else {
                wire.send_query("SELECT pg_sleep(600)");
            }
            eventually(PATIENCE, "it runs", || server.psql(&format!("{sleeping}{pid}")).unwrap() == "1");
            terminate(server, &pid);
            is_terminated(&wire.read_answer());
        }
    }
}

/// A read whose answer has not begun would be sent again, were its server lost.
#[test]
fn a_read_whose_answer_has_not_begun_is_not_sent_again_after_a_kill() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).auth(Auth::Verify).start();
    let (mut wire, server) = session(cluster, &endpoint);
    wire.send_query("SELECT count(*) FROM generate_series(1, 1234567890) /* long */");
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE query LIKE '%/* long */' AND pid <> pg_backend_pid()";
    eventually(PATIENCE, "it is ended", || server.psql(kill).unwrap() == "1");
    is_terminated(&wire.read_answer());
    assert_eq!(terminated(&endpoint, "operator"), 1.0, "{}", endpoint.log());
}

#[test]
fn a_session_that_ends_itself_has_ended() {
    let cluster = shared_cluster();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        for port in [endpoint.reads(), endpoint.writes()] {
            let mut wire = Login::default().connect(port);
            is_terminated(&wire.query("SELECT pg_terminate_backend(pg_backend_pid())"));
        }
    }
}

#[test]
fn with_move_a_kill_is_the_loss_of_a_server() {
    let cluster = shared_cluster();
    let mut endpoint =
        Endpoint::over(cluster).auth(Auth::Verify).key("session.on_terminate", "\"move\"").start();
    let (mut wire, server, pid) = movable(cluster, &endpoint);
    terminate(server, &pid);
    assert_eq!(wire.value("SELECT 1"), "1");
    // And another word of the operator's takes effect without a restart.
    endpoint.rewrite("session.on_terminate", "\"end\"");
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "a kill is meant", || {
        let (mut wire, server) = session(cluster, &endpoint);
        let pid = backend(&mut wire);
        // One that has moved meanwhile tells nothing.
        is_ended(server, &pid) && wire.query("SELECT 1").error.is_some()
    });
}

#[test]
fn many_sessions_killed_at_once_cost_their_server_a_login_or_two() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let mut wires: Vec<Wire> = (0..50).map(|_| Login::default().connect(endpoint.reads())).collect();
    wires.iter_mut().for_each(|wire| assert_eq!(wire.value("SELECT 'many'"), "many"));
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%many%' \
                AND pid <> pg_backend_pid()";
    assert_eq!(cluster.replicas[0].psql(kill).unwrap(), "50");
    wires.iter_mut().for_each(|wire| is_terminated(&wire.read_answer()));
    let logins = || endpoint.log().matches(JUDGED).count();
    // The log comes by a thread of its own.
    eventually(PATIENCE, "the first login is logged", || logins() > 0);
    assert!(logins() <= 5, "{} logins", logins());
    assert_eq!(terminated(&endpoint, "operator"), 50.0);
}

#[test]
fn the_fast_shutdown_of_the_only_replica_is_no_kill() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let replica = &cluster.replicas[0];
    let mut wires: Vec<Wire> = (0..20).map(|_| session(&cluster, &endpoint).0).collect();
    replica.stop(StopMode::Fast).unwrap();
    for wire in &mut wires {
        assert_eq!(wire.value("SHOW cluster_name"), "primary", "{}", endpoint.log());
    }
    assert_eq!((terminated(&endpoint, ""), lost(&endpoint)), (0.0, 0.0));
}

#[test]
fn a_restart_is_no_kill_however_soon_the_server_is_back() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let mut wires: Vec<Wire> = (0..20).map(|_| session(&cluster, &endpoint).0).collect();
    for _ in 0..3 {
        cluster.replicas[0].stop(StopMode::Fast).unwrap();
        cluster.replicas[0].start().unwrap();
        for wire in &mut wires {
            assert_eq!(wire.value("SELECT 1"), "1", "{}", endpoint.log());
        }
    }
    assert_eq!((terminated(&endpoint, ""), lost(&endpoint)), (0.0, 0.0));
}

/// An address that moves leads to another server, which has run for longer than the session has lived.
#[test]
fn a_shutdown_is_no_kill_though_the_address_leads_to_another_server() {
    let cluster = own_cluster(2);
    let [first, second] = &cluster.replicas[..] else { panic!("two replicas were asked for") };
    let way = Forwarder::to(first.port());
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .through("replica1", way.port())
        .without("replica2")
        .start();
    let (mut wire, server, _pid) = movable(&cluster, &endpoint);
    assert_eq!(server.name(), first.name());
    way.lead_to(second.port());
    first.stop(StopMode::Fast).unwrap();
    assert_ne!(wire.value("SHOW cluster_name"), first.name(), "{}", endpoint.log());
    assert!(endpoint.log().contains(JUDGED), "{}", endpoint.log());
    assert_eq!((terminated(&endpoint, ""), lost(&endpoint)), (0.0, 0.0));
}

#[test]
fn a_server_that_does_not_answer_the_question_counts_as_lost_in_time() {
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .flag("--log-statements", "0")
        .flag("--log-format", "json")
        .start();
    let (mut wire, server, pid) = movable(&cluster, &endpoint);
    let mut operator = Login::default().connect(server.port());
    let postmaster = server.postmaster_pid().unwrap();
    send_signal(postmaster, Signal::SIGSTOP);
    assert_eq!(operator.value(&format!("SELECT pg_terminate_backend({pid})")), "t");
    let begun = Instant::now();
    assert_eq!(wire.value("SELECT 'waited'"), "waited");
    let took = begun.elapsed();
    send_signal(postmaster, Signal::SIGCONT);
    assert!(took < Duration::from_secs(5), "connect_timeout is 1 s, it took {took:?}");
    assert_ne!(wire.value("SHOW cluster_name"), server.name());
    let waited = || {
        let log = endpoint.log();
        let mut records = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        records
            .find(|record| record["sql"] == "SELECT 'waited'")
            .and_then(|record| record["wait_us"].as_u64())
    };
    eventually(PATIENCE, "the statement is logged", || waited().is_some());
    assert!(waited().is_some_and(|time| time > 500_000), "{:?} of {took:?}", waited());
}

#[test]
fn a_monitoring_role_that_cannot_log_in_any_more_hides_no_kill() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let (mut wire, server) = session(&cluster, &endpoint);
    let pid = backend(&mut wire);
    cluster.primary.psql(&format!("ALTER ROLE {MONITOR_ROLE} NOLOGIN")).unwrap();
    cluster.wait_caught_up().unwrap();
    terminate(server, &pid);
    is_terminated(&wire.read_answer());
}

/// Extended messages without their Sync.
fn series(wire: &mut Wire, sql: &str) {
    wire.send_with(|out| {
        write::parse(out, b"", sql.as_bytes(), &[]).unwrap();
        write::bind(out, b"", b"", std::iter::empty()).unwrap();
        write::execute(out, b"", 0).unwrap();
    });
}

#[test]
fn a_sessions_own_time_outs_end_it() {
    let cluster = shared_cluster();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        let limits: [(&[&str], &str, &str); 2] = [
            (&["SET idle_session_timeout = '100ms'"], "57P05", "idle_session_timeout"),
            (
                &["SET idle_in_transaction_session_timeout = '100ms'", "BEGIN"],
                "25P03",
                "idle_in_transaction_session_timeout",
            ),
        ];
        for (begin, code, cause) in limits {
            let (mut wire, _server) = session(cluster, &endpoint);
            begin.iter().for_each(|sql| assert_eq!(wire.query(sql).error, None));
            last_words(&wire.read_answer(), code);
            eventually(PATIENCE, "it is counted", || terminated(&endpoint, cause) == 1.0);
        }
        assert_eq!(lost(&endpoint), 0.0);
    }
}

/// Something that ends a session if its server ends.
type Engage = fn(&mut Wire);

fn open_a_pipeline(wire: &mut Wire) {
    series(wire, "SELECT 1");
    wire.send_with(write::flush);
    let answer: Vec<u8> = (0..4).map(|_| wire.read_message().unwrap().tag).collect();
    assert_eq!(answer, b"12DC");
}

fn send_several_requests(wire: &mut Wire) {
    wire.send_query("SELECT pg_sleep(600)");
    wire.send_query("SELECT 1");
}

fn take_a_lock(wire: &mut Wire) {
    assert_eq!(wire.query("SELECT pg_advisory_lock_shared(1)").error, None);
}

fn begin_a_large_message(wire: &mut Wire) {
    wire.send_query("SELECT repeat('x', 100000000)");
    assert_eq!(wire.read_message().unwrap().tag, b'T');
    assert_eq!(wire.read_header().unwrap().0, b'D');
}

/// A session on `server` that is engaged in something.
fn engaged(cluster: &Cluster, endpoint: &Endpoint, server: &Server, engage: Engage) -> Wire {
    loop {
        let (mut wire, on) = session(cluster, endpoint);
        if on.name() == server.name() {
            engage(&mut wire);
            return wire;
        }
    }
}

#[test]
fn every_session_that_ends_with_its_server_is_counted_and_logged() {
    let cluster = own_cluster(2);
    let victim = &cluster.replicas[0];
    let stops: [fn(&Server); 2] = [Server::kill, |server| server.stop(StopMode::Fast).unwrap()];
    let engage: [Engage; 4] = [open_a_pipeline, send_several_requests, take_a_lock, begin_a_large_message];
    for (stop, auth) in stops.into_iter().flat_map(|stop| [(stop, Auth::Relay), (stop, Auth::Verify)]) {
        let endpoint = Endpoint::over(&cluster).auth(auth).start();
        let mut wires = engage.map(|engage| engaged(&cluster, &endpoint, victim, engage));
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        eventually(PATIENCE, "the requests have arrived", || victim.psql(sleeping).unwrap() == "1");
        stop(victim);
        wires.iter_mut().for_each(|wire| drop(wire.read_to_end()));
        assert_eq!((lost(&endpoint), terminated(&endpoint, "")), (4.0, 0.0), "{auth:?}: {}", endpoint.log());
        let is_told = |line: &&str| line.contains("session ends") || line.contains("session is cut");
        eventually(PATIENCE, "each is logged", || endpoint.log().lines().filter(is_told).count() == 4);
        victim.start().unwrap();
    }
}

#[test]
fn a_session_for_which_there_is_no_other_server_is_counted() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .key("health.fallback.mode", "\"none\"")
        .key("timeouts.acquire", "\"500ms\"")
        .start();
    let (mut wire, server) = session(&cluster, &endpoint);
    server.kill();
    last_words(&wire.query("SELECT 1"), "57P03");
    let label = "cause=\"not_replaced\"";
    assert_eq!(counted(&endpoint, "trunkline_sessions_lost_total", label), 1.0, "{}", endpoint.log());
}

#[test]
fn a_session_that_no_other_server_takes_is_counted() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE ROLE guest LOGIN PASSWORD 'guest'").unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let mut wire = Login::of("guest", "guest").connect(endpoint.reads());
    let name = wire.value("SHOW cluster_name");
    let server = cluster.servers().find(|server| server.name() == name).unwrap();
    cluster.primary.psql("ALTER ROLE guest NOLOGIN").unwrap();
    cluster.wait_caught_up().unwrap();
    server.kill();
    let error = last_words(&wire.query("SELECT 1"), "08006");
    assert!(error.text.contains("authentication failed"), "what was tried: {}", error.text);
    let label = "cause=\"not_replaced\"";
    assert_eq!(counted(&endpoint, "trunkline_sessions_lost_total", label), 1.0, "{}", endpoint.log());
    eventually(PATIENCE, "it is logged", || endpoint.log().contains("no other server takes the session"));
}
