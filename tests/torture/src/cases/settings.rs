//! SET of each kind of parameter, kept by the one who set it and seen by nobody else.

use crate::scenario::{Need, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> =
        PARAMETERS.iter().map(|&(name, value, shown)| kept(name, value, shown)).collect();
    cases.extend(STATEMENTS.iter().map(|&(key, sql, name, shown)| stated(key, sql, name, shown)));
    cases.push(kept("session_replication_role", "replica", "replica").needs(Need::Superuser));
    cases.extend(effects());
    cases
}

/// Parameter, value, and what is shown of it that is not the default.
const PARAMETERS: &[(&str, &str, &str)] = &[
    ("work_mem", "7777kB", "7777kB"),
    ("enable_seqscan", "off", "D(off)"),
    ("statement_timeout", "77777ms", "77777ms"),
    ("lock_timeout", "77777ms", "77777ms"),
    ("idle_in_transaction_session_timeout", "77777ms", "77777ms"),
    ("application_name", "torture app", "torture app"),
    ("DateStyle", "German, DMY", "German, DMY"),
    ("IntervalStyle", "sql_standard", "sql_standard"),
    ("TimeZone", "Asia/Tokyo", "Asia/Tokyo"),
    ("timezone_abbreviations", "Australia", "Australia"),
    ("client_encoding", "LATIN1", "LATIN1"),
    ("standard_conforming_strings", "off", "off"),
    ("search_path", "torture", "torture"),
    ("default_transaction_isolation", "serializable", "serializable"),
    ("default_transaction_read_only", "on", "D(on)"),
    ("default_transaction_deferrable", "on", "D(on)"),
    ("bytea_output", "escape", "escape"),
    ("extra_float_digits", "-7", "-7"),
    ("row_security", "off", "D(off)"),
    ("transform_null_equals", "on", "D(on)"),
    ("client_min_messages", "error", "error"),
    ("plan_cache_mode", "force_generic_plan", "force_generic_plan"),
    ("quote_all_identifiers", "on", "D(on)"),
    ("default_tablespace", "pg_default", "pg_default"),
    ("default_text_search_config", "pg_catalog.german", "german"),
    ("synchronous_commit", "off", "D(off)"),
    ("check_function_bodies", "off", "D(off)"),
    ("array_nulls", "off", "D(off)"),
    ("random_page_cost", "7.7", "7.7"),
    ("temp_buffers", "800kB", "800kB"),
    ("xmloption", "document", "document"),
    ("escape_string_warning", "off", "D(off)"),
    ("torture.token", "seven", "seven"),
    ("torture.\"Odd\"", "seven", "seven"),
];

/// Statements that set a parameter under another name: key, SQL, parameter, what is shown.
const STATEMENTS: &[(&str, &str, &str, &str)] = &[
    ("time-zone", "SET TIME ZONE 'Asia/Tokyo'", "TimeZone", "Asia/Tokyo"),
    ("time-zone-interval", "SET TIME ZONE INTERVAL '-07:30' HOUR TO MINUTE", "TimeZone", "07:30"),
    ("names", "SET NAMES 'LATIN1'", "client_encoding", "LATIN1"),
    ("schema", "SET SCHEMA 'torture'", "search_path", "torture"),
    ("session-word", "SET SESSION work_mem TO '7777kB'", "work_mem", "7777kB"),
    ("list", "SET search_path TO torture, pg_catalog", "search_path", "torture"),
    ("comment", "SET /* to */ work_mem -- this\n = '7777kB';", "work_mem", "7777kB"),
    ("escape", "SET application_name = E'tort\\x75re'", "application_name", "torture"),
    ("dollar", "SET application_name = $a$torture$a$", "application_name", "torture"),
    (
        "characteristics",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "default_transaction_isolation",
        "serializable",
    ),
    (
        "characteristics-read-only",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "default_transaction_read_only",
        "D(on)",
    ),
    ("xml-option", "SET XML OPTION DOCUMENT", "xmloption", "document"),
    ("first-of-two", "SET work_mem = '7777kB'; SELECT 1", "work_mem", "7777kB"),
    ("between-two", "SELECT 1; SET work_mem = '7777kB'; SELECT 2", "work_mem", "7777kB"),
    ("after-begin", "BEGIN; SET work_mem = '7777kB'; COMMIT", "work_mem", "7777kB"),
    ("upper-case", "SeT WORK_MEM = '7777kB'", "work_mem", "7777kB"),
    ("part-of-composite", "SET DateStyle = 'dmy'", "DateStyle", "ISO, DMY"),
];

fn kept(name: &str, value: &str, shown: &str) -> Scenario {
    let key: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let sql = format!("SET {name} = '{value}'");
    let name = name.replace('"', "");
    seen_by_a_alone(format!("set-{key}"), format!("SET {name}, seen by nobody else"), &sql, &name, shown)
}

