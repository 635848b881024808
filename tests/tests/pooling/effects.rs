//! What functions do on a connection is for the client that has called them, however they are called.

use trunkline_codec::write;

use super::*;

/// Makes functions and what runs them as somebody who does not go through the proxy.
#[track_caller]
pub(super) fn beside(sql: &str) {
    shared_cluster().primary.psql(sql).unwrap();
}

/// Each reason of a function keeps the session, whichever of them its client ends.
#[test]
fn a_function_of_two_effects_pins_for_the_one_that_is_left() {
    let role = role("of_two_effects");
    beside(
        "CREATE FUNCTION locks_and_makes() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_advisory_lock(4713); CREATE TEMP TABLE made_by_two (a int); END $$;
         CREATE FUNCTION only_locks() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(4713)';
         CREATE FUNCTION only_makes() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             CREATE TEMP TABLE made_by_two (a int); END $$;
         CREATE FUNCTION listens_and_sets(n text, v text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             LISTEN of_two; PERFORM set_config(n, v, false); END $$;",
    );
    let pool = pool(1, 1);
    let made = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('made_by_two')";
    let set = "SELECT count(*) FROM current_setting('work_mem') s WHERE s = '3MB'";
    for (sql, release, probe) in [
        ("SELECT locks_and_makes()", "SELECT pg_advisory_unlock_all()", made),
        ("SELECT only_locks(), only_makes()", "SELECT pg_advisory_unlock_all()", made),
        ("SELECT listens_and_sets('work_mem', '3MB')", "UNLISTEN *", set),
    ] {
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        run(&mut second, "SELECT 'before'");
        run(&mut first, sql);
        run(&mut first, release);
        waits_for(&pool, role, (&mut first, "DISCARD ALL"), (&mut second, probe));
    }
}

#[test]
fn a_lock_that_a_trigger_takes_after_the_release_of_all_is_kept() {
    let role = role("of_deferred");
    beside(
        "CREATE TABLE locks_later (a int); GRANT ALL ON locks_later TO of_deferred;
         CREATE FUNCTION locks_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_advisory_lock(4714); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER later AFTER INSERT ON locks_later DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION locks_later();",
    );
    let pool = pool(1, 1);
    let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
    let release = "SELECT pg_advisory_unlock_all()";
    for sql in ["BEGIN", "INSERT INTO locks_later VALUES (1)", release, "COMMIT"] {
        run(&mut first, sql);
    }
    let probe = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4714";
    waits_for(&pool, role, (&mut first, release), (&mut second, probe));
}

/// What is named by itself, and runs something.
#[test]
fn a_relation_or_type_with_another_name_runs_what_it_did() {
    let role = role("of_renamed");
    beside(
        "CREATE TABLE sets_1 (a int); GRANT ALL ON sets_1 TO of_renamed;
         CREATE FUNCTION sets_on_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('work_mem', '7777kB', false); RETURN new; END $$;
         CREATE TRIGGER t BEFORE INSERT ON sets_1 FOR EACH ROW EXECUTE FUNCTION sets_on_insert();
         CREATE FUNCTION sets_it(t text) RETURNS bool LANGUAGE sql AS
             $$ SELECT set_config('work_mem', '7777kB', false) IS NOT NULL $$;
         CREATE VIEW shows_1 AS SELECT sets_it('x');
         GRANT ALL ON shows_1 TO of_renamed;
         CREATE DOMAIN checks_1 AS text CHECK (sets_it(value));",
    );
    let pool = pool(1, 1);
    let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
    let value = "SHOW work_mem";
    let usual = second.value(value);
    let mut leaks = |sql: &str| {
        fine(&first.query(sql));
        let is_there = second.value(value) != usual;
        run(&mut second, "DISCARD ALL");
        run(&mut first, "DISCARD ALL");
        is_there
    };
    for (kind, before, after, sql) in [
        ("TABLE", "sets_1", "sets_2", "INSERT INTO sets_2 VALUES (1)"),
        ("VIEW", "shows_1", "shows_2", "SELECT * FROM shows_2"),
        ("DOMAIN", "checks_1", "checks_2", "SELECT 'x'::checks_2"),
    ] {
        assert!(!leaks(&sql.replace(after, before)), "{before}");
        beside(&format!("ALTER {kind} {before} RENAME TO {after}"));
        eventually(PATIENCE, "the new name is known", || !leaks(sql));
    }
}

/// Ways to take from a sequence without naming it.
#[test]
fn values_of_sequences_that_no_sql_names_are_each_clients_own() {
    let role = role("of_hidden_sequences");
    beside(
        "CREATE SEQUENCE hidden START 4711; GRANT ALL ON SEQUENCE hidden TO of_hidden_sequences;
         CREATE VIEW takes_view AS SELECT nextval('hidden') AS id;
         CREATE TABLE takes_policy (a int); INSERT INTO takes_policy VALUES (1);
         ALTER TABLE takes_policy ENABLE ROW LEVEL SECURITY;
         CREATE POLICY takes ON takes_policy USING (nextval('hidden') > 0);
         CREATE FUNCTION takes(text, text) RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('hidden') $$;
         CREATE OPERATOR <#~ (LEFTARG = text, RIGHTARG = text, FUNCTION = takes);
         CREATE TABLE takes_row (a int); INSERT INTO takes_row VALUES (1);
         CREATE FUNCTION taken(takes_row) RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('hidden') $$;
         CREATE TABLE takes_default (a int DEFAULT nextval('hidden')); INSERT INTO takes_default VALUES (1);
         GRANT ALL ON takes_view, takes_policy, takes_row, takes_default TO of_hidden_sequences;",
    );
    let ways = [
        "SELECT * FROM takes_view",
        "SELECT * FROM takes_policy",
        "SELECT 'a'::text <#~ 'b'::text",
        "SELECT r.taken FROM takes_row r",
    ];
    let in_turn = pool(1, 1);
    let reused = Endpoint::over(shared_cluster()).pooling(1).key("pool.pool_mode", "\"session\"");
    let reused = reused.key("pool.server_reuse", "\"on\"").start();
    let leaks_in_turn = |sql: &str| {
        let [mut first, mut second] = [(), ()].map(|()| role.connect(in_turn.writes()));
        run(&mut first, sql);
        code(&second.query("SELECT lastval()")) != "55000"
    };
    // A connection is closed, not kept, while the functions are due to be read again.
    let leaks_reused = |sql: &str| {
        let mut first = role.connect(reused.writes());
        run(&mut first, sql);
        let process = first.value(WHO);
        first.send_with(write::terminate);
        eventually(PATIENCE, "its connection is left", || {
            ["cl_active", "sv_active", "sv_tested"].iter().all(|column| reused.pooled(column, role) == 0)
        });
        let mut second = role.connect(reused.writes());
        let leaks = code(&second.query("SELECT lastval()")) != "55000";
        let has_it = second.value(WHO) == process;
        run(&mut second, "DISCARD ALL");
        has_it.then_some(leaks)
    };
    eventually(PATIENCE, "functions are read", || {
        !leaks_in_turn(ways[0]) && leaks_reused(ways[0]) == Some(false)
    });
    for sql in ways {
        assert!(!leaks_in_turn(sql), "{sql}");
        eventually(PATIENCE, "its connection is kept", || match leaks_reused(sql) {
            None => false,
            Some(leaks) => {
                assert!(!leaks, "{sql}");
                true
            }
        });
    }
}

/// Made through the proxy, and used by another client at once.
#[test]
fn what_a_client_has_just_made_leaks_nothing_of_who_uses_it() {
    let role = role("of_makers");
    beside(
        "GRANT CREATE ON DATABASE appdb TO of_makers;
         CREATE FUNCTION sets_for_makers() RETURNS text LANGUAGE sql AS
             $$ SELECT set_config('maintenance_work_mem', '9999kB', false) $$;",
    );
    let pool = pool(1, 1);
    let mut maker = role.connect(pool.writes());
    let [mut user, mut other] = [(), ()].map(|()| role.connect(pool.writes()));
    let value = "SHOW maintenance_work_mem";
    let usual = other.value(value);
    for turn in 0..TURNS {
        let table = format!("CREATE TABLE of_makers_{turn} (a text DEFAULT sets_for_makers())");
        let schema =
            format!("CREATE SCHEMA of_makers_{turn} CREATE TABLE made (a text DEFAULT sets_for_makers())");
        for (makes, name) in
            [(table, format!("of_makers_{turn}")), (schema, format!("of_makers_{turn}.made"))]
        {
            run(&mut maker, &makes);
            run(&mut maker, "DISCARD ALL");
            run(&mut user, &format!("INSERT INTO {name} DEFAULT VALUES"));
            assert_eq!(other.value(value), usual, "{name}");
            assert_eq!(user.value(value), "9999kB", "{name}");
            run(&mut user, "RESET ALL");
        }
    }
}

/// What a procedure has committed of a pipeline that fails is its client's, as on a direct connection.
#[test]
fn a_setting_that_a_procedure_commits_in_a_pipeline_stays_with_its_client() {
    let role = role("of_pipelines");
    beside(
        "CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
         CREATE PROCEDURE commits_and_fails() LANGUAGE plpgsql AS $$ BEGIN COMMIT; RAISE 'no'; END $$;",
    );
    let pool = pool(1, 1);
    for rest in [&["CALL commits()", "SELECT 1 / 0"][..], &["CALL commits_and_fails()"]] {
        let sql: Vec<&str> = std::iter::once(&"SET work_mem = '7777kB'").chain(rest).copied().collect();
        let in_pipeline = |wire: &mut Wire| {
            wire.send_with(|out| {
                for sql in &sql {
                    write::parse(out, b"", sql.as_bytes(), &[]).unwrap();
                    write::bind(out, b"", b"", std::iter::empty()).unwrap();
                    write::execute(out, b"", 0).unwrap();
                }
                write::sync(out);
            });
            assert!(wire.read_answer().error.is_some(), "{sql:?}");
        };
        let mut direct = role.connect(shared_cluster().primary.port());
        in_pipeline(&mut direct);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        let usual = second.value("SHOW work_mem");
        in_pipeline(&mut first);
        assert_eq!(second.value("SHOW work_mem"), usual, "{sql:?}");
        assert_eq!(first.value("SHOW work_mem"), direct.value("SHOW work_mem"), "{sql:?}");
    }
}

#[test]
fn what_an_event_trigger_does_stays_with_its_client_though_it_is_disabled_at_the_end() {
    let role = role("of_events");
    let primary = &shared_cluster().primary;
    beside("CREATE DATABASE of_events");
    let there = |sql: &str| primary.psql_in("of_events", sql).unwrap();
    there(
        "CREATE FUNCTION sets_on_event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('work_mem', '7777kB', false); END $$;
         CREATE EVENT TRIGGER sets ON ddl_command_end EXECUTE FUNCTION sets_on_event();
         CREATE TABLE commented (a int); ALTER TABLE commented OWNER TO of_events;
         CREATE SCHEMA own AUTHORIZATION of_events;",
    );
    let pool = pool(1, 1);
    let mut login = role.login();
    login.parameters = vec![("database".to_owned(), "of_events".to_owned())];
    let [mut first, mut second] = [(), ()].map(|()| login.connect(pool.writes()));
    run(&mut second, "SELECT upper('functions are read')");
    let probe = "SELECT count(*) FROM current_setting('work_mem') s WHERE s = '7777kB'";
    run(&mut first, "SELECT 1 AS a INTO own.made");
    waits_for(&pool, role, (&mut first, "DISCARD ALL"), (&mut second, probe));
    run(&mut first, "BEGIN");
    run(&mut first, "COMMENT ON TABLE commented IS 'x'");
    there("ALTER EVENT TRIGGER sets DISABLE");
    run(&mut first, "COMMIT");
    waits_for(&pool, role, (&mut first, "DISCARD ALL"), (&mut second, probe));
}
