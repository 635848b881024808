//! Where a server is, and the connection to it: over TCP, or over a Unix socket on the same host.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Longest path of a socket, in bytes. Source: unix(7), `sun_path` without its NUL.
pub const SOCKET_PATH_MAX: usize = 107;

/// One address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(Arc<Path>),
}

impl Address {
    /// The socket that `host` means, if it is a directory rather than a name: as in libpq it begins with a slash.
    /// Source: PostgreSQL 18, src/include/libpq/pqcomm.h, `UNIXSOCK_PATH`.
    #[must_use]
    pub fn of_directory(host: &str, port: u16) -> Option<Self> {
        let path = || Path::new(host).join(format!(".s.PGSQL.{port}"));
        host.starts_with('/').then(|| Self::Unix(path().into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// A connection to a server.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
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

impl AsyncRead for Stream {
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

impl AsyncWrite for Stream {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_means_the_socket_of_its_port() {
        let address = Address::of_directory("/run/postgresql", 5433).expect("a directory");
        assert_eq!(address.to_string(), "/run/postgresql/.s.PGSQL.5433");
        assert_eq!(Address::of_directory("db1", 5432), None);
    }
}
