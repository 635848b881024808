//! The forms of single statements, and their effects.

use super::effect::Effect;
use super::lexer::{Lexer, Token};
use super::reader::{Reader, is_word};
use super::suspicious_names::SuspiciousNames;
use super::verb::Verb;
use super::{set, set_config, utility};
use crate::names::Name;
use crate::pin::PinReason;
use crate::pins::Pins;

/// Verb and effect. Reasons that pin from the moment it is sent are added to `pins`.
pub(super) fn one(statement: &[u8], found: &SuspiciousNames, pins: &mut Pins) -> (Verb, Effect) {
    let mut reader = Reader::new(statement);
    while reader.eat_symbol(b'(') {}
    let verb = match reader.bump() {
        Some(Token::Word(word)) => Verb::of(word),
        Some(_) => Verb::other(b""),
        None => Verb::Empty,
    };
    if found.has_settings_view && may_update(verb) && has_one_of(statement, &["update", "merge"]) {
        pins.add(PinReason::UnknownSetting);
    }
    if found.has_set_config && may_call(verb) {
        match verb {
            Verb::Read => match set_config::set_configs(&mut reader) {
                Some(effect) => return (verb, effect),
                None => pins.add(PinReason::UnknownSetting),
            },
            _otherwise_called => pins.add(PinReason::UnknownSetting),
        }
    }
    let effect = match verb {
        Verb::Read | Verb::With | Verb::Explain if found.has_temp && makes_temporary(verb, statement) => {
            Effect::Pin(PinReason::TemporaryObject)
        }
        Verb::Read | Verb::With | Verb::Write if found.is_once && may_unlock(statement) => Effect::MayUnlock,
        Verb::Explain => explain(&mut reader),
        Verb::Empty | Verb::Read | Verb::With | Verb::Harmless | Verb::Commit | Verb::Write => Effect::None,
        Verb::Set => set::set(&mut reader),
        Verb::Reset => set::reset(&mut reader),
        Verb::Discard => discard(&mut reader),
        Verb::Deallocate => deallocate(&mut reader),
        Verb::Prepare => prepare(&mut reader),
        Verb::Execute => executed(&mut reader),
        Verb::Declare => declare(&mut reader),
        Verb::Close => close(&mut reader),
        Verb::Rollback => rollback(&mut reader),
        Verb::Savepoint => named(&mut reader, Effect::Savepoint, PinReason::UnknownSavepoint),
        Verb::Release => {
            reader.eat("savepoint");
            named(&mut reader, Effect::Release, PinReason::UnknownSavepoint)
        }
        Verb::Create => match create(&mut reader, found) {
            Effect::Pin(reason) if reason != PinReason::TemporaryObject => told(reason, pins),
            effect => {
                // What it makes runs something whenever it is used.
                if utility::runs_something(found) && has_one_of(statement, &RUN_LATER) {
                    pins.add(PinReason::UnknownStatement("CREATE"));
                }
                effect
            }
        },
        Verb::Drop => told(utility::dropped(&reader), pins),
        Verb::Utility(word) => told(utility::utility(word, &mut reader), pins),
        Verb::Call(word) => {
            let reason = if word == "DO" { done(statement) } else { utility::called(found) };
            pins.add(reason);
            Effect::Pin(reason)
        }
        Verb::Listen => named(&mut reader, Effect::Listen, PinReason::Listen),
        Verb::Unlisten => unlisten(&mut reader),
        Verb::Pin(reason) => Effect::Pin(reason),
    };
    (verb, effect)
}

/// Words of a CREATE by which what it makes runs functions later.
const RUN_LATER: [&str; 5] = ["default", "check", "view", "like", "inherits"];

/// Whether a statement with this verb may update rows when it runs, and not only through an object that it creates.
fn may_update(verb: Verb) -> bool {
    matches!(verb, Verb::Write | Verb::With | Verb::Explain | Verb::Prepare | Verb::Execute)
}

/// Whether a statement with this verb may call functions and does not pin by itself.
fn may_call(verb: Verb) -> bool {
    may_update(verb) || matches!(verb, Verb::Read | Verb::Declare)
}

fn has_one_of(statement: &[u8], words: &[&str]) -> bool {
    let mut lexer = Lexer::new(statement);
    while let Ok(Some(token)) = lexer.next() {
        if words.iter().any(|word| is_word(token, word)) {
            return true;
        }
    }
    false
}

/// Why a DO pins. `DISCARD ALL` undoes the effects of static PL/pgSQL statements in it. It does not undo everything that
/// dynamic SQL or another language may do: a library stays loaded, a seed set, a named connection open.
fn done(statement: &[u8]) -> PinReason {
    let is_open = ["execute", "load", "language", "seed"].iter().any(|it| contains(statement, it.as_bytes()));
    if is_open { PinReason::SideEffects("DO") } else { PinReason::UnknownStatement("DO") }
}

/// Pins with this reason. What the server can tell of counts from when it is sent: a statement that fails may have run
/// functions before.
fn told(reason: PinReason, pins: &mut Pins) -> Effect {
    if reason.is_told_by_server() {
        pins.add(reason);
    }
    Effect::Pin(reason)
}

