//! What transactions of a session are by default.

use super::*;

#[test]
fn a_session_that_only_reads_by_default_begins_so() {
    let parameters = [("standard_conforming_strings", "on"), ("client_encoding", "UTF8")];
    let with =
        |default| session_with(&[&parameters[..], &[("default_transaction_read_only", default)]].concat());
    assert_eq!(begins(&mut with("off"), "BEGIN"), None);
    assert_eq!(begins(&mut with("on"), "BEGIN READ WRITE"), None);
    assert_eq!(begins(&mut with("on"), "BEGIN"), Some(answer_to("BEGIN")));
}

/// Has the session run this SET, which its server answers with these reports.
fn sets(session: &mut Session, sql: &str, reports: &[(&str, &str)]) {
    let answer = bytes(|out| {
        write::command_complete(out, b"SET").expect("short");
        for (name, value) in reports {
            write::parameter_status(out, name.as_bytes(), value.as_bytes()).expect("short");
        }
    });
    talks(session, &query(sql), &answer);
}

#[test]
fn a_session_that_makes_its_transactions_read_only_begins_so() {
    const REPORTED: &str = "default_transaction_read_only";
    let set = |sql: &str, reports: &[(&str, &str)]| {
        let mut session = session();
        sets(&mut session, sql, reports);
        session
    };
    let on = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
    let by_default = [
        set(on, &[(REPORTED, "on")]),
        set(on, &[]),
        set("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", &[]),
        set("SET default_transaction_read_only = on", &[]),
        set("set session default_transaction_read_only to 'TRUE'", &[]),
        set("SET default_transaction_read_only = f", &[(REPORTED, "on")]),
    ];
    for (number, mut session) in by_default.into_iter().enumerate() {
        let begin = || [parse("", "BEGIN", &[]), bind("", ""), execute("", 0)].concat();
        let read = || [parse("", "SELECT 1", &[]), bind("", ""), execute("", 0), sync()].concat();
        key_of(&session, &[query("SELECT 1")]);
        key_of(&session, &[begin(), read()]);
        assert_eq!(begins(&mut session, "BEGIN READ WRITE"), None, "{number}");
        assert_eq!(begins(&mut session, "BEGIN"), Some(answer_to("BEGIN")), "{number}");
    }
    let mut session = set(on, &[(REPORTED, "on")]);
    sets(&mut session, "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", &[(REPORTED, "off")]);
    key_of(&session, &[query("SELECT 1")]);
    assert_eq!(begins(&mut session, "BEGIN"), None, "it may write again");
    assert_eq!(begins(&mut session, "BEGIN READ ONLY"), Some(answer_to("BEGIN")));
}

#[test]
fn defaults_of_transactions_that_standbys_have_not_are_the_primarys() {
    for (sql, may_read) in [
        ("SET default_transaction_isolation = 'read committed'", true),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", true),
        ("SET default_transaction_deferrable = on", true),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", false),
        ("SET default_transaction_isolation = E'read committed'", false),
        ("SET default_transaction_read_only = f", false),
    ] {
        let mut session = session();
        sets(&mut session, sql, &[]);
        match session.read_unit(&query("SELECT 1"), &mut KnownReads::default()) {
            UnitReading::Reads(_) => assert!(may_read, "{sql}"),
            other => assert_eq!((other, may_read), (UnitReading::Other(NotProven::Session), false), "{sql}"),
        }
    }
}
