//! User-defined functions that SQL calls.
//!
//! A call is a name before a parenthesis. Names of functions that are known to change the session count anywhere,
//! even in a string, which may be SQL that runs later; unknown names count only where the grammar allows a function.

use super::lexer::{Lexer, Token, is_in_word, trim_end, trim_start};
use super::reader::unquote;
use crate::limits::{CALLS_PER_TEXT_MAX, NAME_BYTES_MAX};
use crate::names::{Name, cut_in_utf8};
use crate::pin::PinReason;
use crate::sql::function_effect::FunctionEffect;
use crate::sql::functions::{Called, FunctionCatalog, Functions, UnlistedFunctions, hash_of};

pub(crate) mod ahead;
mod keywords;
mod made;
pub(crate) mod plain;
mod relations;

use keywords::{comes_before_a_call, comes_before_no_call, is_keyword};

/// The functions that SQL calls and that are not known to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// The effect of those that are known.
    pub(crate) effect: FunctionEffect,
    /// Names of those that have not been read yet.
    pub(crate) unread: Vec<Name>,
    /// The types of parameters may run more, even of those that the SQL does not use.
    pub(crate) watches_types: bool,
    /// Hashes of names that the next look knows: what sessions have created or changed may have them.
    pub(crate) ahead: Vec<u64>,
    /// The last look that had ended before the text was read.
    pub(crate) looks_done: u64,
}

impl Calls {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.effect.is_harmless() && self.unread.is_empty()
    }

    /// Adds what parameters of these types run; four bytes each.
    pub(crate) fn add_types(&mut self, types: &[u8], functions: &Functions) {
        let catalog = functions.load();
        for oid in types.as_chunks::<4>().0 {
            if let Some(effect) = catalog.types.get(&u32::from_be_bytes(*oid)) {
                self.effect.add(effect);
            }
        }
    }

    fn wait_for(&mut self, name: &[u8]) {
        if !self.unread.iter().any(|known| **known == *name) {
            self.unread.push(name.into());
        }
    }
}

/// Whether SQL may call any.
#[inline]
pub(crate) fn may_call(sql: &[u8], functions: &Functions) -> bool {
    functions.watches_words() || sql.contains(&b'(')
}

/// The functions that SQL calls and that may change the session. `None` when there is none.
#[inline]
pub(crate) fn calls(sql: &[u8], functions: &Functions, called: &mut CalledNames) -> Option<Box<Calls>> {
    if !may_call(sql, functions) {
        return None;
    }
    look(sql, functions, called)
}

/// Hashes of the names of what a text runs that is known by the last look: user-defined functions, and relations and
/// types that run one. They may have been replaced since.
#[derive(Debug, Default)]
pub(crate) struct CalledNames {
    names: [u64; CALLS_PER_TEXT_MAX],
    count: usize,
    /// The last look that had ended before the text was read.
    looks_done: u64,
}

impl CalledNames {
    fn add(&mut self, name: &[u8]) {
        if let Some(place) = self.names.get_mut(self.count) {
            *place = hash_of(name);
        }
        self.count += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn looks_done(&self) -> u64 {
        self.looks_done
    }

    /// `None` when there are too many.
    pub(crate) fn names(&self) -> Option<&[u64]> {
        self.names.get(..self.count)
    }
}

fn look(sql: &[u8], functions: &Functions, called: &mut CalledNames) -> Option<Box<Calls>> {
    // Read before the catalog: a look that ends in between may not be in the catalog.
    let looks_done = functions.looks_done();
    called.looks_done = looks_done;
    let catalog = functions.load();
    let age = if functions.is_current() { Age::Current } else { Age::Old };
    if !functions.is_change_ahead()
        && !catalog.watches_words()
        && !made::may_be_made_by_select(sql, &catalog)
        && calls_nothing(sql, &catalog, age, called)
    {
        return None;
    }
    *called = CalledNames { looks_done, ..CalledNames::default() };
    let mut found = Calls { looks_done, ..look_closely(sql, &catalog, age, called) };
    if functions.is_change_ahead() {
        found.ahead = ahead::ahead_in(sql, functions);
    }
    (!found.is_empty() || found.watches_types || !found.ahead.is_empty()).then(|| Box::new(found))
}

/// The known functions that a part of long SQL calls.
#[cold]
pub(crate) fn calls_in_part(part: &[u8], functions: &Functions) -> Option<Box<Calls>> {
    let catalog = functions.load();
    let mut found = Calls::default();
    found.names_in(part, &catalog);
    found.operators_of(part, &catalog);
    found.without_name(&catalog);
    // The types of parameters come last.
    catalog.types.values().for_each(|effect| {
        found.effect.add(effect);
    });
    if !may_be_in_utf8(part) {
        found.beyond_ascii(&catalog);
    }
    (!found.is_empty()).then(|| Box::new(found))
}

/// Whether the catalog is current.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Current,
    Old,
}

