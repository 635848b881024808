//! Where a server or a listener is: at a TCP address, or behind a Unix socket on the same host. Where a client comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Longest path of a socket, in bytes. Source: unix(7), `sun_path` without its NUL.
pub const SOCKET_PATH_MAX: usize = 107;

/// One address of a server or a listener.
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

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// This machine, over a Unix socket.
    Local,
}

impl ClientAddress {
    /// Its address without the port. All clients of Unix sockets have one together, which no other client has.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Tcp(address) => address.ip(),
            Self::Local => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            // As in PostgreSQL's log.
            Self::Local => f.write_str("[local]"),
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
