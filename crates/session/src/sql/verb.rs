//! The first word of a statement.

use super::Class;
use super::lexer::{Lexer, Token, Unclear};
use crate::pin::PinReason;

/// The first word of a statement, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Empty,
    /// SELECT, VALUES, TABLE, SHOW.
    Read,
    With,
    /// BEGIN, START, FETCH, MOVE.
    Harmless,
    /// COMMIT, END.
    Commit,
    /// INSERT, UPDATE, DELETE, MERGE, COPY, NOTIFY, LOCK, CHECKPOINT.
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
    Drop,
    /// DO, CALL: may do anything, even if it fails.
    Call(&'static str),
    Listen,
    Unlisten,
    /// See `utility`.
    Utility(&'static str),
    Pin(PinReason),
}

/// Longest first word that matters.
const VERB_MAX: usize = 10;

/// Other verbs: these pin by their own name.
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
fn command_of(tag: &[u8]) -> &'static str {
    let is_it = |name: &&&str| tag.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name.as_bytes()));
    let known = ["SET", "RESET", "PREPARE", "DEALLOCATE", "DISCARD", "DECLARE", "CLOSE", "LISTEN", "LOAD"];
    OTHERS.iter().chain(&known).find(is_it).copied().unwrap_or("another statement")
}

/// Why a statement with an unexpected command tag pins.
pub(crate) fn unknown_tag(tag: &[u8]) -> PinReason {
    match tag {
        b"DO" => PinReason::SideEffects("DO"),
        b"CALL" => PinReason::SideEffects("CALL"),
        _other => PinReason::UnknownStatement(command_of(tag)),
    }
}

impl Verb {
    #[inline]
    pub(super) fn of(word: &[u8]) -> Self {
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
            b"notify" | b"lock" | b"checkpoint" => Self::Write,
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
            b"drop" => Self::Drop,
            b"do" => Self::Call("DO"),
            b"call" => Self::Call("CALL"),
            b"listen" => Self::Listen,
            b"unlisten" => Self::Unlisten,
            b"truncate" => Self::Utility("TRUNCATE"),
            b"analyze" => Self::Utility("ANALYZE"),
            b"vacuum" => Self::Utility("VACUUM"),
            b"cluster" => Self::Utility("CLUSTER"),
            b"reindex" => Self::Utility("REINDEX"),
            b"refresh" => Self::Utility("REFRESH"),
            b"comment" => Self::Utility("COMMENT"),
            b"grant" => Self::Utility("GRANT"),
            b"revoke" => Self::Utility("REVOKE"),
            b"load" => Self::Pin(PinReason::Load),
            b"" => Self::Empty,
            _other => Self::other(word),
        }
    }

    pub(super) fn other(word: &[u8]) -> Self {
        Self::Pin(PinReason::UnknownStatement(command_of(word)))
    }

    /// Whether neither the rest of the SQL nor the command tag matters.
    #[inline]
    pub(super) fn class(self) -> Option<Class> {
        match self {
            Self::Read | Self::Harmless => Some(Class::PLAIN),
            Self::Commit => Some(Class::END),
            Self::Write => Some(Class::ONCE),
            _others => None,
        }
    }
}

/// The verb of SQL that begins with it, but for spaces and parentheses.
#[inline]
pub(super) fn quick_verb(sql: &[u8]) -> Verb {
    if is_select(sql) {
        return Verb::Read;
    }
    let is_before = |b: &u8| matches!(b, b' ' | b'\n' | b'\t' | b'\r' | b'(');
    let start = sql.iter().position(|b| !is_before(b)).unwrap_or(sql.len());
    let rest = &sql[start..];
    let length = rest.iter().take(VERB_MAX + 1).take_while(|b| b.is_ascii_alphabetic()).count();
    Verb::of(&rest[..length])
}

/// Whether SQL begins with `SELECT`, the most frequent verb; compares seven bytes at once.
#[inline]
fn is_select(sql: &[u8]) -> bool {
    let Some(&[first @ .., after]) = sql.first_chunk::<7>() else { return false };
    let lower = first.map(|b| b | 0x20);
    // No other bytes become these letters with the bit of lower case set.
    lower == *b"select" && !after.is_ascii_alphabetic()
}

/// Longest command shown, in bytes: the longest there is has ten.
const COMMAND_MAX: usize = 16;

/// The command that SQL begins with, after comments, in upper case: `SELECT`. `None` when it begins with no word.
#[must_use]
pub fn command_word(sql: &[u8]) -> Option<String> {
    let mut lexer = Lexer::new(sql);
    loop {
        match lexer.next() {
            Ok(Some(Token::Symbol(b'('))) => {}
            Ok(Some(Token::Word(word))) if word.len() <= COMMAND_MAX => {
                return std::str::from_utf8(word).ok().map(str::to_ascii_uppercase);
            }
            Ok(_) | Err(Unclear) => return None,
        }
    }
}

/// The verb of SQL that begins with it, after comments.
pub(super) fn first_verb(sql: &[u8]) -> Verb {
    let mut lexer = Lexer::new(sql);
    loop {
        match lexer.next() {
            Ok(Some(Token::Symbol(b'('))) => {}
            Ok(Some(Token::Word(word))) => return Verb::of(word),
            Ok(_) | Err(Unclear) => return Verb::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_the_first_word_after_comments() {
        let command = |sql: &str| command_word(sql.as_bytes());
        assert_eq!(command("/* a */ (( select 1))").as_deref(), Some("SELECT"));
        assert_eq!(command("-- note\nVacuum t").as_deref(), Some("VACUUM"));
        for none in ["", "1 + 1", "\"quoted\"", "'text", "/* open"] {
            assert_eq!(command(none), None, "{none}");
        }
        assert_eq!(command(&"a".repeat(COMMAND_MAX)).map(|word| word.len()), Some(COMMAND_MAX));
        assert_eq!(command(&"a".repeat(COMMAND_MAX + 1)), None);
    }
}
