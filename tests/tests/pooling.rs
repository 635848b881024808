//! Transaction mode: clients that share server connections find their own state on each, and nothing of another's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_tests::{Answer, Endpoint, PoolRole, SetWhenDropped, Wire, eventually, shared_cluster};

#[path = "pooling/effects.rs"]
mod effects;
#[path = "pooling/made.rs"]
mod made;
#[path = "pooling/sequences.rs"]
mod sequences;
#[path = "pooling/utilities.rs"]
mod utilities;

const PATIENCE: Duration = Duration::from_secs(30);
/// Each promise holds for clients of one worker thread and of two.
const THREADS: [u16; 2] = [1, 2];
/// How often two clients take turns.
const TURNS: u32 = 10;
const WHO: &str = "SELECT pg_backend_pid()";

fn pool(size: u16, threads: u16) -> Endpoint {
    Endpoint::over(shared_cluster()).pooling(size).threads(threads).start()
}

fn role(name: &'static str) -> PoolRole {
    PoolRole::create(shared_cluster(), name)
}

#[track_caller]
fn fine(answer: &Answer) {
    assert_eq!(answer.error, None, "{}", answer.tags());
}

/// Runs `sql`, which must work.
#[track_caller]
fn run(wire: &mut Wire, sql: &str) {
    let answer = wire.query(sql);
    assert_eq!(answer.error, None, "{sql}");
}

fn code(answer: &Answer) -> &str {
    answer.error.as_ref().map_or("", |error| &error.code)
}

/// Has `other` ask what must wait while `pinned` has the only connection, until `unpin`.
#[track_caller]
fn waits_for(pool: &Endpoint, role: PoolRole, (pinned, unpin): (&mut Wire, &str), other: (&mut Wire, &str)) {
    let (other, probe) = other;
    other.send_query(probe);
    eventually(PATIENCE, "the other client waits", || pool.pooled("cl_waiting", role) == 1);
    assert_eq!(pinned.value("SELECT 'goes on'"), "goes on");
    assert_eq!(pool.pooled("cl_waiting", role), 1, "who waits is served before a client that is not pinned");
    run(pinned, unpin);
    let answer = other.read_answer();
    assert_eq!(answer.error, None, "{probe} after {unpin}");
    assert_eq!(answer.value(), "0", "{probe} after {unpin}");
}

