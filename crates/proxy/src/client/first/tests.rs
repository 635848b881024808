//! What comes first, in any order and cut anywhere.

use std::path::Path;

use trunkline_codec::limits::STARTUP_PACKET_MAX;
use trunkline_codec::startup::{gssenc_request, ssl_request};
use trunkline_net::memory;
use trunkline_reactor::block_on;
use trunkline_telemetry::metrics::Metrics;
use trunkline_tls::accept::{AcceptSettings, SELF_SIGNED};

use super::*;

fn seed(name: &str) -> Vec<u8> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    std::fs::read(corpus.join(name)).expect("it is checked in")
}

/// Packets and records; the byte that says how a record is sent is not among them.
fn pieces() -> Vec<Vec<u8>> {
    let packet = |encode: fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        encode(&mut out);
        out.to_vec()
    };
    let record = |name: &str| seed(&format!("client_records/{name}"))[1..].to_vec();
    vec![
        packet(ssl_request),
        packet(gssenc_request),
        seed("startup/select"),
        seed("startup/cancel"),
        record("psql_15"),
        record("psql_18_direct"),
        record("openssl_tls12"),
        record("two_records"),
        record("alert"),
        record("too_long"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

/// What a client that sends these bytes and then no more is answered, and what it has asked for.
async fn outcome(bytes: &[u8], read_max: usize, tls: &Acceptor) -> (Vec<u8>, StartupOutcome) {
    let (client, server) = memory::pair(1 << 16);
    server.set_read_max(read_max);
    assert_eq!(client.try_write(bytes).expect("there is room"), bytes.len());
    client.shut_down();
    let metrics = Metrics::new(1).thread(0);
    let mut stream = Transport::Memory(server);
    let packet_bytes_max = usize::try_from(STARTUP_PACKET_MAX).expect("it is small");
    let outcome = read_startup(&mut stream, packet_bytes_max, Some(tls), &metrics).await;
    (client.peek_unread(), outcome)
}

#[test]
fn first_bytes_in_any_order_come_to_an_outcome_and_none_in_the_clear_count_after_a_yes() {
    let settings = AcceptSettings { cert_file: Some(SELF_SIGNED.to_owned()), ..AcceptSettings::default() };
    let tls = Acceptor::load(&settings).expect("it is made").expect("clients may use TLS");
    let pieces = pieces();
    let none = Vec::new();
    let with_none = || pieces.iter().chain(std::iter::once(&none));
    let mut sessions = 0;
    let all = async {
        for first in &pieces {
            for (second, third) in
                with_none().flat_map(|second| with_none().map(move |third| (second, third)))
            {
                let bytes = [first.as_slice(), second, third].concat();
                for read_max in [1, 9, usize::MAX] {
                    let (answer, outcome) = outcome(&bytes, read_max, &tls).await;
                    let has_begun = answer.contains(&b'S') || first.first() == Some(&TLS_HANDSHAKE);
                    let is_let_in =
                        matches!(outcome, StartupOutcome::Startup { .. } | StartupOutcome::Cancel(_));
                    assert!(!(has_begun && is_let_in), "{bytes:?}: {answer:?}, {outcome:?}");
                    sessions += u32::from(is_let_in);
                }
            }
        }
    };
    block_on(all).expect("a thread of its own");
    assert!(sessions > 0, "some say nothing of TLS");
}
