//! Sessions whose servers a test plays: what a client sees when one is lost, refuses, or is behind.

mod held;
mod logins;
mod planned;
mod poisoned;
mod pools;
mod repeats;
mod sealing;
mod verdicts;

use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::Lsn;
use trunkline_health::{EndedBy, Sighting};
use trunkline_model::wire;
use trunkline_reactor::{block_on, spawn, timer};
use trunkline_session::limits::PARAMETERS_MAX;
use trunkline_telemetry::metrics::{FailoverCause, LossCause};
use trunkline_topology::{FlushedWal, Postmaster, Role, ServerId, State};

use crate::limits::{RETAKE_PAUSE, TICK};
use crate::settings::{AuthMode, ClientMethod, FailureLimits, OnTerminate, SecretSource, Settings};
use crate::testing::{CLIENT, TestPeer, TestWorker, runtime, settings, standbys};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays a test on a thread with three standbys.
fn play<F: Future<Output = ()>>(settings: Settings, test: impl FnOnce(TestWorker) -> F) {
    // As on a worker: what takes long runs aside.
    let aside = runtime();
    let _aside = aside.enter();
    let played = block_on(async {
        let stage = TestWorker::new(&settings, standbys(3), 64 * 1024);
        let worker = Rc::clone(&stage.worker);
        spawn(async move {
            loop {
                timer::sleep(TICK).await;
                worker.slots.wake_due(Instant::now());
            }
        });
        timer::timeout(PATIENCE, test(stage)).await
    });
    played.expect("a thread of its own").expect("nobody waits for ever");
}

fn tags(messages: &[(u8, Vec<u8>)]) -> String {
    messages.iter().map(|(tag, _)| char::from(*tag)).collect()
}

fn has_code(message: &(u8, Vec<u8>), severity: &str, code: &str) -> bool {
    let text = String::from_utf8_lossy(&message.1);
    message.0 == b'E' && text.contains(&format!("S{severity}\0")) && text.contains(&format!("C{code}\0"))
}

/// One row, and the end of the request.
fn answer() -> Vec<u8> {
    let end = [wire::message(b'C', b"SELECT 1\0"), wire::message(b'Z', b"I")].concat();
    [wire::message(b'T', b"\0\0"), wire::message(b'D', b"\0\0"), end].concat()
}

/// What a standby answers that is asked how far it has replayed.
fn position(lsn: &str) -> Vec<u8> {
    let length = u32::try_from(lsn.len()).expect("short").to_be_bytes();
    let row = wire::message(b'D', &[&[0, 1][..], &length, lsn.as_bytes()].concat());
    let end = [wire::message(b'C', b"SELECT 1\0"), wire::message(b'Z', b"I")].concat();
    [wire::message(b'T', b"\0\0"), row, end].concat()
}

/// A client that has been let in by a server.
async fn session(stage: &TestWorker) -> (TestPeer, ServerId, TestPeer) {
    let mut client = TestPeer::client(stage).await;
    let (id, server) = TestPeer::server_in(stage).await;
    client.hear_up_to(b'Z').await;
    (client, id, server)
}

/// The next server, which shows all that the session has seen, has been logged in to and answers its request.
async fn next_answers(stage: &TestWorker) -> (ServerId, TestPeer) {
    let (id, mut next) = TestPeer::server_in(stage).await;
    assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
    next.say(&position("0/5000")).await;
    assert_eq!(next.hear().await, (b'Q', b"select 1\0".to_vec()));
    next.say(&answer()).await;
    (id, next)
}

