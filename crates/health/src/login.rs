//! Logging in to servers, for all that the proxy asks them itself.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{Client, Config, Connection};
use tokio_rustls::TlsConnector;
use trunkline_tls::connect::{
    Encryption, Negotiation, ServerTls, StartTlsError, begun_unasked, no_protocol, wrong_answer,
};
use trunkline_tls::fleet::FleetTls;
use trunkline_tls::{ALPN, SSL_REQUEST, words};

use crate::guard::{GuardedStream, NamedBy};
use crate::net::{AsItIs, ServerStream};
use trunkline_topology::Endpoint;

/// A connection that is logged in; the second part drives it.
pub type LoggedIn = (Client, LoginDriver);

/// What drives a connection to a server.
pub type LoginDriver = Connection<GuardedStream, GuardedStream>;

/// How the monitoring role logs in, and by which TLS. Whoever keeps a connection compares the pointer: a new login is a
/// new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MonitorLogin {
    /// User, password, database, options. Hosts and ports are ignored.
    pub config: Config,
    /// The TLS of each server.
    pub tls: FleetTls,
    /// Whether a server gets the password itself also where the connection does not protect it, as libpq does it.
    pub trusts_any_server: bool,
}

/// Why no login came about.
#[derive(Debug, thiserror::Error)]
pub enum MonitorLoginError {
    /// There is no connection.
    #[error(transparent)]
    Connect(io::Error),
    /// There is no TLS on it.
    #[error("TLS failed: {}", words::of_io(.0))]
    Tls(io::Error),
    /// The server refused, or left.
    #[error(transparent)]
    Login(tokio_postgres::Error),
}

impl MonitorLogin {
    /// Logs in by this login, with `config` in place of its own.
    ///
    /// # Errors
    /// Whatever kept it from succeeding. It waits without a limit: that is the caller's.
    pub async fn connect_as(
        &self,
        config: &Config,
        endpoint: &Endpoint,
    ) -> Result<LoggedIn, MonitorLoginError> {
        let Endpoint { host, port, .. } = endpoint;
        let how = LoginLeg {
            host,
            tls: self.tls.of(host, *port),
            trusts_any: self.trusts_any_server,
            named_by: NamedBy::from(&endpoint.origin),
        };
        log_in(config, how, &mut ByName(endpoint)).await
    }
}

/// Makes connections to one server.
pub(crate) trait Dial: Send {
    /// Makes one.
    fn dial(&mut self) -> impl Future<Output = io::Result<ServerStream>> + Send;
}

/// By the address that is known, or whatever its name leads to.
struct ByName<'a>(&'a Endpoint);

impl Dial for ByName<'_> {
    async fn dial(&mut self) -> io::Result<ServerStream> {
        ServerStream::to(self.0).await
    }
}

/// Whom a login is for, and how it gets there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginLeg<'a> {
    pub(crate) host: &'a str,
    pub(crate) tls: Option<&'a ServerTls>,
    pub(crate) trusts_any: bool,
    pub(crate) named_by: NamedBy,
}

impl LoginLeg<'_> {
    /// Whether nobody but the server can read what is sent on `stream`.
    fn protects(&self, stream: &ServerStream) -> bool {
        match stream {
            ServerStream::Unix(_) => true,
            ServerStream::Tls(_) => self.tls.is_some_and(|tls| tls.mode().is_verified()),
            ServerStream::Tcp(_) => false,
        }
    }
}

/// Logs in to `host`: on another connection, if the server refuses one of this kind and `sslmode` allows the other.
pub(crate) async fn log_in(
    config: &Config,
    leg: LoginLeg<'_>,
    dialer: &mut impl Dial,
) -> Result<LoggedIn, MonitorLoginError> {
    let LoginLeg { host, tls, trusts_any, named_by } = leg;
    let mut config = config.clone();
    // The library neither asks for TLS nor begins it: it binds the login to what is there.
    config.ssl_negotiation(SslNegotiation::Direct);
    let order = tls.map_or(&[Encryption::Plain][..], |tls| tls.mode().order());
    let mut last = None;
    for (at, &kind) in order.iter().enumerate() {
        let may_go_on = at + 1 < order.len();
        let stream = dialer.dial().await.map_err(MonitorLoginError::Connect)?;
        let stream = match (kind, tls) {
            (Encryption::Tls, Some(tls)) => match encrypt(stream, host, tls).await {
                Ok(stream) => stream,
                // As sessions do it, and libpq.
                Err(StartTlsError::Handshake(error)) if may_go_on => {
                    last = Some(MonitorLoginError::Tls(error));
                    continue;
                }
                Err(error) => return Err(MonitorLoginError::Tls(error.into())),
            },
            (Encryption::Plain | Encryption::Tls, _) => stream,
        };
        let is_encrypted = matches!(stream, ServerStream::Tls(_));
        let is_of_kind = is_encrypted == (kind == Encryption::Tls);
        config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
        let protects = trusts_any || leg.protects(&stream);
        let stream = GuardedStream::new(stream, protects, named_by);
        match config.connect_raw(stream, AsItIs).await {
            Ok(logged_in) => return Ok(logged_in),
            Err(error) if may_go_on && is_of_kind && refuses_kind(&error) => {
                last = Some(MonitorLoginError::Login(error));
            }
            // What was wrong with the first kind is what the operator must know, unless the other got further.
            Err(error) => match last {
                Some(first) if refuses_kind(&error) => return Err(first),
                _ => return Err(MonitorLoginError::Login(error)),
            },
        }
    }
    Err(last.unwrap_or_else(|| MonitorLoginError::Connect(io::ErrorKind::NotConnected.into())))
}

