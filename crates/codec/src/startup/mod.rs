//! The first packet of a connection: a length and a code, but no type byte.

mod cancel;
mod message;
mod options;

use bytes::{BufMut, BytesMut};

pub use cancel::CancelRequest;
pub use message::{CommonParameters, InvalidReplication, Parameters, Replication, StartupMessage};
pub use options::{OptionSetting, Options};

use crate::limits::{STARTUP_PACKET_MAX, STARTUP_PACKET_MIN};
use crate::refusal::ConnectionRefusal;
use crate::sqlstate::SqlState;
pub use crate::version::ProtocolVersion;
use crate::version::{CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST};

/// What may come first on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// The client wants a session.
    Startup(StartupMessage),
    /// The client wants TLS, and one byte as the answer.
    SslRequest,
    /// The client wants GSSAPI encryption, and one byte as the answer.
    GssEncRequest,
    /// The client wants another session's query cancelled, and no answer.
    Cancel(CancelRequest),
}

/// A first packet PostgreSQL would not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length word is out of bounds.
    #[error("invalid length of startup packet: {length}")]
    Length {
        /// The length word.
        length: u32,
    },
    /// The major version is not 3, or an encryption request came once too often.
    #[error("unsupported frontend protocol {0}: server supports 3.0 to 3.2")]
    UnsupportedProtocol(ProtocolVersion),
    /// The list of parameters does not end with the packet.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// No user is named.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// A CancelRequest with a key no server gives out.
    #[error("invalid length of cancel request packet: {length}")]
    CancelLength {
        /// The length word.
        length: u32,
    },
    /// A name or value to be encoded contains a NUL byte, or a name is empty.
    #[error("startup parameter cannot be encoded")]
    Parameter,
}

impl StartupError {
    /// How PostgreSQL would end the connection.
    /// Source: PostgreSQL 18, src/backend/tcop/backend_startup.c, `ProcessStartupPacket`.
    #[must_use]
    pub fn refusal(&self) -> ConnectionRefusal {
        let message = self.to_string();
        match self {
            Self::Length { .. } | Self::CancelLength { .. } => ConnectionRefusal::Silent,
            Self::UnsupportedProtocol(version) if version.major < 3 => {
                ConnectionRefusal::OldStyleFatal { message }
            }
            Self::UnsupportedProtocol(_) => {
                ConnectionRefusal::Fatal { code: SqlState::FEATURE_NOT_SUPPORTED, message }
            }
            Self::Layout | Self::Parameter => {
                ConnectionRefusal::Fatal { code: SqlState::PROTOCOL_VIOLATION, message }
            }
            Self::NoUser => {
                ConnectionRefusal::Fatal { code: SqlState::INVALID_AUTHORIZATION_SPECIFICATION, message }
            }
        }
    }
}

/// Whether a connection that begins with this byte speaks TLS at once (PostgreSQL 17's direct
/// negotiation): the type of a TLS handshake record, and far beyond any legal startup length.
#[must_use]
pub fn is_direct_tls(first_byte: u8) -> bool {
    first_byte == 0x16
}

/// Reads the first packet from the front of `buf`, with the number of bytes it takes up.
///
/// `Ok(None)` means read more; at most [`STARTUP_PACKET_MAX`] bytes are ever needed.
///
/// # Errors
/// When PostgreSQL would close the connection; [`StartupError::refusal`] says with which words.
pub fn decode_first(buf: &[u8]) -> Result<Option<(FirstPacket, usize)>, StartupError> {
    let Some((length, _)) = buf.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    if !(STARTUP_PACKET_MIN..=STARTUP_PACKET_MAX).contains(&length) {
        return Err(StartupError::Length { length });
    }
    let size = length as usize;
    let Some((code, body)) = buf.get(4..size).and_then(<[u8]>::split_first_chunk) else {
        return Ok(None);
    };
    let packet = match ProtocolVersion::from_code(u32::from_be_bytes(*code)) {
        // As PostgreSQL does, only the code is looked at; a longer body is ignored.
        SSL_REQUEST => FirstPacket::SslRequest,
        GSSENC_REQUEST => FirstPacket::GssEncRequest,
        CANCEL_REQUEST => {
            FirstPacket::Cancel(CancelRequest::parse(body).ok_or(StartupError::CancelLength { length })?)
        }
        version => FirstPacket::Startup(StartupMessage::parse(version, body)?),
    };
    Ok(Some((packet, size)))
}

/// Appends an SSLRequest.
pub fn ssl_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(SSL_REQUEST.code());
}

/// Appends a GSSENCRequest.
pub fn gssenc_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(GSSENC_REQUEST.code());
}
