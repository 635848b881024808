//! The addresses that are listened on beside the proxy's.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address} ({name}): {source}")]
pub struct ListenError {
    /// What it is for.
    pub name: String,
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

/// Listens for one of the servers beside the proxy; `name` is for the error.
///
/// # Errors
/// When the address is taken.
pub async fn listen(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError { name: name.to_owned(), address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok((listener, at))
}
