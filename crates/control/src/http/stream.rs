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
    deadline: Pin<Box<Sleep>>,
    readable_bytes: usize,
    _place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamPhase {
    Request,
    Response,
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
            deadline: Box::pin(sleep(timeout)),
            readable_bytes: REQUEST_BYTES_MAX,
            _place: place,
        }
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
        self.readable_bytes = self.readable_bytes.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.phase == StreamPhase::Request {
            self.phase = StreamPhase::Response;
            self.deadline.as_mut().reset(Instant::now() + RESPONSE_TIMEOUT);
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
    use super::super::places::Places;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A connection, its peer, and the places it has one of; `left` more are free for this address.
    async fn pair(timeout: Duration, left: usize) -> (BoundedStream, TcpStream, Arc<Places>, Vec<Place>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, peer) = accepted.expect("a connection");
        let places = Places::new(Vec::new());
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
}
