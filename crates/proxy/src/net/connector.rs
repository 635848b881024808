//! How servers are reached.

use std::io;
use std::time::Duration;

use trunkline_net::{Remote, Transport};
use trunkline_topology::Address;

/// How a worker connects to servers.
#[derive(Clone, Debug)]
pub(crate) enum Connector {
    /// Over the network, and over Unix sockets.
    Network,
    /// In memory, to the servers of a test on the same thread.
    #[cfg(test)]
    Memory(std::rc::Rc<super::memory::Network>),
}

impl Connector {
    /// Connects within `timeout`.
    ///
    /// # Errors
    /// The error of the kernel, or `TimedOut`.
    pub(crate) async fn connect(&self, address: &Address, timeout: Duration) -> io::Result<Transport> {
        match self {
            Connector::Network => trunkline_net::connect(remote(address), timeout).await,
            #[cfg(test)]
            Connector::Memory(network) => network.connect(address),
        }
    }

    /// Connects without a time limit, and sets no options on the socket.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(crate) async fn open(&self, address: &Address) -> io::Result<Transport> {
        match self {
            Connector::Network => trunkline_net::open(remote(address)).await,
            #[cfg(test)]
            Connector::Memory(network) => network.connect(address),
        }
    }
}

fn remote(address: &Address) -> Remote<'_> {
    match address {
        Address::Tcp(address) => Remote::Tcp(*address),
        Address::Unix(path) => Remote::Unix(path),
    }
}
