//! Utility statements and procedures: what they leave in their session, and that most leave nothing.

use crate::scenario::{Need, Player, Scenario};

/// Whether somebody else may take the lock, without taking it for longer.
const FREE: &str = "SELECT pg_try_advisory_xact_lock(4712)";
const TENANT: &str = "SELECT current_setting('torture.tenant', true)";

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> = SETTING.iter().map(|&(key, sql)| set(key, sql)).collect();
    cases.extend(LOCKING.iter().map(|&(key, sql)| locked(key, sql)));
    cases.extend(HARMLESS.iter().map(|&(key, sql)| harmless(key, sql)));
    cases.extend(others());
    cases
}

/// Statements by which a session has `torture.tenant` set to `mine`.
const SETTING: &[(&str, &str)] = &[
    ("truncate", "TRUNCATE torture.emptied"),
    ("truncate-transaction", "BEGIN; TRUNCATE torture.emptied; COMMIT"),
    ("truncate-child", "TRUNCATE torture.emptied_parent"),
    ("truncate-cascade", "TRUNCATE torture.emptied_owner CASCADE"),
    ("call", "CALL torture.set_tenant_and_commit()"),
    ("call-deep", "CALL torture.call_tenant()"),
    ("call-argument", "CALL torture.nothing(set_config('torture.tenant', 'mine', false))"),
    ("call-fails", "CALL torture.set_tenant_and_fail()"),
    ("create-table-as", "CREATE TABLE torture.made_as AS SELECT set_config('torture.tenant', 'mine', false)"),
    (
        "create-table-as-function",
        "CREATE TABLE torture.made_as AS SELECT torture.set_it('torture.tenant', 'mine')",
    ),
    (
        "create-table-as-view",
        "INSERT INTO torture.things VALUES ('torture.tenant', 'mine'); \
         CREATE TABLE torture.made_as AS SELECT s FROM torture.viewed WHERE n = 'torture.tenant'",
    ),
    (
        "create-default",
        "CREATE TABLE torture.made_as (x int, s text DEFAULT torture.set_it('torture.tenant', 'mine')); \
         INSERT INTO torture.made_as VALUES (1)",
    ),
    (
        "create-view",
        "CREATE VIEW torture.made_view AS SELECT torture.set_it('torture.tenant', 'mine') AS s; \
         SELECT s FROM torture.made_view",
    ),
];

fn set(key: &str, sql: &str) -> Scenario {
    Scenario::new(format!("utility-set-{key}"), sql)
        .setup("DROP VIEW IF EXISTS torture.made_view; DROP TABLE IF EXISTS torture.made_as")
        .setup("DELETE FROM torture.things WHERE n = 'torture.tenant'")
        .cleanup("DROP VIEW IF EXISTS torture.made_view; DROP TABLE IF EXISTS torture.made_as")
        .b(TENANT)
        .hides("mine")
        .a(sql)
        .b(TENANT)
        .hides("mine")
        .a(TENANT)
        .shows("D(mine)")
        .ask(Player::C, TENANT)
        .hides("mine")
}

/// Statements by which a session holds a lock.
const LOCKING: &[(&str, &str)] = &[
    ("refresh", "REFRESH MATERIALIZED VIEW torture.locked_view"),
    ("call", "CALL torture.lock_and_commit()"),
    ("create-table-as", "CREATE TABLE torture.made_as AS SELECT torture.lock_number(4712)"),
    ("create-index", "CREATE INDEX made_index ON torture.numbers (torture.lock_number(x))"),
    ("analyze", "ANALYZE torture.locking_index"),
    ("reindex", "REINDEX TABLE torture.locking_index"),
    ("vacuum-full", "VACUUM FULL torture.locking_index"),
];

fn locked(key: &str, sql: &str) -> Scenario {
    Scenario::new(format!("utility-lock-{key}"), sql)
        .setup("DROP TABLE IF EXISTS torture.made_as; DROP INDEX IF EXISTS torture.made_index")
        .cleanup("DROP TABLE IF EXISTS torture.made_as; DROP INDEX IF EXISTS torture.made_index")
        .b("SELECT 'before'")
        .a(sql)
        .b(FREE)
        .shows("D(f)")
        .a("SELECT pg_advisory_unlock_all()")
        .b(FREE)
        .shows("D(t)")
}

