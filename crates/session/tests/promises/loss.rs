//! How sessions end.

use std::sync::Arc;

use trunkline_session::{ClientThen, FatalOrigin, LossPlan, Mobility, ServerRole, ServerThen};

use crate::talk::*;

fn text(plan: LossPlan) -> String {
    match plan {
        LossPlan::Report(bytes) => String::from_utf8_lossy(&bytes).replace('\0', "|"),
        LossPlan::Fail { answer, .. } => String::from_utf8_lossy(&answer).replace('\0', "|"),
        LossPlan::Move
        | LossPlan::Repeat
        | LossPlan::AlreadyReported(_)
        | LossPlan::Close
        | LossPlan::Cut => {
            panic!("{plan:?}")
        }
    }
}

#[test]
fn a_loss_before_the_first_request_is_hidden() {
    let mut talk = Talk::new();
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken();
    talk.is_idle();
    assert!(text(talk.lost(b"", STAY)).contains("replica2"));
}

#[test]
fn changed_parameters_are_sent_before_the_next_ready_for_query() {
    let mut talk = Talk::new();
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    let parameter = message(b'S', b"in_hot_standby\0off\0");
    let announce = talk.session.differences(&[greeting(), parameter.clone()].concat());
    assert_eq!(announce, parameter);
    talk.session.server_taken(Arc::from("primary"), ServerRole::Primary, announce);
    let step = talk.client(&[query("")]).server_step(&[m('I'), ready('I')].concat());
    assert_eq!((step.forward, step.inject.as_deref()), (5, Some(&parameter[..])));
    talk.server(&[ready('I')]).is_idle();
}

#[test]
fn a_loss_is_reported_with_its_phase() {
    let phases: [(&[Vec<u8>], &str); 4] = [
        (&[], "before the first byte of its answer"),
        (&[m('T'), m('D')], "inside its answer"),
        (&[m('I'), ready('I')], "while the session was idle"),
        (&[m('I'), ready('T')], "inside a transaction"),
    ];
    for (answer, phase) in phases {
        let mut talk = Talk::new();
        talk.client(&[query("select 1")]).server(answer);
        let told = text(talk.lost(b"", STAY));
        for part in ["VFATAL", "C08006", "Mserver closed the connection unexpectedly", "replica1", phase] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn nothing_is_said_inside_a_message() {
    let mut talk = Talk::new();
    talk.client(&[query("select big")]);
    let row = message(b'D', &vec![0; 100_000]);
    assert_eq!(talk.server_step(&row[..50_000]).forward, 50_000);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Cut);
    assert_eq!(talk.ends(), ["lost"]);
}

#[test]
fn part_of_a_small_message_is_kept_back_so_that_the_error_fits() {
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]).server(&[m('T'), m('D')]);
    assert_eq!(talk.server_step(b"D\0\0\0\x20part").forward, 0);
    assert!(text(talk.lost(b"D\0\0\0\x20part", MOVE)).starts_with('E'));
}

#[test]
fn nothing_is_said_after_a_fatal() {
    let mut talk = Talk::new();
    talk.client(&[query("select 1"), query("select 2")]);
    talk.server(&[m('T'), report('E', "FATAL", "57P02")]);
    let LossPlan::AlreadyReported(FatalOrigin::Server(code)) = talk.lost(b"", MOVE) else {
        panic!("it was told")
    };
    assert_eq!((code.as_str(), talk.ends()), ("57P02", vec!["failed 57P02", "lost"]));
}

#[test]
fn a_farewell_to_an_idle_session_is_held_and_delivered_verbatim() {
    let mut talk = Talk::new();
    talk.client(&[query("")]).server(&[m('I'), ready('I')]);
    let farewell = report('E', "FATAL", "57P01");
    let step = talk.server_step(&farewell);
    assert_eq!(step.forward, 0);
    assert!(matches!(step.then, ServerThen::Terminated));
    assert!(talk.session.is_idle() && talk.session.is_paused());
    assert!(matches!(talk.client_step(&query("late")).then, ClientThen::Pause));
    assert_eq!(talk.lost(&farewell, STAY), LossPlan::Report(farewell.into()));
}

