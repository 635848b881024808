//! Prepared statements that SQL names: `EXECUTE`, `DEALLOCATE`, `PREPARE`, and the view that lists them.

use super::lexer::{Lexer, Token, is_in_word};
use super::reader::{Reader, is_word, unquote};
use crate::names::{Name, identifier};

/// Prepared statements that a text names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Those it may run.
    pub(crate) executed: Vec<Name>,
    /// Those whose names it uses without running them: it drops them, or prepares others of the same name.
    pub(crate) held: Vec<Name>,
    /// Whether it may list them all.
    pub(crate) lists_all: bool,
}

/// A common part of the names of the view and of its function.
const LISTS: &[u8] = b"pg_prepared_statement";

/// Whether SQL may name a statement, or list them: every text that does has one of these words.
pub(crate) fn may_refer(sql: &[u8]) -> bool {
    // A dollar may be the end of a quote.
    let is_free = |byte: Option<&u8>| byte.is_none_or(|byte| !is_in_word(*byte) || *byte == b'$');
    let is_at = |at: usize, word: &[u8]| {
        sql.get(at..at + word.len()).is_some_and(|window| window.eq_ignore_ascii_case(word))
    };
    sql.iter().enumerate().any(|(at, byte)| {
        let word: &[u8] = match byte {
            b'e' | b'E' => b"execute",
            b'd' | b'D' => b"deallocate",
            b'p' | b'P' if is_at(at, LISTS) => return true,
            b'p' | b'P' => b"prepare",
            _other => return false,
        };
        is_at(at, word)
            && is_free(sql.get(at + word.len()))
            && is_free(at.checked_sub(1).and_then(|before| sql.get(before)))
    })
}

/// Parts of the names of settings that decide how constants are read when a statement is prepared. search_path is not
/// among them: the server analyzes a statement again after it has changed.
const READING: [&[u8]; 12] = [
    b"client_encoding",
    b"names",
    b"lc_monetary",
    b"datestyle",
    b"timezone",
    b"time zone",
    b"intervalstyle",
    b"standard_conforming_strings",
    b"transform_null_equals",
    b"xml",
    b"array_nulls",
    b"reset all",
];

/// Whether SQL may change how constants are read in statements that are prepared after it.
pub(crate) fn may_change_reading(sql: &[u8]) -> bool {
    READING.iter().any(|part| sql.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part)))
}

/// Whether a statement has constants that depend on such settings: strings, or NULL in a comparison. Text that is not
/// ASCII depends on the encoding; text that does not end may have constants.
pub(crate) fn has_constants(sql: &[u8]) -> bool {
    if !sql.is_ascii() {
        return true;
    }
    let mut lexer = Lexer::new(sql);
    let (mut has_null, mut has_comparison) = (false, false);
    loop {
        match lexer.next() {
            Ok(Some(Token::String(_) | Token::OtherString)) | Err(_) => return true,
            Ok(Some(token)) => {
                has_null |= is_word(token, "null");
                has_comparison |= token == Token::Symbol(b'=');
            }
            Ok(None) => return has_null && has_comparison,
        }
    }
}

/// Reads SQL of one or several statements. SQL that cannot be read is refused by the server.
pub(crate) fn references(sql: &[u8]) -> References {
    let mut found = References::default();
    let mut lexer = Lexer::new(sql);
    let mut before = Before::Other;
    while let Ok(Some(token)) = lexer.next() {
        before = match before {
            Before::Execute => found.executes(token),
            Before::Deallocate => found.deallocates(token),
            Before::Prepare => found.prepares(token),
            Before::Other => found.other(token),
        };
    }
    found
}

/// The statement inside a PREPARE that does not declare the types of its parameters.
pub(crate) fn undeclared(prepare: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(prepare);
    reader.eat("prepare");
    reader.bump()?;
    reader.eat("as").then(|| reader.rest())
}

