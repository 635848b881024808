//! More doors to a session's state that no statement names: what types, operators, views, triggers and SQL in a parameter run.

use super::script::{CUSTOM, PLAIN, Protocol};
use super::ways::{followed, way};
use crate::flight::{bind, execute, parse, query, sync};
use crate::scenario::{Act, Need, Player, Scenario, Until};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = Vec::new();
    for knob in [PLAIN, CUSTOM] {
        cases.extend(DOORS.iter().map(|&(key, about, sql)| way(key, about, &knob, Protocol::Simple, sql)));
    }
    cases.extend(FIXED.iter().map(|&(key, about, sql)| way(key, about, &PLAIN, Protocol::Simple, sql)));
    cases.extend(bound());
    cases.extend(undone());
    cases.extend(left());
    cases.extend(left_by_ends());
    cases
}

/// Key, what it is, and the statements.
const DOORS: &[(&str, &str, &str)] = &[
    (
        "window",
        "set_config in a window",
        "SELECT count(*) OVER (PARTITION BY set_config('{n}', '{1}', false))",
    ),
    ("having", "set_config in HAVING", "SELECT 1 HAVING set_config('{n}', '{1}', false) IS NOT NULL"),
    (
        "group",
        "set_config in GROUP BY",
        "SELECT count(*) FROM (VALUES (1)) v (x) GROUP BY set_config('{n}', '{1}', false)",
    ),
    ("distinct", "set_config in DISTINCT ON", "SELECT DISTINCT ON (set_config('{n}', '{1}', false)) 1"),
    (
        "filter",
        "set_config in FILTER",
        "SELECT count(*) FILTER (WHERE set_config('{n}', '{1}', false) IS NOT NULL)",
    ),
    (
        "sample",
        "a function in TABLESAMPLE",
        "SELECT count(*) FROM torture.things TABLESAMPLE BERNOULLI (length(torture.set_it('{n}', '{1}')))",
    ),
    (
        "recursive",
        "a function in a recursive CTE",
        "WITH RECURSIVE r (x) AS (SELECT 1 UNION ALL SELECT x + length(torture.set_it('{n}', '{1}')) FROM r WHERE x < 2) \
         SELECT count(*) FROM r",
    ),
    (
        "xml",
        "SQL that query_to_xml runs",
        "SELECT length(query_to_xml('SELECT set_config(''{n}'', ''{1}'', false)', false, false, '')::text) > 0",
    ),
    (
        "xml-glued",
        "glued SQL that query_to_xml runs",
        "SELECT length(query_to_xml('SELECT set_' || 'config(''{n}'', ''{1}'', false)', false, false, '')::text) > 0",
    ),
    (
        "ts-stat",
        "glued SQL that ts_stat runs",
        "SELECT count(*) FROM ts_stat('SELECT to_tsvector(set_' || 'config(''{n}'', ''{1}'', false))')",
    ),
    (
        "ts-rewrite",
        "glued SQL that ts_rewrite runs",
        "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, to_tsquery(''b'') WHERE set_' || \
         'config(''{n}'', ''{1}'', false) IS NOT NULL') IS NOT NULL",
    ),
    ("domain-array", "the CHECK of an array's domain", "SELECT ARRAY['{n}={1}']::torture.doorway[]"),
    (
        "domain-composite",
        "the CHECK of a domain in a composite type",
        "SELECT ROW('{n}={1}')::torture.holder",
    ),
    (
        "domain-json",
        "the CHECK of a domain by json_to_record",
        "SELECT * FROM json_to_record('{\"d\": \"{n}={1}\"}') AS r (d torture.doorway)",
    ),
    (
        "domain-populate",
        "the CHECK of a domain by json_populate_record",
        "SELECT * FROM json_populate_record(NULL::torture.holder, '{\"d\": \"{n}={1}\"}')",
    ),
    ("domain-column", "the CHECK of a column's domain", "INSERT INTO torture.typed VALUES ('{n}={1}')"),
    ("domain-variable", "the CHECK of a variable's domain", "SELECT torture.declares('{n}={1}')"),
    (
        "overload",
        "a function with the name of one of PostgreSQL's",
        "SELECT torture.lower(ROW('{n}', '{1}')::torture.setting)",
    ),
    (
        "final",
        "an aggregate's final function",
        "SELECT torture.set_last(x, y) FROM (VALUES ('{n}', '{1}')) v (x, y)",
    ),
    (
        "aggregate-window",
        "an aggregate over a window",
        "SELECT torture.set_all(x, y) OVER () FROM (VALUES ('{n}', '{1}')) v (x, y)",
    ),
    (
        "like",
        "an operator that LIKE stands for",
        "BEGIN; SET LOCAL search_path = torture; SELECT ROW('{n}', '{1}')::setting LIKE 'x'; COMMIT",
    ),
    ("partition", "a trigger of a partition", "INSERT INTO torture.parts VALUES ('{n}', '{1}')"),
    (
        "cascade",
        "a trigger that a foreign key's cascade reaches",
        "INSERT INTO torture.owners VALUES ('{n}'); INSERT INTO torture.owned VALUES ('{n}', '{1}'); \
         DELETE FROM torture.owners",
    ),
    (
        "update-trigger",
        "a trigger of UPDATE",
        "INSERT INTO torture.renewed VALUES ('x', 'y'); UPDATE torture.renewed SET n = '{n}', v = '{1}'",
    ),
    (
        "conflict-update",
        "ON CONFLICT DO UPDATE",
        "INSERT INTO torture.owners VALUES ('x') ON CONFLICT DO NOTHING; INSERT INTO torture.owners VALUES ('x') \
         ON CONFLICT (n) DO UPDATE SET n = left(torture.set_it('{n}', '{1}'), 0) || 'x'",
    ),
    (
        "statement-trigger",
        "a trigger for each statement",
        "INSERT INTO torture.batches VALUES ('{n}', '{1}')",
    ),
    ("instead", "an INSTEAD OF trigger of a view", "INSERT INTO torture.instead VALUES ('{n}', '{1}')"),
    (
        "instead-rule",
        "a rule that UPDATE reaches",
        "INSERT INTO torture.told VALUES ('x', 'y'); UPDATE torture.told SET n = '{n}', v = '{1}'",
    ),
    (
        "writable-cte",
        "a trigger that a writing CTE reaches",
        "WITH w AS (INSERT INTO torture.doors VALUES ('{n}', '{1}') RETURNING 1) SELECT count(*) FROM w",
    ),
    (
        "hold",
        "a function that a cursor WITH HOLD runs at COMMIT",
        "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT torture.set_it('{n}', '{1}'); COMMIT; CLOSE held",
    ),
    (
        "prepare-execute",
        "EXPLAIN ANALYZE of EXECUTE",
        "PREPARE way AS SELECT torture.set_it('{n}', '{1}'); EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) \
         EXECUTE way; DEALLOCATE way",
    ),
    ("do-nested", "a DO block in a DO block", "DO $a$ BEGIN DO $b$ BEGIN SET {n} = '{1}'; END $b$; END $a$"),
];