#[test]
fn a_held_farewell_is_hidden_from_a_client_that_sent_nothing() {
    let mut talk = Talk::new();
    let farewell = report('E', "FATAL", "57P01");
    assert_eq!(talk.server_step(&farewell).forward, 0);
    assert_eq!(talk.client_step(&query("first")).forward, 0);
    assert_eq!(talk.lost(&farewell, MOVE), LossPlan::Move);
    talk.taken();
    talk.client(&[query("first")]).server(&[m('I'), ready('I')]).is_idle();
}

#[test]
fn a_shutdown_notice_is_held_and_followed_by_its_error() {
    for code in ["57P01", "57P02"] {
        let mut talk = Talk::new();
        let notice = report('N', "WARNING", code);
        assert!(matches!(talk.server_step(&notice).then, ServerThen::Farewell));
        let told = text(talk.lost(&notice, STAY));
        assert!(told.starts_with('N') && told.contains(&format!("VFATAL|C{code}")), "{told}");
    }
}

#[test]
fn a_notice_that_is_no_farewell_goes_on() {
    let mut talk = Talk::new();
    let notice = report('N', "WARNING", "57P01");
    assert!(matches!(talk.server_step(&notice).then, ServerThen::Farewell));
    talk.server(&[notice, m('A')]).is_idle();
    assert!(!talk.session.is_paused());
}

#[test]
fn a_shutdown_notice_to_a_busy_session_gives_the_error_its_code() {
    let mut talk = Talk::new();
    let notice = report('N', "WARNING", "57P01");
    talk.client(&[query("select 1")]).server(&[m('D'), notice.clone()]);
    assert!(text(talk.lost(b"", STAY)).contains("VFATAL|C57P01"));

    let mut unanswered = Talk::new();
    unanswered.client(&[query("select 1")]);
    assert_eq!(unanswered.server_step(&notice).forward, 0);
    let told = text(unanswered.lost(&notice, STAY));
    assert!(told.starts_with('N') && told.contains("VFATAL|C57P01"), "{told}");
}

#[test]
fn a_held_beginning_is_dropped_and_a_held_fatal_is_not() {
    let fatal = report('E', "FATAL", "57P01");
    let tail = [m('T'), fatal.clone()].concat();
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]);
    assert!(matches!(talk.server_step(&tail).then, ServerThen::Conflict(_)));
    assert_eq!(talk.lost(&tail, STAY), LossPlan::Report(fatal.into()));
}

#[test]
fn the_servers_end_is_regular_once_the_client_has_left() {
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]);
    talk.session.handle_client_eof();
    talk.server(&[m('T'), complete("SELECT 0"), ready('I')]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Close);

    let mut cut_short = Talk::new();
    cut_short.client(&[query("select 1")]);
    cut_short.session.handle_client_eof();
    assert!(text(cut_short.lost(b"", MOVE)).contains("C08006"));
}

/// A movable session is in one of these states when its backend ends with FATAL 57P01.
fn states() -> Vec<(Talk, &'static str)> {
    let busy = |messages: &[Vec<u8>], answer: &[Vec<u8>]| {
        let mut talk = Talk::new();
        talk.client(messages).server(answer);
        talk
    };
    let series = [parse("", "insert into t values (1)"), bind(""), execute()];
    vec![
        (Talk::new(), "before its first request"),
        (busy(&[query("")], &[m('I'), ready('I')]), "idle"),
        (busy(&[query("begin")], &[complete("BEGIN"), ready('T')]), "in a transaction"),
        (busy(&[query("select 1")], &[m('T'), m('D')]), "inside an answer"),
        (busy(&[query("insert into t values (1)")], &[]), "before the answer to a write"),
        (busy(&[query("select 1"), query("select 2")], &[m('T')]), "with two requests in flight"),
        (busy(&series, &[]), "inside a series"),
        (busy(&[query("select pg_advisory_lock(1)")], &[m('T')]), "pinned"),
        (busy(&[query("copy t from stdin")], &[m('G')]), "in COPY"),
    ]
}

