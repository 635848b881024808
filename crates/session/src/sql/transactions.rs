//! Statements that begin transactions which only read, and what such a transaction may do on a standby.
//!
//! Where anything is not understood, the answer is the one with which the primary runs the statement.

use super::lexer::{Lexer, Token};
use super::read::{TransactionEnd, read, split, transaction_end};
use super::reader::{Reader, is_word};
use super::reads::is_read;

/// What begins a transaction which only reads, at an isolation level that standbys have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadOnlyBegin {
    /// What the server answers.
    pub(crate) tag: &'static [u8],
    /// Whether a SET TRANSACTION follows in the same text.
    pub(crate) sets: bool,
    /// One statement that does the same.
    pub(crate) sql: Vec<u8>,
}

/// What transactions of the session are whose BEGIN does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessDefault {
    ReadOnly,
    ReadWrite,
}

/// What a statement does inside a transaction that only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithinReading {
    /// By its words it reads; the catalog has to know what it names.
    Reads,
    /// Its server refuses it whichever it is, as the transaction only reads; the catalog may know something against it.
    IsRefused,
    /// Nothing but what a standby does as the primary does.
    Harmless,
    /// It ends the transaction.
    Ends,
    /// The primary's.
    Other,
}

/// Longest such statement that is read, in bytes.
const BEGIN_BYTES_MAX: usize = 256;

/// Reads a text that does nothing but begin a transaction: `READ ONLY`, by its words, those of a SET TRANSACTION behind it or by
/// default, and not `SERIALIZABLE`, which standbys refuse.
/// Source: PostgreSQL 18, src/backend/parser/gram.y, `TransactionStmt`.
pub(crate) fn begins_read_only(sql: &[u8], default: AccessDefault) -> Option<ReadOnlyBegin> {
    if sql.len() > BEGIN_BYTES_MAX || !may_begin(sql) || !sql.is_ascii() {
        return None;
    }
    match split(sql).ok()?[..] {
        [begin] => read_only_begin(begin, None, default),
        [begin, set] => read_only_begin(begin, Some(set), default),
        _ => None,
    }
}

/// Whether the first word of a text begins a transaction.
pub(crate) fn begins_transaction(sql: &[u8]) -> bool {
    let mut reader = Reader::new(sql);
    reader.eat("begin") || reader.eat("start")
}

/// The same of two texts, the second of which sets what the transaction is that the first one begins.
pub(crate) fn begins_read_only_by(begin: &[u8], set: &[u8], default: AccessDefault) -> bool {
    let are_short = begin.len() + set.len() <= BEGIN_BYTES_MAX && begin.is_ascii() && set.is_ascii();
    let (Ok(begin), Ok(set)) = (split(begin), split(set)) else { return false };
    match (are_short, &begin[..], &set[..]) {
        (true, [begin], [set]) => read_only_begin(begin, Some(set), default).is_some(),
        _ => false,
    }
}

fn read_only_begin(begin: &[u8], set: Option<&[u8]>, default: AccessDefault) -> Option<ReadOnlyBegin> {
    let mut reader = Reader::new(begin);
    let tag: &[u8] = if reader.eat("begin") {
        let _noise = reader.eat("work") || reader.eat("transaction");
        b"BEGIN"
    } else if reader.eat("start") && reader.eat("transaction") {
        b"START TRANSACTION"
    } else {
        return None;
    };
    let mut modes = reader.rest().to_vec();
    if let Some(set) = set {
        let mut reader = Reader::new(set);
        if !(reader.eat("set") && reader.eat("transaction")) || reader.is_at_end() {
            return None;
        }
        if !modes.is_empty() {
            modes.extend_from_slice(b", ");
        }
        modes.extend_from_slice(reader.rest());
    }
    is_read_only(&mut Reader::new(&modes), default).then(|| ReadOnlyBegin {
        tag,
        sets: set.is_some(),
        sql: if set.is_some() { [b"BEGIN ", &modes[..]].concat() } else { begin.to_vec() },
    })
}

/// Whether the first word is one that begins a transaction.
fn may_begin(sql: &[u8]) -> bool {
    let mut lexer = Lexer::new(sql);
    while let Ok(Some(token)) = lexer.next() {
        if token != Token::Symbol(b';') {
            return is_word(token, "begin") || is_word(token, "start");
        }
    }
    false
}

