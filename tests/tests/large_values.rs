//! Values far larger than any buffer go both ways whole, and memory does not grow with them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use bytes::BytesMut;
use trunkline_codec::write;
use trunkline_tests::{Auth, Endpoint, Wire, shared_cluster, tls_is_on};

const MIB: u64 = 1024 * 1024;
/// The length of a value, of no multiple of a record or a buffer.
const LENGTH: usize = 64 * 1024 * 1024 + 4321;
/// What values that pass may cost in all: buffers of fixed size, and the allocator's own.
const FLAT: u64 = 16 * MIB;

/// Text that repeats nowhere: a piece that is lost, doubled or in another place changes it.
fn text() -> String {
    let mut random = 1u64;
    let mut text = String::with_capacity(LENGTH + 16);
    while text.len() < LENGTH {
        // Knuth, The Art of Computer Programming 2, 3.3.4, MMIX.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{random:016x}"));
    }
    text.truncate(LENGTH);
    text
}

/// The most memory that the process has had in RAM, in bytes. Source: proc(5), `VmHWM` of /proc/pid/status.
fn resident_bytes_max(endpoint: &Endpoint) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", endpoint.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// A statement that holds the value, and one that is given it.
fn requests(text: &str) -> [BytesMut; 2] {
    let [mut literal, mut parameter] = [BytesMut::new(), BytesMut::new()];
    write::query(&mut literal, format!("SELECT '{text}'").as_bytes()).unwrap();
    write::parse(&mut parameter, b"", b"SELECT $1::text", &[]).unwrap();
    write::bind(&mut parameter, b"", b"", [Some(text.as_bytes())]).unwrap();
    write::execute(&mut parameter, b"", 0).unwrap();
    write::sync(&mut parameter);
    [literal, parameter]
}

#[test]
fn large_values_go_both_ways_byte_for_byte_in_flat_memory() {
    let text = text();
    let requests = requests(&text);
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        let mut wire = Wire::login(endpoint.reads());
        let leg = wire.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        assert_eq!(leg, if tls_is_on() { "t" } else { "f" }, "{auth:?}: TLS with the server");
        let before = endpoint.resident_bytes();
        for request in &requests {
            wire.send(request);
            let answer = wire.read_answer();
            assert!(answer.error.is_none(), "{auth:?}: {:?}", answer.error);
            // Not by assert_eq: a message of 128 MiB helps nobody.
            assert!(answer.value() == text, "{auth:?}: another value of {} bytes", answer.value().len());
        }
        let grown = resident_bytes_max(&endpoint).saturating_sub(before);
        assert!(grown < FLAT, "{auth:?}: memory grew by {} MiB", grown / MIB);
    }
}
