use rustls::unbuffered::ConnectionState;

use super::driven::End as _;
use super::*;
use crate::testing::configs;

fn name(name: &'static str) -> ServerName<'static> {
    ServerName::try_from(name).unwrap()
}

/// An end and what was sent to it.
struct Peer {
    records: Records,
    plain: Vec<u8>,
    may_seal: bool,
    is_closed: bool,
}

impl Peer {
    fn new(records: Records) -> Self {
        Self { records, plain: Vec::new(), may_seal: false, is_closed: false }
    }

    /// Takes these bytes; returns the answer.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, TlsError> {
        let mut out = Vec::new();
        let plain = &mut self.plain;
        let mut bytes = bytes.to_vec();
        let opened = self.records.open(&mut bytes, |some| plain.extend_from_slice(some), &mut out)?;
        self.may_seal |= opened.may_seal;
        self.is_closed |= opened.is_closed;
        Ok(out)
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut space = vec![0; Records::room_for(plain.len())];
        let written = self.records.seal(plain, &mut space).unwrap();
        space.truncate(written);
        space
    }
}

/// Both ends after a handshake, whose bytes came in pieces of this size.
fn pair(piece: usize) -> (Peer, Peer) {
    let (server, client) = crate::testing::records();
    shaken(Peer::new(server), Peer::new(client), piece)
}

fn shaken(mut server: Peer, mut client: Peer, piece: usize) -> (Peer, Peer) {
    let mut to_server = client.take(&[]).unwrap();
    while !(server.may_seal && client.may_seal) {
        let mut to_client = Vec::new();
        to_server.chunks(piece).for_each(|some| to_client.extend(server.take(some).unwrap()));
        to_server = Vec::new();
        to_client.chunks(piece).for_each(|some| to_server.extend(client.take(some).unwrap()));
    }
    (server, client)
}

#[test]
fn what_is_sealed_is_opened_wherever_its_bytes_are_cut() {
    let sent: Vec<u8> = (0..50_000_u32).flat_map(|n| n.to_be_bytes()).collect();
    for piece in [1, 7, 1000, 100_000] {
        let (mut server, mut client) = pair(piece);
        let sealed = client.seal(&sent);
        for some in sealed.chunks(piece) {
            assert_eq!(server.take(some).unwrap(), b"");
        }
        assert_eq!(server.plain, sent);
        let sealed = server.seal(b"an answer");
        client.take(&sealed).unwrap();
        assert_eq!(client.plain, b"an answer");
    }
}

#[test]
fn a_record_is_complete_with_its_last_byte() {
    let (server, client) = configs();
    let mut server = Peer::new(Records::server(server).unwrap());
    let mut client = Peer::new(Records::client(client, name("db.example")).unwrap());
    let hello = client.take(&[]).unwrap();
    assert!(server.records.completes_record(&hello) && !server.records.completes_record(&[]));
    for (at, byte) in hello.iter().enumerate() {
        let is_last = at + 1 == hello.len();
        assert_eq!(server.records.completes_record(&[*byte]), is_last, "{at}");
        assert_eq!(server.take(&[*byte]).unwrap().is_empty(), !is_last);
    }
}

#[test]
fn room_for_plaintext_is_room_enough() {
    let (mut server, _client) = pair(100_000);
    for length in [0, 1, RECORD_PLAIN_MAX - 1, RECORD_PLAIN_MAX, RECORD_PLAIN_MAX + 1, 300_000] {
        let plain = vec![b'x'; length];
        assert!(server.seal(&plain).len() <= Records::room_for(length), "{length}");
    }
}

#[test]
fn an_end_that_closes_says_so() {
    let (mut server, mut client) = pair(100_000);
    let mut last = client.seal(b"bye");
    client.records.close(&mut last);
    server.take(&last).unwrap();
    assert_eq!(server.plain, b"bye");
    assert!(server.is_closed);
    let sealed = server.seal(b"still answered");
    client.take(&sealed).unwrap();
    assert_eq!(client.plain, b"still answered");
}

