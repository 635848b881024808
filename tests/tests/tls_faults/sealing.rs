//! Servers whose records a test has in its hands: what they say is what a real one says.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use trunkline_cluster::{Cluster, PortLease};
use trunkline_tests::{Certificates, await_read};

use super::PATIENCE;

/// The statements that a misdeed is for have this in them: probes and the proxy's own do not.
const MARK: &[u8] = b"misdeed";
/// Bytes of the real server that are sealed at once.
const CHUNK: usize = 8 * 1024;
/// Of what is cut anywhere, so many bytes are in one record: no message begins where a record does.
const PIECE: usize = 30;
/// Of what is sent with new keys, so many.
const PIECE_OF_KEYS: usize = 2 * 1024;
/// A record of the right length that is sealed with no key.
const FORGED: &[u8] = b"\x17\x03\x03\0\x20................................";
/// More new keys at one time than anybody has a use for.
const KEYS_TOO_MANY: usize = 100;

/// What is done to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misdeed {
    /// Its records are cut there, and the rest follows when the beginning was read.
    SentInTwo(usize),
    /// They are cut behind every byte.
    ByteByByte,
    /// New keys go before each piece of this answer and of all that follow, and behind them.
    NewKeys,
    /// So many bytes of its records are sent, and the connection ends without a close_notify.
    EndsWithin(usize),
    /// So many bytes of plaintext are sent, and then this.
    Breaks(usize, Break),
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// It ends, without a close_notify.
    End,
    /// A close_notify says that no more comes, and the connection stays.
    Goodbye,
    /// A fatal alert.
    Alert,
    /// One in the clear.
    ClearAlert,
    /// A record that is sealed with no key.
    Forged,
    /// The header of one that is longer than any may be.
    TooLong,
    /// Bytes that are no record.
    NoTls,
    /// New keys and nothing else, again and again.
    KeysAlone,
}

impl Break {
    pub(super) const ALL: [Self; 8] = [
        Self::End,
        Self::Goodbye,
        Self::Alert,
        Self::ClearAlert,
        Self::Forged,
        Self::TooLong,
        Self::NoTls,
        Self::KeysAlone,
    ];
}

/// In front of the replicas of a cluster, each on a port of its own, until the test's process ends.
pub(super) struct SealingServers {
    leases: Vec<PortLease>,
    common: Arc<Common>,
}

struct Common {
    config: Arc<ServerConfig>,
    /// For the next marked statement, whichever of the servers gets it.
    next: Mutex<Option<Misdeed>>,
    /// Bytes of the records that were last cut.
    length: AtomicUsize,
}

impl SealingServers {
    pub(super) fn of(cluster: &Cluster, version: &'static SupportedProtocolVersion) -> Self {
        let [certificate, key] = Certificates::shared().server();
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = ServerConfig::builder_with_protocol_versions(&[version]).with_no_client_auth();
        let config = Arc::new(config.with_single_cert(chain, key).unwrap());
        let common = Arc::new(Common { config, next: Mutex::default(), length: AtomicUsize::new(0) });
        let leases = cluster.replicas.iter().map(|replica| {
            let lease = PortLease::take().unwrap();
            let listener = TcpListener::bind(("127.0.0.1", lease.port())).unwrap();
            // There it asks for no TLS.
            let socket = cluster.socket_dir().join(format!(".s.PGSQL.{}", replica.port()));
            let common = Arc::clone(&common);
            std::thread::spawn(move || {
                for proxy in listener.incoming().flatten() {
                    let (socket, common) = (socket.clone(), Arc::clone(&common));
                    // Whoever goes amid the handshake is no concern of this.
                    std::thread::spawn(move || drop(serve(proxy, &socket, &common)));
                }
            });
            lease
        });
        Self { leases: leases.collect(), common }
    }

    /// The port in front of each replica.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        self.leases.iter().map(PortLease::port)
    }

    /// The next marked statement is answered so.
    pub(super) fn prepare(&self, misdeed: Misdeed) {
        *self.common.next.lock().unwrap() = Some(misdeed);
    }

    /// Whether no misdeed waits for its statement.
    pub(super) fn have_done_it(&self) -> bool {
        self.common.next.lock().unwrap().is_none()
    }

    /// Bytes of the records that were last cut.
    pub(super) fn length(&self) -> usize {
        self.common.length.load(Ordering::Relaxed)
    }
}

