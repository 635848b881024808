//! What SQL that reads names, looked up among what is not plain.

use std::ops::Range;
use std::sync::Arc;

use super::keywords::is_keyword;
use super::relations::RelationNames;
use super::{PlacedToken, is_of_operator, is_one_of, may_be_a_call, name_of};
use crate::limits::PLAINNESS_SQL_MAX;
use crate::sql::lexer::{Lexer, Token};
use crate::sql::plainness::{NotJudged, Plainness, PlainnessCatalog};
use crate::sql::source::plain::tells_standby;

/// Judges SQL whose parameters were declared with these types; four bytes each.
pub(crate) fn judge(sql: &[u8], types: &[u8], catalog: &PlainnessCatalog) -> Plainness {
    judge_with_place(sql, types, catalog).0
}

/// The same, with the place in the SQL of what decided, unless that is no name in it.
pub(crate) fn judge_with_place(
    sql: &[u8],
    types: &[u8],
    catalog: &PlainnessCatalog,
) -> (Plainness, Option<Range<usize>>) {
    if let Some(cause) = &catalog.everything {
        return (Plainness::NotPlain(Arc::clone(cause)), None);
    }
    let unscannable = (Plainness::Unknown(NotJudged::Unscannable), None);
    if sql.len() > PLAINNESS_SQL_MAX {
        return unscannable;
    }
    let Some(tokens) = tokens_of(sql) else { return unscannable };
    let mut look = PlainnessLook { sql, tokens: &tokens, catalog, cause: None, at: None, new: None };
    look.read(types);
    match look {
        PlainnessLook { cause: Some(cause), at, .. } => (Plainness::NotPlain(cause), at),
        PlainnessLook { new: Some(name), .. } => (Plainness::Unknown(NotJudged::NoSuchName), Some(name)),
        PlainnessLook { .. } => (Plainness::Plain, None),
    }
}

/// Whether SQL that is plain calls, by name, what is not a plain function of PostgreSQL: such a function may write.
pub(crate) fn may_call_what_writes(sql: &[u8], catalog: &PlainnessCatalog) -> bool {
    if !sql.contains(&b'(') {
        return false;
    }
    let Some(tokens) = tokens_of(sql) else { return true };
    tokens.windows(2).any(|pair| {
        let [before, PlacedToken { token: Token::Symbol(b'('), .. }] = pair else { return false };
        let Some(name) = name_of(before.token) else { return false };
        let is_language = matches!(before.token, Token::Word(_)) && is_keyword(&name);
        catalog.functions.contains_key(&name) || !(is_language || catalog.built_in.contains(&name))
    })
}

/// Whether SQL that is plain names no function of users, and nothing that runs one without its name.
pub(crate) fn reads_tables_alone(sql: &[u8], catalog: &PlainnessCatalog) -> bool {
    let is_direct =
        |placed: &PlacedToken<'_>| name_of(placed.token).is_none_or(|name| !catalog.indirect.contains(&name));
    !may_call_what_writes(sql, catalog) && tokens_of(sql).is_some_and(|tokens| tokens.iter().all(is_direct))
}

/// `None` when it ends in a string or comment, or has names that are escaped or not in UTF-8.
fn tokens_of(sql: &[u8]) -> Option<Vec<PlacedToken<'_>>> {
    std::str::from_utf8(sql).ok()?;
    let mut lexer = Lexer::new(sql);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next().ok()? {
        let placed = PlacedToken { token, start: lexer.start(), end: lexer.at() };
        if token == Token::OtherString && sql[placed.start..].get(1..3) == Some(b"&\"") {
            return None;
        }
        tokens.push(placed);
    }
    Some(tokens)
}

/// One look at SQL.
struct PlainnessLook<'a> {
    sql: &'a [u8],
    tokens: &'a [PlacedToken<'a>],
    catalog: &'a PlainnessCatalog,
    /// What was found first.
    cause: Option<Arc<str>>,
    /// Where in the SQL that is, if it has a name there.
    at: Option<Range<usize>>,
    /// The first name that the catalog has not.
    new: Option<Range<usize>>,
}

