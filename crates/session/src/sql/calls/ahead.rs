//! What only the next look knows: objects that sessions have created or changed a moment ago.

use super::keywords::{comes_before_a_name, is_of_language, makes_known_ones_run_more, never_names};
use super::{Calls, Folded, name_of};
use crate::sql::functions::{Functions, hash_of};
use crate::sql::lexer::{Lexer, Token};
use crate::sql::made::Made;

/// Hashes of those names in SQL that what sessions have made may have. SQL of words of the language alone runs nothing.
#[cold]
pub(crate) fn ahead_in(sql: &[u8], functions: &Functions) -> Vec<u64> {
    let made = functions.made();
    if *made == Made::Anything && names_made(sql) == Made::Nothing {
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut lexer = Lexer::new(sql);
    while let Ok(Some(token)) = lexer.next() {
        names.extend(name_of(token).map(|name| hash_of(&name)).filter(|name| made.may_have(*name)));
    }
    names
}

/// What SQL that was read before runs of that. `None` when there is nothing.
#[cold]
pub(crate) fn ahead_of(sql: &[u8], functions: &Functions) -> Option<Calls> {
    let looks_done = functions.looks_done();
    let ahead = ahead_in(sql, functions);
    (!ahead.is_empty()).then(|| Calls { ahead, looks_done, ..Calls::default() })
}

/// What this SQL creates or changes: whatever has one of its names, but for words of the language. Those in the text of a DO or
/// a function count, too.
#[cold]
pub(crate) fn names_made(sql: &[u8]) -> Made {
    let mut found = MadeBySql::default();
    found.read(sql, Depth::Text);
    if found.is_anything { Made::Anything } else { Made::of(found.names) }
}

/// Where SQL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Text,
    /// In the text of a DO.
    Do,
    /// In that of a function, which does not run.
    Function,
}

/// What has been read of SQL that makes something.
#[derive(Debug, Default)]
struct MadeBySql {
    names: Vec<u64>,
    /// Its names do not tell all that it makes run something, or what it does.
    is_anything: bool,
}

impl MadeBySql {
    fn read(&mut self, sql: &[u8], depth: Depth) {
        let (mut place, mut statement) = (WordPlace::Elsewhere, StatementRead::Begins);
        let mut lexer = Lexer::new(sql);
        while let Ok(Some(token)) = lexer.next() {
            let text = &sql[lexer.start()..lexer.at()];
            let is_of_do = statement == StatementRead::Do && depth == Depth::Text;
            match token {
                Token::OtherString if depth == Depth::Text && text.starts_with(b"$") => {
                    self.read(inside(text), if is_of_do { Depth::Do } else { Depth::Function });
                }
                // The text of a DO in quotes.
                Token::String(_) | Token::OtherString => self.is_anything |= is_of_do,
                token => self.add_name(token, place),
            }
            if let (Token::Word(word), Depth::Text | Depth::Do) = (token, depth) {
                let word = Folded::of(word);
                self.is_anything |= makes_anything(word.name(), place)
                    || (depth == Depth::Do && word.name() == b"execute")
                    || (is_of_do && place == WordPlace::BehindLanguage && word.name() != b"plpgsql");
            }
            (place, statement) = (place.behind(token), statement.behind(token));
        }
    }

    fn add_name(&mut self, token: Token<'_>, place: WordPlace) {
        let is_of_language = |word: &[u8]| {
            let word = word.to_ascii_lowercase();
            is_of_language(&word) && (place != WordPlace::OfName || never_names(&word))
        };
        if !matches!(token, Token::Word(word) if is_of_language(word)) {
            self.names.extend(name_of(token).map(|name| hash_of(&name)));
        }
    }
}

/// Whether what is made is used by what has other names, by a word in this place.
fn makes_anything(word: &[u8], place: WordPlace) -> bool {
    match place {
        _ if word == b"alter" => true,
        WordPlace::BehindCreate => makes_known_ones_run_more(word),
        WordPlace::BehindReplace => word == b"view" || makes_known_ones_run_more(word),
        WordPlace::Elsewhere | WordPlace::OfName | WordPlace::BehindLanguage => false,
    }
}

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordPlace {
    Elsewhere,
    BehindCreate,
    BehindReplace,
    BehindLanguage,
    /// A name is to be expected.
    OfName,
}