/// Statements that leave nothing: another setting of another client, made before, is still that client's own.
const HARMLESS: &[(&str, &str)] = &[
    ("truncate", "TRUNCATE torture.numbers"),
    ("analyze", "ANALYZE torture.numbers"),
    ("vacuum", "VACUUM torture.numbers"),
    ("reindex", "REINDEX TABLE torture.numbers"),
    ("refresh", "REFRESH MATERIALIZED VIEW torture.counted"),
    ("refresh-concurrently", "REFRESH MATERIALIZED VIEW CONCURRENTLY torture.counted"),
    ("comment", "COMMENT ON TABLE torture.numbers IS 'x'"),
    ("grant", "GRANT SELECT ON torture.numbers TO PUBLIC; REVOKE SELECT ON torture.numbers FROM PUBLIC"),
    ("create-table", "CREATE TABLE torture.made_as (x int DEFAULT 1); DROP TABLE torture.made_as"),
    ("create-index", "CREATE INDEX made_index ON torture.numbers (x); DROP INDEX torture.made_index"),
    ("call", "CALL torture.nothing('x')"),
];

fn harmless(key: &str, sql: &str) -> Scenario {
    Scenario::new(format!("utility-plain-{key}"), sql)
        .setup("DROP TABLE IF EXISTS torture.made_as; DROP INDEX IF EXISTS torture.made_index")
        .b("SET torture.tenant = 'theirs'")
        .a("SET torture.tenant = 'mine'")
        .a(sql)
        .b(TENANT)
        .shows("D(theirs)")
        .a(TENANT)
        .shows("D(mine)")
        .a(sql)
        .ask(Player::C, TENANT)
        .hides("mine")
        .hides("theirs")
}

fn others() -> Vec<Scenario> {
    vec![
        Scenario::new("utility-temporary-by-call", "a procedure makes a temporary table")
            .a("CALL torture.make_temporary_and_commit()")
            .b("SELECT x FROM made_temporary")
            .shows("42P01")
            .hides("D(hidden)")
            .a("SELECT x FROM made_temporary")
            .shows("D(hidden)"),
        Scenario::new("utility-temporary-by-view", "a view of a temporary table is temporary")
            .a("CREATE TEMP TABLE own_temporary AS SELECT 'own' AS x")
            .a("CREATE VIEW over_temporary AS SELECT x FROM own_temporary")
            .b("SELECT x FROM over_temporary")
            .shows("42P01")
            .a("SELECT x FROM over_temporary")
            .shows("D(own)"),
        Scenario::new("utility-seed-by-call", "a procedure sets the seed")
            .setup("DROP TABLE IF EXISTS torture.seeded; SELECT setseed(0.5)")
            .setup("CREATE TABLE torture.seeded AS SELECT random() AS r FROM generate_series(1, 100)")
            .a("CALL torture.seed_and_commit()")
            .b("SELECT 'of the seed', random() IN (SELECT r FROM torture.seeded)")
            .shows("|f)")
            .hides("|t)")
            .a("SELECT 'of the seed', random() IN (SELECT r FROM torture.seeded)")
            .shows("|t)"),
        Scenario::new("utility-event-trigger", "an event trigger sets something as a table is commented on")
            .needs(Need::Superuser)
            .setup("DROP EVENT TRIGGER IF EXISTS torture_seen")
            .setup(
                "CREATE EVENT TRIGGER torture_seen ON ddl_command_end WHEN TAG IN ('COMMENT') \
                 EXECUTE FUNCTION torture.set_at_event()",
            )
            .cleanup("DROP EVENT TRIGGER IF EXISTS torture_seen")
            .b(TENANT)
            .hides("mine")
            .a("COMMENT ON TABLE torture.numbers IS 'seen'")
            .b(TENANT)
            .hides("mine")
            .a(TENANT)
            .shows("D(mine)"),
        Scenario::new("utility-event-trigger-fails", "an event trigger locks before a statement fails")
            .needs(Need::Superuser)
            .setup("DROP EVENT TRIGGER IF EXISTS torture_seen")
            .setup(
                "CREATE EVENT TRIGGER torture_seen ON ddl_command_start WHEN TAG IN ('DROP TABLE') \
                 EXECUTE FUNCTION torture.lock_at_event()",
            )
            .cleanup("DROP EVENT TRIGGER IF EXISTS torture_seen")
            .b("SELECT 'before'")
            .a("DROP TABLE torture.is_not_there")
            .b(FREE)
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock_all()")
            .b(FREE)
            .shows("D(t)"),
        Scenario::new("utility-sequence-by-call", "nextval in a procedure is its session's")
            .setup("DROP SEQUENCE IF EXISTS torture.counter; CREATE SEQUENCE torture.counter START 4711")
            .a("CALL torture.draw_and_commit()")
            .b("SELECT lastval()")
            .shows("55000")
            .hides("D(4711)")
            .a("SELECT lastval()")
            .shows("D(4711)"),
    ]
}
