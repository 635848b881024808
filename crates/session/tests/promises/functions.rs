//! User-defined functions that are called: their settings are read back, other effects pin.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use trunkline_session::{
    FunctionCatalog, FunctionEffect, Functions, LossPlan, Mobility, PinReason, Session, UnlistedFunctions,
};

use crate::talk::*;

pub(crate) fn catalog(own: &[(&str, FunctionEffect)]) -> FunctionCatalog {
    let mut catalog = FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread);
    catalog.functions =
        own.iter().map(|(name, effect)| (name.as_bytes().into(), Arc::new(effect.clone()))).collect();
    catalog
}

pub(crate) fn look(functions: &Functions, catalog: Option<FunctionCatalog>) {
    let number = functions.look_begins();
    functions.look_ended(number, catalog);
}

/// A session of a database with functions that were read.
pub(crate) fn calling() -> (Talk, Arc<Functions>) {
    let own = [
        ("set_tenant", FunctionEffect::sets("app.tenant")),
        ("lock_it", FunctionEffect::pins(PinReason::AdvisoryLock)),
        ("plain", FunctionEffect::default()),
    ];
    let functions = Arc::new(Functions::new(catalog(&own)));
    look(&functions, None);
    let mut talk = Talk::of(Talk::settings(Mobility::Movable), Instant::now());
    talk.session = Session::new(Talk::settings(Mobility::Movable), talk.now)
        .with_functions(Some(Arc::clone(&functions)));
    (talk, functions)
}

impl Talk {
    /// The proxy queries values, and gets these.
    #[track_caller]
    pub(crate) fn reads_back(&mut self, values: &[Option<&str>]) -> &mut Self {
        let asked = self.session.questions().expect("values are asked for");
        assert!(printable(&asked).contains("current_setting"), "{}", printable(&asked));
        assert!(printable(&asked).contains("trunkline: prepare"), "by a named statement");
        let answers = [m('3'), m('1'), m('2'), row(values), complete("SELECT 1"), m('3'), m('3'), ready('I')];
        self.swallows(&answers).is_idle()
    }
}

#[test]
fn what_a_function_has_set_goes_with_the_session() {
    let (mut talk, _functions) = calling();
    talk.ran("select set_tenant('a')", &["SELECT 1"]);
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
    assert!(talk.session.has_questions() && talk.session.must_read_back());
    talk.reads_back(&[Some("a")]);
    assert_eq!(talk.session.movability(), Ok(()));
    assert!(!talk.session.has_questions());
    assert!(talk.told()[0].contains("'app.tenant', 'a'"), "{:?}", talk.told());
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
}

#[test]
fn what_the_login_gave_is_read_from_the_session_that_has_it() {
    let (mut talk, _functions) = calling();
    talk.ran("set app.own = 1", &["SET"]);
    talk.session.ask_login_values(["statement_timeout", "app.own", "it's", "app.tenant"]);
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
    assert_eq!(talk.session.take_login_values(), None);
    talk.reads_back(&[Some("41000"), None]);
    assert_eq!(talk.session.movability(), Ok(()));
    let read = talk.session.take_login_values().expect("it was told");
    let value = |text: &str| Some(Box::from(text.as_bytes()));
    assert_eq!(read, [("statement_timeout".into(), value("41000")), ("app.tenant".into(), None)]);
    assert_eq!(talk.session.take_login_values(), None, "once");
    assert_eq!(talk.told(), ["set app.own = 1", "C", "S"], "nothing else was set");

    talk.session.ask_login_values(["work_mem"]);
    talk.ran("select set_tenant('a')", &["SELECT 1"]).reads_back(&[Some("a"), Some("4096")]);
    assert_eq!(talk.session.take_login_values(), Some(vec![("work_mem".into(), value("4096"))]));
    talk.session.ask_login_values(["work_mem"]);
    assert!(matches!(talk.lost(b"", MOVE), LossPlan::Report(_)), "it is not known what to go on with");
}

