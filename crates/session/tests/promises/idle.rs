//! When a session is idle, and what it does not follow.

use std::sync::Arc;
use std::time::Instant;

use trunkline_session::limits::{PARAMETER_BYTES_MAX, PARAMETERS_MAX};
use trunkline_session::{
    ClientThen, FatalOrigin, LoginParameters, LossPlan, Mobility, Peer, PinReason, ReportTiming, ServerThen,
    SessionSettings, Tracking, ViolationError,
};

use crate::talk::*;

#[test]
fn a_query_is_over_with_its_ready_for_query() {
    let mut talk = Talk::new();
    talk.is_idle().client(&[query("select 1")]).is_busy();
    assert!(!talk.session.is_pristine());
    talk.server(&[m('T'), m('D'), complete("SELECT 1")]).is_busy();
    talk.server(&[ready('I')]).is_idle();
}

#[test]
fn several_statements_of_one_query_owe_one_ready_for_query() {
    let mut talk = Talk::new();
    talk.client(&[query("select 1; select 2")]);
    talk.server(&[m('T'), m('D'), complete("SELECT 1"), error(), ready('I')]).is_idle();
    talk.client(&[query(";;")]).server(&[m('I'), ready('I')]).is_idle();
}

#[test]
fn a_transaction_is_not_idle_until_it_ends() {
    let mut talk = Talk::new();
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]).is_busy();
    assert_eq!(talk.session.pinned(), Some(PinReason::Transaction));
    talk.client(&[query("oops")]).server(&[error(), ready('E')]).is_busy();
    talk.client(&[query("commit")]).server(&[complete("ROLLBACK"), ready('I')]).is_idle();
}

#[test]
fn asynchronous_messages_may_come_anywhere() {
    let asynchronous =
        [m('A'), report('N', "NOTICE", "00000"), message(b'S', b"in_hot_standby\0off\0")].concat();
    let mut talk = Talk::new();
    talk.server(std::slice::from_ref(&asynchronous)).is_idle();
    talk.client(&[query("copy t to stdout")]);
    for answer in [m('H'), m('d'), m('c'), complete("COPY 1"), ready('I')] {
        talk.server(&[asynchronous.clone(), answer, asynchronous.clone()]);
    }
    talk.is_idle();
}

#[test]
fn a_function_call_is_a_request_of_its_own() {
    let mut talk = Talk::new();
    talk.client(&[message(b'F', b"\0\0\0\x01\0\0\0\0\0\0")]).is_busy();
    talk.server(&[m('V')]).is_busy().server(&[ready('I')]).is_idle();
    talk.client(&[message(b'F', b"")]).server(&[error(), ready('I')]).is_idle();
    assert_eq!(talk.ends(), ["", "failed 22012"]);
}

#[test]
fn part_of_a_message_on_either_side_is_not_idle() {
    let mut talk = Talk::new();
    assert_eq!(talk.client_step(b"Q").forward, 0);
    talk.is_busy();
    assert_eq!(talk.client_step(&[query("select 1")].concat()).forward, 14);
    talk.server(&[m('I'), ready('I')]).is_idle();
    assert_eq!(talk.server_step(b"S\0\0").forward, 0);
    talk.is_busy();
}

#[test]
fn a_message_the_model_does_not_explain_pins_the_session_and_is_relayed() {
    for unexpected in [m('D'), complete("SELECT 1"), ready('I'), error(), m('1'), m('G'), m('K'), m('R')] {
        let mut talk = Talk::new();
        talk.server(std::slice::from_ref(&unexpected)).is_busy();
        assert_eq!(talk.session.pinned(), Some(PinReason::UnexpectedMessage(unexpected[0])));
        talk.client(&[query("select 1")]).server(&[complete("SELECT 1"), ready('I')]).is_busy();
        assert!(talk.ends().is_empty(), "no guess is made");
    }
}

#[test]
fn replication_is_relayed_without_being_followed() {
    let mut talk = Talk::with(ReportTiming::Off, Tracking::Opaque);
    talk.client(&[query("START_REPLICATION 0/0")]);
    talk.server(&[m('W'), m('d')]).client(&[m('d'), m('c')]);
    talk.server(&[m('c'), complete("START_STREAMING"), complete("START_REPLICATION"), ready('I')]);
    talk.is_busy();
    assert_eq!(talk.session.pinned(), Some(PinReason::Replication));
}

#[test]
fn terminate_is_forwarded_and_ends_the_client_side() {
    let mut talk = Talk::new();
    let step = talk.client_step(&[query("select 1"), m('X')].concat());
    assert_eq!(step.forward, 14 + 5);
    assert!(matches!(step.then, ClientThen::Terminate));
    talk.is_busy();
}

#[test]
fn a_broken_frame_of_the_client_ends_the_session_with_08p01() {
    let mut talk = Talk::new();
    let step = talk.client_step(&[query("select 1"), b"Q\0\0\0\x03".to_vec()].concat());
    assert_eq!(step.forward, 14, "what came before it is sound");
    let ClientThen::Violation(violation) = step.then else { panic!("{step:?}") };
    assert_eq!(violation.by, Peer::Client);
    let report = violation.report.expect("the client is at a boundary");
    assert!(report.windows(6).any(|w| w == b"C08P01"));
    assert_eq!(talk.ends(), ["lost"]);
}

