//! Ends of transactions that have no server.

use bytes::Bytes;

use super::*;

const FAILURE: &[u8] = b"E\0\0\0\x05\0";

/// In a transaction that has begun without a server.
fn begun() -> Session {
    let mut session = session();
    begins(&mut session, "BEGIN READ ONLY").expect("it begins");
    session
}

/// The same once that has failed, which its client has been told.
fn failed() -> Session {
    let mut session = begun();
    session.refuse_next(Bytes::from_static(FAILURE));
    let told = refused(&mut session, &query("SELECT 1"));
    assert_eq!(told, [FAILURE.to_vec(), ready(TransactionStatus::Failed)].concat());
    session
}

fn refused(session: &mut Session, sent: &[u8]) -> Vec<u8> {
    let mut rewritten = Rewritten::default();
    let step = session.handle_client_renaming(sent, Instant::now(), &mut rewritten, &mut Nobody);
    match step.then {
        crate::ClientThen::Refuse(refused) => refused.answer.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn ends(session: &mut Session, unit: &[u8]) -> Option<Vec<u8>> {
    session.end_without_server(unit, Instant::now(), &mut Nobody).map(|told| told.to_vec())
}

fn complete(tag: &str) -> Vec<u8> {
    bytes(|out| write::command_complete(out, tag.as_bytes()).expect("short"))
}

fn ready(status: TransactionStatus) -> Vec<u8> {
    bytes(|out| write::ready_for_query(out, status))
}

fn describe(kind: u8) -> Vec<u8> {
    vec![b'D', 0, 0, 0, 6, kind, 0]
}

fn series(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", ""), describe(b'P'), execute("", 0), sync()].concat()
}

#[test]
fn a_transaction_in_which_nothing_was_done_ends_without_a_server() {
    for (begin, sql, tag) in [
        (begun as fn() -> Session, "COMMIT", "COMMIT"),
        (begun, "end transaction;", "COMMIT"),
        (begun, "ROLLBACK", "ROLLBACK"),
        (failed, "COMMIT", "ROLLBACK"),
        (failed, " abort work ", "ROLLBACK"),
        (failed, "rollback;", "ROLLBACK"),
    ] {
        let by_query = [complete(tag), ready(TransactionStatus::Idle)].concat();
        let by_series = [b"1\0\0\0\x04", &b"2\0\0\0\x04"[..], b"n\0\0\0\x04", &by_query].concat();
        for (unit, answer) in [(query(sql), by_query.clone()), (series(sql), by_series)] {
            let mut session = begin();
            assert_eq!(ends(&mut session, &unit), Some(answer), "{sql}");
            assert_eq!(session.transaction_status(), TransactionStatus::Idle);
            assert!(session.is_idle() && session.movability().is_ok(), "{sql}");
            key_of(&session, &[query("SELECT 1")]);
            assert!(begins(&mut session, "BEGIN READ ONLY").is_some(), "{sql}");
        }
    }
}

#[test]
fn what_does_more_than_end_a_transaction_needs_a_server() {
    let parsed = || parse("", "ROLLBACK", &[]);
    let run = || [bind("", ""), execute("", 0), sync()].concat();
    let units: [&[Vec<u8>]; 16] = [
        &[query("ROLLBACK TO a")],
        &[query("COMMIT AND CHAIN")],
        &[query("COMMIT AND NO CHAIN")],
        &[query("COMMIT AND NO OTHER")],
        &[query("COMMIT PREPARED 'a'")],
        &[query("COMMIT; SELECT 1")],
        &[query("/* a */ COMMIT")],
        &[query("SELECT 1")],
        &[query("COMMIT"), query("SELECT 1")],
        &[parse("named", "ROLLBACK", &[]), bind("", "named"), execute("", 0), sync()],
        &[parse("", "ROLLBACK", &[23]), run()],
        &[parsed(), bind("a", ""), execute("b", 0), sync()],
        &[parsed(), bind("", ""), execute("", 0), execute("", 0), sync()],
        &[parsed(), describe(b'P'), run()],
        &[parsed(), bind("", ""), sync()],
        &[bind("", ""), execute("", 0), sync()],
    ];
    for begin in [begun as fn() -> Session, failed] {
        for (number, unit) in units.iter().enumerate() {
            let (mut session, unit) = (begin(), unit.concat());
            let before = session.transaction_status();
            assert_eq!(ends(&mut session, &unit), None, "unit {number}");
            assert_eq!((session.transaction_status(), session.outstanding()), (before, 0), "unit {number}");
        }
        for length in 1..series("ROLLBACK").len() {
            assert_eq!(ends(&mut begin(), &series("ROLLBACK")[..length]), None, "{length} bytes");
        }
    }
    assert_eq!(ends(&mut session(), &query("ROLLBACK")), None, "there is no transaction");
    let mut deferred = begun();
    deferred.refuse_next(Bytes::from_static(FAILURE));
    assert_eq!(ends(&mut deferred, &query("COMMIT")), None, "its client is told first");
}

#[test]
fn a_transaction_that_has_failed_ignores_all_but_its_end() {
    let session = failed();
    let run = |sql: &str| [parse("", sql, &[]), bind("", ""), execute("", 0), sync()].concat();
    for (sql, is_ignored) in [
        ("SELECT 1", true),
        ("INSERT INTO t VALUES (1);", true),
        ("BEGIN", true),
        ("SAVEPOINT a", true),
        ("", false),
        ("SELECT 1; COMMIT", false),
        ("COMMIT AND CHAIN", false),
        ("ROLLBACK TO a", false),
        ("PREPARE TRANSACTION 'a'", false),
        ("SELECT 'unended", false),
    ] {
        for unit in [query(sql), run(sql)] {
            assert_eq!(session.is_ignored_once_failed(&unit), is_ignored, "{sql}");
        }
    }
    assert!(session.is_ignored_once_failed(&[query("SELECT 1"), query("COMMIT")].concat()), "only the first");
    let unknown = [bind("", "unknown"), execute("", 0), sync()].concat();
    assert!(!session.is_ignored_once_failed(&unknown));
    assert!(
        !session.is_ignored_once_failed(&sync()) && !session.is_ignored_once_failed(&query("SELECT 1")[..9])
    );
}
