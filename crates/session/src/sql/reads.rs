//! Whether a statement only reads, by its words: what a standby may be asked first.
//!
//! It decides nothing about functions and relations, see `plainness`. Where it is in doubt, the statement is no read.

use super::lexer::{Lexer, Token};
use super::read::{read, split};
use super::reader::{Reader, is_word};

/// Why a statement is not taken for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRead<'a> {
    /// It begins a transaction.
    BeginsTransaction,
    /// It has this word, with which it does more than read, or may.
    Word(&'a [u8]),
    /// It is not alone in its text.
    Several,
    /// There is none.
    Nothing,
    /// Its text cannot be split into tokens.
    Unclear,
    /// It changes the session, or may be done once only.
    Effect,
}

/// Words that begin a read.
const FIRST: [&str; 4] = ["select", "values", "table", "with"];

/// Words with which a read would write. A column of such a name costs a trip to the primary.
const WRITES: [&str; 5] = ["insert", "update", "delete", "merge", "into"];

/// What follows FOR where rows are locked.
const LOCKS: [&str; 4] = ["update", "no", "share", "key"];

fn is_one_of(token: Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| is_word(token, word))
}

/// Looks at the SQL of a Query or Parse.
pub(crate) fn is_read(sql: &[u8]) -> Result<(), NoRead<'_>> {
    let mut lexer = Lexer::new(sql);
    let mut has_begun = false;
    let mut has_ended = false;
    let mut is_after_for = false;
    loop {
        let token = match lexer.next() {
            Ok(Some(token)) => token,
            Ok(None) => break,
            Err(_unclear) => return Err(NoRead::Unclear),
        };
        let word = &sql[lexer.start()..lexer.at()];
        if token == Token::Symbol(b';') {
            has_ended = has_begun;
            continue;
        }
        if has_ended {
            return Err(NoRead::Several);
        }
        if !has_begun {
            if token == Token::Symbol(b'(') {
                continue;
            }
            if is_one_of(token, &["begin", "start"]) {
                return Err(NoRead::BeginsTransaction);
            }
            if !is_one_of(token, &FIRST) {
                return Err(NoRead::Word(word));
            }
            has_begun = true;
            continue;
        }
        if is_one_of(token, &WRITES) || (is_after_for && is_one_of(token, &LOCKS)) {
            return Err(NoRead::Word(word));
        }
        is_after_for = is_word(token, "for");
    }
    // What changes the session, or may be done once only.
    match (has_begun, read(sql).is_plain()) {
        (false, _) => Err(NoRead::Nothing),
        (true, false) => Err(NoRead::Effect),
        (true, true) => Ok(()),
    }
}

/// Whether a text is one statement that sets or shows settings.
pub(crate) fn is_of_settings(sql: &[u8]) -> bool {
    match split(sql).as_deref() {
        Ok([statement]) => ["set", "reset", "show"].iter().any(|word| Reader::new(statement).eat(word)),
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_is_a_read() {
        for sql in [
            "SELECT 1",
            "select * from t where a = 1;",
            "SELECT 1;;",
            "VALUES (1), (2)",
            "TABLE t",
            "(SELECT 1) UNION (SELECT 2)",
            "/* note */ SELECT 1 -- FOR UPDATE",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "SELECT substring(a FROM 2 FOR 3) FROM t",
            "SELECT 'INSERT INTO t; FOR UPDATE'",
            "SELECT \"into\", $1 FROM t",
            "SELECT count(*) FROM t WHERE b = $$delete$$",
        ] {
            assert_eq!(is_read(sql.as_bytes()), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_others_take_for_a_read_is_none() {
        for sql in [
            "",
            ";",
            "-- SELECT 1",
            "INSERT INTO t VALUES (1)",
            "MERGE INTO t USING s ON a = b WHEN MATCHED THEN DO NOTHING",
            "WITH d AS (DELETE FROM t RETURNING a) SELECT * FROM d",
            "WITH a AS (WITH b AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM b) SELECT * FROM a",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED",
            "SELECT * FROM t FOR KEY SHARE",
            "SELECT * FROM t FOR /* all */ SHARE -- trailing\n",
            "SELECT * FROM t\nFOR\nUPDATE\n",
            "SELECT 1 INTO t",
            "SELECT/**/1/**/INTO/**/t",
            "SELECT 1; INSERT INTO t VALUES (1)",
            "SELECT 1; SELECT 2",
            "INSERT INTO t VALUES (1); SELECT 1",
            "COMMIT; INSERT INTO t VALUES (1)",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "EXPLAIN SELECT 1",
            "SHOW transaction_read_only",
            "COPY t TO STDOUT",
            "COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT",
            "COPY t FROM STDIN",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "FETCH c",
            "DO $$BEGIN END$$",
            "CALL p()",
            "LISTEN a",
            "SET a.b = 'c'",
            "SELECT set_config('a.b', 'c', false)",
            "SELECT nextval('s')",
            "SELECT currval('s')",
            "SELECT pg_advisory_lock(1)",
            "SELECT pg_sleep(1)",
            "SELECT setseed(0.5)",
            "SELECT pg_export_snapshot()",
            "SELECT lo_create(0)",
            "SELECT U&\"\\0061\" FROM t",
            "SELECT 'unended",
            "SELECT 1 /* unended",
            "CREATE TEMP TABLE t AS SELECT 1",
            "LOCK t",
            "SAVEPOINT a",
            "SELEC 1",
            "'SELECT'",
        ] {
            let is_read = is_read(sql.as_bytes());
            assert!(is_read.is_err_and(|why| why != NoRead::BeginsTransaction), "{sql}: {is_read:?}");
        }
    }

    #[test]
    fn a_transaction_is_told_from_the_rest() {
        for sql in ["BEGIN", "BEGIN READ ONLY", "start transaction read only", "BEGIN; SELECT 1"] {
            assert_eq!(is_read(sql.as_bytes()), Err(NoRead::BeginsTransaction), "{sql}");
        }
    }
}
