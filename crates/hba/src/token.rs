//! Words of a line.
//!
//! Source: PostgreSQL 16, src/backend/libpq/hba.c, `next_token`, `tokenize_auth_file`.

use std::borrow::Cow;

use crate::problem::Wrong;

/// A word, and whether it begins with a quote: then it is a name, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthToken {
    pub(crate) text: String,
    pub(crate) is_quoted: bool,
}

impl AuthToken {
    /// Whether it is this word with its special meaning.
    pub(crate) fn is_keyword(&self, keyword: &str) -> bool {
        !self.is_quoted && self.text == keyword
    }

    /// The role whose members are meant, of `+role`.
    pub(crate) fn members_of(&self) -> Option<&str> {
        self.text.strip_prefix('+').filter(|_| !self.is_quoted)
    }

    /// The regular expression, of `/expression`: quotes are there to have commas and blanks in it.
    pub(crate) fn expression(&self) -> Option<&str> {
        self.text.strip_prefix('/')
    }
}

/// The lines of a text with their numbers, where one that ends with a backslash goes on in the next.
pub(crate) fn logical_lines(text: &str) -> impl Iterator<Item = (usize, Cow<'_, str>)> {
    let mut lines = text.split('\n').enumerate();
    std::iter::from_fn(move || {
        let (index, first) = lines.next()?;
        let mut whole = Cow::Borrowed(first.trim_end_matches('\r'));
        // A backslash that the line before has left is none.
        let mut joined_at = 0;
        while whole.len() > joined_at && whole.ends_with('\\') {
            let line = whole.to_mut();
            line.pop();
            joined_at = line.len();
            let Some((_, next)) = lines.next() else { break };
            line.push_str(next.trim_end_matches('\r'));
        }
        Some((index + 1, whole))
    })
}

/// A word as it stands in its line.
#[derive(Debug)]
pub(crate) struct LineWord {
    pub(crate) token: AuthToken,
    /// Another word of the same field follows: there is a comma in between.
    pub(crate) has_more: bool,
}

/// The words of a line, up to a comment.
pub(crate) struct Words<'l> {
    rest: std::str::Chars<'l>,
}

impl<'l> Words<'l> {
    pub(crate) fn of(line: &'l str) -> Self {
        Words { rest: line.chars() }
    }

    /// The next one; `None` at the end of the line.
    pub(crate) fn next(&mut self) -> Result<Option<LineWord>, Wrong> {
        let mut next = self.rest.find(|c| !is_blank(*c) && *c != ',');
        let mut token = AuthToken { text: String::new(), is_quoted: false };
        let (mut in_quote, mut was_quote, mut saw_quote, mut has_more) = (false, false, false, false);
        while let Some(c) = next.filter(|c| in_quote || !is_blank(*c)) {
            if c == '#' && !in_quote {
                self.rest = "".chars();
                break;
            }
            if c == ',' && !in_quote {
                has_more = true;
                break;
            }
            if c != '"' || was_quote {
                token.text.push(c);
            }
            // Two quotes within quotes are one.
            was_quote = in_quote && c == '"' && !was_quote;
            if c == '"' {
                in_quote = !in_quote;
                saw_quote = true;
                token.is_quoted |= token.text.is_empty();
            }
            next = self.rest.next();
        }
        if in_quote {
            let error = Wrong::new("a double quote is not closed on its line");
            return Err(error.hint("Close it; two double quotes within quotes stand for one."));
        }
        Ok((saw_quote || !token.text.is_empty()).then_some(LineWord { token, has_more }))
    }
}

/// Source: PostgreSQL 16, src/backend/libpq/hba.c, `pg_isblank`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line: quoted ones in brackets, a comma behind those that have more.
    fn words(line: &str) -> Result<String, String> {
        let (mut words, mut told) = (Words::of(line), Vec::new());
        while let Some(LineWord { token, has_more }) = words.next().map_err(|wrong| wrong.message)? {
            let shown = if token.is_quoted { format!("[{}]", token.text) } else { token.text };
            told.push(shown + if has_more { "," } else { "" });
        }
        Ok(told.join(" "))
    }

    #[test]
    fn words_are_what_postgresql_reads() {
        for (line, expected) in [
            ("", ""),
            (" \t\r ", ""),
            ("# host", ""),
            ("host all#all", "host all"),
            ("a,b , c", "a, b c"),
            ("a, b", "a, b"),
            (",,a,", "a,"),
            ("\"all\" a\"ll\"", "[all] all"),
            ("\"a b,c#d\"", "[a b,c#d]"),
            ("\"a\"\"b\"", "[a\"b]"),
            ("\"\"", "[]"),
            ("\"\"\"\"", "[\"]"),
            ("x\"\"", "x"),
            ("\"\"x", "[x]"),
            ("map=\"a b\"", "map=a b"),
        ] {
            assert_eq!(words(line), Ok(expected.to_owned()), "{line}");
        }
        for open in ["\"", "a\"b", "\"a\"\"", "\"a\" \"b"] {
            assert!(words(open).is_err(), "{open}");
        }
    }

    #[test]
    fn a_backslash_joins_lines_and_the_number_is_that_of_the_first() {
        let lines = |text| -> Vec<(usize, String)> {
            logical_lines(text).map(|(number, line)| (number, line.into_owned())).collect()
        };
        let expected = |lines: &[(usize, &str)]| -> Vec<(usize, String)> {
            lines.iter().map(|(number, line)| (*number, (*line).to_owned())).collect()
        };
        assert_eq!(lines("a\\\r\nb\\\nc\r\nd"), expected(&[(1, "abc"), (4, "d")]));
        assert_eq!(lines("a\\\\\n\nb"), expected(&[(1, "a\\"), (3, "b")]));
        assert_eq!(lines("a \\"), expected(&[(1, "a ")]));
        assert_eq!(lines("# a\\\nb\nc"), expected(&[(1, "# ab"), (3, "c")]));
    }
}
