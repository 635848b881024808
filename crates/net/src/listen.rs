//! Listening sockets, and the connections that they accept.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
pub use trunkline_reactor::{Accepted, Listener};

use crate::limits::{CLIENT_KEEPALIVE, LISTEN_BACKLOG};

const KEEPALIVE_PROBES: u32 = 3;

/// Listening sockets for `address`, so many, between which the kernel spreads connections.
///
/// # Errors
/// When the address is taken, also by another process that would share it.
pub fn bind(address: SocketAddr, sockets: usize) -> io::Result<Vec<TcpListener>> {
    // SO_REUSEPORT would silently share the port with a second proxy, so ask without it first.
    let alone = socket(address)?;
    alone.bind(&address.into())?;
    let address = alone.local_addr()?.as_socket().unwrap_or(address);
    drop(alone);
    bind_beside(address, sockets)
}

/// The same for an address whose port this process has at another address already: the two may overlap.
///
/// # Errors
/// When another process listens there.
pub fn bind_beside(address: SocketAddr, sockets: usize) -> io::Result<Vec<TcpListener>> {
    (0..sockets)
        .map(|_| {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            inherit_options(&socket)?;
            socket.bind(&address.into())?;
            socket.listen(LISTEN_BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sets on a listening socket what its connections are to have: Linux hands these options down, which saves
/// five system calls on each. A client that vanished without a word would otherwise hold its session, and a
/// server's, for ever.
/// Source: Linux, net/core/sock.c, `sk_clone_lock`: a child begins as a copy of its listener.
fn inherit_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    keep_alive(socket, CLIENT_KEEPALIVE)
}

/// Has the kernel ask a silent peer every `period` whether it still lives, and give it up when it does not.
fn keep_alive(socket: &Socket, period: Duration) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(period).with_interval(period).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Writes `words` to a connection that is refused, if its socket accepts them at once, and discards up to
/// `sent_max` bytes that the peer has already sent: a close with unread bytes is a reset and loses the message.
///
/// # Errors
/// What the kernel says to the words.
pub fn turn_away(accepted: &Accepted, words: &[u8], sent_max: usize) -> io::Result<()> {
    let said = SockRef::from(accepted).send(words);
    let mut sent = vec![0_u8; sent_max];
    let _ = (&*SockRef::from(accepted)).read(&mut sent);
    said.map(|_| ())
}
