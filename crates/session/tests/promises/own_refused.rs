//! Requests of the proxy's own that are refused, cut off, or meet a client that is ahead.

use trunkline_session::{ClientThen, LossPlan, ServerRole, ServerThen, TransactionStatus};

use crate::talk::*;

const INT: u32 = 23;

/// A session with these statements that has moved.
fn moved(names: &[&str]) -> Talk {
    moved_with(names, "select $1 a")
}

fn moved_with(names: &[&str], sql: &str) -> Talk {
    let mut talk = Talk::new();
    for name in names {
        talk.client(&[parse(name, sql), sync()]).server(&[m('1'), ready('I')]);
        talk.asks(&[name], &[INT], &["a"]);
    }
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken();
    talk
}

fn run(name: &str) -> [Vec<u8>; 3] {
    [bind(name), execute(), sync()]
}

/// What the server is asked before this message of the client's.
fn asked(talk: &mut Talk, messages: &[u8]) -> Vec<u8> {
    match talk.client_step(messages).then {
        ClientThen::Ask(own) => own.to_vec(),
        then => panic!("nothing is asked: {then:?}"),
    }
}

#[test]
fn a_long_refusal_is_truncated_and_its_rest_dropped() {
    let mut talk = moved(&["s"]);
    asked(&mut talk, &run("s").concat());
    let text = format!("SERROR\0VERROR\0C22P02\0M{}\0\0", "x".repeat(100_000));
    let long = message(b'E', text.as_bytes());
    let (mut at, mut end, mut told) = (0, 8192, Vec::new());
    while at < long.len() {
        end = end.max(at + 1).min(long.len());
        let step = talk.server_step(&long[at..end]);
        assert_eq!(step.forward, 0);
        told.extend_from_slice(step.inject.as_deref().unwrap_or_default());
        at += step.dropped;
        end = (end + 8192).min(long.len());
    }
    assert_eq!(told[0], b'E');
    let length = u32::from_be_bytes([told[1], told[2], told[3], told[4]]);
    assert_eq!(usize::try_from(length).ok(), Some(told.len() - 1));
    assert!(told.starts_with(&[&told[..5], &long[5..2000]].concat()) && told.ends_with(b"x\0\0"));
    assert!(!talk.session.is_paused());
}

#[test]
fn nothing_is_repeated_after_a_series_that_a_refusal_has_answered() {
    let mut talk = moved(&["s"]);
    asked(&mut talk, &run("s").concat());
    assert!(talk.server_step(&error()).inject.is_some());
    talk.client(&run("s"));
    talk.client(&[parse("", "select 1"), bind(""), execute(), sync()]);
    assert_ne!(talk.lost(b"", REPEAT), LossPlan::Repeat);
}

#[test]
fn nothing_is_repeated_after_a_query_that_a_refusal_has_answered() {
    let mut talk = moved(&["s"]);
    let execute = query("execute s(1)");
    asked(&mut talk, &execute);
    assert!(talk.server_step(&error()).inject.is_some());
    talk.client_step(&execute);
    talk.client(&[query("select 1")]);
    assert_ne!(talk.lost(b"", REPEAT), LossPlan::Repeat);
}

#[test]
fn of_two_changed_statements_the_one_after_the_error_is_unchanged() {
    let mut talk = moved(&["a", "b"]);
    let both = query("execute a(1); execute b(1)");
    asked(&mut talk, &both);
    for _ in 0..2 {
        talk.swallows(&[m('1'), takes(&[INT]), returns(&["other"])]);
    }
    talk.swallows(&[ready('I')]);
    let fails = asked(&mut talk, &both);
    let closes = fails.iter().filter(|byte| **byte == b'C').count();
    talk.swallows(&vec![m('3'); closes]);
    assert!(talk.server_step(&report('E', "ERROR", "34000")).inject.is_some());
    talk.client_step(&both);
    talk.server(&[ready('I')]).is_idle();
    for name in ["a", "b"] {
        let deallocate = query(&format!("deallocate {name}"));
        let own = talk.client_step(&deallocate).then;
        // Either it is there, for the client to drop, or it is dropped and something takes its place.
        if let ClientThen::Ask(own) = own {
            assert_eq!(own[0], b'C', "{name}: {}", printable(&own));
            talk.swallows(&[m('3'), m('1'), ready('I')]);
            talk.client(&[deallocate]);
        }
        talk.server(&[complete("DEALLOCATE"), ready('I')]);
    }
}