#[test]
fn settings_stay_with_their_client_on_one_connection() {
    let role = role("of_settings");
    shared_cluster().primary.psql("GRANT pg_read_all_data TO of_settings").unwrap();
    for threads in THREADS {
        let pool = pool(1, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        let ask = "SELECT current_setting('TimeZone'), current_setting('search_path'), current_user, \
                   current_setting('statement_timeout'), current_setting('DateStyle')";
        let untouched = second.query(ask).rows;
        run(&mut first, "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET ROLE pg_read_all_data");
        fine(&first.extended("SELECT set_config('search_path', $1, false)", &["pg_catalog"]));
        run(&mut first, "BEGIN; SET LOCAL statement_timeout = '9s'; SAVEPOINT s; SET lock_timeout = '8s'");
        run(&mut first, "ROLLBACK TO s; COMMIT");
        let changed = first.query(ask).rows;
        let expected = ["Asia/Tokyo", "pg_catalog", "pg_read_all_data", "0", "German, DMY"];
        assert_eq!(changed, [expected.map(|value| Some(value.to_owned())).to_vec()]);
        let mut processes = BTreeSet::new();
        for _ in 0..TURNS {
            assert_eq!(second.query(ask).rows, untouched);
            assert_eq!(first.query(ask).rows, changed);
            processes.extend([first.value(WHO), second.value(WHO)]);
        }
        assert_eq!(processes.len(), 1, "one server connection serves both");
        assert_eq!(first.parameters["TimeZone"], "Asia/Tokyo");
        assert_ne!(second.parameters["TimeZone"], "Asia/Tokyo");
        run(&mut first, "RESET ALL; RESET ROLE");
        assert_eq!(first.query(ask).rows, untouched);
    }
}

#[test]
fn a_custom_setting_is_unknown_to_who_never_set_it() {
    let role = role("of_custom");
    for threads in THREADS {
        let pool = pool(1, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        let ask = "SELECT current_setting('app.tenant', true)";
        run(&mut first, "SET app.tenant = 'first'");
        assert_eq!(second.query(ask).rows, [[None]]);
        assert_eq!(code(&second.query("SHOW app.tenant")), "42704");
        assert_eq!(first.value(ask), "first");
        run(&mut second, "SELECT set_config('app.tenant', 'second', false)");
        for _ in 0..TURNS {
            assert_eq!((first.value(ask), second.value(ask)), ("first".to_owned(), "second".to_owned()));
        }
    }
}

#[test]
fn prepared_statements_of_one_name_are_each_clients_own() {
    let role = role("of_statements");
    for threads in THREADS {
        let pool = pool(1, threads);
        let mut clients = [(), (), ()].map(|()| role.connect(pool.writes()));
        for (number, client) in clients.iter_mut().enumerate() {
            fine(&client.prepare("same", &format!("SELECT 'protocol {number}', $1::text")));
            run(client, &format!("PREPARE by_sql (int) AS SELECT 'sql {number}', $1 + {number}"));
            fine(&client.prepare(&format!("only {number}"), "SELECT 1"));
        }
        for turn in 0..TURNS {
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(
                    client.execute("same", &[&turn.to_string()]).value(),
                    format!("protocol {number}")
                );
                assert_eq!(client.value(&format!("EXECUTE by_sql ({turn})")), format!("sql {number}"));
                let names =
                    client.value("SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements");
                assert_eq!(names, format!("by_sql,only {number},same"));
            }
        }
        let [first, second, third] = &mut clients;
        assert_eq!(code(&second.execute("only 0", &[])), "26000", "another client's statement");
        assert_eq!(code(&second.prepare("same", "SELECT 2")), "42P05", "its own is there already");
        run(second, "DEALLOCATE same");
        assert_eq!(code(&second.execute("same", &["x"])), "26000");
        run(third, "DEALLOCATE ALL");
        assert_eq!(code(&third.execute("same", &["x"])), "26000");
        assert_eq!(first.execute("same", &["x"]).value(), "protocol 0", "others keep theirs");
        let all = shared_cluster()
            .primary
            .psql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", role.name));
        assert_eq!(all.unwrap(), "1");
    }
}

#[test]
fn a_client_may_have_more_statements_than_are_kept_on_a_connection() {
    let role = role("of_many");
    let builder = Endpoint::over(shared_cluster()).pooling(1).key("pool.max_prepared_statements", "3");
    let pool = builder.start();
    let mut clients = [(), ()].map(|()| role.connect(pool.writes()));
    for (number, client) in clients.iter_mut().enumerate() {
        for statement in 0..12 {
            fine(&client.prepare(&format!("s{statement}"), &format!("SELECT {number}, {statement}")));
        }
    }
    for statement in (0..12).rev().chain(0..12) {
        for (number, client) in clients.iter_mut().enumerate() {
            let told = client.execute(&format!("s{statement}"), &[]);
            assert_eq!(told.rows, [[number, statement].map(|value: usize| Some(value.to_string()))]);
        }
    }
    let on_server = clients[0].query(ON_SERVER).rows;
    let kept: u32 = on_server[0][0].as_deref().unwrap().parse().unwrap();
    assert!(kept <= 3 + 1, "{on_server:?}");
}

/// `pg_prepared_statements` as its server has it: the proxy does not read the name.
const ON_SERVER: &str = "SELECT count(*), coalesce(sum(generic_plans + custom_plans), 0), string_agg(name, ' ') FROM U&\"pg_pr\\0065pared_statements\"";

/// Two clients that use one name each for something of their own, in turns.
#[test]
fn clashing_names_cost_no_statement() {
    let role = role("of_clashes");
    let pool = pool(1, 1);
    let mut clients = [(), ()].map(|()| role.connect(pool.writes()));
    for (number, client) in clients.iter_mut().enumerate() {
        fine(&client.prepare("s1", &format!("SELECT {number} AS mine")));
    }
    for _ in 0..TURNS {
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.execute("s1", &[]).value(), number.to_string());
        }
    }
    let used = &clients[0].query(ON_SERVER).rows[0][..2];
    assert_eq!(used, ["2", &(2 * TURNS).to_string()].map(|value| Some(value.to_owned())));
}

