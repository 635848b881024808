//! Transaction mode under faults: servers that die, hang, leave or move, and clients that vanish or cancel.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, Server, StopMode};
use trunkline_codec::write;
use trunkline_tests::{
    ClientLoad, Endpoint, EndpointBuilder, LoadKind, PoolRole, SetWhenDropped, Wire, eventually, own_cluster,
    pgbench, shared_cluster, traffic,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// What takes a second on a machine that is not busy.
const SOON: Duration = Duration::from_secs(10);

fn fine(wire: &mut Wire, sql: &str) {
    let answer = wire.query(sql);
    assert_eq!(answer.error, None, "{sql}");
}

fn loaded_cluster(replicas: usize) -> Cluster {
    let cluster = own_cluster(replicas);
    cluster.primary.psql(ClientLoad::TABLES).unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

fn pooling(cluster: &Cluster, size: u16) -> EndpointBuilder {
    Endpoint::over(cluster).pooling(size).threads(2)
}

/// Waits until so many requests more have ended.
fn go_on(load: &ClientLoad, requests: u64) {
    let goal = load.requests() + requests;
    eventually(PATIENCE, "the clients go on", || load.requests() >= goal);
}

#[test]
fn replicas_that_die_hang_leave_or_lag_cost_readers_nothing() {
    let cluster = loaded_cluster(2);
    let endpoint = pooling(&cluster, 2).with_admin().key("timeouts.connect", "\"1s\"").start();
    let [first, second] = [&cluster.replicas[0], &cluster.replicas[1]];
    let load = ClientLoad::start((endpoint.reads(), 16), (endpoint.writes(), 0..0));
    let (is_over, processed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let over = SetWhenDropped(&is_over);
        let prepared = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let script = "SELECT i * 2 FROM numbers WHERE i = 500;";
                let run =
                    pgbench(endpoint.reads(), &["-M", "prepared", "-c", "8", "-T", "1", "-R", "200"], script);
                assert!(run.is_success && !run.output.contains("aborted"), "{}", run.output);
                processed.fetch_add(run.processed.unwrap(), Ordering::Relaxed);
            }
        });
        let all_go_on = || {
            let before = processed.load(Ordering::Relaxed);
            go_on(&load, 100);
            eventually(PATIENCE, "pgbench goes on", || processed.load(Ordering::Relaxed) > before);
        };
        let healthy = |name: &str, is_healthy| {
            endpoint.await_health(name, is_healthy, PATIENCE);
            all_go_on();
        };
        all_go_on();
        first.kill();
        healthy(first.name(), false);
        first.start().unwrap();
        healthy(first.name(), true);
        second.pause();
        healthy(second.name(), false);
        second.resume();
        healthy(second.name(), true);
        assert_eq!(endpoint.admin(&["drain", first.name()]).0, Some(0));
        eventually(PATIENCE, "no connection stays", || endpoint.sessions_on(first.name()) == 0);
        all_go_on();
        assert_eq!(endpoint.admin(&["ready", first.name()]).0, Some(0));
        healthy(first.name(), true);
        let traffic = traffic(&cluster.primary);
        second.pause_replay().unwrap();
        healthy(second.name(), false);
        second.resume_replay().unwrap();
        healthy(second.name(), true);
        drop(traffic);
        drop(over);
        prepared.join().unwrap();
    });
    let (share, _) = load.end();
    assert!(share.errors.is_empty(), "{:#?}", share.errors);
    assert!(share.reads > 500, "{} reads", share.reads);
}

#[test]
fn a_drained_server_keeps_no_idle_connection_and_has_its_share_once_it_is_back() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_draining");
    let endpoint = pooling(cluster, 2).with_admin().start();
    let [first, second] = [&cluster.replicas[0], &cluster.replicas[1]];
    let mut clients: Vec<Wire> = (0..8).map(|_| role.connect(endpoint.reads())).collect();
    // How many of the clients were served there.
    let mut served_by = |server: &Server| {
        let names = clients.iter_mut().map(|client| client.value("SHOW cluster_name"));
        names.filter(|name| name == server.name()).count()
    };
    eventually(PATIENCE, "both serve", || served_by(first) >= 2 && served_by(second) >= 2);
    assert!(!role.processes(first).is_empty());
    assert_eq!(endpoint.admin(&["drain", first.name()]).0, Some(0));
    eventually(PATIENCE, "no connection stays", || role.processes(first).is_empty());
    for _ in 0..10 {
        assert_eq!(served_by(first), 0);
    }
    assert_eq!(endpoint.admin(&["ready", first.name()]).0, Some(0));
    // Each session has a server chosen for it once a second.
    eventually(SOON, "it has its share again", || served_by(first) >= 2 && served_by(second) >= 2);
}