#[test]
fn a_broken_frame_of_the_server_ends_the_session_with_08006() {
    let mut talk = Talk::new();
    let step = talk.server_step(b"?\0\0\0\x04");
    let ServerThen::Violation(violation) = step.then else { panic!("{step:?}") };
    assert_eq!(violation.by, Peer::Server);
    let report = violation.report.expect("the client is at a boundary");
    assert!(report.windows(6).any(|w| w == b"C08006"));
}

#[test]
fn a_server_that_reports_ever_new_parameters_is_followed_up_to_a_limit_and_ends_the_session_with_08006() {
    let long = status("long", &"x".repeat(PARAMETER_BYTES_MAX));
    let opaque = Talk::with(ReportTiming::Off, Tracking::Opaque);
    let fixed = Talk::of(Talk::settings(Mobility::Fixed), Instant::now());
    let (mut untracked, mut full) = (Talk::new(), Talk::new());
    untracked.server(&[m('D')]);
    full.server(&[long]);
    for mut talk in [Talk::new(), opaque, fixed, untracked, full] {
        let kept = usize::from(talk.session.movability() == Err(PinReason::SettingsTooLarge));
        talk.client(&[query("select 1")]);
        let report = |n: usize| status(&format!("name{n}"), "a");
        let within: Vec<_> = (kept..PARAMETERS_MAX).map(report).collect();
        talk.server(&within).server(&within);
        let flood = (PARAMETERS_MAX..1000).map(report).collect::<Vec<_>>().concat();
        let step = talk.server_step(&[&within[0][..], &flood].concat());
        assert_eq!(step.forward, within[0].len(), "one that is known");
        let ServerThen::Violation(violation) = step.then else { panic!("{step:?}") };
        assert_eq!((violation.by, violation.error), (Peer::Server, ViolationError::TooManyParameters));
        let report = printable(&violation.report.expect("the client is at a boundary"));
        assert!(report.contains("C08006\\x00"), "{report}");
        assert!(report.contains("more than 64 parameters since the login"), "{report}");
    }
}

#[test]
fn a_server_that_reports_too_many_parameters_at_the_login_keeps_the_session() {
    let messages: Vec<_> = (0..=PARAMETERS_MAX).map(|n| status(&format!("name{n}"), "a")).collect();
    let parameters = Arc::new(LoginParameters::new(&messages.concat()));
    let settings = SessionSettings { parameters, ..Talk::settings(Mobility::Movable) };
    let mut talk = Talk::of(settings, Instant::now());
    assert_eq!(talk.session.movability(), Err(PinReason::SettingsTooLarge));
    talk.client(&[query("discard all")]).server(&[complete("DISCARD ALL"), ready('I')]).is_idle();
    assert_eq!(talk.session.movability(), Err(PinReason::SettingsTooLarge));
}

#[test]
fn a_large_message_is_streamed_and_leaves_no_room_for_an_error() {
    let mut talk = Talk::new();
    talk.client(&[query("select big")]);
    let row = message(b'D', &vec![0; 100_000]);
    assert_eq!(talk.server_step(&row[..50_000]).forward, 50_000);
    let step = talk.client_step(b"Q\0\0\0\x03");
    let ClientThen::Violation(violation) = step.then else { panic!("{step:?}") };
    assert_eq!(violation.report, None);
}

#[test]
fn a_client_message_of_no_known_type_is_the_servers_to_refuse_once_it_has_answered_what_is_due() {
    for before in [vec![], vec![query("select 1")], vec![parse("", "select 1"), bind(""), execute()]] {
        let mut talk = Talk::new();
        let before = before.concat();
        let step = talk.client_step(&[&before[..], b"!\0\0\0\x2Atext", &query("never")].concat());
        assert_eq!(step.forward, before.len() + 1, "its type byte is the last");
        let ClientThen::Unknown(error) = step.then else { panic!("{step:?}") };
        assert_eq!(error.to_string(), "message type 0x21 of length 42: the type is unknown");
        if before.starts_with(b"Q") {
            talk.server(&[m('T'), m('D'), complete("SELECT 1"), ready('I')]);
        } else if !before.is_empty() {
            talk.server(&[m('1'), m('2'), m('D'), complete("SELECT 1")]);
        }
        assert!(!talk.session.is_idle(), "it is not to leave the server that will answer");
        talk.server(&[report('E', "FATAL", "08P01")]);
        assert!(matches!(talk.lost(b"", REPEAT), LossPlan::AlreadyReported(FatalOrigin::Session(_))));
    }
}

#[test]
fn a_server_lost_before_it_has_refused_the_client_is_reported() {
    let mut talk = Talk::new();
    talk.client_step(&[query("select 1"), b"!".to_vec()].concat());
    assert!(matches!(talk.lost(b"", REPEAT), LossPlan::Report(_)));
}
