//! How a server ends a connection, and whether the server itself ends or only the session.
//!
//! A fast shutdown and `pg_terminate_backend` send the same bytes, FATAL 57P01. The session holds them back until the
//! caller knows which of the two it was: [`crate::ServerThen::Terminated`].

use trunkline_codec::backend::{BackendTag, ErrorFields};
use trunkline_codec::sqlstate::SqlState;

/// Whether a FATAL error that the client got is about the server or about the session alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatalOrigin {
    /// The server shuts down, crashed, or canceled the session for a conflict with recovery.
    Server(SqlState),
    /// The server ended this session alone, for one of its time-outs for example. The code is `None` if the error has none.
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

/// What a farewell that is held back can be about.
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

/// The code of a FATAL error that is about the server, not about the request.
pub(crate) fn says_of_server(body: &[u8]) -> Option<SqlState> {
    conflict(body).filter(|_| ErrorFields::new(body).is_fatal())
}

/// Whether a FATAL error with this code means that the server ends, or cannot serve the session any more. With any other
/// code the server ends this session alone, for one of its time-outs for example (25P03, 25P04, 57P05).
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

/// The code of a standby's error, FATAL or not, for a conflict with recovery, or of its end.
pub(crate) fn conflict(body: &[u8]) -> Option<SqlState> {
    let fields = ErrorFields::new(body);
    let code = fields.sqlstate()?;
    (is_of_recovery(code) || (is_leaving(code) && fields.is_fatal())).then_some(code)
}
