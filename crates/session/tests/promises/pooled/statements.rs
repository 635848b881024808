//! Prepared statements of sessions that take turns.

use trunkline_session::{ClientThen, LossPlan};

use super::*;

fn run(name: &str) -> [Vec<u8>; 3] {
    [bind(name), execute(), sync()]
}

fn ran() -> [Vec<u8>; 3] {
    [m('2'), complete("SELECT 1"), ready('I')]
}

#[test]
fn a_session_that_comes_back_has_its_statements() {
    let mut talk = Talk::new();
    talk.prepared("s", "select 1", &["a"]);
    let left = talk.checks_in();
    assert!(talk.checks_out(&left).is_empty());
    talk.client(&run("s")).server(&ran());
}

#[test]
fn an_equal_statement_of_another_session_is_used() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    for talk in [&mut one, &mut other] {
        talk.prepared("s", "select 1", &["a"]);
    }
    let left = one.checks_in();
    assert_eq!(left.fingerprint(), other.session.state().fingerprint());
    assert!(other.checks_out(&left).is_empty());
    other.client(&run("s")).server(&ran());
    let left = other.checks_in();
    assert!(one.checks_out(&left).is_empty());
    one.client(&run("s")).server(&ran());
}

#[test]
fn a_statement_of_the_same_name_with_another_content_is_closed_and_made() {
    let others = [("select 2", &["a"][..]), ("select 1", &["b"])];
    for (sql, columns) in others {
        let (mut one, mut other) = (Talk::new(), Talk::new());
        one.prepared("s", sql, columns);
        other.prepared("s", "select 1", &["a"]);
        let left = one.checks_in();
        assert_ne!(left.fingerprint(), other.session.state().fingerprint());
        assert_eq!(other.checks_out(&left), ["close s"], "{sql} {columns:?}");
        let made = [parse("s", "select 1"), describe("s"), flush()];
        other.needs(&run("s"), &made).swallows(&[m('1'), takes(&[]), returns(&["a"])]);
        other.client(&run("s")).server(&ran());
        let left = other.checks_in();
        assert!(other.checks_out(&left).is_empty());
    }
}

#[test]
fn other_types_of_parameters_are_another_content() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    for (talk, types) in [(&mut one, [23]), (&mut other, [25])] {
        let sql = "select $1";
        talk.client(&[parse_of("s", sql, &types), sync()]).server(&[m('1'), ready('I')]);
        talk.asks(&["s"], &types, &["a"]);
    }
    let left = one.checks_in();
    assert_eq!(other.checks_out(&left), ["close s"]);
}

#[test]
fn statements_of_another_session_alone_are_all_dropped() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.prepared("s", "select 1", &["a"]).prepared("t", "select 2", &["a"]);
    let left = one.checks_in();
    assert_eq!(other.checks_out(&left), ["DEALLOCATE ALL"]);
    other.prepared("t", "select 2", &["a"]);
    let left = other.checks_in();
    assert!(one.checks_out(&left).is_empty(), "the other is made when it is used");
    let made = [parse("s", "select 1"), describe("s"), flush()];
    one.needs(&run("s"), &made).swallows(&[m('1'), takes(&[]), returns(&["a"])]);
    one.client(&run("s")).server(&ran());
    one.client(&run("t")).server(&ran());
    let left = one.checks_in();
    assert_eq!(other.checks_out(&left), ["close s"]);
}

#[test]
fn constants_read_under_other_settings_are_another_content() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran_with("set timezone = 'CET'", "SET", &[status("TimeZone", "CET")]);
    for talk in [&mut one, &mut other] {
        talk.prepared("s", "select timestamptz '2026-01-01'", &["a"]).prepared("t", "select 1", &["a"]);
    }
    let left = one.checks_in();
    assert_eq!(other.checks_out(&left), ["RESET ALL", "close s"]);
    let made = [parse("s", "select timestamptz '2026-01-01'"), describe("s"), sync()];
    other.needs(&run("t"), &made).swallows(&[m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    other.client(&run("t"));
}

#[test]
fn a_path_under_which_a_statement_was_analysed_is_a_part_of_it() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran("set search_path = x", &["SET"]);
    for talk in [&mut one, &mut other] {
        talk.prepared("s", "select a from t", &["a"]);
    }
    let left = one.checks_in();
    assert_eq!(other.checks_out(&left), ["RESET ALL", "close s"]);
}

