//! The source of a function in SQL or PL/pgSQL: its effect, and the names that it mentions.
//!
//! It is read by words, not by its grammar, and text that is not understood pins. Functions and objects that it mentions
//! may have effects, too: the reader of all functions follows those.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::effect::{Change, Effect};
use super::lexer::{Lexer, Token, Unclear, is_in_word, trim_start};
use super::reader::{Reader, is_word, unquote};
use super::set::{self, known_key, outlives_transaction};
use super::suspicious_names::{SuspiciousNames, has_word, suspicious_names};
use crate::limits::{FUNCTION_SOURCE_MAX, SOURCE_DEPTH_MAX};
use crate::names::cut_in_utf8;
use crate::pin::PinReason;
use crate::sql::function_effect::{FunctionEffect, RUN_SQL};

pub(crate) mod plain;

/// A function by its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionSource {
    /// Its own effect.
    pub effect: FunctionEffect,
    /// Hashes of the names it calls.
    calls: BTreeSet<u64>,
    /// Hashes of all its words.
    words: BTreeSet<u64>,
    /// Its runs of operator characters.
    operators: BTreeSet<Box<[u8]>>,
    /// It names the view whose update sets a setting.
    mentions_settings_view: bool,
    /// Why a standby must not run it, by itself.
    pub not_plain: Option<&'static str>,
}

impl FunctionSource {
    /// Reads the source of a function in SQL or PL/pgSQL.
    #[must_use]
    pub fn read(source: &[u8]) -> Self {
        let mut out = Self::default();
        out.read_text(source, 0);
        if out.mentions_settings_view && [&b"update"[..], b"merge"].iter().any(|word| has_word(source, word))
        {
            out.pin(PinReason::UnknownSetting);
        }
        out.effect.see_what_it_creates();
        out
    }

    /// Whether it may call a function of this name, as the server stores it.
    #[must_use]
    pub fn calls(&self, name: &[u8]) -> bool {
        self.calls.contains(&hash(name))
    }

    /// Whether it mentions a relation or type of this name, as the server stores it.
    #[must_use]
    pub fn mentions(&self, name: &[u8]) -> bool {
        self.words.contains(&hash(name))
    }

    /// Hashes of all names that it calls or mentions.
    pub fn names(&self) -> impl Iterator<Item = u64> {
        self.words.iter().copied()
    }

    /// The hash that [`Self::names`] has for a name, as the server stores it.
    #[must_use]
    pub fn hash_of(name: &[u8]) -> u64 {
        hash(name)
    }

    /// Whether it uses operators at all.
    #[must_use]
    pub fn has_operators(&self) -> bool {
        !self.operators.is_empty()
    }

    /// Whether it may use this operator.
    #[must_use]
    pub fn operates(&self, operator: &[u8]) -> bool {
        !operator.is_empty()
            && self.operators.iter().any(|run| run.windows(operator.len()).any(|part| part == operator))
    }

    fn pin(&mut self, reason: PinReason) {
        self.effect.add(&FunctionEffect::pins(reason));
    }

    fn read_text(&mut self, source: &[u8], depth: usize) {
        if source.len() > FUNCTION_SOURCE_MAX || depth > SOURCE_DEPTH_MAX {
            return self.pin(PinReason::OpaqueFunction);
        }
        let Ok(text) = SourceText::of(source) else { return self.pin(PinReason::OpaqueFunction) };
        self.judge(&text);
        let mut at = 0;
        while at < text.tokens.len() {
            at = self.read_token(&text, at, depth);
        }
    }

    /// Reads the token `at` and what belongs to it; returns the position of the next token.
    fn read_token(&mut self, text: &SourceText<'_>, at: usize, depth: usize) -> usize {
        match text.tokens[at].token {
            Token::Word(word) => {
                let name = word.to_ascii_lowercase();
                if let Some(length) = self.read_word(text, at, &name, depth) {
                    return at + length;
                }
                self.mention(text, at, &name);
            }
            Token::Quoted(quoted) => {
                let name = unquote(quoted);
                if *name == *b"set_config" {
                    self.read_set_config(text, at);
                }
                self.mention(text, at, &name);
            }
            Token::String(_) | Token::OtherString => self.read_string(text.raw(at)),
            Token::Symbol(symbol) if is_of_operator(symbol) => return self.read_operator(text, at),
            Token::Number | Token::Parameter(_) | Token::Symbol(_) => {}
        }
        at + 1
    }

