//! Where clients connect, and how.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trunkline_codec::startup::ssl_request;

/// Who begins with TLS, in the words of libpq's `sslnegotiation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Negotiation {
    /// SSLRequest, and TLS when the server agrees.
    Postgres,
    /// TLS from the first byte on.
    Direct,
}

/// A port of 127.0.0.1.
#[derive(Clone)]
pub struct Endpoint {
    /// The port.
    pub port: u16,
    /// Plain without.
    pub tls: Option<(Negotiation, TlsConnector)>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let negotiation = self.tls.as_ref().map(|(negotiation, _)| negotiation);
        f.debug_struct("Endpoint").field("port", &self.port).field("tls", &negotiation).finish()
    }
}

impl Endpoint {
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let address = Ipv4Addr::LOCALHOST;
        let mut stream = TcpStream::connect((address, self.port)).await?;
        stream.set_nodelay(true)?;
        let Some((negotiation, connector)) = &self.tls else { return Ok(Stream::Plain(stream)) };
        if *negotiation == Negotiation::Postgres {
            let mut request = BytesMut::new();
            ssl_request(&mut request);
            stream.write_all(&request).await?;
            if stream.read_u8().await? != b'S' {
                return Err(io::Error::other("the server has no TLS"));
            }
        }
        let name = ServerName::IpAddress(IpAddr::V4(address).into());
        Ok(Stream::Tls(Box::new(connector.connect(name, stream).await?)))
    }
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer).await,
            Stream::Tls(stream) => stream.read(buffer).await,
        }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }
}
