//! Sizes, limits and times of pools against real servers: who waits, for how long, and what is opened, checked and closed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{Server, StopMode, send_signal};
use trunkline_tests::{
    Endpoint, EndpointBuilder, PoolRole, SetWhenDropped, Wire, eventually, own_cluster, shared_cluster,
    within,
};

#[path = "pooling_limits/room.rs"]
mod room;
#[path = "pooling_limits/times.rs"]
mod times;

const PATIENCE: Duration = Duration::from_secs(30);
/// What a client must not be kept waiting for where a server answers at once. Clients were, for 13 s and more.
const SOON: Duration = Duration::from_secs(8);
const WHO: &str = "SELECT pg_backend_pid()";

fn primary() -> &'static Server {
    &shared_cluster().primary
}

fn role(name: &'static str) -> PoolRole {
    PoolRole::create(shared_cluster(), name)
}

fn pool(size: u16) -> EndpointBuilder {
    Endpoint::over(shared_cluster()).pooling(size)
}

#[track_caller]
fn fine(wire: &mut Wire, sql: &str) {
    assert_eq!(wire.query(sql).error, None, "{sql}");
}

fn process_of(wire: &mut Wire) -> i32 {
    wire.value(WHO).parse().unwrap()
}

/// Has a client ask what it must wait for.
#[track_caller]
fn begin_to_wait(endpoint: &Endpoint, role: PoolRole, wire: &mut Wire) {
    wire.send_query("SELECT 'served'");
    eventually(PATIENCE, "a client waits", || endpoint.pooled("cl_waiting", role) == 1);
}

#[track_caller]
fn is_served(wire: &mut Wire) {
    assert_eq!(wire.read_answer().value(), "served");
}

fn closed_for(endpoint: &Endpoint, reason: &str) -> u64 {
    endpoint.counted(&format!("trunkline_pool_closed_total{{reason=\"{reason}\"}}"))
}

fn reused(endpoint: &Endpoint) -> u64 {
    endpoint.counted("trunkline_pool_checkouts_total{result=\"reused\"}")
}

fn reload(endpoint: &mut Endpoint, key: &str, value: &str) {
    endpoint.rewrite(key, value);
    endpoint.signal(Signal::SIGHUP);
}

#[test]
fn min_pool_size_connections_are_opened_ahead_and_serve_the_next_clients() {
    let role = role("of_filling");
    for threads in [1, 2] {
        let endpoint = pool(5).threads(threads).key("pool.min_pool_size", "3").start();
        let mut clients = [(), (), (), ()].map(|()| role.connect(endpoint.writes()));
        fine(&mut clients[0], "SELECT 1");
        // Clients that come at once may each have logged in on their own.
        let filled = || {
            let processes = role.processes(primary()).len();
            processes >= 3 && endpoint.pooled("sv_idle", role) == processes as u64
        };
        eventually(PATIENCE, "the pool is filled", filled);
        let opened = role.processes(primary());
        for client in &mut clients[1..] {
            fine(client, "BEGIN");
            assert!(opened.contains(&process_of(client)), "they serve clients as given-back ones do");
        }
        clients.iter_mut().for_each(|client| fine(client, "COMMIT"));
        for process in &opened {
            primary().psql(&format!("SELECT pg_terminate_backend({process})")).unwrap();
        }
        eventually(PATIENCE, "others take their places", || {
            filled() && !role.processes(primary()).iter().any(|process| opened.contains(process))
        });
        drop(clients);
    }
}

#[test]
fn a_reload_has_a_pool_filled_that_has_clients() {
    let role = role("of_filling_later");
    let mut endpoint = pool(4).start();
    let mut client = role.connect(endpoint.writes());
    fine(&mut client, "SELECT 1");
    assert_eq!(role.processes(primary()).len(), 1);
    reload(&mut endpoint, "pool.min_pool_size", "3");
    eventually(PATIENCE, "the pool is filled", || role.processes(primary()).len() == 3);
    fine(&mut client, "SELECT 1");
}

