//! Prepared statements on another server: prepared when they are used, with the shape that the client knows or not at all.

mod sql;

use trunkline_session::{ClientThen, LossPlan, PinReason};

use crate::talk::*;

const INT: u32 = 23;

/// A session with the statement `s`, of one parameter, on another server than the one that prepared it.
fn moved() -> Talk {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "select $1 a"), sync()]).server(&[m('1'), ready('I')]);
    talk.asks(&["s"], &[INT], &["a"]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken();
    talk
}

fn run() -> [Vec<u8>; 3] {
    [bind("s"), execute(), sync()]
}

/// What stands in for the statement `name`.
fn stand_in(name: &str) -> Vec<u8> {
    parse_of(name, "", &[INT])
}

/// What tries the Bind of [`run`] on the stand-in, and drops that.
fn tried_on(name: &str) -> Vec<u8> {
    [bind(name), message(b'C', b"P\0"), close(name)].concat()
}

fn tried(name: &str) -> Vec<u8> {
    [stand_in(name), tried_on(name)].concat()
}

/// The answers to [`tried`].
fn is_tried() -> [Vec<u8>; 4] {
    [m('1'), m('2'), m('3'), m('3')]
}

/// What makes the statement of [`moved`] again.
fn made_again() -> [Vec<u8>; 2] {
    [parse_of("s", "select $1 a", &[INT]), describe("s")]
}

/// What the client gets in place of the server's answer.
fn replaced(talk: &mut Talk, answer: &[u8]) -> String {
    let step = talk.server_step(answer);
    assert_eq!((step.forward, step.dropped), (0, answer.len()));
    printable(&step.inject.expect("something is told"))
}

fn is_changed(told: &str) -> bool {
    told.contains("C0A000")
        && told.contains("moved to")
        && told.contains("cached plan must not change result type")
}

#[test]
fn a_refused_parse_of_a_statement_does_not_put_its_stand_in_in_its_place() {
    let mut talk = moved();
    let again = [parse("s", "select $1 a"), sync()];
    talk.needs(&again, &[stand_in("s"), flush()]).swallows(&[m('1')]).client(&again);
    // The client does not wait for the refusal.
    let [parsed, described] = made_again();
    talk.needs(&run(), &[tried_on("s"), parsed, described, flush()]);
}

#[test]
fn a_statement_is_prepared_again_with_its_types_when_it_is_used() {
    let mut talk = moved();
    assert!(talk.alignment().is_empty(), "not before");
    talk.client(&[query("select 1")]).server(&[complete("SELECT 1"), ready('I')]);
    let [parsed, described] = made_again();
    talk.needs(&run(), &[tried("s"), parsed, described, flush()]).swallows(&is_tried());
    talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"])]).client(&run());
    talk.server(&[m('2'), complete("SELECT 1"), ready('I')]).is_idle();
    talk.client(&run()).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    let [parsed, described] = made_again();
    talk.taken().needs(&[describe("s"), sync()], &[parsed, described, flush()]);
}

#[test]
fn notices_of_statements_prepared_again_do_not_come_twice() {
    let mut talk = moved();
    let [parsed, described] = made_again();
    talk.needs(&run(), &[tried("s"), parsed, described, flush()]).swallows(&is_tried());
    talk.swallows(&[report('N', "NOTICE", "42622"), m('1'), takes(&[INT]), returns(&["a"])]).client(&run());
    talk.server(&[report('N', "NOTICE", "42622"), m('2'), complete("SELECT 1"), ready('I')]).is_idle();
}

#[test]
fn a_long_notice_of_a_statement_prepared_again_does_not_come_in_parts() {
    let mut talk = moved();
    let [parsed, described] = made_again();
    talk.needs(&run(), &[tried("s"), parsed, described, flush()]).swallows(&is_tried());
    let text = format!("SNOTICE\0VNOTICE\0C42622\0M{}\0\0", "x".repeat(100_000));
    let long = message(b'N', text.as_bytes());
    let mut at = 0;
    while at < long.len() {
        let step = talk.server_step(&long[at..(at + 8192).min(long.len())]);
        assert_eq!((step.forward, step.inject), (0, None));
        assert!(step.dropped > 0);
        at += step.dropped;
    }
    talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"])]).client(&run());
}

