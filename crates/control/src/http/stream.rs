//! A connection that cannot outstay its time or send without end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::places::Place;
use super::{REQUEST_BYTES_MAX, REQUEST_TIMEOUT, RESPONSE_TIMEOUT};

/// One HTTP connection: one request, one answer, each with its deadline.
///
/// It does not offer vectored writes, so head and body leave in one write: HAProxy resets the connection as soon
/// as it has seen enough, and a second write would fail.
#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TcpStream,
    phase: StreamPhase,
    head: HeadReader,
    deadline: Pin<Box<Sleep>>,
    readable_bytes: usize,
    _place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamPhase {
    /// The head is being sent.
    Request,
    /// The head is there, and nothing of the answer yet.
    Answering,
    Response,
}

/// Looks for the empty line that ends a request's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeadReader {
    /// Nothing has come, or empty lines, which may precede a request.
    #[default]
    Before,
    /// In a line that is not empty.
    InLine,
    /// At the start of a line.
    LineStart,
}

impl HeadReader {
    /// Whether the head ends within `bytes`.
    fn ends_in(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            *self = match (byte, *self) {
                (b'\n', HeadReader::LineStart) => return true,
                (b'\n', HeadReader::InLine) => HeadReader::LineStart,
                (b'\r', same) | (b'\n', same @ HeadReader::Before) => same,
                _ => HeadReader::InLine,
            };
        }
        false
    }
}

impl BoundedStream {
    pub(super) fn new(stream: TcpStream, place: Place) -> Self {
        Self::with_timeout(stream, place, REQUEST_TIMEOUT)
    }

    fn with_timeout(stream: TcpStream, place: Place, timeout: Duration) -> Self {
        // Only the last small write of an answer would be delayed; its loss is no error.
        let _ = stream.set_nodelay(true);
        BoundedStream {
            stream,
            phase: StreamPhase::Request,
            head: HeadReader::default(),
            deadline: Box::pin(sleep(timeout)),
            readable_bytes: REQUEST_BYTES_MAX,
            _place: place,
        }
    }

    /// Enters a phase after the request, which has time of its own.
    fn enter(&mut self, phase: StreamPhase) {
        self.phase = phase;
        self.deadline.as_mut().reset(Instant::now() + RESPONSE_TIMEOUT);
    }

    /// An error once the deadline has passed; wakes the task then.
    fn check_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_deadline(cx)?;
        if self.readable_bytes == 0 {
            return Poll::Ready(Err(io::Error::other("the request is too long")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        // A read may go past the limit by what fits in hyper's buffer; the next one is refused.
        let read = &buf.filled()[before..];
        self.readable_bytes = self.readable_bytes.saturating_sub(read.len());
        if self.phase == StreamPhase::Request && self.head.ends_in(read) {
            self.enter(StreamPhase::Answering);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.phase != StreamPhase::Response {
            self.enter(StreamPhase::Response);
        }
        self.check_deadline(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::CONNECTIONS_PER_ADDRESS_MAX;
    use super::super::places::{Checkers, Places};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A connection, its peer, and the places it has one of; `left` more are free for this address.
    async fn pair(timeout: Duration, left: usize) -> (BoundedStream, TcpStream, Arc<Places>, Vec<Place>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, peer) = accepted.expect("a connection");
        let places = Places::new(Checkers::default());
        let place = places.take(peer.ip()).expect("all are free");
        let others = (1 + left)..CONNECTIONS_PER_ADDRESS_MAX;
        let others = others.map(|_| places.take(peer.ip()).expect("some are free")).collect();
        (BoundedStream::with_timeout(stream, place, timeout), client.expect("connected"), places, others)
    }

    #[tokio::test]
    async fn a_silent_peer_is_given_up_and_its_place_is_free() {
        let (mut stream, client, places, _others) = pair(Duration::from_millis(20), 0).await;
        let error = stream.read_u8().await.expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let address = client.local_addr().expect("connected").ip();
        assert!(places.take(address).is_none());
        drop(stream);
        assert!(places.take(address).is_some());
    }

    #[tokio::test]
    async fn an_answer_begun_has_time_of_its_own() {
        let (mut stream, _client, _places, _others) = pair(Duration::from_millis(20), 0).await;
        stream.write_all(b"x").await.expect("open");
        tokio::time::sleep(Duration::from_millis(40)).await;
        stream.write_all(b"y").await.expect("the request's deadline no longer counts");
    }

    #[tokio::test]
    async fn the_deadline_of_a_request_ends_with_its_head_and_not_before() {
        for (head, is_whole) in [
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("\r\n\nGET / HTTP/1.0\nHost: x\n\n", true),
            ("GET / HTTP/1.0\r\nHost: x\r\n", false),
            ("\r\n\r\n\r\n", false),
        ] {
            let (mut stream, mut client, _places, _others) = pair(Duration::from_millis(20), 0).await;
            client.write_all(head.as_bytes()).await.expect("open");
            stream.read_exact(&mut vec![0; head.len()]).await.expect("it is there");
            let more = tokio::time::timeout(Duration::from_millis(60), stream.read_u8()).await;
            assert_eq!(more.is_err(), is_whole, "{head:?}: {more:?}");
        }
    }

    #[test]
    fn a_head_ends_in_the_same_place_however_it_is_cut() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..head.len() {
            let mut reader = HeadReader::default();
            assert!(!reader.ends_in(&head[..cut]), "{cut}");
            assert!(reader.ends_in(&head[cut..]), "{cut}");
        }
    }
}
