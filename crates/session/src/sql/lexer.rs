//! SQL as tokens, by the rules of PostgreSQL's own scanner with `standard_conforming_strings` on.
//!
//! Total: every byte sequence gives tokens or [`Unclear`], and every step advances.
//! Source: PostgreSQL 18, src/backend/parser/scan.l.

/// A token, with its bytes as written between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier or keyword without quotes.
    Word(&'a [u8]),
    /// An identifier in double quotes; a quote inside it is still doubled.
    Quoted(&'a [u8]),
    /// A string constant in plain single quotes; a quote inside it is still doubled.
    String(&'a [u8]),
    /// Any other constant: with escapes, in dollar quotes, of bits.
    OtherString,
    Number,
    /// `$1` and its like; 0 for a number that no parameter has.
    Parameter(u16),
    /// Any other character.
    Symbol(u8),
}

/// The SQL ends inside a quote or comment, so the server will refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclear;

#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    /// Where the last token began.
    start: usize,
}

/// Source: PostgreSQL 18, src/backend/parser/scan.l, `space`.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Without the space at its beginning.
pub(super) fn trim_start(sql: &[u8]) -> &[u8] {
    let start = sql.iter().position(|b| !is_space(*b)).unwrap_or(sql.len());
    &sql[start..]
}

/// Without the space at its end.
pub(super) fn trim_end(sql: &[u8]) -> &[u8] {
    let end = sql.iter().rposition(|b| !is_space(*b)).map_or(0, |last| last + 1);
    &sql[..end]
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

pub(crate) fn is_in_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self { sql, at: 0, start: 0 }
    }

    /// Where the last token began.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Where the last token ended.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    /// The next token; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Token<'a>>, Unclear> {
        self.skip_blank()?;
        self.start = self.at;
        let Some(first) = self.peek(0) else { return Ok(None) };
        let token = match first {
            b'\'' => Token::String(self.quoted(1, b'\'')?),
            b'"' => Token::Quoted(self.quoted(1, b'"')?),
            b'$' => self.dollar()?,
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|b| b.is_ascii_digit()) => self.number(),
            letter if begins_word(letter) => self.word()?,
            symbol => {
                self.at += 1;
                Token::Symbol(symbol)
            }
        };
        debug_assert!(self.at > self.start, "every token has a byte");
        Ok(Some(token))
    }

    /// Whitespace and comments.
    fn skip_blank(&mut self) -> Result<(), Unclear> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(byte), _) if is_space(byte) => self.at += 1,
                (Some(b'-'), Some(b'-')) => {
                    let rest = &self.sql[self.at..];
                    let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                    self.at += end.unwrap_or(rest.len());
                }
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                _token => return Ok(()),
            }
        }
    }

    /// Comments nest.
    fn skip_comment(&mut self) -> Result<(), Unclear> {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unclear),
            }
        }
    }

    /// The text between quotes that begin after `prefix` bytes; a quote inside it is doubled.
    fn quoted(&mut self, prefix: usize, quote: u8) -> Result<&'a [u8], Unclear> {
        let start = self.at + prefix;
        let mut at = start;
        loop {
            let found = self.sql[at..].iter().position(|b| *b == quote).ok_or(Unclear)?;
            at += found + 1;
            if self.sql.get(at) != Some(&quote) {
                self.at = at;
                return Ok(&self.sql[start..at - 1]);
            }
            at += 1;
        }
    }

    /// A string in which a backslash escapes.
    fn escaped(&mut self) -> Result<(), Unclear> {
        self.at += 2;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'\\'), Some(_)) => self.at += 2,
                (Some(b'\''), Some(b'\'')) => self.at += 2,
                (Some(b'\''), _) => {
                    self.at += 1;
                    match self.next_part() {
                        Some(start) => self.at = start + 1,
                        None => return Ok(()),
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unclear),
            }
        }
    }

    /// Where the quote is by which a string goes on, in the same way, on a further line.
    fn next_part(&self) -> Option<usize> {
        let (mut at, mut has_newline) = (self.at, false);
        while let Some(byte) = self.sql.get(at) {
            match byte {
                b'\n' | b'\r' => has_newline = true,
                b' ' | b'\t' | 0x0b | 0x0c => {}
                b'-' if self.sql.get(at + 1) == Some(&b'-') => {
                    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
                    at += self.sql[at..].iter().position(is_end)?;
                    continue;
                }
                b'\'' if has_newline => return Some(at),
                _other => return None,
            }
            at += 1;
        }
        None
    }

    fn word(&mut self) -> Result<Token<'a>, Unclear> {
        match (self.peek(0).map(|b| b.to_ascii_lowercase()), self.peek(1), self.peek(2)) {
            (Some(b'e'), Some(b'\''), _) => {
                self.escaped()?;
                return Ok(Token::OtherString);
            }
            (Some(b'b' | b'x' | b'n'), Some(b'\''), _) => {
                self.quoted(2, b'\'')?;
                return Ok(Token::OtherString);
            }
            (Some(b'u'), Some(b'&'), Some(quote @ (b'\'' | b'"'))) => {
                self.quoted(3, quote)?;
                return Ok(Token::OtherString);
            }
            _plain => {}
        }
        let rest = &self.sql[self.at..];
        let length = rest.iter().position(|b| !is_in_word(*b)).unwrap_or(rest.len());
        self.at += length;
        Ok(Token::Word(&rest[..length]))
    }

    fn number(&mut self) -> Token<'a> {
        let mut before = 0;
        while let Some(byte) = self.peek(0) {
            let is_sign = matches!(byte, b'+' | b'-') && matches!(before, b'e' | b'E');
            if !is_sign && !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'_') {
                break;
            }
            before = byte;
            self.at += 1;
        }
        Token::Number
    }

    /// A parameter, a string in dollar quotes, or a lone dollar.
    fn dollar(&mut self) -> Result<Token<'a>, Unclear> {
        let rest = &self.sql[self.at + 1..];
        if rest.first().is_some_and(u8::is_ascii_digit) {
            let length = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            self.at += 1 + length;
            let number = std::str::from_utf8(&rest[..length]).ok().and_then(|digits| digits.parse().ok());
            return Ok(Token::Parameter(number.unwrap_or(0)));
        }
        let is_tag = |b: &u8| is_in_word(*b) && *b != b'$';
        let length = rest.iter().position(|b| !is_tag(b)).unwrap_or(rest.len());
        if rest.get(length) != Some(&b'$') {
            self.at += 1;
            return Ok(Token::Symbol(b'$'));
        }
        let delimiter = &self.sql[self.at..self.at + length + 2];
        let body = &rest[length + 1..];
        let end = body.windows(delimiter.len()).position(|w| w == delimiter).ok_or(Unclear)?;
        self.at += 2 * delimiter.len() + end;
        Ok(Token::OtherString)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(sql: &str) -> Result<Vec<String>, Unclear> {
        let mut lexer = Lexer::new(sql.as_bytes());
        let mut out = Vec::new();
        while let Some(token) = lexer.next()? {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            out.push(match token {
                Token::Word(word) => text(word),
                Token::Quoted(name) => format!("\"{}\"", text(name)),
                Token::String(string) => format!("'{}'", text(string)),
                Token::OtherString => "string".into(),
                Token::Number => "number".into(),
                Token::Parameter(_) => "parameter".into(),
                Token::Symbol(symbol) => char::from(symbol).into(),
            });
        }
        Ok(out)
    }

    #[test]
    fn quotes_comments_and_constants_are_those_of_postgresql() {
        let cases: [(&str, &[&str]); 19] = [
            ("select 1;", &["select", "number", ";"]),
            ("a -- b ; c\n;", &["a", ";"]),
            ("a /* /* ; */ ; */ b", &["a", "b"]),
            ("'a''b' 'c;'", &["'a''b'", "'c;'"]),
            (r"'a\' ;", &[r"'a\'", ";"]),
            (r"E'a\' ;' ;", &["string", ";"]),
            ("E'a'\n'\\'' ;", &["string", ";"]),
            ("E'a' -- b\r\n\t'\\' ;' ;", &["string", ";"]),
            ("E'a' '\\' ;", &["string", "'\\'", ";"]),
            (r"e'''' ;", &["string", ";"]),
            ("\"a\"\";b\"", &["\"a\"\";b\""]),
            ("$$;$$ $a$ $$ ; $a$ ;", &["string", "string", ";"]),
            ("a$b$c $1 $2$3", &["a$b$c", "parameter", "parameter", "parameter"]),
            ("U&'x' u&\"y\" b'1' X'f' n'n'", &["string", "string", "string", "string", "string"]),
            ("1.5e-3 .5 0x1F 1_000", &["number", "number", "number", "number"]),
            ("a+--c\nb", &["a", "+", "b"]),
            ("a::b", &["a", ":", ":", "b"]),
            ("$", &["$"]),
            ("", &[]),
        ];
        for (sql, expected) in cases {
            assert_eq!(tokens(sql).as_deref(), Ok(&expected.map_to()[..]), "{sql}");
        }
    }

    trait MapTo {
        fn map_to(&self) -> Vec<String>;
    }

    impl MapTo for &[&str] {
        fn map_to(&self) -> Vec<String> {
            self.iter().map(|s| (*s).to_owned()).collect()
        }
    }

    #[test]
    fn what_does_not_end_is_unclear() {
        for sql in ["'", "'a''", "\"", "/*", "/* /* */", "E'\\'", "$$ $", "$a$ $b$", "U&'", "e'\\"] {
            assert_eq!(tokens(sql), Err(Unclear), "{sql}");
        }
    }

    /// Every string of a hostile alphabet, up to a length.
    #[test]
    fn nothing_panics_or_stands_still() {
        let alphabet = b"'\"$-/*\\eEu&;a1.\n \x80";
        for length in 0..=4_u32 {
            for number in 0..alphabet.len().pow(length) {
                let mut n = number;
                let mut sql = Vec::new();
                for _ in 0..length {
                    sql.push(alphabet[n % alphabet.len()]);
                    n /= alphabet.len();
                }
                let mut lexer = Lexer::new(&sql);
                let mut end = 0;
                while let Ok(Some(_)) = lexer.next() {
                    assert!(lexer.start() >= end && lexer.at() > lexer.start());
                    end = lexer.at();
                }
            }
        }
    }
}
