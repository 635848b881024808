//! The records of one connection: plaintext is sealed into them and opened from them.
//!
//! The caller has the buffers of whole records. What is kept here is the beginning of a record that is not whole yet, and
//! handshake messages in pieces: rustls refers to their place in the bytes, and panics if it is not given them again
//! with each call. A session at rest keeps nothing.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, Error, HandshakeKind, ProtocolVersion, ServerConfig};

use self::driven::{close, last_words, open, seal};
use crate::EndPoint;
use crate::ciphers::Negotiated;

mod driven;
mod secret;

/// Type, version and length of a record. Source: RFC 8446, 5.1.
const HEADER_BYTES: usize = 5;
/// The most plaintext of one record. Source: RFC 8446, 5.1.
const RECORD_PLAIN_MAX: usize = 16 * 1024;
/// The most that sealing adds to the plaintext of a record: header, explicit nonce (TLS 1.2), content type, tag.
/// Source: RFC 5246, 6.2.3.3; RFC 8446, 5.2.
const RECORD_EXTRA_MAX: usize = HEADER_BYTES + 8 + 1 + 16;
/// A KeyUpdate or an alert that goes before them.
const MESSAGE_EXTRA_MAX: usize = 128;
/// The most that is kept of the peer: a handshake message in pieces, such as a chain of certificates. rustls takes none
/// that is longer. Source: rustls, msgs/deframer/mod.rs, `MAX_HANDSHAKE_SIZE` (64 KiB), and the headers of its pieces.
const REST_MAX: usize = 128 * 1024;
/// The most that is kept of a client that is not to show a chain of certificates now: a record of the largest kind (18 KiB in
/// TLS 1.2), and many times a ClientHello, which takes 2 KiB with keys that resist quantum computers. Whoever connects has so
/// much of the proxy's memory before anything is known of it.
const CLIENT_REST_MAX: usize = 20 * 1024;
/// What a client is told in the clear that sends more at the beginning: alert, fatal, illegal_parameter, as by OpenSSL.
/// Source: RFC 8446, 6; OpenSSL, ssl/statem/statem.c, SSL_R_EXCESSIVE_MESSAGE_SIZE.
const TOO_LONG_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 47];

/// One end of a TLS connection.
pub struct Records {
    side: Side,
    /// Bytes of the peer that rustls is not done with.
    rest: Vec<u8>,
    /// Of the certificate that a server presents.
    own_end_point: Option<Arc<EndPoint>>,
    asked: AskedOfClient,
    /// What is opened is a secret: no copy of it is to stay.
    opens_secrets: bool,
    /// The handshake is complete, and what belongs to it is sent.
    is_settled: bool,
    /// Why nothing is sealed or opened any more: rustls is not asked again after an error.
    failure: Option<Box<TlsError>>,
}

/// What a client is asked to prove in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedOfClient {
    /// Nothing.
    Nothing,
    /// Who it is, by a certificate; it may have none.
    Certificate,
}

/// rustls's connections take kilobytes: they are not moved through every future that holds one.
enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// Why a connection cannot go on. An alert for the peer is among the bytes to send, if TLS has one.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", crate::words::of(.0))]
pub struct TlsError(#[from] rustls::Error);

/// What bytes of the peer have led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The handshake is complete: plaintext can be sealed.
    pub may_seal: bool,
    /// The peer has said that it sends no more (close_notify).
    pub is_closed: bool,
}

