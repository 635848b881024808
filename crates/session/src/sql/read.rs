//! The effects of a request, read from its SQL.

use super::Class;
use super::effect::Effect;
use super::forms;
use super::lexer::{Lexer, Token, Unclear};
use super::reader::{Reader, is_word};
use super::suspicious_names::{SuspiciousNames, has_word, may_have_suspicious_name, suspicious_names};
use super::verb::{Verb, first_verb, quick_verb};
use crate::limits::QUERY_STATEMENTS_MAX;
use crate::pin::PinReason;
use crate::pins::Pins;

/// What is known of a request from its SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) class: Class,
    /// They count once it is sent, whether or not it succeeds.
    pub(crate) pins: Pins,
    /// One for each statement. None at all when no statement has any, and nothing pins.
    pub(crate) effects: Vec<Effect>,
    pub(crate) calls: FunctionUse,
    /// Those of `pins` that are of user-defined functions. The server may run some before it is told to run the statement: to
    /// read constants and parameters of their types, and to plan.
    pub(crate) of_functions: Pins,
}

/// Whether a statement calls user-defined functions, as far as its SQL shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FunctionUse {
    #[default]
    None,
    Possible,
}

impl Reading {
    #[inline]
    fn plain(class: Class) -> Self {
        Self {
            class,
            pins: Pins::default(),
            effects: Vec::new(),
            calls: FunctionUse::None,
            of_functions: Pins::default(),
        }
    }

    /// For SQL that is too long to be read whole.
    pub(crate) fn unread() -> Self {
        Self { effects: vec![Effect::Unread], calls: FunctionUse::Possible, ..Self::plain(Class::ONCE) }
    }

    /// For a Query that is sent in parts; this is the first. The others may show that it must not be
    /// repeated.
    pub(crate) fn long(part: &[u8]) -> Self {
        let is_read = first_verb(part) == Verb::Read && !part.contains(&b';');
        let class = if is_read { Class::PLAIN } else { Class::ONCE };
        Self { effects: vec![Effect::Unread], calls: FunctionUse::Possible, ..Self::plain(class) }
    }

    /// Whether a statement creates or changes objects, or may.
    #[inline]
    pub(crate) fn makes_objects(&self) -> bool {
        self.effects.iter().any(|effect| effect.pin().is_some_and(PinReason::makes_objects))
    }

    /// Whether a statement runs functions of the relations which it names, and counts as if they were known.
    #[inline]
    pub(crate) fn runs_relations(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Pin(reason) if reason.runs_relations()))
    }

    /// As it is where those are not known, or do something.
    #[cold]
    pub(crate) fn of_unknown_relations(mut self) -> Self {
        for effect in &mut self.effects {
            if let Effect::Pin(reason) = effect {
                *reason = reason.of_unknown_relations();
            }
        }
        let mut pins = Pins::default();
        self.pins.iter().for_each(|reason| pins.add(reason.of_unknown_relations()));
        Self { pins, ..self }
    }

    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.class == Class::PLAIN && self.pins.is_empty() && self.effects.is_empty()
    }
}

/// Reads the SQL of a Query or Parse.
#[inline]
pub(crate) fn read(sql: &[u8]) -> Reading {
    if let Some(class) = quick_verb(sql).class()
        && !may_have_suspicious_name(sql)
        && !has_more_statements(sql)
    {
        return Reading::plain(class);
    }
    read_closely(sql)
}

/// The same, for SQL that calls functions with these reasons.
#[cold]
pub(crate) fn read_with(sql: &[u8], pins: &Pins) -> Reading {
    let mut found = suspicious_names(sql);
    found.pins.extend(pins);
    found.is_once = true;
    read_suspicious(sql, &found)
}

/// How a statement ends its transaction, if that is all it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionEnd {
    Commit,
    Rollback,
}

/// Of SQL that is a single statement. With `AND CHAIN` another transaction begins.
pub(crate) fn transaction_end(sql: &[u8]) -> Option<TransactionEnd> {
    let statements = split(sql).ok()?;
    let [statement] = statements[..] else { return None };
    let mut reader = Reader::new(statement);
    let end = if reader.eat("rollback") || reader.eat("abort") {
        TransactionEnd::Rollback
    } else if reader.eat("commit") || reader.eat("end") {
        TransactionEnd::Commit
    } else {
        return None;
    };
    let _noise = reader.eat("work") || reader.eat("transaction");
    (reader.is_at_end() || (reader.eat("and") && reader.eat("no"))).then_some(end)
}

