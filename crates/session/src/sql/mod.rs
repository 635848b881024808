//! What a session needs to know of the SQL that passes through it.
//!
//! Most SQL is told to be plain by its first word and a scan for suspicious names. The rest is read
//! by a strict reader of the few forms whose effects can be told to another server; what it does not
//! understand pins the session. Which statement took effect is decided by the server's command tags.
//!
//! - `lexer`: PostgreSQL's tokens.
//! - `suspicious_names`: names of functions that may leave something behind.
//! - `verb`: the first word of a statement.
//! - `reader`: its tokens, one by one.
//! - [`calls`]: functions of the user's own that are called.
//! - [`functions`]: what functions of the user's own do to a session.
//! - [`read`]: what a request does.
//! - [`references`]: the prepared statements it names.
//! - `forms`: the forms of single statements.
//! - `set`: the forms of SET and RESET.
//! - [`set_config`]: the function of that name.
//! - [`effect`]: what is done.
//! - [`source`]: the source of a function.
//! - [`fingerprint`]: what stands for a statement in a log.

pub(crate) mod calls;
pub(crate) mod effect;
pub(crate) mod fingerprint;
mod forms;
pub(crate) mod functions;
mod lexer;
pub(crate) mod read;
mod reader;
pub(crate) mod references;
pub(crate) mod set;
pub(crate) mod set_config;
pub(crate) mod source;
pub(crate) mod suspicious_names;
pub(crate) mod verb;

/// What is known of a request from its SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    const NOT_REPEATABLE: u8 = 1;
    const HAS_EFFECTS: u8 = 2;
    const ENDS: u8 = 4;
    const OWN: u8 = 8;
    const NOTED: u8 = 16;

    /// Reads only, and leaves nothing behind.
    pub(crate) const PLAIN: Self = Self(0);
    /// May be run once only.
    pub(crate) const ONCE: Self = Self(Self::NOT_REPEATABLE);
    /// Commits the transaction or gives it up, and does nothing else.
    pub(crate) const END: Self = Self(Self::ENDS);
    /// A request of the proxy's own: its answer is not the client's.
    pub(crate) const OWN_REQUEST: Self = Self(Self::OWN);
    /// A Describe whose answer is noted.
    pub(crate) const DESCRIBE_NOTED: Self = Self(Self::NOTED);

    #[inline]
    pub(crate) fn is_repeatable(self) -> bool {
        self.0 & Self::NOT_REPEATABLE == 0
    }

    /// Whether it is a request of the proxy's own.
    #[inline]
    pub(crate) fn is_own(self) -> bool {
        self.0 & Self::OWN != 0
    }

    /// Whether what it is answered with is noted of a statement.
    #[inline]
    pub(crate) fn is_noted(self) -> bool {
        self.0 & Self::NOTED != 0
    }

    /// Whether its effects are queued.
    #[inline]
    pub(crate) fn has_effects(self) -> bool {
        self.0 & Self::HAS_EFFECTS != 0
    }

    /// Whether no transaction is open once it was run, even if it failed.
    #[inline]
    pub(crate) fn ends(self) -> bool {
        self.0 & Self::ENDS != 0
    }

    /// With effects queued.
    pub(crate) fn with_effects(self) -> Self {
        Self(self.0 | Self::HAS_EFFECTS)
    }
}