#[test]
fn what_the_session_itself_may_not_set_keeps_it_where_it_is() {
    let own = [("as_owner", FunctionEffect::sets("session_replication_role"))];
    for (is_superuser, value, pinned) in [
        ("off", Some("replica"), Some(PinReason::UnknownSetting)),
        ("off", None, None),
        ("on", Some("replica"), None),
    ] {
        let functions = Arc::new(Functions::new(catalog(&own)));
        look(&functions, None);
        let (mut talk, _others) = calling();
        talk.session =
            Session::new(Talk::settings(Mobility::Movable), talk.now).with_functions(Some(functions));
        talk.client(&[query("select 1")]).server(&[
            complete("SELECT 1"),
            status("is_superuser", is_superuser),
            ready('I'),
        ]);
        talk.ran("select as_owner()", &["SELECT 1"]).reads_back(&[value]);
        assert_eq!(talk.session.movability().err(), pinned, "{is_superuser} {value:?}");
        if pinned.is_none() {
            let is_set = talk.told().iter().any(|sql| sql.contains("'replica'"));
            assert_eq!(is_set, value.is_some(), "{is_superuser}");
        }
    }
}

#[test]
fn a_server_lost_before_the_values_were_read_ends_the_session() {
    let (mut talk, _functions) = calling();
    talk.ran("select set_tenant('a')", &["SELECT 1"]);
    assert!(matches!(talk.lost(b"", MOVE), LossPlan::Report(_)));
    let (mut talk, _functions) = calling();
    talk.ran("select set_tenant('a')", &["SELECT 1"]);
    assert!(talk.session.questions().is_some());
    talk.swallows(&[m('3'), m('1'), m('2')]);
    assert!(matches!(talk.lost(b"", MOVE), LossPlan::Report(_)), "while they are read");
}

#[test]
fn values_are_read_outside_of_a_transaction_and_only_when_nothing_else_pins() {
    let (mut talk, _functions) = calling();
    talk.ran_to("begin", &["BEGIN"], 'T').ran_to("select set_tenant('a')", &["SELECT 1"], 'T');
    assert_eq!(talk.session.questions(), None);
    talk.ran_to("rollback", &["ROLLBACK"], 'I').reads_back(&[Some("")]);
    assert_eq!(talk.session.movability(), Ok(()));
    talk.ran("select set_tenant('a'), lock_it(1)", &["SELECT 1"]);
    assert!(!talk.session.must_read_back(), "it stays anyway");
    talk.is_pinned(PinReason::AdvisoryLock);
}

#[test]
fn values_that_cannot_be_read_pin() {
    let (mut talk, _functions) = calling();
    talk.ran("select set_tenant('a')", &["SELECT 1"]);
    assert!(talk.session.questions().is_some());
    talk.swallows(&[m('3'), m('1'), m('2'), error(), ready('I')]).is_idle();
    talk.is_pinned(PinReason::UnknownSetting);
    let (mut talk, _functions) = calling();
    talk.ran("select set_tenant('a')", &["SELECT 1"]);
    assert!(talk.session.questions().is_some());
    talk.swallows(&[m('3'), m('1'), m('2'), complete("SELECT 0"), m('3'), m('3'), ready('I')]).is_idle();
    talk.is_pinned(PinReason::UnknownSetting);
}

#[test]
fn prepared_statements_do_what_they_call_each_time_they_run() {
    let (mut talk, _functions) = calling();
    talk.client(&[parse("s", "select set_tenant('a')"), sync()]).server(&[m('1'), ready('I')]);
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack), "the server may run it to plan");
    talk.reads_back(&[Some("")]);
    assert_eq!(talk.session.movability(), Ok(()));
    talk.asks(&["s"], &[], &["set_tenant"]);
    for _ in 0..2 {
        talk.client(&[bind("s"), execute(), sync()]);
        talk.server(&[m('2'), m('D'), complete("SELECT 1"), ready('I')]);
        assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
        talk.reads_back(&[Some("a")]);
    }
    talk.ran("prepare p as select set_tenant('a')", &["PREPARE"]).reads_back(&[Some("a")]);
    talk.ran("execute p", &["SELECT 1"]);
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
}

