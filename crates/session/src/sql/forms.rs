//! The forms of single statements, and what each does.

use super::effect::{Effect, Name};
use super::lexer::{Lexer, Token};
use super::reader::{Reader, is_word};
use super::tripwire::Trips;
use super::verb::Verb;
use super::{set, set_config};
use crate::pin::PinReason;

/// Verb, effect, and a pin from the moment it is sent.
pub(super) fn one(statement: &[u8], found: &Trips) -> (Verb, Effect, Option<PinReason>) {
    let mut reader = Reader::new(statement);
    while reader.eat_symbol(b'(') {}
    let verb = match reader.bump() {
        Some(Token::Word(word)) => Verb::of(word),
        Some(_) => Verb::other(b""),
        None => Verb::Empty,
    };
    let mut pin = None;
    let effect = match verb {
        Verb::Read | Verb::With if found.has_temp && is_into_temp(statement) => {
            Effect::Pin(PinReason::TemporaryObject)
        }
        Verb::Read if found.has_set_config => set_config::set_configs(&mut reader).unwrap_or_else(|| {
            pin = Some(PinReason::UnknownSetting);
            Effect::None
        }),
        Verb::Write | Verb::With | Verb::Explain if found.has_set_config => {
            pin = Some(PinReason::UnknownSetting);
            Effect::None
        }
        Verb::Empty
        | Verb::Read
        | Verb::With
        | Verb::Harmless
        | Verb::Commit
        | Verb::Write
        | Verb::Explain => Effect::None,
        Verb::Set => set::set(&mut reader),
        Verb::Reset => set::reset(&mut reader),
        Verb::Discard => discard(&mut reader),
        Verb::Deallocate => deallocate(&mut reader),
        Verb::Prepare => {
            if found.has_set_config {
                pin = Some(PinReason::UnknownSetting);
            }
            prepare(&mut reader)
        }
        Verb::Execute => Effect::Unread,
        Verb::Declare => {
            if found.has_set_config {
                pin = Some(PinReason::UnknownSetting);
            }
            declare(&mut reader)
        }
        Verb::Close => close(&mut reader),
        Verb::Rollback => rollback(&mut reader),
        Verb::Savepoint => named(&mut reader, Effect::Savepoint, PinReason::UnknownSavepoint),
        Verb::Release => {
            reader.eat("savepoint");
            named(&mut reader, Effect::Release, PinReason::UnknownSavepoint)
        }
        Verb::Create => create(&mut reader),
        Verb::Call(word) => {
            pin = Some(PinReason::UnknownStatement(word));
            Effect::Pin(PinReason::UnknownStatement(word))
        }
        Verb::Pin(reason) => Effect::Pin(reason),
    };
    (verb, effect, pin)
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

fn create(reader: &mut Reader<'_>) -> Effect {
    while let Some(token) = reader.bump() {
        if is_word(token, "temp") || is_word(token, "temporary") {
            return Effect::Pin(PinReason::TemporaryObject);
        }
    }
    Effect::Pin(PinReason::UnknownStatement("CREATE"))
}
