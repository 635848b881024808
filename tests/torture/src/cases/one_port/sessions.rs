//! What belongs to a session, what was made a moment ago, and errors that any server gives.

use super::{ROWS, both, port};
use crate::flight::query;
use crate::run::OTHER_ROLE;
use crate::scenario::{Act, Player, Scenario, Until};

pub(super) fn cases() -> Vec<Scenario> {
    [sessions(), definitions(), answers()].concat()
}

/// What belongs to the session.
fn sessions() -> Vec<Scenario> {
    let insert = "INSERT INTO torture.ported VALUES (2, 'two')";
    vec![
        port("own-writes", "each write is read at once")
            .ax(insert)
            .ax(ROWS)
            .shows("D(rows|2)")
            .ax(insert)
            .a(ROWS)
            .shows("D(rows|3)")
            .a(insert)
            .ax(ROWS)
            .shows("D(rows|4)")
            .a("DELETE FROM torture.ported")
            .ax(ROWS)
            .shows("D(rows|0)"),
        port("own-writes-async", "the same with synchronous_commit off")
            .a("SET synchronous_commit = off")
            .ax(insert)
            .ax(ROWS)
            .shows("D(rows|2)")
            .a(insert)
            .a(ROWS)
            .shows("D(rows|3)"),
        port("notification", "LISTEN and NOTIFY on one port")
            .a("LISTEN torture_port")
            .b("NOTIFY torture_port, 'told'")
            .step(Player::A, Act::AwaitNotification)
            .bx("SELECT pg_notify('torture_port', 'told by a function')")
            .step(Player::A, Act::AwaitNotification)
            .a("SELECT 'listens'")
            .shows("D(listens)"),
        port("settings", "a setting holds wherever a statement runs")
            .a("SET work_mem = '7777kB'")
            .a("SELECT current_setting('work_mem'), v FROM torture.ported")
            .shows("D(7777kB|one)")
            .a(insert)
            .ax("SELECT DISTINCT current_setting('work_mem') FROM torture.ported")
            .shows("D(7777kB)")
            .a("RESET work_mem")
            .ax("SHOW work_mem")
            .hides("7777kB"),
        port("settings-written", "a setting that a statement sets by its rows")
            .a("UPDATE pg_settings SET setting = '7777' WHERE name = 'work_mem'")
            .ax("SELECT 'is', current_setting('work_mem')")
            .shows("D(is|7777kB)")
            .a("SELECT count(*) FROM torture.ported WHERE set_config('work_mem', '8888kB', false) = '8888kB'")
            .a("SELECT 'is', current_setting('work_mem')")
            .shows("D(is|8888kB)"),
        port("recovery", "no server is a standby")
            .a("SELECT 'recovery', pg_is_in_recovery(), current_setting('in_hot_standby')")
            .shows("D(recovery|f|off)")
            .a("SHOW transaction_read_only")
            .shows("D(off)")
            .ax("SHOW in_hot_standby")
            .shows("D(off)")
            .ax("SELECT 'setting', setting FROM pg_settings WHERE name = 'transaction_read_only'")
            .shows("D(setting|off)"),
        port("seed", "setseed, then random()")
            .a("SELECT setseed(0.25)")
            .a("SELECT 'same', random() AS r")
            .shows("D(same"),
    ]
}