#[test]
fn what_a_server_runs_to_read_and_to_plan_counts_before_the_statement_is_run() {
    let (mut talk, _functions) = calling();
    talk.client(&[parse("s", "select plain(1)"), sync()]).server(&[m('1'), ready('I')]);
    talk.client(&[bind("s"), sync()]).server(&[m('2'), ready('I')]);
    assert_eq!(talk.session.movability(), Ok(()));
    talk.client(&[parse("t", "select set_tenant('a')"), sync()]).server(&[m('1'), ready('I')]);
    talk.reads_back(&[Some("a")]);
    talk.client(&[bind("t"), sync()]).server(&[m('2'), ready('I')]);
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
    talk.reads_back(&[Some("a")]);
}

#[test]
fn a_function_that_is_not_known_pins_until_it_was_read() {
    let (mut talk, functions) = calling();
    talk.ran("select plain(1)", &["SELECT 1"]);
    assert_eq!(talk.session.movability(), Ok(()));
    talk.ran("select new_one()", &["SELECT 1"]);
    assert_eq!(talk.session.movability(), Err(PinReason::UnreadFunction));
    assert!(functions.is_awaited() && !talk.session.settle_calls());
    look(&functions, Some(catalog(&[("new_one", FunctionEffect::default())])));
    assert_eq!(talk.session.movability(), Ok(()), "it is harmless");
    assert!(talk.session.settle_calls());
    talk.ran("select newer()", &["SELECT 1"]);
    look(&functions, Some(catalog(&[("newer", FunctionEffect::sets("app.tenant"))])));
    assert!(talk.session.settle_calls());
    talk.reads_back(&[Some("a")]);
    assert_eq!(talk.session.movability(), Ok(()));
    talk.ran("select newest()", &["SELECT 1"]);
    look(&functions, Some(catalog(&[("newest", FunctionEffect::pins(PinReason::Listen))])));
    assert!(talk.session.settle_calls());
    assert_eq!(talk.session.movability(), Err(PinReason::Listen));
}

#[test]
fn a_name_that_is_no_function_pins_no_longer_than_a_look() {
    let (mut talk, functions) = calling();
    talk.ran("select missing()", &["SELECT 1"]);
    look(&functions, None);
    assert_eq!(talk.session.movability(), Ok(()));
    assert!(talk.session.settle_calls());
    look(&functions, Some(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Pins)));
    talk.ran("select missing()", &["SELECT 1"]);
    assert_eq!(talk.session.movability(), Err(PinReason::UserFunction), "functions cannot be read any more");
}

#[test]
fn prepared_statements_are_read_again_when_functions_have_changed() {
    let (mut talk, functions) = calling();
    talk.client(&[parse("s", "select plain(1)"), sync()]).server(&[m('1'), ready('I')]);
    talk.asks(&["s"], &[], &["plain"]);
    look(&functions, Some(catalog(&[("plain", FunctionEffect::sets("app.tenant"))])));
    talk.client(&[bind("s"), execute(), sync()]);
    talk.server(&[m('2'), m('D'), complete("SELECT 1"), ready('I')]);
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
}

#[test]
fn a_function_that_was_replaced_just_before_it_was_called_is_found_out() {
    let (mut talk, functions) = calling();
    talk.ran("select plain(1)", &["SELECT 1"]);
    assert!(!talk.session.settle_calls(), "a planned move waits for the next look");
    assert_eq!(talk.session.movability(), Ok(()));
    look(&functions, Some(catalog(&[("plain", FunctionEffect::sets("app.tenant"))])));
    assert!(talk.session.settle_calls());
    talk.reads_back(&[Some("a")]);
    let (mut before, functions) = calling();
    before.ran("select plain(1)", &["SELECT 1"]);
    look(&functions, None);
    assert!(before.session.settle_calls());
    look(&functions, Some(catalog(&[("plain", FunctionEffect::sets("app.tenant"))])));
    assert!(before.session.settle_calls());
    assert_eq!(before.session.movability(), Ok(()), "it was called before it was replaced");
}

