//! How PostgreSQL ends a connection whose bytes it will not accept.

use bytes::BytesMut;

use crate::sqlstate::SqlState;
use crate::write::{self, ErrorReport};

/// What the peer is told before its connection is closed, as PostgreSQL would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// Nothing: PostgreSQL logs and closes.
    Silent,
    /// An ErrorResponse of severity FATAL.
    Fatal {
        /// Its SQLSTATE.
        code: SqlState,
        /// Its message.
        message: String,
    },
    /// An error framed as protocol 2 did, for a client that asked for protocol 2.
    OldStyleFatal {
        /// Its message.
        message: String,
    },
}

impl ConnectionRefusal {
    /// Appends what the peer is told, if anything.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Silent => {}
            Self::Fatal { code, message } => {
                write::error_response(out, &ErrorReport::fatal(*code, message));
            }
            Self::OldStyleFatal { message } => write::old_style_error(out, message),
        }
    }
}
