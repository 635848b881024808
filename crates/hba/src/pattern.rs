//! Names, and regular expressions of them.
//!
//! PostgreSQL's expressions are matched by an engine that may take exponential time; the one here takes time that grows with
//! the name's length alone, and has no back-references and no looking around. What both accept and mean differently is
//! refused rather than guessed.

mod first_group;

use std::cell::Cell;

use regex::bytes::{Regex, RegexBuilder};

use crate::limits::{PATTERN_BYTES_MAX, PATTERNS_MAX};
use crate::problem::Wrong;
use crate::token::AuthToken;

/// Counts the expressions of one configuration.
#[derive(Debug, Default)]
pub(crate) struct PatternCount(Cell<usize>);

/// A user, a database, or several of one.
#[derive(Clone, Debug)]
pub(crate) enum NamePattern {
    /// The one of this name.
    Exact(Box<str>),
    /// Those that match.
    Matching(Regex),
}

impl NamePattern {
    pub(crate) fn of(token: &AuthToken, count: &PatternCount) -> Result<Self, Wrong> {
        match token.expression() {
            Some(expression) => count.compile(expression).map(NamePattern::Matching),
            None => Ok(NamePattern::Exact(token.text.as_str().into())),
        }
    }

    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self {
            NamePattern::Exact(exact) => exact.as_bytes() == name,
            NamePattern::Matching(expression) => expression.is_match(name),
        }
    }
}

/// Refuses an expression whose first group, which a map asks for, may be another text in PostgreSQL: it would let clients be
/// other users than there.
pub(crate) fn first_group_is_that_of_postgresql(expression: &Regex) -> Result<(), Wrong> {
    let Some(why) = first_group::doubt(expression.as_str()) else { return Ok(()) };
    Err(Wrong::new(format!("\\1 may stand for something else in PostgreSQL by \"{expression}\": {why}")).hint(
        "Write a line for each alternative, or $ at the end of an expression with alternatives behind its first group; up to there \
         repeat only characters and classes such as [^@]*.",
    ))
}

impl PatternCount {
    fn compile(&self, expression: &str) -> Result<Regex, Wrong> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > PATTERNS_MAX {
            return Err(Wrong::new(format!("there are more than {PATTERNS_MAX} regular expressions")));
        }
        let invalid = |reason: &str| {
            Wrong::new(format!("invalid regular expression \"{expression}\": {reason}"))
                .hint("Back-references and looking ahead or behind are PostgreSQL's alone.")
        };
        if let Some(differs) = means_something_else(expression) {
            return Err(invalid(differs));
        }
        // Names are bytes, and a dot is any of them, as PostgreSQL has it before a database is chosen.
        let built = RegexBuilder::new(expression)
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        built.map_err(|error| {
            let text = error.to_string();
            // The last line says what is wrong; those before it draw where.
            let reason = text.lines().last().unwrap_or_default();
            invalid(reason.strip_prefix("error: ").unwrap_or(reason))
        })
    }
}

/// Source: PostgreSQL 16, src/backend/regex/regc_locale.c, `classNames`.
const CLASSES: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "xdigit", "word",
];

/// What of an expression PostgreSQL would take for something else than the engine here.
/// Source: PostgreSQL 16, doc/src/sgml/func.sgml, "Regular Expression Escapes" and "Bracket Expressions".
fn means_something_else(expression: &str) -> Option<&'static str> {
    let text = expression.strip_prefix("(?i)").unwrap_or(expression);
    let mut rest = text.chars().peekable();
    let mut in_bracket = false;
    let mut first_of_group = false;
    while let Some(c) = rest.next() {
        let begins_group = std::mem::replace(&mut first_of_group, c == '(' && !in_bracket);
        match (c, rest.peek().copied()) {
            ('\\', Some('b' | 'B' | '<' | '>')) => {
                return Some("\\b, \\B, \\< and \\> are no word boundaries in PostgreSQL");
            }
            ('\\', Some('x' | 'u' | 'U' | 'p' | 'P' | 'Q' | 'E' | 'z')) => {
                return Some("this escape is written otherwise in PostgreSQL");
            }
            ('\\', _) => {
                rest.next();
            }
            ('?', next) if begins_group && next != Some(':') => {
                return Some("only (?: and, in front of all, (?i) can be used");
            }
            ('[', Some(':')) if in_bracket => {
                // A class such as [:alpha:], to its end.
                let class: String = rest.by_ref().skip(1).take_while(|c| *c != ']').collect();
                if !class.strip_suffix(':').is_some_and(|name| CLASSES.contains(&name)) {
                    return Some(
                        "there is no such class of characters in PostgreSQL, or it is a word boundary",
                    );
                }
            }
            ('[', _) if in_bracket => return Some("write \\[ for a bracket within brackets"),
            ('[', _) => {
                in_bracket = true;
                // A bracket at the front, behind ^, is one of the characters.
                if rest.peek() == Some(&'^') {
                    rest.next();
                }
                if rest.peek() == Some(&']') {
                    rest.next();
                }
            }
            (']', _) if in_bracket => in_bracket = false,
            ('&' | '-' | '~', Some(next)) if in_bracket && next == c => {
                return Some("write \\- for a hyphen within brackets, and && or ~~ not at all");
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<NamePattern, String> {
        let token = AuthToken { text: text.to_owned(), is_quoted: false };
        NamePattern::of(&token, &PatternCount::default()).map_err(|wrong| wrong.message)
    }

    #[test]
    fn expressions_match_as_in_postgresql() {
        for (text, name, is_match) in [
            ("/^db\\d{2,4}$", &b"db12"[..], true),
            ("/^db\\d{2,4}$", b"db1", false),
            ("/b", b"abc", true),
            ("/^.*$", b"adm\xff\n", true),
            ("/^[[:alpha:]_]+$", b"a_b", true),
            ("/^[[:alpha:][:digit:]{]+$", b"a1{", true),
            ("/^a\\{b$", b"a{b", true),
            ("/^a{1,2}$", b"aaa", false),
            ("/^[]a]$", b"]", true),
            ("/^(?:a|b)$", b"b", true),
            ("/(?i)^ADM", b"admin", true),
            ("/", b"anybody", true),
            ("/^\u{e9}$", "\u{e9}".as_bytes(), true),
            ("/^\\w+$", "\u{e9}".as_bytes(), false),
            ("exact", b"exact", true),
            ("exact", b"exact ", false),
        ] {
            let pattern = pattern(text).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(pattern.matches(name), is_match, "{text} {}", name.escape_ascii());
        }
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for text in [
            "/\\bx",
            "/a\\>",
            "/(?=a)",
            "/(?<n>a)",
            "/a(?i)b",
            "/[a&&b]",
            "/[a--b]",
            "/[a[b]]",
            "/[[:<:]]a",
            "/a[[:>:]]",
            "/[[:nothing:]]",
            "/[[:^alpha:]]",
            "/[[:alpha]",
            "/(a)\\1",
            "/(",
            "/[a",
            "/\\x41",
            "/a{1000}{1000}",
            "/*",
        ] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }

    #[test]
    fn expressions_are_counted() {
        let token = AuthToken { text: "/x".to_owned(), is_quoted: false };
        let count = PatternCount::default();
        for _ in 0..PATTERNS_MAX {
            assert!(NamePattern::of(&token, &count).is_ok());
        }
        assert!(NamePattern::of(&token, &count).is_err());
    }
}
