//! A hash that is the same for statements that differ only in their constants.

use std::fmt;

use super::lexer::{Lexer, Token};

/// A hash of a statement without its constants, comments, case and spacing: enough to find it again
/// in a log, and nothing of its values. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of one statement or several. SQL that ends inside a quote or comment counts up to there.
    #[must_use]
    pub fn of(sql: &[u8]) -> Self {
        let mut hash = Hash::new();
        let mut lexer = Lexer::new(sql);
        // A list of constants counts as one, however long it is.
        let (mut is_after_constant, mut has_comma) = (false, false);
        while let Ok(Some(token)) = lexer.next() {
            let is_constant = match token {
                Token::String(_) | Token::OtherString | Token::Number | Token::Parameter(_) => true,
                Token::Word(_) | Token::Quoted(_) | Token::Symbol(_) => false,
            };
            if token == Token::Symbol(b',') && is_after_constant && !has_comma {
                has_comma = true;
                continue;
            }
            let is_of_list = is_constant && is_after_constant && has_comma;
            if has_comma && !is_of_list {
                hash.token(b",");
            }
            has_comma = false;
            is_after_constant = is_constant;
            match token {
                _ if is_of_list => {}
                Token::Word(word) => hash.word(word),
                Token::Quoted(name) => hash.token(name),
                Token::Symbol(symbol) => hash.token(&[symbol]),
                Token::String(_) | Token::OtherString | Token::Number | Token::Parameter(_) => {
                    hash.token(b"?")
                }
            }
        }
        if has_comma {
            hash.token(b",");
        }
        Self(hash.0)
    }
}

impl Fingerprint {
    /// The hash.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// FNV-1a: the same in every process and version.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn token(&mut self, token: &[u8]) {
        self.bytes(token.iter().copied());
    }

    /// Whatever its case.
    fn word(&mut self, word: &[u8]) {
        self.bytes(word.iter().map(u8::to_ascii_lowercase));
    }

    fn bytes(&mut self, bytes: impl Iterator<Item = u8>) {
        for byte in bytes.chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Fingerprint {
        Fingerprint::of(sql.as_bytes())
    }

    #[test]
    fn constants_comments_case_and_spacing_do_not_count() {
        let one = of("SELECT a FROM t WHERE b = 1 AND c IN (1, 2, 3)");
        for same in [
            "select a from t where b=2 and c in (7)",
            "select a /* x */ from t\n where b = 'secret' and c in ($1, $2) -- y",
            "select a from t where b = $$secret$$ and c in ('x','y')",
        ] {
            assert_eq!(of(same), one, "{same}");
        }
    }

    #[test]
    fn names_and_shape_count() {
        let distinct = [
            "select a from t",
            "select b from t",
            "select ab from t",
            "select a, b from t",
            "select a from t where c = 1",
            "select a from t where c = 1 or d = 1",
            "select a from t where c in (1, d)",
            "select 1",
            "select 1,",
            "",
        ];
        for (at, sql) in distinct.iter().enumerate() {
            for other in &distinct[..at] {
                assert_ne!(of(sql), of(other), "{sql} and {other}");
            }
        }
    }

    #[test]
    fn it_stays_the_same_from_version_to_version() {
        assert_eq!(of("select 1").to_string(), "57955f1a2bad3868");
    }
}
