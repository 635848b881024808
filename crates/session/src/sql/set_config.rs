//! `SELECT set_config(...)`, of constants and of parameters whose values a Bind gives.

use trunkline_codec::frontend::Bind;

use super::effect::{Change, Effect};
use super::lexer::Token;
use super::reader::Reader;
use super::set::{Scope, Value, changed, known_key};

/// One call, its arguments as they stand in the SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    name: Argument,
    value: Argument,
    scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Argument {
    /// As it stands between its quotes.
    Constant(Box<[u8]>),
    /// Its number; the first is 1.
    Parameter(u16),
}

/// Reads what follows SELECT, when all it selects is `set_config`.
pub(super) fn set_configs(reader: &mut Reader<'_>) -> Option<Effect> {
    let mut calls = Vec::new();
    loop {
        calls.push(call(reader)?);
        let is_named = reader.eat("as");
        let is_more_to_come = |token| token == Token::Symbol(b',');
        if is_named || reader.peek().is_some_and(|token| !is_more_to_come(token)) {
            match reader.bump()? {
                Token::Word(word) if is_named || !word.eq_ignore_ascii_case(b"from") => {}
                Token::Quoted(_) => {}
                _other => return None,
            }
        }
        if reader.is_at_end() {
            break;
        }
        if !reader.eat_symbol(b',') {
            return None;
        }
    }
    let is_bound_later = calls.iter().any(Call::has_parameter);
    if is_bound_later { Some(Effect::SetConfig(calls)) } else { effect_of(&calls, &[]) }
}

fn call(reader: &mut Reader<'_>) -> Option<Call> {
    if reader.eat("pg_catalog") && !reader.eat_symbol(b'.') {
        return None;
    }
    if !(reader.eat("set_config") && reader.eat_symbol(b'(')) {
        return None;
    }
    let name = argument(reader)?;
    let is_next = reader.eat_symbol(b',');
    let value = argument(reader)?;
    if !(is_next && reader.eat_symbol(b',')) {
        return None;
    }
    let is_local = reader.eat("true");
    if !((is_local || reader.eat("false")) && reader.eat_symbol(b')')) {
        return None;
    }
    let scope = if is_local { Scope::Local } else { Scope::Session };
    Some(Call { name, value, scope })
}

fn argument(reader: &mut Reader<'_>) -> Option<Argument> {
    match reader.bump()? {
        Token::String(text) => Some(Argument::Constant(text.into())),
        Token::Parameter(number) => Some(Argument::Parameter(number)),
        _other => None,
    }
}

/// What the calls do with the parameters of a Bind. `None` when that cannot be told: a value is NULL or not
/// text, or what is set is not followed.
pub(crate) fn effect_of(calls: &[Call], bind: &[u8]) -> Option<Effect> {
    let mut changes = Vec::new();
    for call in calls {
        match call.effect(bind)? {
            Effect::Change(more) => changes.extend(more),
            Effect::Local => {}
            _pins => return None,
        }
    }
    Some(if changes.is_empty() { Effect::Local } else { Effect::Change(changes) })
}

impl Call {
    fn has_parameter(&self) -> bool {
        [&self.name, &self.value].iter().any(|argument| matches!(argument, Argument::Parameter(_)))
    }

    fn effect(&self, bind: &[u8]) -> Option<Effect> {
        let name = self.name.quoted(bind)?;
        let key = known_key(&name)?;
        if let (Scope::Local, Argument::Parameter(_)) = (self.scope, &self.value) {
            // Gone with the transaction, so its value need not be known.
            let is_custom = key.contains('.');
            return Some(if is_custom {
                Effect::Change(vec![Change::Local { key: key.into() }])
            } else {
                Effect::Local
            });
        }
        let value = self.value.quoted(bind)?;
        let mut sql = b"SELECT pg_catalog.set_config('".to_vec();
        for part in [name.as_slice(), b"', '", &value, b"', false)"] {
            sql.extend_from_slice(part);
        }
        Some(changed(self.scope, key, Value::Given(Token::String(&value)), &sql))
    }
}

impl Argument {
    /// As it would stand between quotes.
    fn quoted(&self, bind: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Constant(text) => Some(text.to_vec()),
            Self::Parameter(number) => {
                let value = Bind::text_value(bind, number.checked_sub(1)?)?;
                let mut quoted = Vec::with_capacity(value.len());
                for &byte in value {
                    quoted.push(byte);
                    if byte == b'\'' {
                        quoted.push(byte);
                    }
                }
                Some(quoted)
            }
        }
    }
}
