//! The tokens of one statement, taken one by one.

use super::lexer::{Lexer, Token};
use crate::names::{Name, identifier};

/// The tokens of one statement.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    lexer: Lexer<'a>,
    next: Option<Token<'a>>,
    pub(super) sql: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `sql` was split off by its tokens, so every token in it ends.
    pub(super) fn new(sql: &'a [u8]) -> Self {
        let mut lexer = Lexer::new(sql);
        let next = lexer.next().unwrap_or_default();
        Self { lexer, next, sql }
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.next
    }

    pub(super) fn bump(&mut self) -> Option<Token<'a>> {
        let token = self.next;
        self.next = self.lexer.next().unwrap_or_default();
        token
    }

    /// The SQL from the next token on.
    pub(super) fn rest(&self) -> &'a [u8] {
        if self.next.is_none() { &[] } else { &self.sql[self.lexer.start()..] }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.next.is_none()
    }

    pub(super) fn eat(&mut self, word: &str) -> bool {
        let is_it = self.next.is_some_and(|token| is_word(token, word));
        if is_it {
            self.bump();
        }
        is_it
    }

    pub(super) fn eat_symbol(&mut self, symbol: u8) -> bool {
        let is_it = self.next == Some(Token::Symbol(symbol));
        if is_it {
            self.bump();
        }
        is_it
    }

    /// A name as PostgreSQL folds and cuts it. `None` when that depends on the server's encoding.
    pub(super) fn name(&mut self) -> Option<Name> {
        match self.bump()? {
            Token::Word(word) if word.is_ascii() => identifier(word.to_ascii_lowercase()),
            Token::Quoted(quoted) => identifier(unquote(quoted)),
            _other => None,
        }
    }
}

pub(super) fn is_word(token: Token<'_>, word: &str) -> bool {
    matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word.as_bytes()))
}

pub(super) fn unquote(quoted: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    out
}
