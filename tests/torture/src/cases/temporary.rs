//! Temporary objects of every kind.

use crate::flight::{bind, execute, parse, query, sync};
use crate::scenario::{Act, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> = KINDS.iter().map(|&(key, make, read)| kept(key, make, read)).collect();
    cases.extend(ends());
    cases.extend(transactions());
    cases.extend(by_path());
    cases
}

/// Key, what makes it, and what reads `own` of it.
const KINDS: &[(&str, &str, &str)] = &[
    ("table", "CREATE TEMP TABLE t AS SELECT 'own' AS x", "SELECT x FROM t"),
    ("temporary", "CREATE TEMPORARY TABLE t (x text); INSERT INTO t VALUES ('own')", "SELECT x FROM t"),
    ("local", "CREATE LOCAL TEMPORARY TABLE t AS VALUES ('own')", "SELECT column1 FROM t"),
    ("schema", "CREATE TABLE pg_temp.t AS SELECT 'own' AS x", "SELECT x FROM t"),
    ("schema-quoted", "CREATE TABLE \"pg_temp\".t AS SELECT 'own' AS x", "SELECT x FROM pg_temp.t"),
    ("into", "SELECT 'own' AS x INTO TEMP t", "SELECT x FROM t"),
    ("into-table", "SELECT 'own' AS x INTO TEMPORARY TABLE t", "SELECT x FROM t"),
    ("view", "CREATE TEMP VIEW t AS SELECT 'own' AS x", "SELECT x FROM t"),
    ("view-replace", "CREATE OR REPLACE TEMP VIEW t AS SELECT 'own' AS x", "SELECT x FROM t"),
    ("recursive-view", "CREATE TEMP RECURSIVE VIEW t (x) AS SELECT 'own'", "SELECT x FROM t"),
    (
        "sequence",
        "CREATE TEMP SEQUENCE t START 4711",
        "SELECT CASE WHEN last_value >= 4711 THEN 'own' END FROM t",
    ),
    (
        "function",
        "CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $$ SELECT 'own' $$",
        "SELECT pg_temp.f()",
    ),
    ("type", "CREATE TYPE pg_temp.t AS ENUM ('own')", "SELECT enum_first(NULL::pg_temp.t)::text"),
    ("domain", "CREATE DOMAIN pg_temp.d AS text CHECK (VALUE = 'own')", "SELECT 'own'::pg_temp.d::text"),
    (
        "search-path",
        "SET search_path = pg_temp; CREATE TABLE t AS SELECT 'own' AS x; RESET search_path",
        "SELECT x FROM t",
    ),
    (
        "prepared",
        "PREPARE p AS SELECT 'own' AS x; CREATE TEMP TABLE t AS EXECUTE p; DEALLOCATE p",
        "SELECT x FROM t",
    ),
    ("do", "DO $$ BEGIN CREATE TEMP TABLE t AS SELECT 'own' AS x; END $$", "SELECT x FROM t"),
    (
        "hidden",
        "SELECT torture.make_temporary(); ALTER TABLE hidden_temp RENAME TO t; UPDATE t SET x = 'own'",
        "SELECT x FROM t",
    ),
    ("if-not-exists", "CREATE TEMP TABLE IF NOT EXISTS t AS SELECT 'own' AS x", "SELECT x FROM t"),
    ("preserve", "CREATE TEMP TABLE t (x) ON COMMIT PRESERVE ROWS AS SELECT 'own'", "SELECT x FROM t"),
    (
        "partition",
        "CREATE TEMP TABLE r (x text) PARTITION BY LIST (x); CREATE TEMP TABLE t PARTITION OF r FOR VALUES IN ('own'); INSERT INTO r VALUES ('own')",
        "SELECT x FROM r",
    ),
    (
        "like",
        "CREATE TEMP TABLE t (LIKE torture.things); INSERT INTO t VALUES ('n', 'own')",
        "SELECT v FROM t",
    ),
    (
        "inherits",
        "CREATE TEMP TABLE t () INHERITS (torture.things); INSERT INTO t VALUES ('n', 'own')",
        "SELECT v FROM t",
    ),
];

