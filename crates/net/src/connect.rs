//! Connecting to a server, set up so that a dead peer is noticed.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use trunkline_reactor::{Stream, timer};

use crate::Transport;

/// Idle time before the kernel asks whether the server still lives, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How long sent bytes may stay unacknowledged: keepalives do not run while any are.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);

/// Where to connect to.
#[derive(Clone, Copy, Debug)]
pub enum Remote<'a> {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(&'a Path),
}

/// Connects within `timeout`.
///
/// # Errors
/// What the kernel says, or `TimedOut`.
pub async fn connect(remote: Remote<'_>, timeout: Duration) -> io::Result<Transport> {
    let stream = timer::timeout(timeout, open_stream(remote)).await.map_err(|_elapsed| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {timeout:?}"))
    })??;
    // On a Unix socket the kernel reports a closed peer at once.
    if matches!(remote, Remote::Tcp(_)) {
        notice_death(&stream)?;
    }
    Ok(Transport::Plain(stream))
}

/// Connects, for as long as it takes, and sets nothing on the socket.
///
/// # Errors
/// What the kernel says.
pub async fn open(remote: Remote<'_>) -> io::Result<Transport> {
    Ok(Transport::Plain(open_stream(remote).await?))
}

async fn open_stream(remote: Remote<'_>) -> io::Result<Stream> {
    match remote {
        Remote::Tcp(address) => Stream::connect_tcp(address).await,
        Remote::Unix(path) => Stream::connect_unix(path),
    }
}

fn notice_death(stream: &Stream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    // The number of probes is not set: with TCP_USER_TIMEOUT the kernel decides by time alone.
    // Source: Linux, net/ipv4/tcp_timer.c, `tcp_keepalive_timer`.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}
