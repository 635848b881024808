//! Memory stays flat, whatever clients do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::time::Duration;

use bytes::BytesMut;
use trunkline_codec::write;
use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, Impostor, Login, Wire, eventually, own_cluster, shared_cluster,
    tls_is_on,
};

const MIB: u64 = 1024 * 1024;
/// What a session, a large value or a stuck client may cost in all: buffers of fixed size, and the allocator's own.
const FLAT: u64 = 24 * MIB;
/// What one idle session may cost, in bytes: two sockets and their bookkeeping.
const IDLE_SESSION_MAX: u64 = 8 * 1024;
/// What TLS may cost on top, on each of its two connections.
const IDLE_TLS_MAX: u64 = 4 * 1024;

fn endpoint() -> EndpointBuilder {
    Endpoint::over(shared_cluster())
}

/// Reads one message's body away; how long it was and a sum of its bytes.
fn swallow(wire: &mut Wire, length: usize) -> (usize, u64) {
    let mut left = length;
    let mut sum = 0u64;
    let mut chunk = vec![0; 256 * 1024];
    while left > 0 {
        let want = left.min(chunk.len());
        let read = wire.stream.read(&mut chunk[..want]).unwrap();
        assert!(read > 0, "the connection ended {left} bytes early");
        sum += chunk[..read].iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>();
        left -= read;
    }
    (length, sum)
}

#[test]
fn a_value_of_a_gigabyte_passes_both_ways() {
    let endpoint = endpoint().start();
    let before = endpoint.resident_bytes();
    let size = 1_000_000_000;
    let mut wire = Wire::login(endpoint.reads());
    wire.stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    wire.send_query(&format!("SELECT repeat('x', {size})"));
    let mut peak = before;
    loop {
        let (tag, length) = wire.read_header().unwrap();
        let (swallowed, _) = swallow(&mut wire, length);
        peak = peak.max(endpoint.resident_bytes());
        if tag == b'D' {
            assert_eq!(swallowed, 2 + 4 + size);
        }
        if tag == b'Z' {
            break;
        }
    }
    // The other way: a statement of 500 MB, written piece by piece.
    let literal = 500_000_000usize;
    let text = "SELECT length('";
    let end = "')\0";
    let length = u32::try_from(4 + text.len() + literal + end.len()).unwrap();
    let mut sender = wire.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        sender.write_all(b"Q").unwrap();
        sender.write_all(&length.to_be_bytes()).unwrap();
        sender.write_all(text.as_bytes()).unwrap();
        let piece = vec![b'y'; 1_000_000];
        for _ in 0..literal / piece.len() {
            sender.write_all(&piece).unwrap();
        }
        sender.write_all(end.as_bytes()).unwrap();
    });
    while !writer.is_finished() {
        peak = peak.max(endpoint.resident_bytes());
        std::thread::sleep(Duration::from_millis(20));
    }
    writer.join().unwrap();
    assert_eq!(wire.read_answer().value(), literal.to_string());
    assert!(peak - before < FLAT, "memory grew by {} MiB", (peak - before) / MIB);
}

#[test]
fn a_client_that_stops_reading_costs_nothing_and_harms_nobody() {
    let endpoint = endpoint().key("runtime.threads", "1").start();
    let mut other = Wire::login(endpoint.reads());
    let before = endpoint.resident_bytes();
    let mut stuck: Vec<Wire> = (0..20).map(|_| Wire::login(endpoint.reads())).collect();
    for wire in &mut stuck {
        wire.send_query("SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000) i");
    }
    let mut peak = before;
    for _ in 0..100 {
        assert_eq!(other.value("SELECT 1"), "1");
        peak = peak.max(endpoint.resident_bytes());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(peak - before < FLAT, "memory grew by {} MiB", (peak - before) / MIB);
    // Reading on, the answer is whole.
    let wire = &mut stuck[0];
    let mut rows = 0;
    loop {
        let message = wire.read_message().unwrap();
        rows += u64::from(message.tag == b'D');
        if message.tag == b'Z' {
            break;
        }
    }
    assert_eq!(rows, 1_000_000);
}

#[test]
fn a_client_that_only_writes_is_slowed_and_not_hoarded() {
    let endpoint = endpoint().start();
    let before = endpoint.resident_bytes();
    let mut wire = Wire::login(endpoint.reads());
    wire.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut batch = BytesMut::new();
    for index in 0..1000 {
        write::parse(&mut batch, format!("s{index}").as_bytes(), b"SELECT repeat('x', 1000)", &[]).unwrap();
    }
    write::flush(&mut batch);
    // No answer is ever read: sooner or later the proxy stops reading as well.
    let mut sent = 0u64;
    while sent < 2_000 * MIB && wire.stream.write_all(&batch).is_ok() {
        sent += batch.len() as u64;
    }
    let grown = endpoint.resident_bytes().saturating_sub(before);
    assert!(grown < FLAT, "memory grew by {} MiB after {} MiB", grown / MIB, sent / MIB);
    assert_eq!(Wire::login(endpoint.reads()).value("SELECT 1"), "1");
}

#[test]
fn a_thousand_idle_sessions_cost_little_and_are_given_back() {
    // Two handshakes for each take their time.
    let (count, most) = match tls_is_on() {
        true => (1000, IDLE_SESSION_MAX + 2 * IDLE_TLS_MAX),
        false => (5000, IDLE_SESSION_MAX),
    };
    let cluster = own_cluster(2);
    let [one, two] = [0, 1].map(|index| Impostor::of(cluster.replicas[index].port()));
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Relay)
        .through("replica1", one.port())
        .through("replica2", two.port())
        .start();
    // A first crowd pays for what is allocated once.
    drop((0..200).map(|_| Wire::login(endpoint.reads())).collect::<Vec<_>>());
    let before = endpoint.resident_bytes();
    let sessions: Vec<Wire> = (0..count).map(|_| Login::of("app", "x").connect(endpoint.reads())).collect();
    let grown = endpoint.resident_bytes().saturating_sub(before);
    assert!(grown / count < most, "{} bytes for each of {} idle sessions", grown / count, sessions.len());
    println!("an idle session costs {} bytes", grown / count);
    drop(sessions);
    eventually(Duration::from_secs(20), "a new crowd fits in the same memory", || {
        drop((0..100).map(|_| Wire::login(endpoint.reads())).collect::<Vec<_>>());
        endpoint.resident_bytes() < before + grown + FLAT
    });
}