/// Read at once what was made at once.
fn definitions() -> Vec<Scenario> {
    let drop = "DROP TABLE IF EXISTS torture.port_new; DROP FUNCTION IF EXISTS torture.port_fresh()";
    let made = |key: &str, about: &str| port(&format!("made-{key}"), about).setup(drop).cleanup(drop);
    vec![
        made("table", "a table")
            .a("CREATE TABLE torture.port_new (x) AS VALUES ('new')")
            .ax("SELECT x FROM torture.port_new")
            .shows("D(new)")
            .a("ALTER TABLE torture.port_new ADD y text DEFAULT 'more'")
            .a("SELECT x, y FROM torture.port_new")
            .shows("D(new|more)")
            .a("DROP TABLE torture.port_new")
            .ax("SELECT x FROM torture.port_new")
            .shows("42P01"),
        made("by-another", "a table that another client made")
            .b("SELECT 'there'")
            .a("CREATE TABLE torture.port_new (x) AS VALUES ('new')")
            .b("SELECT x FROM torture.port_new")
            .shows("D(new)"),
        made("function", "a function, then another in its place")
            .a("CREATE FUNCTION torture.port_fresh() RETURNS text LANGUAGE sql AS $$ SELECT 'reads' $$")
            .a("SELECT torture.port_fresh()")
            .shows("D(reads)")
            .a("CREATE OR REPLACE FUNCTION torture.port_fresh() RETURNS text LANGUAGE plpgsql AS \
                $$ BEGIN INSERT INTO torture.ported VALUES (2); RETURN 'writes'; EXCEPTION WHEN OTHERS THEN RETURN 'nothing'; END $$")
            .a("SELECT torture.port_fresh()")
            .shows("D(writes)")
            .bx("SELECT torture.port_fresh()")
            .shows("D(writes)")
            .a(ROWS)
            .shows("D(rows|3)"),
        made("replaced-beside", "a function that somebody replaces")
            .setup("CREATE FUNCTION torture.port_fresh() RETURNS text LANGUAGE sql AS $$ SELECT 'reads' $$")
            .a("SELECT torture.port_fresh()")
            .shows("D(reads)")
            .b("CREATE OR REPLACE FUNCTION torture.port_fresh() RETURNS text LANGUAGE plpgsql AS \
                $$ BEGIN INSERT INTO torture.ported VALUES (2); RETURN 'writes'; END $$")
            .a("SELECT torture.port_fresh()")
            .shows("D(writes)")
            .a(ROWS)
            .shows("D(rows|2)"),
        made("value", "a value of an enum")
            .setup("DROP TYPE IF EXISTS torture.port_mood; CREATE TYPE torture.port_mood AS ENUM ('fine')")
            .a("ALTER TYPE torture.port_mood ADD VALUE 'better'")
            .a("SELECT 'better'::torture.port_mood")
            .shows("D(better)"),
        made("grant", "a right")
            .setup(format!("CREATE TABLE torture.port_new (x) AS VALUES ('new'); REVOKE ALL ON torture.port_new FROM {OTHER_ROLE}"))
            .a(format!("GRANT SELECT ON torture.port_new TO {OTHER_ROLE}"))
            .a(format!("SET ROLE {OTHER_ROLE}"))
            .a("SELECT x FROM torture.port_new")
            .shows("D(new)")
            .a("RESET ROLE")
            .a(format!("REVOKE SELECT ON torture.port_new FROM {OTHER_ROLE}"))
            .a(format!("SET ROLE {OTHER_ROLE}"))
            .a("SELECT x FROM torture.port_new")
            .shows("42501")
            .a("RESET ROLE"),
        made("refreshed", "a materialized view")
            .setup("DROP MATERIALIZED VIEW IF EXISTS torture.port_kept")
            .setup("CREATE MATERIALIZED VIEW torture.port_kept AS SELECT count(*) AS n FROM torture.ported")
            .a("INSERT INTO torture.ported VALUES (2)")
            .a("REFRESH MATERIALIZED VIEW torture.port_kept")
            .a("SELECT 'kept', n FROM torture.port_kept")
            .shows("D(kept|2)"),
    ]
}

/// Errors that any server gives, and limits.
fn answers() -> Vec<Scenario> {
    [
        both("error-division", "an error of a read", "SELECT 1 / 0 FROM torture.ported", "22012", 1),
        both("error-column", "a column that is not there", "SELECT nothing FROM torture.ported", "42703", 1),
        both("error-table", "a table that is not there", "SELECT 1 FROM torture.port_nowhere", "42P01", 1),
        both("error-function", "a function that is not there", "SELECT torture.port_nowhere()", "42883", 1),
        both("error-syntax", "no SQL", "SELECT FROM WHERE", "42601", 1),
        both("error-write", "a write that fails", "INSERT INTO torture.ported SELECT 1 / 0", "22012", 1),
        both(
            "error-raised",
            "an error that looks like a refusal",
            "DO $$ BEGIN RAISE read_only_sql_transaction; END $$",
            "25006",
            1,
        ),
        both("error-unknown", "a word that is no statement", "FROBNICATE torture.ported", "42601", 1),
        vec![
            port("error-raised-again", "a function that raises what a standby says")
                .setup(
                    "CREATE OR REPLACE FUNCTION torture.port_raises() RETURNS int LANGUAGE plpgsql AS \
                        $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = '25006'; END $$",
                )
                .a("SELECT torture.port_raises()")
                .shows("mine")
                .a("SELECT torture.port_raises()")
                .shows("mine"),
            port("canceled", "a read that is canceled")
                .send(Player::A, &[query("SELECT 'slept', pg_sleep(30)")])
                .step(Player::B, Act::AwaitActive("SELECT 'slept', pg_sleep(30)".to_owned()))
                .step(Player::A, Act::Cancel)
                .read(Player::A, Until::Ready(1))
                .shows("57014")
                .a(ROWS)
                .shows("D(rows|1)"),
            port("timeout", "a read that lasts too long")
                .a("SET statement_timeout = '50ms'")
                .a("SELECT count(*) FROM torture.ported, pg_sleep(10)")
                .shows("57014")
                .a("RESET statement_timeout")
                .a(ROWS)
                .shows("D(rows|1)"),
        ],
    ]
    .concat()
}