fn serve(mut proxy: TcpStream, socket: &PathBuf, common: &Common) -> io::Result<()> {
    proxy.set_nodelay(true)?;
    let mut request = [0; 8];
    proxy.read_exact(&mut request)?;
    proxy.write_all(b"S")?;
    let mut tls = ServerConnection::new(Arc::clone(&common.config)).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut proxy)?;
    }
    let server = UnixStream::connect(socket)?;
    let connection = Sealed { proxy, server, tls: Mutex::new(tls), next: Mutex::default(), common };
    std::thread::scope(|scope| {
        scope.spawn(|| drop(connection.seal_answers()));
        let _gone = connection.open_requests();
        let _gone = connection.server.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// One connection: TLS with the proxy, none with the real server.
struct Sealed<'a> {
    proxy: TcpStream,
    server: UnixStream,
    tls: Mutex<ServerConnection>,
    /// For the next answer.
    next: Mutex<Option<Misdeed>>,
    common: &'a Common,
}

impl Sealed<'_> {
    /// Carries what the proxy says, until it goes.
    fn open_requests(&self) -> io::Result<()> {
        let mut came = [0; CHUNK];
        loop {
            let mut plain = Vec::new();
            // The first time, what came behind the handshake.
            let mut tls = self.tls.lock().unwrap();
            if let Err(error) = tls.reader().read_to_end(&mut plain)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                return Err(error);
            }
            // The answer to new keys of the proxy.
            self.send(&written(&mut tls)?)?;
            drop(tls);
            if plain.windows(MARK.len()).any(|some| some == MARK) {
                *self.next.lock().unwrap() = self.common.next.lock().unwrap().take();
            }
            (&self.server).write_all(&plain)?;
            let count = (&self.proxy).read(&mut came)?;
            if count == 0 {
                return Ok(());
            }
            let mut records = &came[..count];
            let mut tls = self.tls.lock().unwrap();
            while !records.is_empty() {
                tls.read_tls(&mut records)?;
                if tls.process_new_packets().is_err() {
                    // This end has broken off, and the connection is the proxy's to end.
                    drop(tls);
                    return io::copy(&mut &self.proxy, &mut io::sink()).map(drop);
                }
            }
        }
    }

    /// Carries what the server says, until it ends or the connection does.
    fn seal_answers(&self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let count = (&self.server).read(&mut chunk)?;
            let answer = &chunk[..count];
            // Held until the records are sent: they must be in their order.
            let mut tls = self.tls.lock().unwrap();
            if answer.is_empty() {
                tls.send_close_notify();
                self.send(&written(&mut tls)?)?;
                return self.proxy.shutdown(Shutdown::Write);
            }
            let misdeed = self.next.lock().unwrap().take();
            match misdeed {
                None => self.send(&sealed(&mut tls, answer, CHUNK)?)?,
                Some(Misdeed::SentInTwo(cut)) => self.send_cut(&mut tls, answer, |at| at == cut)?,
                Some(Misdeed::ByteByByte) => self.send_cut(&mut tls, answer, |_| true)?,
                Some(Misdeed::NewKeys) => {
                    for piece in answer.chunks(PIECE_OF_KEYS) {
                        self.send(&new_keys(&mut tls)?)?;
                        self.send(&sealed(&mut tls, piece, PIECE_OF_KEYS)?)?;
                    }
                    self.send(&new_keys(&mut tls)?)?;
                    *self.next.lock().unwrap() = misdeed;
                }
                Some(Misdeed::EndsWithin(cut)) => {
                    let records = sealed(&mut tls, answer, PIECE)?;
                    self.common.length.store(records.len(), Ordering::Relaxed);
                    self.send(&records[..cut.min(records.len())])?;
                    return self.proxy.shutdown(Shutdown::Both);
                }
                Some(Misdeed::Breaks(cut, how)) => {
                    self.send(&sealed(&mut tls, &answer[..cut.min(answer.len())], CHUNK)?)?;
                    return match how {
                        Break::End => self.proxy.shutdown(Shutdown::Both),
                        _ => self.send(&last_records(&mut tls, how)?),
                    };
                }
            }
        }
    }

    fn send(&self, records: &[u8]) -> io::Result<()> {
        (&self.proxy).write_all(records)
    }

    /// Sends an answer whose records are cut behind so many bytes: each part when that before it was read.
    fn send_cut(
        &self,
        tls: &mut ServerConnection,
        answer: &[u8],
        is_cut: impl Fn(usize) -> bool,
    ) -> io::Result<()> {
        let records = sealed(tls, answer, PIECE)?;
        self.common.length.store(records.len(), Ordering::Relaxed);
        let mut begin = 0;
        for end in (1..records.len()).filter(|&at| is_cut(at)).chain([records.len()]) {
            self.send(&records[begin..end])?;
            await_read(&self.proxy, PATIENCE);
            begin = end;
        }
        Ok(())
    }
}

/// The records of these bytes, so many in each.
fn sealed(tls: &mut ServerConnection, plain: &[u8], each: usize) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    for piece in plain.chunks(each) {
        tls.writer().write_all(piece)?;
        records.append(&mut written(tls)?);
    }
    Ok(records)
}

/// The record that says that this end has new keys, and wants such of the other.
fn new_keys(tls: &mut ServerConnection) -> io::Result<Vec<u8>> {
    tls.refresh_traffic_keys().map_err(io::Error::other)?;
    written(tls)
}

/// What a connection is broken by.
fn last_records(tls: &mut ServerConnection, how: Break) -> io::Result<Vec<u8>> {
    Ok(match how {
        Break::End => Vec::new(),
        Break::Goodbye => {
            tls.send_close_notify();
            written(tls)?
        }
        Break::Alert => {
            // This end believes that it was sent what it cannot open.
            tls.read_tls(&mut &FORGED[..])?;
            tls.process_new_packets().unwrap_err();
            written(tls)?
        }
        Break::ClearAlert => vec![0x15, 3, 3, 0, 2, 2, 40],
        Break::Forged => FORGED.to_vec(),
        Break::TooLong => vec![0x17, 3, 3, 0x48, 1],
        Break::NoTls => b"SELECT 'what else';".to_vec(),
        Break::KeysAlone => {
            let mut records = Vec::new();
            for _ in 0..KEYS_TOO_MANY {
                records.append(&mut new_keys(tls)?);
            }
            records
        }
    })
}

/// The records that an end has to send.
fn written(tls: &mut ServerConnection) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records)?;
    }
    Ok(records)
}