#[test]
fn statements_of_sql_are_carried_and_told_apart() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    for talk in [&mut one, &mut other] {
        talk.ran("prepare s as select 1", &["PREPARE"]).asks(&["s"], &[], &["a"]);
    }
    let left = one.checks_in();
    assert!(other.checks_out(&left).is_empty());
    other.ran("execute s", &["SELECT 1"]).ran("deallocate s", &["DEALLOCATE"]);
    let left = other.checks_in();
    assert!(one.checks_out(&left).is_empty());
    let step = one.client_step(&query("execute s"));
    assert!(matches!(step.then, trunkline_session::ClientThen::Ask(_)), "it is gone there");
    let mut third = Talk::new();
    third.prepared("s", "select 1", &["a"]);
    let mut fourth = Talk::new();
    fourth.ran("prepare s as select 1", &["PREPARE"]).asks(&["s"], &[], &["a"]);
    let left = third.checks_in();
    assert_eq!(fourth.checks_out(&left), ["close s"], "by a Parse or by SQL");
}

#[test]
fn a_statement_that_is_not_described_yet_keeps_its_connection() {
    let mut talk = Talk::new();
    talk.prepare("s", "select 1").stays_with(PinReason::StatementNotDescribed);
    talk.asks(&["s"], &[], &["a"]).checks_in();
}

#[test]
fn after_alter_table_each_session_has_the_shape_that_its_client_knows() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.prepared("s", "select * from t", &["a"]);
    other.prepared("s", "select * from t", &["a", "b"]);
    let left = other.checks_in();
    assert_eq!(one.checks_out(&left), ["close s"]);
    let made = [parse("s", "select * from t"), describe("s"), flush()];
    one.needs(&run("s"), &made).swallows(&[m('1'), takes(&[]), returns(&["a", "b"])]);
    // The statement differs from what its client knows.
    let step = one.client_step(&run("s").concat());
    assert!(matches!(step.then, trunkline_session::ClientThen::Ask(_)), "an error is provoked");
    let step = one.server_step(&[m('3'), report('E', "ERROR", "34000")].concat());
    assert!(step.inject.is_some() || step.dropped > 0);
    one.client_step(&run("s").concat());
}

#[test]
fn an_unnamed_statement_of_another_session_is_not_found() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    let series = [parse("", "select 1"), bind(""), execute(), sync()];
    let answers = [m('1'), m('2'), complete("SELECT 1"), ready('I')];
    one.client(&series).server(&answers);
    let left = one.checks_in();
    assert!(other.checks_out(&left).is_empty(), "that costs nothing");
    other.needs(&run(""), &[close(""), flush()]).swallows(&[m('3')]);
    other.client(&run("")).server(&[report('E', "ERROR", "26000"), ready('I')]);
    other.client(&series).server(&answers);
    let left = other.checks_in();
    one.checks_out(&left);
    one.client(&series).server(&answers);
    let left = one.checks_in();
    assert!(other.checks_out(&left).is_empty());
    // Nobody has told its client the columns: it is made anew.
    let made = [parse("", "select 1"), describe(""), flush()];
    other.needs(&run(""), &made).swallows(&[m('1'), takes(&[]), returns(&["a"])]);
    other.client(&run("")).server(&ran());
}

/// A session that has described a portal of its unnamed statement, and is on a connection that does not have it.
fn with_a_portal_described() -> Talk {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.client(&[parse("", "select 1"), bind(""), describe_portal(), execute(), sync()]);
    one.server(&[m('1'), m('2'), returns(&["a"]), complete("SELECT 1"), ready('I')]);
    other.ran("select 1", &["SELECT 1"]);
    let left = other.checks_in();
    one.checks_out(&left);
    one
}

/// What the proxy sends to have a series fail.
fn fails() -> Vec<u8> {
    message(b'E', b"trunkline: statement changed\0\0\0\0\0")
}

fn describe_portal() -> Vec<u8> {
    message(b'D', b"P\0")
}

