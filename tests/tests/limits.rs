//! Every bound holds at the limit and one beyond it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;
use std::time::{Duration, Instant};

use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, Login, ServerError, Wire, binary, eventually, shared_cluster,
};

fn endpoint() -> EndpointBuilder {
    Endpoint::over(shared_cluster())
}

fn too_many(error: &ServerError) {
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "53300"), "{error:?}");
}

#[test]
fn connections_in_all() {
    let endpoint = endpoint().key("limits.connections_max", "5").start();
    let mut held: Vec<Wire> = (0..5).map(|_| Wire::login(endpoint.reads())).collect();
    too_many(&Login::default().try_connect(endpoint.reads()).unwrap_err());
    too_many(&Login::default().try_connect(endpoint.writes()).unwrap_err());
    held.pop();
    eventually(Duration::from_secs(30), "there is room again", || {
        Login::default().try_connect(endpoint.reads()).is_ok()
    });
    assert!(held.iter_mut().all(|wire| wire.value("SELECT 1") == "1"), "those inside are not disturbed");
}

#[test]
fn connections_of_one_address() {
    let endpoint = endpoint().key("limits.connections_per_address_max", "3").start();
    let _held: Vec<Wire> = (0..3).map(|_| Wire::login(endpoint.reads())).collect();
    too_many(&Login::default().try_connect(endpoint.reads()).unwrap_err());
}

#[test]
fn silent_connections_make_room_for_clients() {
    let endpoint = endpoint().key("limits.startups_max", "8").key("runtime.threads", "1").start();
    let mut silent: Vec<Wire> = (0..20).map(|_| Wire::connect(endpoint.reads())).collect();
    assert_eq!(Wire::login(endpoint.reads()).value("SELECT 1"), "1");
    too_many(&silent[0].read_answer().error.unwrap());
    let log = endpoint.log();
    assert_eq!(log.matches("that have not sent a startup packet").count(), 1, "one line for all: {log}");
}

#[test]
fn a_client_without_a_descriptor_is_told_so_at_once() {
    let endpoint = endpoint().start();
    let open = std::fs::read_dir(format!("/proc/{}/fd", endpoint.pid())).unwrap();
    // As many as are open: only what the gaps between their numbers leave is free.
    let files = open.count();
    let lower = ["--pid".to_owned(), endpoint.pid().to_string(), format!("--nofile={files}:")];
    assert!(Command::new("prlimit").args(lower).status().unwrap().success());
    let mut held = Vec::new();
    let refused = (0..64).find_map(|_| {
        let mut wire = Wire::connect(endpoint.reads());
        wire.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let said = wire.read_message().ok();
        held.push(wire);
        said
    });
    let refused = ServerError::parse(&refused.expect("the descriptors are used up").body);
    too_many(&refused);
}

#[test]
fn connections_of_one_user() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = endpoint().auth(auth).key("limits.connections_per_user_max", "3").start();
        let _held: Vec<Wire> = (0..3).map(|_| Wire::login(endpoint.reads())).collect();
        too_many(&Login::default().try_connect(endpoint.reads()).unwrap_err());
        assert_eq!(Login::of("app", "app secret").connect(endpoint.reads()).value("SELECT 1"), "1");
    }
}

#[test]
fn sessions_that_the_primary_takes_in_the_replicas_place() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let endpoint = endpoint()
        .key("health.fallback.primary_connections_max", "1")
        .key("timeouts.acquire", "\"500ms\"")
        .flag("--admin", socket.to_str().unwrap())
        .start();
    for replica in &shared_cluster().replicas {
        let drain = ["drain", replica.name(), "--admin", socket.to_str().unwrap()];
        assert!(Command::new(binary()).args(drain).status().unwrap().success());
        endpoint.await_health(replica.name(), false, Duration::from_secs(15));
    }
    let name = |mut wire: Wire| (wire.value("SHOW cluster_name"), wire);
    // Those that belong on the primary are not counted ...
    let _writers = [(); 2].map(|()| Wire::login(endpoint.writes()));
    let (server, reader) = name(Wire::login(endpoint.reads()));
    assert_eq!(server, "primary");
    // ... and not turned away.
    let refused = Login::default().try_connect(endpoint.reads()).unwrap_err();
    assert_eq!((refused.severity.as_str(), refused.code.as_str()), ("FATAL", "57P03"), "{refused:?}");
    assert_eq!(name(Wire::login(endpoint.writes())).0, "primary");
    drop(reader);
    eventually(Duration::from_secs(30), "there is room again", || {
        Login::default().try_connect(endpoint.reads()).is_ok()
    });
}

