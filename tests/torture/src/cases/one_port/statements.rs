//! What writes by its words, or looks so, and how reads are written.

use super::{ROWS, both, port};
use crate::flight::{self, query};
use crate::scenario::{Act, Player, Scenario, Until};

pub(super) fn cases() -> Vec<Scenario> {
    [statements(), text_forms(), copies()].concat()
}

/// What writes by its words, or looks so.
fn statements() -> Vec<Scenario> {
    let analyze = "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off)";
    [
        both("cte", "a row added in WITH", "WITH w AS (INSERT INTO torture.ported VALUES (2) RETURNING id) TABLE w", "D(2)", 2),
        both("cte-delete", "a row deleted in WITH", "WITH w AS (DELETE FROM torture.ported RETURNING v) SELECT * FROM w", "D(one)", 0),
        both("cte-nested", "the second WITH of a WITH", "WITH a AS (SELECT 1), b AS (UPDATE torture.ported SET id = 3 RETURNING id) SELECT id FROM b, a", "D(3)", 1),
        both("for-update", "FOR UPDATE", "SELECT v FROM torture.ported FOR UPDATE", "D(one)", 1),
        both("for-no-key", "FOR NO KEY UPDATE", "SELECT v FROM torture.ported FOR NO KEY UPDATE SKIP LOCKED", "D(one)", 1),
        both("for-share", "FOR SHARE", "SELECT v FROM torture.ported FOR SHARE OF ported NOWAIT", "D(one)", 1),
        both("for-key-share", "FOR KEY SHARE, and a comment", "SELECT v FROM torture.ported FOR/**/KEY\nSHARE -- last\n", "D(one)", 1),
        both("for-inner", "FOR UPDATE in a subquery", "SELECT v FROM (SELECT v FROM torture.ported FOR UPDATE) s", "D(one)", 1),
        both("explain-insert", "EXPLAIN of a write runs nothing", "EXPLAIN (COSTS off) INSERT INTO torture.ported VALUES (2)", "Insert on", 1),
        both("explain-analyze", "EXPLAIN ANALYZE of a write", &format!("{analyze} INSERT INTO torture.ported VALUES (2)"), "Insert on", 2),
        both("explain-function", "EXPLAIN ANALYZE of a function", &format!("{analyze} SELECT torture.port_add()"), "Result", 2),
        both("select-into", "SELECT INTO", "SELECT 1 AS x INTO torture.port_made", "C(SELECT 1)", 1),
        both("create-as", "CREATE TABLE AS", "CREATE TABLE torture.port_made AS SELECT 1 AS x", "C(SELECT 1)", 1),
        both("do", "DO", "DO $$ BEGIN INSERT INTO torture.ported VALUES (2, 'done'); END $$", "C(DO)", 2),
        both("do-swallowed", "DO with a handler", "DO $$ BEGIN INSERT INTO torture.ported VALUES (2, 'done'); EXCEPTION WHEN OTHERS THEN NULL; END $$", "C(DO)", 2),
        both("do-reading", "DO that reads", "DO $$ BEGIN PERFORM count(*) FROM torture.ported; END $$", "C(DO)", 1),
        both("call", "CALL with COMMIT", "CALL torture.port_procedure()", "C(CALL)", 3),
        both("call-quiet", "CALL that writes nothing", "CALL torture.port_quiet()", "C(CALL)", 1),
        both("merge", "MERGE", "MERGE INTO torture.ported t USING (VALUES (1), (2)) s(id) ON t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'merged')", "C(MERGE 1)", 2),
        both("truncate", "TRUNCATE", "TRUNCATE torture.ported", "C(TRUNCATE TABLE)", 0),
        both("update", "UPDATE that changes nothing", "UPDATE torture.ported SET v = v WHERE false", "C(UPDATE 0)", 1),
        both("unlogged", "a table that standbys do not have", "SELECT 'sum', sum(id) FROM torture.port_unlogged", "D(sum|83)", 1),
        both("last-value", "a sequence is read as a table", "SELECT 'last', last_value FROM torture.ported_ids", "D(last|1)", 1),
        both("reindex", "REINDEX", "REINDEX TABLE torture.ported", "C(REINDEX)", 1),
        both("analyze", "ANALYZE", "ANALYZE torture.ported", "C(ANALYZE)", 1),
        both("large-object", "a large object", "SELECT 'large', lo_unlink(lo_from_bytea(0, 'x'))", "D(large|1)", 1),
        both("xid", "a transaction's number", "SELECT 'assigned', txid_current() > 0", "D(assigned|t)", 1),
        both("position", "the WAL position", "SELECT 'inserts', pg_current_wal_insert_lsn() IS NOT NULL", "D(inserts|t)", 1),
    ]
    .concat()
    .into_iter()
    .map(|scenario| scenario.setup("DROP TABLE IF EXISTS torture.port_made"))
    .collect()
}

