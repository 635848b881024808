//! Reads one message at a time, during a login. Messages are bounded, and bytes after the last one are kept.

use bytes::{Buf, BytesMut};
use std::ops::Range;
use tokio::io::{AsyncRead, AsyncReadExt};
use trunkline_codec::scan::{FrameError, Piece, ScanPhase, Scanner};
use zeroize::Zeroize as _;

/// Bytes read from a socket at once during a login: as many as for the startup packet, whose buffer is used again.
const READ_BYTES: usize = 1024;

/// One whole message, byte for byte.
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

/// Splits a socket's bytes into messages; bytes that were read ahead stay in the buffer.
#[derive(Debug)]
pub(crate) struct MessageReader {
    scanner: Scanner,
    buffer: BytesMut,
    /// Bytes of the buffer that have been returned.
    taken: usize,
}

impl MessageReader {
    /// For the messages of a client, beginning with bytes that have been read already.
    pub(crate) fn frontend(read_ahead: BytesMut) -> Self {
        Self::new(Scanner::frontend(), read_ahead)
    }

    /// For the messages of a server.
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
    /// At the end of the stream, and for a message that is too long for a login.
    pub(crate) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<RawMessage<'_>, ReadError> {
        loop {
            if let Some(whole) = self.find()? {
                return Ok(RawMessage { bytes: &self.buffer[whole] });
            }
            self.buffer.advance(std::mem::take(&mut self.taken));
            self.make_room();
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReadError::Closed);
            }
        }
    }

    /// Makes room for another read. What the bytes leave when they move is erased: they may be the beginning of a secret.
    fn make_room(&mut self) {
        let length = self.buffer.len();
        if length == 0 || self.buffer.capacity() - length >= READ_BYTES {
            return self.buffer.reserve(READ_BYTES);
        }
        let mut roomier = BytesMut::with_capacity(length * 2 + READ_BYTES);
        roomier.extend_from_slice(&self.buffer);
        self.buffer.zeroize();
        self.buffer = roomier;
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

    /// Erases the last message, which was a secret.
    pub(crate) fn erase_last(&mut self) {
        self.buffer[..self.taken].zeroize();
    }

    /// The bytes after the last message.
    pub(crate) fn into_read_ahead(mut self) -> BytesMut {
        // Mostly there are none, and then they own no memory.
        if self.taken == self.buffer.len() { BytesMut::new() } else { self.buffer.split_off(self.taken) }
    }
}
