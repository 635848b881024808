//! State of a session that no setting shows: sequences, random numbers, libraries, large objects' handles.

use crate::flight::{parse, run_prepared, sync};
use crate::scenario::{Act, Need, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = sequences();
    cases.extend(columns_of_sequences());
    cases.extend(sequences_ended());
    cases.extend(random());
    cases.extend(others());
    cases
}

fn sequence(key: &str, about: &str) -> Scenario {
    Scenario::new(format!("sequence-{key}"), about)
        .setup("DROP SEQUENCE IF EXISTS torture.counter; CREATE SEQUENCE torture.counter START 4711")
}

fn sequences() -> Vec<Scenario> {
    vec![
        sequence("currval", "currval after nextval of an earlier transaction")
            .a("SELECT nextval('torture.counter')")
            .b("SELECT currval('torture.counter')")
            .hides("D(4711)")
            .a("SELECT currval('torture.counter')")
            .shows("D(4711)"),
        sequence("lastval", "lastval after nextval of an earlier transaction")
            .a("SELECT nextval('torture.counter')")
            .b("SELECT lastval()")
            .hides("D(4711)")
            .a("SELECT lastval()")
            .shows("D(4711)"),
        sequence("both", "each has its own currval")
            .a("SELECT nextval('torture.counter')")
            .b("SELECT nextval('torture.counter')")
            .a("SELECT currval('torture.counter')")
            .shows("D(4711)")
            .b("SELECT currval('torture.counter')")
            .shows("D(4712)"),
        sequence("setval", "setval gives its client a currval")
            .a("SELECT setval('torture.counter', 9000)")
            .b("SELECT currval('torture.counter')")
            .hides("D(9000)")
            .a("SELECT currval('torture.counter')")
            .shows("D(9000)"),
        sequence("not-called", "setval with is_called false gives none")
            .a("SELECT setval('torture.counter', 9000, false)")
            .b("SELECT currval('torture.counter')")
            .shows("55000")
            .a("SELECT currval('torture.counter')")
            .shows("55000"),
        sequence("serial", "lastval after INSERT with a serial column")
            .setup("DROP TABLE IF EXISTS torture.numbered; CREATE TABLE torture.numbered (id serial, x int)")
            .setup("SELECT setval('torture.numbered_id_seq', 500)")
            .a("INSERT INTO torture.numbered (x) VALUES (1)")
            .b("SELECT lastval()")
            .hides("D(501)")
            .a("SELECT lastval()")
            .shows("D(501)"),
        sequence("identity", "currval of an identity column, by the extended protocol")
            .setup("DROP TABLE IF EXISTS torture.identified")
            .setup("CREATE TABLE torture.identified (id int GENERATED ALWAYS AS IDENTITY (START 600), x int)")
            .ax("INSERT INTO torture.identified (x) VALUES (1)")
            .bx("SELECT currval(pg_get_serial_sequence('torture.identified', 'id'))")
            .hides("D(600)")
            .ax("SELECT currval(pg_get_serial_sequence('torture.identified', 'id'))")
            .shows("D(600)"),
    ]
}

/// A column's default uses a sequence, and its client asks at once what it gave.
fn columns_of_sequences() -> Vec<Scenario> {
    let insert = "INSERT INTO torture.numbered (x) VALUES (1)";
    let numbered = |key: &str, about: &str| {
        Scenario::new(format!("numbered-{key}"), about)
            .setup("DROP TABLE IF EXISTS torture.numbered; CREATE TABLE torture.numbered (id serial, x int)")
            .setup("SELECT setval('torture.numbered_id_seq', 500)")
    };
    let asked = |scenario: Scenario| {
        let scenario = scenario.b("SELECT lastval()").hides("D(501)");
        scenario.a("SELECT lastval()").shows("D(501)")
    };
    vec![
        asked(numbered("transaction", "added in a transaction").a(format!("BEGIN; {insert}; COMMIT"))),
        asked(
            numbered("rolled-back", "added in a transaction that rolls back")
                .a(format!("BEGIN; {insert}; ROLLBACK")),
        ),
        asked(numbered("extended", "by the extended protocol").ax(insert)),
        asked(
            numbered("returning", "RETURNING has told it")
                .a(format!("{insert} RETURNING id"))
                .shows("D(501)"),
        ),
        asked(
            numbered("with", "by WITH in a SELECT")
                .a(format!("WITH x AS ({insert} RETURNING 1) SELECT 1 FROM x")),
        ),
        asked(
            numbered("function", "by a function")
                .setup(format!(
                    "CREATE OR REPLACE FUNCTION torture.number() RETURNS void LANGUAGE sql AS '{insert}'"
                ))
                .a("SELECT torture.number()"),
        ),
        numbered("prepared", "statements with names ask")
            .flight(Player::A, &[parse("insert", insert), sync()])
            .flight(Player::A, &[parse("ask", "SELECT currval('torture.numbered_id_seq')"), sync()])
            .bx("SELECT 'between'")
            .flight(Player::A, &[run_prepared("insert", &[]), sync()])
            .bx("SELECT 'between'")
            .flight(Player::A, &[run_prepared("ask", &[]), sync()])
            .shows("D(501)"),
        numbered("both", "two clients turn by turn")
            .a(insert)
            .b(insert)
            .a("SELECT lastval()")
            .shows("D(501)")
            .b("SELECT lastval()")
            .shows("D(502)"),
    ]
}