impl WordPlace {
    fn behind(self, token: Token<'_>) -> Self {
        let Token::Word(word) = token else {
            return if token == Token::Symbol(b'.') { Self::OfName } else { Self::Elsewhere };
        };
        match (self, Folded::of(word).name()) {
            (_, b"create") => Self::BehindCreate,
            (_, b"language") => Self::BehindLanguage,
            (Self::BehindCreate, b"or" | b"constraint" | b"event" | b"unique") => Self::BehindCreate,
            (Self::BehindCreate, b"replace") => Self::BehindReplace,
            (Self::BehindReplace, b"constraint" | b"recursive" | b"temp" | b"temporary") => {
                Self::BehindReplace
            }
            (Self::OfName, b"if" | b"not" | b"exists" | b"only" | b"concurrently") => Self::OfName,
            (_, word) if comes_before_a_name(word) => Self::OfName,
            _others => Self::Elsewhere,
        }
    }
}

/// Which statement is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatementRead {
    Begins,
    Do,
    Other,
}

impl StatementRead {
    fn behind(self, token: Token<'_>) -> Self {
        match (self, token) {
            (_, Token::Symbol(b';')) => Self::Begins,
            (Self::Begins, Token::Word(word)) if word.eq_ignore_ascii_case(b"do") => Self::Do,
            (Self::Begins, _) => Self::Other,
            (other, _) => other,
        }
    }
}

/// What is between the dollars of a string.
fn inside(string: &[u8]) -> &[u8] {
    let Some(tag) = string.strip_prefix(b"$").and_then(|rest| rest.iter().position(|byte| *byte == b'$'))
    else {
        return &[];
    };
    let delimiter = tag + 2;
    string.get(delimiter..string.len().saturating_sub(delimiter)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Made {
        Made::of(names.iter().map(|name| hash_of(name.as_bytes())).collect())
    }

    #[test]
    fn what_is_new_is_reached_by_its_names() {
        for (sql, made) in [
            ("create table a.b (c text default f('x'))", &["a", "b", "c", "f"][..]),
            ("CREATE TABLE if not exists Groups (owner text)", &["groups"]),
            ("create table \"select\" ()", &["select"]),
            ("create view v as select x from only key", &["v", "x", "key"]),
            (
                "create or replace function f() returns trigger language sql as $$select 'create rule', g()$$",
                &["f", "sql", "g"],
            ),
            ("do language plpgsql $x$ begin create view v as select 'alter table'; end $x$", &["v"]),
            (
                "create procedure p() language plpgsql as $$ begin alter table t add b int; execute c; end $$",
                &["p"],
            ),
            ("select 1", &[]),
        ] {
            let expected = names(made);
            let found = names_made(sql.as_bytes());
            let Made::Names(expected) = expected else {
                assert_eq!(found, Made::Nothing, "{sql}");
                continue;
            };
            for name in &expected {
                assert!(found != Made::Anything && found.may_have(*name), "{sql}: {found:?}");
            }
        }
    }

    #[test]
    fn what_makes_known_objects_run_more_is_reached_by_any_name() {
        for sql in [
            "alter table t enable row level security",
            "create trigger a before insert on t execute function f()",
            "CREATE OR REPLACE TRIGGER a before insert on t execute function f()",
            "create constraint trigger a after insert on t execute function f()",
            "create or replace rule r as on insert to t do also select f()",
            "create policy p on t using (f())",
            "create or replace view v as select f()",
            "create or replace recursive view v (a) as select f()",
            "create operator @@ (function = f)",
            "create cast (int as text) with function f",
            "create extension e",
            "create unique index on t (f(a))",
            "do $$ begin create trigger a before insert on t execute function f(); end $$",
            "begin; do $$ begin execute 'create trigger ...'; end $$",
            "do $$ begin for r in execute q loop end loop; end $$",
            "do 'begin create table t (); end'",
            "do e'begin create table t (); end'",
            "do language plperl $$ 1 $$",
            "do $$ 1 $$ language plperl",
        ] {
            assert_eq!(names_made(sql.as_bytes()), Made::Anything, "{sql}");
        }
    }
}