/// The same with a value that the fixture says.
const FIXED: &[(&str, &str, &str)] = &[
    ("default-argument", "the default of an argument", "SELECT torture.by_default()"),
    ("table-command", "TABLE of a view", "TABLE torture.one"),
    ("whole-row", "a view's whole row", "SELECT one FROM torture.one"),
    (
        "table-to-xml",
        "a view that table_to_xml reads by name",
        "SELECT length(table_to_xml(('torture.' || 'one')::regclass, false, false, '')::text) > 0",
    ),
    (
        "settings-view",
        "UPDATE of a view of pg_settings",
        "UPDATE torture.settings SET setting = '7777' WHERE name = 'work_mem'",
    ),
    (
        "characteristics",
        "a setting of a function behind its own SET clause",
        "SELECT torture.set_in_clause()",
    ),
];

/// SQL in a parameter.
fn bound() -> Vec<Scenario> {
    let runs =
        [("xml", "query_to_xml($1, false, false, '')"), ("stat", "(SELECT count(*) FROM ts_stat($1))")];
    let sql = [
        "SELECT set_config('work_mem', '7777kB', false)",
        "SELECT to_tsvector(set_config('work_mem', '7777kB', false))",
    ];
    let scenario = |((key, call), sql): ((&str, &str), &str)| {
        let parts = [
            parse("", &format!("SELECT {call} IS NOT NULL")),
            bind("", &[Some(sql)]),
            execute("", 0),
            sync(),
        ];
        let about = format!("SQL in a parameter of {call}").replace('|', " ");
        followed(format!("way-bound-{key}"), about, &PLAIN, &[crate::flight::Flight::joined(&parts)])
    };
    runs.into_iter().zip(sql).map(scenario).collect()
}

