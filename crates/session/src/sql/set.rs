//! The forms of SET and RESET.
//! Source: PostgreSQL 18, src/backend/parser/gram.y, `VariableSetStmt` and `VariableResetStmt`.

use super::effect::{Change, Effect};
use super::lexer::{Lexer, Token};
use super::reader::{Reader, is_word};
use crate::pin::PinReason;

const UNKNOWN: Effect = Effect::Pin(PinReason::UnknownSetting);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Session,
    Local,
}

/// What a setting is set to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Default,
    /// With its first part.
    Given(Token<'a>),
}

/// Reads what follows SET.
pub(super) fn set(reader: &mut Reader<'_>) -> Effect {
    let sql = reader.sql;
    let scope = scope(reader);
    read_set(reader, scope).map_or(UNKNOWN, |(key, value)| match key {
        SetTarget::Transaction => Effect::Local,
        SetTarget::Characteristics(changes) => Effect::Change(changes),
        SetTarget::Setting(key) => changed(scope, key, value, sql),
    })
}

/// What is set.
enum SetTarget {
    /// A property of the transaction.
    Transaction,
    Characteristics(Vec<Change>),
    Setting(String),
}

/// `SESSION` is a word of its own before `AUTHORIZATION` and `CHARACTERISTICS`.
fn scope(reader: &mut Reader<'_>) -> Scope {
    if reader.eat("local") {
        return Scope::Local;
    }
    let mut after = reader.clone();
    if after.eat("session") && !after.eat("authorization") && !after.eat("characteristics") {
        reader.eat("session");
    }
    Scope::Session
}

fn read_set<'a>(reader: &mut Reader<'a>, scope: Scope) -> Option<(SetTarget, Value<'a>)> {
    let setting = |key: &str| SetTarget::Setting(key.to_owned());
    let mut after = reader.clone();
    if after.eat("session") {
        if after.eat("characteristics") && scope == Scope::Session {
            return Some((SetTarget::Characteristics(characteristics(&mut after)?), Value::Default));
        }
        return after.eat("authorization").then(|| setting("session_authorization")).zip(value(&mut after));
    }
    if after.eat("transaction") || after.eat("constraints") {
        return Some((SetTarget::Transaction, Value::Default));
    }
    if after.eat("time") && after.eat("zone") {
        return Some((setting("timezone"), time_zone(&mut after)?));
    }
    if after.eat("xml") && after.eat("option") {
        return Some((setting("xmloption"), value(&mut after)?));
    }
    for (word, key) in [("role", "role"), ("schema", "search_path"), ("names", "client_encoding")] {
        let mut after = reader.clone();
        let is_form = after.eat(word) && !after.peek().is_some_and(is_assignment);
        if is_form && after.is_at_end() && word == "names" {
            return Some((setting(key), Value::Default));
        }
        if is_form {
            return Some((setting(key), value(&mut after)?));
        }
    }
    let key = setting_name(reader)?;
    if !(reader.eat("to") || reader.eat_symbol(b'=')) {
        return None;
    }
    Some((SetTarget::Setting(key), value(reader)?))
}

fn is_assignment(token: Token<'_>) -> bool {
    is_word(token, "to") || token == Token::Symbol(b'=')
}

/// The name of a setting, in lower case, under its present name.
pub(super) fn setting_name(reader: &mut Reader<'_>) -> Option<String> {
    let mut key = Vec::from(reader.name()?);
    while reader.eat_symbol(b'.') {
        key.push(b'.');
        key.extend_from_slice(&reader.name()?);
    }
    known_key(&key)
}

/// Source: PostgreSQL 18, src/backend/utils/misc/guc.c, `map_old_guc_names`.
pub(super) fn known_key(key: &[u8]) -> Option<String> {
    let is_sound = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.');
    if !key.iter().all(is_sound) || key.split(|b| *b == b'.').any(<[u8]>::is_empty) {
        return None;
    }
    let key = String::from_utf8(key.to_ascii_lowercase()).ok()?;
    Some(match key.as_str() {
        "sort_mem" => "work_mem".to_owned(),
        "vacuum_mem" => "maintenance_work_mem".to_owned(),
        "force_parallel_mode" => "debug_parallel_query".to_owned(),
        _present => key,
    })
}

/// A list of constants and words, up to the end.
fn value<'a>(reader: &mut Reader<'a>) -> Option<Value<'a>> {
    if reader.eat("default") {
        return reader.is_at_end().then_some(Value::Default);
    }
    let first = reader.peek()?;
    loop {
        let is_signed = reader.eat_symbol(b'-') || reader.eat_symbol(b'+');
        match reader.bump()? {
            Token::Number => {}
            Token::Word(_) | Token::Quoted(_) | Token::String(_) | Token::OtherString if !is_signed => {}
            _other => return None,
        }
        if reader.is_at_end() {
            return Some(Value::Given(first));
        }
        if !reader.eat_symbol(b',') {
            return None;
        }
    }
}

fn time_zone<'a>(reader: &mut Reader<'a>) -> Option<Value<'a>> {
    if reader.eat("local") {
        return reader.is_at_end().then_some(Value::Default);
    }
    let first = reader.peek()?;
    if !is_word(first, "interval") {
        return value(reader);
    }
    while let Some(token) = reader.bump() {
        if !matches!(token, Token::Word(_) | Token::String(_)) {
            return None;
        }
    }
    Some(Value::Given(first))
}

