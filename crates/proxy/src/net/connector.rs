//! How servers are reached.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_net::{Remote, TlsAnswer, Transport, negotiate_tls};
use trunkline_reactor::timer;
use trunkline_tls::Records;
use trunkline_tls::connect::{Encryption, ServerTls, wrong_answer};
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
    /// Begins TLS; goes on without where the server has none and the mode allows that.
    async fn begin(&self, stream: &mut Transport) -> io::Result<()> {
        match negotiate_tls(stream, self.records()?, self.tls.negotiation()).await? {
            TlsAnswer::Plain if self.tls.mode().must_encrypt() => Err(wrong_answer(b'N')),
            TlsAnswer::Plain | TlsAnswer::Tls => Ok(()),
        }
    }

    fn records(&self) -> io::Result<Records> {
        self.tls.connect(&self.host).map_err(|error| io::Error::other(error.to_string()))
    }

    /// Whether a server without a certificate that a root vouches for is not spoken to.
    pub(crate) fn checks_certificate(&self) -> bool {
        self.tls.mode().is_verified()
    }

    /// What is tried first.
    fn first(&self) -> Encryption {
        self.tls.mode().order()[0]
    }

    /// What is tried if the server refuses a connection of this kind.
    pub(crate) fn after(&self, is_encrypted: bool) -> Option<Encryption> {
        let tried = if is_encrypted { Encryption::Tls } else { Encryption::Plain };
        self.tls.mode().order().iter().skip_while(|kind| **kind != tried).nth(1).copied()
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
        let Some(tls) = to.tls else { return self.connect_plain(to.address, timeout).await };
        let began = Instant::now();
        match self.connect_as(tls.first(), to, timeout).await {
            // As libpq: sslmode=prefer prefers any connection to none.
            Err(error)
                if tls.after(true) == Some(Encryption::Plain)
                    && error.kind() == io::ErrorKind::InvalidData =>
            {
                self.connect_plain(to.address, timeout.saturating_sub(began.elapsed())).await
            }
            connected => connected,
        }
    }

    /// The same, by TLS or without: by TLS a server that has none is refused if the mode demands it.
    ///
    /// # Errors
    /// The error of the kernel, `TimedOut`, or `InvalidData` if the handshake failed.
    pub(crate) async fn connect_as(
        &self,
        kind: Encryption,
        to: ServerPlace<'_>,
        timeout: Duration,
    ) -> io::Result<Transport> {
        let began = Instant::now();
        let mut stream = self.connect_plain(to.address, timeout).await?;
        if let (Encryption::Tls, Some(tls)) = (kind, to.tls) {
            let left = timeout.saturating_sub(began.elapsed());
            let asked = timer::timeout(left, tls.begin(&mut stream)).await;
            asked.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        Ok(stream)
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
            tls.begin(&mut stream).await?;
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