#[test]
fn writers_wait_for_the_next_primary_and_only_what_was_in_flight_fails() {
    const SIZE: u16 = 3;
    let cluster = loaded_cluster(1);
    let endpoint = pooling(&cluster, SIZE).key("health.failover_grace", "\"500ms\"").start();
    let mut inside = Wire::login(endpoint.writes());
    // In one text with BEGIN, it would be undone.
    fine(&mut inside, "SET application_name = 'inside'");
    fine(&mut inside, "BEGIN; INSERT INTO written VALUES (99, 0)");
    let load = ClientLoad::start((endpoint.reads(), 4), (endpoint.writes(), 0..12));
    go_on(&load, 200);
    cluster.primary.stop(StopMode::Fast).unwrap();
    cluster.replicas[0].promote().unwrap();
    go_on(&load, 300);
    let lost = inside.query("SELECT 1").error.unwrap();
    assert!(["08006", "57P01"].contains(&lost.code.as_str()), "{lost:?}");
    fine(&mut inside, "ROLLBACK");
    assert_eq!(inside.value("SHOW application_name"), "inside");
    let (share, acknowledged) = load.end();
    assert_eq!(share.errors_of(LoadKind::Read).count(), 0, "{:#?}", share.errors);
    assert_eq!(share.errors_of(LoadKind::Connect).count(), 0, "{:#?}", share.errors);
    // One connection is the transaction's.
    let failed = share.errors_of(LoadKind::Write).count();
    assert!(failed < usize::from(SIZE), "{:#?}", share.errors);
    let kept = cluster.replicas[0].psql("SELECT writer, number FROM written ORDER BY 1, 2").unwrap();
    let kept: Vec<&str> = kept.lines().collect();
    for (writer, number) in &acknowledged {
        assert!(kept.contains(&format!("{writer}|{number}").as_str()), "{writer} {number} is lost");
    }
    assert!(kept.len() <= acknowledged.len() + failed, "{} {} {failed}", kept.len(), acknowledged.len());
}

/// A standby that was killed lets clients in before it has replayed their roles, for a moment.
#[test]
fn standbys_that_refuse_a_role_for_a_while_cost_its_clients_nothing() {
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_refusals");
    let endpoint = pooling(&cluster, 2).start();
    let mut clients: Vec<Wire> = (0..4).map(|_| role.connect(endpoint.reads())).collect();
    let refusing: [&[usize]; 3] = [&[0], &[1], &[0, 1]];
    for replicas in refusing {
        let rules = replicas.iter().map(|at| refuse(&cluster.replicas[*at], role)).collect::<Vec<_>>();
        let refusals = || endpoint.log().matches("the server refused the login (28000)").count();
        let before = refusals();
        eventually(PATIENCE, "a client is refused", || {
            clients.iter_mut().for_each(|client| fine(client, "SELECT 1"));
            refusals() >= before + replicas.len()
        });
        for (at, rules) in replicas.iter().zip(rules) {
            set_rules(&cluster.replicas[*at], &rules);
        }
    }
}

/// Lets `role` in no more, and ends its connections. What the rules were.
fn refuse(server: &Server, role: PoolRole) -> String {
    let rules = std::fs::read_to_string(server.data_dir().join("pg_hba.conf")).unwrap();
    set_rules(server, &format!("host all {} all reject\n{rules}", role.name));
    let ended = format!(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{}'",
        role.name
    );
    server.psql(&ended).unwrap();
    rules
}

fn set_rules(server: &Server, rules: &str) {
    std::fs::write(server.data_dir().join("pg_hba.conf"), rules).unwrap();
    let loaded = "SELECT pg_conf_load_time()";
    let before = server.psql(loaded).unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();
    eventually(PATIENCE, "the rules are read", || server.psql(loaded).unwrap() != before);
}

/// A table to lock, and a role that may.
fn lockable(name: &'static str) -> PoolRole {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, name);
    let sql = format!("CREATE TABLE {name} (i int); ALTER TABLE {name} OWNER TO {name}");
    cluster.primary.psql(&sql).unwrap();
    role
}

/// How a client is when it vanishes, with `T` for its table.
type Vanish = fn(&mut Wire, &str);

const VANISHING: [(&str, Vanish); 9] = [
    ("inside a transaction", |wire, table| {
        fine(wire, &format!("BEGIN; INSERT INTO {table} VALUES (1); LOCK TABLE {table}"));
    }),
    ("inside a failed transaction", |wire, table| {
        fine(wire, &format!("BEGIN; LOCK TABLE {table}"));
        assert!(wire.query("SELECT 1 / 0").error.is_some());
    }),
    ("after Terminate inside a transaction", |wire, table| {
        fine(wire, &format!("BEGIN; LOCK TABLE {table}"));
        wire.send_with(write::terminate);
    }),
    ("during a query", |wire, _| wire.send_query("SELECT pg_sleep(0.5)")),
    ("during a query of a transaction", |wire, table| {
        fine(wire, &format!("BEGIN; LOCK TABLE {table}"));
        wire.send_query("SELECT pg_sleep(0.5)");
    }),
    ("inside an answer", |wire, _| {
        wire.send_query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)");
        assert_eq!(wire.read_message().unwrap().tag, b'T');
    }),
    ("during COPY", |wire, table| {
        wire.send_query(&format!("COPY {table} FROM STDIN"));
        assert_eq!(wire.read_message().unwrap().tag, b'G');
        wire.send_with(|out| write::copy_data(out, b"1\n2\n").unwrap());
    }),
    ("in a pipeline", |wire, table| {
        wire.send_with(|out| {
            for sql in [format!("LOCK TABLE {table}"), format!("INSERT INTO {table} VALUES (1)")] {
                write::parse(out, b"", sql.as_bytes(), &[]).unwrap();
                write::bind(out, b"", b"", std::iter::empty()).unwrap();
                write::execute(out, b"", 0).unwrap();
            }
            write::flush(out);
        });
        // A LOCK TABLE outside of a transaction block is refused in SQL, but a pipeline is none.
        assert_eq!(wire.read_message().unwrap().tag, b'1');
    }),
    ("inside a message", |wire, table| {
        fine(wire, &format!("BEGIN; LOCK TABLE {table}"));
        wire.send(b"Q\0\0\x01\0SELECT");
    }),
];

