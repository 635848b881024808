//! Prepared statements of SQL, alone and mixed with those of the protocol.

use crate::flight::{bind, close_statement, describe_statement, execute, parse, run_prepared, sync, unnamed};
use crate::scenario::{Act, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = alone();
    cases.extend(reached());
    cases.extend(mixed());
    cases
}

fn alone() -> Vec<Scenario> {
    vec![
        Scenario::new("prepare-later", "EXECUTE in a later transaction")
            .a("PREPARE p (int) AS SELECT 'own', $1")
            .b("SELECT 'between'")
            .a("EXECUTE p (1)")
            .shows("D(own|1)")
            .b("EXECUTE p (1)")
            .hides("D(own"),
        Scenario::new("prepare-extended", "PREPARE and EXECUTE by the extended protocol")
            .ax("PREPARE p AS SELECT 'own'")
            .b("SELECT 'between'")
            .ax("EXECUTE p")
            .shows("D(own)")
            .bx("EXECUTE p")
            .hides("D(own)"),
        Scenario::new("prepare-both", "two clients, one name")
            .a("PREPARE p AS SELECT 'a'")
            .b("PREPARE p AS SELECT 'b'")
            .a("EXECUTE p")
            .shows("D(a)")
            .b("EXECUTE p")
            .shows("D(b)"),
        Scenario::new("prepare-twice", "PREPARE of a name that is there")
            .a("PREPARE p AS SELECT 'a'")
            .b("SELECT 'between'")
            .a("PREPARE p AS SELECT 'b'")
            .shows("42P05"),
        Scenario::new("prepare-rolled-back", "PREPARE in a transaction that rolls back stays")
            .a("BEGIN; PREPARE p AS SELECT 'stays'")
            .a("ROLLBACK")
            .b("SELECT 'between'")
            .a("EXECUTE p")
            .shows("D(stays)"),
        Scenario::new("prepare-deallocate", "DEALLOCATE, then EXECUTE")
            .a("PREPARE p AS SELECT 'own'")
            .b("PREPARE p AS SELECT 'theirs'")
            .a("DEALLOCATE p")
            .a("EXECUTE p")
            .shows("26000")
            .b("EXECUTE p")
            .shows("D(theirs)"),
        Scenario::new("prepare-view", "pg_prepared_statements shows one's own")
            .a("PREPARE p AS SELECT 'own'")
            .b("SELECT count(*) FROM pg_prepared_statements")
            .shows("D(0)")
            .a("SELECT name, from_sql FROM pg_prepared_statements")
            .shows("D(p|t)"),
    ]
}

/// Those that other statements make, use or drop.
fn reached() -> Vec<Scenario> {
    vec![
        Scenario::new("prepare-foreign-all", "another client says DEALLOCATE ALL")
            .a("PREPARE p AS SELECT 'own'")
            .b("DEALLOCATE ALL")
            .a("EXECUTE p")
            .shows("D(own)"),
        Scenario::new("prepare-session", "a later session does not know it")
            .a("PREPARE p AS SELECT 'old'")
            .a("EXECUTE p")
            .shows("D(old)")
            .step(Player::A, Act::Terminate)
            .b("EXECUTE p")
            .hides("D(old)")
            .b("PREPARE p AS SELECT 'new'")
            .b("EXECUTE p")
            .shows("D(new)"),
        Scenario::new("prepare-explain", "EXPLAIN EXECUTE and CREATE TABLE AS EXECUTE")
            .setup("DROP TABLE IF EXISTS torture.executed")
            .a("PREPARE p AS SELECT 'own' AS x")
            .b("SELECT 'between'")
            .a("EXPLAIN (COSTS off) EXECUTE p")
            .shows("D(Result)")
            .a("CREATE TABLE torture.executed AS EXECUTE p")
            .shows("C(SELECT 1)"),
        Scenario::new("prepare-do", "PREPARE within a DO block")
            .a("DO $$ BEGIN EXECUTE 'PREPARE hidden AS SELECT ''own'''; END $$")
            .b("EXECUTE hidden")
            .hides("D(own)")
            .a("EXECUTE hidden")
            .shows("D(own)"),
        Scenario::new("prepare-several", "PREPARE as one of several statements of a Query")
            .a("SELECT 1; PREPARE p AS SELECT 'own'; SELECT 2")
            .b("EXECUTE p")
            .hides("D(own)")
            .a("EXECUTE p")
            .shows("D(own)"),
        Scenario::new("prepare-setting", "an SQL statement that sets when executed")
            .a("PREPARE p AS SELECT set_config('work_mem', '7777kB', false)")
            .a("EXECUTE p")
            .b("SHOW work_mem")
            .hides("7777kB")
            .a("SHOW work_mem")
            .shows("7777kB"),
    ]
}