/// Whether a server refuses connections of this kind: it has no entry in pg_hba.conf for it.
fn refuses_kind(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// TLS on the connection; the plain one if the server has none and that is enough.
async fn encrypt(stream: ServerStream, host: &str, tls: &ServerTls) -> Result<ServerStream, StartTlsError> {
    use StartTlsError::{Handshake, Unanswered};
    let ServerStream::Tcp(mut stream) = stream else { return Ok(stream) };
    if tls.negotiation() == Negotiation::Postgres {
        stream.write_all(&SSL_REQUEST).await.map_err(Unanswered)?;
        // One byte and no more: what a stranger adds to the answer is read as TLS, and fails there.
        match stream.read_u8().await.map_err(Unanswered)? {
            b'S' => {}
            b'N' if !tls.mode().must_encrypt() => return Ok(ServerStream::Tcp(stream)),
            answer => return Err(Unanswered(wrong_answer(answer))),
        }
    }
    let (config, name) = tls.for_library(host).map_err(|error| Handshake(io::Error::other(error)))?;
    let failed = match tls.negotiation() {
        Negotiation::Postgres => Handshake,
        Negotiation::Direct => begun_unasked,
    };
    let stream: tokio_rustls::client::TlsStream<TcpStream> =
        TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
    if tls.negotiation() == Negotiation::Direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(Handshake(no_protocol()));
    }
    Ok(ServerStream::Tls(Box::new(stream)))
}

/// The SQLSTATE and the words for a login without a password where the server asks for one. The server would say the same
/// of an empty one.
pub const PASSWORD_MISSING: (&str, &str) = (
    "28P01",
    "the server asks for a password, and none is set: set TRUNKLINE__MONITOR__PASSWORD or [monitor] password",
);

/// Whether a login failed because the server asks for a password and the configuration has none.
#[must_use]
pub fn lacks_password(error: &tokio_postgres::Error) -> bool {
    // The library has no kind for it that can be asked for.
    std::error::Error::source(error).is_some_and(|cause| cause.to_string() == "password missing")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::net::TcpListener;
    use trunkline_tls::connect::{ConnectSettings, ServerSslMode};

    use super::*;

    /// Connections that were made before.
    struct Prepared(VecDeque<ServerStream>);

    impl Dial for Prepared {
        async fn dial(&mut self) -> io::Result<ServerStream> {
            self.0.pop_front().ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
        }
    }

    /// Why a login fails at a server that answers the request for TLS so and closes, and what the next connection to it gets.
    async fn refused(sslmode: ServerSslMode, answer: &[u8]) -> (MonitorLoginError, Vec<u8>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (mut ours, mut theirs) = (VecDeque::new(), Vec::new());
        for _ in 0..2 {
            ours.push_back(ServerStream::Tcp(TcpStream::connect(address).await.expect("it listens")));
            theirs.push(listener.accept().await.expect("it connects").0);
        }
        let (mut again, mut first) = (theirs.pop().expect("the second"), theirs.pop().expect("the first"));
        let serve = async move {
            let mut request = [0; 8];
            first.read_exact(&mut request).await.expect("it asks");
            assert_eq!(request, SSL_REQUEST);
            first.write_all(answer).await.expect("it reads");
            drop(first);
            let mut packet = vec![0; 1000];
            let count = again.read(&mut packet).await.expect("it writes, or ends");
            packet.truncate(count);
            packet
        };
        let settings = ConnectSettings { sslmode, ..ConnectSettings::default() };
        let tls = ServerTls::load(&settings).expect("no file is read");
        let leg = LoginLeg {
            host: "db.example",
            tls: tls.as_ref(),
            trusts_any: false,
            named_by: NamedBy::Operator,
        };
        let mut config = Config::new();
        config.user("monitor");
        let login = async {
            let mut dialer = Prepared(ours);
            log_in(&config, leg, &mut dialer).await.err().expect("nobody lets it in")
        };
        tokio::join!(login, serve)
    }

    #[tokio::test]
    async fn prefer_goes_on_without_tls_only_where_the_server_agrees_and_the_handshake_fails() {
        for answer in [&b"S"[..], b"SSSH-2.0-OpenSSH_9.2\r\n"] {
            let (error, packet) = refused(ServerSslMode::Prefer, answer).await;
            assert!(matches!(error, MonitorLoginError::Login(_)), "{error}");
            assert!(packet.windows(7).any(|part| part == b"monitor"), "{packet:?}");
        }
        for answer in [&b"E\0\0\0\x25SFATAL\0C53300\0Mtoo many clients\0\0"[..], b"", b"X"] {
            let (error, packet) = refused(ServerSslMode::Prefer, answer).await;
            assert!(matches!(error, MonitorLoginError::Tls(_)), "{error}");
            assert!(packet.is_empty(), "{packet:?}");
        }
    }

    #[tokio::test]
    async fn require_never_goes_on_without_tls() {
        for answer in [&b"S"[..], b"N", b"E", b""] {
            let (error, packet) = refused(ServerSslMode::Require, answer).await;
            assert!(matches!(error, MonitorLoginError::Tls(_)), "{error}");
            assert!(packet.is_empty(), "{packet:?}");
        }
    }
}
