//! Reading one message at a time, for logins: small, bounded, and never a byte lost behind it.

use bytes::{Buf, BytesMut};
use std::ops::Range;
use tokio::io::{AsyncRead, AsyncReadExt};
use trunkline_codec::scan::{FrameError, Piece, ScanPhase, Scanner};

/// Bytes asked of a socket at once during a login.
const READ_BYTES: usize = 2 * 1024;

/// One whole message as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawMessage<'a> {
    /// Header and body.
    pub(crate) bytes: &'a [u8],
}

impl<'a> RawMessage<'a> {
    pub(crate) fn tag(self) -> u8 {
        self.bytes[0]
    }

    pub(crate) fn body(self) -> &'a [u8] {
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
    /// So much of the buffer has been given out.
    taken: usize,
}

impl MessageReader {
    /// For what a client sends, beginning with bytes already read.
    pub(crate) fn frontend(read_ahead: BytesMut) -> Self {
        Self::new(Scanner::frontend(), read_ahead)
    }

    /// For what a server sends.
    pub(crate) fn backend() -> Self {
        Self::new(Scanner::backend(), BytesMut::new())
    }

    fn new(mut scanner: Scanner, buffer: BytesMut) -> Self {
        scanner.set_phase(ScanPhase::Authentication);
        MessageReader { scanner, buffer, taken: 0 }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// At the end of the stream, and for a message that a login has no room for.
    pub(crate) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<RawMessage<'_>, ReadError> {
        loop {
            if let Some(whole) = self.find()? {
                return Ok(RawMessage { bytes: &self.buffer[whole] });
            }
            self.buffer.advance(std::mem::take(&mut self.taken));
            self.buffer.reserve(READ_BYTES);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReadError::Closed);
            }
        }
    }

    fn find(&mut self) -> Result<Option<Range<usize>>, ReadError> {
        let start = self.taken;
        match self.scanner.next(&self.buffer, &mut self.taken)? {
            None => Ok(None),
            Some(Piece::Message { .. }) => Ok(Some(start..self.taken)),
            Some(Piece::Start { body_len, .. }) => Err(ReadError::TooLong { length: body_len as usize }),
            Some(Piece::More { body, .. }) => Err(ReadError::TooLong { length: body.len() }),
        }
    }

    /// What lies behind the last message.
    pub(crate) fn into_read_ahead(mut self) -> BytesMut {
        // Mostly nothing, and then no memory either.
        if self.taken == self.buffer.len() { BytesMut::new() } else { self.buffer.split_off(self.taken) }
    }
}
