//! Telling a freshly logged-in server what the session's last one knew.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_session::{Alignment, AlignmentError};

use super::take::Taken;
use crate::client::messages::ReadError;

/// Bytes asked of the socket at once: answers to an alignment are short.
const READ_BYTES: usize = 4 * 1024;

/// Why a server could not be brought to a session's state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AlignError {
    /// It was lost on the way.
    #[error(transparent)]
    Lost(#[from] ReadError),
    /// It refuses, and so would any other.
    #[error(transparent)]
    Refused(#[from] AlignmentError),
}

/// Sends the alignment in one write and swallows its answers. ParameterStatus messages among them join those of the
/// greeting.
pub(crate) async fn align(taken: &mut Taken, alignment: &Alignment) -> Result<(), AlignError> {
    if alignment.is_empty() {
        return Ok(());
    }
    let stream = &mut taken.server.stream;
    stream.write_all(&alignment.messages).await.map_err(ReadError::from)?;
    let mut reader = alignment.reader();
    let mut buffer = std::mem::take(&mut taken.greeting.ahead);
    loop {
        let step = reader.handle(&buffer)?;
        let rest = buffer.split_off(step.consumed);
        buffer = rest;
        if step.done {
            taken.greeting.messages.extend_from_slice(reader.parameters());
            taken.greeting.ahead = buffer;
            return Ok(());
        }
        read_more(stream, &mut buffer).await?;
    }
}

async fn read_more(stream: &mut tokio::net::TcpStream, buffer: &mut BytesMut) -> Result<(), ReadError> {
    buffer.reserve(READ_BYTES);
    if stream.read_buf(buffer).await? == 0 { Err(ReadError::Closed) } else { Ok(()) }
}
