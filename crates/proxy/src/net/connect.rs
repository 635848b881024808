//! Connecting to a server, wherever it is.

use std::io;
use std::time::Duration;

use trunkline_net::{Remote, Transport};
use trunkline_topology::Address;

/// Connects within `timeout`.
///
/// # Errors
/// What the kernel says, or `TimedOut`.
pub(crate) async fn connect(address: &Address, timeout: Duration) -> io::Result<Transport> {
    trunkline_net::connect(remote(address), timeout).await
}

/// Connects, for as long as it takes, and sets nothing on the socket.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn open(address: &Address) -> io::Result<Transport> {
    trunkline_net::open(remote(address)).await
}

fn remote(address: &Address) -> Remote<'_> {
    match address {
        Address::Tcp(address) => Remote::Tcp(*address),
        Address::Unix(path) => Remote::Unix(path),
    }
}
