//! Utility statements that leave nothing give the connection back.

use std::time::Instant;

use super::*;

/// How long a connection may take to come back before the statement is tried again: longer than a session stays that may have
/// used a sequence.
const SOON: Duration = Duration::from_secs(3);

/// Each may be run again and again.
const LEAVES_NOTHING: [&str; 13] = [
    "TRUNCATE kept_rows",
    "BEGIN; TRUNCATE kept_rows; COMMIT",
    "ANALYZE kept_rows",
    "VACUUM kept_rows",
    "CLUSTER kept_rows USING kept_rows_pkey",
    "REINDEX TABLE kept_rows",
    "REFRESH MATERIALIZED VIEW kept_view",
    "COMMENT ON TABLE kept_rows IS 'kept'",
    "GRANT SELECT ON kept_rows TO PUBLIC; REVOKE SELECT ON kept_rows FROM PUBLIC",
    "CREATE TABLE IF NOT EXISTS made_rows (i int PRIMARY KEY, t varchar(10) DEFAULT lower('X'))",
    "CREATE INDEX IF NOT EXISTS made_index ON kept_rows USING btree (i, (i + 1))",
    "DROP MATERIALIZED VIEW IF EXISTS no_view",
    "CALL kept_procedure()",
];

/// Whether the client's connection is soon another's, as nothing pins it.
fn gives_back(pool: &Endpoint, role: PoolRole) -> bool {
    let start = Instant::now();
    while pool.pooled("sv_active", role) > 0 {
        if start.elapsed() > SOON {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn what_leaves_nothing_pins_nobody() {
    let role = role("of_utilities");
    let pool = pool(1, 2);
    let mut first = role.connect(pool.writes());
    run(&mut first, "CREATE TABLE kept_rows (i int PRIMARY KEY)");
    run(&mut first, "CREATE MATERIALIZED VIEW kept_view AS SELECT count(*) FROM kept_rows");
    run(
        &mut first,
        "CREATE PROCEDURE kept_procedure() LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO kept_rows SELECT 1 WHERE false; COMMIT; PERFORM 1; END $$",
    );
    run(&mut first, "DISCARD ALL");
    let mut second = role.connect(pool.writes());
    for sql in LEAVES_NOTHING {
        // Right after something has changed the proxy does not know what functions relations run, and is careful.
        eventually(PATIENCE, &format!("nothing pins after {sql}"), || {
            run(&mut first, sql);
            let is_back = gives_back(&pool, role);
            if !is_back {
                run(&mut first, "DISCARD ALL");
            }
            is_back
        });
        assert_eq!(second.value("SELECT 'served'"), "served", "{sql}");
    }
}

#[test]
fn what_runs_functions_of_all_tables_pins() {
    let role = role("of_all_tables");
    let pool = pool(1, 1);
    let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
    for sql in ["ANALYZE", "CREATE FUNCTION of_all() RETURNS int LANGUAGE sql AS 'SELECT 1'"] {
        run(&mut first, sql);
        waits_for(&pool, role, (&mut first, "DISCARD ALL"), (&mut second, "SELECT 0"));
    }
}