const READ: &str = "SELECT current_setting('work_mem')";

/// What an error or a cancel undoes: neither its client has it, nor another.
fn undone() -> Vec<Scenario> {
    let nobody = |scenario: Scenario| {
        scenario.b(READ).hides("7777kB").a(READ).hides("7777kB").a("SELECT 'well'").shows("D(well)")
    };
    vec![
        nobody(
            Scenario::new("undone-error", "a function sets and fails")
                .a("SELECT torture.set_it('work_mem', '7777kB'), 1 / (SELECT count(*) FROM torture.ruled WHERE n = 'none')")
                .shows("22012"),
        ),
        nobody(
            Scenario::new("undone-behind", "a SET and an error in one Query")
                .a("SET work_mem = '7777kB'; SELECT 1 / 0")
                .shows("22012"),
        ),
        nobody(
            Scenario::new("undone-do", "a DO block sets and fails")
                .a("DO $$ BEGIN SET work_mem = '7777kB'; PERFORM 1 / 0; END $$")
                .shows("22012"),
        ),
        nobody(
            Scenario::new("undone-series", "a function in a series that fails behind it")
                .flight(
                    Player::A,
                    &[
                        crate::flight::unnamed("SELECT torture.set_it('work_mem', '7777kB')"),
                        crate::flight::unnamed("SELECT 1 / 0"),
                        sync(),
                    ],
                )
                .shows("22012"),
        ),
        nobody(
            Scenario::new("undone-caught", "a function's handler undoes what its block has set")
                .a("DO $$ BEGIN BEGIN SET work_mem = '7777kB'; PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END; END $$"),
        ),
        nobody(
            Scenario::new("undone-cancel", "a function sets, and is canceled")
                .send(
                    Player::A,
                    &[query("SELECT torture.set_it('work_mem', '7777kB'), 'cancel hunted' FROM pg_sleep(20)")],
                )
                .step(Player::A, Act::AwaitActive("cancel hunted".to_owned()))
                .step(Player::A, Act::Cancel)
                .read(Player::A, Until::Ready(1))
                .shows("57014"),
        ),
        nobody(
            Scenario::new("undone-local", "SET LOCAL in a function ends with its transaction")
                .a("BEGIN")
                .a("SELECT torture.set_local('work_mem', '7777kB')")
                .a(READ)
                .shows("7777kB")
                .a("COMMIT"),
        ),
        nobody(
            Scenario::new("undone-procedure", "a procedure sets and rolls back")
                .a("CALL torture.set_and_undo('work_mem', '7777kB')"),
        ),
    ]
}