/// How reads are written.
fn text_forms() -> Vec<Scenario> {
    [
        both("table", "TABLE", "TABLE torture.ported", "D(1|one)", 1),
        both(
            "parentheses",
            "parentheses first",
            "(SELECT v FROM torture.ported) UNION ALL (SELECT 'x' LIMIT 0)",
            "D(one)",
            1,
        ),
        both(
            "comment-first",
            "a comment first",
            "/* a /* b */ INSERT */ -- c\n SELECT v FROM torture.ported",
            "D(one)",
            1,
        ),
        both(
            "glued",
            "words without spaces",
            "SELECT/**/v/**/INTO/**/torture.port_made/**/FROM/**/torture.ported",
            "C(SELECT 1)",
            1,
        ),
        both(
            "words-quoted",
            "words of writes in strings",
            "SELECT 'INSERT INTO x', $$ FOR UPDATE $$, 'D' AS \"delete\" FROM torture.ported",
            "INSERT INTO x",
            1,
        ),
        both(
            "column-words",
            "words of writes as columns",
            "SELECT u.\"update\" FROM (SELECT v AS \"update\" FROM torture.ported) u",
            "D(one)",
            1,
        ),
        both(
            "strings-off",
            "an escape string",
            "SELECT E'it\\'s ; INSERT', v FROM torture.ported",
            "INSERT|one)",
            1,
        ),
    ]
    .concat()
    .into_iter()
    .map(|scenario| scenario.setup("DROP TABLE IF EXISTS torture.port_made"))
    .chain(several())
    .collect()
}

/// Several statements in one text.
fn several() -> Vec<Scenario> {
    let text = |key: &str, sql: &str, shows: &str, rows: usize| {
        let scenario = port(&format!("several-{key}"), &format!("one text: {}", sql.replace('\n', " ")));
        scenario.a(ROWS).a(sql).shows(shows).a(ROWS).shows(format!("D(rows|{rows})"))
    };
    let insert = "INSERT INTO torture.ported VALUES (2, 'two')";
    vec![
        text("read-write", &format!("SELECT 'first'; {insert}"), "D(first)", 2),
        text("write-read", &format!("{insert}; {ROWS}"), "D(rows|2)", 2),
        text("reads", "SELECT 'first'; SELECT 'second'", "D(second)", 1),
        text("semicolons", "SELECT 'first';;", "D(first)", 1),
        text("empty", "", "I · ", 1),
        text("semicolon", " ; ", "I · ", 1),
        text("commit-write", &format!("BEGIN; {insert}; COMMIT; {insert}; SELECT 'last'"), "D(last)", 3),
        text(
            "read-only-then-write",
            &format!("BEGIN READ ONLY; SELECT 'in'; COMMIT; {insert}; SELECT 'last'"),
            "D(last)",
            2,
        ),
        text("begin-read", "BEGIN READ ONLY; SELECT 'in'", "D(in)", 1),
        text("rolled-back", &format!("{insert}; SELECT 1 / 0"), "22012", 1),
        text("read-fails-write", &format!("SELECT 'first'; SELECT 1 / 0; {insert}"), "22012", 1),
        text("function-last", "SELECT 'first'; SELECT torture.port_add()", "D(4711)", 2),
        text("swallowed-last", "SELECT 'first'; SELECT torture.port_swallow()", "D(written)", 2),
    ]
}

fn copies() -> Vec<Scenario> {
    let to = "COPY torture.ported TO STDOUT";
    let from = "COPY torture.ported FROM STDIN";
    vec![
        port("copy-to", "COPY TO").a(to).shows("one").ax(to).shows("one"),
        port("copy-query", "COPY of a write")
            .a("COPY (INSERT INTO torture.ported VALUES (2, 'copied') RETURNING v) TO STDOUT")
            .shows("copied")
            .a(ROWS)
            .shows("D(rows|2)"),
        port("copy-function", "COPY of a function that writes")
            .a("COPY (SELECT torture.port_add()) TO STDOUT")
            .shows("4711")
            .a(ROWS)
            .shows("D(rows|2)"),
        port("copy-from", "COPY FROM, and a read behind it")
            .a(ROWS)
            .step(Player::A, Act::Ask(query(from), Until::Tag(b'G')))
            .send(Player::A, &[flight::copy_data("2\ttwo\n3\tthree\n"), flight::copy_done()])
            .read(Player::A, Until::Ready(1))
            .a(ROWS)
            .shows("D(rows|3)"),
        port("copy-from-fails", "COPY FROM that the client gives up")
            .step(Player::A, Act::Ask(query(from), Until::Tag(b'G')))
            .send(Player::A, &[flight::copy_data("2\ttwo\n"), flight::copy_fail("no more")])
            .read(Player::A, Until::Ready(1))
            .a(ROWS)
            .shows("D(rows|1)"),
    ]
}