#[test]
fn nothing_stays_of_a_client_that_vanishes() {
    let role = lockable("of_vanishing");
    for threads in [1, 2] {
        let endpoint = Endpoint::over(shared_cluster()).pooling(1).threads(threads).start();
        let mut next = role.connect(endpoint.writes());
        for (when, vanish) in VANISHING {
            let mut wire = role.connect(endpoint.writes());
            vanish(&mut wire, role.name);
            drop(wire);
            let sql = format!("BEGIN; LOCK TABLE {0} NOWAIT; SELECT count(*) FROM {0}; COMMIT", role.name);
            let answer = next.query(&sql);
            assert_eq!(answer.error, None, "{when}");
            assert_eq!(answer.value(), "0", "{when}");
        }
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                       WHERE c.relname = 'of_vanishing'";
        assert_eq!(shared_cluster().primary.psql(waiting).unwrap(), "0");
        assert!(role.processes(&shared_cluster().primary).len() <= 1, "the limit holds");
    }
}

/// Whatever comes before its request on the connection: nothing, other settings, or the end of another's transaction.
#[test]
fn what_a_client_asks_before_it_closes_its_half_is_answered() {
    let role = PoolRole::create(shared_cluster(), "of_halves");
    let endpoint = Endpoint::over(shared_cluster()).pooling(1).start();
    let mut other = role.connect(endpoint.writes());
    for (before, after) in
        [(None, None), (Some("SET work_mem = '3MB'"), None), (Some("BEGIN"), Some("COMMIT"))]
    {
        let mut wire = role.connect(endpoint.writes());
        fine(&mut wire, "SET work_mem = '5MB'");
        before.into_iter().for_each(|sql| fine(&mut other, sql));
        wire.send_query("SELECT current_setting('work_mem')");
        wire.stream.shutdown(Shutdown::Write).unwrap();
        after.into_iter().for_each(|sql| fine(&mut other, sql));
        let answer = wire.read_answer();
        assert_eq!((answer.error.as_ref(), answer.value()), (None, "5MB"), "{before:?}");
    }
}

#[test]
fn a_cancel_hits_only_its_own_clients_queries() {
    const CANCELS: Duration = Duration::from_secs(3);
    let role = PoolRole::create(shared_cluster(), "of_cancels");
    for (size, threads) in [(1, 1), (2, 2)] {
        let endpoint = Endpoint::over(shared_cluster()).pooling(size).threads(threads).start();
        let port = endpoint.writes();
        let is_over = AtomicBool::new(false);
        let [canceled, whole] = [AtomicU32::new(0), AtomicU32::new(0)];
        std::thread::scope(|scope| {
            let _over = SetWhenDropped(&is_over);
            let goes_on = || !is_over.load(Ordering::Relaxed);
            for _ in 0..2 {
                let mut target = role.connect(port);
                let packet = target.cancel_packet();
                scope.spawn(move || {
                    while goes_on() {
                        let mut cancel = Wire::connect(port);
                        cancel.send(&packet);
                        assert_eq!(cancel.read_to_end().as_deref(), Some(&[][..]));
                    }
                });
                let canceled = &canceled;
                scope.spawn(move || {
                    while goes_on() {
                        if let Some(error) = target.query("SELECT pg_sleep(0.02)").error {
                            assert_eq!(error.code, "57014", "{error:?}");
                            canceled.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for _ in 0..4 {
                let mut other = role.connect(port);
                let whole = &whole;
                scope.spawn(move || {
                    while goes_on() {
                        let answer = other.query("SELECT 'whole' FROM pg_sleep(0.003)");
                        assert_eq!(answer.error, None, "it was not canceled by its own client");
                        assert_eq!(answer.value(), "whole");
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let began = Instant::now();
            eventually(PATIENCE, "many were canceled, and many were not", || {
                let counts = [&canceled, &whole].map(|count| count.load(Ordering::Relaxed));
                began.elapsed() > CANCELS && counts[0] > 10 && counts[1] > 50
            });
        });
    }
}
