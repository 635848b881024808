//! The connection to a server: over TCP, or over a Unix socket on the same host.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use trunkline_topology::Address;

/// A connection to a server.
#[derive(Debug)]
pub enum ServerStream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl ServerStream {
    /// Connects. Nothing is set on the socket yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Tcp(address) => Self::Tcp(TcpStream::connect(address).await?),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
        })
    }

    /// Connects to a host by its name or address, or to the socket in a directory; small writes leave at once.
    ///
    /// # Errors
    /// What the resolver or the kernel says.
    pub async fn to_host(host: &str, port: u16) -> io::Result<Self> {
        if let Some(socket) = Address::of_directory(host, port) {
            return Self::connect(&socket).await;
        }
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }
}

/// The SQLSTATE and the words for a login without a password where the server asks for one. The server would say the same
/// of an empty one.
pub const PASSWORD_MISSING: (&str, &str) = (
    "28P01",
    "the server asks for a password, and none is set: set TRUNKLINE__MONITOR__PASSWORD or [monitor] password",
);

/// Whether a login failed because the server asks for a password and the configuration has none.
#[must_use]
pub fn lacks_password(error: &tokio_postgres::Error) -> bool {
    // The library has no kind for it that can be asked for.
    std::error::Error::source(error).is_some_and(|cause| cause.to_string() == "password missing")
}

impl AsyncRead for ServerStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ServerStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither socket holds anything back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