#[test]
fn what_the_client_has_described_itself_is_not_asked() {
    let mut talk = Talk::new();
    talk.client(&[parse("a", "select $1"), describe("a"), sync()]);
    talk.server(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]);
    assert_eq!(talk.session.questions(), None);
    let portal = message(b'D', b"P\0");
    talk.client(&[parse_of("b", "select $1", &[INT]), bind("b"), portal.clone(), execute(), sync()]);
    talk.server(&[m('1'), m('2'), returns(&["b"]), complete("SELECT 1"), ready('I')]);
    assert_eq!(talk.session.questions(), None, "a portal has the columns of its statement");
    talk.client(&[parse("c", "select $1"), bind("c"), portal, execute(), sync()]);
    talk.server(&[m('1'), m('2'), returns(&["b"]), complete("SELECT 1"), ready('I')]);
    talk.asks(&["c"], &[INT], &["b"]);
    talk.client(&[query("prepare d as select 1")]).server(&[complete("PREPARE"), ready('I')]);
    talk.asks(&["d"], &[], &["b"]);
}

#[test]
fn a_statement_of_another_shape_fails_each_time_until_the_client_prepares_it_again() {
    for (types, columns) in [(&[INT][..], &["b"][..]), (&[INT], &["a", "b"]), (&[INT], &[]), (&[25], &["a"])]
    {
        let mut talk = moved();
        for round in 0..2 {
            let [parsed, described] = made_again();
            // It was to be dropped before the error, which may have been skipped with it.
            let again = if round == 0 { Vec::new() } else { vec![close("s")] };
            talk.needs(&run(), &[again.clone(), vec![tried("s"), parsed, described, flush()]].concat());
            talk.swallows(&again.iter().map(|_| m('3')).collect::<Vec<_>>()).swallows(&is_tried());
            talk.swallows(&[m('1'), takes(types), returns(columns)]);
            let fails = message(b'E', b"trunkline: statement changed\0\0\0\0\0");
            talk.needs(&run(), &[close("s"), tried("s"), fails, flush()]);
            talk.swallows(&[m('3')]).swallows(&is_tried());
            assert!(is_changed(&replaced(&mut talk, &report('E', "ERROR", "34000"))), "round {round}");
            // The server skips it.
            talk.client(&run()).server(&[ready('I')]).is_idle();
        }
        talk.client(&[close("s"), parse("s", "select $1 a"), bind("s"), execute(), sync()]);
        talk.server(&[m('3'), m('1'), m('2'), complete("SELECT 1"), ready('I')]);
        talk.asks(&["s"], types, columns).client(&run());
    }
}

#[test]
fn a_statement_that_the_server_refuses_fails_alone_with_the_servers_error() {
    let mut talk = moved();
    let ahead = [parse("", "select 1"), bind(""), execute()];
    let step = talk.client_step(&[ahead.concat(), run().concat()].concat());
    assert_eq!(step.forward, ahead.concat().len());
    assert!(matches!(step.then, ClientThen::Ask(_)));
    talk.server(&[m('1'), m('2'), complete("SELECT 1")]).swallows(&is_tried());
    assert_eq!(replaced(&mut talk, &error()), printable(&error()));
    talk.client(&run()).server(&[ready('I')]).is_idle();
    let [parsed, described] = made_again();
    talk.needs(&run(), &[close("s"), tried("s"), parsed, described, flush()]);
}

#[test]
fn a_describe_that_fails_tells_the_parameters_first_as_the_server_does() {
    let mut talk = moved();
    let asked = [describe("s"), sync()];
    let [parsed, described] = made_again();
    talk.needs(&asked, &[parsed, described, flush()]);
    assert_eq!(replaced(&mut talk, &error()), printable(&[takes(&[INT]), error()].concat()));
    talk.client(&asked).server(&[ready('I')]).is_idle();
}

