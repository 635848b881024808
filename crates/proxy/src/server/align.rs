//! Restores the session's state on a server that has just been logged in to.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_net::Transport;
use trunkline_session::{Alignment, AlignmentError, AlignmentReader, Position, PositionReader, ask_position};

use super::connection::ReadyServer;
use super::login::LoginReply;
use crate::client::messages::ReadError;
use crate::pool::connection::ServerConnection;

/// Bytes read from the socket at once: the answers to an alignment are short.
const READ_BYTES: usize = 4 * 1024;

/// Why a server could not be brought to a session's state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AlignError {
    /// The server was lost meanwhile.
    #[error(transparent)]
    Lost(#[from] ReadError),
    /// The server refused a message of the alignment; any other server would, too.
    #[error(transparent)]
    Refused(#[from] AlignmentError),
}

/// Whether the alignment begins with a query for the server's WAL position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Position,
    Nothing,
}

/// Sends the position query and the alignment in one write, and consumes the answers. Their ParameterStatus
/// messages are added to the login reply.
pub(super) async fn align(
    taken: &mut ReadyServer,
    alignment: &Alignment,
    ask: Ask,
) -> Result<Position, AlignError> {
    let mut messages = BytesMut::new();
    if ask == Ask::Position {
        ask_position(&mut messages);
    }
    messages.extend_from_slice(&alignment.messages);
    if messages.is_empty() {
        return Ok(Position::Untold);
    }
    taken.server.stream.write_all(&messages).await.map_err(ReadError::from)?;
    let position = match ask {
        Ask::Position => read_position(taken).await?,
        Ask::Nothing => Position::Untold,
    };
    if !alignment.is_empty() {
        read_answers(taken, alignment).await?;
    }
    Ok(position)
}

/// Their ParameterStatus messages are added to the login reply.
async fn read_answers(taken: &mut ReadyServer, alignment: &Alignment) -> Result<AlignmentReader, AlignError> {
    let mut reader = alignment.reader();
    let mut buffer = std::mem::take(&mut taken.login_reply.read_ahead);
    loop {
        let step = reader.handle(&buffer)?;
        let rest = buffer.split_off(step.consumed);
        buffer = rest;
        if step.done {
            taken.login_reply.take_in(reader.parameters());
            taken.login_reply.read_ahead = buffer;
            return Ok(reader);
        }
        read_more(&mut taken.server.stream, &mut buffer).await?;
    }
}

/// The same on a connection that no session has. Returns what was read, too.
pub(crate) async fn run(
    server: Box<ServerConnection>,
    alignment: &Alignment,
) -> Result<(Box<ServerConnection>, AlignmentReader), AlignError> {
    let mut taken = ReadyServer::new(server, LoginReply::default());
    taken.server.stream.write_all(&alignment.messages).await.map_err(ReadError::from)?;
    let reader = read_answers(&mut taken, alignment).await?;
    if !taken.login_reply.read_ahead.is_empty() {
        return Err(AlignError::Lost(ReadError::Closed));
    }
    Ok((taken.server, reader))
}

/// Queries the server's WAL position.
pub(super) async fn position(taken: &mut ReadyServer) -> Result<Position, ReadError> {
    let mut question = BytesMut::new();
    ask_position(&mut question);
    taken.server.stream.write_all(&question).await?;
    read_position(taken).await
}

pub(super) async fn read_position(taken: &mut ReadyServer) -> Result<Position, ReadError> {
    let mut reader = PositionReader::default();
    let buffer = &mut taken.login_reply.read_ahead;
    loop {
        let (consumed, position) = reader.handle(buffer)?;
        let rest = buffer.split_off(consumed);
        *buffer = rest;
        if let Some(position) = position {
            return Ok(position);
        }
        read_more(&mut taken.server.stream, buffer).await?;
    }
}

async fn read_more(stream: &mut Transport, buffer: &mut BytesMut) -> Result<(), ReadError> {
    buffer.reserve(READ_BYTES);
    if stream.read_buf(buffer).await? == 0 { Err(ReadError::Closed) } else { Ok(()) }
}
