//! Transaction mode under load: every row is for the client that asked, and no limit is exceeded.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_tests::{
    Endpoint, PoolRole, SetWhenDropped, TokenLoad, Wire, eventually, own_cluster, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn forty_clients_get_their_own_rows_while_server_connections_are_killed() {
    const LOAD: Duration = Duration::from_secs(10);
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_tokens");
    let builder = Endpoint::over(&cluster).pooling(2).threads(2);
    let endpoint = builder.key("session.on_terminate", "\"move\"").start();
    let outcome = TokenLoad::under_kills(&cluster, &endpoint, role, 40, LOAD);
    assert!(outcome.reading.is_empty(), "{:#?}", outcome.reading);
    // Two connections to the primary may each have had a request in flight.
    assert!(outcome.writing.len() <= 2 * outcome.kills, "{outcome:#?}");
}

#[test]
fn no_more_server_connections_than_pool_size_also_after_a_reload() {
    let role = PoolRole::create(shared_cluster(), "of_sizes");
    let primary = &shared_cluster().primary;
    for threads in [1, 2] {
        let mut endpoint = Endpoint::over(shared_cluster()).pooling(3).threads(threads).start();
        let port = endpoint.writes();
        let seen = TokenLoad::default();
        std::thread::scope(|scope| {
            let _over = SetWhenDropped(seen.is_over());
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
        assert_eq!(seen.into_errors(), Vec::<String>::new());
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