#[test]
fn a_password_that_is_refused_ahead_of_clients_is_told_once_and_used_again_once_it_is_right() {
    const REFUSED: &str = "password authentication failed for user \"of_refused_fills\"";
    let role = role("of_refused_fills");
    let count = |log: &str, words: &str| log.lines().filter(|line| line.contains(words)).count();
    let endpoint = pool(3).key("pool.min_pool_size", "2").key("auth.cache_ttl", "\"1s\"").start();
    let told = || {
        let log = endpoint.log();
        let of_fills = |words| count(&log, &format!("{words} ahead of clients"));
        [of_fills("could not open a server connection"), of_fills("server connections are opened")]
    };
    let is_filled = || role.processes(primary()).len() >= 2;
    let mut client = role.connect(endpoint.writes());
    fine(&mut client, "SELECT 1");
    eventually(PATIENCE, "the pool is filled", is_filled);
    let hash =
        primary().psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'of_refused_fills'").unwrap();
    primary().psql("ALTER ROLE of_refused_fills PASSWORD 'another'").unwrap();
    for process in role.processes(primary()) {
        primary().psql(&format!("SELECT pg_terminate_backend({process})")).unwrap();
    }
    // The second time is 15 s later.
    eventually(2 * PATIENCE, "it is tried twice", || count(&primary().log(), REFUSED) >= 2);
    eventually(PATIENCE, "it is told", || told()[0] > 0);
    assert_eq!(told(), [1, 0]);
    primary().psql(&format!("ALTER ROLE of_refused_fills PASSWORD '{hash}'")).unwrap();
    let let_in = || role.login().try_connect(endpoint.writes()).ok();
    let (mut again, _) = within(PATIENCE, "a client is let in", let_in);
    eventually(2 * PATIENCE, "the pool is filled again", || is_filled() && told() == [1, 1]);
    for client in [&mut client, &mut again] {
        fine(client, "SELECT 1");
    }
}

/// A key that has the second client wait, and its value by which it does not.
const RELAXED: [(&str, &str, &str); 4] = [
    ("pool.pool_size", "1", "2"),
    ("pool.max_db_connections", "1", "0"),
    ("pool.max_user_connections", "1", "2"),
    ("pool.reserve_pool_size", "0", "1"),
];

#[test]
fn clients_wait_at_each_limit_and_a_reload_that_raises_it_serves_them() {
    let role = role("of_limits");
    for (key, strict, relaxed) in RELAXED {
        let size = if key == "pool.reserve_pool_size" { 1 } else { 5 };
        let builder = pool(size).key("pool.reserve_pool_timeout", "\"100ms\"").key(key, strict);
        let mut endpoint = builder.start();
        let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
        fine(&mut first, "BEGIN");
        begin_to_wait(&endpoint, role, &mut second);
        fine(&mut first, "COMMIT");
        is_served(&mut second);
        assert_eq!(role.processes(primary()).len(), 1, "{key}");
        fine(&mut first, "BEGIN");
        begin_to_wait(&endpoint, role, &mut second);
        reload(&mut endpoint, key, relaxed);
        is_served(&mut second);
        assert_eq!(role.processes(primary()).len(), 2, "{key}");
        fine(&mut first, "COMMIT");
        reload(&mut endpoint, key, strict);
        eventually(PATIENCE, &format!("{key} is kept again"), || role.processes(primary()).len() == 1);
        fine(&mut second, "SELECT 1");
    }
}

