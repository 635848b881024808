//! Transactions, those that read only, and their isolation.

use super::{ROWS, port};
use crate::scenario::{Need, Player, Scenario};

pub(super) fn cases() -> Vec<Scenario> {
    [transactions(), kept(), read_only(), allowed(), isolation()].concat()
}

const SERIALIZABLE: &str = "SELECT 'is', current_setting('transaction_isolation')";

fn transactions() -> Vec<Scenario> {
    let insert = "INSERT INTO torture.ported VALUES (2, 'two')";
    vec![
        port("transaction", "a transaction that reads, writes, and reads")
            .a("BEGIN")
            .a(ROWS)
            .a(insert)
            .a(ROWS)
            .shows("D(rows|2)")
            .a("COMMIT")
            .a(ROWS)
            .shows("D(rows|2)"),
        port("transaction-extended", "the same by the extended protocol")
            .ax("BEGIN")
            .ax(ROWS)
            .ax(insert)
            .ax(ROWS)
            .shows("D(rows|2)")
            .ax("ROLLBACK")
            .ax(ROWS)
            .shows("D(rows|1)"),
        port("savepoints", "a savepoint that is rolled back to")
            .a(format!("BEGIN; SAVEPOINT s; {insert}"))
            .a("ROLLBACK TO s")
            .a(ROWS)
            .shows("D(rows|1)")
            .a(insert)
            .a("COMMIT")
            .a(ROWS)
            .shows("D(rows|2)"),
        port("failed-transaction", "a transaction that has failed stays so")
            .a("BEGIN")
            .a("SELECT 1 / 0")
            .a(ROWS)
            .shows("25P02")
            .a("COMMIT")
            .a(insert)
            .a(ROWS)
            .shows("D(rows|2)"),
        port("chain", "COMMIT AND CHAIN of a transaction that reads only")
            .a("BEGIN READ ONLY")
            .a(ROWS)
            .a("COMMIT AND CHAIN")
            .a(insert)
            .shows("25006")
            .a("ROLLBACK")
            .a(insert)
            .a(ROWS)
            .shows("D(rows|2)"),
    ]
}

