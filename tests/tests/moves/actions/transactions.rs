//! Transactions, and what a standby refuses or does like any server.

use super::Action;
use crate::generator::Draft;
use crate::script::Step;

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 4, write: begin_or_end },
    Action { weight: 2, write: savepoints },
    Action { weight: 6, write: read },
    Action { weight: 3, write: refused },
    Action { weight: 1, write: copy },
    Action { weight: 1, write: kill },
];

fn begin_or_end(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "BEGIN",
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "START TRANSACTION READ ONLY",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "END",
        "ROLLBACK AND CHAIN",
        "COMMIT AND CHAIN",
        "BEGIN; SELECT 1",
        "SELECT 1; COMMIT; BEGIN",
        "PREPARE TRANSACTION 'x'",
    ]);
    draft.query(sql);
}

fn savepoints(draft: &mut Draft) {
    draft.query("BEGIN");
    for _ in 0..1 + draft.random.below(4) {
        let sql = draft.random.one(&[
            "SAVEPOINT a",
            "SAVEPOINT b",
            "ROLLBACK TO a",
            "RELEASE b",
            "SET work_mem = '21MB'",
            "SET LOCAL work_mem = '22MB'",
            "SELECT 1/0",
            "SELECT set_config('app.tenant', 'b', true)",
            "PREPARE p2 AS SELECT 2",
            "SET DateStyle = 'SQL, DMY'",
        ]);
        draft.query(sql);
    }
    let end = draft.random.one(&["COMMIT", "ROLLBACK"]);
    draft.query(end);
}

fn read(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT * FROM items ORDER BY id",
        "SELECT v FROM tenants",
        "SELECT count(*) FROM generate_series(1, 20000)",
        "SELECT i, repeat('x', 200) FROM generate_series(1, 300) i",
        "SELECT 1; SELECT 2; SELECT 3",
        "",
        ";",
        "SELECT 1/0",
        "SELEC 1",
        "SELECT current_date - current_date",
        "SELECT pg_sleep(0.01)",
        "DO $$ BEGIN RAISE NOTICE 'noted'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$",
        "EXPLAIN (COSTS OFF) SELECT * FROM items",
    ]);
    draft.query(sql);
}

fn refused(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "LISTEN news",
        "UNLISTEN *",
        "NOTIFY news",
        "CREATE TEMP TABLE t (i int)",
        "CREATE TEMP VIEW w AS SELECT 1",
        "INSERT INTO items VALUES (10)",
        "SELECT * FROM items FOR UPDATE",
        "SELECT 1 INTO TEMP tt",
        "LOCK TABLE items IN ACCESS SHARE MODE",
        "SELECT txid_current()",
        "ANALYZE",
        "LOAD 'plpgsql'",
        "CHECKPOINT",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
    ]);
    draft.query(sql);
}

fn copy(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "COPY items TO STDOUT",
        "COPY (SELECT * FROM items ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)",
        "COPY items FROM STDIN",
        "COPY (SELECT 1/0) TO STDOUT",
        "COPY items TO STDOUT; SELECT 1",
    ]);
    draft.query(sql);
}

/// An operator ends this session.
fn kill(draft: &mut Draft) {
    draft.push(Step::Kill);
    draft.push(Step::Query("SELECT 'still here'".to_owned()));
}