#[test]
fn the_reserve_is_for_who_has_waited_for_so_long() {
    const WAIT: Duration = Duration::from_secs(2);
    let role = role("of_reserve");
    let builder = pool(1).key("pool.reserve_pool_size", "1").key("pool.reserve_pool_timeout", "\"2s\"");
    let endpoint = builder.start();
    let [mut first, mut second, mut third] = [(), (), ()].map(|()| role.connect(endpoint.writes()));
    fine(&mut first, "BEGIN");
    let began = Instant::now();
    fine(&mut second, "BEGIN");
    assert!(began.elapsed() >= WAIT, "not before");
    begin_to_wait(&endpoint, role, &mut third);
    assert_eq!(role.processes(primary()).len(), 2, "and not more than that");
    fine(&mut second, "COMMIT");
    is_served(&mut third);
}

#[test]
fn users_of_one_database_share_its_connections() {
    let roles = [role("of_database_a"), role("of_database_b")];
    let endpoint = pool(5).key("pool.max_db_connections", "2").start();
    let processes = || roles.map(|role| role.processes(primary()).len());
    let [mut first, mut second] = [(), ()].map(|()| roles[0].connect(endpoint.writes()));
    fine(&mut first, "BEGIN");
    fine(&mut second, "BEGIN");
    fine(&mut second, "COMMIT");
    // An idle connection of another user makes room.
    let mut other = roles[1].connect(endpoint.writes());
    fine(&mut other, "BEGIN");
    eventually(PATIENCE, "it has made room", || processes() == [1, 1]);
    begin_to_wait(&endpoint, roles[0], &mut second);
    fine(&mut other, "COMMIT");
    is_served(&mut second);
    assert_eq!(closed_for(&endpoint, "evicted"), 2);
    eventually(PATIENCE, "it has made room again", || processes() == [2, 0]);
}

#[test]
fn a_connection_that_hung_or_died_while_it_was_idle_costs_no_client_its_query() {
    let role = role("of_checks");
    for delay in ["\"0\"", "\"1h\""] {
        let builder = pool(2).key("pool.server_check_delay", delay).key("timeouts.connect", "\"5s\"");
        let endpoint = builder.start();
        let mut client = role.connect(endpoint.writes());
        let process = process_of(&mut client);
        primary().psql(&format!("SELECT pg_terminate_backend({process})")).unwrap();
        eventually(PATIENCE, "it is gone", || !role.processes(primary()).contains(&process));
        assert_ne!(process_of(&mut client), process);
    }
    let builder = pool(2).key("pool.server_check_delay", "\"0\"").key("timeouts.connect", "\"5s\"");
    let endpoint = builder.start();
    let mut client = role.connect(endpoint.writes());
    let process = process_of(&mut client);
    eventually(PATIENCE, "it is idle", || endpoint.pooled("sv_used", role) == 1);
    send_signal(process, Signal::SIGSTOP);
    let next = process_of(&mut client);
    send_signal(process, Signal::SIGCONT);
    assert_ne!(next, process);
    assert_eq!(closed_for(&endpoint, "check_failed"), 1);
}

#[test]
fn reloads_close_connections_that_are_idle_for_too_long_or_too_old() {
    let role = role("of_ages");
    let mut endpoint = pool(2).start();
    let mut client = role.connect(endpoint.writes());
    let first = process_of(&mut client);
    assert_eq!(process_of(&mut client), first);
    reload(&mut endpoint, "pool.server_lifetime", "\"1s\"");
    let aged = || closed_for(&endpoint, "lifetime") > 0;
    eventually(PATIENCE, "it is too old", || process_of(&mut client) != first && aged());
    reload(&mut endpoint, "pool.server_lifetime", "\"1h\"");
    reload(&mut endpoint, "pool.server_idle_timeout", "\"500ms\"");
    eventually(PATIENCE, "it was idle for too long", || closed_for(&endpoint, "idle_timeout") > 0);
    eventually(PATIENCE, "none is left", || role.processes(primary()).is_empty());
    fine(&mut client, "SELECT 1");
}

