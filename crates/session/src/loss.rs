//! What a client is owed when its server goes away.

use std::fmt;

use bytes::{Bytes, BytesMut};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, error_response};

/// How a server connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLoss {
    /// It closed the connection.
    Eof,
    /// It, or something on the way, reset the connection.
    Reset,
    /// It stopped answering.
    TimedOut,
    /// The proxy gave it up: it is hung, fenced or drained, and the session cannot move.
    GivenUp,
}

/// Whether the caller could do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Can {
    /// It could.
    Yes,
    /// It could not.
    No,
}

/// What the caller could do for a session that lost its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Take another server. It could not when no other is allowed.
    pub can_move: Can,
    /// Send the request in flight again, to a server that was taken: it has all of its bytes, and
    /// has not done so too often already.
    pub can_repeat: Can,
}

/// What to do for the client of a lost server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossPlan {
    /// Take another server, now or when the client speaks, tell it [`crate::Session::alignment`],
    /// and call [`crate::Session::server_taken`]: the client is owed nothing.
    Move,
    /// Call [`crate::Session::rewind`], then do as for [`Self::Move`], then present the client's
    /// bytes again, from the first byte of the request in flight.
    Repeat,
    /// Write these bytes to the client (they end with an ErrorResponse of severity FATAL), then
    /// close.
    Report(Bytes),
    /// Close without a word: the client has all there is to say, or left by itself.
    Close,
    /// Close without a word: the client is inside a message, where an error would be taken for
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
    fn hint(self) -> &'static str {
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
}

impl fmt::Display for ServerLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eof => "server closed the connection unexpectedly",
            Self::Reset => "connection to the server was reset",
            Self::TimedOut => "server stopped answering",
            Self::GivenUp => "connection to the server was given up",
        })
    }
}

/// Appends the error that tells a client of its server's end.
///
/// `announced` is the code of the shutdown notice the server sent before, if any.
pub(crate) fn write_report(
    out: &mut BytesMut,
    loss: ServerLoss,
    announced: Option<SqlState>,
    server: &str,
    phase: LossPhase,
) {
    let detail = format!("Server \"{server}\" was lost {phase}.");
    let (code, message) = match announced {
        Some(code) if code == SqlState::CRASH_SHUTDOWN => {
            (code, "server ended the session because another of its processes crashed".to_owned())
        }
        Some(code) => (code, "server ended the session because it was shut down".to_owned()),
        None => (SqlState::CONNECTION_FAILURE, loss.to_string()),
    };
    let report = ErrorReport::fatal(code, &message).with_detail(&detail).with_hint(phase.hint());
    error_response(out, &report);
}
