//! A connected socket to a server, set up so that a dead peer is noticed.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use trunkline_health::Address;
use trunkline_reactor::{Stream, timer};

/// Idle time before the kernel asks whether the server still lives, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// How long sent bytes may stay unacknowledged: keepalives do not run while any are.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);

/// Connects within `timeout`.
///
/// # Errors
/// What the kernel says, or `TimedOut`.
pub(crate) async fn connect(address: &Address, timeout: Duration) -> io::Result<Stream> {
    let stream = timer::timeout(timeout, open(address)).await.map_err(|_elapsed| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {timeout:?}"))
    })??;
    // Of a Unix socket the kernel knows at once when the other end is gone.
    if matches!(address, Address::Tcp(_)) {
        notice_death(&stream)?;
    }
    Ok(stream)
}

/// Connects, for as long as it takes, and sets nothing on the socket.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn open(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => Stream::connect_tcp(*address).await,
        Address::Unix(path) => Stream::connect_unix(path),
    }
}

fn notice_death(stream: &Stream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    // How many probes is not said: with a user timeout the kernel looks at the time only.
    // Source: Linux, net/ipv4/tcp_timer.c, `tcp_keepalive_timer`.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

/// Has the kernel ask a silent peer every `period` whether it still lives, and give it up when it does not.
///
/// # Errors
/// What the kernel says.
pub(crate) fn keep_alive(socket: &impl AsFd, period: Duration) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(period).with_interval(period).with_retries(KEEPALIVE_PROBES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
