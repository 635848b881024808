//! Clients that get a connection which another has logged in to: no login on the server, and the same right to be there.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use trunkline_cluster::{MONITOR_PASSWORD, MONITOR_ROLE, Server};
use trunkline_codec::write;
use trunkline_tests::{Auth, Endpoint, EndpointBuilder, PoolRole, Wire, eventually, shared_cluster, within};

#[path = "pooling_logins/by_password.rs"]
mod by_password;
#[path = "pooling_logins/modes.rs"]
mod modes;
#[path = "pooling_logins/reloads.rs"]
mod reloads;

const PATIENCE: Duration = Duration::from_secs(30);
/// Beyond `cache_ttl`, a server has to let a client of the role in again.
const LONG: &str = "\"1h\"";
const WHO: &str = "SELECT pg_backend_pid()";

fn primary() -> &'static Server {
    &shared_cluster().primary
}

fn role(name: &'static str) -> PoolRole {
    PoolRole::create(shared_cluster(), name)
}

fn transactions(size: u16) -> EndpointBuilder {
    Endpoint::over(shared_cluster()).pooling(size)
}

/// Session mode, in which a connection whose client has left goes to the next one.
fn reusing() -> EndpointBuilder {
    let builder = Endpoint::over(shared_cluster()).auth(Auth::Verify);
    builder.key("pool.pool_mode", "\"session\"").key("pool.server_reuse", "\"on\"")
}

fn fine(wire: &mut Wire, sql: &str) {
    assert_eq!(wire.query(sql).error, None, "{sql}");
}

fn leave(mut wire: Wire) {
    wire.send_with(write::terminate);
    assert_eq!(wire.read_to_end().as_deref(), Some(&[][..]));
}

/// What a round with an endpoint of its own gives within the minute for which a server's word for a client is good: one that
/// takes nearly as long, on a busy machine, is repeated.
#[track_caller]
fn while_vouched_for<T>(mut round: impl FnMut() -> T) -> T {
    const LONGEST: Duration = Duration::from_secs(50);
    for _ in 0..3 {
        let began = Instant::now();
        let seen = round();
        if began.elapsed() < LONGEST {
            return seen;
        }
    }
    panic!("each of three rounds took longer than {LONGEST:?}");
}

fn await_idle(endpoint: &Endpoint, role: PoolRole) {
    eventually(PATIENCE, "a connection is idle", || {
        endpoint.pooled("sv_idle", role) == 1 && endpoint.pooled("sv_active", role) == 0
    });
}

#[test]
fn a_new_client_of_a_warm_pool_costs_the_server_no_login() {
    let role = role("of_warmth");
    for threads in [1, 2] {
        let builder = transactions(5).threads(threads).key("auth.cache_ttl", LONG);
        let (processes, open) = while_vouched_for(|| {
            let endpoint = builder.clone().start();
            leave(role.connect(endpoint.writes()));
            await_idle(&endpoint, role);
            let mut processes = BTreeSet::new();
            for _ in 0..50 {
                let mut wire = role.connect(endpoint.writes());
                processes.insert(wire.value(WHO));
                leave(wire);
            }
            (processes, role.processes(primary()).len())
        });
        assert_eq!((processes.len(), open), (1, 1), "{processes:?}");
        eventually(PATIENCE, "none stays", || role.processes(primary()).is_empty());
    }
}

#[test]
fn a_thousand_idle_clients_hold_no_server_connection() {
    let role = role("of_idleness");
    let endpoint = transactions(4).key("pool.server_idle_timeout", "\"1s\"").start();
    let mut clients: Vec<Wire> = (0..1000).map(|_| role.connect(endpoint.writes())).collect();
    assert!(role.processes(primary()).len() <= 4);
    eventually(PATIENCE, "no server connection stays", || role.processes(primary()).is_empty());
    for (number, client) in clients.iter_mut().enumerate().step_by(20) {
        assert_eq!(client.value(&format!("SELECT {number}")), number.to_string());
    }
    assert!(role.processes(primary()).len() <= 4);
    assert_eq!(endpoint.pooled("cl_active", role), 1000);
}