/// `AS TRANSACTION` and its modes.
fn characteristics(reader: &mut Reader<'_>) -> Option<Vec<Change>> {
    if !(reader.eat("as") && reader.eat("transaction")) {
        return None;
    }
    let mut changes = Vec::new();
    loop {
        changes.push(mode(reader)?);
        if reader.is_at_end() {
            return Some(changes);
        }
        reader.eat_symbol(b',');
    }
}

fn mode(reader: &mut Reader<'_>) -> Option<Change> {
    let (name, value) = if reader.eat("isolation") && reader.eat("level") {
        ("isolation", isolation(reader)?)
    } else if reader.eat("read") {
        let is_read_only = reader.eat("only");
        (is_read_only || reader.eat("write")).then_some(())?;
        ("read_only", if is_read_only { "on" } else { "off" })
    } else {
        let is_not = reader.eat("not");
        reader.eat("deferrable").then_some(("deferrable", if is_not { "off" } else { "on" }))?
    };
    let key = format!("default_transaction_{name}");
    let sql = format!("SET {key} TO '{value}'").into_bytes().into();
    Some(Change::Set { key: key.into(), sql })
}

fn isolation(reader: &mut Reader<'_>) -> Option<&'static str> {
    if reader.eat("serializable") {
        return Some("serializable");
    }
    if reader.eat("repeatable") {
        return reader.eat("read").then_some("repeatable read");
    }
    if !reader.eat("read") {
        return None;
    }
    if reader.eat("committed") {
        return Some("read committed");
    }
    reader.eat("uncommitted").then_some("read uncommitted")
}

/// Reads what follows RESET.
pub(super) fn reset(reader: &mut Reader<'_>) -> Effect {
    let sql = reader.sql;
    if reader.eat("all") {
        return if reader.is_at_end() { Effect::Change(vec![Change::ResetAll]) } else { UNKNOWN };
    }
    let mut after = reader.clone();
    if after.eat("transaction") {
        return Effect::Local;
    }
    let key = if after.eat("time") && after.eat("zone") && after.is_at_end() {
        return changed(Scope::Session, "timezone".to_owned(), Value::Default, sql);
    } else {
        let mut after = reader.clone();
        if after.eat("session") && after.eat("authorization") && after.is_at_end() {
            return changed(Scope::Session, "session_authorization".to_owned(), Value::Default, sql);
        }
        setting_name(reader)
    };
    match key {
        Some(key) if reader.is_at_end() => changed(Scope::Session, key, Value::Default, sql),
        _unclear => UNKNOWN,
    }
}

/// The effect of setting `key` by `sql`.
pub(super) fn changed(scope: Scope, key: String, value: Value<'_>, sql: &[u8]) -> Effect {
    match key.as_str() {
        "transaction_isolation" | "transaction_read_only" | "transaction_deferrable" => return Effect::Local,
        "seed" => return Effect::Pin(PinReason::SideEffects("setseed")),
        // SQL is read here by the rules that hold while it is on.
        "standard_conforming_strings" if !is_on(value) => return UNKNOWN,
        // What is in a string with escapes is not read, and may be the schema of temporary objects.
        "search_path" if has_other_string(sql) => return UNKNOWN,
        _setting => {}
    }
    let is_noted = outlives_transaction(&key);
    let (key, sql): (Box<str>, Box<[u8]>) = (key.into(), sql.into());
    Effect::Change(vec![match (scope, value) {
        (Scope::Local, _) if is_noted => Change::Local { key, sql },
        (Scope::Local, _) => return Effect::Local,
        (Scope::Session, Value::Default) => Change::Reset { key, sql },
        (Scope::Session, Value::Given(_)) => Change::Set { key, sql },
    }])
}

fn has_other_string(sql: &[u8]) -> bool {
    let mut lexer = Lexer::new(sql);
    std::iter::from_fn(|| lexer.next().ok().flatten()).any(|token| token == Token::OtherString)
}

/// Whether a value that ends with its transaction matters afterwards: a custom setting exists from then on, and
/// statements prepared in the transaction were read or analysed under the others.
pub(super) fn outlives_transaction(key: &str) -> bool {
    key.contains('.') || decides_reading(key) || key == "search_path"
}

fn is_on(value: Value<'_>) -> bool {
    match value {
        Value::Given(Token::Word(text) | Token::String(text)) => {
            text.eq_ignore_ascii_case(b"on") || text.eq_ignore_ascii_case(b"true")
        }
        Value::Given(_) | Value::Default => false,
    }
}

/// Settings that decide how SQL is read, and so what a statement prepared before them means.
pub(crate) fn decides_reading(key: &str) -> bool {
    match key {
        "client_encoding" | "standard_conforming_strings" | "backslash_quote" => true,
        "transform_null_equals" | "array_nulls" | "xmloption" => true,
        // Constants of these types are read when a statement is prepared.
        "datestyle" | "intervalstyle" | "timezone" | "timezone_abbreviations" | "lc_monetary" => true,
        _at_execution => false,
    }
}
