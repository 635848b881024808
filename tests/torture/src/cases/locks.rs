//! Session-level advisory locks.

use crate::flight::query;
use crate::scenario::{Act, Player, Scenario};

const TRY: &str = "SELECT pg_try_advisory_lock(4711)";
/// Whether somebody else may take it, without taking it for longer.
const FREE: &str = "SELECT pg_try_advisory_xact_lock(4711)";

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> = WAYS.iter().map(|&(key, sql)| held(key, sql)).collect();
    cases.extend(ends());
    cases.extend(counted());
    cases
}

const WAYS: &[(&str, &str)] = &[
    ("plain", "SELECT pg_advisory_lock(4711)"),
    ("try", TRY),
    ("qualified", "SELECT pg_catalog.pg_advisory_lock(4711)"),
    ("where", "SELECT 1 WHERE pg_try_advisory_lock(4711)"),
    ("cte", "WITH l AS MATERIALIZED (SELECT pg_advisory_lock(4711)) SELECT count(*) FROM l"),
    ("perform", "DO $$ BEGIN PERFORM pg_advisory_lock(4711); END $$"),
    ("function", "SELECT torture.lock_it(4711)"),
    ("transaction", "BEGIN; SELECT pg_advisory_lock(4711); COMMIT"),
    ("rolled-back", "BEGIN; SELECT pg_advisory_lock(4711); ROLLBACK"),
    ("failed", "SELECT pg_advisory_lock(4711), 1 / (SELECT count(*) FROM torture.ruled WHERE n = 'none')"),
    ("executed", "PREPARE l AS SELECT pg_advisory_lock(4711); EXECUTE l; DEALLOCATE l"),
];

fn held(key: &str, sql: &str) -> Scenario {
    Scenario::new(format!("lock-{key}"), sql)
        .b("SELECT 'before'")
        .a(sql)
        .b(FREE)
        .shows("D(f)")
        .a("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        .shows("D(1)")
        .ask(Player::C, FREE)
        .shows("D(f)")
        .a("SELECT pg_advisory_unlock(4711)")
        .shows("D(t)")
        .b(FREE)
        .shows("D(t)")
}

fn ends() -> Vec<Scenario> {
    let until_free = || Act::AskUntil(query(FREE), "D(t)".to_owned());
    vec![
        Scenario::new("lock-terminate", "the lock of a client that terminates is free")
            .a(TRY)
            .shows("D(t)")
            .step(Player::A, Act::Terminate)
            .step(Player::B, until_free())
            .shows("D(t)"),
        Scenario::new("lock-vanish", "the lock of a client that vanishes is free")
            .b("SELECT 'before'")
            .a(TRY)
            .shows("D(t)")
            .b(FREE)
            .shows("D(f)")
            .step(Player::A, Act::Vanish)
            .step(Player::B, until_free())
            .shows("D(t)"),
        Scenario::new("lock-vanish-transaction", "a client vanishes in a transaction with a lock")
            .b("SELECT 'before'")
            .a("BEGIN")
            .a(TRY)
            .shows("D(t)")
            .step(Player::A, Act::Vanish)
            .step(Player::B, until_free())
            .shows("D(t)"),
        Scenario::new("lock-unlock-all", "pg_advisory_unlock_all of one leaves the other's")
            .a(TRY)
            .b("SELECT pg_advisory_unlock_all()")
            .b(FREE)
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock_all()")
            .b(FREE)
            .shows("D(t)"),
        Scenario::new("lock-discard", "DISCARD ALL frees one's own locks")
            .a(TRY)
            .b("DISCARD ALL")
            .b(FREE)
            .shows("D(f)")
            .a("DISCARD ALL")
            .b(FREE)
            .shows("D(t)"),
        Scenario::new("lock-foreign-unlock", "nobody unlocks another's lock")
            .a(TRY)
            .b("SELECT pg_advisory_unlock(4711)")
            .shows("D(f)")
            .hides("D(t)")
            .b(FREE)
            .shows("D(f)"),
        Scenario::new("lock-transaction-level", "pg_advisory_xact_lock ends with its transaction")
            .a("BEGIN")
            .a("SELECT pg_advisory_xact_lock(4711)")
            .b(FREE)
            .shows("D(f)")
            .a("COMMIT")
            .b(FREE)
            .shows("D(t)"),
    ]
}

fn counted() -> Vec<Scenario> {
    vec![
        Scenario::new("lock-twice", "locked twice, unlocked once: still held")
            .a(TRY)
            .a(TRY)
            .a("SELECT pg_advisory_unlock(4711)")
            .b(FREE)
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock(4711)")
            .shows("D(t)")
            .b(FREE)
            .shows("D(t)"),
        Scenario::new("lock-failed-try", "a try that fails holds nothing")
            .a(TRY)
            .b(TRY)
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock(4711)")
            .b("SELECT pg_advisory_unlock(4711)")
            .shows("D(f)")
            .a(FREE)
            .shows("D(t)"),
        Scenario::new("lock-rollback", "ROLLBACK does not free a session's lock")
            .a("BEGIN")
            .a(TRY)
            .a("SELECT 1 / 0")
            .a("ROLLBACK")
            .b(FREE)
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock(4711)")
            .shows("D(t)"),
        Scenario::new("lock-shared", "shared locks of two clients")
            .a("SELECT pg_advisory_lock_shared(4711)")
            .b("SELECT pg_try_advisory_lock_shared(4711)")
            .shows("D(t)")
            .ask(Player::C, FREE)
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock_shared(4711)")
            .ask(Player::C, FREE)
            .shows("D(f)")
            .b("SELECT pg_advisory_unlock_shared(4711)")
            .ask(Player::C, FREE)
            .shows("D(t)"),
        Scenario::new("lock-two-keys", "the form with two keys")
            .a("SELECT pg_advisory_lock(47, 11)")
            .b("SELECT pg_try_advisory_xact_lock(47, 11)")
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock(47, 11)")
            .shows("D(t)"),
        Scenario::new("lock-own-again", "the holder takes its lock again in a later transaction")
            .a(TRY)
            .b("SELECT 'between'")
            .a(TRY)
            .shows("D(t)")
            .b(FREE)
            .shows("D(f)"),
    ]
}
