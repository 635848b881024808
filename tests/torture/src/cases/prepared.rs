//! Prepared statements of the protocol.

use crate::flight::{
    bind, bind_portal, close_statement, describe_portal, describe_statement, execute, parse, parse_typed,
    query, run_prepared, sync, unnamed,
};
use crate::scenario::{Act, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = later_uses();
    cases.extend(names());
    cases.extend(names_of_sessions());
    cases.extend(deallocations());
    cases.extend(unnamed_statements());
    cases.extend(contents());
    cases.push(many());
    cases.push(many_names_of_one());
    cases
}

/// What happens between the Parse and its use in a later transaction.
fn later_uses() -> Vec<Scenario> {
    let uses: [(&str, &str, &[&str]); 8] = [
        ("plain", "used in a later transaction", &[]),
        ("between", "another client's work between", &["SELECT 'b'"]),
        ("same-name", "another client prepares the same name", &["PREPARE s AS SELECT 'stranger'"]),
        ("foreign-transaction", "another client is in a transaction", &["BEGIN", "SELECT 1"]),
        ("foreign-error", "another client has failed", &["BEGIN", "SELECT 1 / 0", "ROLLBACK"]),
        ("foreign-deallocate", "another client says DEALLOCATE ALL", &["DEALLOCATE ALL"]),
        ("foreign-discard", "another client says DISCARD ALL", &["DISCARD ALL"]),
        ("foreign-plans", "another client says DISCARD PLANS", &["DISCARD PLANS"]),
    ];
    let of_use = |&(key, about, between): &(&str, &str, &[&str])| {
        let scenario = Scenario::new(format!("parse-{key}"), format!("a named statement, {about}"))
            .flight(Player::A, &[parse("s", "SELECT 'own ' || $1::text"), sync()]);
        let scenario = between.iter().fold(scenario, |scenario, sql| scenario.b(sql));
        scenario
            .flight(Player::A, &[run_prepared("s", &[Some("one")]), sync()])
            .shows("D(own one)")
            .b("SELECT 'between'")
            .flight(Player::A, &[bind("s", &[Some("two")]), execute("", 0), sync()])
            .shows("D(own two)")
            .flight(Player::A, &[describe_statement("s"), sync()])
            .shows("t(25)")
            .flight(Player::B, &[bind("s", &[Some("x")]), execute("", 0), sync()])
            .hides("D(own x)")
    };
    uses.iter().map(of_use).collect()
}

