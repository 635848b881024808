//! Statements whose tables change under them.

use crate::flight::{bind, describe_portal, describe_statement, execute, parse, run_prepared, sync, unnamed};
use crate::scenario::{Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> =
        CHANGES.iter().flat_map(|&(key, sql, after)| changed(key, sql, after)).collect();
    cases.extend(told());
    cases.extend(meanings());
    cases
}

/// Key, what is done to the table, and what a direct connection shows then.
const CHANGES: &[(&str, &str, &str)] = &[
    ("add-column", "ALTER TABLE torture.shape ADD y int DEFAULT 2", "0A000"),
    ("drop-column", "ALTER TABLE torture.shape ADD y int; ALTER TABLE torture.shape DROP x", "0A000"),
    ("retype", "ALTER TABLE torture.shape ALTER x TYPE text", "0A000"),
    ("drop-table", "DROP TABLE torture.shape", "42P01"),
    ("same-again", "DROP TABLE torture.shape; CREATE TABLE torture.shape AS SELECT 7 AS x", "D(7)"),
    (
        "other-again",
        "DROP TABLE torture.shape; CREATE TABLE torture.shape AS SELECT 'seven'::text AS x",
        "0A000",
    ),
    ("rename-column", "ALTER TABLE torture.shape RENAME x TO z", "0A000"),
    ("index", "CREATE INDEX ON torture.shape (x)", "D(1)"),
    ("update", "UPDATE torture.shape SET x = 7", "D(7)"),
];

/// A prepares, somebody changes the table, A executes.
fn changed(key: &str, sql: &str, after: &str) -> Vec<Scenario> {
    let start = |by: &str, about: &str| {
        Scenario::new(format!("plan-{key}-{by}"), format!("{about} changes the table between: {key}"))
            .table("shape", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("s", "SELECT * FROM torture.shape"), run_prepared("s", &[]), sync()])
            .shows("D(1)")
    };
    let end = |scenario: Scenario| {
        scenario
            .flight(Player::A, &[bind("s", &[]), execute("", 0), sync()])
            .shows(after)
            .flight(Player::A, &[bind("s", &[]), describe_portal(""), execute("", 0), sync()])
    };
    vec![
        end(start("stranger", "another client").b(sql)),
        end(start("own", "the client itself").a(sql)),
        end(start("beside", "one who is not in the pool").beside(sql)),
    ]
}

fn told() -> Vec<Scenario> {
    vec![
        Scenario::new("plan-sql-execute", "EXECUTE after another client has added a column")
            .table("shape", "x int", "VALUES (1)")
            .a("PREPARE s AS SELECT * FROM torture.shape")
            .a("EXECUTE s")
            .shows("D(1)")
            .b("ALTER TABLE torture.shape ADD y int DEFAULT 2")
            .a("EXECUTE s")
            .shows("0A000"),
        Scenario::new("plan-fresh-name", "the same text under a new name has the new shape")
            .table("shape", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("s", "SELECT * FROM torture.shape"), run_prepared("s", &[]), sync()])
            .b("ALTER TABLE torture.shape ADD y int DEFAULT 2")
            .flight(Player::A, &[parse("s2", "SELECT * FROM torture.shape"), run_prepared("s2", &[]), sync()])
            .shows("D(1|2)"),
        Scenario::new("plan-fresh-client", "another client's Parse of the same text has the new shape")
            .table("shape", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("s", "SELECT * FROM torture.shape"), run_prepared("s", &[]), sync()])
            .a("ALTER TABLE torture.shape ADD y int DEFAULT 2")
            .flight(Player::B, &[parse("s", "SELECT * FROM torture.shape"), describe_statement("s"), sync()])
            .shows("T(x:23,y:23)")
            .flight(Player::B, &[bind("s", &[]), execute("", 0), sync()])
            .shows("D(1|2)"),
        Scenario::new("plan-closed-again", "after 0A000: DEALLOCATE ALL, Parse, and all is well")
            .table("shape", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("s", "SELECT * FROM torture.shape"), run_prepared("s", &[]), sync()])
            .b("ALTER TABLE torture.shape ADD y int DEFAULT 2")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("0A000")
            .a("DEALLOCATE ALL")
            .flight(Player::A, &[parse("s", "SELECT * FROM torture.shape"), run_prepared("s", &[]), sync()])
            .shows("D(1|2)"),
        Scenario::new("plan-in-transaction", "0A000 in a transaction fails it")
            .table("shape", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("s", "SELECT * FROM torture.shape"), run_prepared("s", &[]), sync()])
            .b("ALTER TABLE torture.shape ADD y int DEFAULT 2")
            .a("BEGIN")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("0A000")
            .a("SELECT 1")
            .shows("25P02")
            .a("ROLLBACK"),
    ]
}

/// What a text means changes, or comes to be.
fn meanings() -> Vec<Scenario> {
    vec![
        Scenario::new("plan-unnamed", "the unnamed statement, parsed before and bound after a change")
            .table("shape", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("", "SELECT * FROM torture.shape"), describe_statement(""), sync()])
            .shows("T(x:23)")
            .b("ALTER TABLE torture.shape ADD y int DEFAULT 2")
            .flight(Player::A, &[bind("", &[]), execute("", 0), sync()])
            .shows("0A000"),
        Scenario::new("plan-temp-shadow", "a temporary table comes before the one that was prepared")
            .table("shadowed", "x text", "VALUES ('real')")
            .a("SET search_path = torture")
            .flight(Player::A, &[parse("s", "SELECT x FROM shadowed"), run_prepared("s", &[]), sync()])
            .shows("D(real)")
            .a("CREATE TEMP TABLE shadowed AS SELECT 'temporary'::text AS x")
            .b("SELECT x FROM torture.shadowed")
            .shows("D(real)")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(temporary)"),
        Scenario::new("plan-function", "a prepared call of a function that is replaced")
            .setup(
                "CREATE OR REPLACE FUNCTION torture.answer() RETURNS text LANGUAGE sql AS $$ SELECT 'old' $$",
            )
            .flight(Player::A, &[parse("s", "SELECT torture.answer()"), run_prepared("s", &[]), sync()])
            .shows("D(old)")
            .b("CREATE OR REPLACE FUNCTION torture.answer() RETURNS text LANGUAGE sql AS $$ SELECT 'new' $$")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(new)"),
        Scenario::new("plan-parse-later", "a table that comes after the Parse failed")
            .setup("DROP TABLE IF EXISTS torture.later")
            .flight(Player::A, &[parse("s", "SELECT x FROM torture.later"), sync()])
            .shows("42P01")
            .b("CREATE TABLE torture.later AS SELECT 'there' AS x")
            .flight(Player::A, &[parse("s", "SELECT x FROM torture.later"), run_prepared("s", &[]), sync()])
            .shows("D(there)"),
        Scenario::new("plan-same-series", "a series that changes the table before it executes")
            .table("shape", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("s", "SELECT * FROM torture.shape"), run_prepared("s", &[]), sync()])
            .b("SELECT 'between'")
            .flight(
                Player::A,
                &[unnamed("ALTER TABLE torture.shape ADD y int DEFAULT 2"), run_prepared("s", &[]), sync()],
            )
            .shows("0A000"),
    ]
}