#[test]
fn a_peer_that_is_refused_is_told_why() {
    let (server, client) = configs();
    let mut server = Peer::new(Records::server(server).unwrap());
    let mut client = Peer::new(Records::client(client, name("other.example")).unwrap());
    let hello = client.take(&[]).unwrap();
    let answer = server.take(&hello).unwrap();
    let mut out = Vec::new();
    let refused = client.records.open(&mut answer.clone(), |_| {}, &mut out).unwrap_err();
    assert!(refused.to_string().contains("not for host name"), "{refused}");
    let told = server.take(&out).unwrap_err();
    assert!(told.to_string().contains("BadCertificate"), "{told}");
}

#[test]
fn a_client_that_names_another_protocol_is_told_so() {
    let (mut server, mut client) = configs();
    Arc::make_mut(&mut server).alpn_protocols = vec![crate::ALPN.to_vec()];
    Arc::make_mut(&mut client).alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut server = Records::server(server).unwrap();
    let mut client = Peer::new(Records::client(client, name("db.example")).unwrap());
    let mut out = Vec::new();
    let mut hello = client.take(&[]).unwrap();
    let error = server.open(&mut hello, |_| {}, &mut out).unwrap_err();
    assert!(matches!(error.0, Error::NoApplicationProtocol), "{error}");
    // It comes behind the ServerHello, whose keys it is sealed with.
    let told = client.take(&out).unwrap_err();
    assert_eq!(told.0, Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
}

#[test]
fn an_end_that_failed_goes_on_with_nothing() {
    let (mut server, mut client) = pair(100_000);
    let mut sealed = client.seal(b"x");
    *sealed.last_mut().unwrap() ^= 1;
    for _again in 0..2 {
        let refused = server.take(&sealed).unwrap_err();
        assert!(refused.to_string().contains("cannot decrypt peer's message"), "{refused}");
        assert!(server.records.seal(b"y", &mut [0; 1000]).is_err());
    }
    let mut out = Vec::new();
    server.records.close(&mut out);
    assert_eq!((out.as_slice(), server.plain.as_slice()), (&b""[..], &b""[..]));
}

#[test]
fn an_end_whose_keys_are_used_up_fails_and_says_goodbye() {
    let (server, client) = crate::testing::records_for(3, u64::MAX);
    let (mut server, mut client) = shaken(Peer::new(server), Peer::new(client), 100_000);
    for _within in 0..2 {
        let sealed = server.seal(b"an answer");
        client.take(&sealed).unwrap();
    }
    for _again in 0..2 {
        let refused = server.records.seal(b"an answer", &mut [0; 1000]).unwrap_err();
        assert!(refused.to_string().contains("as many records as they may"), "{refused}");
    }
    let mut goodbye = Vec::new();
    server.records.close(&mut goodbye);
    client.take(&goodbye).unwrap();
    assert!(client.is_closed && client.plain == b"an answeran answer");
}

/// The beginning of a handshake message of this type that announces 60,000 bytes, in records of one byte.
fn endless(message: u8, records: usize) -> Vec<u8> {
    let bytes = [message, 0, 0xea, 0x60].into_iter().chain(std::iter::repeat(0));
    bytes.take(records).flat_map(|byte| [22, 3, 3, 0, 1, byte]).collect()
}

#[test]
fn a_client_that_announces_a_long_hello_is_refused_by_an_alert() {
    for (piece, asked) in [(100, AskedOfClient::Nothing), (100_000, AskedOfClient::Certificate)] {
        let mut server = Records::server(configs().0).unwrap().presenting(None, asked);
        let mut out = Vec::new();
        let sealed = endless(1, CLIENT_REST_MAX / 6 + 1);
        let (last, before) = sealed.split_last().unwrap();
        for some in before[..CLIENT_REST_MAX].chunks(piece) {
            let opened = server.open(&mut some.to_vec(), |_| {}, &mut out);
            assert!(opened.is_ok() && out.is_empty(), "{opened:?}");
        }
        let opened = server.open(&mut [&before[CLIENT_REST_MAX..], &[*last]].concat(), |_| {}, &mut out);
        assert!(opened.unwrap_err().to_string().contains("handshake is too long"));
        assert_eq!(out, TOO_LONG_ALERT);
        assert_eq!(server.rest.capacity(), 0);
    }
}

#[test]
fn only_a_client_that_is_asked_for_a_certificate_may_send_a_long_message() {
    let (config, client) = configs();
    for (asked, rest_max) in
        [(AskedOfClient::Nothing, CLIENT_REST_MAX), (AskedOfClient::Certificate, REST_MAX)]
    {
        let server = Records::server(Arc::clone(&config)).unwrap().presenting(None, asked);
        let client = Records::client(Arc::clone(&client), name("db.example")).unwrap();
        let (mut server, mut client) = (Peer::new(server), Peer::new(client));
        assert_eq!(server.records.rest_max(), CLIENT_REST_MAX);
        let flight = server.take(&client.take(&[]).unwrap()).unwrap();
        assert_eq!(server.records.rest_max(), rest_max);
        server.take(&client.take(&flight).unwrap()).unwrap();
        assert_eq!(server.records.rest_max(), CLIENT_REST_MAX, "it has shown its chain");
        // A record of the largest kind fits.
        let sealed = client.seal(&[b'x'; RECORD_PLAIN_MAX]);
        sealed.chunks(sealed.len() - 1).for_each(|some| assert_eq!(server.take(some).unwrap(), b""));
        assert_eq!(server.plain.len(), RECORD_PLAIN_MAX);
    }
}

#[test]
fn bytes_that_are_no_tls_are_refused() {
    let mut server = Peer::new(Records::server(configs().0).unwrap());
    let refused = server.take(b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap_err();
    assert!(refused.to_string().contains("corrupt message"), "{refused}");
}

#[test]
fn a_new_key_is_answered_before_the_next_plaintext() {
    let (mut server, mut client) = pair(100_000);
    let Side::Client(end) = &mut client.records.side else { panic!("it is the client") };
    match end.process(&mut []).state.unwrap() {
        ConnectionState::WriteTraffic(traffic) => traffic.refresh_traffic_keys().unwrap(),
        other => panic!("{other:?}"),
    }
    let (old, mut sealed) = (client.seal(b""), client.seal(b"a query"));
    sealed.splice(..0, old);
    server.take(&sealed).unwrap();
    assert_eq!(server.plain, b"a query");
    for _both_keys in 0..2 {
        client.plain.clear();
        let sealed = server.seal(b"an answer");
        client.take(&sealed).unwrap();
        assert_eq!(client.plain, b"an answer");
    }
}

#[test]
fn costly_is_what_signatures_and_keys_are_computed_for() {
    let (server, client) = configs();
    for asked in [AskedOfClient::Nothing, AskedOfClient::Certificate] {
        let server = Records::server(Arc::clone(&server)).unwrap();
        let mut server = Peer::new(server.presenting(None, asked));
        let mut client = Peer::new(Records::client(Arc::clone(&client), name("db.example")).unwrap());
        let hello = client.take(&[]).unwrap();
        assert!(server.records.is_costly(&hello));
        let flight = server.take(&hello).unwrap();
        assert!(client.records.is_costly(&flight));
        let finished = client.take(&flight).unwrap();
        assert_eq!(server.records.is_costly(&finished), asked == AskedOfClient::Certificate);
        server.take(&finished).unwrap();
        assert!(server.may_seal);
    }
}

#[test]
fn a_hello_that_is_repeated_is_as_costly() {
    let (_, client) = configs();
    let made = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    // A client sends a key for its first group only.
    let mut provider = rustls::crypto::CryptoProvider::clone(client.crypto_provider());
    provider.kx_groups.drain(..1);
    let server =
        ServerConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    let mut server =
        Peer::new(Records::server(Arc::new(server)).unwrap().presenting(None, AskedOfClient::Nothing));
    let mut client = Peer::new(Records::client(client, name("db.example")).unwrap());
    let retry = server.take(&client.take(&[]).unwrap()).unwrap();
    let again = client.take(&retry).unwrap();
    assert!(server.records.is_costly(&again));
    let Side::Server(end) = &server.records.side else { panic!("it is the server") };
    assert_eq!(end.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
}