#[test]
fn a_statement_that_another_client_has_prepared_is_shared() {
    let role = role("of_sharers");
    let pool = pool(1, 1);
    let mut clients = [(), (), ()].map(|()| role.connect(pool.writes()));
    for (number, client) in clients.iter_mut().enumerate() {
        let name = format!("number {number}");
        fine(&client.prepare(&name, "SELECT 7 AS ours"));
        assert_eq!(client.execute(&name, &[]).value(), "7");
        assert_eq!(code(&client.prepare(&name, "SELECT 2")), "42P05");
        let text = client.prepare(&name, "SELECT 2").error.map(|error| error.text);
        assert_eq!(text, Some(format!("prepared statement \"{name}\" already exists")));
    }
    run(&mut clients[1], "DEALLOCATE \"number 1\"");
    assert_eq!(clients[0].execute("number 0", &[]).value(), "7", "another's is another's");
    assert_eq!(code(&clients[1].execute("number 1", &[])), "26000");
    assert_eq!(clients[2].value("EXECUTE \"number 2\""), "7");
    let on_server = clients[0].query(ON_SERVER).rows;
    assert_eq!(on_server[0][0].as_deref(), Some("1"), "{on_server:?}");
}

/// What pins, what undoes it, and what another client asks, which is `0` when it finds nothing of it.
const PINS: [(&str, &str, &str); 8] = [
    ("BEGIN", "ROLLBACK", "SELECT 0"),
    ("CREATE TEMP TABLE mine AS SELECT 1 AS i", "DISCARD ALL", MINE),
    ("LISTEN news", "UNLISTEN *", "SELECT count(*) FROM pg_listening_channels()"),
    ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock_all()", LOCKS),
    ("SELECT pg_try_advisory_lock_shared(7)", "DISCARD ALL", LOCKS),
    ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "CLOSE c", CURSORS),
    ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "CLOSE ALL", CURSORS),
    ("DO $$ BEGIN PERFORM set_config('application_name', 'by a block', false); END $$", "DISCARD ALL", BLOCK),
];
const MINE: &str = "SELECT count(*) FROM pg_class WHERE relname = 'mine' AND pg_table_is_visible(oid)";
const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
const CURSORS: &str = "SELECT count(*) FROM pg_cursors WHERE name = 'c'";
const BLOCK: &str = "SELECT count(*) WHERE current_setting('application_name') = 'by a block'";

#[test]
fn what_cannot_be_carried_keeps_the_connection_until_it_is_gone() {
    let role = role("of_pins");
    for threads in THREADS {
        let pool = pool(1, threads);
        for (pin, unpin, probe) in PINS {
            let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
            run(&mut first, pin);
            waits_for(&pool, role, (&mut first, unpin), (&mut second, probe));
            run(&mut first, "SELECT 1");
        }
    }
}