/// What takes a role its right to log in and gives it back, with its name in place of `$`.
const REVOKED: [(&str, &str, &str); 2] = [
    ("ALTER ROLE $ PASSWORD 'another'", "28P01", "ALTER ROLE $ PASSWORD 'postgres'"),
    ("ALTER ROLE $ VALID UNTIL '2001-01-01'", "28P01", "ALTER ROLE $ VALID UNTIL 'infinity'"),
];

#[test]
fn whose_password_is_no_longer_valid_gets_no_connection_that_is_logged_in() {
    for (builder, name) in [(transactions(2), "of_rights"), (reusing(), "of_rights_again")] {
        let role = role(name);
        let endpoint = builder.key("auth.cache_ttl", "\"1s\"").key("timeouts.acquire", "\"1s\"").start();
        let login = role.login();
        let try_it = || login.try_connect(endpoint.writes()).map(leave);
        for (revoke, code, grant) in REVOKED {
            let mut before = login.connect(endpoint.writes());
            fine(&mut before, "SELECT 1");
            try_it().unwrap();
            primary().psql(&revoke.replace('$', name)).unwrap();
            eventually(PATIENCE, revoke, || try_it().is_err_and(|error| error.code == code));
            assert_eq!(before.value("SELECT 'in'"), "in", "who is in stays in, as on a server: {revoke}");
            leave(before);
            let _refused = try_it().unwrap_err();
            primary().psql(&grant.replace('$', name)).unwrap();
            eventually(PATIENCE, grant, || try_it().is_ok());
        }
    }
}

#[test]
fn who_may_no_longer_connect_to_a_database_is_told_so_by_its_server() {
    let role = role("of_connect");
    let [grant, revoke] =
        ["GRANT $ TO", "REVOKE $ FROM"].map(|sql| sql.replace('$', "CONNECT ON DATABASE of_connect"));
    let made = format!("CREATE DATABASE of_connect; {revoke} PUBLIC; {grant} of_connect");
    primary().psql(&made).unwrap();
    let mut login = role.login();
    login.parameters = vec![("database".to_owned(), "of_connect".to_owned())];
    // A server's word is good for a minute, if that is less.
    let endpoint = transactions(2).key("auth.cache_ttl", "\"1s\"").start();
    let try_it = || login.try_connect(endpoint.writes()).map(leave);
    let mut before = login.connect(endpoint.writes());
    fine(&mut before, "SELECT 1");
    try_it().unwrap();
    primary().psql(&format!("{revoke} of_connect")).unwrap();
    let (error, _) = within(PATIENCE, "a new client is refused", || try_it().err());
    assert_eq!(error.code, "42501", "{error:?}");
    for words in ["permission denied for database \"of_connect\"", "User does not have CONNECT privilege."] {
        assert!(error.text.contains(words), "{error:?}");
    }
    assert_eq!(before.value("SELECT 'in'"), "in");
    let _refused = try_it().unwrap_err();
    primary().psql(&format!("{grant} of_connect")).unwrap();
    eventually(PATIENCE, "it is let in again", || try_it().is_ok());
}

#[test]
fn new_clients_get_the_defaults_of_now_and_old_ones_keep_theirs() {
    const ASK: &str = "SELECT current_setting('work_mem')";
    for (builder, name) in [(transactions(2), "of_defaults"), (reusing(), "of_defaults_again")] {
        let role = role(name);
        let endpoint = builder.start();
        let mut old = role.connect(endpoint.writes());
        let before = old.value(ASK);
        primary().psql(&format!("ALTER ROLE {name} SET work_mem = '7MB'")).unwrap();
        eventually(PATIENCE, "a new client has the new default", || {
            let mut new = role.connect(endpoint.writes());
            let has = new.value(ASK);
            leave(new);
            has == "7MB"
        });
        for _ in 0..10 {
            assert_eq!(old.value(ASK), before);
            assert_eq!(role.connect(endpoint.writes()).value(ASK), "7MB");
        }
        fine(&mut old, "SET work_mem = '9MB'");
        fine(&mut old, "RESET work_mem");
        assert_eq!(old.value(ASK), before, "RESET is to what its own login gave it");
    }
}