fn mixed() -> Vec<Scenario> {
    vec![
        Scenario::new("mixed-bind", "PREPARE by SQL, Bind by the protocol")
            .a("PREPARE p AS SELECT 'sql'")
            .b("SELECT 'between'")
            .a("EXECUTE p")
            .shows("D(sql)")
            .flight(Player::A, &[run_prepared("p", &[]), sync()])
            .shows("D(sql)"),
        Scenario::new("mixed-execute", "Parse by the protocol, EXECUTE by SQL")
            .flight(Player::A, &[parse("p", "SELECT 'protocol ' || $1::text"), sync()])
            .b("SELECT 'between'")
            .a("EXECUTE p ('x')")
            .shows("D(protocol x)")
            .b("EXECUTE p ('x')")
            .hides("D(protocol x)"),
        Scenario::new("mixed-describe", "PREPARE by SQL, Describe by the protocol")
            .a("PREPARE p (int) AS SELECT $1 AS number")
            .b("SELECT 'between'")
            .flight(Player::A, &[describe_statement("p"), sync()])
            .shows("t(23) · T(number:23)"),
        Scenario::new("mixed-close", "PREPARE by SQL, Close by the protocol")
            .a("PREPARE p AS SELECT 'sql'")
            .b("SELECT 'between'")
            .flight(Player::A, &[close_statement("p"), sync()])
            .a("EXECUTE p")
            .shows("26000"),
        Scenario::new("mixed-taken", "Parse of a name that SQL has taken")
            .a("PREPARE p AS SELECT 'sql'")
            .b("SELECT 'between'")
            .flight(Player::A, &[parse("p", "SELECT 'protocol'"), sync()])
            .shows("42P05"),
        Scenario::new("mixed-taken-by-protocol", "PREPARE of a name that the protocol has taken")
            .flight(Player::A, &[parse("p", "SELECT 'protocol'"), sync()])
            .b("SELECT 'between'")
            .a("PREPARE p AS SELECT 'sql'")
            .shows("42P05"),
        Scenario::new("mixed-flight", "PREPARE, EXECUTE and Bind in one series")
            .flight(
                Player::A,
                &[
                    unnamed("PREPARE p AS SELECT 'sql'"),
                    unnamed("EXECUTE p"),
                    bind("p", &[]),
                    execute("", 0),
                    sync(),
                ],
            )
            .shows("D(sql) · C(SELECT 1) · 2 · D(sql)")
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("p", &[]), sync()])
            .shows("D(sql)"),
        Scenario::new("mixed-parsed-prepare", "a named statement whose text is PREPARE")
            .flight(Player::A, &[parse("outer", "PREPARE inner_one AS SELECT 'inner'"), sync()])
            .flight(Player::A, &[bind("outer", &[]), execute("", 0), sync()])
            .b("EXECUTE inner_one")
            .hides("D(inner)")
            .a("EXECUTE inner_one")
            .shows("D(inner)"),
        Scenario::new("mixed-parsed-deallocate", "a named statement whose text is DEALLOCATE ALL")
            .flight(Player::A, &[parse("outer", "DEALLOCATE ALL"), parse("s", "SELECT 'first'"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[bind("outer", &[]), execute("", 0), sync()])
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("26000")
            .flight(Player::A, &[parse("s", "SELECT 'second'"), run_prepared("s", &[]), sync()])
            .shows("D(second)"),
    ]
}