fn contains(statement: &[u8], word: &[u8]) -> bool {
    statement.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

fn makes_temporary(verb: Verb, statement: &[u8]) -> bool {
    match verb {
        Verb::Explain if has_one_of(statement, &["create"]) => has_one_of(statement, &["temp", "temporary"]),
        _other => is_into_temp(statement),
    }
}

/// Whether a statement may release an advisory lock, or has perhaps not got the one that it tried to take.
fn may_unlock(statement: &[u8]) -> bool {
    [&b"pg_advisory_unlock"[..], b"pg_try_advisory_lock"].iter().any(|name| contains(statement, name))
}

/// Reads what follows EXECUTE.
fn executed(reader: &mut Reader<'_>) -> Effect {
    reader.name().map_or(Effect::Pin(PinReason::UnknownStatement("EXECUTE")), Effect::Execute)
}

/// Reads what follows EXPLAIN: options, then perhaps EXECUTE.
fn explain(reader: &mut Reader<'_>) -> Effect {
    let mut depth = 0_usize;
    while let Some(token) = reader.bump() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            token if depth == 0 && is_word(token, "execute") => {
                return reader
                    .name()
                    .map_or(Effect::Pin(PinReason::UnknownStatement("EXECUTE")), Effect::Explained);
            }
            _other => {}
        }
    }
    Effect::None
}

fn unlisten(reader: &mut Reader<'_>) -> Effect {
    if reader.eat_symbol(b'*') && reader.is_at_end() {
        return Effect::UnlistenAll;
    }
    match reader.name() {
        Some(name) if reader.is_at_end() => Effect::Unlisten(name),
        _unclear => Effect::None,
    }
}

fn is_into_temp(statement: &[u8]) -> bool {
    let mut lexer = Lexer::new(statement);
    let mut is_after_into = false;
    while let Ok(Some(token)) = lexer.next() {
        if is_after_into && (is_word(token, "temp") || is_word(token, "temporary")) {
            return true;
        }
        let is_scope = is_word(token, "local") || is_word(token, "global");
        is_after_into = is_word(token, "into") || (is_after_into && is_scope);
    }
    false
}

/// What is understood, or else why it pins.
fn named(reader: &mut Reader<'_>, effect: fn(Name) -> Effect, otherwise: PinReason) -> Effect {
    match reader.name() {
        Some(name) if reader.is_at_end() => effect(name),
        _unclear => Effect::Pin(otherwise),
    }
}

fn discard(reader: &mut Reader<'_>) -> Effect {
    let is_all = reader.eat("all");
    let is_known = is_all || ["plans", "sequences", "temp", "temporary"].iter().any(|word| reader.eat(word));
    match (is_known && reader.is_at_end(), is_all) {
        (true, true) => Effect::DiscardAll,
        (true, false) => Effect::None,
        (false, _) => Effect::Pin(PinReason::UnknownStatement("DISCARD")),
    }
}

fn deallocate(reader: &mut Reader<'_>) -> Effect {
    let mut after = reader.clone();
    if after.eat("prepare") && !after.is_at_end() {
        *reader = after;
    }
    if reader.eat("all") && reader.is_at_end() {
        return Effect::DeallocateAll;
    }
    named(reader, Effect::Deallocate, PinReason::UnknownStatement("DEALLOCATE"))
}

fn prepare(reader: &mut Reader<'_>) -> Effect {
    let unknown = Effect::Pin(PinReason::UnknownStatement("PREPARE"));
    let Some(name) = reader.name() else { return unknown };
    if reader.eat_symbol(b'(') {
        while reader.peek().is_some_and(|token| !is_word(token, "as")) {
            reader.bump();
        }
    }
    if !reader.eat("as") {
        return unknown;
    }
    while reader.eat_symbol(b'(') {}
    let verb = match reader.bump() {
        Some(Token::Word(word)) => Verb::of(word),
        _unclear => return unknown,
    };
    match verb {
        Verb::Read | Verb::With | Verb::Write => Effect::Prepare { name, sql: reader.sql.into() },
        _others => unknown,
    }
}

fn declare(reader: &mut Reader<'_>) -> Effect {
    let unknown = Effect::Pin(PinReason::HoldCursor);
    let Some(name) = reader.name() else { return unknown };
    while !reader.eat("cursor") {
        if reader.bump().is_none() {
            return unknown;
        }
    }
    if reader.eat("without") && !reader.eat("hold") {
        return unknown;
    }
    if reader.eat("with") {
        return if reader.eat("hold") { Effect::DeclareHold(name) } else { unknown };
    }
    if reader.eat("for") { Effect::None } else { unknown }
}

fn close(reader: &mut Reader<'_>) -> Effect {
    if reader.eat("all") && reader.is_at_end() {
        return Effect::CloseAllCursors;
    }
    named(reader, Effect::CloseCursor, PinReason::UnknownStatement("CLOSE"))
}

fn rollback(reader: &mut Reader<'_>) -> Effect {
    let _noise = reader.eat("work") || reader.eat("transaction");
    if reader.is_at_end() || reader.eat("and") {
        return Effect::None;
    }
    if !reader.eat("to") {
        return Effect::Pin(PinReason::UnknownSavepoint);
    }
    reader.eat("savepoint");
    named(reader, Effect::RollbackTo, PinReason::UnknownSavepoint)
}

fn create(reader: &mut Reader<'_>, found: &SuspiciousNames) -> Effect {
    // Its scripts create functions in C, which loads the library.
    if reader.peek().is_some_and(|token| is_word(token, "extension")) {
        return Effect::Pin(PinReason::Load);
    }
    let made = utility::created(reader.clone(), found);
    let mut is_after_as = false;
    while let Some(token) = reader.bump() {
        if is_word(token, "temp") || is_word(token, "temporary") {
            return Effect::Pin(PinReason::TemporaryObject);
        }
        if is_after_as && is_word(token, "execute") {
            return Effect::Pin(PinReason::SideEffects("EXECUTE"));
        }
        is_after_as = is_word(token, "as");
    }
    Effect::Pin(made.unwrap_or(PinReason::UnknownStatement("CREATE")))
}
