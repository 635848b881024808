//! Prepared statements, named and unnamed, by the protocol and by SQL.

use super::Action;
use crate::generator::Draft;
use crate::script::{Step, Target};

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 12, write: parse },
    Action { weight: 10, write: execute },
    Action { weight: 3, write: describe },
    Action { weight: 3, write: close },
    Action { weight: 5, write: one_series },
    Action { weight: 3, write: unnamed_kept },
    Action { weight: 5, write: sql_prepare },
    Action { weight: 5, write: sql_execute },
    Action { weight: 4, write: parse_and_sql_execute },
    Action { weight: 4, write: pipeline },
    Action { weight: 4, write: under_set_local },
    Action { weight: 3, write: portal_in_a_transaction },
];

/// Names of the protocol's statements.
pub(crate) const STATEMENTS: &[&str] = &["s1", "s2", "s3"];

/// SQL with what its parameters may be.
const SQL: &[(&str, &[&str])] = &[
    ("SELECT * FROM items ORDER BY id", &[]),
    ("SELECT name FROM items WHERE id = $1", &["2"]),
    ("SELECT price FROM items WHERE id = $1::int", &["1"]),
    ("SELECT $1", &["7"]),
    ("SELECT $1 + 1", &["7"]),
    ("SELECT $1::int + $2", &["7", "8"]),
    ("SELECT $1 || 'é'", &["ü"]),
    ("SELECT v FROM orders ORDER BY v", &[]),
    ("SELECT o.* FROM orders o WHERE v LIKE $1", &["%o%"]),
    ("SELECT day, at FROM items ORDER BY id", &[]),
    ("SELECT '03/04/2020'::date", &[]),
    ("SELECT $1::date", &["03/04/2020"]),
    ("SELECT timestamptz '2020-01-01 12:00'", &[]),
    ("SELECT '\\x41', 'a\\'::text", &[]),
    ("SELECT NULL = NULL, $1 = NULL", &["1"]),
    ("SELECT current_user, current_setting('app.tenant', true)", &[]),
    ("SELECT v FROM tenants ORDER BY v", &[]),
    ("SELECT tenant FROM entered", &[]),
    ("SELECT set_tenant($1)", &["b"]),
    ("SELECT set_tenant('a')", &[]),
    ("SELECT set_config('app.note', $1, false)", &["bound"]),
    ("SELECT set_config('app.note', 'constant', false)", &[]),
    ("SELECT pg_advisory_lock($1)", &["21"]),
    ("SELECT * FROM summary", &[]),
    ("SELECT fx()", &[]),
    ("SELECT * FROM rows_of()", &[]),
    ("SELECT plain($1)", &["4"]),
    ("SELECT feeling FROM items WHERE feeling = $1", &["calm"]),
    ("SHOW work_mem", &[]),
    ("SET work_mem = '19MB'", &[]),
    ("RESET ALL", &[]),
    ("DISCARD ALL", &[]),
    ("SET DateStyle = 'German'", &[]),
    ("BEGIN", &[]),
    ("COMMIT", &[]),
    ("DEALLOCATE s1", &[]),
    ("VALUES (1), (2), (3)", &[]),
    ("SELECT 1/0", &[]),
    ("SELECT nope", &[]),
    ("", &[]),
    ("INSERT INTO items VALUES ($1)", &["9"]),
    ("TABLE one.orders", &[]),
    ("SELECT generate_series(1, $1::int)", &["3"]),
    ("SELECT ROW(1, 'x'), ARRAY[1, 2], items FROM items", &[]),
];

/// OIDs of types that parameters are declared as: none, int4, int8, text, numeric, date, varchar.
const TYPES: &[u32] = &[0, 23, 20, 25, 1700, 1082, 1043];

fn name(draft: &mut Draft) -> &'static str {
    draft.random.pick(STATEMENTS)
}

fn parse(draft: &mut Draft) {
    let name = name(draft);
    if draft.random.chance(30) {
        draft.push(Step::Close(Target::Statement, name.to_owned()));
    }
    parse_as(draft, name);
    if draft.random.chance(50) {
        draft.push(Step::Describe(Target::Statement, name.to_owned()));
    }
    if draft.random.chance(40) {
        run(draft, "", name);
    }
    draft.sync();
}

