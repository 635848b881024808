//! A connection within one thread, without a kernel: bounded, deterministic, and cut where a test wants it.
//!
//! What one end writes the other reads, at once and in order, up to the capacity that the pair was made with. An end
//! that is dropped closes as a socket does: in order, or with a reset over bytes that it has not read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Two connected ends, each of which takes `capacity` bytes that the other has not read.
#[must_use]
pub fn pair(capacity: usize) -> (MemoryStream, MemoryStream) {
    let [there, back] = [(); 2].map(|()| Rc::new(RefCell::new(Pipe::new(capacity))));
    let end = |incoming: &Rc<_>, outgoing: &Rc<_>| MemoryStream {
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
    };
    (end(&back, &there), end(&there, &back))
}

/// One end of a pair. What a relayed query would call is cold: with sockets it costs a branch, and no room in the
/// functions around it.
#[derive(Debug)]
pub struct MemoryStream {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Most bytes that one read brings.
    read_max: usize,
    writer_is: WriterIs,
    is_reader_gone: bool,
    /// What is unread when the writer goes is lost.
    has_zero_linger: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What the reader will find behind the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriterIs {
    Open,
    Closed,
    Reset,
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Pipe {
            bytes: VecDeque::new(),
            capacity,
            read_max: usize::MAX,
            writer_is: WriterIs::Open,
            is_reader_gone: false,
            has_zero_linger: false,
            reader: None,
            writer: None,
        }
    }

    fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || self.writer_is != WriterIs::Open
    }

    /// As many bytes as a read brings now; `None` when the reader has to wait.
    fn peek(&self, space: &mut [u8]) -> Option<io::Result<usize>> {
        if self.bytes.is_empty() {
            return match self.writer_is {
                WriterIs::Open => None,
                WriterIs::Closed => Some(Ok(0)),
                WriterIs::Reset => Some(Err(io::ErrorKind::ConnectionReset.into())),
            };
        }
        let count = space.len().min(self.bytes.len()).min(self.read_max);
        for (to, from) in space.iter_mut().zip(self.bytes.range(..count)) {
            *to = *from;
        }
        Some(Ok(count))
    }

    /// Takes what there is room for; who waits to read is to be woken.
    fn take(&mut self, bytes: &[u8]) -> io::Result<(usize, Option<Waker>)> {
        if self.is_reader_gone || self.writer_is != WriterIs::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.capacity - self.bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A reader that was woken and has not read all is not woken again, as with a socket.
        let waker = if self.bytes.is_empty() { self.reader.clone() } else { None };
        self.bytes.extend(&bytes[..count]);
        Ok((count, waker))
    }

    /// Nothing more is written; who waits to read is to be woken.
    fn end(&mut self, writer_is: WriterIs) -> Option<Waker> {
        if self.writer_is == WriterIs::Open {
            self.writer_is = writer_is;
        }
        if writer_is == WriterIs::Reset {
            self.writer_is = WriterIs::Reset;
            self.bytes.clear();
        }
        self.reader.clone()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl MemoryStream {
    /// Has one read of this end bring at most `most` bytes.
    pub fn set_read_max(&self, most: usize) {
        self.incoming.borrow_mut().read_max = most.max(1);
    }

    /// Bytes that the peer has written and this end has not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.incoming.borrow().bytes.len()
    }

    /// The bytes that the peer has written and this end has not read, as they are.
    #[must_use]
    pub fn peek_unread(&self) -> Vec<u8> {
        self.incoming.borrow().bytes.iter().copied().collect()
    }

    /// Bytes that this end can write before the peer reads some.
    #[must_use]
    pub fn room(&self) -> usize {
        let outgoing = self.outgoing.borrow();
        outgoing.capacity - outgoing.bytes.len()
    }

    /// Whether the peer writes nothing more.
    #[must_use]
    pub fn is_peer_done(&self) -> bool {
        self.incoming.borrow().writer_is != WriterIs::Open
    }

    /// Whether the peer reads nothing more.
    #[must_use]
    pub fn is_peer_gone(&self) -> bool {
        self.outgoing.borrow().is_reader_gone
    }

    /// Reads up to `most` bytes of those that are there.
    ///
    /// # Errors
    /// `WouldBlock` when there are none yet, or `ConnectionReset`. The end is no bytes.
    pub fn try_read(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most.min(self.unread())];
        match self.recv(&mut bytes) {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(read) => {
                bytes.truncate(read?);
                Ok(bytes)
            }
        }
    }

    /// Closes with a reset: the peer has what it has read, and no more.
    pub fn reset(self) {
        let waker = self.outgoing.borrow_mut().end(WriterIs::Reset);
        wake(waker);
    }

    /// Writes nothing more; what was written can still be read.
    pub fn shut_down(&self) {
        let waker = self.outgoing.borrow_mut().end(WriterIs::Closed);
        wake(waker);
    }

    fn recv(&self, space: &mut [u8]) -> Option<io::Result<usize>> {
        let mut incoming = self.incoming.borrow_mut();
        let read = incoming.peek(space)?;
        let mut waker = None;
        if let Ok(count @ 1..) = read {
            incoming.bytes.drain(..count);
            waker = incoming.writer.take();
        }
        drop(incoming);
        wake(waker);
        Some(read)
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, or `BrokenPipe`.
    #[cold]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let (count, waker) = self.outgoing.borrow_mut().take(bytes)?;
        wake(waker);
        Ok(count)
    }

    pub(crate) fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.outgoing.borrow_mut().writer = Some(cx.waker().clone());
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }

    #[cold]
    pub(crate) fn may_read(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.is_readable() || incoming.reader.is_none()
    }

    pub(crate) fn change_reader(&self) {
        let _waker = self.incoming.borrow_mut().reader.take();
    }

    pub(crate) fn set_reader(&self, cx: &Context<'_>) {
        self.wait_to_read(cx);
    }

    pub(crate) fn has_news(&self) -> bool {
        self.incoming.borrow().is_readable()
    }

    pub(crate) fn set_zero_linger(&self) {
        self.outgoing.borrow_mut().has_zero_linger = true;
    }

    fn wait_to_read(&self, cx: &Context<'_>) {
        self.incoming.borrow_mut().reader = Some(cx.waker().clone());
    }

    #[cold]
    pub(crate) fn poll_recv(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(read) = self.recv(space) {
            return Poll::Ready(read);
        }
        self.wait_to_read(cx);
        Poll::Pending
    }

    pub(crate) fn poll_peek(&self, cx: &Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let seen = self.incoming.borrow().peek(bytes);
        if let Some(seen) = seen {
            return Poll::Ready(seen);
        }
        self.wait_to_read(cx);
        Poll::Pending
    }

    pub(crate) fn poll_read_closed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_peer_done() {
            return Poll::Ready(());
        }
        self.wait_to_read(cx);
        Poll::Pending
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let (is_over_unread, writer) = {
            let mut incoming = self.incoming.borrow_mut();
            incoming.is_reader_gone = true;
            (!incoming.bytes.is_empty(), incoming.writer.take())
        };
        wake(writer);
        let reader = {
            let mut outgoing = self.outgoing.borrow_mut();
            let is_reset = is_over_unread || outgoing.has_zero_linger;
            outgoing.end(if is_reset { WriterIs::Reset } else { WriterIs::Closed })
        };
        wake(reader);
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_recv(cx, buffer.initialize_unfilled()))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.expect_err("it fails").kind()
    }

    #[test]
    fn a_pair_takes_its_capacity_and_not_one_byte_more() {
        let (a, b) = pair(4);
        assert_eq!(a.try_write(b"12345").expect("there is room"), 4);
        assert_eq!(kind(a.try_write(b"5")), io::ErrorKind::WouldBlock);
        assert_eq!(b.try_read(1).expect("it was written"), b"1");
        assert_eq!((a.room(), b.unread()), (1, 3));
        assert_eq!(a.try_write(b"56").expect("there is room"), 1);
        assert_eq!(b.try_read(9).expect("it was written"), b"2345");
        assert_eq!(kind(b.try_read(9)), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_read_brings_no_more_than_its_limit() {
        let (a, b) = pair(9);
        b.set_read_max(2);
        a.try_write(b"12345").expect("there is room");
        let cx = Context::from_waker(Waker::noop());
        let mut space = [0; 9];
        for read in [2, 2, 1] {
            assert!(b.may_read());
            assert!(matches!(b.poll_recv(&cx, &mut space), Poll::Ready(Ok(n)) if n == read));
        }
        assert!(b.poll_recv(&cx, &mut space).is_pending());
        assert!(!b.may_read());
        b.change_reader();
        assert!(b.may_read(), "somebody else may try");
    }

    #[test]
    fn who_waits_is_woken_once_there_is_something_to_read_or_room() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let (a, mut b) = pair(2);
        assert!(b.poll_recv(&cx, &mut [0; 2]).is_pending());
        a.try_write(b"1").expect("there is room");
        a.try_write(b"2").expect("there is room");
        assert_eq!(count.0.load(Relaxed), 1, "one edge");
        assert!(Pin::new(&mut b).poll_write(&mut cx, b"xyz").is_ready());
        assert!(Pin::new(&mut b).poll_write(&mut cx, b"z").is_pending());
        a.try_read(1).expect("it was written");
        assert_eq!(count.0.load(Relaxed), 2);
        drop(a);
        assert!(b.poll_read_closed(&cx).is_ready());
        assert_eq!(count.0.load(Relaxed), 3);
    }

    #[test]
    fn an_end_comes_behind_what_was_written_and_a_reset_in_its_place() {
        let (a, b) = pair(9);
        a.try_write(b"bye").expect("there is room");
        a.shut_down();
        assert!(b.is_peer_done() && !b.is_peer_gone());
        b.try_write(b"heard").expect("its other direction is open");
        assert_eq!(b.try_read(9).expect("it comes first"), b"bye");
        assert_eq!(b.try_read(9).expect("the end"), b"");
        assert_eq!(kind(a.try_write(b"x")), io::ErrorKind::BrokenPipe);
        drop(b);
        assert_eq!(a.try_read(9).expect("it comes first"), b"heard");

        let (a, b) = pair(9);
        a.try_write(b"lost").expect("there is room");
        a.reset();
        assert_eq!(kind(b.try_read(9)), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(b.try_write(b"x")), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn closing_over_unread_bytes_or_with_zero_linger_is_a_reset() {
        for is_over_unread in [true, false] {
            let (a, b) = pair(9);
            a.try_write(b"words").expect("there is room");
            if is_over_unread {
                b.try_write(b"unread").expect("there is room");
            } else {
                a.set_zero_linger();
            }
            drop(a);
            assert_eq!(kind(b.try_read(9)), io::ErrorKind::ConnectionReset);
        }
    }
}