#[test]
fn a_look_that_could_not_read_them_says_nothing_of_what_was_called() {
    for calls in ["select plain(1)", "prepare p as select plain(1)"] {
        let (mut talk, functions) = calling();
        let tag = if calls.starts_with("select") { "SELECT 1" } else { "PREPARE" };
        talk.ran(calls, &[tag]);
        let number = functions.look_begins();
        functions.look_failed(number, FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Pins));
        talk.session.settle_calls();
        assert_eq!(talk.session.movability(), Err(PinReason::UserFunction), "{calls}");
    }
    let (mut talk, functions) = calling();
    let number = functions.look_begins();
    functions.look_failed(number, FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Pins));
    look(&functions, Some(catalog(&[("plain", FunctionEffect::default())])));
    talk.ran("select plain(1)", &["SELECT 1"]);
    look(&functions, None);
    assert!(talk.session.settle_calls());
    assert_eq!(talk.session.movability(), Ok(()), "it was called later");
}

#[test]
fn what_looks_have_found_before_a_session_called_anything_does_not_count_against_it() {
    let (mut talk, functions) = calling();
    look(&functions, Some(catalog(&[("plain", FunctionEffect::sets("app.tenant"))])));
    look(&functions, Some(catalog(&[("plain", FunctionEffect::default())])));
    talk.ran("select plain(1)", &["SELECT 1"]);
    look(&functions, None);
    assert!(talk.session.settle_calls());
    assert_eq!(talk.session.movability(), Ok(()));
}

#[test]
fn a_function_that_was_dropped_and_created_again_is_noticed() {
    let (mut late, functions) = calling();
    let under_way = functions.look_begins();
    late.ran("select plain(1)", &["SELECT 1"]);
    functions.look_ended(under_way, Some(catalog(&[])));
    assert!(!late.session.settle_calls(), "that look may have been too early");
    look(&functions, Some(catalog(&[("plain", FunctionEffect::sets("app.tenant"))])));
    assert!(late.session.settle_calls());
    late.reads_back(&[Some("a")]);
}

#[test]
fn a_departure_waits_until_it_is_known_what_prepared_statements_have_called() {
    let (mut talk, functions) = calling();
    talk.client(&[parse("s", "select plain(1)"), sync()]).server(&[m('1'), ready('I')]);
    talk.asks(&["s"], &[], &["plain"]);
    look(&functions, None);
    talk.client(&[bind("s"), execute(), sync()]);
    talk.server(&[m('2'), m('D'), complete("SELECT 1"), ready('I')]);
    assert!(talk.session.settle_calls() && !talk.session.settle_calls_before_leaving());
    look(&functions, Some(catalog(&[("plain", FunctionEffect::sets("app.tenant"))])));
    assert!(talk.session.settle_calls_before_leaving());
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
}