fn parse_as(draft: &mut Draft, name: &'static str) {
    let (sql, arguments) = draft.random.pick(SQL);
    let types = if draft.random.chance(70) {
        Vec::new()
    } else {
        arguments.iter().map(|_| draft.random.pick(TYPES)).collect()
    };
    draft.arguments.insert(name, arguments.to_vec());
    draft.push(Step::Parse { name: name.to_owned(), types, sql: sql.to_owned() });
}

/// A Bind of `statement` with as many parameters as it has, mostly.
pub(crate) fn bind(draft: &mut Draft, portal: &str, statement: &str) {
    let mut parameters: Vec<Option<String>> = draft
        .arguments
        .get(statement)
        .map(|values| values.iter().map(|value| Some((*value).to_owned())).collect())
        .unwrap_or_default();
    if draft.random.chance(5) {
        parameters.push(Some("1".to_owned()));
    }
    if draft.random.chance(5) {
        parameters.iter_mut().for_each(|parameter| *parameter = None);
    }
    let mut formats = Vec::new();
    if draft.random.chance(15) {
        // An int4 in binary, whatever it is taken for.
        formats.push(1);
        parameters.iter_mut().for_each(|parameter| *parameter = Some("\0\0\0\u{2}".to_owned()));
    }
    let results = if draft.random.chance(20) { vec![1] } else { Vec::new() };
    draft.push(Step::Bind {
        portal: portal.to_owned(),
        statement: statement.to_owned(),
        formats,
        parameters,
        results,
    });
}

/// Bind and Execute, and sometimes Describe between them.
pub(super) fn run(draft: &mut Draft, portal: &str, statement: &str) {
    bind(draft, portal, statement);
    if draft.random.chance(40) {
        draft.push(Step::Describe(Target::Portal, portal.to_owned()));
    }
    let rows = if draft.random.chance(15) { 1 } else { 0 };
    draft.push(Step::Execute { portal: portal.to_owned(), rows });
}

/// A series with an unnamed statement, which is given these values.
pub(super) fn run_once(draft: &mut Draft, sql: &str, values: &[&str]) {
    draft.push(Step::Parse { name: String::new(), types: Vec::new(), sql: sql.to_owned() });
    draft.push(Step::Bind {
        portal: String::new(),
        statement: String::new(),
        formats: Vec::new(),
        parameters: values.iter().map(|value| Some((*value).to_owned())).collect(),
        results: Vec::new(),
    });
    draft.push(Step::Execute { portal: String::new(), rows: 0 });
    draft.sync();
}

fn execute(draft: &mut Draft) {
    let name = name(draft);
    run(draft, "", name);
    draft.sync();
}

fn describe(draft: &mut Draft) {
    let name = name(draft).to_owned();
    draft.push(Step::Describe(Target::Statement, name));
    draft.sync();
}

fn close(draft: &mut Draft) {
    let name = name(draft).to_owned();
    draft.push(Step::Close(Target::Statement, name));
    draft.sync();
}

fn one_series(draft: &mut Draft) {
    parse_as(draft, "");
    if draft.random.chance(30) {
        draft.push(Step::Describe(Target::Statement, String::new()));
    }
    run(draft, "", "");
    draft.sync();
}

/// The unnamed statement lives on behind its Sync.
fn unnamed_kept(draft: &mut Draft) {
    parse_as(draft, "");
    if draft.random.chance(60) {
        draft.push(Step::Describe(Target::Statement, String::new()));
    }
    draft.sync();
    draft.make_move();
    run(draft, "", "");
    draft.sync();
}

fn sql_prepare(draft: &mut Draft) {
    let name = draft.random.one(&["p1", "p2", "s1"]);
    let what = draft.random.one(&[
        "AS SELECT * FROM items ORDER BY id",
        "AS SELECT v FROM orders",
        "AS SELECT '03/04/2020'::date",
        "AS SELECT set_tenant('b')",
        "AS SELECT set_config('app.note', 'prepared', false)",
        "AS SELECT pg_advisory_lock(22)",
        "AS SELECT fx(), v FROM tenants",
        "AS VALUES (1), (2)",
        "(int) AS SELECT $1 + 1",
        "(text, text) AS SELECT $1 || $2",
        "(unknown) AS SELECT $1",
        "(int[], numeric(4,1)) AS SELECT $1, $2",
        "AS SELECT nope",
    ]);
    draft.query(format!("PREPARE {name} {what}"));
}

