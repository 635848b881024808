//! Process ids in notifications.

use trunkline_codec::ids::ProcessId;
use trunkline_session::{LossPlan, RecoveryOptions, ReportTiming, Tracking};

use crate::talk::*;

const TOLD: ProcessId = ProcessId(4711);
const OWN: ProcessId = ProcessId(815);

/// A session whose client knows `TOLD` and whose process is `OWN` now.
fn moved() -> Talk {
    let mut talk = Talk::new();
    talk.session.process_at_login(Some(TOLD));
    let plan = talk.lost(&[], RecoveryOptions { can_move: true, can_repeat: true });
    assert_eq!(plan, LossPlan::Move);
    talk.taken().session.server_process(Some(OWN));
    talk
}

fn notification(process: i32, payload: &str) -> Vec<u8> {
    message(b'A', &[&process.to_be_bytes()[..], b"channel\0", payload.as_bytes(), b"\0"].concat())
}

/// What the client gets of `bytes`, passed in in chunks of `size`.
fn told(talk: &mut Talk, bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut out, mut held) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(size) {
        held.extend_from_slice(chunk);
        loop {
            let step = talk.server_step(&held);
            out.extend_from_slice(&held[..step.forward]);
            out.extend_from_slice(step.inject.as_deref().unwrap_or_default());
            held.drain(..step.forward + step.dropped);
            if step.inject.is_none() && step.dropped == 0 {
                break;
            }
        }
    }
    assert!(held.is_empty());
    out
}

#[test]
fn a_session_that_has_not_moved_gets_notifications_unchanged() {
    let mut talk = Talk::new();
    talk.session.process_at_login(Some(TOLD));
    for process in [TOLD.0, OWN.0, 1] {
        talk.server(&[notification(process, "x")]);
    }
}

#[test]
fn after_a_move_its_own_notifications_bear_the_number_the_client_knows_and_no_others() {
    let from_server = [TOLD.0, OWN.0, 1, OWN.0].map(|process| notification(process, "x")).concat();
    let expected = [OWN.0, TOLD.0, 1, TOLD.0].map(|process| notification(process, "x")).concat();
    for size in 1..=from_server.len() {
        let mut talk = moved();
        assert_eq!(told(&mut talk, &from_server, size), expected, "{size}");
        talk.is_idle();
    }
}

#[test]
fn a_notification_in_the_midst_of_an_answer_is_exchanged_there() {
    let mut talk = moved();
    talk.client(&[query("NOTIFY channel"), query("SELECT 1")]);
    let answer = |process| {
        let first = [complete("NOTIFY"), notification(process, ""), ready('I')].concat();
        [first, m('T'), m('D'), complete("SELECT 1"), ready('I')].concat()
    };
    assert_eq!(told(&mut talk, &answer(OWN.0), usize::MAX), answer(TOLD.0));
    talk.is_idle();
}

#[test]
fn a_notification_too_long_to_be_kept_whole_is_exchanged_at_its_beginning() {
    let payload = "p".repeat(100_000);
    for size in [1000, 40_000, usize::MAX] {
        let mut talk = moved();
        let bytes = told(&mut talk, &notification(OWN.0, &payload), size);
        assert!(bytes == notification(TOLD.0, &payload), "{size}");
    }
}

#[test]
fn a_session_that_is_not_tracked_any_more_gets_the_same() {
    let mut talk = moved();
    talk.server(&[complete("UNEXPLAINED")]);
    assert_eq!(told(&mut talk, &notification(OWN.0, ""), usize::MAX), notification(TOLD.0, ""));
    let opaque = Talk::with(ReportTiming::Off, Tracking::Opaque);
    assert!(opaque.session.pinned().is_some());
}

#[test]
fn a_client_without_a_process_id_gets_the_servers() {
    let mut talk = Talk::new();
    talk.session.process_at_login(None);
    talk.taken().session.server_process(Some(OWN));
    talk.server(&[notification(OWN.0, ""), notification(TOLD.0, "")]);
}