/// What belongs to a session, or to one of its transactions.
fn kept() -> Vec<Scenario> {
    let insert = "INSERT INTO torture.ported VALUES (2, 'two')";
    vec![
        port("cursor-update", "a cursor FOR UPDATE, and its row updated")
            .a("BEGIN")
            .a("DECLARE c CURSOR FOR SELECT v FROM torture.ported FOR UPDATE")
            .a("FETCH c")
            .a("UPDATE torture.ported SET v = 'changed' WHERE CURRENT OF c")
            .a("COMMIT")
            .a("SELECT v FROM torture.ported")
            .shows("D(changed)"),
        port("cursor-hold", "a cursor WITH HOLD outside its transaction")
            .a("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT v FROM torture.ported; COMMIT")
            .a(insert)
            .a("FETCH ALL c")
            .shows("D(one)")
            .a("CLOSE c"),
        port("temporary", "a temporary table")
            .a("CREATE TEMP TABLE port_temp (x text)")
            .a("INSERT INTO port_temp VALUES ('kept')")
            .a("SELECT x FROM port_temp")
            .shows("D(kept)")
            .a("DROP TABLE port_temp"),
        port("sequence", "nextval, currval and lastval in three requests")
            .setup("SELECT setval('torture.ported_ids', 500)")
            .a("SELECT nextval('torture.ported_ids')")
            .a("SELECT currval('torture.ported_ids')")
            .shows("D(501)")
            .a("SELECT lastval()")
            .shows("D(501)"),
        port("lock", "an advisory lock excludes another session")
            .a("SELECT pg_advisory_lock(1717)")
            .b("SELECT 'got', pg_try_advisory_lock(1717)")
            .shows("D(got|f)")
            .bx("SELECT 'got', torture.port_lock(1717)")
            .shows("D(got|f)")
            .a("SELECT pg_advisory_unlock(1717)")
            .shows("D(t)"),
        port("snapshot", "a snapshot that is exported")
            .a("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .a("SELECT 'exported', pg_export_snapshot() IS NOT NULL")
            .shows("D(exported|t)")
            .a("COMMIT"),
        port("two-phase", "a prepared transaction")
            .needs(Need::PreparedTransactions)
            .a(format!("BEGIN; {insert}"))
            .a("PREPARE TRANSACTION 'torture_port'")
            .a(ROWS)
            .shows("D(rows|1)")
            .a("COMMIT PREPARED 'torture_port'")
            .a(ROWS)
            .shows("D(rows|2)"),
    ]
}

fn read_only() -> Vec<Scenario> {
    let insert = "INSERT INTO torture.ported VALUES (2, 'two')";
    let refused = |key: &str, about: &str, begin: &str| {
        port(&format!("read-only-{key}"), about)
            .a(begin)
            .a(ROWS)
            .a(insert)
            .shows("25006")
            .a("ROLLBACK")
            .a(insert)
            .a(ROWS)
            .shows("D(rows|2)")
    };
    vec![
        refused("insert", "a write is refused", "BEGIN READ ONLY"),
        refused(
            "start",
            "the same by START TRANSACTION",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        ),
        refused("set", "the same by SET TRANSACTION", "BEGIN; SET TRANSACTION READ ONLY"),
        port("read-only-first", "a write is the first")
            .a("BEGIN READ ONLY")
            .a(insert)
            .shows("25006")
            .a("ROLLBACK"),
        port("read-only-undone", "SET TRANSACTION READ WRITE before the first query")
            .a("BEGIN READ ONLY")
            .a("SET TRANSACTION READ WRITE")
            .a(insert)
            .a("COMMIT")
            .a(ROWS)
            .shows("D(rows|2)"),
        port("read-only-in-one", "BEGIN READ ONLY and SET TRANSACTION in one text")
            .a(format!("BEGIN READ ONLY; SET TRANSACTION READ WRITE; {insert}; COMMIT"))
            .a(ROWS)
            .shows("D(rows|2)"),
        port("read-only-default", "the session's default")
            .a("SET default_transaction_read_only = on")
            .a(insert)
            .shows("25006")
            .a(ROWS)
            .a("SET default_transaction_read_only = off")
            .a(insert)
            .a(ROWS)
            .shows("D(rows|2)"),
        port("read-only-characteristics", "SET SESSION CHARACTERISTICS")
            .a("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            .a("SELECT torture.port_add()")
            .shows("25006")
            .a("BEGIN READ WRITE")
            .a("SELECT torture.port_add()")
            .a("COMMIT")
            .a(ROWS)
            .shows("D(rows|2)"),
        port("read-only-startup", "the default by a startup parameter")
            .connect(Player::A, &[("default_transaction_read_only", "on")])
            .a("SELECT torture.port_add()")
            .shows("25006")
            .a("BEGIN READ WRITE")
            .a(insert)
            .a("COMMIT")
            .a(ROWS)
            .shows("D(rows|2)"),
    ]
}

/// What a transaction that reads only may do on the primary.
fn allowed() -> Vec<Scenario> {
    let insert = "INSERT INTO torture.ported VALUES (2, 'two')";
    let allowed = |key: &str, about: &str, sql: &str, shows: &str| {
        port(&format!("read-only-{key}"), about).a("BEGIN READ ONLY").a(sql).shows(shows).a("COMMIT")
    };
    vec![
        allowed("lock", "LOCK IN SHARE MODE", "LOCK TABLE torture.ported IN SHARE MODE", "C(LOCK TABLE)"),
        allowed("listen", "LISTEN", "LISTEN torture_port", "C(LISTEN)"),
        allowed("notify", "NOTIFY", "NOTIFY torture_port, 'told'", "C(NOTIFY)"),
        allowed(
            "unlogged",
            "an unlogged table",
            "SELECT 'sum', sum(id) FROM torture.port_unlogged",
            "D(sum|83)",
        ),
        allowed("swallowed", "a refusal that is swallowed", "SELECT torture.port_swallow()", "D(nothing)"),
        allowed(
            "recovery",
            "who asks for recovery",
            "SELECT 'recovery', pg_is_in_recovery()",
            "D(recovery|f)",
        ),
        allowed(
            "deferrable",
            "a set isolation",
            "SELECT 'is', current_setting('transaction_deferrable')",
            "D(is|off)",
        ),
        port("read-only-advisory", "a lock of the transaction excludes another session")
            .a("BEGIN READ ONLY")
            .a("SELECT pg_advisory_xact_lock(1718)")
            .b("BEGIN READ ONLY")
            .b("SELECT 'got', pg_try_advisory_xact_lock(1718)")
            .shows("D(got|f)")
            .a("COMMIT")
            .b("COMMIT"),
        port("read-only-same", "one snapshot for the whole of it")
            .a("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .a(ROWS)
            .b(insert)
            .a(ROWS)
            .shows("D(rows|1)")
            .a("COMMIT")
            .b(ROWS)
            .shows("D(rows|2)"),
    ]
}

fn isolation() -> Vec<Scenario> {
    let case = |key: &str, about: &str| port(&format!("serializable-{key}"), about);
    let then = |scenario: Scenario| {
        let scenario = scenario.a(SERIALIZABLE).shows("D(is|serializable)");
        scenario.ax(SERIALIZABLE).shows("D(is|serializable)").a(ROWS).shows("D(rows|1)")
    };
    vec![
        then(
            case("session", "SET SESSION CHARACTERISTICS")
                .a("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        ),
        then(case("default", "SET of the default").a("SET default_transaction_isolation = 'serializable'")),
        then(
            case("function", "set_config")
                .a("SELECT set_config('default_transaction_isolation', 'serializable', false)"),
        ),
        then(
            case("startup", "a startup parameter")
                .connect(Player::A, &[("default_transaction_isolation", "serializable")]),
        ),
        then(
            case("options", "an option at startup")
                .connect(Player::A, &[("options", "-c default_transaction_isolation=serializable")]),
        ),
        case("transaction", "one transaction")
            .a("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY, DEFERRABLE")
            .a(SERIALIZABLE)
            .shows("D(is|serializable)")
            .a("COMMIT"),
        case("set-transaction", "SET TRANSACTION")
            .a("BEGIN READ ONLY")
            .a("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            .a(ROWS)
            .shows("D(rows|1)")
            .a("COMMIT"),
    ]
}
