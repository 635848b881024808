//! How a server takes its leave, and whether the server ends or only the session.
//!
//! A fast shutdown and `pg_terminate_backend` send the same bytes, FATAL 57P01. They are held back until the caller
//! knows which of the two it was: [`crate::ServerThen::Terminated`].

use trunkline_codec::backend::{BackendTag, ErrorFields};
use trunkline_codec::sqlstate::SqlState;

/// The FATAL error that the client was told, and whose end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatalOrigin {
    /// The server's: it shuts down, crashed, or canceled the session for recovery.
    Server(SqlState),
    /// The session's own, such as that of one of its time-outs. The code is `None` if the error has none.
    Session(Option<SqlState>),
}

impl FatalOrigin {
    pub(crate) fn of(code: Option<SqlState>) -> Self {
        match code {
            Some(code) if is_of_server(code) => Self::Server(code),
            Some(_) | None => Self::Session(code),
        }
    }
}

/// What a farewell that is held back can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FarewellScope {
    /// The server ends.
    Server,
    /// The server ends, or this session alone.
    ServerOrSession,
}

/// The code of a notice that announces the end of the connection.
pub(crate) fn shutdown_notice(body: &[u8]) -> Option<SqlState> {
    let code = ErrorFields::new(body).sqlstate()?;
    (code == SqlState::ADMIN_SHUTDOWN || code == SqlState::CRASH_SHUTDOWN).then_some(code)
}

/// Whether a message is a farewell: a FATAL error, or the notice of an immediate shutdown.
#[inline]
pub(crate) fn is_farewell(tag: BackendTag, body: &[u8]) -> bool {
    if tag == BackendTag::ErrorResponse {
        return ErrorFields::new(body).is_fatal();
    }
    tag == BackendTag::NoticeResponse && shutdown_notice(body).is_some()
}

/// The code of a FATAL error that says nothing of the request, only of the server.
pub(crate) fn says_of_server(body: &[u8]) -> Option<SqlState> {
    conflict(body).filter(|_| ErrorFields::new(body).is_fatal())
}

/// Whether a FATAL error with this code is the end of its server, or of its server's part in the session. Any other is
/// the session's own end, such as that of its time-outs (25P03, 25P04, 57P05).
pub(crate) fn is_of_server(code: SqlState) -> bool {
    is_of_recovery(code) || is_leaving(code)
}

fn is_of_recovery(code: SqlState) -> bool {
    code == SqlState::SERIALIZATION_FAILURE || code == SqlState::DEADLOCK_DETECTED
}

fn is_leaving(code: SqlState) -> bool {
    code == SqlState::ADMIN_SHUTDOWN
        || code == SqlState::CRASH_SHUTDOWN
        || code == SqlState::CANNOT_CONNECT_NOW
}

/// The same of a standby's error, after which it may stay.
pub(crate) fn conflict(body: &[u8]) -> Option<SqlState> {
    let fields = ErrorFields::new(body);
    let code = fields.sqlstate()?;
    (is_of_recovery(code) || (is_leaving(code) && fields.is_fatal())).then_some(code)
}