#[test]
fn a_schema_of_temporary_objects_stays_with_who_has_had_some() {
    const ASK: &str = "SELECT pg_my_temp_schema() <> 0 OR current_schemas(true)::text LIKE '%temp%'";
    let role = role("of_schemas");
    for threads in THREADS {
        let pool = pool(1, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        run(&mut second, "SET temp_buffers = '16MB'");
        for _ in 0..TURNS {
            run(&mut first, "CREATE TEMP TABLE mine AS SELECT 1 AS i");
            run(&mut first, "DROP TABLE mine");
            assert_eq!(second.value("SHOW temp_buffers"), "16MB");
            assert_eq!(second.value(ASK), "f");
            assert_eq!(role.connect(pool.writes()).value(ASK), "f", "a new client's");
        }
    }
}

#[test]
fn a_setting_that_a_library_takes_over_on_one_connection_is_set_on_another() {
    let role = role("of_libraries");
    let sql = "CREATE FUNCTION public.loads() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$";
    shared_cluster().primary.psql(sql).unwrap();
    const SET: &str = "SET plpgsql.variable_conflict = 'use_column'";
    for threads in THREADS {
        let pool = pool(1, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        run(&mut first, SET);
        for _ in 0..TURNS {
            assert_eq!(second.value("SELECT public.loads()"), "1");
            assert_eq!(first.value("SHOW plpgsql.variable_conflict"), "use_column");
        }
    }
}

#[test]
fn what_only_a_function_of_a_superuser_may_set_keeps_the_connection() {
    let role = role("of_definers");
    let sql = "CREATE FUNCTION public.replicate(how text) RETURNS void LANGUAGE sql SECURITY DEFINER AS
        $$ SELECT set_config('session_replication_role', how, false) $$";
    shared_cluster().primary.psql(sql).unwrap();
    const ASK: &str = "SELECT current_setting('session_replication_role')";
    const FOREIGN: &str = "SELECT count(*) WHERE current_setting('session_replication_role') = 'replica'";
    let pool = pool(1, 1);
    let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
    run(&mut first, "SELECT public.replicate('origin')");
    assert_eq!(second.value(FOREIGN), "0", "nothing was changed");
    run(&mut first, "SELECT public.replicate('replica')");
    assert_eq!(first.value(ASK), "replica");
    waits_for(&pool, role, (&mut first, "DISCARD ALL"), (&mut second, FOREIGN));
    assert_eq!(first.value(ASK), "origin");
}

#[test]
fn what_a_client_has_pinned_is_gone_when_it_leaves() {
    let role = role("of_leaving");
    for threads in THREADS {
        let pool = pool(1, threads);
        let mut next = role.connect(pool.writes());
        for (pin, _, probe) in PINS {
            let mut first = role.connect(pool.writes());
            run(&mut first, pin);
            next.send_query(probe);
            eventually(PATIENCE, "the next client waits", || pool.pooled("cl_waiting", role) == 1);
            drop(first);
            assert_eq!(next.read_answer().value(), "0", "{probe} after {pin}");
        }
    }
}

#[test]
fn a_pinned_client_finds_what_it_has_pinned() {
    let role = role("of_pinned");
    for threads in THREADS {
        let pool = pool(3, threads);
        let [mut first, mut second, mut third] = [(), (), ()].map(|()| role.connect(pool.writes()));
        run(&mut first, "CREATE TEMP TABLE mine AS SELECT 'first' AS whose; SELECT pg_advisory_lock(8)");
        run(&mut second, "CREATE TEMP TABLE mine AS SELECT 'second' AS whose");
        for _ in 0..TURNS {
            assert_eq!(first.value("SELECT whose FROM mine"), "first");
            assert_eq!(second.value("SELECT whose FROM mine"), "second");
            assert_eq!(code(&third.query("SELECT whose FROM mine")), "42P01");
            assert_eq!(third.value("SELECT pg_try_advisory_lock(8)"), "f");
            assert_eq!(second.value("SELECT pg_try_advisory_lock(8)"), "f");
        }
        run(&mut first, "DISCARD ALL");
        assert_eq!(third.value("SELECT pg_try_advisory_lock(8)"), "t");
    }
}

#[test]
fn a_listening_client_gets_its_notifications() {
    let role = role("of_listen");
    for threads in THREADS {
        let pool = pool(2, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        run(&mut first, "LISTEN pooled_news");
        for turn in 0..TURNS {
            run(&mut second, &format!("NOTIFY pooled_news, '{turn}'"));
            let message = first.read_message().unwrap();
            assert_eq!(message.tag, b'A');
            let text = String::from_utf8_lossy(&message.body).into_owned();
            assert!(text.ends_with(&format!("pooled_news\0{turn}\0")), "{text:?}");
        }
        run(&mut first, "UNLISTEN *");
        run(&mut second, "NOTIFY pooled_news");
        assert_eq!(first.query("SELECT 1").tags(), "TDCZ", "nothing more");
    }
}

/// What a client is answered whose request is canceled until it is: a cancel that comes before the request is for nothing, and
/// whether it waits is not asked, since the question would wake it.
fn canceled(client: &mut Wire, port: u16) -> Answer {
    const EVERY: Duration = Duration::from_millis(100);
    let packet = client.cancel_packet();
    let is_answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _answered = SetWhenDropped(&is_answered);
        scope.spawn(|| {
            while !is_answered.load(Ordering::Relaxed) {
                let mut cancel = Wire::connect(port);
                cancel.send(&packet);
                assert_eq!(cancel.read_to_end().as_deref(), Some(&[][..]));
                std::thread::sleep(EVERY);
            }
        });
        client.read_answer()
    })
}

#[test]
fn a_client_may_cancel_a_request_that_waits_for_a_connection() {
    let role = role("of_waits");
    for threads in THREADS {
        let pool = pool(1, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        run(&mut first, "BEGIN");
        for ask in ["simple", "extended"] {
            match ask {
                "simple" => second.send_query("SELECT 1; SELECT 2"),
                _extended => second.send_extended("SELECT $1::int", &["1"]),
            }
            let answer = canceled(&mut second, pool.writes());
            assert_eq!(code(&answer), "57014", "{ask}: {}", answer.tags());
            eventually(PATIENCE, "nobody waits", || pool.pooled("cl_waiting", role) == 0);
        }
        run(&mut first, "COMMIT");
        // One that comes when nothing is asked cancels nothing later.
        second.cancel(pool.writes());
        for _ in 0..TURNS {
            assert_eq!(second.value("SELECT 'goes on'"), "goes on");
        }
    }
}
