//! The extended query protocol.

use trunkline_session::limits::OUTSTANDING_MAX;
use trunkline_session::{ClientThen, PinReason};

use crate::pins_end::NOTHING;
use crate::talk::*;

#[test]
fn each_sync_owes_one_ready_for_query() {
    let mut talk = Talk::new();
    let unit = [parse("", "select 1"), bind(""), execute(), sync()];
    talk.client(&unit).client(&unit);
    let answer = [m('1'), m('2'), m('D'), complete("SELECT 1"), ready('I')];
    talk.server(&answer).is_busy().server(&answer).is_idle();
}

#[test]
fn messages_without_a_sync_are_an_open_transaction() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "select 1"), flush()]).server(&[m('1')]).is_busy();
    assert_eq!(talk.session.pinned(), Some(PinReason::Transaction));
    talk.client(&[sync()]).server(&[ready('I')]).is_idle();
    talk.client(&[flush()]).is_idle();
}

#[test]
fn an_error_skips_to_the_sync_that_was_sent() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "oops"), bind(""), query("skipped"), execute(), sync(), query("select 1")]);
    talk.server(&[error()]).is_busy().server(&[ready('I')]).is_busy();
    talk.server(&[m('T'), complete("SELECT 0"), ready('I')]).is_idle();
    assert_eq!(talk.ends(), ["failed 22012", "SELECT 0"]);
}

#[test]
fn an_error_skips_what_is_sent_until_the_next_sync() {
    let mut talk = Talk::new();
    talk.client(&[bind("none"), flush()]).server(&[error()]).is_busy();
    talk.client(&[query("skipped"), m('d'), m('c'), execute(), message(b'F', b"")]).is_busy();
    talk.client(&[sync(), query("select 1")]);
    talk.server(&[ready('I')]).is_busy().server(&[complete("SELECT 0"), ready('I')]).is_idle();
}

#[test]
fn an_error_of_a_query_does_not_skip() {
    let mut talk = Talk::new();
    talk.client(&[query("oops"), bind("a"), execute(), sync()]);
    talk.server(&[error(), ready('I'), m('2'), complete("SELECT 0"), ready('I')]).is_idle();
}

#[test]
fn an_error_at_sync_owes_one_ready_for_query() {
    let mut talk = Talk::new();
    talk.client(&[bind("a"), execute(), sync(), query("select 1")]);
    talk.server(&[m('2'), complete("INSERT 0 1"), error(), ready('I')]).is_busy();
    talk.server(&[complete("SELECT 0"), ready('I')]).is_idle();
}

#[test]
fn a_query_may_join_the_pipeline_before_it() {
    let unit = [bind("a"), execute(), query("select 1")];
    let answer = [m('2'), complete("SELECT 0"), m('T'), complete("SELECT 0")];
    let mut until_17 = Talk::new();
    until_17.client(&unit).server(&answer).server(&[ready('I')]).is_idle();
    let mut since_18 = Talk::new();
    since_18.client(&unit).server(&answer).server(&[ready('T')]).is_busy();
    since_18.client(&[sync()]).server(&[ready('I')]).is_idle();
}

#[test]
fn describe_takes_one_or_two_answers() {
    let mut talk = Talk::new();
    talk.client(&[message(b'D', b"Sa\0"), message(b'D', b"P\0"), message(b'C', b"Sa\0"), sync()]);
    talk.server(&[m('t'), m('n'), m('T'), m('3')]).is_busy().server(&[ready('I')]).is_idle();
}

#[test]
fn a_flush_with_a_body_fails_like_an_extended_message() {
    let mut talk = Talk::new();
    talk.client(&[message(b'H', b"x"), query("skipped"), sync()]);
    talk.server(&[error(), ready('I')]).is_idle();
}

#[test]
fn a_client_that_does_not_wait_is_paused_until_half_is_answered() {
    let mut talk = Talk::new();
    let queries = query("").repeat(OUTSTANDING_MAX);
    let step = talk.client_step(&queries[..queries.len() - 6]);
    assert!(matches!(step.then, ClientThen::ReadOn));
    let step = talk.client_step(&[query(""), query("")].concat());
    assert!(matches!(step.then, ClientThen::Pause));
    assert_eq!(step.forward, 6);
    assert_eq!(talk.session.outstanding(), OUTSTANDING_MAX);

    for _ in 0..OUTSTANDING_MAX / 2 {
        assert!(talk.session.is_paused());
        assert_eq!(talk.client_step(&query("")).forward, 0);
        talk.server(&[m('I'), ready('I')]);
    }
    assert!(!talk.session.is_paused());
    talk.client(&[query("")]);
    for _ in 0..=OUTSTANDING_MAX / 2 {
        talk.server(&[m('I'), ready('I')]);
    }
    talk.is_idle();
}

/// Up to PostgreSQL 17 a procedure may commit what came before it in a pipeline, and the pipeline fail later.
#[test]
fn what_a_call_may_have_committed_in_a_pipeline_that_fails_is_asked_for() {
    let series = |sql: &str| [parse("", sql), bind(""), execute()].concat();
    let begun = || vec![m('1'), m('2')];
    let call = || [begun(), vec![complete("CALL")]].concat();
    for (rest, answers) in [
        (vec!["call p()", "select 1 / 0"], [call(), begun(), vec![error()]].concat()),
        (vec!["call p()"], [begun(), vec![error()]].concat()),
        (
            vec!["do 'begin commit; end'", "select 1 / 0"],
            [begun(), vec![complete("DO")], begun(), vec![error()]].concat(),
        ),
    ] {
        let mut talk = Talk::new();
        let sent: Vec<Vec<u8>> =
            std::iter::once("set work_mem = '7MB'").chain(rest.iter().copied()).map(series).collect();
        talk.client(&sent).client(&[sync()]);
        talk.server(&[begun(), vec![complete("SET")], answers, vec![ready('I')]].concat());
        if rest[0].starts_with("call") {
            talk.asks_for_pins(NOTHING);
            assert!(talk.session.must_read_back(), "{rest:?}");
            talk.reads_back(&[Some("7MB")]).is_movable();
            assert!(talk.told()[0].contains("'work_mem', '7MB'"), "{:?}", talk.told());
        } else {
            assert!(talk.session.movability().is_err());
        }
    }
    let mut talk = Talk::new();
    talk.client(&[series("set work_mem = '7MB'"), series("select 1 / 0"), sync()]);
    talk.server(&[begun(), vec![complete("SET")], begun(), vec![error(), ready('I')]].concat()).is_movable();
    assert!(talk.told().is_empty(), "it was rolled back");
}
