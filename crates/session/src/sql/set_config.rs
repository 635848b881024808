//! `SELECT set_config(...)`, of constants and of parameters whose values a Bind gives.

use trunkline_codec::frontend::{Bind, Parse};

use super::effect::{Change, Effect};
use super::lexer::Token;
use super::reader::Reader;
use super::set::{Scope, Value, changed, known_key, outlives_transaction};
use super::suspicious_names::names_temporary_schema;

/// One call, with its arguments as written in the SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    name: ArgumentValue,
    value: ArgumentValue,
    scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ArgumentValue {
    /// As written between its quotes.
    Constant(Box<[u8]>),
    /// Its number; the first is 1.
    Parameter(u16),
}

/// Reads what follows SELECT, when all it selects is `set_config`, and perhaps settings as they are: asyncpg asks for the
/// value of `jit` in the query that sets it.
pub(super) fn set_configs(reader: &mut Reader<'_>) -> Option<Effect> {
    let mut calls = Vec::new();
    loop {
        match item(reader)? {
            Item::Set(call) => calls.push(call),
            Item::Shown => {}
        }
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

/// One thing that is selected.
enum Item {
    Set(Call),
    /// The value of a setting, which no other of the calls can learn.
    Shown,
}

fn item(reader: &mut Reader<'_>) -> Option<Item> {
    if reader.eat("pg_catalog") && !reader.eat_symbol(b'.') {
        return None;
    }
    if reader.eat("current_setting") {
        return shown(reader).then_some(Item::Shown);
    }
    call(reader).map(Item::Set)
}

/// The arguments of `current_setting`, a constant and perhaps whether it may be missing.
fn shown(reader: &mut Reader<'_>) -> bool {
    let is_constant = reader.eat_symbol(b'(') && matches!(reader.bump(), Some(Token::String(_)));
    let is_whole = !reader.eat_symbol(b',') || reader.eat("true") || reader.eat("false");
    is_constant && is_whole && reader.eat_symbol(b')')
}

fn call(reader: &mut Reader<'_>) -> Option<Call> {
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

fn argument(reader: &mut Reader<'_>) -> Option<ArgumentValue> {
    let argument = match reader.bump()? {
        Token::String(text) => ArgumentValue::Constant(text.into()),
        Token::Parameter(number) => ArgumentValue::Parameter(number),
        _other => return None,
    };
    // These casts leave the text as it is.
    while reader.eat_symbol(b':') {
        let is_kept = reader.eat_symbol(b':') && (reader.eat("text") || reader.eat("varchar"));
        is_kept.then_some(())?;
    }
    Some(argument)
}

/// Types whose values become the same text: unspecified, unknown, text, varchar.
/// Source: PostgreSQL 18, src/include/catalog/pg_type.dat.
const TEXTS: [[u8; 4]; 4] =
    [0_u32.to_be_bytes(), 705_u32.to_be_bytes(), 25_u32.to_be_bytes(), 1043_u32.to_be_bytes()];

/// Whether the values of a Bind are what is set. A Parse with this `body` may have given its parameters types whose
/// conversion to text changes them: `character` pads, `name` cuts.
pub(crate) fn keeps_text(calls: &[Call], body: &[u8]) -> bool {
    let types = Parse::parse(body).map_or(&b""[..], |parse| parse.parameter_types);
    calls.iter().flat_map(Call::bound).all(|number| {
        let at = usize::from(number).saturating_sub(1) * 4;
        types.get(at..at + 4).is_none_or(|oid| TEXTS.iter().any(|text| text == oid))
    })
}

/// The effect of a call with these arguments. `None` when it is not followed.
pub(crate) fn effect_of_arguments(name: &[u8], value: &[u8], is_local: bool) -> Option<Effect> {
    let constant = |value: &[u8]| ArgumentValue::Constant(doubled(value).into());
    let scope = if is_local { Scope::Local } else { Scope::Session };
    effect_of(&[Call { name: constant(name), value: constant(value), scope }], &[])
}

/// The effect of the calls with the parameters of a Bind. `None` when it is unknown: a value is NULL or not
/// text, or the setting is not followed.
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
        [&self.name, &self.value].iter().any(|argument| matches!(argument, ArgumentValue::Parameter(_)))
    }

    /// The parameters whose values matter: those that outlive the transaction.
    fn bound(&self) -> impl Iterator<Item = u16> {
        let value = match self.scope {
            Scope::Session => Some(&self.value),
            Scope::Local => None,
        };
        [Some(&self.name), value].into_iter().flatten().filter_map(|argument| match argument {
            ArgumentValue::Parameter(number) => Some(*number),
            ArgumentValue::Constant(_) => None,
        })
    }

    /// Whether its constants are.
    pub(crate) fn is_ascii(&self) -> bool {
        [&self.name, &self.value].iter().all(|argument| match argument {
            ArgumentValue::Constant(text) => text.is_ascii(),
            ArgumentValue::Parameter(_) => true,
        })
    }

    fn effect(&self, bind: &[u8]) -> Option<Effect> {
        let name = self.name.quoted(bind)?;
        let key = known_key(&name)?;
        let depends_on_value = matches!(key.as_str(), "seed" | "standard_conforming_strings");
        if let (Scope::Local, ArgumentValue::Parameter(_), false) =
            (self.scope, &self.value, depends_on_value)
        {
            // It ends with the transaction, so the value does not matter, except to compare it.
            let is_path = key == "search_path";
            if is_path && names_temporary_schema(&self.value.quoted(bind)?) {
                return None;
            }
            let sql = if is_path { bind.into() } else { Box::default() };
            return Some(if outlives_transaction(&key) {
                Effect::Change(vec![Change::Local { sql, key: key.into() }])
            } else {
                Effect::Local
            });
        }
        let value = self.value.quoted(bind)?;
        // An object created in such a path is temporary without the word TEMP.
        if key == "search_path" && names_temporary_schema(&value) {
            return None;
        }
        let mut sql = b"SELECT pg_catalog.set_config('".to_vec();
        for part in [name.as_slice(), b"', '", &value, b"', false)"] {
            sql.extend_from_slice(part);
        }
        Some(changed(self.scope, key, Value::Given(Token::String(&value)), &sql))
    }
}

impl ArgumentValue {
    /// As it would be written between quotes.
    fn quoted(&self, bind: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Constant(text) => Some(text.to_vec()),
            Self::Parameter(number) => {
                let value = Bind::text_value(bind, number.checked_sub(1)?)?;
                (!value.contains(&0)).then(|| doubled(value))
            }
        }
    }
}

/// A value as written between quotes.
fn doubled(value: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(value.len());
    for &byte in value {
        quoted.push(byte);
        if byte == b'\'' {
            quoted.push(byte);
        }
    }
    quoted
}