/// What ends the values of sequences, and what hides them.
fn sequences_ended() -> Vec<Scenario> {
    vec![
        sequence("rolled-back", "nextval in a transaction that rolls back")
            .a("BEGIN; SELECT nextval('torture.counter'); ROLLBACK")
            .b("SELECT currval('torture.counter')")
            .hides("D(4711)")
            .a("SELECT currval('torture.counter')")
            .shows("D(4711)"),
        sequence("discard", "DISCARD SEQUENCES of another client leaves it")
            .a("SELECT nextval('torture.counter')")
            .b("DISCARD SEQUENCES")
            .a("SELECT currval('torture.counter')")
            .shows("D(4711)")
            .a("DISCARD SEQUENCES")
            .a("SELECT currval('torture.counter')")
            .shows("55000"),
        sequence("hidden", "nextval in a DO block")
            .a("DO $$ BEGIN PERFORM nextval('torture.counter'); END $$")
            .b("SELECT lastval()")
            .hides("D(4711)")
            .a("SELECT lastval()")
            .shows("D(4711)"),
        sequence("cache", "a sequence with CACHE: values kept are its session's")
            .setup("DROP SEQUENCE IF EXISTS torture.cached; CREATE SEQUENCE torture.cached CACHE 10")
            .a("SELECT nextval('torture.cached')")
            .shows("D(1)")
            .b("SELECT nextval('torture.cached')")
            .shows("D(11)")
            .hides("D(2)")
            .a("SELECT nextval('torture.cached')")
            .shows("D(2)"),
        sequence("session", "a later session has no lastval of an earlier one")
            .a("SELECT nextval('torture.counter')")
            .shows("D(4711)")
            .step(Player::A, Act::Terminate)
            .b("SELECT lastval()")
            .shows("55000")
            .hides("D(4711)"),
    ]
}

/// The numbers that follow a seed are kept in a table, and looked for.
fn random() -> Vec<Scenario> {
    let follows = |key: &str, about: &str, seed: &str| {
        let is_of_seed = "SELECT 'of the seed', random() IN (SELECT r FROM torture.seeded)";
        Scenario::new(format!("seed-{key}"), about)
            .setup("DROP TABLE IF EXISTS torture.seeded; SELECT setseed(0.25)")
            .setup("CREATE TABLE torture.seeded AS SELECT random() AS r FROM generate_series(1, 100)")
            .b("SELECT 'before'")
            .a(seed)
            .b(is_of_seed)
            .shows("|f)")
            .hides("|t)")
            .a(is_of_seed)
            .shows("|t)")
            .b(is_of_seed)
            .hides("|t)")
            .a(is_of_seed)
            .shows("|t)")
    };
    vec![
        follows("function", "setseed, then random() in later transactions", "SELECT setseed(0.25)"),
        follows("set", "SET SEED, then random() in later transactions", "SET SEED TO 0.25"),
        follows("config", "set_config of seed", "SELECT set_config('seed', '0.25', false)"),
        follows("hidden", "setseed in a DO block", "DO $$ BEGIN PERFORM setseed(0.25); END $$"),
    ]
}

fn others() -> Vec<Scenario> {
    vec![
        Scenario::new("load-library", "LOAD: the library's settings are its session's")
            .needs(Need::Superuser)
            .a("LOAD 'auto_explain'")
            .b("SELECT count(*) FROM pg_settings WHERE name = 'auto_explain.log_analyze'")
            .shows("D(0)")
            .hides("D(1)")
            .a("SELECT count(*) FROM pg_settings WHERE name = 'auto_explain.log_analyze'")
            .shows("D(1)"),
        Scenario::new("load-settings", "LOAD, then a setting of the library")
            .needs(Need::Superuser)
            .a("LOAD 'auto_explain'")
            .a("SET auto_explain.log_min_duration = '7777s'")
            .b("SELECT current_setting('auto_explain.log_min_duration', true)")
            .hides("7777s")
            .a("SHOW auto_explain.log_min_duration")
            .shows("7777s"),
        Scenario::new("same-process", "one process for a session")
            .setup("DROP TABLE IF EXISTS torture.processes; CREATE TABLE torture.processes (pid int)")
            .a("BEGIN")
            .a("INSERT INTO torture.processes VALUES (pg_backend_pid())")
            .b("SELECT 'between'")
            .a("SELECT 'mine', pid = pg_backend_pid() FROM torture.processes")
            .shows("D(mine|t)")
            .a("COMMIT"),
        Scenario::new(
            "same-process-later",
            "the process of a later transaction is the same (known to differ behind poolers)",
        )
        .setup("DROP TABLE IF EXISTS torture.processes; CREATE TABLE torture.processes (pid int)")
        .a("INSERT INTO torture.processes VALUES (pg_backend_pid())")
        .b("BEGIN")
        .b("SELECT 'between', pid = pg_backend_pid() FROM torture.processes")
        .shows("D(between|f)")
        .a("SELECT 'mine', pid = pg_backend_pid() FROM torture.processes")
        .shows("D(mine|t)")
        .b("COMMIT"),
        Scenario::new("exported-snapshot", "a snapshot that is exported and taken")
            .a("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .a("SELECT pg_export_snapshot() IS NOT NULL")
            .shows("D(t)")
            .b("SELECT 'between'")
            .a("COMMIT"),
        Scenario::new("two-phase-visible", "rows of one transaction seen by another after COMMIT only")
            .table("visible", "x text", "")
            .a("BEGIN")
            .a("INSERT INTO torture.visible VALUES ('row')")
            .b("SELECT x FROM torture.visible")
            .hides("D(row)")
            .a("COMMIT")
            .b("SELECT x FROM torture.visible")
            .shows("D(row)"),
    ]
}
