//! Ways to set a parameter that no SET says: `set_config` wherever an expression may stand or hide.

use super::script::{CUSTOM, Knob, PLAIN, Protocol, REPORTED};
use crate::flight::{self, Flight};
use crate::run::OTHER_ROLE;
use crate::scenario::{Need, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = Vec::new();
    for knob in [PLAIN, REPORTED, CUSTOM] {
        for &(key, about, sql) in WAYS {
            cases.push(way(key, about, &knob, Protocol::Simple, sql));
        }
        cases.extend(messages(&knob));
    }
    for &(key, about, sql) in WAYS.iter().filter(|(key, ..)| ALSO_EXTENDED.contains(key)) {
        cases.push(way(&format!("{key}-extended"), about, &PLAIN, Protocol::Extended, sql));
    }
    for knob in [PLAIN, REPORTED] {
        let sql = "UPDATE pg_settings SET setting = '{1}' WHERE name = '{n}'";
        // The setting's unit is kB, and it is written without.
        let knob = if knob.name == "work_mem" { Knob { values: ["7777", "8888"], ..knob } } else { knob };
        cases.push(way("update-pg-settings", "UPDATE pg_settings", &knob, Protocol::Simple, sql));
        cases.push(way("update-pg-settings-extended", "UPDATE pg_settings", &knob, Protocol::Extended, sql));
    }
    cases.push(policy());
    cases.push(function_with_set());
    cases
}

/// Those that are played by the extended protocol, too.
const ALSO_EXTENDED: &[&str] =
    &["set-config", "where", "cte", "plpgsql", "trigger", "do-block", "operator", "view", "procedure"];