/// A name as PostgreSQL folds and cuts it.
struct Folded {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl Folded {
    fn of(word: &[u8]) -> Self {
        let mut bytes = [0; NAME_BYTES_MAX];
        let cut = cut_in_utf8(word);
        let length = cut.len();
        bytes[..length].copy_from_slice(cut);
        bytes[..length].make_ascii_lowercase();
        Self { bytes, length }
    }

    fn name(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Whether the text before each parenthesis is called, as far as this is known without reading the SQL.
fn calls_nothing(sql: &[u8], catalog: &FunctionCatalog, age: Age, called: &mut CalledNames) -> bool {
    let mut from = 0;
    while let Some(found) = sql[from..].iter().position(|b| *b == b'(') {
        let before = trim_end(&sql[..from + found]);
        let blank = &sql[before.len()..from + found];
        from += found + 1;
        match before.last() {
            // The end of a name in quotes, or of a comment.
            Some(b'"' | b'/') => return false,
            // A comment may be before it.
            _any if blank.iter().any(|b| matches!(b, b'\n' | b'\r')) && has_line_comment(sql) => {
                return false;
            }
            Some(last) if is_in_word(*last) => {
                let folded = Folded::of(last_word(before));
                let name = folded.name();
                match catalog.called(name) {
                    Called::BuiltIn => {}
                    Called::UserDefined(effect) if effect.is_harmless() && age == Age::Current => {
                        called.add(name)
                    }
                    Called::Unknown if is_keyword(name) => {}
                    Called::UserDefined(_) | Called::Unknown => return false,
                }
            }
            Some(_) | None => {}
        }
    }
    true
}

fn has_line_comment(sql: &[u8]) -> bool {
    sql.windows(2).any(|pair| pair == b"--")
}

fn last_word(sql: &[u8]) -> &[u8] {
    let start = sql.iter().rposition(|b| !is_in_word(*b)).map_or(0, |at| at + 1);
    &sql[start..]
}

#[cold]
fn look_closely(sql: &[u8], catalog: &FunctionCatalog, age: Age, called: &mut CalledNames) -> Calls {
    let mut found = Calls { watches_types: !catalog.types.is_empty(), ..Calls::default() };
    let mut tokens = Vec::new();
    let mut lexer = Lexer::new(sql);
    // The server refuses a string or comment that does not end.
    while let Ok(Some(token)) = lexer.next() {
        tokens.push(PlacedToken { token, start: lexer.start(), end: lexer.at() });
    }
    for (at, placed) in tokens.iter().enumerate() {
        match placed.token {
            Token::Symbol(b'(') => found.call(&tokens, at, catalog, age, called),
            Token::String(_) | Token::OtherString => {
                found.names_in(&sql[placed.start..placed.end], catalog);
            }
            Token::Word(_) if made::is_made_by_select(&tokens, at, catalog) => {
                found.effect.pins.add(PinReason::UnknownStatement("SELECT INTO"));
            }
            Token::Word(_) | Token::Quoted(_) => {
                if let Some(name) = name_of(placed.token)
                    && let Some(effect) = catalog.words.get(&name)
                {
                    found.effect.add(effect);
                    called.add(&name);
                }
            }
            Token::Number | Token::Parameter(_) | Token::Symbol(_) => {}
        }
    }
    if !catalog.operators.is_empty() {
        found.operators_in(sql, &tokens, catalog);
    }
    found.without_name(catalog);
    if std::str::from_utf8(sql).is_err() {
        found.beyond_ascii(catalog);
    }
    found
}

/// A token and its position.
#[derive(Clone, Copy)]
struct PlacedToken<'a> {
    token: Token<'a>,
    start: usize,
    end: usize,
}

fn name_of(token: Token<'_>) -> Option<Name> {
    match token {
        Token::Word(word) => Some(Folded::of(word).name().into()),
        Token::Quoted(quoted) => {
            let name = unquote(quoted);
            Some(cut_in_utf8(&name).into())
        }
        Token::String(_) | Token::OtherString | Token::Number | Token::Parameter(_) | Token::Symbol(_) => {
            None
        }
    }
}

impl Calls {
    /// Reads the name before the parenthesis that is the token `at`.
    fn call(
        &mut self,
        tokens: &[PlacedToken<'_>],
        at: usize,
        catalog: &FunctionCatalog,
        age: Age,
        called: &mut CalledNames,
    ) {
        let Some(before) = at.checked_sub(1) else { return };
        let Some(name) = name_of(tokens[before].token) else { return };
        match catalog.called(&name) {
            Called::BuiltIn => {}
            Called::UserDefined(effect) => {
                self.effect.add(effect);
                match age {
                    Age::Old => self.wait_for(&name),
                    Age::Current => called.add(&name),
                }
            }
            Called::Unknown if is_keyword(&name) && matches!(tokens[before].token, Token::Word(_)) => {}
            Called::Unknown if !may_be_a_call(tokens, before) => {}
            Called::Unknown => match catalog.unlisted {
                UnlistedFunctions::Unread => self.wait_for(&name),
                UnlistedFunctions::Pins => {
                    self.effect.add(&FunctionEffect::pins(PinReason::UserFunction));
                }
            },
        }
    }

    /// Names in text that is not read as SQL: only functions that are known to change the session count.
    fn names_in(&mut self, text: &[u8], catalog: &FunctionCatalog) {
        let mut rest = text;
        while let Some(start) = rest.iter().position(|b| is_in_word(*b)) {
            let word_and_more = &rest[start..];
            let length = word_and_more.iter().position(|b| !is_in_word(*b)).unwrap_or(word_and_more.len());
            let (word, after) = word_and_more.split_at(length);
            rest = after;
            let folded = Folded::of(word);
            let is_called = matches!(trim_start(after), [b'(', ..] | [b'"', ..]);
            if let (true, Called::UserDefined(effect)) = (is_called, catalog.called(folded.name())) {
                self.effect.add(effect);
            }
            if let Some(effect) = catalog.words.get(folded.name()) {
                self.effect.add(effect);
            }
        }
    }

    /// An operator also counts as a part of a longer one: the ends of operators are not read here.
    fn operators_in(&mut self, sql: &[u8], tokens: &[PlacedToken<'_>], catalog: &FunctionCatalog) {
        let mut at = 0;
        while let Some(placed) = tokens.get(at) {
            let start = placed.start;
            let mut end = start;
            while let Some(PlacedToken { token: Token::Symbol(symbol), start, .. }) = tokens.get(at)
                && *start == end
                && is_of_operator(*symbol)
            {
                end += 1;
                at += 1;
            }
            if end == start {
                at += 1;
                continue;
            }
            self.operators_of(&sql[start..end], catalog);
        }
    }

    fn operators_of(&mut self, run: &[u8], catalog: &FunctionCatalog) {
        for (operator, effect) in &catalog.operators {
            if run.windows(operator.len()).any(|part| *part == **operator) {
                self.effect.add(effect);
            }
        }
    }

    fn without_name(&mut self, catalog: &FunctionCatalog) {
        if let Some(effect) = &catalog.everything {
            self.effect.add(effect);
        }
    }

    /// Names in another encoding than that of the catalog, UTF-8, may be any of these.
    fn beyond_ascii(&mut self, catalog: &FunctionCatalog) {
        for (name, effect) in &catalog.words {
            if !name.is_ascii() {
                self.effect.add(effect);
            }
        }
    }
}

/// Whether this part of a text may be UTF-8. It may begin and end within a character.
fn may_be_in_utf8(part: &[u8]) -> bool {
    let is_continuation = |byte: &u8| byte & 0xc0 == 0x80;
    let cut = part.iter().take(3).take_while(|byte| is_continuation(byte)).count();
    std::str::from_utf8(&part[cut..]).map_or_else(|error| error.error_len().is_none(), |_text| true)
}

/// Source: PostgreSQL 18, src/backend/parser/scan.l, `op_chars`.
fn is_of_operator(symbol: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&symbol)
}

/// Whether the name that is the token `at`, before a parenthesis, may be that of a function: not that of a
/// table with its columns, an alias with its columns, or a type.
fn may_be_a_call(tokens: &[PlacedToken<'_>], mut at: usize) -> bool {
    let after = at + 1;
    while at >= 2 && tokens[at - 1].token == Token::Symbol(b'.') && name_of(tokens[at - 2].token).is_some() {
        at -= 2;
    }
    let Some(before) = at.checked_sub(1).map(|before| tokens[before].token) else { return false };
    match before {
        Token::Word(_) if is_one_of(before, &["on", "using"]) && makes_index(&tokens[..at]) => false,
        Token::Word(word) if comes_before_no_call(Folded::of(word).name()) => false,
        Token::Word(word) if comes_before_a_call(Folded::of(word).name()) => true,
        // An alias, unless it is a name in OPERATOR(...) that ends here.
        Token::Word(_) | Token::Quoted(_) | Token::Symbol(b')') => has_operator_by_name(tokens),
        Token::Symbol(b',') => !is_with_query(tokens, after),
        Token::String(_) | Token::OtherString | Token::Number | Token::Parameter(_) | Token::Symbol(_) => {
            true
        }
    }
}

/// Whether these tokens begin a CREATE INDEX, where a table with columns follows ON, and an access method USING.
fn makes_index(tokens: &[PlacedToken<'_>]) -> bool {
    let mut words = tokens.iter().map(|placed| placed.token).filter(|token| !is_one_of(*token, &["unique"]));
    let begins = |token: Option<Token<'_>>, word| token.is_some_and(|token| is_one_of(token, &[word]));
    begins(words.next(), "create")
        && begins(words.next(), "index")
        && words.all(|it| it != Token::Symbol(b';'))
}

fn is_one_of(token: Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| super::reader::is_word(token, word))
}

fn has_operator_by_name(tokens: &[PlacedToken<'_>]) -> bool {
    tokens.iter().any(|placed| super::reader::is_word(placed.token, "operator"))
}

/// Whether the parenthesis `at` begins the columns of a query in WITH: `b (x, y) AS (SELECT`.
fn is_with_query(tokens: &[PlacedToken<'_>], at: usize) -> bool {
    let mut depth = 0_usize;
    let mut rest = tokens[at..].iter().skip_while(|placed| {
        match placed.token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth -= 1,
            _other => {}
        }
        depth > 0
    });
    let mut next = || rest.next().map(|placed| placed.token);
    let is_it = |token: Option<Token<'_>>, words: &[&str]| token.is_some_and(|token| is_one_of(token, words));
    // The parenthesis that ends the columns comes first.
    let (_end, as_word, open) = (next(), next(), next());
    if !is_it(as_word, &["as"]) {
        return false;
    }
    if is_it(open, &["materialized", "not"]) {
        return true;
    }
    let first = std::iter::from_fn(next).find(|token| *token != Token::Symbol(b'('));
    open == Some(Token::Symbol(b'('))
        && is_it(first, &["select", "with", "values", "table", "insert", "update", "delete", "merge"])
}

#[cfg(test)]
mod tests;
