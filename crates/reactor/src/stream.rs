//! Sockets: to a client or a server, over TCP or a Unix socket.

use std::cell::RefCell;
use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::driver::{Assumed, Registration};
use crate::executor::driver;

thread_local! {
    /// Where [`AsyncRead`] reads to.
    static SCRATCH: RefCell<[u8; SCRATCH_BYTES]> = const { RefCell::new([0; SCRATCH_BYTES]) };
}

const SCRATCH_BYTES: usize = 8 * 1024;

/// A connected socket.
#[derive(Debug)]
pub struct Stream {
    // Declared before the socket: the registration must go before the descriptor can be reused.
    registration: Registration,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

/// A connection of no thread: just accepted, or [given up](Stream::release) by one.
#[derive(Debug)]
pub struct Accepted(Socket);

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    registration: Registration,
    socket: BoundSocket,
}

#[derive(Debug)]
enum BoundSocket {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl AsRawFd for BoundSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            BoundSocket::Tcp(socket) => socket.as_raw_fd(),
            BoundSocket::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

impl BoundSocket {
    /// The next connection, and where it comes from if that is not this machine.
    fn accept(&self) -> io::Result<(Accepted, Option<SocketAddr>)> {
        match self {
            BoundSocket::Tcp(socket) => {
                socket.accept().map(|(socket, peer)| (Accepted(Socket::Tcp(socket)), Some(peer)))
            }
            BoundSocket::Unix(socket) => {
                socket.accept().map(|(socket, _unnamed)| (Accepted(Socket::Unix(socket)), None))
            }
        }
    }
}

impl Listener {
    /// Takes a listening socket that does not block.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn from_std(socket: net::TcpListener) -> io::Result<Self> {
        Self::new(BoundSocket::Tcp(mio::net::TcpListener::from_std(socket)))
    }