    fn mention(&mut self, text: &SourceText<'_>, at: usize, name: &[u8]) {
        let name = cut_in_utf8(name);
        self.words.insert(hash(name));
        if text.is_symbol(at + 1, b'(') {
            self.calls.insert(hash(name));
            if let Some(runner) = RUN_SQL.iter().find(|runner| runner.as_bytes() == name) {
                self.pin(PinReason::SideEffects(runner));
            }
        }
        let found = suspicious_names(text.raw(at));
        self.suspect(&found);
    }

    /// What names of PostgreSQL's functions mean anywhere.
    fn suspect(&mut self, found: &SuspiciousNames) {
        self.effect.pins.extend(&found.pins);
        self.effect.is_once |= found.is_once || found.has_sequence;
        self.effect.uses_sequences |= found.has_sequence;
        self.mentions_settings_view |= found.has_settings_view;
    }

    /// A string constant, which may be SQL that is run.
    fn read_string(&mut self, raw: &[u8]) {
        let found = suspicious_names(raw);
        self.suspect(&found);
        if found.has_set_config {
            self.pin(PinReason::UnknownSetting);
        }
        let mut rest = raw;
        while let Some(start) = rest.iter().position(|b| is_in_word(*b)) {
            let length = rest[start..].iter().position(|b| !is_in_word(*b)).unwrap_or(rest.len() - start);
            let (word, after) = rest[start..].split_at(length);
            let word = hash(&cut_in_utf8(word).to_ascii_lowercase());
            self.words.insert(word);
            if matches!(trim_start(after), [b'(' | b'"', ..]) {
                self.calls.insert(word);
            }
            rest = after;
        }
    }

    fn read_operator(&mut self, text: &SourceText<'_>, at: usize) -> usize {
        let start = text.tokens[at].start;
        let mut end = at;
        while let Some(placed) = text.tokens.get(end)
            && let Token::Symbol(symbol) = placed.token
            && is_of_operator(symbol)
            && placed.start == start + (end - at)
        {
            end += 1;
        }
        self.operators.insert(text.source[start..start + (end - at)].into());
        end
    }

    /// A keyword. `Some` with the number of tokens when they need no further reading.
    fn read_word(&mut self, text: &SourceText<'_>, at: usize, word: &[u8], depth: usize) -> Option<usize> {
        match word {
            b"set_config" => self.read_set_config(text, at),
            b"execute" => return self.read_execute(text, at, depth),
            b"temp" | b"temporary"
                if text.is_behind(at, &["create", "local", "global", "into", "replace"]) =>
            {
                self.pin(PinReason::TemporaryObject);
            }
            b"hold" if text.is_behind(at, &["with"]) => self.pin(PinReason::HoldCursor),
            _other if text.begins_statement(at) => self.read_statement(text, at, word),
            _other => {}
        }
        None
    }

