//! Handshakes and records that are cut, malformed or out of turn, of clients and of servers: nothing leaks, nobody else
//! notices.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustls::ClientConfig;
use trunkline_cluster::Cluster;
use trunkline_codec::startup::{gssenc_request, ssl_request};
use trunkline_codec::write;
use trunkline_tests::{
    Auth, Certificates, Endpoint, EndpointBuilder, ServerError, Wire, eventually, http_get, psql_output,
    tls_cluster, within,
};

#[path = "tls_faults/client.rs"]
mod client;
#[path = "tls_faults/sealing.rs"]
mod sealing;
#[path = "tls_faults/server.rs"]
mod server;
#[path = "tls_faults/within.rs"]
mod within;

use client::{
    asked, connected, ends, first_flight, last_flight, log_in, request, sealed, send_after, session,
};
use server::{Answer, FaultyServer};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| tls_cluster(None, 2))
}

/// An endpoint with TLS on both legs.
fn both() -> EndpointBuilder {
    Endpoint::over(cluster()).auth(Auth::Verify).with_tls()
}

/// A client that names the protocol of PostgreSQL, as direct TLS must.
fn naming() -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&Certificates::shared().client());
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Arc::new(config)
}

/// Files that the endpoint has open.
fn open_files(endpoint: &Endpoint) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", endpoint.pid())).unwrap().count()
}

fn metric(endpoint: &Endpoint, sample: &str) -> u64 {
    let text = http_get(endpoint.http(), "/metrics").unwrap().body;
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
    line.unwrap_or_else(|| panic!("no {sample}"))
}

fn handshakes(endpoint: &Endpoint, result: &str) -> u64 {
    metric(endpoint, &format!("trunkline_tls_handshakes_total{{leg=\"client\",result=\"{result}\"}}"))
}