#[test]
fn what_failed_before_it_fails_for_the_client_only_once() {
    let mut talk = moved();
    let step = talk.client_step(&[parse("", "oops"), run().concat()].concat());
    assert!(matches!(step.then, ClientThen::Ask(_)));
    talk.server(&[error()]).client(&run()).server(&[ready('I')]).is_idle();
}

#[test]
fn a_statement_is_dropped_without_being_prepared() {
    let mut talk = moved();
    let drop = [query("deallocate s")];
    talk.needs(&drop, &[stand_in("s"), sync()]).swallows(&[m('1'), ready('I')]);
    talk.client(&drop).server(&[complete("DEALLOCATE"), ready('I')]).is_idle();
    assert_eq!(talk.session.prepared_statements().count(), 0);
    let mut talk = moved();
    talk.needs(&drop, &[stand_in("s"), sync()]).swallows(&[m('1'), ready('I')]);
    talk.client(&drop).server(&[error(), ready('I')]);
    let [parsed, described] = made_again();
    talk.needs(&run(), &[tried_on("s"), parsed, described, flush()]);
    let mut talk = moved();
    talk.client(&[close("s"), sync()]).server(&[m('3'), ready('I')]);
    assert_eq!(talk.session.prepared_statements().count(), 0);
}

#[test]
fn a_name_stays_taken_by_a_statement_that_is_not_prepared_yet() {
    let by_protocol = (vec![parse("s", "select 2"), sync()], flush(), vec![m('1')]);
    let by_sql = (vec![query("prepare s as select 2")], sync(), vec![m('1'), ready('I')]);
    for (again, end, answers) in [by_protocol, by_sql] {
        let mut talk = moved();
        talk.needs(&again, &[stand_in("s"), end]).swallows(&answers);
        talk.client(&again).server(&[error(), ready('I')]).is_idle();
        let [parsed, described] = made_again();
        talk.needs(&run(), &[tried_on("s"), parsed, described, flush()]);
    }
}

#[test]
fn all_statements_are_there_where_they_are_listed() {
    let mut talk = moved();
    let lists = [query("select name from pg_prepared_statements")];
    let [parsed, described] = made_again();
    talk.needs(&lists, &[parsed, described, sync()]);
    talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]);
    talk.client(&lists).server(&[complete("SELECT 1"), ready('I')]).is_idle();
    let mut talk = moved();
    talk.ran_to("begin", &["BEGIN"], 'T');
    let step = talk.client_step(&lists[0]);
    let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
    assert!(printable(&asked).contains("select $1 a"), "also in a transaction");
    let mut talk = moved();
    let runs = [query("do $$begin execute 'execute s'; end$$")];
    let [parsed, described] = made_again();
    talk.needs(&runs, &[parsed, described, sync()]);
    let mut talk = moved();
    let [parsed, described] = made_again();
    talk.needs(&lists, &[parsed, described, sync()]).swallows(&[error(), ready('I')]);
    talk.client(&lists).server(&[complete("SELECT 0"), ready('I')]).is_idle();
}

#[test]
fn the_unnamed_statement_is_asked_for_when_it_is_wanted_again() {
    let mut talk = Talk::new();
    let series = [parse("", "select $1 a"), bind(""), execute(), sync()];
    talk.client(&series).server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    assert!(!talk.session.has_questions(), "mostly it is not");
    assert_eq!(talk.session.last_questions(), Some([describe(""), sync()].concat().into()));
    talk.swallows(&[takes(&[INT]), returns(&["a"]), ready('I')]);
    assert_eq!(talk.session.last_questions(), None);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    let again = [bind(""), execute(), sync()];
    let made_again = [parse_of("", "select $1 a", &[INT]), describe("")].concat();
    talk.taken().needs(&again, &[tried(""), made_again, flush()]);

    let mut talk = Talk::new();
    talk.client(&series).server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    // Nobody has told its client anything of it.
    talk.taken().needs(&again, &[parse("", "select $1 a"), describe(""), flush()]);

    let mut talk = Talk::new();
    talk.client(&series).server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    talk.client(&again).server(&[m('2'), complete("SELECT 1"), ready('I')]).asks(&[""], &[INT], &["a"]);
    talk.client(&[query("select 1")]).server(&[complete("SELECT 1"), ready('I')]);
    assert_eq!(talk.session.last_questions(), None, "a Query dropped it");
}

