//! A connection whose bytes are sealed in TLS records.
//!
//! Whoever waits for bytes waits for plaintext: records that came are opened at once, and what of them was not read stays
//! here. What was sealed and not taken by the socket cannot be sealed again: it stays here, too, and a write counts as done
//! only when its last byte is with the socket. So nobody above has to ask whether something is left.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use trunkline_reactor::{Accepted, Stream};
use trunkline_tls::{EndPoint, Negotiated, Opened, Records, Subject, TlsError};
use zeroize::Zeroize as _;

use super::Transport;

mod handshake;
mod turn;

/// Bytes read from the socket at once: two records of the largest kind.
const SEALED_IN: usize = 2 * 17 * 1024;
/// Reads of the socket that bring no plaintext, in one call.
const ROUNDS_MAX: usize = 16;
/// Plaintext sealed at once.
const PLAIN_OUT_MAX: usize = 64 * 1024;

thread_local! {
    /// Where records are read to, and opened.
    static IN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Where records are sealed.
    static OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub struct TlsStream {
    socket: Transport,
    state: RefCell<TlsState>,
}

#[derive(Debug)]
pub(super) struct TlsState {
    records: Records,
    /// Plaintext that nobody has read.
    plain: Backlog,
    /// Records that the socket has not taken.
    sealed: Backlog,
    /// The last byte of the last write is sealed, but was not counted as written: it comes again.
    owes: bool,
    /// The peer sends no more.
    has_ended: bool,
    /// This end has said that it sends no more.
    has_closed: bool,
}

/// Bytes that wait; no memory while there are none.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    done: usize,
}

impl Backlog {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Erases the first of them.
    fn erase(&mut self, count: usize) {
        self.bytes[self.done..][..count].zeroize();
    }

    fn advance(&mut self, count: usize) {
        self.done += count;
        if self.done >= self.bytes.len() {
            *self = Backlog::default();
        }
    }
}

impl TlsState {
    /// Whether no more is read from the socket.
    fn is_over(&self) -> bool {
        self.has_ended || self.records.failure().is_some()
    }

    /// Whether a read needs no socket.
    fn is_readable(&self) -> bool {
        !self.plain.is_empty() || self.is_over()
    }

    /// What a read gets that no plaintext waits for, and no socket: the end, or why there is no more.
    fn end(&self) -> Option<io::Result<usize>> {
        match self.records.failure() {
            _ if self.has_ended => Some(Ok(0)),
            failure => failure.map(|error| Err(refused(error))),
        }
    }
}