/// The keyword before a statement's name.
#[derive(Clone, Copy)]
enum Before {
    Execute,
    Deallocate,
    Prepare,
    Other,
}

impl References {
    fn executes(&mut self, token: Token<'_>) -> Before {
        self.executed.extend(name(token));
        Before::Other
    }

    fn deallocates(&mut self, token: Token<'_>) -> Before {
        // `PREPARE` may be the keyword or the name.
        self.held.extend(name(token));
        if is_word(token, "prepare") { Before::Deallocate } else { Before::Other }
    }

    fn prepares(&mut self, token: Token<'_>) -> Before {
        self.held.extend(name(token));
        Before::Other
    }

    fn other(&mut self, token: Token<'_>) -> Before {
        if is_word(token, "execute") {
            return Before::Execute;
        }
        if is_word(token, "deallocate") {
            return Before::Deallocate;
        }
        if is_word(token, "prepare") {
            return Before::Prepare;
        }
        if let Token::Word(word) | Token::Quoted(word) = token {
            let starts = |start: &[u8]| start.eq_ignore_ascii_case(LISTS);
            self.lists_all |= word.get(..LISTS.len()).is_some_and(starts);
        }
        Before::Other
    }
}

/// As PostgreSQL folds and truncates it. A statement is not kept if the truncation of its name depends on the encoding.
fn name(token: Token<'_>) -> Option<Name> {
    match token {
        Token::Word(word) => identifier(word.to_ascii_lowercase()),
        Token::Quoted(quoted) => identifier(unquote(quoted)),
        Token::String(_) | Token::OtherString | Token::Number | Token::Parameter(_) | Token::Symbol(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[Name]) -> Vec<String> {
        of.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn the_inside_of_a_prepare_without_types_is_found() {
        assert_eq!(undeclared(b"PREPARE s AS select $1 "), Some(&b"select $1 "[..]));
        assert_eq!(undeclared(b"prepare \"a s\"/**/as(select $1)"), Some(&b"(select $1)"[..]));
        assert_eq!(undeclared(b"prepare s(int) as select $1"), None);
        assert_eq!(undeclared(b"prepare s"), None);
    }

    #[test]
    fn a_statement_is_named_behind_a_whole_word() {
        for sql in ["EXECUTE s", "explain(verbose)execute s", "(select 1);deallocate all", "do $$execute s$$"]
        {
            assert!(may_refer(sql.as_bytes()), "{sql}");
        }
        for sql in ["select pg_prepared_statement()", "table PG_PREPARED_STATEMENTS"] {
            assert!(may_refer(sql.as_bytes()), "{sql}");
        }
        for sql in ["select executed_at from t", "select t.is_prepared", "select prepare2, re_execute from t"]
        {
            assert!(!may_refer(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn constants_are_strings_and_compared_nulls() {
        for sql in
            ["select 'x'", "select E'x'", "select $$x$$", "select a = null", "select (NULL) = a", "select 'x"]
        {
            assert!(has_constants(sql.as_bytes()), "{sql}");
        }
        for sql in ["select $1, 2 = 2", "select a is null", "select \"it's\"", "/* 'x' */ select 1"] {
            assert!(!has_constants(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn statements_are_found_where_others_take_their_names() {
        for sql in ["prepare S as select 1", "begin; PREPARE \"s\" (int) AS execute t"] {
            assert_eq!(names(&references(sql.as_bytes()).held), ["s"], "{sql}");
            assert!(may_refer(sql.as_bytes()));
        }
    }

    #[test]
    fn statements_are_found_where_they_are_dropped_or_listed() {
        assert_eq!(names(&references(b"deallocate S").held), ["s"]);
        assert_eq!(names(&references(b"deallocate prepare s").held), ["prepare", "s"]);
        assert!(references(b"select name from pg_catalog.pg_prepared_statements").lists_all);
        assert!(references(b"select * from pg_prepared_statement()").lists_all);
        assert!(!references(b"select * from pg_prepared_xacts").lists_all);
    }
}