/// Key, what it is, and the statements, `;` between them where they go in one Query.
const WAYS: &[(&str, &str, &str)] = &[
    ("set-config", "SELECT set_config", "SELECT set_config('{n}', '{1}', false)"),
    ("qualified", "pg_catalog.set_config", "SELECT pg_catalog.set_config('{n}', '{1}', false)"),
    (
        "quoted",
        "set_config in quotes, behind comments",
        "SELECT /* a /* b */ */ \"set_config\"/**/('{n}', '{1}', false) -- c",
    ),
    ("unicode", "set_config as a Unicode identifier", "SELECT U&\"set\\005Fconfig\"('{n}', '{1}', false)"),
    (
        "where",
        "set_config in WHERE",
        "SELECT 1 FROM (VALUES (1)) v (x) WHERE set_config('{n}', '{1}', false) IS NOT NULL",
    ),
    (
        "cte",
        "set_config in a CTE",
        "WITH s AS MATERIALIZED (SELECT set_config('{n}', '{1}', false) AS x) SELECT count(x) FROM s",
    ),
    (
        "lateral",
        "set_config in LATERAL",
        "SELECT 1 FROM (VALUES ('{1}')) v (x), LATERAL set_config('{n}', v.x, false)",
    ),
    (
        "order",
        "set_config in ORDER BY",
        "SELECT 1 FROM (VALUES (1), (2)) v (x) ORDER BY set_config('{n}', '{1}', false), x",
    ),
    ("case", "set_config in CASE", "SELECT CASE WHEN true THEN set_config('{n}', '{1}', false) END"),
    ("limit", "set_config in LIMIT", "SELECT 1 LIMIT length(set_config('{n}', '{1}', false))"),
    ("values", "set_config in VALUES", "VALUES (set_config('{n}', '{1}', false))"),
    (
        "returning",
        "set_config in RETURNING",
        "INSERT INTO torture.things VALUES ('a', 'b') RETURNING set_config('{n}', '{1}', false)",
    ),
    (
        "update",
        "set_config in UPDATE",
        "INSERT INTO torture.things VALUES ('a', 'b'); UPDATE torture.things SET v = set_config('{n}', '{1}', false)",
    ),
    (
        "delete",
        "set_config in DELETE",
        "INSERT INTO torture.things VALUES ('a', 'b'); DELETE FROM torture.things WHERE set_config('{n}', '{1}', false) <> ''",
    ),
    (
        "ctas",
        "CREATE TABLE AS",
        "CREATE TABLE torture.made AS SELECT set_config('{n}', '{1}', false); DROP TABLE torture.made",
    ),
    (
        "explain",
        "EXPLAIN ANALYZE",
        "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) SELECT set_config('{n}', '{1}', false)",
    ),
    ("copy", "COPY (SELECT set_config) TO STDOUT", "COPY (SELECT set_config('{n}', '{1}', false)) TO STDOUT"),
    (
        "cursor",
        "FETCH from a cursor",
        "BEGIN; DECLARE c CURSOR FOR SELECT set_config('{n}', '{1}', false); FETCH c; COMMIT",
    ),
    (
        "execute",
        "EXECUTE of SQL's PREPARE",
        "PREPARE way AS SELECT set_config('{n}', '{1}', false); EXECUTE way; DEALLOCATE way",
    ),
    ("do-block", "SET in a DO block", "DO $$ BEGIN SET {n} = '{1}'; END $$"),
    (
        "do-perform",
        "PERFORM set_config in a DO block",
        "DO $$ BEGIN PERFORM set_config('{n}', '{1}', false); END $$",
    ),
    (
        "do-execute",
        "EXECUTE of glued text in a DO block",
        "DO $$ BEGIN EXECUTE 'S' || 'ET {n} = ' || quote_literal('{1}'); END $$",
    ),
    ("plpgsql", "a PL/pgSQL function", "SELECT torture.set_it('{n}', '{1}')"),
    ("sql-function", "an SQL function", "SELECT torture.set_sql('{n}', '{1}')"),
    ("dynamic", "a function that runs glued text", "SELECT torture.set_dynamic('{n}', '{1}')"),
    ("nested", "a function in a function", "SELECT torture.set_deep('{n}', '{1}')"),
    ("immutable", "a function that says it is IMMUTABLE", "SELECT torture.set_immutable('{n}', '{1}')"),
    ("rows", "a function in FROM", "SELECT * FROM torture.set_rows('{n}', '{1}')"),
    ("caught", "a function that sets and catches an error", "SELECT torture.set_caught('{n}', '{1}')"),
    ("procedure", "CALL of a procedure that commits", "CALL torture.set_procedure('{n}', '{1}')"),
    (
        "aggregate",
        "an aggregate's step",
        "SELECT torture.set_all(x, y) FROM (VALUES ('{n}', '{1}')) v (x, y)",
    ),
    ("operator", "an operator", "SELECT '{n}' OPERATOR(torture.<~) '{1}'"),
    ("cast", "a cast", "SELECT ROW('{n}', '{1}')::torture.setting::text"),
    ("domain", "a domain's CHECK", "SELECT '{n}={1}'::torture.doorway"),
    ("domain-array-name", "the array type of a domain by its name", "SELECT '{{n}={1}}'::torture._doorway"),
    (
        "dynamic-variable",
        "EXECUTE of a variable of an odd name",
        "SELECT torture.set_procedure_named('SET {n} = ''{1}''')",
    ),
    ("trigger", "a trigger", "INSERT INTO torture.doors VALUES ('{n}', '{1}')"),
    (
        "deferred-trigger",
        "a deferred trigger, at COMMIT",
        "BEGIN; INSERT INTO torture.late_doors VALUES ('{n}', '{1}'); COMMIT",
    ),
    (
        "copy-trigger",
        "a trigger that INSERT ... SELECT reaches",
        "INSERT INTO torture.doors SELECT '{n}', '{1}'",
    ),
    ("rule", "a rule", "INSERT INTO torture.ruled VALUES ('{n}', '{1}')"),
    ("check", "a table's CHECK", "INSERT INTO torture.checked VALUES ('{n}', '{1}')"),
    ("index", "an index's expression", "INSERT INTO torture.indexed VALUES ('{n}', '{1}')"),
    ("generated", "a generated column", "INSERT INTO torture.generated (n, v) VALUES ('{n}', '{1}')"),
    (
        "view",
        "a view",
        "INSERT INTO torture.things VALUES ('{n}', '{1}'); SELECT count(s) FROM torture.viewed WHERE n = '{n}'",
    ),
    (
        "table-default",
        "a column's default",
        "CREATE TABLE torture.defaulted (x int, s text DEFAULT set_config('{n}', '{1}', false)); INSERT INTO torture.defaulted VALUES (1); DROP TABLE torture.defaulted",
    ),
    (
        "merge-insert",
        "INSERT ... ON CONFLICT",
        "INSERT INTO torture.doors VALUES ('{n}', '{1}') ON CONFLICT DO NOTHING",
    ),
];

pub(super) fn way(key: &str, about: &str, knob: &Knob, protocol: Protocol, sql: &str) -> Scenario {
    // By the extended protocol, one statement after the other.
    let sql = knob.fill(sql);
    let act: Vec<Flight> = match protocol {
        Protocol::Simple => vec![flight::query(&sql)],
        Protocol::Extended => match sql.split_once("; ") {
            Some((first, second)) if !sql.contains("$$") => {
                vec![Protocol::Extended.run(first), Protocol::Extended.run(second)]
            }
            _ => vec![Protocol::Extended.run(&sql)],
        },
    };
    followed(format!("way-{key}-{}", knob.key), format!("{} by {about}", knob.name), knob, &act)
}

