//! Settings, in every way there is to make them.

use super::Action;
use super::statements::run_once;
use crate::generator::Draft;
use crate::script::Step;

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 10, write: set },
    Action { weight: 6, write: set_in_parts },
    Action { weight: 4, write: set_role },
    Action { weight: 5, write: set_search_path },
    Action { weight: 3, write: set_encoding },
    Action { weight: 2, write: set_characteristics },
    Action { weight: 4, write: reset },
    Action { weight: 3, write: discard },
    Action { weight: 6, write: set_config },
    Action { weight: 3, write: set_config_in_odd_places },
    Action { weight: 3, write: set_config_by_bind },
    Action { weight: 2, write: set_config_by_call },
    Action { weight: 3, write: set_in_other_ways },
    Action { weight: 4, write: set_in_a_block },
    Action { weight: 1, write: idle_session_timeout },
];

/// Names with values, as they stand behind `SET name TO`.
const SETTINGS: &[(&str, &[&str])] = &[
    ("work_mem", &["'7MB'", "8192", "'0.01GB'", "DEFAULT"]),
    ("statement_timeout", &["'31s'", "32000", "'1min'", "0"]),
    ("lock_timeout", &["'33s'", "DEFAULT"]),
    ("idle_in_transaction_session_timeout", &["'34s'", "0"]),
    ("extra_float_digits", &["0", "-3", "3"]),
    ("bytea_output", &["'escape'", "hex"]),
    ("IntervalStyle", &["'iso_8601'", "postgres_verbose", "sql_standard"]),
    ("lc_monetary", &["'C'", "'POSIX'"]),
    ("enable_seqscan", &["off", "on", "f", "'no'", "DEFAULT"]),
    ("random_page_cost", &["1.5", "'2.25'", "1e1"]),
    ("plan_cache_mode", &["force_generic_plan", "auto", "force_custom_plan"]),
    ("application_name", &["'moved'", "'it''s'", "E'tab\\there'", "''", "zwölf", "'zw\u{f6}lf'"]),
    ("app.tenant", &["'a'", "'b'", "''", "c", "DEFAULT"]),
    ("app.note", &["'Zürich'", "'two words'", "'quote '' and \\ backslash'", "E'new\\nline'", "17"]),
    ("\"app\".\"x\"", &["1.5", "on", "'$$'"]),
    ("row_security", &["on", "off"]),
    ("default_transaction_isolation", &["'repeatable read'", "\"read committed\""]),
    ("default_transaction_read_only", &["on", "off"]),
    ("default_transaction_deferrable", &["on"]),
    ("escape_string_warning", &["off"]),
    ("standard_conforming_strings", &["on", "off"]),
    ("backslash_quote", &["off", "safe_encoding"]),
    ("xmlbinary", &["hex"]),
    ("xmloption", &["document"]),
    ("quote_all_identifiers", &["on"]),
    ("transform_null_equals", &["on"]),
    ("array_nulls", &["off"]),
    ("default_text_search_config", &["'pg_catalog.simple'", "'english'"]),
    ("client_min_messages", &["debug1", "error", "notice"]),
    ("geqo_seed", &["0.25"]),
    ("default_statistics_target", &["101"]),
    ("temp_buffers", &["'9MB'"]),
    ("vacuum_cost_delay", &["'3ms'"]),
    ("effective_cache_size", &["'1GB'"]),
    ("gin_fuzzy_search_limit", &["7"]),
    ("tcp_keepalives_idle", &["61"]),
    ("log_statement", &["'all'"]),
    ("no_such_setting", &["1"]),
];

fn set(draft: &mut Draft) {
    let (name, value) = setting(draft);
    let scope = draft.random.one(&["", "", "", "SESSION ", "LOCAL "]);
    let equals = draft.random.one(&["=", "TO"]);
    let name =
        if draft.random.chance(20) && !name.contains('"') { name.to_uppercase() } else { name.to_owned() };
    draft.query(format!("SET {scope}{name} {equals} {value}"));
}

fn setting(draft: &mut Draft) -> (&'static str, &'static str) {
    let (name, values) = draft.random.pick(SETTINGS);
    (name, draft.random.pick(values))
}