#[test]
fn an_unnamed_statement_whose_portal_is_described_again_goes_along() {
    let mut talk = with_a_portal_described();
    let series = [bind(""), describe_portal(), execute(), sync()];
    talk.needs(&series, &[parse("", "select 1"), describe(""), flush()]);
    talk.swallows(&[m('1'), takes(&[]), returns(&["b"])]);
    talk.client(&series).server(&[m('2'), returns(&["b"]), complete("SELECT 1"), ready('I')]);
    // It is known now.
    let again = with_a_portal_described().checks_in();
    talk.checks_out(&again);
    talk.needs(&run(""), &[parse("", "select 1"), describe(""), flush()]);
    talk.swallows(&[m('1'), takes(&[]), returns(&["b"])]).client(&run("")).server(&ran());
}

#[test]
fn a_bind_of_the_unnamed_statement_waits_for_the_message_behind_it_where_that_decides() {
    let mut talk = with_a_portal_described();
    let series = [bind(""), describe_portal(), execute(), sync()].concat();
    for end in 0..bind("").len() + describe_portal().len() {
        let step = talk.client_step(&series[..end]);
        assert_eq!((step.forward, matches!(step.then, ClientThen::ReadOn)), (0, true), "{end}");
    }
    let made = [parse("", "select 1"), describe(""), flush()];
    talk.needs(&[series], &made);
}

#[test]
fn an_unnamed_statement_whose_portal_was_described_fails_where_it_is_not_again() {
    for behind in [execute(), flush(), message(b'D', b"S\0"), message(b'D', b"Pp\0")] {
        with_a_portal_described().needs(&[bind(""), behind, sync()], &[fails(), flush()]);
    }
}

#[test]
fn an_unnamed_statement_that_is_unsure_stays_so_on_every_connection() {
    let mut talk = with_a_portal_described();
    for _ in 0..2 {
        let left = with_a_portal_described().checks_in();
        talk.checks_out(&left);
        assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
        talk.taken();
    }
    talk.needs(&run(""), &[fails(), flush()]);
}

#[test]
fn a_query_or_a_parse_replaces_the_unnamed_statement_of_another() {
    let series = [parse("", "select 1"), bind(""), execute(), sync()];
    let answers = [m('1'), m('2'), complete("SELECT 1"), ready('I')];
    let mut one = Talk::new();
    one.client(&series).server(&answers);
    let left = one.checks_in();
    let mut other = Talk::new();
    other.checks_out(&left);
    other.ran("select 1", &["SELECT 1"]);
    assert!(Talk::new().checks_out(&other.checks_in()).is_empty());
    other.client(&run("")).server(&[report('E', "ERROR", "26000"), ready('I')]);
}

#[test]
fn a_parse_that_was_skipped_has_replaced_nothing() {
    let mut one = Talk::new();
    one.client(&[parse("", "select 1"), bind(""), execute(), sync()]);
    one.server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    let left = one.checks_in();
    let mut other = Talk::new();
    other.checks_out(&left);
    // In one flight: the first series fails before its Parse.
    other.client(&[bind("none"), parse("", "select 2"), bind(""), sync()]);
    let next = [parse("t", "select 3"), bind(""), execute(), sync()];
    let step = other.client_step(&next.concat());
    assert_eq!(step.forward, next[0].len());
    let trunkline_session::ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
    assert_eq!(
        printable(&asked),
        printable(&[close("trunkline: prepare"), flush()].concat()),
        "it asks first"
    );
    other.server(&[report('E', "ERROR", "26000"), ready('I'), m('1')]).swallows(&[m('3')]);
    other.needs(&next[1..], &[close(""), flush()]).swallows(&[m('3')]);
    other.client(&next[1..]).server(&[report('E', "ERROR", "26000"), ready('I')]);
}

#[test]
fn a_session_that_comes_back_finds_its_unnamed_statement() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "select 1"), bind(""), execute(), sync()]);
    talk.server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    let left = talk.checks_in();
    assert!(talk.checks_out(&left).is_empty());
    talk.client(&run("")).server(&ran());
}

#[test]
fn an_unnamed_statement_that_was_described_goes_along() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.client(&[parse("", "select 1"), describe(""), sync()]);
    one.server(&[m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    let left = one.checks_in();
    other.checks_out(&left);
    other.ran("select 1", &["SELECT 1"]);
    let left = other.checks_in();
    one.checks_out(&left);
    let made = [parse("", "select 1"), describe(""), flush()];
    one.needs(&run(""), &made).swallows(&[m('1'), takes(&[]), returns(&["a"])]);
    one.client(&run("")).server(&ran());
    let left = one.checks_in();
    assert!(other.checks_out(&left).is_empty());
    other.needs(&run(""), &[close(""), flush()]);
}