#[test]
fn who_waits_too_long_is_told_who_else_waits_and_goes_on() {
    let role = role("of_patience");
    let mut endpoint = pool(1).start();
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    fine(&mut first, "BEGIN");
    begin_to_wait(&endpoint, role, &mut second);
    // It holds for who waits already.
    reload(&mut endpoint, "pool.query_wait_timeout", "\"2s\"");
    let error = second.read_answer().error.unwrap();
    assert_eq!((&*error.severity, &*error.code), ("ERROR", "53300"), "{error:?}");
    for part in ["2 s (query_wait_timeout): 1 client waits for 1 connection ", "pool_size"] {
        assert!(error.text.contains(part), "{part:?} is not in {}", error.text);
    }
    fine(&mut first, "COMMIT");
    assert_eq!(second.value("SELECT 'goes on'"), "goes on");
}

#[test]
fn a_long_wait_is_told_the_client_and_the_log_with_its_reason() {
    let cluster = own_cluster(0);
    let role = PoolRole::create(&cluster, "of_notices");
    let endpoint = Endpoint::over(&cluster).pooling(1).start();
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    fine(&mut first, "BEGIN");
    second.send_query("SELECT 'served'");
    let told = |wire: &mut Wire| {
        let notice = wire.read_message().unwrap();
        assert_eq!(notice.tag, b'N');
        String::from_utf8_lossy(&notice.body).into_owned()
    };
    let notice = told(&mut second);
    assert!(
        notice.contains("waits for a free server connection") && notice.contains("pool_size"),
        "{notice}"
    );
    fine(&mut first, "COMMIT");
    is_served(&mut second);
    let lines =
        endpoint.log().lines().filter(|line| line.contains("clients wait for server connections")).count();
    assert_eq!(lines, 1, "{}", endpoint.log());
    cluster.primary.stop(StopMode::Fast).unwrap();
    second.send_query("SELECT 'served'");
    let notice = told(&mut second);
    assert!(notice.contains("waits for a server that can") && !notice.contains("pool_size"), "{notice}");
    cluster.primary.start().unwrap();
    is_served(&mut second);
}

#[test]
fn a_query_whose_client_has_gone_is_canceled_and_its_connection_closed() {
    let role = role("of_gone");
    let table = "of_gone_table";
    primary().psql(&format!("CREATE TABLE {table} (i int); ALTER TABLE {table} OWNER TO of_gone")).unwrap();
    type Vanish = fn(Wire);
    let ways: [(&str, Vanish); 3] = [
        ("closed", drop),
        ("reset", |wire| {
            socket2::SockRef::from(wire.stream.socket()).set_linger(Some(Duration::ZERO)).unwrap();
        }),
        ("closed after its Terminate", |mut wire| wire.send(&[b'X', 0, 0, 0, 4])),
    ];
    for threads in [1, 2] {
        let endpoint = pool(1).threads(threads).start();
        let mut next = role.connect(endpoint.writes());
        for (count, (how, vanish)) in ways.into_iter().enumerate() {
            for begin in ["", "BEGIN; LOCK TABLE of_gone_table; "] {
                let mut client = role.connect(endpoint.writes());
                client.send_query(&format!("{begin}SELECT pg_sleep(600)"));
                eventually(PATIENCE, "it runs", || endpoint.pooled("sv_active", role) == 1);
                begin_to_wait(&endpoint, role, &mut next);
                vanish(client);
                is_served(&mut next);
                // Its place is another's only now.
                assert_eq!(role.processes(primary()).len(), 1, "what it left behind has ended: {how}");
                fine(&mut next, "BEGIN; LOCK TABLE of_gone_table NOWAIT; COMMIT");
            }
            assert_eq!(closed_for(&endpoint, "client_gone"), 2 * (count as u64 + 1), "{how}");
        }
    }
}