    /// Takes a listening Unix socket that does not block.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn from_std_unix(socket: UnixListener) -> io::Result<Self> {
        Self::new(BoundSocket::Unix(mio::net::UnixListener::from_std(socket)))
    }

    fn new(socket: BoundSocket) -> io::Result<Self> {
        let registration = driver()?.register(socket.as_raw_fd(), Assumed::All)?;
        Ok(Listener { registration, socket })
    }

    /// The next connection, and where it comes from; over a Unix socket there is no address.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn accept(&self) -> io::Result<(Accepted, Option<SocketAddr>)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next connection if there is one already.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn accept_waiting(&self) -> Option<io::Result<(Accepted, Option<SocketAddr>)>> {
        let accept = |cx: &mut Context<'_>| match self.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => Poll::Ready(None),
        };
        std::future::poll_fn(accept).await
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<(Accepted, Option<SocketAddr>)>> {
        loop {
            ready!(self.registration.poll_readable(cx));
            match self.socket.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.registration.would_block_to_read();
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(accepted) => {
                    // A second accept that returns EAGAIN costs the kernel a socket allocation, and rearming gives
                    // running sessions a turn between two connections of a burst. If rearming fails, the next accept gets EAGAIN.
                    let _asked = self.registration.ask_again(self.socket.as_raw_fd());
                    return Poll::Ready(Ok(accepted));
                }
            }
        }
    }
}

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Stream {
    /// Registers an accepted connection with this thread's reactor.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(accepted: Accepted) -> io::Result<Self> {
        Self::new(accepted.0, Assumed::All)
    }

    /// The same with a connection that is established and idle, so that nothing is there to be read.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of_idle(released: Accepted) -> io::Result<Self> {
        Self::new(released.0, Assumed::Room)
    }

    /// Gives the connection up, for another thread to register with [`Self::of_idle`].
    ///
    /// # Errors
    /// What the kernel says; the connection is closed then.
    pub fn release(self) -> io::Result<Accepted> {
        let descriptor = self.descriptor();
        let Stream { registration, socket } = self;
        registration.deregister(descriptor)?;
        Ok(Accepted(socket))
    }

    /// The number of the user that the peer of a Unix socket ran as when it connected; `None` over TCP.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn peer_user(&self) -> io::Result<Option<u32>> {
        match &self.socket {
            Socket::Tcp(_) => Ok(None),
            Socket::Unix(socket) => Ok(Some(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())),
        }
    }

    /// Connects over TCP. Nothing is set on the socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = mio::net::TcpStream::connect(address)?;
        // On the same host the connection is established at once.
        if socket.peer_addr().is_ok() {
            return Self::new(Socket::Tcp(socket), Assumed::Room);
        }
        let stream = Self::new(Socket::Tcp(socket), Assumed::Nothing)?;
        std::future::poll_fn(|cx| stream.registration.poll_writable(cx)).await;
        match SockRef::from(&stream).take_error()? {
            None => Ok(stream),
            Some(error) => Err(error),
        }
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        // There is no waiting: a queue that is full is an error.
        Self::new(Socket::Unix(mio::net::UnixStream::connect(path)?), Assumed::Room)
    }

    fn new(socket: Socket, assumed: Assumed) -> io::Result<Self> {
        let registration = driver()?.register(socket.as_fd().as_raw_fd(), assumed)?;
        Ok(Stream { registration, socket })
    }

    fn descriptor(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }

    /// Makes a drop discard bytes that the kernel has not delivered (SO_LINGER 0). On a Unix socket nothing
    /// is in flight.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(_) => SockRef::from(self).set_linger(Some(Duration::ZERO)),
            Socket::Unix(_) => Ok(()),
        }
    }

    /// Writes what the socket accepts without blocking; no task is woken when it accepts more.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now, or what the kernel says.
    // Called twice for a query, by which scripts/bench/per_unit.py counts them.
    #[inline(never)]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.registration.may_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let outcome = send(self, bytes, SendFlags::NOSIGNAL);
        match outcome {
            Ok(n) if n == bytes.len() => {}
            Ok(_) | Err(Errno::AGAIN) => self.registration.would_block_to_write(self.descriptor())?,
            Err(_) => {}
        }
        outcome.map_err(io::Error::from)
    }

    /// Writes what the socket accepts; if nothing, the task is woken when it accepts more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.registration.poll_writable(cx));
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Writes the last bytes before the socket is closed, so that they share a segment with the FIN. A caller that
    /// does not close the socket at once delays them by 200 ms.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing now, or what the kernel says.
    /// Source: tcp(7), `TCP_CORK`; Linux, net/ipv4/tcp_output.c, `tcp_send_fin`; net/ipv4/tcp.c, `__tcp_close`.
    pub fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        // With unread bytes of the peer the close is a reset, and the kernel never sends what MORE holds back.
        let held_back = if self.registration.may_read() { SendFlags::empty() } else { SendFlags::MORE };
        send(self, bytes, held_back | SendFlags::NOSIGNAL).map_err(io::Error::from)
    }

    /// Looks at what would be read next: bytes seen, 0 at the end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn poll_peek(&self, cx: &Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.registration.poll_readable(cx));
            match recv(self, &mut *bytes, RecvFlags::PEEK) {
                Err(Errno::AGAIN) => self.registration.would_block_to_read(),
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok((seen, _)) => return Poll::Ready(Ok(seen)),
            }
        }
    }

    /// The same, waited for.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_peek(cx, bytes)).await
    }

    /// Whether a read can return bytes. If not, the task that read last is woken when it can.
    #[inline]
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.registration.may_read() || !self.registration.has_reader()
    }

    /// Hands reading to another task: the previous reader is no longer woken, and the next read is tried.
    pub fn change_reader(&self) {
        self.registration.forget_reader();
    }

    /// Hands reading to this task, which does not read now: it is woken when there is something.
    pub fn set_reader(&self, cx: &Context<'_>) {
        self.registration.set_reader(cx);
    }

    /// Whether something has come that nobody has read, as far as epoll has told: bytes, or the end.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.registration.may_read()
    }

    /// Whether nothing has come that nobody has read: asks the kernel, which may know more than epoll has told.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let mut byte = [0_u8; 1];
        !self.has_news() && recv(self, &mut byte[..], RecvFlags::PEEK) == Err(Errno::AGAIN)
    }

    /// Reads what is there: bytes read, 0 at the end.
    ///
    /// # Errors
    /// What the kernel says.
    #[inline]
    pub fn poll_recv(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.registration.poll_readable(cx));
            match recv(self, &mut *space, RecvFlags::empty()) {
                Ok((n, _)) => {
                    // Nothing is left, unless it is the end.
                    if 0 < n && n < space.len() {
                        self.registration.has_read_all();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::AGAIN) => self.registration.would_block_to_read(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Ready when the peer has closed its sending side, even with bytes still unread; else the task is woken when
    /// there is anything to read.
    pub fn poll_read_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.registration.poll_read_closed(cx)
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Without unsafe code a buffer must be zeroed before a read: copying what came is less work.
        SCRATCH.with_borrow_mut(|scratch| {
            let room = scratch.len().min(buffer.remaining());
            let read = ready!(self.poll_recv(cx, &mut scratch[..room]))?;
            buffer.put_slice(&scratch[..read]);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket holds nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        })
    }
}

#[cfg(test)]
mod tests;
