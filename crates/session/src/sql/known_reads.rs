//! Statements that were found to read, kept for when they come again: most clients send the same few.

use std::collections::HashMap;

use super::functions::Functions;
use super::lexer::{Lexer, Token};
use super::verdict::ReadUnit;
use crate::limits::{KNOWN_READ_BYTES_MAX, KNOWN_READS_BYTES_MAX};

/// What stands for a number. No SQL with it is kept.
const NUMBER: u8 = 0;

/// Statements that read by the catalogs of their databases, of one thread. A statement counts as the same with other numbers in it,
/// and for as long as its database has the catalog by which it was judged.
#[derive(Debug, Default)]
pub struct KnownReads {
    reads: HashMap<Box<[u8]>, ReadUnit>,
    /// Of all keys.
    bytes: usize,
    key: Vec<u8>,
}

impl KnownReads {
    /// The statement, if it is known by the catalog in force; its parameters were declared with these types.
    pub(crate) fn get(&mut self, functions: &Functions, sql: &[u8], types: &[u8]) -> Option<ReadUnit> {
        if !may_be_kept(functions, sql, types) {
            return None;
        }
        self.write_key(functions, types, |key| key.extend_from_slice(sql));
        if !self.reads.contains_key(&*self.key) {
            self.write_key(functions, types, |key| write_without_numbers(sql, key));
        }
        self.reads.get(&*self.key).copied().filter(|read| functions.is_plainness_of(read.epoch, sql))
    }

    /// The statement was found to be this.
    pub(crate) fn keep(&mut self, functions: &Functions, sql: &[u8], types: &[u8], read: ReadUnit) {
        if !may_be_kept(functions, sql, types) {
            return;
        }
        self.write_key(functions, types, |key| write_without_numbers(sql, key));
        let more = self.key.len();
        if self.bytes + more > KNOWN_READS_BYTES_MAX {
            self.reads.clear();
            self.bytes = 0;
        }
        if self.reads.insert(self.key.as_slice().into(), read).is_none() {
            self.bytes += more;
        }
    }

    fn write_key(&mut self, functions: &Functions, types: &[u8], write_sql: impl FnOnce(&mut Vec<u8>)) {
        self.key.clear();
        self.key.extend_from_slice(&functions.number().to_ne_bytes());
        self.key.extend_from_slice(&types.len().to_ne_bytes());
        self.key.extend_from_slice(types);
        write_sql(&mut self.key);
    }
}

fn may_be_kept(functions: &Functions, sql: &[u8], types: &[u8]) -> bool {
    // What a session has just made is looked for in the SQL.
    sql.len() + types.len() <= KNOWN_READ_BYTES_MAX && !functions.is_change_ahead() && !sql.contains(&NUMBER)
}