fn names() -> Vec<Scenario> {
    vec![
        Scenario::new("name-both", "two clients, one name, different statements")
            .flight(Player::A, &[parse("s", "SELECT 'a'"), sync()])
            .flight(Player::B, &[parse("s", "SELECT 'b', 2"), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(a)")
            .hides("D(b")
            .flight(Player::B, &[run_prepared("s", &[]), sync()])
            .shows("D(b|2)")
            .flight(Player::A, &[describe_statement("s"), sync()])
            .shows("T(?column?:25)"),
        Scenario::new("name-twice", "Parse of a name that is there")
            .flight(Player::A, &[parse("s", "SELECT 1"), sync()])
            .flight(Player::A, &[parse("s", "SELECT 2"), sync()])
            .shows("42P05")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(1)"),
        Scenario::new("name-twice-same", "Parse of a name that is there, with the same text")
            .flight(Player::A, &[parse("s", "SELECT 1"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[parse("s", "SELECT 1"), sync()])
            .shows("42P05"),
        Scenario::new("name-again", "Close, then Parse of the name with another text")
            .flight(Player::A, &[parse("s", "SELECT 1"), sync()])
            .flight(Player::A, &[close_statement("s"), sync()])
            .shows("3")
            .b("SELECT 'between'")
            .flight(Player::A, &[parse("s", "SELECT 2"), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(2)"),
        Scenario::new("name-again-one-flight", "Close, Parse, Bind, Execute in one series")
            .flight(Player::A, &[parse("s", "SELECT 1"), sync()])
            .b("SELECT 'between'")
            .flight(
                Player::A,
                &[close_statement("s"), parse("s", "SELECT 2"), run_prepared("s", &[]), sync()],
            )
            .shows("D(2)"),
        Scenario::new("name-closed", "Bind and Describe of a name that was closed")
            .flight(Player::A, &[parse("s", "SELECT 1"), sync()])
            .flight(Player::A, &[close_statement("s"), sync()])
            .flight(Player::A, &[bind("s", &[]), execute("", 0), sync()])
            .shows("26000")
            .flight(Player::A, &[describe_statement("s"), sync()])
            .shows("26000"),
        Scenario::new("name-closed-foreign", "one client closes its name, the other keeps its own")
            .flight(Player::A, &[parse("s", "SELECT 'kept'"), sync()])
            .flight(Player::B, &[parse("s", "SELECT 'kept'"), sync()])
            .flight(Player::B, &[close_statement("s"), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(kept)")
            .flight(Player::B, &[run_prepared("s", &[]), sync()])
            .shows("26000"),
        Scenario::new("name-unknown", "Bind, Describe and Close of names nobody knows")
            .flight(Player::A, &[bind("nobody", &[]), sync()])
            .shows("26000 prepared statement \"nobody\"")
            .flight(Player::A, &[describe_statement("nobody"), sync()])
            .shows("26000")
            .flight(Player::A, &[close_statement("nobody"), sync()])
            .shows("3 ")
            .flight(Player::A, &[describe_portal("nobody"), sync()])
            .shows("34000"),
    ]
}

/// Which names a session knows.
fn names_of_sessions() -> Vec<Scenario> {
    vec![
        Scenario::new("name-foreign", "a name that only another client knows")
            .flight(Player::A, &[parse("mine", "SELECT 'mine'"), sync()])
            .flight(Player::A, &[run_prepared("mine", &[]), sync()])
            .shows("D(mine)")
            .flight(Player::B, &[run_prepared("mine", &[]), sync()])
            .hides("D(mine)")
            .b("SELECT count(*) FROM pg_prepared_statements")
            .shows("D(0)"),
        Scenario::new("name-view", "pg_prepared_statements shows the client's own names")
            .flight(Player::A, &[parse("mine", "SELECT 1"), sync()])
            .b("SELECT 'between'")
            .a("SELECT name, statement FROM pg_prepared_statements")
            .shows("D(mine|SELECT 1)"),
        Scenario::new("name-new-session", "a later session does not know what an earlier one prepared")
            .flight(Player::A, &[parse("s", "SELECT 'old'"), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(old)")
            .step(Player::A, Act::Terminate)
            .flight(Player::B, &[parse("s", "SELECT 'new'"), sync()])
            .flight(Player::B, &[run_prepared("s", &[]), sync()])
            .shows("D(new)"),
        Scenario::new("name-long", "a name longer than NAMEDATALEN")
            .flight(Player::A, &[parse(&"n".repeat(100), "SELECT 'long'"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared(&"n".repeat(100), &[]), sync()])
            .shows("D(long)"),
        Scenario::new("name-failed", "a Parse that fails, then the name again")
            .flight(Player::A, &[parse("s", "SELEC 1"), sync()])
            .shows("42601")
            .flight(Player::A, &[parse("s", "SELECT 'good'"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(good)"),
        Scenario::new("name-failed-transaction", "Parse in a failed transaction, ROLLBACK, the name again")
            .a("BEGIN")
            .a("SELECT 1 / 0")
            .flight(Player::A, &[parse("s", "SELECT 'bad'"), sync()])
            .shows("25P02")
            .a("ROLLBACK")
            .flight(Player::A, &[bind("s", &[]), sync()])
            .shows("26000")
            .flight(Player::A, &[parse("s", "SELECT 'good'"), run_prepared("s", &[]), sync()])
            .shows("D(good)"),
        Scenario::new("name-rolled-back", "a statement prepared in a transaction that rolls back stays")
            .a("BEGIN")
            .flight(Player::A, &[parse("s", "SELECT 'stays'"), sync()])
            .a("ROLLBACK")
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(stays)"),
    ]
}

fn deallocations() -> Vec<Scenario> {
    let start = |key: &str, about: &str| {
        Scenario::new(format!("deallocate-{key}"), about)
            .flight(Player::A, &[parse("s1", "SELECT 'first'"), sync()])
            .flight(Player::B, &[parse("s1", "SELECT 'first'"), sync()])
    };
    let gone = |scenario: Scenario| {
        scenario
            .flight(Player::B, &[run_prepared("s1", &[]), sync()])
            .shows("D(first)")
            .flight(Player::A, &[run_prepared("s1", &[]), sync()])
            .shows("26000")
            .flight(Player::A, &[parse("s1", "SELECT 'second'"), run_prepared("s1", &[]), sync()])
            .shows("D(second)")
    };
    vec![
        gone(start("name", "DEALLOCATE of a protocol statement, as PHP's PDO").a("DEALLOCATE s1")),
        gone(start("quoted", "DEALLOCATE PREPARE of a quoted name").a("DEALLOCATE PREPARE \"s1\"")),
        gone(start("all", "DEALLOCATE ALL").a("DEALLOCATE ALL")),
        gone(start("all-extended", "DEALLOCATE ALL by the extended protocol").ax("DEALLOCATE ALL")),
        gone(start("discard", "DISCARD ALL").a("DISCARD ALL")),
        gone(start("discard-extended", "DISCARD ALL by the extended protocol").ax("DISCARD ALL")),
        gone(
            start("several", "DEALLOCATE between other statements of one Query")
                .a("SELECT 1; DEALLOCATE s1; SELECT 2"),
        ),
        gone(start("do", "DEALLOCATE in a DO block").a("DO $$ BEGIN EXECUTE 'DEALLOCATE s1'; END $$")),
        start("flight", "DEALLOCATE ALL, Parse, Bind, Sync in one flight, as Prisma")
            .flight(
                Player::A,
                &[query("DEALLOCATE ALL"), parse("s1", "SELECT 'again'"), run_prepared("s1", &[]), sync()],
            )
            .shows("D(again)")
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s1", &[]), sync()])
            .shows("D(again)"),
        start("flight-discard", "DISCARD ALL, Parse, Bind, Sync in one flight")
            .flight(Player::A, &[query("DISCARD ALL"), parse("s1", "SELECT 'again'"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s1", &[]), sync()])
            .shows("D(again)"),
        start("unknown", "DEALLOCATE of a name nobody knows").a("DEALLOCATE nobody").shows("26000"),
        start("rolled-back", "DEALLOCATE is not rolled back")
            .a("BEGIN")
            .a("DEALLOCATE s1")
            .a("ROLLBACK")
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s1", &[]), sync()])
            .shows("26000"),
        start("failed", "DEALLOCATE ALL that fails leaves all")
            .a("BEGIN")
            .a("SELECT 1 / 0")
            .a("DEALLOCATE ALL")
            .shows("25P02")
            .a("ROLLBACK")
            .flight(Player::A, &[run_prepared("s1", &[]), sync()])
            .shows("D(first)"),
    ]
}

fn unnamed_statements() -> Vec<Scenario> {
    vec![
        Scenario::new("unnamed-later", "Bind of the unnamed statement in a later transaction")
            .flight(Player::A, &[parse("", "SELECT 'unnamed ' || $1::text"), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[bind("", &[Some("mine")]), execute("", 0), sync()])
            .shows("D(unnamed mine)"),
        Scenario::new("unnamed-described", "Parse and Describe, then Bind and Execute, as many drivers")
            .flight(Player::A, &[parse("", "SELECT $1::int + 1"), describe_statement(""), sync()])
            .shows("t(23)")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[bind("", &[Some("41")]), describe_portal(""), execute("", 0), sync()])
            .shows("D(42)"),
        Scenario::new("unnamed-without", "Bind of an unnamed statement that was never parsed")
            .flight(Player::A, &[parse("", "SELECT 'secret'"), run_prepared("", &[]), sync()])
            .shows("D(secret)")
            .flight(Player::B, &[bind("", &[]), execute("", 0), sync()])
            .hides("D(secret)")
            .flight(Player::B, &[describe_statement(""), sync()])
            .shows("26000"),
        Scenario::new("unnamed-query", "a simple Query drops the unnamed statement")
            .flight(Player::A, &[parse("", "SELECT 'gone'"), sync()])
            .a("SELECT 1")
            .flight(Player::A, &[bind("", &[]), execute("", 0), sync()])
            .shows("26000"),
        Scenario::new("unnamed-failed", "a Parse that fails drops the unnamed statement")
            .flight(Player::A, &[parse("", "SELECT 'old'"), sync()])
            .flight(Player::A, &[parse("", "SELEC"), sync()])
            .shows("42601")
            .b("SELECT 'between'")
            .flight(Player::A, &[bind("", &[]), execute("", 0), sync()])
            .hides("D(old)"),
        Scenario::new("unnamed-closed", "Close of the unnamed statement")
            .flight(Player::A, &[parse("", "SELECT 'old'"), sync()])
            .flight(Player::A, &[close_statement(""), sync()])
            .flight(Player::A, &[bind("", &[]), execute("", 0), sync()])
            .shows("26000"),
        Scenario::new("unnamed-several", "several before one Sync, each needs the one before")
            .setup("DROP TABLE IF EXISTS torture.chain")
            .flight(
                Player::A,
                &[
                    unnamed("CREATE TABLE torture.chain (x int)"),
                    unnamed("INSERT INTO torture.chain VALUES (7)"),
                    unnamed("SELECT x FROM torture.chain"),
                    unnamed("DROP TABLE torture.chain"),
                    sync(),
                ],
            )
            .shows("D(7)")
            .b("SELECT 'between'"),
        Scenario::new("unnamed-turns", "two clients' unnamed statements turn by turn")
            .flight(Player::A, &[parse("", "SELECT 'a'"), sync()])
            .flight(Player::B, &[parse("", "SELECT 'b'"), sync()])
            .flight(Player::A, &[bind("", &[]), execute("", 0), sync()])
            .shows("D(a)")
            .flight(Player::B, &[bind("", &[]), execute("", 0), sync()])
            .shows("D(b)")
            .flight(Player::A, &[bind("", &[]), execute("", 0), sync()])
            .shows("D(a)"),
    ]
}

/// The OIDs of int4 and text.
const INT4: u32 = 23;
const TEXT: u32 = 25;

fn contents() -> Vec<Scenario> {
    vec![
        Scenario::new("content-types", "one text, two parameter types")
            .flight(Player::A, &[parse_typed("s", "SELECT $1, pg_typeof($1)", &[INT4]), sync()])
            .flight(Player::B, &[parse_typed("s", "SELECT $1, pg_typeof($1)", &[TEXT]), sync()])
            .flight(Player::A, &[run_prepared("s", &[Some("1")]), sync()])
            .shows("D(1|integer)")
            .flight(Player::B, &[run_prepared("s", &[Some("1")]), sync()])
            .shows("D(1|text)"),
        Scenario::new("content-fetch", "a FETCH, whose columns are those of the cursor of the moment")
            .flight(Player::A, &[parse("s", "FETCH 1 FROM torture_cursor"), sync()])
            .flight(Player::B, &[parse("s", "FETCH 1 FROM torture_cursor"), sync()])
            .flight(Player::A, &[describe_statement("s"), sync()])
            .a("BEGIN; DECLARE torture_cursor CURSOR FOR SELECT 'fetched'")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(fetched)")
            .a("COMMIT")
            .flight(Player::B, &[run_prepared("s", &[]), sync()])
            .shows("34000"),
        Scenario::new("content-search-path", "one text under two search_paths")
            .setup("CREATE SCHEMA IF NOT EXISTS torture_two; DROP TABLE IF EXISTS torture_two.spot")
            .setup("CREATE TABLE torture_two.spot AS SELECT 'two' AS x")
            .table("spot", "x text", "VALUES ('one')")
            .a("SET search_path = torture")
            .b("SET search_path = torture_two")
            .flight(Player::A, &[parse("s", "SELECT x FROM spot"), sync()])
            .flight(Player::B, &[parse("s", "SELECT x FROM spot"), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(one)")
            .flight(Player::B, &[run_prepared("s", &[]), sync()])
            .shows("D(two)")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(one)"),
        Scenario::new("content-path-changes", "a prepared text follows the search_path of its session")
            .setup("CREATE SCHEMA IF NOT EXISTS torture_two; DROP TABLE IF EXISTS torture_two.spot")
            .setup("CREATE TABLE torture_two.spot AS SELECT 'two' AS x")
            .table("spot", "x text", "VALUES ('one')")
            .a("SET search_path = torture")
            .flight(Player::A, &[parse("s", "SELECT x FROM spot"), run_prepared("s", &[]), sync()])
            .shows("D(one)")
            .a("SET search_path = torture_two")
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(two)"),
        Scenario::new("content-strings", "one text, backslashes meant differently")
            .a("SET standard_conforming_strings = off; SET escape_string_warning = off")
            .flight(Player::A, &[parse("s", r"SELECT 'x\\y'"), sync()])
            .flight(Player::B, &[parse("s", r"SELECT 'x\\y'"), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows(r"D(x\y)")
            .flight(Player::B, &[run_prepared("s", &[]), sync()])
            .shows(r"D(x\\y)"),
        Scenario::new("content-dates", "one text, a literal read by DateStyle at Parse")
            .a("SET DateStyle = 'ISO, DMY'")
            .flight(Player::A, &[parse("s", "SELECT date '01/02/2026'"), sync()])
            .flight(Player::B, &[parse("s", "SELECT date '01/02/2026'"), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(2026-02-01)")
            .flight(Player::B, &[run_prepared("s", &[]), sync()])
            .shows("D(2026-01-02)"),
        Scenario::new("content-portals", "two portals of one statement in a transaction")
            .flight(Player::A, &[parse("s", "SELECT $1::int"), sync()])
            .b("SELECT 'between'")
            .flight(
                Player::A,
                &[
                    bind_portal("p1", "s", &[Some("1")]),
                    bind_portal("p2", "s", &[Some("2")]),
                    execute("p2", 0),
                    execute("p1", 0),
                    sync(),
                ],
            )
            .shows("D(2) · C(SELECT 1) · D(1)"),
    ]
}

/// More statements than any pooler keeps on a server connection.
const MANY: usize = 260;

fn many() -> Scenario {
    let statement = |number: usize| parse(&format!("m{number}"), &format!("SELECT {number} AS many"));
    let mut parts: Vec<_> = (0..MANY).map(statement).collect();
    parts.push(sync());
    Scenario::new("many-statements", "more statements than a server connection keeps, all used again")
        .flight(Player::A, &parts)
        .b("SELECT 'between'")
        .flight(Player::A, &[run_prepared("m0", &[]), sync()])
        .shows("D(0)")
        .flight(Player::A, &[run_prepared("m259", &[]), run_prepared("m1", &[]), sync()])
        .shows("D(1)")
        .flight(Player::A, &[close_statement("m2"), sync()])
        .flight(Player::A, &[run_prepared("m2", &[]), sync()])
        .shows("26000")
        .flight(Player::A, &[run_prepared("m3", &[]), sync()])
        .shows("D(3)")
}

fn many_names_of_one() -> Scenario {
    let mut parts: Vec<_> =
        (0..MANY).map(|number| parse(&format!("n{number}"), "SELECT 'one text'")).collect();
    parts.push(sync());
    Scenario::new("many-names", "many names of one text, one of them closed")
        .flight(Player::A, &parts)
        .flight(Player::A, &[close_statement("n7"), sync()])
        .b("SELECT 'between'")
        .flight(Player::A, &[run_prepared("n8", &[]), sync()])
        .shows("D(one text)")
        .flight(Player::A, &[run_prepared("n7", &[]), sync()])
        .shows("26000")
}