/// Whether these properties, each given once, say that the transaction only reads, or leave it at that.
fn is_read_only(reader: &mut Reader<'_>, default: AccessDefault) -> bool {
    if reader.is_at_end() {
        return default == AccessDefault::ReadOnly;
    }
    let [mut access, mut isolation, mut deferrable] = [0; 3];
    loop {
        if reader.eat("read") {
            if !reader.eat("only") {
                return false;
            }
            access += 1;
        } else if reader.eat("isolation") {
            let is_known = reader.eat("level")
                && if reader.eat("repeatable") {
                    reader.eat("read")
                } else {
                    reader.eat("read") && (reader.eat("committed") || reader.eat("uncommitted"))
                };
            if !is_known {
                return false;
            }
            isolation += 1;
        } else {
            let _negation = reader.eat("not");
            if !reader.eat("deferrable") {
                return false;
            }
            deferrable += 1;
        }
        if reader.is_at_end() {
            let is_read_only = access == 1 || (access == 0 && default == AccessDefault::ReadOnly);
            return is_read_only && isolation <= 1 && deferrable <= 1;
        }
        let _between = reader.eat_symbol(b',');
    }
}

/// What the SQL of a Query or Parse does inside such a transaction, behind its first statement.
pub(crate) fn within(sql: &[u8]) -> WithinReading {
    let Ok(statements) = split(sql) else { return WithinReading::Other };
    let statement = match statements[..] {
        [] => return WithinReading::Harmless,
        [statement] => statement,
        [_, _, ..] => return WithinReading::Other,
    };
    if let Some(TransactionEnd::Commit | TransactionEnd::Rollback) = transaction_end(sql) {
        return WithinReading::Ends;
    }
    if is_read(sql).is_ok() {
        return WithinReading::Reads;
    }
    let reader = Reader::new(statement);
    let begins = |words: &[&str]| words.iter().any(|word| reader.clone().eat(word));
    if begins(&["insert", "update", "delete", "merge"]) {
        return if read(sql).pins.is_empty() { WithinReading::IsRefused } else { WithinReading::Other };
    }
    if begins(&["declare"]) {
        return cursor(statement);
    }
    let is_harmless = begins(&["savepoint", "release", "fetch", "move", "close"])
        || is_rollback_to(reader.clone())
        || is_chain(reader.clone())
        || is_show(reader.clone())
        || is_local_setting(reader, sql);
    if is_harmless { WithinReading::Harmless } else { WithinReading::Other }
}

/// What the SQL of a statement does once the transaction has failed, in which a server runs nothing but its end.
pub(crate) fn within_failed(sql: &[u8]) -> WithinReading {
    match split(sql).as_deref() {
        Ok([] | [_]) if transaction_end(sql).is_some() => WithinReading::Ends,
        Ok([] | [_]) => WithinReading::Harmless,
        Ok(_) | Err(_) => WithinReading::Other,
    }
}

/// How the transaction ends by a statement that does nothing else, and is nothing but the words for that.
pub(crate) fn ends_without_more(sql: &[u8]) -> Option<TransactionEnd> {
    let is_plain = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b';');
    let has_chain = |word: &[u8]| word.eq_ignore_ascii_case(b"and");
    let is_bare = sql.iter().all(is_plain) && !sql.split(|byte| *byte == b' ').any(has_chain);
    transaction_end(sql).filter(|_| is_bare)
}

/// Whether a statement is refused once the transaction has failed, as it neither ends it nor goes back in it.
pub(crate) fn is_ignored_once_failed(sql: &[u8]) -> bool {
    const ENDS: [&str; 5] = ["commit", "end", "rollback", "abort", "prepare"];
    let Ok(statements) = split(sql) else { return false };
    let [statement] = statements[..] else { return false };
    !ENDS.iter().any(|word| Reader::new(statement).eat(word))
}

/// Whether a statement goes back to a savepoint: a transaction that has failed goes on behind it.
pub(crate) fn rolls_back_to(sql: &[u8]) -> bool {
    is_rollback_to(Reader::new(sql))
}

fn is_rollback_to(mut reader: Reader<'_>) -> bool {
    let is_rollback = reader.eat("rollback") || reader.eat("abort");
    let _noise = reader.eat("work") || reader.eat("transaction");
    is_rollback && reader.eat("to")
}

/// The end of the transaction, behind which another one begins that is like it.
fn is_chain(mut reader: Reader<'_>) -> bool {
    let is_end = ["commit", "end", "rollback", "abort"].iter().any(|word| reader.eat(word));
    let _noise = reader.eat("work") || reader.eat("transaction");
    is_end && reader.eat("and") && reader.eat("chain") && reader.is_at_end()
}