#[test]
fn server_lost_while_idle_is_replaced_when_the_client_speaks() {
    play(settings(), async |stage| {
        let (mut client, first, server) = session(&stage).await;
        server.reset();
        client.query("select 1").await;
        let (second, _next) = next_answers(&stage).await;
        assert_ne!(first, second);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn request_without_an_answer_is_sent_again_to_another_server() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        client.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        drop(server);
        let (second, _next) = next_answers(&stage).await;
        assert_ne!(first, second);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn server_lost_inside_an_answer_is_one_error_and_the_connection_goes_on() {
    play(settings(), async |stage| {
        let (mut client, _, mut server) = session(&stage).await;
        client.query("select 1").await;
        server.hear().await;
        server.say(&[wire::message(b'T', b"\0\0"), wire::message(b'D', b"\0\0")].concat()).await;
        assert_eq!(tags(&client.hear_up_to(b'D').await), "TD");
        drop(server);
        let told = client.hear_up_to(b'Z').await;
        assert_eq!(tags(&told), "EZ");
        assert!(has_code(&told[0], "ERROR", "08006"), "{told:?}");
        client.query("select 1").await;
        next_answers(&stage).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn session_waits_for_its_own_server_while_all_others_refuse_it() {
    play(settings(), async |stage| {
        let (mut client, first, server) = session(&stage).await;
        drop(server);
        stage.set_state(first, State::Down);
        client.query("select 1").await;
        for _ in 0..2 {
            let (_, mut other) = TestPeer::server(&stage).await;
            other.say(&wire::report(b'E', "FATAL", "28000")).await;
            other.closes().await;
        }
        let refused = timer::timeout(RETAKE_PAUSE * 5, client.hear()).await;
        assert!(refused.is_err(), "{refused:?}");
        stage.set_state(first, State::Up);
        assert_eq!(next_answers(&stage).await.0, first);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn client_that_says_goodbye_without_a_server_takes_none() {
    play(settings(), async |stage| {
        let (mut client, _, server) = session(&stage).await;
        drop(server);
        client.say(&wire::message(b'X', b"")).await;
        client.closes().await;
        assert!(stage.network.try_accept().is_none());
    });
}

#[test]
fn server_that_has_no_connection_left_is_passed_over_at_the_login() {
    play(settings(), async |stage| {
        let mut client = TestPeer::client(&stage).await;
        let (first, mut full) = TestPeer::server(&stage).await;
        full.say(&wire::report(b'E', "FATAL", "53300")).await;
        let (second, _server) = TestPeer::server_in(&stage).await;
        assert_ne!(first, second);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "RSSKZ");
    });
}

#[test]
fn refusal_of_the_user_is_the_clients_answer() {
    play(settings(), async |stage| {
        let mut client = TestPeer::client(&stage).await;
        let (_, mut server) = TestPeer::server(&stage).await;
        server.say(&wire::report(b'E', "FATAL", "28000")).await;
        assert!(has_code(&client.hear().await, "FATAL", "28000"));
        client.closes().await;
        assert!(stage.network.try_accept().is_none(), "no other is asked");
    });
}

#[test]
fn server_that_shows_less_than_the_session_has_seen_is_left_for_another() {
    play(settings(), async |stage| {
        // Where the primary's WAL ended after all that is asked here.
        let at = Instant::now() + PATIENCE;
        stage.publish(|snapshot| snapshot.written = [FlushedWal { at, lsn: Lsn(0x5000) }].into());
        let (mut client, _, server) = session(&stage).await;
        drop(server);
        client.query("select 1").await;
        let (behind, mut stale) = TestPeer::server_in(&stage).await;
        let asked = async {
            while let Some((tag, _)) = stale.try_hear().await {
                assert_eq!(tag, b'Q');
                stale.say(&position("0/4000")).await;
            }
        };
        let answered = async {
            let (id, _next) = next_answers(&stage).await;
            assert_ne!(id, behind);
            client.hear_up_to(b'Z').await
        };
        let ((), told) = tokio::join!(asked, answered);
        assert_eq!(tags(&told), "TDCZ");
    });
}

/// Reports of parameters, each with a name of its own.
fn flood(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| wire::message(b'S', format!("name{n}\0\0").as_bytes())).collect()
}

#[test]
fn server_that_reports_ever_new_parameters_is_lost() {
    play(settings(), async |stage| {
        let (mut client, id, mut server) = session(&stage).await;
        server.say(&flood(PARAMETERS_MAX + 1)).await;
        let told = client.hear_up_to(b'E').await;
        assert_eq!(told.len(), PARAMETERS_MAX + 1);
        assert!(has_code(told.last().expect("the error"), "FATAL", "08006"), "{told:?}");
        client.closes().await;
        let lost = &stage.worker.metrics.server(id).sessions_lost;
        assert_eq!(lost.of(LossCause::Protocol).value(), 1);
    });
}

#[test]
fn server_that_reports_too_many_parameters_takes_over_no_session() {
    play(settings(), async |stage| {
        let (mut client, _, server) = session(&stage).await;
        drop(server);
        client.query("select 1").await;
        let (flooding, mut next) = TestPeer::server(&stage).await;
        let (ok, end) = (wire::message(b'R', &[0; 4]), wire::message(b'Z', b"I"));
        next.say(&[ok, flood(PARAMETERS_MAX + 1), end].concat()).await;
        let (id, _next) = next_answers(&stage).await;
        assert_ne!(id, flooding);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn startup_packet_that_has_come_counts_though_a_newer_connection_needs_the_place() {
    let mut settings = settings();
    settings.limits.startups_max = 1;
    play(settings, async |stage| {
        // A choice that is left to chance shows in one of them.
        for _ in 0..20 {
            let mut client = TestPeer::connect(&stage);
            tokio::task::yield_now().await;
            let limits = &stage.worker.shared.live().limits;
            let _newer = stage.worker.shared.admission.admit_startup(limits, CLIENT.ip());
            client.start().await;
            TestPeer::server_in(&stage).await;
            client.hear_up_to(b'Z').await;
        }
    });
}

/// A session on a server that ends it with FATAL 57P01, and what a login shows of that server then.
fn terminated(by: EndedBy, then: impl AsyncFnOnce(&TestWorker, TestPeer)) {
    let mut settings = settings();
    settings.session.on_terminate = OnTerminate::End;
    play(settings, async |stage| {
        let own = Postmaster { system_identifier: None, started_us: 1 };
        stage.publish(|snapshot| snapshot.servers.iter_mut().for_each(|s| s.postmaster = Some(own)));
        let (client, id, mut server) = session(&stage).await;
        server.say(&wire::report(b'E', "FATAL", "57P01")).await;
        drop(server);
        let met = match by {
            EndedBy::Operator => own,
            EndedBy::Server => Postmaster { started_us: 2, ..own },
        };
        let answered = async {
            loop {
                let sighting = Sighting { address: None, postmaster: Ok(met), at: Instant::now() };
                stage.verdicts.answer_inquiries(id, &sighting);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = then(&stage, client) => {}
            () = answered => unreachable!("it goes on for ever"),
        }
    });
}

#[test]
fn session_that_an_operator_ends_has_the_servers_words() {
    terminated(EndedBy::Operator, async |stage, mut client| {
        assert!(has_code(&client.hear().await, "FATAL", "57P01"));
        client.closes().await;
        assert!(stage.network.try_accept().is_none());
    });
}

#[test]
fn session_whose_server_shuts_down_hears_nothing_of_it() {
    terminated(EndedBy::Server, async |stage, mut client| {
        client.query("select 1").await;
        next_answers(stage).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn request_that_waits_for_an_inquiry_is_not_idleness() {
    let mut settings = settings();
    settings.session.on_terminate = OnTerminate::End;
    settings.health.judge.connect_timeout = TICK * 4;
    settings.timeouts.idle_session = TICK;
    play(settings, async |stage| {
        let (mut client, _, mut server) = session(&stage).await;
        server.say(&wire::report(b'E', "FATAL", "57P01")).await;
        tokio::task::yield_now().await;
        client.query("select 1").await;
        timer::sleep(TICK * 2).await;
        stage.publish(|_| {});
        // Nobody has answered the inquiry: the server is taken to be gone.
        next_answers(&stage).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}
