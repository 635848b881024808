//! What a request does, read from its SQL.

use super::Class;
use super::effect::{Effect, Name};
use super::lexer::{Lexer, Token, Unclear};
use super::tripwire::{Trips, may_trip, trips};
use super::{set, set_config};
use crate::limits::{QUERY_STATEMENTS_MAX, SQL_NAME_MAX};
use crate::pin::PinReason;

/// What is known of a request from its SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) class: Class,
    /// From when it is sent on, whether or not it succeeds.
    pub(crate) pin: Option<PinReason>,
    /// One for each statement. None at all when no statement has any.
    pub(crate) effects: Vec<Effect>,
}

impl Reading {
    #[inline]
    fn plain(class: Class) -> Self {
        Self { class, pin: None, effects: Vec::new() }
    }

    /// Of SQL that is too long to be seen whole.
    pub(crate) fn unread() -> Self {
        Self { class: Class::ONCE, pin: None, effects: vec![Effect::Unread] }
    }

    /// Of a Query that is sent in parts; this is the first. The others may yet show that it is not to
    /// be repeated.
    pub(crate) fn long(part: &[u8]) -> Self {
        let is_read = first_verb(part) == Verb::Read && !part.contains(&b';');
        let class = if is_read { Class::PLAIN } else { Class::ONCE };
        Self { class, pin: None, effects: vec![Effect::Unread] }
    }

    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.class == Class::PLAIN && self.pin.is_none() && self.effects.is_empty()
    }
}

/// The first word of a statement, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Empty,
    /// SELECT, VALUES, TABLE, SHOW.
    Read,
    With,
    /// BEGIN, START, FETCH, MOVE.
    Harmless,
    /// COMMIT, END.
    Commit,
    /// INSERT, UPDATE, DELETE, MERGE, COPY, UNLISTEN, NOTIFY, LOCK.
    Write,
    Explain,
    Set,
    Reset,
    Discard,
    Deallocate,
    Prepare,
    Execute,
    Declare,
    Close,
    Rollback,
    Savepoint,
    Release,
    Create,
    /// DO, CALL: may do anything, also when it fails.
    Call(&'static str),
    Pin(PinReason),
}

/// Longest first word that matters.
const VERB_MAX: usize = 10;

/// What is not told apart further: these pin by their own name.
const OTHERS: [&str; 16] = [
    "ALTER",
    "ANALYZE",
    "CHECKPOINT",
    "CLUSTER",
    "COMMENT",
    "DROP",
    "GRANT",
    "IMPORT",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "REVOKE",
    "SECURITY",
    "TRUNCATE",
    "VACUUM",
    "CREATE",
];

/// The command a tag or statement begins with, by a name from a closed list.
pub(crate) fn command_of(tag: &[u8]) -> &'static str {
    let is_it = |name: &&&str| tag.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name.as_bytes()));
    let known = ["SET", "RESET", "PREPARE", "DEALLOCATE", "DISCARD", "DECLARE", "CLOSE", "LISTEN", "LOAD"];
    OTHERS.iter().chain(&known).find(is_it).copied().unwrap_or("another statement")
}

impl Verb {
    #[inline]
    fn of(word: &[u8]) -> Self {
        let mut lower = [0; VERB_MAX];
        let Some(place) = lower.get_mut(..word.len()) else { return Self::other(word) };
        place.copy_from_slice(word);
        place.make_ascii_lowercase();
        match &*place {
            b"select" | b"values" | b"table" | b"show" => Self::Read,
            b"with" => Self::With,
            b"begin" | b"start" | b"fetch" | b"move" => Self::Harmless,
            b"commit" | b"end" => Self::Commit,
            b"insert" | b"update" | b"delete" | b"merge" | b"copy" => Self::Write,
            b"unlisten" | b"notify" | b"lock" => Self::Write,
            b"explain" => Self::Explain,
            b"set" => Self::Set,
            b"reset" => Self::Reset,
            b"discard" => Self::Discard,
            b"deallocate" => Self::Deallocate,
            b"prepare" => Self::Prepare,
            b"execute" => Self::Execute,
            b"declare" => Self::Declare,
            b"close" => Self::Close,
            b"rollback" | b"abort" => Self::Rollback,
            b"savepoint" => Self::Savepoint,
            b"release" => Self::Release,
            b"create" => Self::Create,
            b"do" => Self::Call("DO"),
            b"call" => Self::Call("CALL"),
            b"listen" => Self::Pin(PinReason::Listen),
            b"load" => Self::Pin(PinReason::Load),
            b"" => Self::Empty,
            _other => Self::other(word),
        }
    }

    fn other(word: &[u8]) -> Self {
        Self::Pin(PinReason::UnknownStatement(command_of(word)))
    }

    /// Whether neither the SQL behind it nor its tag says more.
    #[inline]
    fn class(self) -> Option<Class> {
        match self {
            Self::Read | Self::Harmless => Some(Class::PLAIN),
            Self::Commit => Some(Class::END),
            Self::Write => Some(Class::ONCE),
            _others => None,
        }
    }
}