/// Whether SQL of which this is the first part may run a prepared statement.
pub(crate) fn may_execute(part: &[u8]) -> bool {
    match first_verb(part) {
        Verb::Execute => true,
        Verb::Explain | Verb::Create => has_word(part, b"execute"),
        _others => false,
    }
}

/// Whether a statement returns rows of a cursor or of another prepared one: their columns are not those it was prepared
/// with, and PostgreSQL does not compare them.
/// Source: PostgreSQL 18, src/backend/parser/analyze.c, `stmt_requires_parse_analysis`.
#[cold]
pub(crate) fn passes_on(sql: &[u8]) -> bool {
    let mut reader = Reader::new(sql);
    reader.eat("fetch") || reader.eat("execute")
}

/// Whether there is a semicolon before the last byte; it may be in a string.
#[inline]
fn has_more_statements(sql: &[u8]) -> bool {
    sql.split_last().is_some_and(|(_, front)| front.contains(&b';'))
}

#[cold]
fn read_closely(sql: &[u8]) -> Reading {
    read_suspicious(sql, &suspicious_names(sql))
}

fn read_suspicious(sql: &[u8], found: &SuspiciousNames) -> Reading {
    let Ok(statements) = split(sql) else {
        // The server refuses it. If it does not, the command tag shows the effect.
        let mut pins = found.of_any_statement();
        if has_word(sql, b"execute") {
            pins.add(PinReason::UnknownStatement("EXECUTE"));
        }
        return Reading { pins, effects: vec![Effect::Unread], ..Reading::plain(Class::ONCE) };
    };
    let mut is_once = found.is_once || found.has_sequence;
    let mut reading = Reading { pins: found.of_every_statement(), ..Reading::plain(Class::PLAIN) };
    for statement in &statements {
        let its_own = (statements.len() > 1).then(|| suspicious_names(statement));
        let (verb, effect) = forms::one(statement, its_own.as_ref().unwrap_or(found), &mut reading.pins);
        is_once |= match verb {
            Verb::Read | Verb::With | Verb::Empty => is_once_inside(verb, statement),
            Verb::Explain => statements.len() > 1 || is_once_inside(verb, statement),
            Verb::Harmless | Verb::Set | Verb::Reset | Verb::Discard | Verb::Deallocate => {
                statements.len() > 1
            }
            Verb::Commit | Verb::Rollback => statements.len() > 1,
            Verb::Write
            | Verb::Prepare
            | Verb::Execute
            | Verb::Declare
            | Verb::Close
            | Verb::Savepoint
            | Verb::Release
            | Verb::Create
            | Verb::Drop
            | Verb::Call(_)
            | Verb::Listen
            | Verb::Unlisten
            | Verb::Utility(_)
            | Verb::Pin(_) => true,
        };
        reading.effects.push(effect);
    }
    if is_once {
        reading.class = Class::ONCE;
    } else if transaction_end(sql).is_some() {
        reading.class = Class::END;
    }
    if reading.pins.is_empty() && reading.effects.iter().all(|effect| *effect == Effect::None) {
        reading.effects = Vec::new();
    }
    reading
}

/// The statements of a Query, without their semicolons; empty ones left out.
pub(super) fn split(sql: &[u8]) -> Result<Vec<&[u8]>, Unclear> {
    let mut lexer = Lexer::new(sql);
    let mut statements = Vec::new();
    let (mut start, mut end) = (None, 0);
    while let Some(token) = lexer.next()? {
        if token == Token::Symbol(b';') {
            statements.extend(start.take().map(|start| &sql[start..end]));
        } else {
            start.get_or_insert(lexer.start());
            end = lexer.at();
        }
        if statements.len() > QUERY_STATEMENTS_MAX {
            return Err(Unclear);
        }
    }
    statements.extend(start.map(|start| &sql[start..end]));
    Ok(statements)
}

/// Whether a statement that reads has a part that writes.
fn is_once_inside(verb: Verb, statement: &[u8]) -> bool {
    let writes: &[&str] = match verb {
        Verb::With => &["insert", "update", "delete", "merge"],
        Verb::Explain => &["insert", "update", "delete", "merge", "execute", "create", "declare"],
        _reads => &["into"],
    };
    let mut lexer = Lexer::new(statement);
    while let Ok(Some(token)) = lexer.next() {
        if writes.iter().any(|word| is_word(token, word)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