/// Settings whose value is made of parts, or has other words for them.
fn set_in_parts(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SET DateStyle = 'SQL'",
        "SET DateStyle = 'DMY'",
        "SET datestyle TO postgres",
        "SET DateStyle TO German, MDY",
        "SET DateStyle TO ISO",
        "SET DateStyle TO ymd",
        "SET DateStyle TO DEFAULT",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET TIME ZONE -7",
        "SET TIME ZONE 5.5",
        "SET TIME ZONE INTERVAL '-08:30' HOUR TO MINUTE",
        "SET TIME ZONE LOCAL",
        "SET TIME ZONE DEFAULT",
        "SET TimeZone = 'PST8PDT'",
        "SET TimeZone = '<+03>-03'",
        "SET timezone TO 'europe/berlin'",
        "SELECT set_config('DateStyle', 'SQL', false), set_config('DateStyle', 'DMY', false)",
        "SET LOCAL DateStyle = 'SQL'",
    ]);
    draft.query(sql);
}

fn set_role(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SET ROLE {member}",
        "SET ROLE {member}",
        "SET ROLE NONE",
        "RESET ROLE",
        "SET LOCAL ROLE {member}",
        "SET role TO {member}",
        "SELECT set_config('role', '{member}', false)",
        "SET SESSION AUTHORIZATION {app}",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET SESSION AUTHORIZATION",
        "SET ROLE postgres",
    ]);
    draft.query(sql);
}

fn set_search_path(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SET search_path = one",
        "SET search_path TO two, public",
        "SET search_path TO \"$user\", public",
        "SET SCHEMA 'two'",
        "SET search_path = ''",
        "SET LOCAL search_path = one, public",
        "SELECT set_config('search_path', 'one', false)",
        "SELECT set_config('search_path', 'two,public', true)",
        "SET search_path = 'one, public'",
        "RESET search_path",
    ]);
    draft.query(sql);
}

fn set_encoding(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SET NAMES 'LATIN1'",
        "SET client_encoding = 'WIN1252'",
        "SET client_encoding TO 'UTF8'",
        "SET NAMES DEFAULT",
        "SET NAMES 'SQL_ASCII'",
        "RESET client_encoding",
    ]);
    draft.query(sql);
    if draft.random.chance(60) {
        let sql = draft.random.one(&[
            "SET app.note = 'Zürich'",
            "SET application_name = 'größe'",
            "SET app.x = 'ÿé'",
        ]);
        draft.query(sql);
    }
}

fn set_characteristics(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    ]);
    draft.query(sql);
}

fn reset(draft: &mut Draft) {
    let (name, _) = setting(draft);
    let all = ["RESET ALL", "RESET DateStyle", "RESET TimeZone", "RESET TIME ZONE", "RESET app.tenant"];
    let sql =
        if draft.random.chance(50) { format!("RESET {name}") } else { draft.random.one(&all).to_owned() };
    draft.query(sql);
}

fn discard(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "DISCARD ALL",
        "DISCARD ALL",
        "DISCARD PLANS",
        "DISCARD SEQUENCES",
        "DISCARD TEMP",
    ]);
    draft.query(sql);
}

fn set_config(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT set_config('app.tenant', 'a', false)",
        "SELECT set_config('app.tenant', 'b', true)",
        "SELECT set_config('work_mem', '9MB', false) AS w, 1 AS one",
        "SELECT pg_catalog.set_config('app.tenant', 'c', false)",
        "SELECT set_config('app.note', 'one', false), set_config('app.x', 'two', false)",
        "SELECT set_config('app.note', NULL, false)",
        "SELECT set_config('app.no' || 'te', 'joined', false)",
        "SELECT set_config('app.note', 'it''s', is_local => false)",
        "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
        "SELECT upper(set_config('app.note', 'nested', false))",
        "SELECT set_config('statement_timeout', '35s', false)",
        "SELECT set_config('no_such', '1', false)",
        "SELECT set_config(n, v, false) FROM (VALUES ('app.note', 'row'), ('app.x', 'row')) AS t (n, v)",
    ]);
    draft.query(sql);
}

fn set_config_in_odd_places(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT 1 WHERE set_config('app.tenant', 'a', false) IS NOT NULL",
        "WITH s AS (SELECT set_config('app.tenant', 'b', false) AS v) SELECT v FROM s",
        "SELECT (SELECT set_config('app.note', 'sub', false))",
        "SELECT id FROM items ORDER BY set_config('app.x', id::text, false)",
        "SELECT CASE WHEN true THEN set_config('app.note', 'case', false) END",
        "VALUES (set_config('app.note', 'values', false))",
        "SELECT s FROM set_config('app.note', 'from', false) AS s",
        "TABLE entered",
        "SELECT count(*) FROM items GROUP BY set_config('app.x', 'grouped', false)",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT set_config('app.note', 'explained', false)",
        "SELECT \"set_config\"('app.note', 'quoted', false)",
        "SELECT U&\"set\\005fconfig\"('app.note', 'unicode', false)",
        "SELECT set_config/* */('app.note', 'comment', false)",
        "COPY (SELECT set_config('app.note', 'copied', false)) TO STDOUT",
        "SELECT query_to_xml('SELECT set_config(''app.note'', ''xml'', false)', true, true, '')",
    ]);
    draft.query(sql);
}