/// A cursor that ends with the transaction, over a read.
fn cursor(statement: &[u8]) -> WithinReading {
    let mut lexer = Lexer::new(statement);
    while let Ok(Some(token)) = lexer.next() {
        if is_word(token, "hold") {
            return WithinReading::Other;
        }
        if is_word(token, "for") {
            return if is_read(&statement[lexer.at()..]).is_ok() {
                WithinReading::Reads
            } else {
                WithinReading::Other
            };
        }
    }
    WithinReading::Other
}

/// A setting of which a standby has the same value.
fn is_show(mut reader: Reader<'_>) -> bool {
    let is_show = reader.eat("show");
    let is_of_server = reader.eat("in_hot_standby") || reader.eat("all");
    let is_name = matches!(reader.bump(), Some(Token::Word(_)));
    is_show && !is_of_server && is_name && reader.is_at_end()
}

/// A setting that ends with the transaction, of a name that says nothing about transactions, users or the proxy.
fn is_local_setting(mut reader: Reader<'_>, sql: &[u8]) -> bool {
    const OTHERS: [&str; 6] =
        ["transaction", "default_transaction", "session", "role", "trunkline", "constraints"];
    let is_local = reader.eat("set") && reader.eat("local");
    let is_fine = matches!(reader.peek(), Some(Token::Word(name))
        if !OTHERS.iter().any(|other| name.get(..other.len()).is_some_and(|it| it.eq_ignore_ascii_case(other.as_bytes()))));
    is_local && is_fine && read(sql).pins.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_only_reads_is_known_by_all_its_words() {
        for (sql, tag) in [
            ("BEGIN READ ONLY", "BEGIN"),
            ("begin transaction read only;", "BEGIN"),
            ("BEGIN WORK ISOLATION LEVEL REPEATABLE READ, READ ONLY", "BEGIN"),
            ("BEGIN READ ONLY NOT DEFERRABLE", "BEGIN"),
            ("; ; BEGIN READ ONLY;", "BEGIN"),
            ("/* of a driver */ BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", "BEGIN"),
            ("START TRANSACTION READ ONLY", "START TRANSACTION"),
            ("START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED READ ONLY, DEFERRABLE", "START TRANSACTION"),
        ] {
            let begin = begins_read_only(sql.as_bytes(), AccessDefault::ReadWrite);
            assert_eq!(begin.map(|begin| begin.tag), Some(tag.as_bytes()), "{sql}");
        }
        let long = format!("BEGIN READ ONLY{}", " ".repeat(BEGIN_BYTES_MAX));
        for sql in [
            "",
            "BEGIN",
            "BEGIN READ WRITE",
            "BEGIN READ",
            "BEGIN READ ONLY,",
            "BEGIN, READ ONLY",
            "BEGIN READ ONLY, READ WRITE",
            "BEGIN READ ONLY READ ONLY",
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "BEGIN READ ONLY; SELECT 1",
            "BEGIN READ ONLY 'unended",
            "BEGIN READ ONLY /* unended",
            "BEGIN \"read\" ONLY",
            "BEGIN READ ONLY NOT",
            "START READ ONLY",
            "BEGIN ATOMIC READ ONLY",
            "BEGIN READ ONLY -- \u{e9}",
            "SELECT 1",
            &long,
        ] {
            assert_eq!(begins_read_only(sql.as_bytes(), AccessDefault::ReadWrite), None, "{sql}");
        }
    }

    #[test]
    fn what_is_set_behind_begin_counts_as_if_begin_had_said_it() {
        for (begin, set, expected) in [
            ("BEGIN", "SET TRANSACTION READ ONLY", "BEGIN READ ONLY"),
            (
                "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "set transaction read only, not deferrable",
                "BEGIN ISOLATION LEVEL REPEATABLE READ, read only, not deferrable",
            ),
            (
                "BEGIN READ ONLY",
                "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
                "BEGIN READ ONLY, ISOLATION LEVEL READ COMMITTED",
            ),
            ("BEGIN", "SET TRANSACTION READ WRITE", ""),
            ("BEGIN READ WRITE", "SET TRANSACTION READ ONLY", ""),
            ("BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", ""),
            ("BEGIN", "SET TRANSACTION SNAPSHOT 'a'", ""),
            ("BEGIN", "SET TRANSACTION", ""),
            ("BEGIN", "SET LOCAL transaction_read_only = on", ""),
            ("BEGIN", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", ""),
            ("SELECT 1", "SET TRANSACTION READ ONLY", ""),
        ] {
            let default = AccessDefault::ReadWrite;
            let both = format!("{begin}; {set};");
            let found = begins_read_only(both.as_bytes(), default);
            let found = found.map(|begin| (begin.sets, String::from_utf8_lossy(&begin.sql).into_owned()));
            assert_eq!(found, (!expected.is_empty()).then(|| (true, expected.to_owned())), "{both}");
            let is_so = begins_read_only_by(begin.as_bytes(), set.as_bytes(), default);
            assert_eq!(is_so, !expected.is_empty(), "{both}");
        }
        assert_eq!(
            begins_read_only(b"BEGIN; SET TRANSACTION READ ONLY; SELECT 1", AccessDefault::ReadWrite),
            None
        );
    }

    #[test]
    fn by_default_a_transaction_may_only_read_without_a_word() {
        for (sql, is_read_only) in [
            ("BEGIN", true),
            ("START TRANSACTION;", true),
            ("BEGIN ISOLATION LEVEL REPEATABLE READ", true),
            ("BEGIN READ ONLY", true),
            ("BEGIN READ WRITE", false),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE", false),
            ("BEGIN,", false),
            ("BEGIN; SELECT 1", false),
        ] {
            let begin = begins_read_only(sql.as_bytes(), AccessDefault::ReadOnly);
            assert_eq!(begin.is_some(), is_read_only, "{sql}");
        }
    }

    #[test]
    fn what_a_standby_does_as_the_primary_does_goes_on_there() {
        for (sql, expected) in [
            ("SELECT 1", WithinReading::Reads),
            ("TABLE t;", WithinReading::Reads),
            ("DECLARE c NO SCROLL CURSOR FOR SELECT * FROM t", WithinReading::Reads),
            ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", WithinReading::Other),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", WithinReading::Other),
            ("DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE", WithinReading::Other),
            ("DECLARE c CURSOR", WithinReading::Other),
            ("FETCH 10 FROM c", WithinReading::Harmless),
            ("CLOSE c", WithinReading::Harmless),
            ("SAVEPOINT a", WithinReading::Harmless),
            ("RELEASE a", WithinReading::Harmless),
            ("ROLLBACK TO SAVEPOINT a", WithinReading::Harmless),
            ("", WithinReading::Harmless),
            ("SHOW search_path", WithinReading::Harmless),
            ("SHOW in_hot_standby", WithinReading::Other),
            ("SHOW ALL", WithinReading::Other),
            ("SHOW a.b", WithinReading::Other),
            ("SET LOCAL statement_timeout = 1000", WithinReading::Harmless),
            ("SET LOCAL transaction_read_only = off", WithinReading::Other),
            ("SET LOCAL ROLE a", WithinReading::Other),
            ("SET statement_timeout = 1000", WithinReading::Other),
            ("SET TRANSACTION READ WRITE", WithinReading::Other),
            ("INSERT INTO t VALUES (1)", WithinReading::IsRefused),
            ("WITH d AS (DELETE FROM t RETURNING a) SELECT * FROM d", WithinReading::Other),
            ("COMMIT", WithinReading::Ends),
            ("END TRANSACTION;", WithinReading::Ends),
            ("ROLLBACK", WithinReading::Ends),
            ("COMMIT AND CHAIN", WithinReading::Harmless),
            ("ROLLBACK TRANSACTION AND NO CHAIN", WithinReading::Ends),
            ("PREPARE TRANSACTION 'a'", WithinReading::Other),
            ("COMMIT; SELECT 1", WithinReading::Other),
            ("SELECT 1; SELECT 2", WithinReading::Other),
            ("LISTEN a", WithinReading::Other),
            ("NOTIFY a", WithinReading::Other),
            ("TRUNCATE t", WithinReading::Other),
            ("LOCK t IN SHARE MODE", WithinReading::Other),
            ("SELECT pg_advisory_lock(1)", WithinReading::Other),
            ("COPY t TO STDOUT", WithinReading::Other),
            ("DO $$BEGIN END$$", WithinReading::Other),
            ("EXECUTE p", WithinReading::Other),
            ("SELECT 'unended", WithinReading::Other),
        ] {
            assert_eq!(within(sql.as_bytes()), expected, "{sql}");
        }
    }

    #[test]
    fn a_failed_transaction_goes_on_until_its_end_alone() {
        for (sql, expected) in [
            ("SELECT 1", WithinReading::Harmless),
            ("ROLLBACK", WithinReading::Ends),
            ("COMMIT", WithinReading::Ends),
            ("ROLLBACK TO a", WithinReading::Harmless),
            ("ROLLBACK; INSERT INTO t VALUES (1)", WithinReading::Other),
            ("'unended", WithinReading::Other),
        ] {
            assert_eq!(within_failed(sql.as_bytes()), expected, "{sql}");
        }
    }
}
