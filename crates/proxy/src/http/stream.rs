//! A connection that cannot outstay its time or send without end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::{REQUEST_BYTES_MAX, REQUEST_TIMEOUT, RESPONSE_TIMEOUT};

/// One HTTP connection: one request, one answer, each with its deadline.
///
/// It does not offer vectored writes, so head and body leave in one write: HAProxy resets the connection as soon
/// as it has seen enough, and a second write would fail.
#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TcpStream,
    phase: Phase,
    deadline: Pin<Box<Sleep>>,
    readable_bytes: usize,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Request,
    Response,
}

impl BoundedStream {
    pub(super) fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> Self {
        // Only the last small write of an answer would be delayed; its loss is no error.
        let _ = stream.set_nodelay(true);
        BoundedStream {
            stream,
            phase: Phase::Request,
            deadline: Box::pin(sleep(REQUEST_TIMEOUT)),
            readable_bytes: REQUEST_BYTES_MAX,
            _permit: permit,
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
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.phase == Phase::Request {
            self.phase = Phase::Response;
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