fn stated(key: &str, sql: &str, name: &str, shown: &str) -> Scenario {
    let about = format!("{name} set by {}", sql.replace('\n', " "));
    seen_by_a_alone(format!("statement-{key}"), about, sql, name, shown)
}

/// A runs SQL that sets a parameter: A keeps it, and neither one who was there before nor one who comes later sees it.
fn seen_by_a_alone(name: String, about: String, sql: &str, parameter: &str, shown: &str) -> Scenario {
    let read = format!("SELECT current_setting('{parameter}', true)");
    Scenario::new(name, about)
        .b(&read)
        .hides(shown)
        .a(sql)
        .b(&read)
        .hides(shown)
        .ask(Player::C, &read)
        .hides(shown)
        .a(&read)
        .shows(shown)
        .ax(&read)
        .shows(shown)
        .bx(&read)
        .hides(shown)
}

/// What a setting does, rather than what it is.
fn effects() -> Vec<Scenario> {
    vec![
        Scenario::new("effect-read-only", "default_transaction_read_only of one, INSERT of another")
            .table("effect_rows", "x int", "")
            .a("SET default_transaction_read_only = on")
            .b("INSERT INTO torture.effect_rows VALUES (1)")
            .hides("25006")
            .shows("INSERT 0 1")
            .a("INSERT INTO torture.effect_rows VALUES (2)")
            .shows("25006"),
        Scenario::new("effect-search-path", "one table name in two schemas")
            .setup("CREATE SCHEMA IF NOT EXISTS torture_other; DROP TABLE IF EXISTS torture_other.place")
            .setup("CREATE TABLE torture_other.place AS SELECT 'other' AS x")
            .table("place", "x text", "VALUES ('torture')")
            .a("SET search_path = torture")
            .b("SET search_path = torture_other")
            .a("SELECT x FROM place")
            .shows("D(torture)")
            .b("SELECT x FROM place")
            .shows("D(other)")
            .ax("SELECT x FROM place")
            .shows("D(torture)")
            .bx("SELECT x FROM place")
            .shows("D(other)")
            .a("DROP SCHEMA torture_other CASCADE"),
        Scenario::new("effect-pg-dump", "an empty search_path, as pg_dump sets it")
            .table("dumped", "x text", "VALUES ('row')")
            .b("SET search_path = torture")
            .a("SELECT pg_catalog.set_config('search_path', '', false)")
            .b("SELECT x FROM dumped")
            .shows("D(row)")
            .a("SELECT x FROM dumped")
            .shows("42P01"),
        Scenario::new("effect-timeout", "statement_timeout of one, a longer statement of another")
            .a("SET statement_timeout = '60ms'")
            .b("SELECT 'slept' FROM pg_sleep(0.15)")
            .hides("57014")
            .shows("D(slept)")
            .a("SELECT 'slept' FROM pg_sleep(2)")
            .shows("57014"),
        Scenario::new("effect-backslashes", "standard_conforming_strings of one, a backslash of another")
            .a("SET standard_conforming_strings = off; SET escape_string_warning = off")
            .b(r"SELECT 'a\\b'")
            .shows(r"D(a\\b)")
            .a(r"SELECT 'a\\b'")
            .shows(r"D(a\b)"),
        Scenario::new("effect-dates", "dates as each client has asked for them")
            .a("SET DateStyle = 'German'")
            .b("SET DateStyle = 'SQL, MDY'")
            .a("SELECT date '2026-02-01'")
            .shows("D(01.02.2026)")
            .b("SELECT date '2026-02-01'")
            .shows("D(02/01/2026)")
            .hides("D(01.02.2026)")
            .a("SET DateStyle = 'dmy'; SHOW DateStyle")
            .shows("German, DMY")
            .b("SHOW DateStyle")
            .shows("SQL, MDY")
            .a("SELECT date '01.02.2026'")
            .shows("D(01.02.2026)"),
        Scenario::new("effect-isolation", "default_transaction_isolation of one")
            .a("SET default_transaction_isolation = 'repeatable read'")
            .b("BEGIN; SHOW transaction_isolation; COMMIT")
            .hides("repeatable read")
            .a("BEGIN; SHOW transaction_isolation; COMMIT")
            .shows("repeatable read"),
        Scenario::new("effect-notices", "client_min_messages of one, a notice of another")
            .a("SET client_min_messages = error")
            .b("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
            .shows("heard")
            .a("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
            .hides("heard"),
        Scenario::new("effect-encoding", "client_encoding of one, a letter of another")
            .a("SET client_encoding = 'LATIN1'")
            .b("SELECT chr(233)")
            .shows("D(é)")
            .a("SELECT octet_length(convert_to(chr(233), 'UTF8')), length('é')")
            .shows("D(2|2)"),
    ]
}