#[test]
fn a_series_is_still_open_after_the_end_of_a_copy() {
    let mut talk = moved(&["s"]);
    let ahead = [parse("", "copy t from stdin"), bind(""), execute(), m('c')].concat();
    let own = asked(&mut talk, &[ahead, query("execute s(1)")].concat());
    assert!(own.ends_with(b"H\0\0\0\x04"), "a Sync would end the series: {}", printable(&own));
    talk.server(&[error()]);
    assert!(!talk.session.is_paused());
}

#[test]
fn a_stand_in_that_was_skipped_is_prepared_again() {
    let mut talk = moved(&["s"]);
    let rest = [parse("", "deallocate s"), bind(""), execute(), sync()].concat();
    asked(&mut talk, &[parse("", "bad"), rest.clone()].concat());
    talk.server(&[error()]);
    assert!(!talk.session.is_paused());
    assert_eq!(talk.client_step(&rest).forward, rest.len());
    talk.server(&[ready('I')]).is_idle();
    asked(&mut talk, &query("deallocate s"));
}

#[test]
fn a_transaction_that_the_proxys_savepoint_failed_is_failed_for_the_client() {
    let mut talk = moved_with(&["s"], "select $1 a where '1/2/2020'::date > 'epoch'");
    asked(&mut talk, &query("begin"));
    talk.swallows(&[error(), ready('I')]);
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    asked(&mut talk, &query("SET LOCAL datestyle = 'DMY'"));
    talk.swallows(&[report('E', "ERROR", "57014"), ready('E')]);
    talk.swallows(&[m('3'), report('E', "ERROR", "3B001"), ready('E')]);
    assert_eq!(talk.session.transaction_status(), TransactionStatus::Failed);
}

#[test]
fn no_own_answer_is_forwarded_once_the_conversation_is_lost() {
    let mut talk = moved(&["s"]);
    talk.client(&[parse("", "copy t from stdin"), bind(""), execute(), sync()]);
    asked(&mut talk, &query("execute s(1)"));
    talk.server(&[m('1'), m('2'), m('G')]);
    let step = talk.server_step(&[error(), ready('I')].concat());
    assert!(matches!(step.then, ServerThen::Violation(_)), "{step:?}");
}

/// What a request of the proxy's own meets on a standby: it may be made on another one. Returns the talk up to the refusal.
fn own_canceled_in(head: &[Vec<u8>], request: &[u8]) -> Talk {
    let canceled = || {
        let mut talk = moved(&["s"]);
        asked(&mut talk, request);
        talk.swallows(head);
        let step = talk.server_step(&report('E', "ERROR", "40001"));
        assert_eq!((step.forward, step.dropped, step.inject), (0, 0, None));
        assert!(
            matches!(step.then, ServerThen::Conflict(code) if code.as_str() == "40001"),
            "{:?}",
            step.then
        );
        assert!(talk.session.has_sent_nothing());
        talk
    };
    let mut talk = canceled();
    assert_eq!(talk.session.repeatable(), Ok(()));
    talk.session.rewind(talk.now);
    talk.taken();
    assert!(talk.session.is_before_request());
    asked(&mut talk, request);

    let mut talk = canceled();
    talk.session.accept_answer();
    talk
}

#[test]
fn conflict_in_what_a_message_needs_is_offered_like_one_in_the_message() {
    let answer = report('E', "ERROR", "40001");
    for request in [query("execute s(1)"), run("s").concat()] {
        for head in [vec![], vec![m('1')]] {
            let step = own_canceled_in(&head, &request).server_step(&answer);
            assert_eq!((step.dropped, step.inject.as_deref()), (answer.len(), Some(&answer[..])));
        }
    }
}

#[test]
fn conflict_in_what_is_prepared_ahead_of_a_message_is_offered_too() {
    let answer = report('E', "ERROR", "40001");
    let request = query("set search_path = one; execute s(1)");
    let run = |tag| vec![m('3'), m('1'), m('2'), complete(tag), m('3'), m('3')];
    for head in [vec![], run("BEGIN"), [run("BEGIN"), run("SET")].concat()] {
        let step = own_canceled_in(&head, &request).server_step(&answer);
        assert_eq!((step.dropped, step.inject), (answer.len(), None), "nobody else can take it");
    }
}

#[test]
fn conflict_in_what_a_message_needs_is_the_clients_where_its_request_stays() {
    let answer = report('E', "ERROR", "40001");
    let mut begun = moved(&["s"]);
    begun.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    asked(&mut begun, &run("s").concat());
    let mut primary = moved(&["s"]);
    primary.session.server_taken("primary".into(), ServerRole::Primary, bytes::Bytes::new());
    asked(&mut primary, &run("s").concat());
    for talk in [&mut begun, &mut primary] {
        let step = talk.server_step(&answer);
        assert_eq!(step.inject.as_deref(), Some(&answer[..]));
    }
}