#[test]
fn while_the_defaults_of_a_server_cannot_be_read_it_tells_each_new_client_its_own() {
    let role = role("of_unread");
    // Privileges on a shared catalogue are kept per database.
    primary().psql("CREATE DATABASE of_unread").unwrap();
    let grant = format!("GRANT SELECT ON pg_authid TO {MONITOR_ROLE}");
    primary().psql_in("of_unread", &grant).unwrap();
    let monitor = format!("user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname=of_unread");
    let endpoint = transactions(2).key("monitor.conninfo", &format!("{monitor:?}")).start();
    let ask = |sql: &str| {
        let mut new = role.connect(endpoint.writes());
        let told = new.value(sql);
        leave(new);
        told
    };
    let warm = ask(WHO);
    eventually(PATIENCE, "a new client gets the connection of the one before", || ask(WHO) == warm);
    primary().psql_in("of_unread", "REVOKE SELECT ON pg_db_role_setting FROM PUBLIC").unwrap();
    eventually(PATIENCE, "they cannot be read", || {
        endpoint.log().contains("could not read the server's default settings")
    });
    primary().psql("ALTER ROLE of_unread SET work_mem = '7MB'").unwrap();
    let work_mem = || ask("SELECT current_setting('work_mem')");
    eventually(PATIENCE, "a new client has the new default", || work_mem() == "7MB");
    for _ in 0..10 {
        assert_eq!(work_mem(), "7MB");
    }
    primary().psql_in("of_unread", "GRANT SELECT ON pg_db_role_setting TO PUBLIC").unwrap();
    eventually(PATIENCE, "connections go from client to client again", || ask(WHO) == ask(WHO));
    assert_eq!(work_mem(), "7MB");
}

#[test]
fn a_client_whose_login_is_relayed_keeps_its_server_connection() {
    let role = role("of_relaying");
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("hba.conf");
    std::fs::write(&rules, "host all of_relaying 127.0.0.1/32 relay\nhost all all all scram-sha-256\n")
        .unwrap();
    let endpoint = transactions(1).key("auth.hba_file", &format!("{rules:?}")).start();
    let mut clients = [(), (), ()].map(|()| role.connect(endpoint.writes()));
    let own: BTreeSet<String> = clients.iter_mut().map(|client| client.value(WHO)).collect();
    assert_eq!(own.len(), 3);
    for _ in 0..5 {
        let again: BTreeSet<String> = clients.iter_mut().map(|client| client.value(WHO)).collect();
        assert_eq!(again, own);
    }
}

#[test]
fn session_mode_gives_the_next_client_a_clean_connection_without_a_login() {
    let role = role("of_reuse");
    for threads in [1, 2] {
        let builder = reusing().threads(threads).key("auth.cache_ttl", LONG);
        let processes = while_vouched_for(|| {
            let endpoint = builder.clone().start();
            let turns = (0..10).map(|turn| leaves_all_kinds_of_state(&endpoint, role, turn));
            turns.collect::<BTreeSet<String>>()
        });
        assert_eq!(processes.len(), 1, "{processes:?}");
    }
}

/// A client that finds nothing of others and leaves all kinds of state. The process of its server connection.
fn leaves_all_kinds_of_state(endpoint: &Endpoint, role: PoolRole, turn: u32) -> String {
    let mut wire = role.connect(endpoint.writes());
    let process = wire.value(WHO);
    for (sql, expected) in [
        ("SELECT current_setting('work_mem') = current_setting('maintenance_work_mem')", "f"),
        ("SELECT count(*) FROM pg_prepared_statements", "0"),
        ("SELECT count(*) FROM pg_listening_channels()", "0"),
        ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "0"),
        ("SELECT count(*) FROM pg_cursors WHERE name = 'c'", "0"),
    ] {
        assert_eq!(wire.value(sql), expected, "{sql} in turn {turn}");
    }
    fine(&mut wire, "SET work_mem = '64MB'; SET maintenance_work_mem = '64MB'; LISTEN news");
    fine(&mut wire, "SELECT pg_advisory_lock(9)");
    fine(&mut wire, "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT");
    assert_eq!(wire.prepare("s", "SELECT 1").error, None);
    leave(wire);
    await_idle(endpoint, role);
    process
}

