//! Where SQL that reads names relations.

use std::collections::HashSet;

use super::{PlacedToken, is_one_of, name_of};
use crate::names::Name;
use crate::sql::lexer::Token;

/// Finds the names of relations: behind FROM, JOIN, TABLE and COPY, and behind commas between them. Names of queries in WITH
/// are left out. Others may be found, such as a column behind a FROM that is not of a query.
pub(super) struct RelationNames<'a> {
    tokens: &'a [PlacedToken<'a>],
    with_queries: HashSet<Name>,
    /// Of each open parenthesis or bracket, with that of the whole first.
    levels: Vec<Level>,
}

/// Between two parentheses or brackets.
#[derive(Clone, Copy, Default)]
struct Level {
    /// In the list behind FROM.
    is_in_list: bool,
    /// The name of a relation may come next.
    is_next: bool,
    /// The arguments of a function whose grammar has a FROM.
    has_other_from: bool,
}

/// Functions whose arguments have a FROM.
/// Source: PostgreSQL 18, src/backend/parser/gram.y, `func_expr_common_subexpr`.
const WITH_FROM: [&str; 4] = ["extract", "substring", "overlay", "trim"];

/// Words that end the list behind FROM.
const BEHIND_LIST: [&str; 13] = [
    "where",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "fetch",
    "for",
    "window",
    "union",
    "intersect",
    "except",
    "select",
];

impl<'a> RelationNames<'a> {
    pub(super) fn new(tokens: &'a [PlacedToken<'a>]) -> Self {
        let has_with = tokens.iter().any(|placed| is_one_of(placed.token, &["with"]));
        let with_queries = if has_with { with_queries(tokens) } else { HashSet::new() };
        Self { tokens, with_queries, levels: vec![Level::default()] }
    }

    /// The relation whose name ends with the token `at`. All tokens must be seen in order.
    pub(super) fn see(&mut self, at: usize) -> Option<Name> {
        let token = self.tokens[at].token;
        match token {
            Token::Symbol(b'(') => self.open(at),
            Token::Symbol(b'[') => self.levels.push(Level::default()),
            Token::Symbol(b')' | b']') => self.close(),
            Token::Symbol(b',') => {
                let level = self.level();
                level.is_next = level.is_in_list;
            }
            Token::Word(_) if self.is_word_of_query(at) => {}
            Token::Word(_) | Token::Quoted(_) => return self.name(at),
            Token::String(_)
            | Token::OtherString
            | Token::Number
            | Token::Parameter(_)
            | Token::Symbol(_) => {}
        }
        None
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn open(&mut self, at: usize) {
        let has_other_from =
            at.checked_sub(1).is_some_and(|before| is_one_of(self.tokens[before].token, &WITH_FROM));
        let is_next = std::mem::take(&mut self.level().is_next);
        self.levels.push(Level { is_in_list: is_next, is_next, has_other_from });
    }

    fn close(&mut self) {
        self.levels.pop();
        self.level().is_next = false;
    }

    /// Follows a word of the grammar.
    fn is_word_of_query(&mut self, at: usize) -> bool {
        let token = self.tokens[at].token;
        let is_behind = |words: &[&str]| {
            at.checked_sub(1).is_some_and(|before| is_one_of(self.tokens[before].token, words))
        };
        if is_one_of(token, &["from"]) {
            let is_distinct = is_behind(&["distinct"]);
            let level = self.level();
            if !is_distinct && !level.has_other_from {
                (level.is_in_list, level.is_next) = (true, true);
            }
        } else if is_one_of(token, &["join", "table", "copy"]) {
            self.level().is_next = true;
        } else if is_one_of(token, &BEHIND_LIST) {
            (self.level().is_in_list, self.level().is_next) = (false, false);
        } else if is_one_of(token, &["with"]) && !self.level().is_next {
            // WITH ORDINALITY: the list goes on.
        } else if is_one_of(token, &["values", "with"]) {
            (self.level().is_in_list, self.level().is_next) = (false, false);
        } else {
            let is_rows_from = is_one_of(token, &["rows"])
                && self.tokens.get(at + 1).is_some_and(|after| is_one_of(after.token, &["from"]));
            return is_rows_from || is_one_of(token, &["only", "lateral"]);
        }
        true
    }

    fn name(&mut self, at: usize) -> Option<Name> {
        let follows =
            |symbol: u8| self.tokens.get(at + 1).is_some_and(|after| after.token == Token::Symbol(symbol));
        let (is_qualifier, is_call) = (follows(b'.'), follows(b'('));
        let level = self.level();
        if !level.is_next || is_qualifier {
            return None;
        }
        level.is_next = false;
        let name = name_of(self.tokens[at].token).filter(|_| !is_call)?;
        (!self.with_queries.contains(&name)).then_some(name)
    }
}

/// The names before AS and a parenthesis, or their columns before that.
fn with_queries(tokens: &[PlacedToken<'_>]) -> HashSet<Name> {
    let mut names = HashSet::new();
    // Where the parentheses begin that are open, and the one that was closed last.
    let (mut open, mut closed) = (Vec::new(), None);
    for (at, placed) in tokens.iter().enumerate() {
        match placed.token {
            Token::Symbol(b'(') => open.push(at),
            Token::Symbol(b')') => closed = open.pop(),
            token if is_one_of(token, &["as"]) && begins_query(tokens, at + 1) => {
                let is_behind_columns = at > 0 && tokens[at - 1].token == Token::Symbol(b')');
                let end = if is_behind_columns { closed } else { Some(at) };
                let before = end.and_then(|end| tokens.get(end.checked_sub(1)?));
                names.extend(before.and_then(|name| name_of(name.token)));
            }
            _other => {}
        }
    }
    names
}

fn begins_query(tokens: &[PlacedToken<'_>], at: usize) -> bool {
    tokens.get(at).is_some_and(|placed| {
        placed.token == Token::Symbol(b'(') || is_one_of(placed.token, &["materialized", "not"])
    })
}