/// A session that others must not disturb.
#[track_caller]
fn answers(endpoint: &Endpoint) {
    let began = Instant::now();
    assert_eq!(session(endpoint.reads()).value("SELECT 1"), "1");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// Nothing is left of clients that are gone, and nothing went wrong on the way.
#[track_caller]
fn settles(endpoint: &Endpoint, files: usize) {
    eventually(PATIENCE, "files are closed", || open_files(endpoint) <= files);
    let log = endpoint.log();
    assert!(!log.contains("panic") && !log.contains("level=error"), "{log}");
}

/// Files of an endpoint at rest: after a session, whose own are closed.
fn at_rest(endpoint: &Endpoint) -> usize {
    answers(endpoint);
    eventually(PATIENCE, "the session is closed", || endpoint.sessions_on("replica1") == 0);
    // Probes have connections of their own at times.
    open_files(endpoint) + 6
}

#[test]
fn a_handshake_that_is_cut_at_any_byte_leaves_nothing() {
    let endpoint = both().start();
    let files = at_rest(&endpoint);
    let completed = handshakes(&endpoint, "completed");
    let packet = request(ssl_request);
    for cut in 0..packet.len() {
        connected(endpoint.reads()).write_all(&packet[..cut]).unwrap();
    }
    let hello = first_flight(&Certificates::shared().client());
    for cut in 0..hello.len() {
        asked(endpoint.reads()).write_all(&hello[..cut]).unwrap();
    }
    answers(&endpoint);
    let direct = first_flight(&naming());
    for cut in 1..direct.len() {
        connected(endpoint.reads()).write_all(&direct[..cut]).unwrap();
    }
    answers(&endpoint);
    // The client's last flight, in answer to the server's.
    let last = last_flight(&mut asked(endpoint.reads())).len();
    for cut in 0..last {
        let mut socket = asked(endpoint.reads());
        let flight = last_flight(&mut socket);
        socket.write_all(&flight[..cut]).unwrap();
    }
    answers(&endpoint);
    settles(&endpoint, files);
    let begun = hello.len() + direct.len() - 1 + last;
    eventually(PATIENCE, "all are counted", || handshakes(&endpoint, "abandoned") >= begun as u64);
    assert_eq!(handshakes(&endpoint, "completed"), completed + 3);
    assert_eq!(handshakes(&endpoint, "failed"), 0);
}

#[test]
fn a_handshake_in_two_pieces_cut_anywhere_is_a_handshake() {
    let endpoint = both().start();
    let length = first_flight(&Certificates::shared().client()).len();
    // Each byte of the headers, then here and there.
    for cut in (1..64).chain((64..length).step_by(29)) {
        let mut socket = asked(endpoint.reads());
        let mut end = client::end(&Certificates::shared().client());
        let hello = client::outgoing(&mut end);
        socket.write_all(&hello[..cut]).unwrap();
        socket.write_all(&hello[cut..]).unwrap();
        while end.is_handshaking() {
            end.complete_io(&mut socket).unwrap();
        }
    }
    let mut session = session(endpoint.reads());
    let mut query = BytesMut::new();
    write::query(&mut query, b"SELECT 1").unwrap();
    for cut in 1.. {
        let record = session.stream.records_after(|end| end.writer().write_all(&query).unwrap());
        let (begin, rest) = record.split_at(cut.min(record.len()));
        session.stream.socket().write_all(begin).unwrap();
        session.stream.socket().write_all(rest).unwrap();
        assert_eq!(session.read_answer().value(), "1", "cut at {cut}");
        if rest.is_empty() {
            break;
        }
    }
}

/// Rows of some 100 MB, more than buffers hold.
const LONG: &str = "SELECT repeat('x', 10000) FROM generate_series(1, 10000) AS long_answer";

#[test]
fn a_client_that_goes_without_a_word_amid_an_answer_ends_its_session_alone() {
    let endpoint = both().start();
    let files = at_rest(&endpoint);
    for how in [Some(Shutdown::Write), Some(Shutdown::Both), None] {
        let mut session = session(endpoint.reads());
        session.send_query(LONG);
        session.stream.read_exact(&mut [0; 300_000]).unwrap();
        if let Some(how) = how {
            // The socket's own: without a close_notify.
            session.stream.socket().shutdown(how).unwrap();
        }
        // Kept open where only one direction is: the endpoint must not wait for this side.
        let kept = (how == Some(Shutdown::Write)).then_some(session);
        let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%long_answer' AND pid <> pg_backend_pid()";
        if kept.is_none() {
            eventually(PATIENCE, "the servers have done with it", || {
                cluster().replicas.iter().all(|replica| replica.psql(running).unwrap() == "0")
            });
        }
        answers(&endpoint);
        drop(kept);
        eventually(PATIENCE, "the servers have done with it", || {
            cluster().replicas.iter().all(|replica| replica.psql(running).unwrap() == "0")
        });
    }
    settles(&endpoint, files);
}

#[test]
fn new_keys_amid_a_session_change_nothing_that_is_said() {
    let endpoint = both().start();
    let mut session = session(endpoint.reads());
    for round in 0..100 {
        let records = session.stream.records_after(|end| end.refresh_traffic_keys().unwrap());
        session.stream.socket().write_all(&records).unwrap();
        assert_eq!(session.value(&format!("SELECT {round}")), round.to_string());
    }
    session.send_query("SELECT repeat('x', 10000) FROM generate_series(1, 1000)");
    for _ in 0..5 {
        for _ in 0..100 {
            session.read_message().unwrap();
        }
        send_after(&session, |end| end.refresh_traffic_keys().unwrap());
    }
    // One of those that were read is the description.
    assert_eq!(session.read_answer().rows.len(), 501);
    assert_eq!(session.value("SELECT 'still here'"), "still here");
    // New keys and nothing else: that is an attack, and ends this session alone.
    let mut other = client::session(endpoint.reads());
    for _ in 0..100 {
        send_after(&session, |end| end.refresh_traffic_keys().unwrap());
    }
    assert!(ends(&session));
    assert_eq!(other.value("SELECT 1"), "1");
}

#[test]
fn an_alert_or_a_forged_record_amid_a_message_ends_its_session_alone() {
    let endpoint = both().start();
    let files = at_rest(&endpoint);
    let mut other = session(endpoint.reads());
    let half = b"Q\0\0\0\x80SELECT 'half a";
    // Of the right length, and sealed with no key.
    let forged = b"\x17\x03\x03\0\x20................................";
    for fault in 0..6 {
        let session = session(endpoint.reads());
        send_after(&session, |end| end.writer().write_all(half).unwrap());
        let mut socket = session.stream.socket();
        match fault {
            // The client says that it sends no more.
            0 => send_after(&session, |end| end.send_close_notify()),
            // A fatal alert, sealed: the client was sent what it cannot open.
            1 => send_after(&session, |end| {
                end.read_tls(&mut &forged[..]).unwrap();
                end.process_new_packets().unwrap_err();
            }),
            // One in the clear.
            2 => socket.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).unwrap(),
            3 => socket.write_all(forged).unwrap(),
            // A record that is longer than any may be.
            4 => socket.write_all(&[0x17, 3, 3, 0x48, 1]).unwrap(),
            // No record at all.
            _ => socket.write_all(b"SELECT 'what else';").unwrap(),
        }
        assert!(ends(&session), "fault {fault}");
        assert_eq!(other.value("SELECT 1"), "1");
    }
    drop(other);
    settles(&endpoint, files);
}

#[test]
fn bytes_behind_a_request_for_tls_are_refused_before_it_begins() {
    let endpoint = both().start();
    let hello = first_flight(&Certificates::shared().client());
    for asks in [ssl_request as fn(&mut BytesMut), gssenc_request] {
        let packet = [request(asks), hello.clone()].concat();
        let mut wire = Wire::connect_plain(endpoint.reads());
        wire.send(&packet);
        let rest = wire.read_to_end().unwrap();
        assert_eq!(rest.first(), Some(&b'E'), "{rest:?}");
        assert_eq!(ServerError::parse(&rest[5..]).code, "08P01");
    }
    assert_eq!(handshakes(&endpoint, "completed") + handshakes(&endpoint, "failed"), 0);
}

