//! What a session reads in the SQL that passes through it.
//!
//! For most SQL the first word and a scan for suspicious names show that it is plain. A strict parser
//! reads the rest, in the few forms whose effects can be restored on another server; SQL that it does
//! not understand pins the session. The server's command tags decide which statement took effect.
//!
//! - `lexer`: PostgreSQL's tokens.
//! - `superuser_settings`: settings that only superusers may set.
//! - `suspicious_names`: names of functions that may change the session or have effects outside of it.
//! - `verb`: the first word of a statement.
//! - `reader`: its tokens, one by one.
//! - [`calls`]: user-defined functions that are called.
//! - [`function_effect`]: the effect of a user-defined function on a session.
//! - [`functions`]: the functions of a database; [`made`]: what sessions create that runs some.
//! - [`read`]: the effects of a request.
//! - [`operator_words`]: operators that are written as keywords.
//! - [`plainness`]: whether a standby may run it.
//! - [`path_names`]: the names in a `search_path`.
//! - `reads`: whether a statement only reads; [`verdict`]: what it does, by that and the catalog.
//! - [`references`]: the prepared statements it names.
//! - `forms`: the forms of single statements.
//! - `utility`: statements that leave nothing but by functions that they run.
//! - `set`: the forms of SET and RESET.
//! - [`set_config`]: the function of that name.
//! - [`effect`]: the effect of one statement.
//! - [`source`]: the source of a function.
//! - `hinted`: what clients say of where their reads go.
//! - [`transactions`]: those that only read, and what they may do on a standby.
//! - [`fingerprint`]: a hash that identifies a statement in a log.

pub(crate) mod calls;
pub(crate) mod effect;
pub(crate) mod fingerprint;
mod forms;
pub(crate) mod function_effect;
pub(crate) mod functions;
pub(crate) mod hinted;
pub(crate) mod known_reads;
mod lexer;
pub(crate) mod made;
pub(crate) mod operator_words;
pub(crate) mod path_names;
pub(crate) mod plainness;
pub(crate) mod read;
mod reader;
pub(crate) mod reads;
pub(crate) mod references;
pub(crate) mod set;
pub(crate) mod set_config;
pub(crate) mod source;
pub(crate) mod superuser_settings;
pub(crate) mod suspicious_names;
pub(crate) mod transactions;
mod utility;
pub(crate) mod verb;
pub(crate) mod verdict;

/// What is known of a request from its SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    const NOT_REPEATABLE: u8 = 1;
    const HAS_EFFECTS: u8 = 2;
    const ENDS: u8 = 4;
    const OWN: u8 = 8;
    const NOTED: u8 = 16;
    const SHARED: u8 = 32;

    /// Reads only, and does not change the session.
    pub(crate) const PLAIN: Self = Self(0);
    /// May be run once only.
    pub(crate) const ONCE: Self = Self(Self::NOT_REPEATABLE);
    /// COMMIT or ROLLBACK, and nothing else.
    pub(crate) const END: Self = Self(Self::ENDS);
    /// One of the proxy's own requests: its answer does not go to the client.
    pub(crate) const OWN_REQUEST: Self = Self(Self::OWN);
    /// A Describe whose answer is noted.
    pub(crate) const DESCRIBE_NOTED: Self = Self(Self::NOTED);

    #[inline]
    pub(crate) fn is_repeatable(self) -> bool {
        self.0 & Self::NOT_REPEATABLE == 0
    }

    /// Whether it is one of the proxy's own requests.
    #[inline]
    pub(crate) fn is_own(self) -> bool {
        self.0 & Self::OWN != 0
    }

    /// Whether its answer describes a statement and is noted.
    #[inline]
    pub(crate) fn is_noted(self) -> bool {
        self.0 & Self::NOTED != 0
    }

    /// Whether it went to the server with the name of a shared statement.
    #[inline]
    pub(crate) fn is_shared(self) -> bool {
        self.0 & Self::SHARED != 0
    }

    /// With such a name.
    pub(crate) fn shared(self) -> Self {
        Self(self.0 | Self::SHARED)
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
