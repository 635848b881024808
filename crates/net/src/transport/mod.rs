//! One connection, whatever carries its bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use trunkline_reactor::{Accepted, Stream, timer};
use trunkline_tls::{EndPoint, Negotiated, Records, Subject, TlsError};

use crate::limits::{LINGER, LINGER_BYTES_MAX};
use crate::memory;

mod tls;

pub use tls::TlsStream;

/// A connection to a client or a server.
///
/// Readiness is edge-triggered, as in the reactor: whoever a call tells to wait is woken when it may go on.
#[derive(Debug)]
pub enum Transport {
    /// A socket whose bytes are the peer's own.
    Plain(Stream),
    /// One end of a pair in memory, for tests.
    Memory(memory::MemoryStream),
    /// One of those, with its bytes in TLS records.
    Tls(Box<TlsStream>),
}

/// A connection of no thread, on its way to another.
#[derive(Debug)]
pub struct ReleasedTransport(Released);

#[derive(Debug)]
enum Released {
    Plain(Accepted),
    Tls(Box<(Accepted, tls::TlsState)>),
}

impl ReleasedTransport {
    /// Registers the connection with this thread's reactor.
    ///
    /// # Errors
    /// What the kernel says; the connection is closed then.
    pub fn adopt(self) -> io::Result<Transport> {
        match self.0 {
            Released::Plain(socket) => Stream::of_idle(socket).map(Transport::Plain),
            Released::Tls(parts) => {
                let (socket, state) = *parts;
                TlsStream::of(socket, state).map(|stream| Transport::Tls(Box::new(stream)))
            }
        }
    }
}

impl Transport {
    /// Gives the connection up, for another thread. Nothing may be on its way in either direction.
    ///
    /// # Errors
    /// What the kernel says, or `Unsupported` where this connection cannot be given up; it is closed then.
    pub fn release(self) -> io::Result<ReleasedTransport> {
        match self {
            Transport::Plain(stream) => {
                stream.release().map(|socket| ReleasedTransport(Released::Plain(socket)))
            }
            Transport::Tls(stream) => match stream.release()? {
                Some(parts) => Ok(ReleasedTransport(Released::Tls(Box::new(parts)))),
                None => Err(io::ErrorKind::Unsupported.into()),
            },
            Transport::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Registers an accepted connection with this thread's reactor.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(accepted: Accepted) -> io::Result<Self> {
        Stream::of(accepted).map(Transport::Plain)
    }

    /// Shakes hands, and has all that follows in TLS records; `came` are bytes that were read already.
    ///
    /// # Errors
    /// What the kernel says, `UnexpectedEof`, or why TLS refuses (`InvalidData`), which the peer has been told. The
    /// connection can then be closed, and nothing else.
    pub async fn begin_tls(&mut self, records: Records, came: &[u8]) -> io::Result<()> {
        // Stands in while the handshake has the connection.
        let socket = std::mem::replace(self, Transport::Memory(memory::pair(0).0));
        match TlsStream::shake_hands(socket, records, came).await {
            Ok(stream) => {
                *self = Transport::Tls(Box::new(stream));
                Ok(())
            }
            Err((error, socket)) => {
                *self = socket;
                Err(error)
            }
        }
    }

    /// Whether what it carries is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }

    /// Version and cipher of TLS; `None` without it.
    #[must_use]
    pub fn negotiated(&self) -> Option<Negotiated> {
        match self {
            Transport::Tls(stream) => stream.negotiated(),
            Transport::Plain(_) | Transport::Memory(_) => None,
        }
    }

    /// Whether both ends of TLS have named this protocol (ALPN).
    #[must_use]
    pub fn names_protocol(&self, protocol: &[u8]) -> bool {
        matches!(self, Transport::Tls(stream) if stream.names_protocol(protocol))
    }

    /// What a login over it can be bound to (`tls-server-end-point`): `None` without TLS, and for a certificate whose
    /// signature names no hash. Computed anew on the side that connected.
    #[must_use]
    pub fn end_point(&self) -> Option<EndPoint> {
        match self {
            Transport::Plain(_) | Transport::Memory(_) => None,
            Transport::Tls(stream) => stream.end_point(),
        }
    }

    /// Whom the peer's certificate is of: `None` without TLS, and without a certificate that has been verified.
    #[must_use]
    pub fn peer_subject(&self) -> Option<Subject> {
        match self {
            Transport::Tls(stream) => stream.peer_subject(),
            Transport::Plain(_) | Transport::Memory(_) => None,
        }
    }

    /// Why TLS carries no byte any more: the peer has broken its rules or refused it, or its keys are used up. `None` where
    /// it does, and without TLS.
    #[must_use]
    pub fn tls_failure(&self) -> Option<TlsError> {
        match self {
            Transport::Tls(stream) => stream.failure(),
            Transport::Plain(_) | Transport::Memory(_) => None,
        }
    }

    /// The number of the user that the peer of a Unix socket runs as; `None` over a network.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn peer_user(&self) -> io::Result<Option<u32>> {
        match self {
            Transport::Plain(stream) => stream.peer_user(),
            Transport::Memory(_) => Ok(None),
            Transport::Tls(stream) => stream.socket().peer_user(),
        }
    }

