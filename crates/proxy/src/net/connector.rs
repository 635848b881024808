//! How servers are reached.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_net::{Remote, TlsAnswer, Transport, negotiate_tls};
use trunkline_reactor::timer;
use trunkline_tls::Records;
use trunkline_tls::connect::{Encryption, ServerTls, StartTlsError, wrong_answer};
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
    async fn begin(&self, stream: &mut Transport) -> Result<TlsAnswer, StartTlsError> {
        let records = self.records().map_err(StartTlsError::Handshake)?;
        match negotiate_tls(stream, records, self.tls.negotiation()).await? {
            TlsAnswer::Plain if self.tls.mode().must_encrypt() => {
                Err(StartTlsError::Unanswered(wrong_answer(b'N')))
            }
            answer @ (TlsAnswer::Plain | TlsAnswer::Tls) => Ok(answer),
        }
    }

    /// The same within `limit`.
    async fn begin_within(
        &self,
        limit: Duration,
        stream: &mut Transport,
    ) -> Result<TlsAnswer, StartTlsError> {
        let late = |_elapsed| StartTlsError::Unanswered(io::ErrorKind::TimedOut.into());
        timer::timeout(limit, self.begin(stream)).await.map_err(late)?
    }

    fn records(&self) -> io::Result<Records> {
        self.tls.connect(&self.host).map_err(|error| io::Error::other(error.to_string()))
    }

    /// Whether a server without a certificate that a root vouches for is not spoken to.
    pub(crate) fn checks_certificate(&self) -> bool {
        self.tls.mode().is_verified()
    }

    /// Whether TLS is tried first, and then a connection without.
    pub(crate) fn may_go_without(&self) -> bool {
        self.after(true) == Some(Encryption::Plain)
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

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) stream: Transport,
    /// Why it is without TLS, where TLS was tried.
    pub(crate) without: Option<WithoutTls>,
}

