//! The effect of a statement on its session.

use super::set_config::Call;
use crate::names::Name;
use crate::pin::PinReason;

/// The effect of one complete statement on its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing, or nothing that outlives its transaction.
    None,
    /// Something until the end of the transaction.
    Local,
    /// Unknown: the SQL was not read, and only the command tag shows the effect.
    Unread,
    /// Changes settings, if its transaction commits.
    Change(Vec<Change>),
    /// Changes settings as the parameters of a Bind say.
    SetConfig(Vec<Call>),
    DiscardAll,
    Deallocate(Name),
    DeallocateAll,
    /// Prepares a statement with this SQL.
    Prepare {
        name: Name,
        sql: Box<[u8]>,
    },
    Savepoint(Name),
    Release(Name),
    RollbackTo(Name),
    DeclareHold(Name),
    CloseCursor(Name),
    CloseAllCursors,
    Listen(Name),
    Unlisten(Name),
    UnlistenAll,
    /// May release advisory locks of the session.
    MayUnlock,
    /// Runs a prepared statement, with its effect.
    Execute(Name),
    /// Runs a prepared statement, as EXPLAIN ANALYZE does.
    Explained(Name),
    Pin(PinReason),
}

impl Effect {
    /// The reason by which it pins.
    #[inline]
    pub(crate) fn pin(&self) -> Option<PinReason> {
        if let Self::Pin(reason) = self { Some(*reason) } else { None }
    }

    /// Whether it neither changes what SQL means after it nor which statements there are.
    pub(crate) fn leaves_statements(&self) -> bool {
        match self {
            Self::Change(_) | Self::SetConfig(_) | Self::RollbackTo(_) => false,
            _other => self.keeps_statements(),
        }
    }

    /// Whether there are the same statements after it.
    pub(crate) fn keeps_statements(&self) -> bool {
        match self {
            Self::None
            | Self::Local
            | Self::Change(_)
            | Self::SetConfig(_)
            | Self::Savepoint(_)
            | Self::Release(_)
            | Self::RollbackTo(_)
            | Self::DeclareHold(_)
            | Self::CloseCursor(_)
            | Self::CloseAllCursors
            | Self::Listen(_)
            | Self::Unlisten(_)
            | Self::UnlistenAll
            | Self::MayUnlock
            | Self::Pin(_) => true,
            Self::Unread
            | Self::DiscardAll
            | Self::Deallocate(_)
            | Self::DeallocateAll
            | Self::Prepare { .. }
            | Self::Execute(_)
            | Self::Explained(_) => false,
        }
    }
}

/// A change of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Set {
        key: Box<str>,
        sql: Box<[u8]>,
    },
    Reset {
        key: Box<str>,
        sql: Box<[u8]>,
    },
    ResetAll,
    /// Until the end of the transaction. A custom setting is known from then on. The SQL tells apart values of
    /// `search_path`.
    Local {
        key: Box<str>,
        sql: Box<[u8]>,
    },
}

impl Change {
    /// Whether it leaves nothing where nothing was set before.
    pub(crate) fn is_trace_free(&self) -> bool {
        match self {
            Self::ResetAll => true,
            Self::Local { key, .. } => !key.contains('.'),
            Self::Set { .. } | Self::Reset { .. } => false,
        }
    }

    /// The SQL that sets `search_path`.
    pub(crate) fn sets_path(&self) -> Option<&[u8]> {
        match self {
            Self::Set { key, sql } | Self::Reset { key, sql } | Self::Local { key, sql } => {
                (&**key == "search_path").then_some(sql)
            }
            Self::ResetAll => None,
        }
    }
}

impl Effect {
    /// Whether a statement with this effect may end with this command tag.
    pub(crate) fn fits(&self, tag: &[u8]) -> bool {
        match self {
            Self::None => is_plain(tag) || is_of_transaction(tag) || is_without_trace(tag),
            Self::Local => {
                matches!(tag, b"SET" | b"RESET" | b"SET CONSTRAINTS") || tag.starts_with(b"SELECT ")
            }
            Self::Unread | Self::MayUnlock => is_plain(tag),
            Self::Change(_) => tag == b"SET" || tag == b"RESET" || tag.starts_with(b"SELECT "),
            Self::SetConfig(_) => tag.starts_with(b"SELECT "),
            Self::DiscardAll => tag == b"DISCARD ALL",
            Self::Deallocate(_) => tag == b"DEALLOCATE",
            Self::DeallocateAll => tag == b"DEALLOCATE ALL",
            Self::Prepare { .. } => tag == b"PREPARE",
            Self::Savepoint(_) => tag == b"SAVEPOINT",
            Self::Release(_) => tag == b"RELEASE",
            Self::RollbackTo(_) => tag == b"ROLLBACK",
            Self::DeclareHold(_) => tag == b"DECLARE CURSOR",
            Self::CloseCursor(_) => tag == b"CLOSE CURSOR",
            Self::CloseAllCursors => tag == b"CLOSE CURSOR ALL",
            Self::Listen(_) => tag == b"LISTEN",
            Self::Unlisten(_) | Self::UnlistenAll => tag == b"UNLISTEN",
            Self::Execute(_) => is_plain(tag),
            Self::Explained(_) => tag == b"EXPLAIN",
            Self::Pin(_) => true,
        }
    }
}

/// Tags of statements that only read or write rows.
#[inline]
pub(crate) fn is_plain(tag: &[u8]) -> bool {
    let command = tag.split(|b| *b == b' ').next().unwrap_or_default();
    match command {
        b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"FETCH" | b"MOVE" | b"COPY" => true,
        b"SHOW" | b"EXPLAIN" => true,
        _other => false,
    }
}

fn is_of_transaction(tag: &[u8]) -> bool {
    matches!(tag, b"BEGIN" | b"START TRANSACTION" | b"COMMIT" | b"ROLLBACK")
}

fn is_without_trace(tag: &[u8]) -> bool {
    match tag {
        b"DECLARE CURSOR" | b"LOCK TABLE" | b"NOTIFY" | b"UNLISTEN" => true,
        b"DISCARD PLANS" | b"DISCARD SEQUENCES" | b"DISCARD TEMP" | b"CHECKPOINT" => true,
        _other => false,
    }
}