    /// Whether what is read from here on is a secret: TLS then keeps no copy of it.
    pub fn set_reads_secrets(&self, reads_secrets: bool) {
        if let Transport::Tls(stream) = self {
            stream.set_reads_secrets(reads_secrets);
        }
    }

    /// Reads what is there: bytes read, 0 at the end.
    ///
    /// # Errors
    /// What the kernel says.
    #[inline]
    pub fn poll_recv(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => stream.poll_recv(cx, space),
            Transport::Memory(end) => end.poll_recv(cx, space),
            Transport::Tls(stream) => stream.poll_recv(cx, space),
        }
    }

    /// Writes what the peer accepts without blocking; no task is woken when it accepts more.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now, or what the kernel says.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.try_write(bytes),
            Transport::Memory(end) => end.try_write(bytes),
            Transport::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Writes what the peer accepts; if nothing, the task is woken when it accepts more. What is left over has to be
    /// written next: its beginning may be on its way.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => stream.poll_send(cx, bytes),
            Transport::Memory(end) => end.poll_send(cx, bytes),
            Transport::Tls(stream) => stream.poll_send(cx, bytes),
        }
    }

    /// Writes the last bytes before this is dropped, which may carry them: see [`Stream::try_write_last`].
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now, or what the kernel says.
    pub fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.try_write_last(bytes),
            Transport::Memory(end) => end.try_write(bytes),
            Transport::Tls(stream) => stream.try_write_last(bytes),
        }
    }

    /// Whether a read can return bytes. If not, the task that read last is woken when it can.
    #[inline]
    #[must_use]
    pub fn may_read(&self) -> bool {
        match self {
            Transport::Plain(stream) => stream.may_read(),
            Transport::Memory(end) => end.may_read(),
            Transport::Tls(stream) => stream.may_read(),
        }
    }

    /// Hands reading to another task: the previous reader is no longer woken, and the next read is tried.
    pub fn change_reader(&self) {
        match self {
            Transport::Plain(stream) => stream.change_reader(),
            Transport::Memory(end) => end.change_reader(),
            Transport::Tls(stream) => stream.socket().change_reader(),
        }
    }

    /// Hands reading to this task, which does not read now: it is woken when there is something.
    pub fn set_reader(&self, cx: &Context<'_>) {
        match self {
            Transport::Plain(stream) => stream.set_reader(cx),
            Transport::Memory(end) => end.set_reader(cx),
            Transport::Tls(stream) => stream.socket().set_reader(cx),
        }
    }

    /// Whether something has come that nobody has read, as far as is known without a read: bytes, or the end.
    #[must_use]
    pub fn has_news(&self) -> bool {
        match self {
            Transport::Plain(stream) => stream.has_news(),
            Transport::Memory(end) => end.has_news(),
            Transport::Tls(stream) => stream.has_news(),
        }
    }

    /// Whether nothing has come that nobody has read, not even the end, as far as the kernel knows.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self {
            Transport::Plain(stream) => stream.is_silent(),
            Transport::Memory(end) => !end.has_news(),
            Transport::Tls(stream) => !stream.has_news() && stream.socket().is_silent(),
        }
    }

    /// Looks at what would be read next: bytes seen, 0 at the end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn poll_peek(&self, cx: &Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => stream.poll_peek(cx, bytes),
            Transport::Memory(end) => end.poll_peek(cx, bytes),
            Transport::Tls(stream) => stream.poll_peek(cx, bytes),
        }
    }

    /// The same, waited for.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_peek(cx, bytes)).await
    }

    /// Ready when the peer has closed its sending side, even with bytes still unread; else the task is woken when
    /// there is anything to read.
    pub fn poll_read_closed(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Transport::Plain(stream) => stream.poll_read_closed(cx),
            Transport::Memory(end) => end.poll_read_closed(cx),
            Transport::Tls(stream) => stream.poll_read_closed(cx),
        }
    }

    /// Makes a drop discard what the peer has not received.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.set_zero_linger(),
            Transport::Memory(end) => {
                end.set_zero_linger();
                Ok(())
            }
            Transport::Tls(stream) => stream.socket().set_zero_linger(),
        }
    }

    /// Writes all bytes, and returns once they are with the socket: a plain write of TLS leaves some to the next call, which
    /// whoever waits for the peer may never make.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await?;
        self.flush().await
    }

    /// Writes the last bytes and closes so that the peer can read them; gives up after [`LINGER`] for each.
    pub async fn close_with(mut self, bytes: &[u8]) {
        let said = timer::timeout(LINGER, self.write_all(bytes)).await;
        if let Ok(Ok(())) = said {
            self.linger().await;
        }
    }

    /// Closes so that the peer can read the last bytes sent: with unread bytes in the receive buffer, a plain close
    /// would be a reset, which discards what the peer has not read yet.
    pub async fn linger(mut self) {
        // TLS has records to send before it, for which a peer that reads nothing leaves no room.
        if !matches!(timer::timeout(LINGER, self.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        let drain = async {
            let mut sink = vec![0_u8; 4096];
            let mut thrown_away = 0;
            while thrown_away < LINGER_BYTES_MAX {
                match self.read(&mut sink).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => thrown_away += n,
                }
            }
        };
        let _ = timer::timeout(LINGER, drain).await;
    }
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Memory(end) => Pin::new(end).poll_read(cx, buffer),
            Transport::Tls(stream) => {
                let read = ready!(stream.poll_recv(cx, buffer.initialize_unfilled()))?;
                buffer.advance(read);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &*self {
            Transport::Tls(stream) => stream.poll_write(cx, bytes),
            Transport::Plain(_) | Transport::Memory(_) => self.poll_send(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Neither holds anything back.
            Transport::Plain(_) | Transport::Memory(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Memory(end) => Pin::new(end).poll_shutdown(cx),
            Transport::Tls(stream) => stream.poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_reactor::block_on;

    use super::*;

    #[test]
    fn last_words_arrive_over_bytes_that_nobody_has_read() {
        block_on(async {
            let (mut peer, end) = memory::pair(64);
            peer.write_all(b"unread").await.expect("there is room");
            let close = Transport::Memory(end).close_with(b"bye");
            let read = async {
                let mut words = Vec::new();
                peer.read_to_end(&mut words).await.expect("it closes in order");
                drop(peer);
                words
            };
            let ((), words) = tokio::join!(close, read);
            assert_eq!(words, b"bye");
        })
        .expect("a thread of its own");
    }

    #[test]
    fn a_peer_that_floods_a_closing_connection_is_not_read_for_ever() {
        block_on(async {
            let (mut peer, end) = memory::pair(64 * 1024);
            let close = Transport::Memory(end).linger();
            let flood = async {
                let mut sent = 0;
                let chunk = [b'x'; 4096];
                while peer.write_all(&chunk).await.is_ok() {
                    sent += chunk.len();
                }
                sent
            };
            let ((), sent) = tokio::join!(close, flood);
            assert!((LINGER_BYTES_MAX..LINGER_BYTES_MAX + 128 * 1024).contains(&sent), "{sent}");
        })
        .expect("a thread of its own");
    }
}
