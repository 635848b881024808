//! A CancelRequest reaches the query it is meant for, and never another.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use trunkline_cluster::Server;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::CancelRequest;
use trunkline_tests::{Auth, Endpoint, Wire, eventually, own_cluster, shared_cluster};

fn running(server: &Server, marker: &str) -> bool {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity
         WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%{marker}%')"
    );
    server.psql(&sql).unwrap() == "t"
}

fn await_running(marker: &str) {
    let servers = || shared_cluster().servers();
    eventually(Duration::from_secs(30), "the query runs", || servers().any(|server| running(server, marker)));
}

#[test]
fn cancel_ends_the_query_that_runs_and_the_session_goes_on() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        // Several sessions on both replicas: the right one is told from the others.
        let mut sessions: Vec<Wire> = (0..6).map(|_| Wire::login(endpoint.reads())).collect();
        for (index, wire) in sessions.iter_mut().enumerate() {
            wire.send_query(&format!("SELECT pg_sleep(60) /* {auth:?} cancel {index} */"));
        }
        for (index, wire) in sessions.iter_mut().enumerate() {
            await_running(&format!("{auth:?} cancel {index}"));
            wire.cancel(endpoint.reads());
            let answer = wire.read_answer();
            assert_eq!(answer.error.unwrap().code, "57014", "{auth:?} {index}");
            assert_eq!(wire.value("SELECT 1"), "1");
        }
    }
}

#[test]
fn a_cancel_hits_no_other_session() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let idle: Vec<Wire> = (0..4).map(|_| Wire::login(endpoint.reads())).collect();
    let mut busy: Vec<Wire> = (0..4).map(|_| Wire::login(endpoint.reads())).collect();
    for wire in &mut busy {
        wire.send_query("SELECT 'whole' FROM pg_sleep(2) /* not to be cancelled */");
    }
    await_running("not to be cancelled");
    for _ in 0..20 {
        for wire in &idle {
            wire.cancel(endpoint.reads());
        }
    }
    for wire in &mut busy {
        assert_eq!(wire.read_answer().value(), "whole");
    }
}

#[test]
fn a_late_cancel_does_not_hit_the_next_query() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut wire = Wire::login(endpoint.reads());
    for _ in 0..50 {
        assert_eq!(wire.value("SELECT 1"), "1");
        wire.cancel(endpoint.reads());
    }
    // The server may get the last signal after a query behind it has begun, with or without a proxy. This one may be hit.
    let _hit_or_not = wire.query("SELECT pg_sleep(0.1)");
    assert_eq!(wire.value("SELECT 'whole' FROM pg_sleep(0.2)"), "whole");
}

#[test]
fn a_wrong_key_cancels_nothing() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut wire = Wire::login(endpoint.reads());
    let key_data = wire.key_data.clone().unwrap();
    let (process_id, key) = key_data.split_first_chunk().unwrap();
    wire.send_query("SELECT 'whole' FROM pg_sleep(1) /* wrong key */");
    await_running("wrong key");
    for bit in 0..8 * key.len() {
        let mut wrong = key.to_vec();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let process_id = ProcessId(i32::from_be_bytes(*process_id));
        let mut packet = bytes::BytesMut::new();
        CancelRequest { process_id, secret_key: SecretKey::new(&wrong).unwrap() }.encode(&mut packet);
        let mut other = Wire::connect(endpoint.reads());
        other.send(&packet);
        assert_eq!(other.read_to_end().as_deref(), Some(&[][..]));
    }
    assert_eq!(wire.read_answer().value(), "whole");
}

#[test]
fn keys_differ_and_are_not_the_servers_own() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let sessions: Vec<Wire> = (0..50).map(|_| Wire::login(endpoint.reads())).collect();
    let mut keys: Vec<Vec<u8>> = sessions.iter().map(|wire| wire.key_data.clone().unwrap()).collect();
    for key in &keys {
        assert_eq!(key.len(), 8, "protocol 3.0 has keys of 4 bytes");
    }
    // The server itself knows none of them.
    let mut victim = Wire::login(endpoint.reads());
    victim.send_query("SELECT 'whole' FROM pg_sleep(1) /* own key */");
    await_running("own key");
    for server in shared_cluster().servers() {
        victim.cancel(server.port());
    }
    assert_eq!(victim.read_answer().value(), "whole");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 50);
}

#[test]
fn a_cancel_during_copy_in_reaches_the_server() {
    let cluster = own_cluster(0);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let endpoint = Endpoint::over(&cluster).start();
    let mut wire = Wire::login(endpoint.writes());
    wire.send_query("COPY t FROM STDIN");
    assert_eq!(wire.read_message().unwrap().tag, b'G');
    wire.cancel(endpoint.writes());
    // The server acts on it at the next CopyData.
    let deadline = Instant::now() + Duration::from_secs(30);
    wire.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let error = loop {
        wire.send(b"d\0\0\0\x061\n");
        if let Ok(message) = wire.read_message() {
            break trunkline_tests::ServerError::parse(&message.body);
        }
        assert!(Instant::now() < deadline, "the cancel did not arrive");
    };
    assert_eq!(error.code, "57014");
}

#[test]
fn a_cancel_of_a_session_that_left_is_closed_without_a_word() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let wire = Wire::login(endpoint.reads());
    let packet = wire.cancel_packet();
    drop(wire);
    for _ in 0..10 {
        let mut other = Wire::connect(endpoint.reads());
        other.send(&packet);
        assert_eq!(other.read_to_end().as_deref(), Some(&[][..]));
    }
}