fn sql_execute(draft: &mut Draft) {
    let name = draft.random.one(&["p1", "p2", "s1", "s2"]);
    let sql = draft.random.one(&[
        "EXECUTE {}",
        "EXECUTE {}",
        "EXECUTE {}(1)",
        "EXECUTE {}('a', 'b')",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE {}",
        "EXPLAIN (COSTS OFF) EXECUTE {}",
        "DEALLOCATE {}",
        "DEALLOCATE PREPARE {}",
        "DEALLOCATE ALL",
    ]);
    draft.query(sql.replace("{}", name));
}

/// A statement of the protocol that changes the session, run by SQL.
fn parse_and_sql_execute(draft: &mut Draft) {
    let name = name(draft);
    let sql = draft.random.one(&[
        "SELECT set_tenant('a')",
        "SELECT set_config('app.note', 'by SQL', false)",
        "SELECT pg_advisory_lock(31)",
        "SELECT take_lock(32)",
        "SELECT pg_advisory_lock(33), set_config('app.tenant', 'b', false)",
        "SET work_mem = '21MB'",
    ]);
    draft.push(Step::Close(Target::Statement, name.to_owned()));
    draft.arguments.insert(name, Vec::new());
    draft.push(Step::Parse { name: name.to_owned(), types: Vec::new(), sql: sql.to_owned() });
    draft.sync();
    let execute = draft.random.one(&[
        "EXECUTE {}",
        "EXECUTE {}",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE {}",
    ]);
    draft.query(execute.replace("{}", name));
    draft.make_move();
}

/// Several series, and queries between them, before anything is read.
fn pipeline(draft: &mut Draft) {
    for _ in 0..2 + draft.random.below(3) {
        match draft.random.below(5) {
            0 => draft.push(Step::UnreadQuery("SELECT name FROM items ORDER BY id".to_owned())),
            1 => {
                let name = name(draft);
                draft.push(Step::Close(Target::Statement, name.to_owned()));
                parse_as(draft, name);
                draft.push(Step::UnreadSync);
            }
            _ => {
                let name = name(draft);
                run(draft, "", name);
                draft.push(Step::UnreadSync);
            }
        }
    }
    draft.push(Step::Sync);
}

/// As one schema per tenant is done: the path holds for a transaction, the statement lives on.
fn under_set_local(draft: &mut Draft) {
    let local = draft.random.one(&[
        "SET LOCAL search_path = one",
        "SELECT set_config('search_path', 'two', true)",
        "SET LOCAL ROLE {member}",
        "SET LOCAL app.tenant = 'a'",
        "SET LOCAL DateStyle = 'DMY'",
        "SET LOCAL search_path = one, public",
    ]);
    let name = name(draft);
    draft.push(Step::Query("BEGIN".to_owned()));
    draft.push(Step::Query(local.to_owned()));
    if draft.random.chance(25) {
        draft.query("PREPARE p1 AS SELECT v FROM orders");
    } else {
        draft.push(Step::Close(Target::Statement, name.to_owned()));
        let sql = draft.random.one(&[
            "SELECT v FROM orders",
            "SELECT v FROM public.tenants",
            "SELECT '03/04/2020'::date, current_user",
        ]);
        draft.arguments.insert(name, Vec::new());
        draft.push(Step::Parse { name: name.to_owned(), types: Vec::new(), sql: sql.to_owned() });
        run(draft, "", name);
        draft.sync();
    }
    draft.push(Step::Query("COMMIT".to_owned()));
    draft.make_move();
    if draft.random.chance(70) {
        draft.push(Step::Query("BEGIN".to_owned()));
        draft.push(Step::Query(local.to_owned()));
        run(draft, "", name);
        draft.sync();
        draft.query("EXECUTE p1");
        draft.push(Step::Query("ROLLBACK".to_owned()));
    }
}

/// Of a statement that can be bound: a Bind that fails leaves a portal behind that answers like an empty query.
fn portal_in_a_transaction(draft: &mut Draft) {
    draft.query("BEGIN");
    draft.push(Step::Parse {
        name: String::new(),
        types: Vec::new(),
        sql: "VALUES (1), (2), (3)".to_owned(),
    });
    draft.arguments.insert("", Vec::new());
    bind(draft, "c1", "");
    draft.push(Step::Execute { portal: "c1".to_owned(), rows: 1 });
    draft.sync();
    draft.push(Step::Execute { portal: "c1".to_owned(), rows: 1 });
    if draft.random.chance(50) {
        draft.push(Step::Close(Target::Portal, "c1".to_owned()));
    }
    draft.sync();
    let end = draft.random.one(&["COMMIT", "ROLLBACK"]);
    draft.query(end);
}