    /// The first word of a statement, where it matters here. Event triggers run for most that create or change objects.
    fn read_statement(&mut self, text: &SourceText<'_>, at: usize, word: &[u8]) {
        match word {
            b"set" => self.read_set(text, at, set::set),
            b"reset" => self.read_set(text, at, set::reset),
            b"listen" => self.pin(PinReason::Listen),
            b"load" => self.pin(PinReason::Load),
            b"create" if text.is_word(at + 1, &["extension"]) => self.pin(PinReason::Load),
            b"create" if text.makes_temporary(at) => {}
            b"create" | b"alter" => {
                self.effect.creates = true;
                self.pin(PinReason::UnknownStatement("CREATE SEQUENCE"));
            }
            b"drop" => self.pin(PinReason::UnknownStatement("DROP TABLE")),
            b"comment" | b"security" => self.pin(PinReason::UnknownStatement("COMMENT")),
            b"grant" | b"revoke" => self.pin(PinReason::UnknownStatement("GRANT")),
            b"refresh" => self.pin(PinReason::UnknownStatement("REFRESH MATERIALIZED VIEW")),
            b"reindex" => self.pin(PinReason::UnknownStatement("REINDEX TABLE")),
            b"import" => self.pin(PinReason::UnknownStatement("CREATE")),
            b"prepare" => self.pin(PinReason::UnknownStatement("PREPARE")),
            b"deallocate" => self.pin(PinReason::UnknownStatement("DEALLOCATE")),
            b"discard" => self.pin(PinReason::UnknownStatement("DISCARD")),
            b"do" => self.pin(PinReason::UnknownStatement("DO")),
            b"notify" => self.effect.is_once = true,
            _other => {}
        }
    }

    fn read_set(&mut self, text: &SourceText<'_>, at: usize, read: fn(&mut Reader<'_>) -> Effect) {
        let mut reader = Reader::new(text.statement(at));
        reader.bump();
        match read(&mut reader) {
            Effect::Change(changes) => changes.iter().for_each(|change| match change {
                Change::Set { key, .. } | Change::Reset { key, .. } => self.sets(key),
                Change::Local { key, .. } => self.sets(key),
                Change::ResetAll => self.pin(PinReason::UnknownSetting),
            }),
            Effect::Local => {}
            Effect::Pin(reason) => self.pin(reason),
            _other => self.pin(PinReason::UnknownSetting),
        }
    }

    fn sets(&mut self, key: &str) {
        match key {
            "session_authorization" | "standard_conforming_strings" => self.pin(PinReason::UnknownSetting),
            "seed" => self.pin(PinReason::SideEffects("setseed")),
            "transaction_isolation" | "transaction_read_only" | "transaction_deferrable" => {}
            _readable => {
                self.effect.add(&FunctionEffect::sets(key));
            }
        }
    }

    /// `set_config('name', ..., false)`. A name that is not a constant may be that of any setting.
    fn read_set_config(&mut self, text: &SourceText<'_>, at: usize) {
        let Some(call) = ConstantSetConfig::read(text, at) else {
            return self.pin(PinReason::UnknownSetting);
        };
        if !call.is_local || call.key == "seed" || outlives_transaction(&call.key) {
            self.sets(&call.key);
        }
    }

    /// EXECUTE of a constant is read; of anything else, it pins.
    fn read_execute(&mut self, text: &SourceText<'_>, at: usize, depth: usize) -> Option<usize> {
        let is_privilege = text.is_word(at + 1, &["on"]);
        // A variable may have such a name, too.
        let is_of_trigger = text.is_word(at + 1, &["function", "procedure"])
            && !text.is_word(at + 2, &["into", "using", "loop"])
            && (text.is_symbol(at + 3, b'(') || text.is_symbol(at + 3, b'.'));
        if is_privilege || is_of_trigger {
            return None;
        }
        match (text.token(at + 1), text.token(at + 2)) {
            (Some(Token::String(sql)), after) if ends_execute(after) => {
                self.read_text(&undouble(sql), depth + 1);
                Some(2)
            }
            _unknown => {
                self.pin(PinReason::SideEffects("EXECUTE"));
                None
            }
        }
    }
}

fn ends_execute(token: Option<Token<'_>>) -> bool {
    let words = ["into", "using", "loop"];
    token.is_none_or(|token| token == Token::Symbol(b';') || words.iter().any(|word| is_word(token, word)))
}

/// A call of `set_config` with a name that is a constant.
struct ConstantSetConfig {
    key: String,
    is_local: bool,
}