fn set_config_by_bind(draft: &mut Draft) {
    let (name, value) = draft.random.pick(&[
        ("app.tenant", "a"),
        ("app.tenant", "b"),
        ("work_mem", "11MB"),
        ("DateStyle", "DMY"),
        ("search_path", "two"),
        ("app.note", "grün"),
    ]);
    let is_local = draft.random.one(&["false", "f", "true"]);
    let (sql, values): (&str, Vec<&str>) = draft.random.pick(&[
        ("SELECT set_config($1, $2, $3)", vec![name, value, is_local]),
        ("SELECT set_config($1, $2, false)", vec![name, value]),
        ("SELECT set_config('app.tenant', $1, false)", vec![value]),
    ]);
    run_once(draft, sql, &values);
}

/// The OID of set_config(text, text, bool), pg_proc.dat.
pub(super) const SET_CONFIG: u32 = 2078;

fn set_config_by_call(draft: &mut Draft) {
    let value = draft.random.one(&["a", "b"]);
    let is_local = draft.random.one(&["f", "f", "t"]);
    let arguments = ["app.tenant", value, is_local].map(str::to_owned).to_vec();
    draft.push(Step::Call { function: SET_CONFIG, arguments });
}

fn set_in_other_ways(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "UPDATE pg_settings SET setting = '12MB' WHERE name = 'work_mem'",
        "UPDATE pg_catalog.pg_settings SET setting = 'Asia/Tokyo' WHERE name ILIKE 'timezone'",
        "DO $$ BEGIN SET work_mem = '13MB'; END $$",
        "DO $$ BEGIN PERFORM set_config('app.tenant', 'a', false); END $$",
        "SET work_mem = '14MB'; SET app.note = 'second'",
        "SELECT 1; SET DateStyle = 'DMY'; SELECT 2",
        "SET work_mem = '15MB'; SELECT 1/0; SET app.note = 'never'",
        "BEGIN; SET work_mem = '16MB'; COMMIT; SET LOCAL app.note = 'never'",
        "/* a comment */ SET /* another */ work_mem -- third\n = '17MB'",
        "SET SEED TO 0.5",
        "SET XML OPTION DOCUMENT",
        "SET SESSION work_mem TO '18MB';",
        "SET work_mem FROM CURRENT",
        "SET app.many = 'a', 'b'",
        "SET search_path = one; SELECT v FROM orders; RESET search_path",
    ]);
    draft.query(sql);
}

/// Settings that a transaction, or a part of it, keeps or takes back.
fn set_in_a_block(draft: &mut Draft) {
    let begin = draft.random.one(&BEGIN);
    draft.query(begin);
    set(draft);
    if draft.random.chance(40) {
        draft.query("SAVEPOINT s");
        set(draft);
        let sql = draft.random.one(&["ROLLBACK TO s", "RELEASE s", "SELECT 1/0", "ROLLBACK TO SAVEPOINT s"]);
        draft.query(sql);
    }
    if draft.random.chance(30) {
        set_in_parts(draft);
    }
    let end = draft.random.one(&[
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "END",
        "ABORT",
        "COMMIT AND CHAIN",
        "ROLLBACK AND CHAIN",
    ]);
    draft.query(end);
}

const BEGIN: [&str; 3] = ["BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"];

/// Sets the time-out of an idle session.
pub(crate) const IDLE_TIMEOUT: &str = "SET idle_session_timeout";

/// The session ends by its own time-out, and its client is told so. One without a server has nobody to tell it.
fn idle_session_timeout(draft: &mut Draft) {
    draft.push_alone(Step::Query("ROLLBACK".to_owned()));
    draft.push_alone(Step::Query(format!("{IDLE_TIMEOUT} = '250ms'")));
    draft.push_alone(Step::Query("SELECT 1".to_owned()));
    draft.push_alone(Step::Wait(600));
    draft.push(Step::Query("SELECT 'still here'".to_owned()));
}