#[test]
fn session_mode_closes_a_connection_that_nothing_can_clean() {
    let role = role("of_taint");
    let endpoint = reusing().start();
    let temporary = ["CREATE TEMP TABLE mine ()", "CREATE TEMP TABLE mine (); DROP TABLE mine"];
    for sql in ["SET app.turn = 'x'", "BEGIN; SELECT 1", "SELECT setseed(0.5)"].into_iter().chain(temporary) {
        let mut wire = role.connect(endpoint.writes());
        let process: i32 = wire.value(WHO).parse().unwrap();
        let of_others = "SELECT count(*) WHERE current_setting('app.turn', true) IS NOT NULL";
        assert_eq!(wire.value(of_others), "0", "before {sql}");
        fine(&mut wire, sql);
        leave(wire);
        eventually(PATIENCE, &format!("the connection is closed after {sql}"), || {
            !role.processes(primary()).contains(&process)
        });
    }
}

/// Clients of this role that have a server connection each.
fn at_once(role: PoolRole, endpoint: &Endpoint) -> Vec<Wire> {
    let mut clients: Vec<Wire> = (0..3).map(|_| role.connect(endpoint.writes())).collect();
    clients.iter_mut().for_each(|client| fine(client, "BEGIN"));
    clients
}

#[test]
fn who_gets_the_name_of_another_role_gets_none_of_its_connections() {
    let modes = [
        (transactions(6), "of_names", "of_names_before"),
        (reusing(), "of_names_again", "of_names_again_before"),
    ];
    for (builder, name, before) in modes {
        let former = role(name);
        let endpoint = builder.key("auth.cache_ttl", LONG).start();
        for mut client in at_once(former, &endpoint) {
            fine(&mut client, "COMMIT");
            leave(client);
        }
        eventually(PATIENCE, "three are idle", || endpoint.pooled("sv_idle", former) == 3);
        primary().psql(&format!("ALTER ROLE {name} RENAME TO {before}")).unwrap();
        let latter = role(name);
        eventually(PATIENCE, "the new role is known", || {
            let mut client = latter.connect(endpoint.writes());
            let user = client.value("SELECT session_user");
            leave(client);
            user == name
        });
        for mut client in at_once(latter, &endpoint) {
            assert_eq!(client.value("SELECT session_user"), name, "not who had this name");
            leave(client);
        }
    }
}

#[test]
fn a_session_goes_on_as_who_it_was_or_not_at_all() {
    let former = role("of_going");
    let endpoint = transactions(1).key("auth.cache_ttl", LONG).start();
    let mut stays = former.connect(endpoint.writes());
    fine(&mut stays, "SELECT 1");
    primary().psql("ALTER ROLE of_going RENAME TO of_going_before").unwrap();
    let latter = role("of_going");
    assert_eq!(stays.value("SELECT session_user"), "of_going_before", "as on a direct connection");
    eventually(PATIENCE, "the new role has the only connection", || {
        let mut client = latter.connect(endpoint.writes());
        let user = client.value("SELECT session_user");
        leave(client);
        user == "of_going"
    });
    let error = stays.query("SELECT session_user").error;
    assert_eq!(error.map(|error| error.code).as_deref(), Some("42704"));
}

#[test]
fn a_function_that_is_replaced_a_moment_before_leaves_nothing_to_the_next_client() {
    const CALL: &str = "SELECT public.of_proof()";
    let replace = |body: &str| {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION public.of_proof() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
        );
        primary().psql(&sql).unwrap();
    };
    for (builder, name) in [(transactions(1), "of_proof"), (reusing(), "of_proof_again")] {
        let role = role(name);
        replace("");
        let endpoint = builder.key("auth.cache_ttl", LONG).start();
        let call_once = || {
            let mut wire = role.connect(endpoint.writes());
            let process = wire.value(WHO);
            fine(&mut wire, CALL);
            leave(wire);
            process
        };
        for _ in 0..3 {
            eventually(PATIENCE, "a connection is kept where the function is the one that was read", || {
                call_once() == call_once()
            });
            replace("PERFORM set_config('app.left', 'behind', false);");
            let _process = call_once();
            let mut next = role.connect(endpoint.writes());
            assert_eq!(next.query("SELECT current_setting('app.left', true)").rows, [[None]]);
            leave(next);
            replace("");
        }
    }
}
