//! What a client gets when its server is lost.

use std::fmt;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::{BackendTag, ErrorFields};
use trunkline_codec::scan::Piece;
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, error_response};

use crate::conversation::farewell::{FatalOrigin, is_farewell};
use crate::conversation::scanner_of_a_server;
use crate::settings::ServerRole;

/// How a server connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLoss {
    /// The server closed the connection.
    Eof,
    /// The server, or something on the path to it, reset the connection.
    Reset,
    /// The server stopped answering.
    TimedOut,
    /// The proxy abandoned the server: it is hung, fenced or drained, and the session cannot move.
    GivenUp,
}

/// What the caller could do for a session that lost its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryOptions {
    /// Whether it could take another server. It could not when no other is allowed.
    pub can_move: bool,
    /// Whether it could send the request in flight again to another server: it still has all of the
    /// request's bytes, and has not reached the limit of repeats.
    pub can_repeat: bool,
}

/// What to do for the client of a lost server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossPlan {
    /// Take another server, now or when the client sends its next request, send it
    /// what [`crate::diff`] says it lacks, and call [`crate::Session::server_taken`]: the client waits for
    /// nothing.
    Move,
    /// Call [`crate::Session::rewind`], then do as for [`Self::Move`], then pass the client's
    /// bytes in again, from the first byte of the request in flight.
    Repeat,
    /// Do as for [`Self::Move`], and first write `answer` to the client, an ErrorResponse and
    /// ReadyForQuery: the request in flight failed. Without one in flight the answer is empty, and
    /// the client's next request will get the error (see [`crate::ClientThen::Refuse`]). A
    /// transaction that was open is failed now.
    Fail {
        /// For the client.
        answer: Bytes,
        /// The code of the error.
        code: SqlState,
    },
    /// Write these bytes to the client (they end with an ErrorResponse of severity FATAL), then
    /// close.
    Report(Bytes),
    /// Close without an error: the client already has the server's FATAL error.
    AlreadyReported(FatalOrigin),
    /// Close without an error: the client has left.
    Close,
    /// Close without an error: the client is inside a message, and would take the error for
    /// data.
    Cut,
}

/// What the session was doing when its server went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossPhase {
    Idle,
    WaitingForFirstByte,
    InsideTheAnswer,
    InTransaction,
    Unknown,
}

impl fmt::Display for LossPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "while the session was idle",
            Self::WaitingForFirstByte => "before the first byte of its answer",
            Self::InsideTheAnswer => "inside its answer",
            Self::InTransaction => "inside a transaction",
            Self::Unknown => "while the session was not followed",
        })
    }
}

impl LossPhase {
    /// The hint for a client that has to connect again.
    fn hint_at_the_end(self) -> &'static str {
        match self {
            Self::Idle => "Connect again; nothing was in progress.",
            Self::WaitingForFirstByte | Self::InsideTheAnswer | Self::Unknown => {
                "Connect again. A statement that writes may or may not have taken effect."
            }
            Self::InTransaction => {
                "Connect again and repeat the transaction, unless its COMMIT was already sent: \
                 then check first whether it took effect."
            }
        }
    }

    /// The hint for a client whose connection goes on.
    fn hint(self, role: ServerRole) -> &'static str {
        match (self, role) {
            (Self::InTransaction, _) => {
                "The connection goes on. Roll back and repeat the transaction, unless its COMMIT was \
                 already sent: then check first whether it took effect."
            }
            (_, ServerRole::Standby) => "The connection goes on with another server. Repeat the query.",
            (_, ServerRole::Primary) => {
                "The connection goes on. A statement that writes may or may not have taken effect: \
                 check before it is repeated."
            }
        }
    }
}

impl fmt::Display for ServerLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eof => "server closed the connection unexpectedly",
            Self::Reset => "connection to the server was reset",
            Self::TimedOut => "server stopped answering",
            Self::GivenUp => "connection to the server was abandoned",
        })
    }
}

/// How a session lost its server.
#[derive(Debug)]
pub(crate) struct LossReport<'a> {
    pub(crate) loss: ServerLoss,
    /// The code of the server's last error or notice, if it sent one.
    pub(crate) announced: Option<SqlState>,
    pub(crate) server: &'a str,
    pub(crate) phase: LossPhase,
    pub(crate) role: ServerRole,
}

impl LossReport<'_> {
    /// The SQLSTATE that the client gets.
    pub(crate) fn code(&self) -> SqlState {
        self.announced.unwrap_or(SqlState::CONNECTION_FAILURE)
    }

    fn message(&self) -> String {
        let Some(code) = self.announced else { return self.loss.to_string() };
        let is_conflict = [SqlState::SERIALIZATION_FAILURE, SqlState::DEADLOCK_DETECTED].contains(&code);
        let why = match code {
            SqlState::CRASH_SHUTDOWN => "another of its processes crashed",
            _ if is_conflict => "of a conflict with recovery",
            _shutdown => "it was shut down",
        };
        format!("server ended the session because {why}")
    }

    /// The error for a client whose connection goes on.
    pub(crate) fn error(&self) -> Bytes {
        let mut out = BytesMut::new();
        let (message, detail) = (self.message(), self.detail());
        let report = ErrorReport::error(self.code(), &message)
            .with_detail(&detail)
            .with_hint(self.phase.hint(self.role));
        error_response(&mut out, &report);
        out.freeze()
    }

    /// The error that ends the session.
    pub(crate) fn write_fatal(&self, out: &mut BytesMut) {
        let (message, detail) = (self.message(), self.detail());
        let report = ErrorReport::fatal(self.code(), &message)
            .with_detail(&detail)
            .with_hint(self.phase.hint_at_the_end());
        error_response(out, &report);
    }

    fn detail(&self) -> String {
        format!("Server \"{}\" was lost {}.", self.server, self.phase)
    }
}

/// The farewell in the bytes that were held back. The beginning of an answer among them is dropped.
#[derive(Debug, Default)]
pub(crate) struct HeldFarewell {
    pub(crate) messages: BytesMut,
    pub(crate) code: Option<SqlState>,
    pub(crate) has_fatal: bool,
}

impl HeldFarewell {
    pub(crate) fn of(tail: &[u8]) -> Self {
        let mut scanner = scanner_of_a_server();
        let (mut found, mut at, mut before) = (Self::default(), 0, 0);
        while let Ok(Some(Piece::Message { tag, body })) = scanner.next(tail, &mut at) {
            let tag = BackendTag::from_byte(tag);
            if is_farewell(tag, body) {
                found.messages.extend_from_slice(&tail[before..at]);
                found.code = ErrorFields::new(body).sqlstate();
                if tag == BackendTag::ErrorResponse {
                    found.has_fatal = true;
                    break;
                }
            }
            before = at;
        }
        found
    }
}