fn kept(key: &str, make: &str, read: &str) -> Scenario {
    Scenario::new(format!("temp-{key}"), make.split(';').next().unwrap_or(make))
        .b("SELECT 'before'")
        .a(make)
        .b(read)
        .hides("D(own)")
        .a(read)
        .shows("D(own)")
        .ask(Player::C, read)
        .hides("D(own)")
        .ax(read)
        .shows("D(own)")
        .b("SELECT 'after'")
}

fn ends() -> Vec<Scenario> {
    let made = |key: &str, about: &str| {
        Scenario::new(format!("temp-end-{key}"), about)
            .a("CREATE TEMP TABLE t AS SELECT 'own' AS x")
            .a("SELECT x FROM t")
            .shows("D(own)")
    };
    vec![
        made("drop", "DROP of a temporary table")
            .a("DROP TABLE t")
            .b("SELECT x FROM t")
            .hides("D(own)")
            .a("SELECT x FROM t")
            .shows("42P01"),
        made("discard-temp", "DISCARD TEMP")
            .a("DISCARD TEMP")
            .b("SELECT x FROM t")
            .hides("D(own)")
            .a("SELECT x FROM t")
            .shows("42P01"),
        made("discard-temporary", "DISCARD TEMPORARY by another client leaves it")
            .b("DISCARD TEMPORARY")
            .a("SELECT x FROM t")
            .shows("D(own)"),
        made("discard-all", "DISCARD ALL by another client leaves it")
            .b("DISCARD ALL")
            .a("SELECT x FROM t")
            .shows("D(own)"),
        made("terminate", "the client terminates, the next one makes the same")
            .step(Player::A, Act::Terminate)
            .b("SELECT x FROM t")
            .hides("D(own)")
            .b("CREATE TEMP TABLE t AS SELECT 'theirs' AS x")
            .b("SELECT x FROM t")
            .shows("D(theirs)"),
        made("vanish", "the client vanishes, the next one makes the same")
            .step(Player::A, Act::Vanish)
            .b("CREATE TEMP TABLE t AS SELECT 'theirs' AS x")
            .hides("42P07")
            .b("SELECT x FROM t")
            .shows("D(theirs)")
            .hides("D(own)"),
        made("both", "two clients' tables of one name")
            .b("CREATE TEMP TABLE t AS SELECT 'theirs' AS x")
            .b("SELECT x FROM t")
            .shows("D(theirs)")
            .a("SELECT x FROM t")
            .shows("D(own)"),
    ]
}