/// What is no setting.
fn left() -> Vec<Scenario> {
    let free = "SELECT pg_try_advisory_xact_lock(815)";
    let seeded = "SELECT 'of the seed', random() IN (SELECT r FROM torture.seeded)";
    vec![
        Scenario::new("left-lock", "a trigger locks")
            .a("INSERT INTO torture.locking VALUES (815)")
            .b(free)
            .shows("D(f)")
            .step(Player::A, Act::Terminate)
            .step(Player::B, Act::AskUntil(query(free), "D(t)".to_owned()))
            .shows("D(t)"),
        Scenario::new("left-temporary", "a trigger makes a temporary table")
            .a("INSERT INTO torture.tempting VALUES (1)")
            .b("SELECT x FROM hunted_temp")
            .hides("D(own)")
            .a("SELECT x FROM hunted_temp")
            .shows("D(own)")
            .ask(Player::C, "SELECT x FROM hunted_temp")
            .hides("D(own)"),
        Scenario::new("left-clause", "a function whose SET clause names pg_temp makes a table")
            .a("SELECT torture.make_in_clause()")
            .b("SELECT x FROM clause_temp")
            .hides("D(own)")
            .a("SELECT x FROM clause_temp")
            .shows("D(own)")
            .ask(Player::C, "SELECT x FROM clause_temp")
            .hides("D(own)"),
        Scenario::new("left-prepared", "PREPARE in a DO block")
            .a("DO $$ BEGIN EXECUTE 'PREPARE hidden AS SELECT ''own'''; END $$")
            .b("EXECUTE hidden")
            .shows("26000")
            .hides("D(own)")
            .a("EXECUTE hidden")
            .shows("D(own)"),
        Scenario::new("left-cursor", "a cursor WITH HOLD of a DO block")
            .a("DO $$ BEGIN EXECUTE 'DECLARE hidden CURSOR WITH HOLD FOR SELECT ''own'''; END $$")
            .b("FETCH hidden")
            .shows("34000")
            .hides("D(own)")
            .a("FETCH hidden")
            .shows("D(own)"),
        Scenario::new("left-lastval", "a trigger takes from a sequence")
            .setup("DROP SEQUENCE IF EXISTS torture.taken; CREATE SEQUENCE torture.taken START 4711")
            .a("INSERT INTO torture.counting VALUES (1)")
            .b("SELECT lastval()")
            .hides("D(4711)")
            .a("SELECT lastval()")
            .shows("D(4711)"),
        Scenario::new("left-seed", "setseed in WHERE")
            .setup("DROP TABLE IF EXISTS torture.seeded; SELECT setseed(0.5)")
            .setup("CREATE TABLE torture.seeded AS SELECT random() AS r FROM generate_series(1, 100)")
            .a("SELECT 1 WHERE setseed(0.5)::text IS NOT NULL")
            .b(seeded)
            .hides("|t)")
            .a(seeded)
            .shows("|t)"),
        Scenario::new("left-large-object", "a descriptor of a large object ends with its transaction")
            .a("BEGIN")
            .a("SELECT 'open', lo_open(lo_create(0), 131072) >= 0")
            .shows("D(open|t)")
            .a("COMMIT")
            .b("SELECT loread(0, 1)")
            .shows("42704")
            .a("SELECT loread(0, 1)")
            .shows("42704"),
    ]
}

/// Settings that a transaction or a function leaves in an odd way.
fn left_by_ends() -> Vec<Scenario> {
    vec![
        Scenario::new("left-two-phase", "a SET in a transaction that is prepared")
            .needs(Need::PreparedTransactions)
            .cleanup("ROLLBACK PREPARED 'torture hunted'")
            .a("BEGIN; SET work_mem = '7777kB'")
            .a("PREPARE TRANSACTION 'torture hunted'")
            .b(READ)
            .hides("7777kB")
            .a(READ)
            .shows("7777kB")
            .b("ROLLBACK PREPARED 'torture hunted'")
            .a(READ)
            .shows("7777kB"),
        Scenario::new("left-two-phase-function", "a function's setting in a transaction that is prepared")
            .needs(Need::PreparedTransactions)
            .cleanup("ROLLBACK PREPARED 'torture hunted too'")
            .a("BEGIN; SELECT torture.set_it('work_mem', '7777kB')")
            .a("PREPARE TRANSACTION 'torture hunted too'")
            .b(READ)
            .hides("7777kB")
            .a(READ)
            .shows("7777kB")
            .a("ROLLBACK PREPARED 'torture hunted too'"),
        Scenario::new("left-definer", "a SECURITY DEFINER function sets")
            .a("SELECT torture.set_as_owner('work_mem', '7777kB')")
            .b(READ)
            .hides("7777kB")
            .a(READ)
            .shows("7777kB")
            .ask(Player::C, READ)
            .hides("7777kB"),
        Scenario::new("left-from-current", "a function made with SET FROM CURRENT")
            .a("BEGIN; SET LOCAL work_mem = '7777kB'; CREATE OR REPLACE FUNCTION torture.of_now() RETURNS text \
                LANGUAGE sql SET work_mem FROM CURRENT AS $$ SELECT current_setting('work_mem') $$; COMMIT")
            .a("SELECT torture.of_now()")
            .shows("7777kB")
            .b("SELECT torture.of_now()")
            .shows("7777kB")
            .b(READ)
            .hides("7777kB")
            .a(READ)
            .hides("7777kB"),
    ]
}
