//! Both sides of SCRAM against a peer that says anything.

use std::sync::LazyLock;

use trunkline_codec::scram::{ChannelBinding, ClientExchange, Credentials, ServerExchange, Verifier};

/// Nonces of RFC 7677's example, so that its messages are seeds that get through to the end.
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: &[u8] = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";

static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::from_password(b"pencil", SALT, 4096).expect("4096 iterations are legal"));

static CREDENTIALS: LazyLock<Credentials> = LazyLock::new(|| Credentials::ClientKey {
    client_key: VERIFIER.check_password(b"pencil").expect("the verifier's own password"),
    server_key: VERIFIER.server_key().clone(),
});

/// The first byte is the channel binding; client-first, a line feed, client-final follow.
pub fn scram_server(data: &[u8]) {
    let Some((selector, messages)) = data.split_first() else { return };
    let (first, last) = split_line(messages);
    let mut exchange = ServerExchange::new(VERIFIER.clone(), SERVER_NONCE, binding(*selector));
    if exchange.handle_client_first(first).is_ok()
        && let Ok((_, client_key)) = exchange.handle_client_final(last)
    {
        assert!(VERIFIER.accepts(&client_key));
    }
    assert!(exchange.handle_client_final(last).is_err(), "an exchange is over after its last message");
    assert!(exchange.handle_client_first(first).is_err(), "and does not begin again");
    check_mock(first, last, binding(*selector));
    if let Some(verifier) = std::str::from_utf8(messages).ok().and_then(|text| Verifier::parse(text).ok()) {
        let read_again = Verifier::parse(&verifier.to_string()).expect("what it shows it reads");
        assert!(verifier.is_same_as(&read_again));
    }
}

/// Nobody logs in as a user who does not exist.
fn check_mock(first: &[u8], last: &[u8], binding: ChannelBinding) {
    let mut mock = ServerExchange::new(Verifier::mock(b"nonce", b"nobody"), SERVER_NONCE, binding);
    if mock.handle_client_first(first).is_ok() {
        assert!(mock.handle_client_final(last).is_err());
    }
}

/// The first byte is the channel binding; server-first, a line feed, server-final follow.
pub fn scram_client(data: &[u8]) {
    let Some((selector, messages)) = data.split_first() else { return };
    let (first, last) = split_line(messages);
    let mut exchange = ClientExchange::new(CREDENTIALS.clone(), CLIENT_NONCE, binding(*selector));
    exchange.client_first().expect("the first step of an exchange");
    if let Ok(client_final) = exchange.handle_server_first(first) {
        assert!(client_final.starts_with(b"c="));
        let _ = exchange.handle_server_final(last);
    }
    assert!(exchange.handle_server_final(last).is_err(), "an exchange is over after its last message");
    assert!(exchange.handle_server_first(first).is_err());
}

fn binding(selector: u8) -> ChannelBinding {
    match selector % 3 {
        0 => ChannelBinding::Unsupported,
        1 => ChannelBinding::Unused,
        _ => ChannelBinding::TlsServerEndPoint(Box::new([0xA5; 32])),
    }
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&b| b == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