#[test]
fn requests_for_encryption_are_taken_in_order_and_once() {
    let endpoint = both().start();
    // For GSSAPI first, then for TLS, as libpq asks.
    let mut socket = connected(endpoint.reads());
    socket.write_all(&request(gssenc_request)).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N");
    assert_eq!(log_in(sealed(client::ask(socket))).value("SELECT 1"), "1");
    // Within TLS neither has a meaning: PostgreSQL takes them for versions of the protocol.
    for (asks, code) in [(ssl_request as fn(&mut BytesMut), 5679), (gssenc_request, 5680)] {
        let mut wire = sealed(asked(endpoint.reads()));
        wire.send(&request(asks));
        let error = wire.read_answer().error.unwrap();
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "0A000"));
        assert!(error.text.contains(&format!("1234.{code}")), "{error:?}");
    }
}

#[test]
fn a_first_record_that_no_handshake_has_is_answered_by_an_alert() {
    let endpoint = both().start();
    let records: [&[u8]; 5] = [
        // Longer than any may be.
        &[0x16, 3, 1, 0xff, 0xff, 1],
        // Empty, which a handshake's never is.
        &[0x16, 3, 1, 0, 0],
        // Of SSL 2, an alert of nobody, and data before any keys.
        &[0x80, 0x2e, 1, 0, 2],
        &[0x15, 3, 1, 0, 2, 2, 40],
        &[0x17, 3, 3, 0, 1, 0],
    ];
    for record in records {
        let mut stream = asked(endpoint.reads());
        stream.write_all(record).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ended = stream.read_to_end(&mut answer);
        let is_alert = answer.is_empty() || answer.starts_with(&[0x15, 3]);
        assert!(is_alert, "{record:?}: {answer:?}");
    }
    answers(&endpoint);
    assert_eq!(handshakes(&endpoint, "completed"), 1);
}

/// Handshakes that are held half open.
const HALF_OPEN: usize = 2000;

#[test]
fn thousands_of_half_open_handshakes_leave_a_session_undisturbed() {
    let endpoint = both().start();
    let mut session = session(endpoint.reads());
    let is_over = AtomicBool::new(false);
    let hello = first_flight(&Certificates::shared().client());
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let (mut count, mut longest) = (0_u64, Duration::ZERO);
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(session.value("SELECT 1"), "1");
                longest = longest.max(began.elapsed());
                count += 1;
            }
            (count, longest)
        });
        let held: Vec<TcpStream> = (0..HALF_OPEN)
            .map(|index| {
                let mut stream = asked(endpoint.reads());
                stream.write_all(&hello[..1 + index % (hello.len() - 1)]).unwrap();
                stream
            })
            .collect();
        // And one that comes while they are there gets in.
        answers(&endpoint);
        is_over.store(true, Ordering::Relaxed);
        let (count, longest) = busy.join().unwrap();
        assert!(count > 20 && longest < PATIENCE, "{count} answers, one of them in {longest:?}");
        drop(held);
    });
    eventually(PATIENCE, "all are done with", || handshakes(&endpoint, "abandoned") >= HALF_OPEN as u64);
}

#[test]
fn a_server_that_breaks_the_handshake_serves_nobody_and_loses_nobody() {
    let faulty = FaultyServer::of(cluster().replicas[0].port());
    let endpoint = both().through("replica1", faulty.port()).start();
    let reason = || {
        let body = http_get(endpoint.http(), "/cluster").unwrap().body;
        let cluster: serde_json::Value = serde_json::from_str(&body).unwrap();
        let members = cluster["members"].as_array().unwrap();
        members.iter().find(|member| member["name"] == "replica1").unwrap().to_string()
    };
    for (answer, why) in [
        // As of a server that dies meanwhile.
        (Answer::YesThenEnd, "connection lost: closed by the server"),
        (Answer::YesThenGarbage, "no TLS"),
        (Answer::YesTwice, "no TLS"),
        (Answer::YesThenError, "no TLS"),
        (Answer::Error, "answers with an error to a request for TLS"),
        (Answer::No, "the server does not support SSL, but sslmode requires it"),
        (Answer::Other, "the server answers 'X' to a request for TLS"),
    ] {
        faulty.set(answer);
        for _ in 0..8 {
            let output =
                psql_output(endpoint.reads(), &[("PGSSLMODE", "require")], "SELECT pg_is_in_recovery()");
            assert!(output.status.success(), "{answer:?}: {output:?}\n{}", endpoint.log());
        }
        within(PATIENCE, &format!("{answer:?} is told: {}", reason()), || {
            reason().contains(why).then_some(())
        });
    }
    faulty.set(Answer::Server);
    endpoint.await_health("replica1", true, PATIENCE);
    let log = endpoint.log();
    assert!(!log.contains("panic"), "{log}");
}