#[test]
fn a_statement_that_was_read_while_functions_were_not_watched_is_read_again_behind_the_look() {
    let sql = "select plain(1), set_tenant('a')";
    let (mut talk, functions) = calling();
    functions.is_not_watched();
    talk.client(&[parse("s", sql), describe("s"), sync()]);
    talk.server(&[m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    look(&functions, None);
    assert!(talk.session.settle_calls());
    for _ in 0..2 {
        talk.client(&[bind("s"), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]);
        assert!(talk.session.must_read_back());
        talk.reads_back(&[Some("a")]);
        assert_eq!(talk.session.movability(), Ok(()));
    }
    let (mut talk, functions) = calling();
    functions.is_not_watched();
    talk.client(&[parse("s", "select plain(1)"), describe("s"), sync()]);
    talk.server(&[m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    look(&functions, None);
    assert!(talk.session.settle_calls());
    talk.client(&[bind("s"), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    talk.ran("listen c", &["LISTEN"]);
    assert_eq!(talk.session.movability(), Err(PinReason::Listen));
    let left = talk.session.connection_state();
    assert!(left.proof().is_some(), "what it has called is asked for, as DISCARD ALL undoes the rest");
}

#[test]
fn values_are_read_once_what_else_was_called_is_known_to_be_harmless() {
    let (mut talk, functions) = calling();
    talk.ran("select new_one(), set_tenant('a')", &["SELECT 1"]);
    assert!(!talk.session.must_read_back());
    look(&functions, Some(catalog(&[("new_one", FunctionEffect::default())])));
    assert!(talk.session.must_read_back());
    talk.reads_back(&[Some("a")]);
    assert_eq!(talk.session.movability(), Ok(()));
}

#[test]
fn what_a_session_defines_is_read_before_it_is_believed() {
    let (mut talk, functions) = calling();
    talk.ran(
        "create or replace function plain(int) returns int language sql as 'select 1'",
        &["CREATE FUNCTION"],
    );
    let (mut other, _) = calling();
    other.session = Session::new(Talk::settings(Mobility::Movable), other.now)
        .with_functions(Some(Arc::clone(&functions)));
    other.ran("select plain(1)", &["SELECT 1"]);
    assert_eq!(other.session.movability(), Err(PinReason::UnreadFunction));
    look(&functions, None);
    assert_eq!(other.session.movability(), Ok(()));
}

#[test]
fn long_sql_that_calls_is_seen() {
    let (mut talk, _functions) = calling();
    let sql = format!("select '{}', set_tenant('a')", "x".repeat(100_000));
    let bytes = query(&sql);
    for part in bytes.chunks(10_000) {
        talk.client_step(part);
    }
    talk.server(&[complete("SELECT 1"), ready('I')]);
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
}

#[test]
fn a_function_that_sets_something_else_since_the_last_look_is_read_before_the_session_leaves() {
    let (mut talk, functions) = calling();
    talk.ran("select set_tenant('a')", &["SELECT 1"]).reads_back(&[None]);
    assert_eq!(talk.session.movability(), Ok(()));
    assert!(!talk.session.settle_calls_before_leaving(), "it may have been replaced since the last look");
    look(&functions, Some(catalog(&[("set_tenant", FunctionEffect::sets("app.x"))])));
    assert!(talk.session.settle_calls_before_leaving());
    assert_eq!(talk.session.movability(), Err(PinReason::ReadingBack));
    talk.reads_back(&[None, Some("a")]);
    assert!(talk.told()[0].contains("'app.x', 'a'"), "{:?}", talk.told());
}

#[test]
fn a_view_that_runs_something_else_since_the_last_look_is_read_before_the_session_leaves() {
    let (mut talk, functions) = calling();
    let read = |key| {
        let mut read = catalog(&[]);
        read.words.insert((*b"entered").into(), Arc::new(FunctionEffect::sets(key)));
        read
    };
    look(&functions, Some(read("app.tenant")));
    talk.ran("select * from entered", &["SELECT 1"]).reads_back(&[None]);
    assert!(!talk.session.settle_calls_before_leaving());
    look(&functions, Some(read("app.x")));
    talk.session.settle_calls_before_leaving();
    talk.reads_back(&[None, Some("b")]);
    assert!(talk.told()[0].contains("'app.x', 'b'"), "{:?}", talk.told());
}

/// A Parse of `sql` whose parameter has this type.
fn parse_with_type(name: &str, sql: &str, oid: u32) -> Vec<u8> {
    let mut body = format!("{name}\0{sql}\0\0\x01").into_bytes();
    body.extend_from_slice(&oid.to_be_bytes());
    message(b'P', &body)
}

#[test]
fn the_type_of_a_parameter_runs_what_its_check_calls() {
    let with_type = |catalog: &mut FunctionCatalog| {
        catalog.types = HashMap::from([(20_000, Arc::new(FunctionEffect::sets("app.tenant")))]);
    };
    let mut own = catalog(&[]);
    with_type(&mut own);
    let (mut talk, functions) = calling();
    look(&functions, Some(own));
    let runs = |talk: &mut Talk, name: &str| {
        talk.client(&[bind_to(name, &[Some("a")]), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]);
    };
    for (name, oid) in [("plain", 20_001), ("dom", 20_000)] {
        talk.client(&[parse_with_type(name, "select $1", oid), sync()]).server(&[m('1'), ready('I')]);
    }
    talk.reads_back(&[Some("")]);
    runs(&mut talk, "plain");
    assert!(!talk.session.must_read_back());
    runs(&mut talk, "dom");
    assert!(talk.session.must_read_back());
    talk.reads_back(&[Some("a")]);
    let mut more = catalog(&[]);
    with_type(&mut more);
    more.types.insert(20_001, Arc::new(FunctionEffect::sets("app.tenant")));
    look(&functions, Some(more));
    runs(&mut talk, "plain");
    assert!(talk.session.must_read_back(), "it is read again with its types");
}