/// A startup packet of `length` bytes in all, valid but for that.
fn startup_of(length: usize) -> Vec<u8> {
    let fixed = b"\0\x03\0\0user\0postgres\0database\0appdb\0application_name\0\0\0";
    let filler = length - 4 - fixed.len();
    let mut packet = u32::try_from(length).unwrap().to_be_bytes().to_vec();
    packet.extend_from_slice(&fixed[..fixed.len() - 2]);
    packet.extend(std::iter::repeat_n(b'x', filler));
    packet.extend_from_slice(b"\0\0");
    packet
}

#[test]
fn startup_packet_size() {
    let cluster = shared_cluster();
    let endpoint = endpoint().start();
    let first = |port, packet: &[u8]| {
        let mut wire = Wire::connect(port);
        wire.send(packet);
        wire.read_message().map(|message| message.tag).ok()
    };
    for (length, answer) in [(9_999, Some(b'R')), (10_000, Some(b'R')), (10_005, None)] {
        let packet = startup_of(length);
        assert_eq!(packet.len(), length);
        assert_eq!(first(cluster.replicas[0].port(), &packet), answer, "the server's own answer to {length}");
        assert_eq!(first(endpoint.reads(), &packet), answer, "{length}");
    }
    for packet in [
        &b"\0\0\0\x07\0\x03\0"[..],
        b"\0\0\0\0\0\0\0\0",
        b"\x7f\xff\xff\xff\0\x03\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(first(endpoint.reads(), packet), None, "{packet:?}");
    }
}

#[test]
fn login_time() {
    let endpoint = endpoint().key("timeouts.login", "\"1s\"").start();
    let ends_in_time = |mut wire: Wire| {
        let start = Instant::now();
        let _last_words = wire.read_to_end().expect("it is ended");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    };
    // Silence, half a startup packet, and a startup packet without the password that is asked for.
    ends_in_time(Wire::connect(endpoint.reads()));
    let mut half = Wire::connect(endpoint.reads());
    half.send(&Login::default().packet()[..10]);
    ends_in_time(half);
    let mut silent = Wire::connect(endpoint.reads());
    silent.send(&Login::default().packet());
    assert_eq!(silent.read_message().unwrap().tag, b'R');
    ends_in_time(silent);
    // A byte now and then does not buy time.
    let mut slow = Wire::connect(endpoint.reads());
    let start = Instant::now();
    slow.stream.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    for byte in Login::default().packet() {
        if std::io::Write::write_all(&mut slow.stream, &[byte]).is_err() {
            break;
        }
        let mut end = [0];
        match std::io::Read::read(&mut slow.stream, &mut end) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn idle_time() {
    let endpoint = endpoint()
        .key("timeouts.idle_session", "\"1s\"")
        .key("timeouts.idle_in_transaction", "\"500ms\"")
        .start();
    let mut busy = Wire::login(endpoint.reads());
    busy.send_query("SELECT 'whole' FROM pg_sleep(2)");
    let mut idle = Wire::login(endpoint.reads());
    let mut in_transaction = Wire::login(endpoint.reads());
    assert!(in_transaction.query("BEGIN").error.is_none());
    let start = Instant::now();
    let error = in_transaction.read_answer().error.unwrap();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "25P03"), "{error:?}");
    let error = idle.read_answer().error.unwrap();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "57P05"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(busy.read_answer().value(), "whole", "a running query is not idle");
}
