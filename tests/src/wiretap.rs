//! What connections begin with, seen on the way to their server.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::Acceptor;
use trunkline_cluster::PortLease;

/// Of what each client sends, what is kept; a ClientHello is shorter.
const KEPT_BYTES_MAX: usize = 4096;
/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;
/// What asks for TLS. Source: PostgreSQL, protocol-message-formats, SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// The first byte of a TLS handshake. Source: RFC 8446, 5.1.
const TLS_HANDSHAKE: u8 = 0x16;

/// How a client has begun a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overheard {
    /// It has not said enough yet.
    Unfinished,
    /// Without TLS.
    Plain,
    /// By TLS.
    Tls {
        /// How that was begun.
        begun: TlsBeginning,
        /// Whom the client has named as the one that it wants (SNI).
        server_name: Option<String>,
    },
}

/// How TLS was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsBeginning {
    /// With an SSLRequest.
    Asked,
    /// At once.
    AtOnce,
}

/// Carries connections from a port of its own to a server, and keeps what each begins with. New ones are taken until the
/// process ends.
#[derive(Debug)]
pub struct Wiretap {
    lease: PortLease,
    kept: Kept,
}

/// The first bytes of each connection.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

impl Wiretap {
    /// A wiretap before the port `server` of 127.0.0.1.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn before(server: u16) -> Self {
        let lease = PortLease::take().expect("a port is free");
        let listener = TcpListener::bind(("127.0.0.1", lease.port())).expect("the port is leased");
        let kept = Kept::default();
        let wiretap = Self { lease, kept: Arc::clone(&kept) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is not there is no concern of a wiretap.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                carry(client, server, &kept);
            }
        });
        wiretap
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lease.port()
    }

    /// How each connection has begun, in their order.
    #[must_use]
    pub fn overheard(&self) -> Vec<Overheard> {
        locked(&self.kept).iter().map(|bytes| Overheard::of(bytes)).collect()
    }
}

impl Overheard {
    fn of(bytes: &[u8]) -> Self {
        let (begun, rest) = match bytes.strip_prefix(&SSL_REQUEST) {
            Some(rest) => (TlsBeginning::Asked, rest),
            None if SSL_REQUEST.starts_with(bytes) => return Self::Unfinished,
            None => (TlsBeginning::AtOnce, bytes),
        };
        match rest.first() {
            None => return Self::Unfinished,
            Some(&TLS_HANDSHAKE) => {}
            Some(_) => return Self::Plain,
        }
        let mut hello = Acceptor::default();
        let mut rest = rest;
        hello.read_tls(&mut rest).expect("memory does not fail");
        match hello.accept().map_err(|(error, _alert)| error).expect("it begins as TLS does") {
            None => Self::Unfinished,
            Some(hello) => {
                let server_name = hello.client_hello().server_name().map(str::to_owned);
                Self::Tls { begun, server_name }
            }
        }
    }
}

fn locked(kept: &Kept) -> MutexGuard<'_, Vec<Vec<u8>>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry(client: TcpStream, server: TcpStream, kept: &Kept) {
    let index = {
        let mut all = locked(kept);
        all.push(Vec::new());
        all.len() - 1
    };
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be had twice");
    let (from_server, to_client) = (clone(&server), clone(&client));
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        pump(client, server, |bytes| {
            let mut all = locked(&kept);
            let room = KEPT_BYTES_MAX - all[index].len();
            all[index].extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
    });
    std::thread::spawn(move || pump(from_server, to_client, |_| {}));
}

/// Carries bytes one way until either end is gone, and tells the other.
fn pump(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut chunk = [0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        see(&chunk[..count]);
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    // It may be gone already.
    let _gone = to.shutdown(Shutdown::Write);
    let _gone = from.shutdown(Shutdown::Read);
}