/// Why a connection is without TLS although TLS was tried.
#[derive(Debug)]
pub(crate) enum WithoutTls {
    /// The server has none.
    NotOffered,
    /// The server has agreed to it, and the handshake has failed for this reason.
    Failed(io::Error),
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
    pub(crate) async fn connect(&self, to: ServerPlace<'_>, timeout: Duration) -> io::Result<Reached> {
        let began = Instant::now();
        let left = || timeout.saturating_sub(began.elapsed());
        let mut stream = self.connect_plain(to.address, timeout).await?;
        let Some(tls) = to.tls.filter(|tls| tls.first() == Encryption::Tls) else {
            return Ok(Reached { stream, without: None });
        };
        match tls.begin_within(left(), &mut stream).await {
            Ok(TlsAnswer::Tls) => Ok(Reached { stream, without: None }),
            Ok(TlsAnswer::Plain) => Ok(Reached { stream, without: Some(WithoutTls::NotOffered) }),
            // As libpq: a server that agrees to TLS and fails is asked again without, where `sslmode` is `prefer`.
            Err(StartTlsError::Handshake(error)) if tls.may_go_without() => {
                tracing::debug!(server.addr = %to.address, %error, "TLS failed, connecting without");
                drop(stream);
                let stream = self.connect_plain(to.address, left()).await?;
                Ok(Reached { stream, without: Some(WithoutTls::Failed(error)) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same, by TLS or without: by TLS a server that has none is refused if the mode demands it.
    ///
    /// # Errors
    /// The error of the kernel, `TimedOut`, an answer that is none, or why the handshake failed.
    pub(crate) async fn connect_as(
        &self,
        kind: Encryption,
        to: ServerPlace<'_>,
        timeout: Duration,
    ) -> io::Result<Transport> {
        let began = Instant::now();
        let mut stream = self.connect_plain(to.address, timeout).await?;
        if let (Encryption::Tls, Some(tls)) = (kind, to.tls) {
            let _answer = tls.begin_within(timeout.saturating_sub(began.elapsed()), &mut stream).await?;
        }
        Ok(stream)
    }

    async fn connect_plain(&self, address: &Address, timeout: Duration) -> io::Result<Transport> {
        match self {
            Connector::Network => trunkline_net::connect(remote(address), timeout).await,
            #[cfg(test)]
            Connector::Memory(network) => network.connect(address).await,
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
            Connector::Memory(network) => network.connect(to.address).await?,
        };
        if let Some(tls) = to.tls {
            let _answer = tls.begin(&mut stream).await?;
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use trunkline_reactor::block_on;
    use trunkline_tls::SSL_REQUEST;
    use trunkline_tls::connect::{ConnectSettings, ServerSslMode};

    use super::*;

    /// Far beyond what a healthy machine needs.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// How a server is connected to within `limit` that answers the request for TLS so and ends it, and whether it is
    /// connected to again.
    fn connected(
        sslmode: ServerSslMode,
        (answer, end): (&'static [u8], End),
        limit: Duration,
    ) -> (io::Result<Encryption>, bool) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = Address::Tcp(listener.local_addr().expect("it is bound"));
        let server = std::thread::spawn(move || {
            let (mut stream, _peer) = listener.accept().expect("it connects");
            let mut request = [0; 8];
            stream.read_exact(&mut request).expect("it asks");
            assert_eq!(request, SSL_REQUEST);
            // One that has given up hears nothing.
            let _heard = stream.write_all(answer);
            let mut hello = [0; 4096];
            let came = match end {
                End::AtOnce => None,
                End::AfterHello => Some(stream.read(&mut hello).expect("it goes on")),
                // What is not read makes the kernel reset the connection.
                End::ByReset => Some(stream.peek(&mut hello).expect("it goes on")),
                End::ByTheOther => {
                    let _ended = stream.read_to_end(&mut Vec::new());
                    None
                }
            };
            assert_ne!(came, Some(0));
            drop(stream);
            listener
        });
        let settings = ConnectSettings { sslmode, ..ConnectSettings::default() };
        let tls = ServerTls::load(&settings).expect("no file is read").expect("TLS is used");
        let tls = TlsPlace { host: "db.example".into(), tls };
        let place = ServerPlace { address: &address, tls: Some(&tls) };
        let connected: io::Result<Encryption> = block_on(async {
            let reached = Connector::Network.connect(place, limit).await?;
            let why = reached.without.expect("none of them completes a handshake");
            assert!(matches!(why, WithoutTls::Failed(_)), "{why:?}");
            Ok(if reached.stream.is_encrypted() { Encryption::Tls } else { Encryption::Plain })
        })
        .expect("a thread of its own");
        let listener = server.join().expect("it does not panic");
        listener.set_nonblocking(true).expect("it is a socket");
        let comes_again = listener.accept().is_ok();
        (connected, comes_again)
    }

    /// When a server closes.
    #[derive(Clone, Copy, Debug)]
    enum End {
        AtOnce,
        AfterHello,
        ByReset,
        /// Once the proxy has closed.
        ByTheOther,
    }

    /// A server that agrees to TLS and fails, in every way.
    const FAILING: [(&[u8], End); 4] = [
        (b"S", End::AtOnce),
        (b"S", End::AfterHello),
        (b"S", End::ByReset),
        (b"SSSH-2.0-OpenSSH_9.2\r\n", End::AfterHello),
    ];

    #[test]
    fn prefer_goes_on_without_tls_where_the_server_agrees_and_the_handshake_fails() {
        for server in FAILING {
            let (connected, comes_again) = connected(ServerSslMode::Prefer, server, PATIENCE);
            let kind = connected.unwrap_or_else(|error| panic!("{server:?}: {error}"));
            assert_eq!((kind, comes_again), (Encryption::Plain, true), "{server:?}");
        }
    }

    #[test]
    fn require_never_goes_on_without_tls() {
        for server in FAILING.into_iter().chain([(&b"N"[..], End::AtOnce)]) {
            let (connected, comes_again) = connected(ServerSslMode::Require, server, PATIENCE);
            assert!(connected.is_err() && !comes_again, "{server:?}: {connected:?}");
        }
    }

    #[test]
    fn prefer_does_not_go_on_where_the_handshake_takes_too_long() {
        let silent = (&b"S"[..], End::ByTheOther);
        let (connected, comes_again) = connected(ServerSslMode::Prefer, silent, Duration::from_secs(1));
        assert_eq!(connected.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(!comes_again);
    }

    /// As psql of 15, 17 and 18.
    #[test]
    fn prefer_does_not_go_on_where_the_server_does_not_agree() {
        let error = b"E\0\0\0\x25SFATAL\0C53300\0Mtoo many clients\0\0";
        for answer in [&error[..], b"", b"X"] {
            let (connected, comes_again) = connected(ServerSslMode::Prefer, (answer, End::AtOnce), PATIENCE);
            assert!(connected.is_err() && !comes_again, "{answer:?}");
        }
    }
}
