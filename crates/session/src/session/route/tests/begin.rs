//! Transactions that only read by a SET TRANSACTION behind their BEGIN.

use super::*;

fn part(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", ""), execute("", 0)].concat()
}

#[test]
fn a_text_that_begins_a_transaction_and_sets_it_read_only_needs_no_server() {
    let mut session = session();
    let answer = bytes(|out| {
        write::command_complete(out, b"BEGIN").expect("short");
        write::command_complete(out, b"SET").expect("short");
        write::ready_for_query(out, TransactionStatus::InTransaction);
    });
    let begin = query("BEGIN; SET TRANSACTION READ ONLY");
    assert_eq!(session.begins_read_only(&begin).as_deref(), Some(&b"BEGIN READ ONLY"[..]));
    assert_eq!(begins(&mut session, "BEGIN; SET TRANSACTION READ ONLY"), Some(answer));
    assert!(session.is_between_units_of_transaction() && session.is_before_request());
    assert!(session.movability().is_ok());
    key_of(&session, &[query("SELECT 1")]);
    assert_eq!(begins(&mut self::session(), "BEGIN; SET TRANSACTION READ WRITE"), None);
}

#[test]
fn a_series_that_begins_a_transaction_and_sets_it_read_only_is_judged_by_what_it_reads() {
    let session = session();
    let [begin, read] = [part("BEGIN"), part("SELECT 1 FROM t")];
    let set = |modes: &str| part(&format!("SET TRANSACTION {modes}"));
    let only = key_of(&session, &[part("BEGIN READ ONLY"), read.clone(), sync()]);
    let units = [
        vec![begin.clone(), set("READ ONLY"), read.clone(), sync()],
        vec![part("BEGIN READ ONLY"), set("ISOLATION LEVEL REPEATABLE READ"), read.clone(), sync()],
    ];
    for unit in units {
        assert_eq!(key_of(&session, &unit), only);
    }
    is_other(&session, NotProven::Transaction, &[begin.clone(), set("READ ONLY"), sync()]);
    is_other(&session, NotProven::Transaction, &[begin.clone(), read.clone(), sync()]);
    is_other(&session, NotProven::Transaction, &[begin.clone(), set("READ WRITE"), read.clone(), sync()]);
    let twice = [begin.clone(), set("READ ONLY"), set("READ WRITE"), read.clone(), sync()];
    is_other(&session, NotProven::Unknown, &twice);
    let write = part("INSERT INTO t VALUES (1)");
    is_other(&session, NotProven::Unknown, &[begin, set("READ ONLY"), write, sync()]);
    is_other(&session, NotProven::Unknown, &[set("READ ONLY"), read, sync()]);
}
