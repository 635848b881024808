//! The process id a client is told is its server's, and what comes of that; and what a message of no known type ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use bytes::BytesMut;
use trunkline_cluster::StopMode;
use trunkline_codec::write;
use trunkline_tests::{Auth, Endpoint, Message, Wire, eventually, own_cluster, python, shared_cluster};

const PATIENCE: Duration = Duration::from_secs(30);

/// The process id the client was told.
fn told(wire: &Wire) -> i32 {
    let key_data = wire.key_data.as_ref().unwrap();
    i32::from_be_bytes(*key_data.first_chunk().unwrap())
}

fn backend(wire: &mut Wire) -> i32 {
    wire.value("SELECT pg_backend_pid()").parse().unwrap()
}

/// The process id in a NotificationResponse.
fn notifier(message: &Message) -> i32 {
    i32::from_be_bytes(*message.body.first_chunk().unwrap())
}

/// What the session is notified of by the end of one query: the senders' process ids and the payloads.
fn notifications(wire: &mut Wire) -> Vec<(i32, String)> {
    let answer = wire.query("SELECT 1");
    let notified = answer.messages.iter().filter(|message| message.tag == b'A');
    let payload = |message: &Message| {
        String::from_utf8_lossy(message.body.split(|b| *b == 0).nth_back(1).unwrap()).into_owned()
    };
    notified.map(|message| (notifier(message), payload(message))).collect()
}

#[test]
fn the_process_id_is_that_of_the_sessions_server() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        for port in [endpoint.reads(), endpoint.writes()] {
            let mut wire = Wire::login(port);
            assert_eq!(told(&wire), backend(&mut wire), "{auth:?}");
        }
    }
}

#[test]
fn a_client_that_looks_its_process_up_finds_its_query_and_cancels_it() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        let mut wire = Wire::login(endpoint.writes());
        let mut monitor = Wire::login(endpoint.writes());
        let sleeps = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND wait_event = 'PgSleep'",
            told(&wire)
        );
        for _ in 0..5 {
            wire.send_query("SELECT pg_sleep(60)");
            eventually(PATIENCE, "it sleeps", || monitor.value(&sleeps) == "1");
            wire.cancel(endpoint.writes());
            assert_eq!(wire.read_answer().error.unwrap().code, "57014", "{auth:?}");
        }
    }
}

#[test]
fn terminating_the_process_a_client_was_told_ends_that_backend() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        let (wire, mut operator) = (Wire::login(endpoint.writes()), Wire::login(endpoint.writes()));
        assert_eq!(
            operator.value(&format!("SELECT pg_terminate_backend({}, 5000)", told(&wire))),
            "t",
            "{auth:?}"
        );
        let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {}", told(&wire));
        assert_eq!(operator.value(&left), "0", "{auth:?}");
    }
}

#[test]
fn after_a_move_own_notifications_bear_the_number_the_client_knows_and_only_they() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let mut wire = Wire::login(endpoint.writes());
    let known = told(&wire);
    assert_eq!(backend(&mut wire), known);
    cluster.primary.stop(StopMode::Fast).unwrap();
    cluster.primary.start().unwrap();
    endpoint.await_health("primary", true, PATIENCE);
    eventually(PATIENCE, "it goes on", || wire.query("SELECT 1").error.is_none());
    assert_ne!(backend(&mut wire), known, "it is another process now");
    assert!(wire.query("LISTEN news").error.is_none());
    let own = wire.query("NOTIFY news, 'own'");
    let own: Vec<_> = own.messages.iter().filter(|message| message.tag == b'A').map(notifier).collect();
    assert_eq!(own, [known]);
    let mut other = Wire::login(endpoint.writes());
    assert!(other.query("NOTIFY news, 'other'").error.is_none());
    assert_eq!(notifications(&mut wire), [(told(&other), "other".to_owned())]);
    // A cancel still finds the session by the key of its first server.
    wire.send_query("SELECT pg_sleep(60)");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually(PATIENCE, "it sleeps", || other.value(sleeping) == "1");
    wire.cancel(endpoint.writes());
    assert_eq!(wire.read_answer().error.unwrap().code, "57014");
}

