//! How servers are reached.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_net::{Remote, TlsAnswer, Transport, ask_for_tls};
use trunkline_reactor::timer;
use trunkline_tls::Records;
use trunkline_tls::connect::ServerTls;
use trunkline_topology::Address;

/// Where a server is, and how it is spoken to there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerPlace<'a> {
    pub(crate) address: &'a Address,
    pub(crate) tls: Option<&'a TlsPlace>,
}

/// How a server is spoken to by TLS.
#[derive(Debug)]
pub(crate) struct TlsPlace {
    /// The host as it is configured: its certificate is for that name.
    pub(crate) host: Arc<str>,
    pub(crate) tls: ServerTls,
}

impl TlsPlace {
    fn records(&self) -> io::Result<Records> {
        self.tls.connect(&self.host).map_err(|error| io::Error::other(error.to_string()))
    }

    fn must_encrypt(&self) -> bool {
        self.tls.mode().must_encrypt()
    }
}

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
    pub(crate) async fn connect(&self, to: ServerPlace<'_>, timeout: Duration) -> io::Result<Transport> {
        let began = Instant::now();
        let mut stream = self.connect_plain(to.address, timeout).await?;
        let Some(tls) = to.tls else { return Ok(stream) };
        let left = timeout.saturating_sub(began.elapsed());
        let asked = timer::timeout(left, ask_for_tls(&mut stream, tls.records()?)).await;
        match asked.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))? {
            Ok(TlsAnswer::Tls) => Ok(stream),
            Ok(TlsAnswer::Plain) if !tls.must_encrypt() => Ok(stream),
            Ok(TlsAnswer::Plain) => {
                Err(io::Error::other("server does not support SSL, but SSL was required"))
            }
            // As libpq: sslmode=prefer prefers any connection to none.
            Err(error) if !tls.must_encrypt() && error.kind() == io::ErrorKind::InvalidData => {
                self.connect_plain(to.address, timeout.saturating_sub(began.elapsed())).await
            }
            Err(error) => Err(error),
        }
    }

    async fn connect_plain(&self, address: &Address, timeout: Duration) -> io::Result<Transport> {
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
    pub(crate) async fn open(&self, to: ServerPlace<'_>) -> io::Result<Transport> {
        let mut stream = match self {
            Connector::Network => trunkline_net::open(remote(to.address)).await?,
            #[cfg(test)]
            Connector::Memory(network) => network.connect(to.address)?,
        };
        if let Some(tls) = to.tls {
            ask_for_tls(&mut stream, tls.records()?).await?;
        }
        Ok(stream)
    }
}

fn remote(address: &Address) -> Remote<'_> {
    match address {
        Address::Tcp(address) => Remote::Tcp(*address),
        Address::Unix(path) => Remote::Unix(path),
    }
}