impl Records {
    /// The side that was connected to.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self::of(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    /// The side that connects, to a server of this name.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        Ok(Self::of(Side::Client(Box::new(UnbufferedClientConnection::new(config, name)?))))
    }

    fn of(side: Side) -> Self {
        Self {
            side,
            rest: Vec::new(),
            own_end_point: None,
            asked: AskedOfClient::Certificate,
            opens_secrets: false,
            is_settled: false,
            failure: None,
        }
    }

    /// Whether `sealed`, which follows what came before, may take a signature or a key exchange to open. Little is to be
    /// computed before a record is whole, and for the Finished of a client that proves nothing: by then the server has
    /// computed its keys. Source: RFC 8446, 2.
    #[must_use]
    pub fn is_costly(&self, sealed: &[u8]) -> bool {
        self.completes_record(sealed) && !self.awaits_finished()
    }

    /// Whether nothing but a Finished is left of the handshake.
    fn awaits_finished(&self) -> bool {
        match &self.side {
            Side::Server(end) => {
                self.asked == AskedOfClient::Nothing
                    && end.protocol_version() == Some(ProtocolVersion::TLSv1_3)
                    // Not known before the ServerHello, and another one where a ClientHello is to be repeated.
                    && end.handshake_kind() == Some(HandshakeKind::Full)
            }
            Side::Client(_) => false,
        }
    }

    fn completes_record(&self, sealed: &[u8]) -> bool {
        let mut bytes = self.rest.iter().chain(sealed).skip(HEADER_BYTES - 2);
        let (Some(&high), Some(&low)) = (bytes.next(), bytes.next()) else { return false };
        self.rest.len() + sealed.len() >= HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]))
    }

    /// Opens the records in `sealed`, which follows what came before: the plaintext of those that are whole goes to
    /// `plain`, what TLS itself has to send is appended to `out`.
    ///
    /// # Errors
    /// When the peer breaks the protocol, or is refused: the connection is over once `out` is sent.
    pub fn open(
        &mut self,
        sealed: &mut [u8],
        plain: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        self.check()?;
        let opened = self.open_more(sealed, plain, out);
        self.is_settled |= opened.as_ref().is_ok_and(|opened| opened.may_seal);
        self.note(opened)
    }

    fn open_more(
        &mut self,
        sealed: &mut [u8],
        plain: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        let opened = if self.opens_secrets {
            self.open_secret(sealed, plain, out)
        } else if self.rest.is_empty() {
            let (done, opened) = self.side.open(sealed, self.is_settled, plain, out);
            self.rest.extend_from_slice(&sealed[done..]);
            opened
        } else {
            self.rest.extend_from_slice(sealed);
            let (done, opened) = self.side.open(&mut self.rest, self.is_settled, plain, out);
            self.rest.drain(..done);
            if self.rest.is_empty() {
                self.rest = Vec::new();
            }
            opened
        };
        let opened = opened?;
        if self.rest.len() > self.rest_max() {
            self.rest = Vec::new();
            if self.is_before_hello() {
                out.extend_from_slice(&TOO_LONG_ALERT);
            }
            return Err(TlsError(Error::General("a message of its handshake is too long".into())));
        }
        Ok(opened)
    }

    /// The most that is kept of the peer now.
    fn rest_max(&self) -> usize {
        match &self.side {
            Side::Server(_) if self.is_before_hello() || self.is_settled => CLIENT_REST_MAX,
            Side::Server(_) if self.asked == AskedOfClient::Nothing => CLIENT_REST_MAX,
            Side::Server(_) | Side::Client(_) => REST_MAX,
        }
    }

    /// Whether a server waits for a ClientHello.
    fn is_before_hello(&self) -> bool {
        matches!(&self.side, Side::Server(end) if end.protocol_version().is_none())
    }

    fn check(&self) -> Result<(), TlsError> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(TlsError::clone(failure)))
    }

    fn note<T>(&mut self, outcome: Result<T, TlsError>) -> Result<T, TlsError> {
        outcome.inspect_err(|error| self.failure = Some(Box::new(error.clone())))
    }

    /// Bytes that [`Self::seal`] may need for so many bytes of plaintext.
    #[must_use]
    pub fn room_for(plain: usize) -> usize {
        plain + plain.div_ceil(RECORD_PLAIN_MAX) * RECORD_EXTRA_MAX + MESSAGE_EXTRA_MAX
    }

    /// Seals `plain` into `space`, which has [`Self::room_for`] it. Returns how many bytes of it are to be sent: all of
    /// them, and in this order.
    ///
    /// # Errors
    /// When the handshake is not complete, or the keys are used up.
    pub fn seal(&mut self, plain: &[u8], space: &mut [u8]) -> Result<usize, TlsError> {
        self.check()?;
        let sealed = match &mut self.side {
            Side::Server(end) => seal(end.as_mut(), &mut self.rest, plain, space),
            Side::Client(end) => seal(end.as_mut(), &mut self.rest, plain, space),
        };
        self.note(sealed)
    }

    /// The protocol that both ends have named (ALPN), after the handshake.
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Server(end) => end.alpn_protocol(),
            Side::Client(end) => end.alpn_protocol(),
        }
    }

    /// The peer's own certificate in DER, after the handshake; whoever demands one has verified it by then.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = match &self.side {
            Side::Server(end) => end.peer_certificates(),
            Side::Client(end) => end.peer_certificates(),
        };
        chain?.first().map(AsRef::as_ref)
    }

    /// Notes what a client of this server binds its login to, and what it is asked for.
    #[must_use]
    pub fn presenting(self, own_end_point: Option<Arc<EndPoint>>, asked: AskedOfClient) -> Self {
        Self { own_end_point, asked, ..self }
    }

    /// What a login over this connection can be bound to, after the handshake: the server's certificate.
    #[must_use]
    pub fn end_point(&self) -> Option<EndPoint> {
        match &self.side {
            Side::Server(_) => self.own_end_point.as_deref().cloned(),
            Side::Client(end) => end.peer_certificates()?.first().and_then(EndPoint::of),
        }
    }

    /// Version and cipher, once the handshake has agreed on them.
    #[must_use]
    pub fn negotiated(&self) -> Option<Negotiated> {
        match &self.side {
            Side::Server(end) => Negotiated::of(end),
            Side::Client(end) => Negotiated::of(end),
        }
    }

    /// Why nothing is sealed or opened any more.
    #[must_use]
    pub fn failure(&self) -> Option<&TlsError> {
        self.failure.as_deref()
    }

    /// Says that no more plaintext comes (close_notify), in what is appended to `out`.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        match self.failure.as_deref() {
            None => {}
            // Alerts can be sealed even now, and rustls has one ready.
            Some(TlsError(Error::EncryptError)) => return self.side.last_words(&mut self.rest, out),
            Some(_of_the_peer) => return,
        }
        let mut space = [0; MESSAGE_EXTRA_MAX];
        let written = match &mut self.side {
            Side::Server(end) => close(end.as_mut(), &mut self.rest, &mut space),
            Side::Client(end) => close(end.as_mut(), &mut self.rest, &mut space),
        };
        out.extend_from_slice(&space[..written]);
    }
}

impl Side {
    fn open(
        &mut self,
        sealed: &mut [u8],
        is_settled: bool,
        plain: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> (usize, Result<Opened, TlsError>) {
        match self {
            Side::Server(end) => open(end.as_mut(), sealed, is_settled, plain, out),
            Side::Client(end) => open(end.as_mut(), sealed, is_settled, plain, out),
        }
    }

    fn last_words(&mut self, rest: &mut [u8], out: &mut Vec<u8>) {
        match self {
            Side::Server(end) => last_words(end.as_mut(), rest, out),
            Side::Client(end) => last_words(end.as_mut(), rest, out),
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.side {
            Side::Server(_) => "Records(server)",
            Side::Client(_) => "Records(client)",
        })
    }
}

#[cfg(test)]
mod tests;