/// Writes SQL that can be split into tokens, with the same for each of its numbers.
fn write_without_numbers(sql: &[u8], out: &mut Vec<u8>) {
    let mut lexer = Lexer::new(sql);
    let mut written = 0;
    while let Ok(Some(token)) = lexer.next() {
        if token == Token::Number {
            out.extend_from_slice(&sql[written..lexer.start()]);
            out.push(NUMBER);
            written = lexer.at();
        }
    }
    out.extend_from_slice(&sql[written..]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trunkline_codec::ids::Lsn;

    use super::*;
    use crate::sql::functions::{FunctionCatalog, UnlistedFunctions, hash_of};
    use crate::sql::made::Made;
    use crate::sql::plainness::PlainnessCatalog;
    use crate::sql::verdict::{CatalogProof, StatementVerdict, judge};

    /// With the relation `t`.
    fn catalog() -> FunctionCatalog {
        let relations = [b"t"[..].into()].into();
        let plainness = PlainnessCatalog { relations, position: Some(Lsn(1)), ..PlainnessCatalog::default() };
        let unread = FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread);
        FunctionCatalog { plainness: Some(plainness), ..unread }
    }

    fn functions() -> Functions {
        let functions = Functions::new(catalog());
        functions.look_ended(functions.look_begins(), None);
        functions
    }

    fn judged(functions: &Functions, sql: &str) -> ReadUnit {
        match judge(functions, sql.as_bytes(), &[], CatalogProof::Needed) {
            StatementVerdict::Reads(read) => read,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// Keeps a statement, and looks whether the other one is known then.
    #[track_caller]
    fn makes_known(sql: &str, other: &str) -> bool {
        let (functions, mut known) = (functions(), KnownReads::default());
        assert_eq!(known.get(&functions, sql.as_bytes(), &[]), None);
        let read = judged(&functions, sql);
        known.keep(&functions, sql.as_bytes(), &[], read);
        assert_eq!(known.get(&functions, sql.as_bytes(), &[]), Some(read), "{sql}");
        let found = known.get(&functions, other.as_bytes(), &[]);
        assert!(found.is_none_or(|found| found == judged(&functions, other)), "{other}");
        found.is_some()
    }

    #[test]
    fn a_statement_with_other_numbers_is_the_same() {
        for (sql, other) in [
            ("SELECT * FROM t", "SELECT * FROM t"),
            ("SELECT * FROM t WHERE a = 1", "SELECT * FROM t WHERE a = 234.5e6"),
            ("SELECT 1 FROM t WHERE a IN (1, 2)", "SELECT 23 FROM t WHERE a IN (3, 45)"),
            ("SELECT * FROM t WHERE a = $1 LIMIT 5", "SELECT * FROM t WHERE a = $1 LIMIT 10"),
            ("SELECT 1.5.5", "SELECT 2.25.0"),
        ] {
            assert!(makes_known(sql, other), "{sql} and {other}");
        }
        for (sql, other) in [
            ("SELECT * FROM t WHERE a = 1", "SELECT * FROM t WHERE a = '1'"),
            ("SELECT * FROM t WHERE a = 'b'", "SELECT * FROM t WHERE a = 'c'"),
            ("SELECT * FROM t WHERE a = $1", "SELECT * FROM t WHERE a = $2"),
            ("SELECT * FROM t", "select * from t"),
            ("SELECT a1 FROM t", "SELECT a2 FROM t"),
            ("SELECT '1' FROM t", "SELECT '2' FROM t"),
            ("SELECT $$1$$ FROM t", "SELECT $$2$$ FROM t"),
            ("SELECT 1 FROM t -- 1", "SELECT 1 FROM t -- 2"),
            ("SELECT 1", "SELECT 1, 1"),
        ] {
            assert!(!makes_known(sql, other), "{sql} and {other}");
        }
    }

    #[test]
    fn a_statement_is_known_by_its_database_and_its_types() {
        let (functions, other, mut known) = (functions(), functions(), KnownReads::default());
        let sql = b"SELECT $1 FROM t";
        let read = judged(&functions, "SELECT $1 FROM t");
        known.keep(&functions, sql, &[0, 0, 0, 25], read);
        assert_eq!(known.get(&functions, sql, &[0, 0, 0, 25]), Some(read));
        assert_eq!(known.get(&functions, sql, &[0, 0, 0, 23]), None);
        assert_eq!(known.get(&functions, sql, &[]), None);
        assert_eq!(known.get(&other, sql, &[0, 0, 0, 25]), None);
    }

    #[test]
    fn a_statement_is_judged_anew_by_another_catalog_and_while_one_is_due() {
        let (functions, mut known) = (functions(), KnownReads::default());
        let sql = b"SELECT 1 FROM t";
        let read = judged(&functions, "SELECT 1 FROM t");
        known.keep(&functions, sql, &[], read);
        functions.may_be_changed(&Made::of(vec![hash_of(b"t")]));
        assert_eq!(known.get(&functions, sql, &[]), None, "it may be another table");
        functions.look_ended(functions.look_begins(), None);
        assert_eq!(known.get(&functions, sql, &[]), Some(read), "it is the same");
        functions.is_not_watched();
        assert_eq!(known.get(&functions, sql, &[]), None, "nobody looks");
        functions.look_ended(functions.look_begins(), Some(catalog()));
        assert_eq!(known.get(&functions, sql, &[]), None, "there is another catalog");
        known.keep(&functions, sql, &[], judged(&functions, "SELECT 1 FROM t"));
        assert!(known.get(&functions, sql, &[]).is_some());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (functions, mut known) = (functions(), KnownReads::default());
        let read = judged(&functions, "SELECT 1 FROM t");
        for number in 0..20_000 {
            let sql = format!("SELECT a{number:01000} FROM t");
            known.keep(&functions, sql.as_bytes(), &[], read);
            assert!(known.bytes <= KNOWN_READS_BYTES_MAX);
            assert_eq!(known.bytes, known.reads.keys().map(|key| key.len()).sum::<usize>());
        }
        let long = format!("SELECT {} FROM t", "a".repeat(KNOWN_READ_BYTES_MAX));
        known.keep(&functions, long.as_bytes(), &[], read);
        assert_eq!(known.get(&functions, long.as_bytes(), &[]), None);
    }
}
