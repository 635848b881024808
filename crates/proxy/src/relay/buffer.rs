//! The buffers of one direction: bytes that the session has not released yet, and bytes that the peer has not
//! taken yet.
//!
//! All are empty while peers keep up, and then own no memory.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use trunkline_net::Transport;
use trunkline_session::Input;

/// The result of a read.
#[derive(Debug)]
pub(super) enum Chunk {
    /// The buffer holds this many bytes, those held back first.
    Bytes(usize),
    /// The peer closed its sending side.
    Eof,
    /// The connection is broken.
    Broken,
}

#[derive(Debug, Default)]
pub(super) struct RelayBuffer {
    /// Bytes that came and wait to be processed.
    pub(super) input: Input,
    /// Bytes that the peer has not taken, if there are any.
    unsent: Option<Box<Unsent>>,
}

/// Bytes that the peer has not taken: those of `bytes` behind the first `sent`, which are at least one.
#[derive(Debug)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
    /// Since when it has not taken them; `None` where that was not tried.
    blocked_since: Option<Instant>,
}

impl RelayBuffer {
    /// A direction that begins with bytes that have been read already.
    pub(super) fn with_read_ahead(bytes: &[u8]) -> Self {
        RelayBuffer { input: Input::with_read_ahead(bytes), ..RelayBuffer::default() }
    }

    /// Whether there is something to process or to write without reading.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.input.has_read_ahead() || !self.is_flushed()
    }

    /// Fills `buffer` with the bytes held back, followed by those read ahead or else by newly read ones.
    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        peer: &mut Transport,
        buffer: &mut [u8],
    ) -> Poll<Chunk> {
        if self.input.is_empty() {
            return read(cx, peer, buffer);
        }
        self.poll_chunk_after_held(cx, peer, buffer)
    }

    #[cold]
    fn poll_chunk_after_held(
        &mut self,
        cx: &mut Context<'_>,
        peer: &mut Transport,
        buffer: &mut [u8],
    ) -> Poll<Chunk> {
        let filled = self.input.fill(buffer, |space| match read(cx, peer, space) {
            Poll::Ready(Chunk::Bytes(count)) => Ok(count),
            Poll::Ready(end @ (Chunk::Eof | Chunk::Broken)) => Err(Poll::Ready(end)),
            Poll::Pending => Err(Poll::Pending),
        });
        filled.map_or_else(|nothing| nothing, |count| Poll::Ready(Chunk::Bytes(count)))
    }

    /// Discards bytes for a peer that has gone.
    pub(super) fn drop_pending(&mut self) {
        self.unsent = None;
    }

    /// What the peer has not taken.
    #[cfg(test)]
    pub(super) fn unsent(&self) -> &[u8] {
        self.unsent.as_ref().map_or(&[], |unsent| &unsent.bytes[unsent.sent..])
    }

    /// Whether nothing is pending.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        self.unsent.is_none()
    }

    /// What the peer has not taken.
    pub(super) fn take_pending(&mut self) -> Vec<u8> {
        let Some(unsent) = self.unsent.take() else { return Vec::new() };
        let Unsent { mut bytes, sent, .. } = *unsent;
        bytes.drain(..sent);
        bytes
    }

    /// Appends pending bytes.
    pub(super) fn push_pending(&mut self, bytes: &[u8]) {
        self.push(bytes, None);
    }

    fn push(&mut self, bytes: &[u8], blocked_since: Option<Instant>) {
        match &mut self.unsent {
            Some(unsent) => {
                unsent.bytes.extend_from_slice(bytes);
                unsent.blocked_since = unsent.blocked_since.or(blocked_since);
            }
            None if bytes.is_empty() => {}
            None => self.unsent = Some(Box::new(Unsent { bytes: bytes.to_vec(), sent: 0, blocked_since })),
        }
    }

    /// Writes pending bytes. Ready when none are left, with how long the peer was blocked.
    #[inline]
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        peer: &mut Transport,
    ) -> Poll<io::Result<Duration>> {
        if self.is_flushed() { Poll::Ready(Ok(Duration::ZERO)) } else { self.flush_pending(cx, peer) }
    }

    #[cold]
    fn flush_pending(&mut self, cx: &mut Context<'_>, peer: &mut Transport) -> Poll<io::Result<Duration>> {
        let Some(unsent) = &mut self.unsent else { return Poll::Ready(Ok(Duration::ZERO)) };
        while unsent.sent < unsent.bytes.len() {
            unsent.sent += ready!(peer.poll_send(cx, &unsent.bytes[unsent.sent..]))?;
        }
        let blocked = unsent.blocked_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.unsent = None;
        Poll::Ready(Ok(blocked))
    }

    /// Writes what the peer takes at once, and keeps the rest pending.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        peer: &mut Transport,
        bytes: &[u8],
        now: Instant,
    ) -> io::Result<()> {
        // First without a waker: the socket nearly always takes all bytes.
        let mut written = match self.is_flushed().then(|| peer.try_write(bytes)) {
            Some(Ok(n)) if n == bytes.len() => return Ok(()),
            Some(Ok(n)) => n,
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Some(Err(_)) | None => 0,
        };
        while self.is_flushed() && written < bytes.len() {
            match peer.poll_send(cx, &bytes[written..]) {
                Poll::Ready(Ok(n)) => written += n,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if written < bytes.len() {
            self.push(&bytes[written..], Some(now));
        }
        Ok(())
    }
}

#[inline]
fn read(cx: &Context<'_>, peer: &Transport, space: &mut [u8]) -> Poll<Chunk> {
    Poll::Ready(match ready!(peer.poll_recv(cx, space)) {
        Ok(0) => Chunk::Eof,
        Ok(n) => Chunk::Bytes(n),
        Err(_broken) => Chunk::Broken,
    })
}
