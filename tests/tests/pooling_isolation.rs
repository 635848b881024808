//! Transaction mode under load: every row is for the client that asked, and no limit is exceeded.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_tests::{
    Endpoint, PoolRole, SetWhenDropped, TokenLoad, Wire, eventually, own_cluster, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn forty_clients_get_their_own_rows_while_server_connections_are_killed() {
    const LOAD: Duration = Duration::from_secs(10);
    const POOL_SIZE: u16 = 2;
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_tokens");
    let endpoint = TokenLoad::endpoint(&cluster, POOL_SIZE);
    let outcome = TokenLoad::under_kills(&cluster, &endpoint, role, 40, LOAD);
    assert!(outcome.reading.is_empty(), "{:#?}", outcome.reading);
    // Each connection to the primary that was ended may have had a request in flight, and so may all that ended with it.
    assert!(outcome.writing.len() <= outcome.ended[0] + usize::from(POOL_SIZE), "{outcome:#?}");
    assert!(outcome.ended.iter().all(|ended| *ended > 0) && outcome.crashes > 0, "{outcome:#?}");
}

#[test]
fn clients_share_a_statement_of_one_content_and_each_gets_its_own_rows() {
    const TURNS: usize = 5;
    let role = PoolRole::create(shared_cluster(), "of_contents");
    // What a function sees is not what the proxy shows of a session: the server connection's own statements.
    let there = "CREATE FUNCTION public.contents_there() RETURNS text LANGUAGE sql AS $$ SELECT count(*) || ' run ' || \
                 sum(generic_plans + custom_plans) FROM pg_prepared_statements WHERE name LIKE 'tl\\_%' AND statement LIKE '%of_contents%' $$";
    shared_cluster().primary.psql(there).unwrap();
    let endpoint = Endpoint::over(shared_cluster()).pooling(1).start();
    let mut clients: Vec<Wire> = (0..6).map(|_| role.connect(endpoint.writes())).collect();
    let sql = "SELECT $1::text, $2::text FROM generate_series(1, 3) of_contents";
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.prepare(&format!("own name {number}"), sql).error, None);
    }
    for turn in 0..TURNS {
        for (number, client) in clients.iter_mut().enumerate() {
            let own = [format!("token {number}"), turn.to_string()];
            let answer = client.execute(&format!("own name {number}"), &own.each_ref().map(String::as_str));
            assert_eq!(answer.error, None);
            assert_eq!(answer.rows, vec![own.map(Some).to_vec(); 3], "another's row");
        }
    }
    let there = clients[0].value("SELECT public.contents_there()");
    let (statements, runs) = there.split_once(" run ").unwrap();
    assert_eq!(statements, "1", "one for all");
    // Without sharing, the last client's would be all.
    assert!(runs.parse::<usize>().unwrap() > TURNS * (clients.len() - 1), "{there}");
    assert_eq!(role.processes(&shared_cluster().primary).len(), 1);
}

/// What the function sets `work_mem` to.
const SET: &str = "7777kB";

/// How a client of the pool calls the function that is replaced.
#[derive(Debug, Clone, Copy)]
enum Calling {
    Query,
    Unnamed,
    Named,
    Executed,
}

/// A client that calls it in one way until it is told to end, and that logs in anew now and then. `has_it` counts how often it
/// has found what the function has set.
fn call((role, port): (PoolRole, u16), how: Calling, is_over: &AtomicBool, [calls, has_it]: [&AtomicU64; 2]) {
    while !is_over.load(Ordering::Relaxed) {
        let mut wire = role.connect(port);
        assert_eq!(wire.prepare("named", "SELECT public.replaced($1::int)").error, None);
        assert_eq!(wire.query("PREPARE executed AS SELECT public.replaced(1)").error, None);
        for _ in 0..40 {
            let answer = match how {
                Calling::Query => wire.query("SELECT public.replaced(1)"),
                Calling::Unnamed => wire.extended("SELECT public.replaced($1::int)", &["1"]),
                Calling::Named => wire.execute("named", &["1"]),
                Calling::Executed => wire.query("EXECUTE executed"),
            };
            assert_eq!(answer.error, None);
            assert_eq!(answer.value(), "1");
            calls.fetch_add(1, Ordering::Relaxed);
            if wire.value("SHOW work_mem") == SET {
                has_it.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn a_function_that_is_replaced_on_the_primary_leaks_nothing_into_the_pool() {
    const REPLACED: u32 = 2;
    /// How often the proxy looks at the functions of a database in use.
    const LOOK_INTERVAL: Duration = Duration::from_secs(1);
    let role = PoolRole::create(shared_cluster(), "of_replaced");
    let primary = &shared_cluster().primary;
    let body = |body: &str| {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION public.replaced(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN {body} RETURN x; END $$"
        );
        primary.psql(&sql).unwrap();
    };
    body("");
    let endpoint = Endpoint::over(shared_cluster()).pooling(2).threads(2).start();
    let port = endpoint.writes();
    let is_over = AtomicBool::new(false);
    let [calls, has_it, looks, leaks] = [0; 4].map(AtomicU64::new);
    std::thread::scope(|scope| {
        let _over = SetWhenDropped(&is_over);
        for how in [Calling::Query, Calling::Unnamed, Calling::Named, Calling::Executed] {
            let (is_over, counts) = (&is_over, [&calls, &has_it]);
            scope.spawn(move || call((role, port), how, is_over, counts));
        }
        for _ in 0..2 {
            let (is_over, looks, leaks) = (&is_over, &looks, &leaks);
            scope.spawn(move || {
                let mut wire = role.connect(port);
                while !is_over.load(Ordering::Relaxed) {
                    if wire.value("SHOW work_mem") == SET {
                        leaks.fetch_add(1, Ordering::Relaxed);
                    }
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let go_on = |at_least: Duration| {
            let began = Instant::now();
            let goals = [&calls, &looks].map(|done| done.load(Ordering::Relaxed) + 30);
            // The functions are read again, which takes a while where much is to be done.
            eventually(3 * PATIENCE, "all go on", || {
                let mut goals = [&calls, &looks].into_iter().zip(goals);
                began.elapsed() >= at_least && goals.all(|(done, goal)| done.load(Ordering::Relaxed) >= goal)
            });
        };
        for _ in 0..REPLACED {
            // The proxy reads it as one that changes nothing.
            go_on(2 * LOOK_INTERVAL);
            let had_it = has_it.load(Ordering::Relaxed);
            body(&format!("PERFORM set_config('work_mem', '{SET}', false);"));
            go_on(Duration::ZERO);
            assert!(has_it.load(Ordering::Relaxed) > had_it, "who calls it has what it sets");
            body("");
            assert_eq!(leaks.load(Ordering::Relaxed), 0, "others have what a client's function has set");
        }
    });
}

#[test]
fn no_more_server_connections_than_pool_size_also_after_a_reload() {
    const LOOKS_MIN: u32 = 20;
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
                let (goal, began, mut looks) = (seen.answers() + 200, Instant::now(), 0);
                while looks < LOOKS_MIN || seen.answers() < goal {
                    let open = role.processes(primary).len();
                    assert!(open <= size, "{open} of {size}");
                    assert!(began.elapsed() < 3 * PATIENCE, "the clients go on");
                    looks += 1;
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
    let began = Instant::now();
    let refused = second.query("SELECT 1").error.unwrap();
    assert_eq!(refused.code, "53300", "{refused:?}");
    assert!(began.elapsed() >= Duration::from_secs(1), "not before");
    assert_eq!(first.query("COMMIT").error, None);
    assert_eq!(second.value("SELECT 1"), "1");
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