#[test]
fn a_termination_is_held_until_it_is_known_whose_it_is() {
    let fatal = report('E', "FATAL", "57P01");
    for (mut talk, state) in states() {
        let step = talk.server_step(&fatal);
        assert!(step.forward == 0 && matches!(step.then, ServerThen::Terminated), "{state}: {step:?}");
        assert!(matches!(talk.client_step(&sync()).then, ClientThen::Pause), "{state}");
        talk.session.accept_farewell();
        talk.server(std::slice::from_ref(&fatal));
        let plan = talk.lost(b"", MOVE);
        assert!(matches!(plan, LossPlan::AlreadyReported(FatalOrigin::Server(_))), "{state}: {plan:?}");
    }
}

#[test]
fn a_termination_before_the_answer_is_passed_on_with_what_came_before_it() {
    let answer = [m('T'), m('D'), report('E', "FATAL", "57P01")].concat();
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]);
    assert!(matches!(talk.server_step(&answer).then, ServerThen::Conflict(_)));
    talk.session.accept_farewell();
    talk.server(&[answer]);
    assert_eq!(talk.ends(), ["failed 57P01"]);
}

#[test]
fn a_session_that_cannot_move_gets_a_termination_as_it_comes() {
    let fatal = report('E', "FATAL", "57P01");
    let mut busy = Talk::of(Talk::settings(Mobility::Fixed), std::time::Instant::now());
    busy.client(&[query("select 1")]).server(&[m('T'), fatal.clone()]);
    let mut left = Talk::new();
    left.client(&[query("select 1"), query("select 2")]);
    left.session.handle_client_eof();
    left.server(&[fatal]);
}

#[test]
fn the_end_that_is_the_sessions_own_is_never_held() {
    for code in ["57P05", "25P03", "25P04", "57P04", "57014", "XX000"] {
        for (mut talk, state) in states() {
            talk.server(&[report('E', "FATAL", code)]);
            let plan = talk.lost(b"", REPEAT);
            let LossPlan::AlreadyReported(FatalOrigin::Session(Some(own))) = plan else {
                panic!("{state}: {plan:?}")
            };
            assert_eq!(own.as_str(), code);
        }
    }
}

#[test]
fn a_crash_that_cannot_be_hidden_is_the_servers() {
    let mut pipelined = Talk::new();
    pipelined.client(&[query("select 1"), query("select 2")]).server(&[report('E', "FATAL", "57P02")]);
    assert!(matches!(pipelined.lost(b"", MOVE), LossPlan::AlreadyReported(FatalOrigin::Server(_))));
}

/// A session whose statement the proxy is describing.
fn asked() -> Talk {
    let mut talk = Talk::new();
    talk.prepare("s", "select 1");
    assert!(talk.session.questions().is_some());
    talk.records.0.clear();
    talk
}

#[test]
fn a_server_that_ends_during_own_requests_is_left_and_none_of_them_is_recorded() {
    for farewell in
        [report('E', "FATAL", "57P01"), report('E', "FATAL", "57P02"), report('N', "WARNING", "57P02")]
    {
        let mut talk = asked();
        assert_eq!(talk.server_step(&farewell).forward, 0);
        assert_eq!(talk.lost(&farewell, MOVE), LossPlan::Move);
        assert_eq!(talk.ends(), [""; 0]);
    }
    let mut own_end = asked();
    own_end.server(&[report('E', "FATAL", "57P05")]);
    let mut meant = asked();
    let fatal = report('E', "FATAL", "57P01");
    assert!(matches!(meant.server_step(&fatal).then, ServerThen::Terminated));
    meant.session.accept_farewell();
    meant.server(&[fatal]);
    for mut talk in [own_end, meant] {
        assert!(matches!(talk.lost(b"", MOVE), LossPlan::AlreadyReported(_)));
        assert_eq!(talk.ends(), [""; 0]);
    }
}