impl ConstantSetConfig {
    fn read(text: &SourceText<'_>, at: usize) -> Option<Self> {
        if !text.is_symbol(at + 1, b'(') {
            return None;
        }
        let Some(Token::String(name)) = text.token(at + 2) else { return None };
        let mut next = at + 3;
        // PostgreSQL prints the constant of a parsed body with a cast: 'name'::text.
        if text.is_symbol(next, b':') && text.is_symbol(next + 1, b':') {
            next += 3;
        }
        if !text.is_symbol(next, b',') {
            return None;
        }
        let key = known_key(&undouble(name))?;
        let end = text.end_of_parenthesis(at + 1)?;
        let is_named = |arrow: usize| {
            text.is_symbol(arrow, b'>')
                && text.is_symbol(arrow - 1, b'=')
                && text.is_behind(arrow - 1, &["is_local"])
        };
        let is_alone = text.is_symbol(end - 2, b',') || is_named(end - 2);
        Some(Self { key, is_local: text.is_word(end - 1, &["true"]) && is_alone })
    }
}

/// A token and where it begins and ends.
struct SpannedToken<'a> {
    token: Token<'a>,
    start: usize,
    end: usize,
}

/// The tokens of a source.
struct SourceText<'a> {
    source: &'a [u8],
    tokens: Vec<SpannedToken<'a>>,
}

impl<'a> SourceText<'a> {
    fn of(source: &'a [u8]) -> Result<Self, Unclear> {
        let mut lexer = Lexer::new(source);
        let mut tokens = Vec::new();
        while let Some(token) = lexer.next()? {
            tokens.push(SpannedToken { token, start: lexer.start(), end: lexer.at() });
        }
        Ok(Self { source, tokens })
    }

    fn token(&self, at: usize) -> Option<Token<'a>> {
        self.tokens.get(at).map(|placed| placed.token)
    }

    fn raw(&self, at: usize) -> &'a [u8] {
        self.tokens.get(at).map_or(&[], |placed| &self.source[placed.start..placed.end])
    }

    fn is_symbol(&self, at: usize, symbol: u8) -> bool {
        self.token(at) == Some(Token::Symbol(symbol))
    }

    fn is_word(&self, at: usize, words: &[&str]) -> bool {
        self.token(at).is_some_and(|token| words.iter().any(|word| is_word(token, word)))
    }

    /// Whether the CREATE at this token makes a temporary object.
    fn makes_temporary(&self, at: usize) -> bool {
        let is_replacement = self.is_word(at + 1, &["or"]) && self.is_word(at + 2, &["replace"]);
        let kind = if is_replacement { at + 3 } else { at + 1 };
        let kind = kind + usize::from(self.is_word(kind, &["local", "global"]));
        self.is_word(kind, &["temp", "temporary"])
    }

    fn is_behind(&self, at: usize, words: &[&str]) -> bool {
        at.checked_sub(1).is_some_and(|before| self.is_word(before, words))
    }

    /// Whether a statement may begin with the token `at`.
    fn begins_statement(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return true };
        // The end of a <<label>>.
        let is_labelled = self.is_symbol(before, b'>') && before > 0 && self.is_symbol(before - 1, b'>');
        is_labelled
            || self.is_symbol(before, b';')
            || self.is_word(before, &["begin", "atomic", "then", "else", "loop"])
    }

    /// The statement that begins with the token `at`, without its semicolon.
    fn statement(&self, at: usize) -> &'a [u8] {
        let is_end = |placed: &&SpannedToken<'_>| placed.token == Token::Symbol(b';');
        let end = self.tokens[at..].iter().find(is_end).map_or(self.source.len(), |placed| placed.start);
        &self.source[self.tokens[at].start..end]
    }

    /// The token that closes the parenthesis `at`.
    fn end_of_parenthesis(&self, at: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (place, placed) in self.tokens.iter().enumerate().skip(at) {
            match placed.token {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') => depth = depth.checked_sub(1)?,
                _other => {}
            }
            if depth == 0 {
                return Some(place);
            }
        }
        None
    }
}

fn is_of_operator(symbol: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&symbol)
}

/// The value of a string constant.
fn undouble(quoted: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'\'' {
            bytes.next();
        }
    }
    out
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