#[test]
fn drivers_know_their_own_notifications() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        let said = python(
            endpoint.writes(),
            r#"
import psycopg
with psycopg.connect("", autocommit=True) as conn, psycopg.connect("", autocommit=True) as other:
    assert conn.info.backend_pid == conn.execute("SELECT pg_backend_pid()").fetchone()[0]
    conn.execute("LISTEN news")
    conn.execute("NOTIFY news, 'own'")
    own, = conn.notifies(timeout=5, stop_after=1)
    assert own.pid == conn.info.backend_pid, own
    other.execute("NOTIFY news, 'other'")
    stranger, = conn.notifies(timeout=5, stop_after=1)
    assert stranger.pid == other.info.backend_pid != conn.info.backend_pid, stranger
print("known")
"#,
        );
        assert_eq!(said, "known", "{auth:?}");
    }
}

/// What the client gets for `bytes`, to the end of the connection.
fn all_that_comes(port: u16, before: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut wire = Wire::login(port);
    for sql in before {
        assert!(wire.query(sql).error.is_none(), "{sql}");
    }
    wire.send(bytes);
    wire.read_to_end().expect("the connection ends")
}

#[test]
fn a_message_of_no_known_type_ends_the_session_as_postgresql_does() {
    let cluster = shared_cluster();
    let unknown = b"!\0\0\0\x0cabcdefgh";
    let query = |sql: &str| {
        let mut out = BytesMut::new();
        write::query(&mut out, sql.as_bytes()).unwrap();
        out
    };
    let mut unsynced = BytesMut::new();
    write::parse(&mut unsynced, b"", b"SELECT i FROM numbers LIMIT 3", &[]).unwrap();
    write::bind(&mut unsynced, b"", b"", Vec::<Option<&[u8]>>::new()).unwrap();
    write::execute(&mut unsynced, b"", 0).unwrap();
    let mut failed = BytesMut::new();
    write::parse(&mut failed, b"", b"no SQL", &[]).unwrap();
    write::execute(&mut failed, b"", 0).unwrap();
    let cases: [(&str, &[&str], Vec<u8>); 9] = [
        ("alone", &[], unknown.to_vec()),
        ("its type alone", &[], b"!".to_vec()),
        ("behind a Query", &[], [&query("SELECT i FROM numbers")[..], unknown].concat()),
        ("behind an error", &[], [&query("SELECT 1/0")[..], unknown].concat()),
        (
            "behind two",
            &[],
            [&query("SELECT 1")[..], &query("SELECT 2"), unknown, &query("SELECT 3")].concat(),
        ),
        ("behind unsynced messages", &[], [&unsynced[..], unknown].concat()),
        ("behind an unsynced error", &[], [&failed[..], unknown].concat()),
        ("in a transaction", &["BEGIN", "SELECT 1"], [&query("SELECT 2")[..], unknown].concat()),
        ("a password", &[], b"p\0\0\0\x09text\0".to_vec()),
    ];
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        for (name, before, bytes) in &cases {
            let direct = all_that_comes(cluster.replicas[0].port(), before, bytes);
            let ours = all_that_comes(endpoint.reads(), before, bytes);
            assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&direct), "{auth:?}: {name}");
            assert!(
                direct
                    .windows(31)
                    .any(|w| w == b"invalid frontend message type 3"
                        || w == b"invalid frontend message type 1")
            );
        }
        assert!(endpoint.log().contains("message type 0x21 of length 12: the type is unknown"), "{auth:?}");
    }
}

#[test]
fn a_message_of_no_known_type_within_copy_ends_it_as_postgresql_does() {
    let cluster = own_cluster(0);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let mut bytes = BytesMut::new();
    write::query(&mut bytes, b"COPY t FROM STDIN").unwrap();
    bytes.extend_from_slice(b"d\0\0\0\x061\n!\0\0\0\x04");
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(&cluster).auth(auth).start();
        let direct = all_that_comes(cluster.primary.port(), &[], &bytes);
        let ours = all_that_comes(endpoint.writes(), &[], &bytes);
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&direct), "{auth:?}");
    }
}
