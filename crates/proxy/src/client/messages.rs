//! Reading one message at a time, for logins: small, bounded, and never a byte lost behind it.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use trunkline_codec::scan::{FrameError, Phase, Piece, Scanner};

/// Bytes asked of a socket at once during a login.
const READ_BYTES: usize = 8 * 1024;

/// One whole message as it came.
#[derive(Clone, Debug)]
pub(crate) struct RawMessage {
    /// Header and body.
    pub(crate) bytes: Bytes,
}

impl RawMessage {
    pub(crate) fn tag(&self) -> u8 {
        self.bytes[0]
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[5..]
    }
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a message of {length} bytes is too long for a login")]
    TooLong { length: usize },
}

/// A socket's bytes as messages; what was read too far stays in the buffer.
#[derive(Debug)]
pub(crate) struct MessageReader {
    scanner: Scanner,
    buffer: BytesMut,
}

impl MessageReader {
    /// For what a client sends, beginning with bytes already read.
    pub(crate) fn frontend(ahead: BytesMut) -> Self {
        Self::new(Scanner::frontend(), ahead)
    }

    /// For what a server sends.
    pub(crate) fn backend() -> Self {
        Self::new(Scanner::backend(), BytesMut::new())
    }

    fn new(mut scanner: Scanner, buffer: BytesMut) -> Self {
        scanner.set_phase(Phase::Authentication);
        MessageReader { scanner, buffer }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// At the end of the stream, and for a message that a login has no room for.
    pub(crate) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<RawMessage, ReadError> {
        loop {
            if let Some(message) = self.split()? {
                return Ok(message);
            }
            self.buffer.reserve(READ_BYTES);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReadError::Closed);
            }
        }
    }

    fn split(&mut self) -> Result<Option<RawMessage>, ReadError> {
        let mut at = 0;
        match self.scanner.next(&self.buffer, &mut at)? {
            None => Ok(None),
            Some(Piece::Message { .. }) => Ok(Some(RawMessage { bytes: self.buffer.split_to(at).freeze() })),
            Some(Piece::Start { body_len, .. }) => Err(ReadError::TooLong { length: body_len as usize }),
            Some(Piece::More { body, .. }) => Err(ReadError::TooLong { length: body.len() }),
        }
    }

    /// What lies behind the last message.
    pub(crate) fn into_ahead(self) -> BytesMut {
        self.buffer
    }
}