#[test]
fn a_client_that_only_closed_its_sending_side_gets_its_answer() {
    let role = role("of_halves");
    let endpoint = pool(1).start();
    let mut client = role.connect(endpoint.writes());
    client.send_query("SELECT 'whole' FROM pg_sleep(3)");
    client.stream.shutdown(Shutdown::Write).unwrap();
    let answer = client.read_answer();
    assert_eq!((answer.error.as_ref(), answer.value()), (None, "whole"));
    assert_eq!(closed_for(&endpoint, "client_gone"), 0);
}

#[test]
fn what_a_server_refuses_a_new_client_is_told_soon() {
    let role = role("of_refusals");
    let endpoint = pool(5).key("auth.cache_ttl", "\"1s\"").start();
    let alter = |what: &str| primary().psql(&format!("ALTER ROLE of_refusals {what}")).unwrap();
    let refused = |code: &str| {
        // Until then, clients are let in.
        let (error, _) = within(PATIENCE, code, || role.login().try_connect(endpoint.writes()).err());
        assert_eq!(error.code, code, "{error:?}");
        let took = [(); 3].map(|()| {
            let began = Instant::now();
            let error = role.login().try_connect(endpoint.writes()).unwrap_err();
            assert_eq!(error.code, code, "{error:?}");
            began.elapsed()
        });
        assert!(took.iter().any(|took| *took < SOON), "{code} took {took:?}");
    };
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    eventually(PATIENCE, "connections are idle", || endpoint.pooled("sv_active", role) == 0);
    alter("CONNECTION LIMIT 1");
    fine(&mut first, "BEGIN");
    let open = role.processes(primary()).len();
    let mut idle: Vec<Wire> = (1..open).map(|_| role.connect(endpoint.writes())).collect();
    idle.iter_mut().for_each(|client| fine(client, "BEGIN"));
    refused("53300");
    // One that is in waits as at a full pool.
    second.send_query("SELECT 'served'");
    fine(&mut first, "COMMIT");
    is_served(&mut second);
    idle.iter_mut().for_each(|client| fine(client, "COMMIT"));
    alter("CONNECTION LIMIT -1 NOLOGIN");
    // As to a wrong password: the proxy does not tell strangers which roles there are.
    refused("28P01");
    assert_eq!(second.value("SELECT 'in'"), "in");
}

#[test]
fn a_client_that_never_rests_keeps_its_connection_until_another_waits_or_it_rests() {
    let role = role("of_no_rest");
    for threads in [1, 2] {
        let endpoint = pool(1).threads(threads).start();
        let mut other = role.connect(endpoint.writes());
        fine(&mut other, "SELECT 1");
        let (asked, is_over) = (&AtomicU64::new(0), &AtomicBool::new(false));
        std::thread::scope(|scope| {
            let over = SetWhenDropped(is_over);
            let mut busy = role.connect(endpoint.writes());
            let asks = scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    fine(&mut busy, "SELECT 1");
                    asked.fetch_add(1, Relaxed);
                }
                busy
            });
            let keeps = || {
                let (from, reused_before) = (asked.load(Relaxed), reused(&endpoint));
                eventually(PATIENCE, "it asks", || asked.load(Relaxed) >= from + 200);
                let again = reused(&endpoint) - reused_before;
                println!("{threads} threads: {again} connections given out for 200 requests or more");
                again < 100
            };
            eventually(3 * PATIENCE, "it keeps its connection", keeps);
            let all = Instant::now();
            for _ in 0..100 {
                let begun = Instant::now();
                fine(&mut other, "SELECT 1");
                assert!(begun.elapsed() < PATIENCE, "{threads} threads: the other is served as well");
            }
            // Who waits until a server is chosen anew, each second, takes longer.
            assert!(all.elapsed() < 2 * PATIENCE, "{threads} threads: it is served at once");
            eventually(3 * PATIENCE, "it keeps its connection again", keeps);
            drop(over);
            let _busy = asks.join().unwrap();
            eventually(PATIENCE, "it has given it back", || endpoint.pooled("sv_active", role) == 0);
        });
    }
}