#[test]
fn a_server_lost_while_the_proxy_asks_was_asked_nothing_of_the_client() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "select $1 a"), bind("s"), execute(), sync()]);
    talk.server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    assert!(talk.session.questions().is_some());
    talk.swallows(&[takes(&[INT])]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken().is_idle();
    // Nobody knows what it was.
    let fails = message(b'E', b"trunkline: statement changed\0\0\0\0\0");
    talk.needs(&run(), &[fails, flush()]);
    assert!(is_changed(&replaced(&mut talk, &report('E', "ERROR", "34000"))));
    talk.client(&run()).server(&[ready('I')]).is_idle();

    let mut talk = moved();
    let [parsed, described] = made_again();
    let all = [tried("s"), parsed, described, flush()];
    talk.needs(&run(), &all).swallows(&is_tried()).swallows(&[m('1')]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken().needs(&run(), &all);
}

#[test]
fn a_statement_that_the_client_has_not_used_is_prepared_without_a_check() {
    for name in ["s", ""] {
        let mut talk = Talk::new();
        talk.client(&[parse(name, "select $1 a"), sync()]).server(&[m('1'), ready('I')]);
        assert!(talk.session.questions().is_some());
        assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
        let run = [bind(name), execute(), sync()];
        talk.taken().needs(&run, &[parse(name, "select $1 a"), describe(name), flush()]);
        talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"])]).client(&run);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]).is_idle();
        assert_eq!(talk.session.questions(), None, "it is known now");
        assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
        let made_again = [parse_of(name, "select $1 a", &[INT]), describe(name)].concat();
        talk.taken().needs(&run, &[tried(name), made_again, flush()]);
    }
}

#[test]
fn what_is_wrong_with_a_bind_is_said_before_what_is_wrong_with_its_statement() {
    let mut talk = moved();
    let [parsed, described] = made_again();
    talk.needs(&run(), &[tried("s"), parsed.clone(), described.clone(), flush()]).swallows(&[m('1')]);
    assert_eq!(replaced(&mut talk, &error()), printable(&error()));
    talk.client(&run()).server(&[ready('I')]).is_idle();
    // The stand-in is still there.
    talk.needs(&run(), &[tried_on("s"), parsed, described, flush()]);

    let mut talk = Talk::new();
    talk.client(&[parse("s", "select 1"), sync()]).server(&[m('1'), ready('I')]).asks(&["s"], &[], &["a"]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken().needs(&run(), &[parse("s", "select 1"), describe("s"), flush()]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    let (stand_in, bind) = (parse("s", ""), bind_to("s", &[Some("1")]));
    let tried = [stand_in, bind.clone(), message(b'C', b"P\0"), close("s")].concat();
    let own = [tried, parse("s", "select 1"), describe("s"), flush()];
    talk.taken().needs(&[bind, execute(), sync()], &own);
}

#[test]
fn a_statement_with_columns_of_the_moment_is_neither_described_nor_compared() {
    for sql in ["fetch 1 from c", "execute p"] {
        let mut talk = Talk::new();
        talk.client(&[parse("f", sql), sync()]).server(&[m('1'), ready('I')]);
        assert_eq!(talk.session.questions(), None, "{sql}");
        assert_eq!((talk.session.stays_for(), talk.lost(b"", MOVE)), (None, LossPlan::Move));
        let run = [bind("f"), execute(), sync()];
        talk.taken().needs(&run, &[parse("f", sql), describe("f"), flush()]);
        talk.swallows(&[m('1'), takes(&[]), returns(&["a"])]).client(&run);
        talk.server(&[m('2'), complete("FETCH 1"), ready('I')]);
    }
}

#[test]
fn a_statement_without_rows_is_described_without_being_prepared() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "insert into t values ($1)"), sync()]).server(&[m('1'), ready('I')]);
    talk.asks(&["s"], &[INT], &[]).lost(b"", MOVE);
    let asked = [describe("s"), sync()];
    talk.taken().needs(&asked, &[stand_in("s"), flush()]).swallows(&[m('1')]);
    talk.client(&asked).server(&[takes(&[INT]), returns(&[]), ready('I')]).is_idle();
    let made_again = [parse_of("s", "insert into t values ($1)", &[INT]), describe("s")].concat();
    talk.needs(&run(), &[tried_on("s"), made_again, flush()]);
}

