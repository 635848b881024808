//! The addresses that are listened on beside the proxy's.

use std::io;
use std::net::{self, SocketAddr};

use tokio::net::TcpListener;
use trunkline_topology::Address;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address} ({name}): {source}")]
pub struct ListenError {
    /// What it is for.
    pub name: String,
    /// The address.
    pub address: Address,
    /// What the kernel said.
    pub source: io::Error,
}

/// Listens for one of the servers beside the proxy; `name` is for the error. Call it within a runtime.
///
/// # Errors
/// When the address is taken.
pub fn listen(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    registered(name, address, trunkline_net::listen::bind(address, 1))
}

/// The same for an address whose port this process has at another address already: the two may overlap.
///
/// # Errors
/// When another process listens there.
pub fn listen_beside(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    registered(name, address, trunkline_net::listen::bind_beside(address, 1))
}

fn registered(
    name: &str,
    address: SocketAddr,
    bound: io::Result<Vec<net::TcpListener>>,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError { name: name.to_owned(), address: address.into(), source };
    let socket = bound.map_err(failed)?.pop().ok_or_else(|| failed(io::ErrorKind::Other.into()))?;
    let listener = TcpListener::from_std(socket).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok((listener, at))
}