/// Reads the SQL of a Query or Parse.
#[inline]
pub(crate) fn read(sql: &[u8]) -> Reading {
    if let Some(class) = quick_verb(sql).class()
        && !may_trip(sql)
        && !has_more_statements(sql)
    {
        return Reading::plain(class);
    }
    read_closely(sql)
}

/// The verb of SQL that begins with it, but for spaces and parentheses.
#[inline]
fn quick_verb(sql: &[u8]) -> Verb {
    if is_select(sql) {
        return Verb::Read;
    }
    let is_before = |b: &u8| matches!(b, b' ' | b'\n' | b'\t' | b'\r' | b'(');
    let start = sql.iter().position(|b| !is_before(b)).unwrap_or(sql.len());
    let rest = &sql[start..];
    let length = rest.iter().take(VERB_MAX + 1).take_while(|b| b.is_ascii_alphabetic()).count();
    Verb::of(&rest[..length])
}

/// Whether SQL begins with the word that most of it begins with; seven bytes at once.
#[inline]
fn is_select(sql: &[u8]) -> bool {
    let Some(&[first @ .., after]) = sql.first_chunk::<7>() else { return false };
    let lower = first.map(|b| b | 0x20);
    // No other bytes become these letters with the bit of lower case set.
    lower == *b"select" && !after.is_ascii_alphabetic()
}

/// The verb of SQL that begins with it, also behind comments.
fn first_verb(sql: &[u8]) -> Verb {
    let mut lexer = Lexer::new(sql);
    loop {
        match lexer.next() {
            Ok(Some(Token::Symbol(b'('))) => {}
            Ok(Some(Token::Word(word))) => return Verb::of(word),
            Ok(_) | Err(Unclear) => return Verb::Empty,
        }
    }
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

/// Whether a semicolon stands before the last byte; it may stand in a string.
#[inline]
fn has_more_statements(sql: &[u8]) -> bool {
    sql.split_last().is_some_and(|(_, front)| front.contains(&b';'))
}

#[cold]
fn read_closely(sql: &[u8]) -> Reading {
    let found = trips(sql);
    let Ok(statements) = split(sql) else {
        // The server will refuse it. If it does not, the tag tells.
        return Reading { class: Class::ONCE, pin: found.pin, effects: vec![Effect::Unread] };
    };
    let mut reading = Reading { class: Class::PLAIN, pin: found.pin, effects: Vec::new() };
    let mut is_once = found.is_once;
    for statement in &statements {
        let (verb, effect, pin) = one(statement, &found);
        reading.pin = reading.pin.or(pin);
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
            | Verb::Call(_)
            | Verb::Pin(_) => true,
        };
        reading.effects.push(effect);
    }
    if is_once {
        reading.class = Class::ONCE;
    } else if transaction_end(sql).is_some() {
        reading.class = Class::END;
    }
    if reading.effects.iter().all(|effect| *effect == Effect::None) {
        reading.effects = Vec::new();
    }
    reading
}

/// The statements of a Query, without their semicolons; empty ones left out.
fn split(sql: &[u8]) -> Result<Vec<&[u8]>, Unclear> {
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

/// Verb, effect, and a pin from the moment it is sent.
fn one(statement: &[u8], found: &Trips) -> (Verb, Effect, Option<PinReason>) {
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

pub(super) fn is_word(token: Token<'_>, word: &str) -> bool {
    matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word.as_bytes()))
}

/// The tokens of one statement.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    lexer: Lexer<'a>,
    next: Option<Token<'a>>,
    pub(super) sql: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `sql` was split off by its tokens, so every token in it ends.
    pub(super) fn new(sql: &'a [u8]) -> Self {
        let mut lexer = Lexer::new(sql);
        let next = lexer.next().unwrap_or_default();
        Self { lexer, next, sql }
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.next
    }

    pub(super) fn bump(&mut self) -> Option<Token<'a>> {
        let token = self.next;
        self.next = self.lexer.next().unwrap_or_default();
        token
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.next.is_none()
    }

    pub(super) fn eat(&mut self, word: &str) -> bool {
        let is_it = self.next.is_some_and(|token| is_word(token, word));
        if is_it {
            self.bump();
        }
        is_it
    }

    pub(super) fn eat_symbol(&mut self, symbol: u8) -> bool {
        let is_it = self.next == Some(Token::Symbol(symbol));
        if is_it {
            self.bump();
        }
        is_it
    }

    /// A name as PostgreSQL folds it. `None` when that depends on the server's encoding or the name
    /// is one it would cut.
    pub(super) fn name(&mut self) -> Option<Name> {
        let name = match self.bump()? {
            Token::Word(word) if word.is_ascii() => word.to_ascii_lowercase(),
            Token::Quoted(quoted) => unquote(quoted),
            _other => return None,
        };
        (name.len() <= SQL_NAME_MAX).then(|| name.into())
    }
}

fn unquote(quoted: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    out
}

#[cfg(test)]
mod tests;