#[test]
fn a_statement_new_to_the_client_is_prepared_before_anything_else() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "select $1 a"), sync()]).server(&[m('1'), ready('I')]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    let set = [query("set search_path = other")];
    talk.taken().needs(&set, &[parse("s", "select $1 a"), describe("s"), sync()]);
    talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]).client(&set);
}

#[test]
fn a_statement_that_is_not_described_keeps_the_session_on_a_server_that_serves() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "select 1"), sync()]).server(&[m('1'), ready('I')]);
    assert!(talk.session.questions().is_some());
    assert_eq!(talk.session.stays_for(), None);
    talk.swallows(&[error(), ready('I')]);
    assert_eq!(talk.session.stays_for(), Some(PinReason::StatementNotDescribed));
    assert_eq!(talk.session.movability(), Ok(()), "it goes on elsewhere when this one is lost");
    assert_eq!(talk.session.questions(), None);
    // The settings may be others now.
    talk.client(&[bind("s"), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    talk.asks(&["s"], &[], &["a"]);
    assert_eq!(talk.session.stays_for(), None);

    let mut talk = Talk::new();
    talk.client(&[parse("s", "select 1"), sync()]).server(&[m('1'), ready('I')]);
    assert!(talk.session.questions().is_some());
    talk.swallows(&[error(), ready('I')]).client(&[close("s"), sync()]).server(&[m('3'), ready('I')]);
    assert_eq!(talk.session.stays_for(), None);
}

#[test]
fn notices_of_the_server_reach_the_client_also_between_answers_to_the_proxy() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "select 1"), sync()]).server(&[m('1'), ready('I')]);
    assert!(talk.session.questions().is_some());
    talk.server(&[m('A')]).swallows(&[takes(&[])]).server(&[status("TimeZone", "CET")]);
    talk.swallows(&[returns(&["a"]), ready('I')]).is_idle();
}

#[test]
fn a_statement_that_is_not_described_is_asked_for_once() {
    let mut talk = Talk::new();
    talk.client(&[parse("a", "select 1"), parse("b", "select 1"), sync()]).server(&[
        m('1'),
        m('1'),
        ready('I'),
    ]);
    assert_eq!(talk.session.questions(), Some([describe("a"), describe("b"), sync()].concat().into()));
    talk.swallows(&[error(), ready('I')]).asks(&["b"], &[], &["b"]);
    assert_eq!(talk.session.questions(), None);
}

#[test]
fn columns_too_wide_to_be_noted_keep_the_session_where_it_is() {
    let mut talk = Talk::new();
    talk.client(&[parse("wide", "select 1"), sync()]).server(&[m('1'), ready('I')]);
    assert!(talk.session.questions().is_some());
    talk.swallows(&[takes(&[])]);
    let names: Vec<String> = (0..1600).map(|n| format!("column_{n:04}")).collect();
    let wide = returns(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut tail = Vec::new();
    let mut dropped = 0;
    for chunk in [&wide[..], &ready('I')].concat().chunks(5000) {
        tail.extend_from_slice(chunk);
        loop {
            let step = talk.server_step(&tail);
            assert_eq!((step.forward, step.inject), (0, None));
            tail.drain(..step.dropped);
            dropped += step.dropped;
            if step.dropped == 0 {
                break;
            }
        }
    }
    assert_eq!(dropped, wide.len() + 6);
    talk.is_idle();
    assert_eq!(talk.session.movability(), Err(PinReason::StatementsTooLarge));
    talk.client(&[close("wide"), sync()]).server(&[m('3'), ready('I')]);
    assert_eq!(talk.session.movability(), Ok(()));
}
