//! What holds of every client's records, however broken; the fuzz target and the tests run these.
#![expect(unreachable_pub, reason = "public for the fuzz target, which shares this file")]

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use trunkline_tls::{ALPN, Records, testing};

/// More than a server answers any handshake with: a certificate, and records around it.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Both ends as a listener has them, with certificates of this process.
fn configs() -> &'static (Arc<ServerConfig>, Arc<ClientConfig>) {
    static CONFIGS: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let (mut server, client) = testing::configs();
        Arc::make_mut(&mut server).alpn_protocols = vec![ALPN.to_vec()];
        (server, client)
    })
}

/// What a server has made of a client's bytes.
#[derive(Default, PartialEq, Eq)]
struct Outcome {
    /// Of the bytes given to it after its handshake.
    plain: Vec<u8>,
    may_seal: bool,
    is_closed: bool,
    error: Option<String>,
}

/// A server that is given bytes in pieces of this size.
struct Server {
    records: Records,
    piece: usize,
    outcome: Outcome,
}

impl Server {
    fn new(piece: usize) -> Self {
        let records = Records::server(Arc::clone(&configs().0)).expect("the configuration is fit");
        Self { records, piece, outcome: Outcome::default() }
    }

    /// Returns what TLS itself answers.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for piece in bytes.chunks(self.piece) {
            let plain = &mut self.outcome.plain;
            let before = plain.len();
            let opened =
                self.records.open(&mut piece.to_vec(), |some| plain.extend_from_slice(some), &mut answer);
            // Bytes that did not come in are none that come out.
            assert!(plain.len() - before <= bytes.len(), "plaintext out of nowhere");
            match opened {
                Ok(opened) => {
                    self.outcome.may_seal |= opened.may_seal;
                    self.outcome.is_closed |= opened.is_closed;
                }
                Err(error) => {
                    self.outcome.error = Some(error.to_string());
                    self.stays_ended();
                    break;
                }
            }
            assert!(self.outcome.may_seal || self.outcome.plain.is_empty(), "plaintext before the keys");
        }
        assert!(answer.len() <= ANSWER_BYTES_MAX + bytes.len(), "{} bytes answered", answer.len());
        answer
    }

    /// Nothing is opened or sealed after an error.
    fn stays_ended(&mut self) {
        let mut answer = Vec::new();
        let opened = self.records.open(&mut [0x16, 3, 1, 0, 0], |_| panic!("plaintext"), &mut answer);
        assert!(opened.is_err() && answer.is_empty());
        assert!(self.records.seal(b"x", &mut vec![0; Records::room_for(1)]).is_err());
    }
}

/// A server shaken hands with, and the client.
fn shaken(piece: usize) -> (Server, Records) {
    let mut server = Server::new(piece);
    let name = ServerName::try_from("db.example").expect("it is a name");
    let mut client = Records::client(Arc::clone(&configs().1), name).expect("the configuration is fit");
    let mut to_server = Vec::new();
    client.open(&mut [], |_| {}, &mut to_server).expect("it begins");
    while !server.outcome.may_seal {
        let mut to_client = server.take(&to_server);
        to_server.clear();
        client.open(&mut to_client, |_| {}, &mut to_server).expect("the server is whom it trusts");
    }
    (server, client)
}

/// What a client sends, by the first byte: 1 for records after a handshake, 3 for plaintext that is sealed after one,
/// others for records from the handshake on. The outcome is the same wherever the bytes are cut.
pub fn client_records(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let mut before = None;
    for piece in [usize::MAX, 1, 7] {
        let outcome = match kind {
            1 => {
                let (mut server, _client) = shaken(piece);
                server.take(bytes);
                server.outcome
            }
            3 => {
                let (mut server, mut client) = shaken(piece);
                let mut space = vec![0; Records::room_for(bytes.len())];
                let length = client.seal(bytes, &mut space).expect("the handshake is complete");
                server.take(&space[..length]);
                assert!(server.outcome.error.is_none() && server.outcome.plain == bytes);
                server.outcome
            }
            _ => {
                let mut server = Server::new(piece);
                server.take(bytes);
                server.outcome
            }
        };
        match &before {
            None => before = Some(outcome),
            Some(before) => assert!(
                *before == outcome,
                "in pieces of {piece}: {:?} and {:?}",
                before.error,
                outcome.error
            ),
        }
    }
}
