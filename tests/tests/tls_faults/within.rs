//! Servers that misbehave once their handshake is over: an answer is right, or the client is told.

use rustls::version::{TLS12, TLS13};
use trunkline_tests::Answer;

use super::sealing::{Break, Misdeed, SealingServers};
use super::*;

/// Asks for what a server's next misdeed is done to.
const ASKED: &str = "SELECT i AS misdeed FROM generate_series(1, 3) AS i";
/// More than its answer has.
const WHOLE: usize = usize::MAX;

/// An endpoint with TLS on both legs, whose replicas are these.
fn over(servers: &SealingServers) -> EndpointBuilder {
    let replicas = cluster().replicas.iter().zip(servers.ports());
    replicas.fold(both(), |endpoint, (replica, port)| endpoint.through(replica.name(), port))
}

/// Whether it is the answer to [`ASKED`].
fn is_whole(answer: &Answer) -> bool {
    let rows = ["1", "2", "3"].map(|i| vec![Some(i.to_owned())]);
    answer.tags() == "TDDDCZ" && answer.rows == rows && answer.error.is_none()
}

/// Has a server do this to an answer, which is whole, or the client is told that it is not; in either case the session goes
/// on.
#[track_caller]
fn is_whole_or_told(session: &mut Wire, servers: &SealingServers, misdeed: Misdeed) {
    servers.prepare(misdeed);
    let answer = session.query(ASKED);
    assert!(servers.have_done_it(), "{misdeed:?}");
    if !is_whole(&answer) {
        let error = answer.error.as_ref().map(|error| (error.severity.as_str(), error.code.as_str()));
        assert_eq!(error, Some(("ERROR", "08006")), "{misdeed:?}: {answer:?}");
        // Behind the last message but one, that of the end of the statement, nothing is missing but the server's word.
        let begun = ["EZ", "TEZ", "TDEZ", "TDDEZ", "TDDDEZ", "TDDDCEZ"];
        assert!(begun.contains(&answer.tags().as_str()), "{misdeed:?}: {answer:?}");
    }
    assert_eq!(session.value("SELECT 'still here'"), "still here", "{misdeed:?}");
}

#[test]
fn an_answer_whose_records_are_cut_at_any_byte_is_an_answer() {
    for version in [&TLS12, &TLS13] {
        let servers = SealingServers::of(cluster(), version);
        let endpoint = over(&servers).start();
        let mut session = session(endpoint.reads());
        let process = session.value("SELECT pg_backend_pid()");
        for cut in 1.. {
            servers.prepare(Misdeed::SentInTwo(cut));
            let answer = session.query(ASKED);
            assert!(is_whole(&answer) && servers.have_done_it(), "{version:?}, cut at {cut}: {answer:?}");
            if cut >= servers.length() {
                break;
            }
        }
        assert!(servers.length() > 150, "{} bytes", servers.length());
        servers.prepare(Misdeed::ByteByByte);
        let answer = session.query(ASKED);
        assert!(is_whole(&answer) && servers.have_done_it(), "{version:?}: {answer:?}");
        assert_eq!(session.value("SELECT pg_backend_pid()"), process, "the server was not lost");
    }
}

#[test]
fn new_keys_of_a_server_and_of_a_client_amid_answers_change_nothing_that_is_said() {
    let servers = SealingServers::of(cluster(), &TLS13);
    let endpoint = over(&servers).start();
    let mut session = session(endpoint.reads());
    let process = session.value("SELECT pg_backend_pid()");
    servers.prepare(Misdeed::NewKeys);
    session.send_query("SELECT repeat('m', 1000) AS misdeed FROM generate_series(1, 1000)");
    assert_eq!(session.read_message().unwrap().tag, b'T');
    for _ in 0..10 {
        for _ in 0..99 {
            assert_eq!(session.read_message().unwrap().body[6..], [b'm'; 1000]);
        }
        send_after(&session, |end| end.refresh_traffic_keys().unwrap());
    }
    let rest = session.read_answer();
    assert_eq!((rest.rows.len(), rest.error), (10, None));
    assert!(servers.have_done_it());
    // Each of these answers has new keys before it and, while nobody asks, behind it.
    for round in 0..50 {
        send_after(&session, |end| end.refresh_traffic_keys().unwrap());
        assert_eq!(session.value(&format!("SELECT {round}")), round.to_string());
    }
    assert_eq!(session.value("SELECT pg_backend_pid()"), process, "the server was not lost");
}

#[test]
fn a_connection_that_ends_within_any_record_of_an_answer_without_a_close_notify_passes_nothing_for_the_whole()
{
    for version in [&TLS12, &TLS13] {
        let servers = SealingServers::of(cluster(), version);
        let endpoint = over(&servers).start();
        let mut session = session(endpoint.reads());
        for cut in 0.. {
            is_whole_or_told(&mut session, &servers, Misdeed::EndsWithin(cut));
            if cut >= servers.length() {
                break;
            }
        }
        assert!(servers.length() > 150, "{} bytes", servers.length());
        assert!(!endpoint.log().contains("panic"));
    }
}

#[test]
fn what_breaks_tls_amid_a_message_or_behind_the_last_is_repeated_elsewhere_or_told() {
    let servers = SealingServers::of(cluster(), &TLS13);
    for mode in ["session", "transaction"] {
        let endpoint = over(&servers).key("pool.pool_mode", &format!("{mode:?}")).start();
        let mut other = session(endpoint.reads());
        let mut session = session(endpoint.reads());
        for how in Break::ALL {
            // Before and within the header, within the description and behind it, within rows, before the end.
            for cut in [0, 1, 4, 20, 33, 40, 60, 85, WHOLE] {
                is_whole_or_told(&mut session, &servers, Misdeed::Breaks(cut, how));
                assert_eq!(other.value("SELECT 1"), "1");
            }
        }
        assert!(!endpoint.log().contains("panic"));
    }
}

#[test]
fn a_row_that_a_client_has_the_beginning_of_is_never_made_whole() {
    let servers = SealingServers::of(cluster(), &TLS13);
    let endpoint = over(&servers).start();
    for how in Break::ALL {
        let mut session = session(endpoint.reads());
        servers.prepare(Misdeed::Breaks(5000, how));
        let began = Instant::now();
        // Longer than what is forwarded whole.
        let answer = session.query("SELECT repeat('x', 100000) AS misdeed");
        assert!(servers.have_done_it() && began.elapsed() < PATIENCE, "{how:?}: {:?}", began.elapsed());
        let ended = answer.error.as_ref().map(|error| error.severity.as_str());
        // Nothing was forwarded of what came together with its end.
        let is_repeated = answer.tags() == "TDCZ" && answer.value() == "x".repeat(100_000) && ended.is_none();
        assert!(is_repeated || (answer.tags(), ended) == ("T".to_owned(), Some("EOF")), "{how:?}: {ended:?}");
    }
    answers(&endpoint);
}