fn refused(error: &TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl TlsStream {
    /// The protocol that both ends have named.
    pub(super) fn names_protocol(&self, protocol: &[u8]) -> bool {
        self.state.borrow().records.protocol() == Some(protocol)
    }

    /// Whom the peer's certificate is of, if it has shown one that can be read.
    pub(super) fn peer_subject(&self) -> Option<Subject> {
        self.state.borrow().records.peer_certificate().and_then(Subject::of)
    }

    /// What a login can be bound to.
    pub(super) fn end_point(&self) -> Option<EndPoint> {
        self.state.borrow().records.end_point()
    }

    /// Version and cipher.
    pub(super) fn negotiated(&self) -> Option<Negotiated> {
        self.state.borrow().records.negotiated()
    }

    /// See [`Transport::set_reads_secrets`].
    pub(super) fn set_reads_secrets(&self, reads_secrets: bool) {
        self.state.borrow_mut().records.set_opens_secrets(reads_secrets);
    }

    /// Why no byte can be read or written any more.
    pub(super) fn failure(&self) -> Option<TlsError> {
        self.state.borrow().records.failure().cloned()
    }

    /// Opens records: as much plaintext as fits goes to `space`, the rest waits. Returns how much that is, also where what
    /// comes behind it is an error, and what the records have led to.
    fn open(&self, records: &mut [u8], space: &mut [u8]) -> (usize, Result<Opened, TlsError>) {
        let mut state = self.state.borrow_mut();
        let TlsState { records: end, plain, sealed, .. } = &mut *state;
        let mut filled = 0;
        let take = |some: &[u8]| {
            let fits = some.len().min(space.len() - filled);
            space[filled..filled + fits].copy_from_slice(&some[..fits]);
            filled += fits;
            plain.bytes.extend_from_slice(&some[fits..]);
        };
        let opened = end.open(records, take, &mut sealed.bytes);
        state.has_ended |= opened.as_ref().is_ok_and(|opened| opened.is_closed);
        (filled, opened)
    }

    /// Sends the records that wait; ready when none is left.
    fn poll_drain(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.state.borrow_mut();
            if state.sealed.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let count = ready!(self.socket.poll_send(cx, state.sealed.waiting()))?;
            state.sealed.advance(count);
        }
    }

    /// Sends what the socket takes of the records that wait.
    fn try_send(&self, state: &mut TlsState) -> io::Result<()> {
        while !state.sealed.is_empty() {
            let count = self.socket.try_write(state.sealed.waiting())?;
            state.sealed.advance(count);
        }
        Ok(())
    }

    /// What waits to be read without the socket: plaintext, or the end.
    fn take_waiting(&self, space: &mut [u8], is_peek: bool) -> Option<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        let waiting = state.plain.waiting();
        if waiting.is_empty() {
            return state.end();
        }
        let count = space.len().min(waiting.len());
        space[..count].copy_from_slice(&waiting[..count]);
        if !is_peek {
            if state.records.opens_secrets() {
                state.plain.erase(count);
            }
            state.plain.advance(count);
        }
        Some(Ok(count))
    }

    /// Reads records until there is plaintext for `space`, or the end; what does not fit waits.
    ///
    /// Records may be empty, and a peer can send such without an end: after [`ROUNDS_MAX`] others have their turn.
    fn poll_records(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut rounds = 0;
        loop {
            let read = with(&IN, SEALED_IN, |came| {
                Poll::Ready(match ready!(self.socket.poll_recv(cx, came))? {
                    0 => {
                        // A peer that goes without a close_notify has gone: the protocol within has its own ends.
                        self.state.borrow_mut().has_ended = true;
                        Ok((0, Ok(Opened::default())))
                    }
                    count => Ok::<_, io::Error>(self.open(&mut came[..count], space)),
                })
            });
            // An alert, or the answer to a new key, goes out as soon as the socket takes it.
            let sent = self.poll_drain(cx);
            let (filled, opened) = ready!(read)?;
            if filled > 0 || !self.state.borrow().plain.is_empty() {
                // An error behind it comes with the next read.
                return Poll::Ready(Ok(filled));
            }
            if let Err(error) = opened {
                return Poll::Ready(Err(refused(&error)));
            }
            if let Poll::Ready(Err(error)) = sent {
                return Poll::Ready(Err(error));
            }
            if self.state.borrow().has_ended {
                return Poll::Ready(Ok(0));
            }
            rounds += 1;
            if rounds >= ROUNDS_MAX && self.socket.may_read() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    pub(crate) fn poll_recv(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.take_waiting(space, false) {
            Some(read) => Poll::Ready(read),
            None => self.poll_records(cx, space),
        }
    }

    pub(crate) fn poll_peek(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.take_waiting(space, true).is_none() {
            ready!(self.poll_records(cx, &mut []))?;
        }
        Poll::Ready(self.take_waiting(space, true).unwrap_or(Ok(0)))
    }

    pub(crate) fn may_read(&self) -> bool {
        self.state.borrow().is_readable() || self.socket.may_read()
    }

    pub(crate) fn has_news(&self) -> bool {
        self.state.borrow().is_readable() || self.socket.has_news()
    }

    /// Gives the connection up. `None` for one in memory, and for one that the socket has not taken all of.
    pub(super) fn release(self) -> io::Result<Option<(Accepted, TlsState)>> {
        let Self { socket, state } = self;
        let state = state.into_inner();
        let Transport::Plain(stream) = socket else { return Ok(None) };
        if !state.sealed.is_empty() || state.is_readable() {
            return Ok(None);
        }
        Ok(Some((stream.release()?, state)))
    }

    pub(super) fn of(socket: Accepted, state: TlsState) -> io::Result<Self> {
        Ok(Self { socket: Transport::Plain(Stream::of_idle(socket)?), state: RefCell::new(state) })
    }

    pub(crate) fn socket(&self) -> &Transport {
        &self.socket
    }

    pub(crate) fn poll_read_closed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.state.borrow().is_over() { Poll::Ready(()) } else { self.socket.poll_read_closed(cx) }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.seal(bytes, |sealed| self.socket.try_write(sealed))
    }

    /// As [`Transport::try_write_last`], with the goodbye of TLS.
    pub(crate) fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.seal(bytes, |sealed| self.socket.try_write_last(sealed))?;
        if written == bytes.len() {
            self.say_goodbye(|goodbye| self.socket.try_write_last(goodbye));
        }
        Ok(written)
    }

    /// Seals and sends. Counts the last byte only once all are with the socket: until then it is asked for again, and
    /// not sealed again.
    fn seal(&self, bytes: &[u8], send: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        self.try_send(&mut state)?;
        let owed = usize::from(state.owes).min(bytes.len());
        if owed == bytes.len() {
            state.owes &= owed == 0;
            return Ok(owed);
        }
        let end = bytes.len().min(owed + PLAIN_OUT_MAX);
        let plain = &bytes[owed..end];
        with(&OUT, Records::room_for(PLAIN_OUT_MAX), |space| {
            let length = state.records.seal(plain, space).map_err(|error| refused(&error))?;
            state.owes = false;
            let sent = match send(&space[..length]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if sent == length {
                return Ok(end);
            }
            state.sealed.bytes.extend_from_slice(&space[sent..length]);
            state.owes = true;
            if end == 1 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(end - 1) }
        })
    }

    fn say_goodbye(&self, send: impl FnOnce(&[u8]) -> io::Result<usize>) {
        let mut state = self.state.borrow_mut();
        if !std::mem::replace(&mut state.has_closed, true) {
            let mut goodbye = Vec::new();
            state.records.close(&mut goodbye);
            // Nothing follows it, and who does not get it sees the connection's end.
            let _sent = send(&goodbye);
        }
    }

    /// Writes, and counts a byte once its record is with the socket.
    pub(crate) fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_drain(cx))?;
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Writes, and counts all bytes that are sealed: what the socket has not taken goes with the next read or write, or
    /// with a flush. Whoever gives up in between has nothing to remember.
    pub(crate) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let written = self.try_write(bytes);
        let is_owed = usize::from(std::mem::take(&mut self.state.borrow_mut().owes));
        Poll::Ready(match written {
            Ok(count) => Ok(count + is_owed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(is_owed),
            Err(error) => Err(error),
        })
    }

    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(cx)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut state = self.state.borrow_mut();
            if !std::mem::replace(&mut state.has_closed, true) {
                let TlsState { records, sealed, .. } = &mut *state;
                records.close(&mut sealed.bytes);
            }
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Lends this thread's space, of so many bytes.
fn with<T>(
    space: &'static std::thread::LocalKey<RefCell<Vec<u8>>>,
    bytes: usize,
    work: impl FnOnce(&mut [u8]) -> T,
) -> T {
    space.with_borrow_mut(|space| {
        if space.len() < bytes {
            space.resize(bytes, 0);
        }
        work(&mut space[..bytes])
    })
}

#[cfg(test)]
mod tests;