impl PlainnessLook<'_> {
    fn read(&mut self, types: &[u8]) {
        for oid in types.as_chunks::<4>().0 {
            self.blame(self.catalog.types.get(&u32::from_be_bytes(*oid)), None);
        }
        let mut relations = RelationNames::new(self.tokens);
        for (at, placed) in self.tokens.iter().enumerate() {
            if let Some(relation) = relations.see(at)
                && !self.catalog.relations.contains(&relation)
            {
                self.is_new(placed);
            }
            match placed.token {
                Token::Word(_) | Token::Quoted(_) => self.word(placed),
                Token::String(_) | Token::OtherString => self.setting(placed),
                Token::Symbol(b'(') => self.call(at),
                Token::Number | Token::Parameter(_) | Token::Symbol(_) => {}
            }
        }
        self.operators();
        if let Some(PlacedToken { token: Token::Word(first), .. }) = self.tokens.first()
            && first.eq_ignore_ascii_case(b"copy")
        {
            self.copy();
        }
    }

    fn blame(&mut self, cause: Option<&Arc<str>>, at: Option<Range<usize>>) {
        if let (None, Some(cause)) = (&self.cause, cause) {
            self.cause = Some(Arc::clone(cause));
            self.at = at;
        }
    }

    fn is_new(&mut self, placed: &PlacedToken<'_>) {
        self.new.get_or_insert(placed.start..placed.end);
    }

    fn word(&mut self, placed: &PlacedToken<'_>) {
        let Some(name) = name_of(placed.token) else { return };
        self.blame(self.catalog.words.get(&name), Some(placed.start..placed.end));
        self.setting(placed);
    }

    /// Settings that only a standby has, or has otherwise.
    fn setting(&mut self, placed: &PlacedToken<'_>) {
        if let Some(setting) = tells_standby(&self.sql[placed.start..placed.end]) {
            self.blame(Some(&setting.into()), Some(placed.start..placed.end));
        }
    }

    /// The name before the parenthesis that is the token `at`.
    fn call(&mut self, at: usize) {
        let Some(before) = at.checked_sub(1) else { return };
        let placed = &self.tokens[before];
        let Some(name) = name_of(placed.token) else { return };
        match self.catalog.functions.get(&name) {
            Some(cause) => self.blame(cause.as_ref(), Some(placed.start..placed.end)),
            None if self.catalog.built_in.contains(&name) => {}
            None if is_keyword(&name) && matches!(placed.token, Token::Word(_)) => {}
            None if self.new.is_none() && may_be_a_call(self.tokens, before) => self.is_new(placed),
            None => {}
        }
    }

    /// An operator also counts as a part of a longer one.
    fn operators(&mut self) {
        if self.catalog.operators.is_empty() {
            return;
        }
        let is_operator = |placed: &PlacedToken<'_>| matches!(placed.token, Token::Symbol(symbol) if is_of_operator(symbol));
        for run in
            self.tokens.chunk_by(|one, next| is_operator(one) && is_operator(next) && one.end == next.start)
        {
            let [first, ..] = run else { continue };
            if !is_operator(first) {
                continue;
            }
            let place = first.start..run.last().map_or(first.end, |last| last.end);
            let run = &self.sql[place.clone()];
            for (operator, cause) in &self.catalog.operators {
                if run.windows(operator.len()).any(|part| *part == **operator) {
                    self.blame(Some(cause), Some(place.clone()));
                }
            }
        }
    }

    /// COPY to anything but the client.
    fn copy(&mut self) {
        let is_to_client = self.tokens.windows(2).any(|pair| {
            matches!(pair, [to, out] if is_one_of(to.token, &["to"]) && is_one_of(out.token, &["stdout"]))
        });
        if !is_to_client {
            self.blame(Some(&"COPY".into()), None);
        }
    }
}

#[cfg(test)]
mod tests;