/// A does something that sets a parameter, and the parameter is looked at by all.
pub(super) fn followed(name: String, about: String, knob: &Knob, act: &[Flight]) -> Scenario {
    let shown = knob.shown[0];
    let scenario = Scenario::new(name, about)
        .setup("TRUNCATE torture.doors, torture.late_doors, torture.things, torture.owners, torture.owned, torture.renewed, torture.told")
        .b(knob.read())
        .hides(shown);
    let scenario = act
        .iter()
        .fold(scenario, |scenario, flight| scenario.flight(Player::A, std::slice::from_ref(flight)));
    scenario
        .b(knob.read())
        .hides(shown)
        .a(knob.read())
        .shows(shown)
        .ask(Player::C, knob.read())
        .hides(shown)
        .b(knob.read())
        .hides(shown)
}

/// OID of `set_config(text, text, boolean)`.
const SET_CONFIG: u32 = 2078;

/// Ways that no SQL text has.
fn messages(knob: &Knob) -> Vec<Scenario> {
    let [value, _] = knob.values;
    let bound = [
        flight::parse("", "SELECT set_config($1, $2, false)"),
        flight::bind("", &[Some(knob.name), Some(value)]),
        flight::execute("", 0),
        flight::sync(),
    ];
    let prepared = [
        flight::parse("way", "SELECT torture.set_it($1, $2)"),
        flight::bind("way", &[Some(knob.name), Some(value)]),
        flight::execute("", 0),
        flight::close_statement("way"),
        flight::sync(),
    ];
    let rows = [
        flight::parse("", "SELECT set_config($1, $2, false) FROM generate_series(1, 3)"),
        flight::bind("", &[Some(knob.name), Some(value)]),
        flight::execute("", 1),
        flight::sync(),
    ];
    let call = [flight::function_call(SET_CONFIG, &[Some(knob.name), Some(value), Some("f")])];
    let copied = [
        flight::query("COPY torture.doors FROM STDIN"),
        flight::copy_data(&format!("{}\t{value}\n", knob.name)),
        flight::copy_done(),
    ];
    let constant = knob.fill("SELECT '{{n}={1}}'::torture.doorway[]");
    let parsed = [flight::parse("", &constant), flight::sync()];
    let checked = [
        flight::parse("", "SELECT $1::torture.doorway"),
        flight::bind("", &[Some(&format!("{}={value}", knob.name))]),
        flight::sync(),
    ];
    let folded = [
        flight::parse("", &knob.fill("SELECT torture.set_immutable('{n}', '{1}')")),
        flight::bind("", &[]),
        flight::sync(),
    ];
    let ways: [(&str, &str, &[Flight]); 8] = [
        ("parse-only", "a constant of a type, read by Parse", &parsed),
        ("bind-only", "a parameter of a type, read by Bind", &checked),
        ("plan-only", "a function declared IMMUTABLE, run by Bind", &folded),
        ("bound", "set_config with bound parameters", &bound),
        ("prepared", "a prepared call of a function with bound parameters", &prepared),
        ("one-row", "the first row of a portal", &rows),
        ("function-call", "FunctionCall of set_config", &call),
        ("copy-in", "a trigger that COPY reaches", &copied),
    ];
    let scenario = |&(key, about, parts): &(&str, &str, &[Flight])| {
        let name = format!("way-{key}-{}", knob.key);
        followed(name, format!("{} by {about}", knob.name), knob, &[Flight::joined(parts)])
    };
    ways.iter().map(scenario).collect()
}

fn policy() -> Scenario {
    let knob = CUSTOM;
    let sql = format!("SET ROLE {OTHER_ROLE}; SELECT count(*) FROM torture.guarded; RESET ROLE");
    followed("way-policy".to_owned(), "a parameter by a policy".to_owned(), &knob, &[flight::query(&sql)])
        .setup("TRUNCATE torture.guarded; INSERT INTO torture.guarded VALUES ('torture.token', 'seven')")
        .needs(Need::Superuser)
}

/// A function with a SET clause restores the value behind it.
fn function_with_set() -> Scenario {
    let read = PLAIN.read();
    Scenario::new("way-function-set-clause", "a function with SET work_mem, for its time only")
        .setup(
            "CREATE OR REPLACE FUNCTION torture.with_set() RETURNS text LANGUAGE sql SET work_mem = '7777kB' \
             AS $$ SELECT current_setting('work_mem') $$",
        )
        .a("SELECT torture.with_set()")
        .shows("7777kB")
        .a(&read)
        .hides("7777kB")
        .b(&read)
        .hides("7777kB")
}