/// ON COMMIT, and what a temporary object stands before.
fn transactions() -> Vec<Scenario> {
    vec![
        Scenario::new("temp-end-rollback", "a temporary table of a transaction that rolls back")
            .a("BEGIN")
            .a("CREATE TEMP TABLE t AS SELECT 'own' AS x")
            .a("SELECT x FROM t")
            .shows("D(own)")
            .a("ROLLBACK")
            .b("SELECT x FROM t")
            .hides("D(own)")
            .a("SELECT x FROM t")
            .shows("42P01"),
        Scenario::new("temp-end-on-commit-drop", "ON COMMIT DROP")
            .a("BEGIN")
            .a("CREATE TEMP TABLE t (x) ON COMMIT DROP AS SELECT 'own'")
            .a("SELECT x FROM t")
            .shows("D(own)")
            .a("COMMIT")
            .b("SELECT x FROM t")
            .hides("D(own)")
            .a("SELECT x FROM t")
            .shows("42P01"),
        Scenario::new("temp-end-delete-rows", "ON COMMIT DELETE ROWS: the table stays, empty")
            .a("BEGIN")
            .a("CREATE TEMP TABLE t (x) ON COMMIT DELETE ROWS AS SELECT 'own'")
            .a("SELECT x FROM t")
            .shows("D(own)")
            .a("COMMIT")
            .b("SELECT count(*) FROM t")
            .shows("42P01")
            .a("SELECT count(*) FROM t")
            .shows("D(0)"),
        Scenario::new("temp-end-shadow", "a temporary table before one of the same name")
            .table("shaded", "x text", "VALUES ('real')")
            .a("SET search_path = torture")
            .b("SET search_path = torture")
            .a("CREATE TEMP TABLE shaded AS SELECT 'own'::text AS x")
            .b("SELECT x FROM shaded")
            .shows("D(real)")
            .hides("D(own)")
            .a("SELECT x FROM shaded")
            .shows("D(own)"),
        Scenario::new("temp-end-namespace", "pg_my_temp_schema is nobody else's")
            .a("CREATE TEMP TABLE t AS SELECT 'own' AS x")
            .b("SELECT pg_my_temp_schema() = 0")
            .shows("D(t)")
            .hides("D(f)")
            .a("SELECT pg_my_temp_schema() = 0")
            .shows("D(f)"),
    ]
}

const OWN: &str = "SELECT 'own'::text AS x INTO t";
const READ: &str = "SELECT x FROM t";

/// A's table is temporary by its `search_path` alone.
fn by_path() -> Vec<Scenario> {
    let named = |key: &str, about: &str| Scenario::new(format!("temp-path-{key}"), about);
    let kept = |scenario: Scenario| {
        let scenario = scenario.b(READ).hides("D(own)").a(READ).shows("D(own)");
        scenario.ask(Player::C, READ).hides("D(own)")
    };
    let login = |key: &str, parameter: (&str, &str), sql: &str| {
        let about = format!("{}={} at the login", parameter.0, parameter.1);
        kept(named(key, &about).connect(Player::A, &[parameter]).a(sql))
    };
    let set = |key: &str, sql: &str| kept(named(key, &sql.replace(" || ", " with ")).a(sql).a(OWN));
    let bound = |scope: &str| {
        [
            parse("", &format!("SELECT set_config('search_path', $1, {scope})")),
            bind("", &[Some("pg_temp, public")]),
            execute("", 0),
            sync(),
        ]
    };
    let role = |action: &str| {
        format!(
            "DO $$ BEGIN EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I {action}', current_database()); END $$"
        )
    };
    vec![
        login("options", ("options", "-c search_path=pg_temp,public"), OWN),
        login("options-escaped", ("options", "-c search_path=PG\\_TEMP,\\ public"), OWN),
        login("parameter", ("search_path", "\"pg_temp\", public"), OWN),
        login(
            "explain",
            ("search_path", "pg_temp"),
            "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) CREATE TABLE t AS SELECT 'own'::text AS x",
        ),
        set("escaped", "SET search_path = E'pg\\x5ftemp'"),
        set("unicode", "SET search_path = U&'pg\\005ftemp'"),
        set("config-escaped", "SELECT set_config('search_path', E'pg\\x5ftemp', false)"),
        set("function", "SELECT torture.set_it('search_path', 'pg_' || 'temp')"),
        kept(named("bound", "set_config of a bound value").flight(Player::A, &bound("false")).a(OWN)),
        kept(
            named("bound-local", "set_config of a bound value, until the end of the transaction")
                .a("BEGIN")
                .flight(Player::A, &bound("true"))
                .a(OWN)
                .flight(Player::A, &[query("COMMIT")]),
        ),
        named("role", "ALTER ROLE SET search_path")
            .setup(role("SET search_path = pg_temp, public"))
            .cleanup(role("RESET search_path"))
            .connect(Player::A, &[])
            .a(OWN)
            .b(READ)
            .hides("D(own)")
            .a(READ)
            .shows("D(own)"),
    ]
}
