//! Transactions: their state, failed ones, two-phase ones, large objects, notices.

use crate::flight::query;
use crate::scenario::{Act, Need, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = failed();
    cases.extend(modes());
    cases.extend(two_phase());
    cases.extend(large_objects());
    cases.extend(notices());
    cases
}

fn failed() -> Vec<Scenario> {
    vec![
        Scenario::new("failed-stays", "a failed transaction stays failed, another client works")
            .a("BEGIN")
            .a("SELECT 1 / 0")
            .shows("Z(E)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .a("SELECT 1")
            .shows("25P02")
            .ax("SELECT 1")
            .shows("25P02")
            .a("COMMIT")
            .shows("C(ROLLBACK)")
            .a("SELECT 'well'")
            .shows("D(well)"),
        Scenario::new("failed-savepoint", "ROLLBACK TO heals a failed transaction")
            .table("healed", "x int", "")
            .a("BEGIN")
            .a("INSERT INTO torture.healed VALUES (1)")
            .a("SAVEPOINT s")
            .a("SELECT 1 / 0")
            .b("SELECT count(*) FROM torture.healed")
            .shows("D(0)")
            .a("ROLLBACK TO s")
            .shows("Z(T)")
            .a("COMMIT")
            .b("SELECT count(*) FROM torture.healed")
            .shows("D(1)"),
        Scenario::new("failed-at-commit", "a deferred constraint fails at COMMIT")
            .table("deferred", "x int UNIQUE DEFERRABLE INITIALLY DEFERRED", "VALUES (1)")
            .a("BEGIN")
            .a("INSERT INTO torture.deferred VALUES (1)")
            .b("SELECT 'stranger'")
            .a("COMMIT")
            .shows("23505")
            .a("SELECT 'well'")
            .shows("D(well)"),
        Scenario::new("failed-multi", "an error within one Query undoes all of it")
            .table("undone", "x int", "")
            .a("INSERT INTO torture.undone VALUES (1); SELECT 1 / 0; SELECT 'not run'")
            .hides("D(not run)")
            .shows("22012")
            .b("SELECT count(*) FROM torture.undone")
            .shows("D(0)"),
        Scenario::new("failed-multi-begin", "BEGIN within one Query, an error behind it")
            .a("SELECT 1; BEGIN; SELECT 1 / 0")
            .shows("Z(E)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .a("ROLLBACK")
            .shows("Z(I)"),
        Scenario::new("no-transaction", "COMMIT and ROLLBACK with none open warn")
            .a("COMMIT")
            .shows("25P01")
            .b("SELECT 'stranger'")
            .a("ROLLBACK")
            .shows("25P01")
            .a("SAVEPOINT s")
            .shows("25P01"),
        Scenario::new("begin-twice", "BEGIN within a transaction warns")
            .a("BEGIN")
            .b("SELECT 'stranger'")
            .a("BEGIN")
            .shows("25001")
            .a("COMMIT"),
        Scenario::new("deadlock-free", "a row lock of one, another waits until COMMIT")
            .table("locked", "x int", "VALUES (1)")
            .a("BEGIN")
            .a("UPDATE torture.locked SET x = 2")
            .send(Player::B, &[query("UPDATE torture.locked SET x = x + 10 RETURNING x, 'waited'")])
            .a("COMMIT")
            .read(Player::B, crate::scenario::Until::Ready(1))
            .shows("D(12|waited)"),
    ]
}

fn modes() -> Vec<Scenario> {
    vec![
        Scenario::new("mode-read-only", "BEGIN READ ONLY is one transaction's")
            .table("moded", "x int", "")
            .a("BEGIN READ ONLY")
            .a("INSERT INTO torture.moded VALUES (1)")
            .shows("25006")
            .a("ROLLBACK")
            .b("INSERT INTO torture.moded VALUES (1)")
            .shows("INSERT 0 1")
            .a("INSERT INTO torture.moded VALUES (1)")
            .shows("INSERT 0 1"),
        Scenario::new("mode-set-transaction", "SET TRANSACTION is one transaction's")
            .a("BEGIN")
            .a("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            .a("SHOW transaction_isolation")
            .shows("serializable")
            .a("COMMIT")
            .b("SHOW transaction_isolation")
            .hides("serializable")
            .a("SHOW transaction_isolation")
            .hides("serializable"),
        Scenario::new("mode-repeatable", "a snapshot is kept while another client commits")
            .table("moded", "x int", "")
            .a("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .a("SELECT count(*) FROM torture.moded")
            .shows("D(0)")
            .b("INSERT INTO torture.moded VALUES (1)")
            .a("SELECT count(*) FROM torture.moded")
            .shows("D(0)")
            .a("COMMIT")
            .a("SELECT count(*) FROM torture.moded")
            .shows("D(1)"),
        Scenario::new("mode-constraints", "SET CONSTRAINTS is one transaction's")
            .table("moded", "x int UNIQUE DEFERRABLE", "VALUES (1)")
            .a("BEGIN")
            .a("SET CONSTRAINTS ALL DEFERRED")
            .a("INSERT INTO torture.moded VALUES (1)")
            .shows("INSERT 0 1")
            .a("ROLLBACK")
            .b("BEGIN; INSERT INTO torture.moded VALUES (1); ROLLBACK")
            .shows("23505")
            .b("ROLLBACK"),
        Scenario::new("mode-procedure", "a procedure that commits, within no transaction")
            .table("moded", "x int", "")
            .setup(
                "CREATE OR REPLACE PROCEDURE torture.commits() LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO torture.moded VALUES (1); COMMIT; INSERT INTO torture.moded VALUES (2); ROLLBACK; END $$",
            )
            .a("CALL torture.commits()")
            .shows("CALL")
            .b("SELECT count(*) FROM torture.moded")
            .shows("D(1)")
            .a("BEGIN")
            .a("CALL torture.commits()")
            .shows("2D000")
            .a("ROLLBACK"),
    ]
}

fn two_phase() -> Vec<Scenario> {
    // A transaction's name is the whole server's, and two databases may be played on at once.
    let prepare = |key: &str, about: &str| {
        Scenario::new(format!("phases-{key}"), format!("PREPARE TRANSACTION, {about}"))
            .needs(Need::PreparedTransactions)
            .table("phased", "x int", "")
            .cleanup(format!("ROLLBACK PREPARED 'torture {key}'"))
            .a("BEGIN")
            .a("INSERT INTO torture.phased VALUES (1)")
            .a(format!("PREPARE TRANSACTION 'torture {key}'"))
            .shows("PREPARE TRANSACTION")
    };
    vec![
        prepare("commit", "committed by another client")
            .b("SELECT count(*) FROM torture.phased")
            .shows("D(0)")
            .b("COMMIT PREPARED 'torture commit'")
            .shows("COMMIT PREPARED")
            .a("SELECT count(*) FROM torture.phased")
            .shows("D(1)"),
        prepare("rollback", "its client vanishes, rolled back by another")
            .step(Player::A, Act::Vanish)
            .b("ROLLBACK PREPARED 'torture rollback'")
            .shows("ROLLBACK PREPARED")
            .b("SELECT count(*) FROM torture.phased")
            .shows("D(0)"),
    ]
}

fn large_objects() -> Vec<Scenario> {
    vec![
        Scenario::new("large-object", "a large object's descriptor within its transaction")
            .setup("SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = 471147")
            .a("SELECT lo_create(471147)")
            .a("BEGIN")
            .a("SELECT lo_open(471147, 131072)")
            .shows("D(0)")
            .b("BEGIN")
            .b("SELECT loread(0, 10)")
            .shows("42704")
            .a("SELECT lowrite(0, 'bytes')")
            .shows("D(5)")
            .b("ROLLBACK")
            .a("COMMIT")
            .b("SELECT convert_from(lo_get(471147), 'UTF8')")
            .shows("D(bytes)")
            .a("SELECT lo_unlink(471147)")
            .shows("D(1)"),
        Scenario::new("large-object-descriptor", "a descriptor ends with its transaction")
            .setup("SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = 471148")
            .a("SELECT lo_create(471148)")
            .a("BEGIN; SELECT lo_open(471148, 131072); COMMIT")
            .b("SELECT 'stranger'")
            .a("SELECT lowrite(0, 'bytes')")
            .shows("42704")
            .a("SELECT lo_unlink(471148)"),
    ]
}

fn notices() -> Vec<Scenario> {
    vec![
        Scenario::new("notice-levels", "notices of all levels come to their client, in order")
            .a("DO $$ BEGIN RAISE WARNING 'first'; RAISE NOTICE 'second'; RAISE INFO 'third'; END $$")
            .shows("third")
            .b("SELECT 'stranger'")
            .hides("third"),
        Scenario::new("notice-error", "a notice before an error")
            .a("DO $$ BEGIN RAISE NOTICE 'said'; RAISE EXCEPTION 'raised' USING ERRCODE = 'P7777'; END $$")
            .shows("P7777")
            .b("SELECT 'stranger'")
            .hides("said"),
        Scenario::new("notice-drop", "DROP IF EXISTS by the extended protocol")
            .ax("DROP TABLE IF EXISTS torture.never_there")
            .shows("00000")
            .bx("SELECT 'stranger'")
            .hides("never_there"),
        Scenario::new("fatal-error", "an error that ends a session ends that one only")
            .b("SELECT 'before'")
            .a("SELECT 'alive'")
            .shows("D(alive)")
            .b("SELECT 'still'")
            .shows("D(still)"),
    ]
}
