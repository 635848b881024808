//! Connections to clients and servers: what the proxy asks of a socket, whatever carries the bytes.
//!
//! [`Transport`] is the one type that the proxy reads from and writes to: a socket of the reactor, or one end of an
//! in-memory pair ([`memory`]), by which a test drives the proxy's own code without a kernel. Accepting ([`listen`]),
//! connecting ([`connect`]), the options set on sockets and the PROXY protocol's header are here, too; nothing above
//! names a socket.

mod connect;
mod limits;
pub mod listen;
pub mod memory;
mod negotiate;
mod proxy_header;
pub mod socket_file;
mod transport;

pub use connect::{Remote, connect, open};
pub use limits::{CLIENT_KEEPALIVE, LINGER, LINGER_BYTES_MAX, LISTEN_BACKLOG};
pub use listen::{Accepted, Listener};
pub use negotiate::{TlsAnswer, negotiate_tls};
pub use proxy_header::{PROXY_HEADER_BYTES_MAX, ProxyHeaderError, read_proxy_header};
pub use transport::{ReleasedTransport, TlsStream, Transport};
