//! Functions that somebody who does not go through the proxy replaces a moment before they are called: what they leave does
//! not reach the next session of the connection.

use trunkline_session::{
    FunctionCatalog, FunctionEffect, Functions, LossPlan, Session, StatementNames, UnlistedFunctions,
};

use super::*;

mod made;

/// The fingerprint of the functions that were read.
const READ: &str = "2 4711";
/// That of others.
const OTHER: &str = "2 4712";

fn catalog(plain: FunctionEffect) -> FunctionCatalog {
    let mut catalog = FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread);
    catalog.functions = [((*b"plain").into(), Arc::new(plain))].into();
    catalog
}

fn look(functions: &Functions, catalog: Option<FunctionCatalog>, fingerprint: Option<&str>) {
    let number = functions.look_begins();
    functions.look_ended(number, catalog);
    functions.have_fingerprint(fingerprint);
}

/// More than is read of one text.
const LONG: usize = 40_000;

fn settings() -> SessionSettings {
    SessionSettings {
        role: ServerRole::Primary,
        statement_names: StatementNames::OfContent { statements_max: 8 },
        ..Talk::settings(Mobility::Movable)
    }
}

/// A session in transaction mode, of a database with a function that was read.
fn calling() -> (Talk, Arc<Functions>) {
    let functions = Arc::new(Functions::new(catalog(FunctionEffect::default())));
    look(&functions, None, Some(READ));
    (session_of(&functions), functions)
}

fn session_of(functions: &Arc<Functions>) -> Talk {
    let mut talk = Talk::of(settings(), Instant::now());
    talk.session = Session::new(settings(), talk.now).with_functions(Some(Arc::clone(functions)));
    talk
}

/// The answer to one of the proxy's queries.
fn answered(row: &[u8]) -> Vec<Vec<u8>> {
    vec![m('3'), m('1'), m('2'), row.to_vec(), complete("SELECT 1"), m('3'), m('3')]
}

impl Talk {
    /// The connection is kept until the server has told which functions it has, and it tells this.
    #[track_caller]
    fn is_told(&mut self, fingerprint: &str) -> &mut Self {
        self.asks_for_functions();
        self.swallows(&[answered(&row(&[Some(fingerprint)])), vec![ready('I')]].concat()).is_idle()
    }

    #[track_caller]
    fn asks_for_functions(&mut self) {
        self.stays_with(PinReason::UnreadFunction);
        assert!(self.session.has_questions());
        let asked = self.session.questions().expect("it is asked for");
        assert!(printable(&asked).contains("pg_proc"), "{}", printable(&asked));
    }

    /// No look has told yet what was called.
    #[track_caller]
    fn waits_for_a_look(&mut self) {
        assert!(!self.session.settle_calls() && !self.session.has_questions());
        assert!(!self.session.has_spoiled_connection());
        self.stays_with(PinReason::UnreadFunction);
    }
}

#[test]
fn another_session_gets_a_connection_once_its_functions_are_those_that_were_read() {
    let (mut talk, _functions) = calling();
    talk.ran("select 1", &["SELECT 1"]).checks_in();
    talk.ran("select plain(1)", &["SELECT 1"]).is_told(READ).checks_in();
    assert!(!talk.session.has_questions());
    talk.ran("select 1", &["SELECT 1"]).checks_in();
    talk.ran_to("begin", &["BEGIN"], 'T').ran_to("select plain(1)", &["SELECT 1"], 'T');
    assert!(!talk.session.has_questions(), "not in a transaction");
    talk.ran_to("commit", &["COMMIT"], 'I').is_told(READ).checks_in();
}

#[test]
fn each_way_of_calling_counts() {
    let long = format!("select '{}', plain(1)", "x".repeat(100_000));
    for sql in ["select plain(1)", "select new_one(1)", &long] {
        let (mut talk, functions) = calling();
        for part in query(sql).chunks(10_000) {
            talk.client_step(part);
        }
        talk.server(&[complete("SELECT 1"), ready('I')]);
        look(&functions, None, Some(READ));
        talk.session.settle_calls();
        talk.is_told(READ).checks_in();
    }
    let (mut talk, _functions) = calling();
    for _ in 0..2 {
        talk.client(&[parse("", "select plain($1)"), bind(""), execute(), sync()]);
        talk.server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]).is_told(READ).checks_in();
    }
}

#[test]
fn a_statement_of_sql_counts_each_time_it_is_run() {
    let (mut talk, _functions) = calling();
    talk.ran("prepare p as select plain(1)", &["PREPARE"]).is_told(READ).asks(&["p"], &[], &["plain"]);
    talk.ran("prepare harmless as select 1", &["PREPARE"]).asks(&["harmless"], &[], &["a"]).checks_in();
    for _ in 0..2 {
        talk.ran("execute p", &["SELECT 1"]).is_told(READ).checks_in();
    }
    talk.ran("execute harmless", &["SELECT 1"]).checks_in();
}

#[test]
fn what_a_replaced_function_has_set_stays_with_its_session_and_ends_with_the_connection() {
    let (mut talk, functions) = calling();
    talk.ran("select plain(1)", &["SELECT 1"]).is_told(OTHER).waits_for_a_look();
    look(&functions, Some(catalog(FunctionEffect::sets("work_mem"))), Some(OTHER));
    assert!(talk.session.settle_calls());
    assert!(!talk.session.has_spoiled_connection(), "its value was not read");
    let asked = printable(&talk.session.questions().expect("values"));
    assert!(asked.contains("work_mem"), "{asked}");
    talk.swallows(&[answered(&row(&[Some("7777kB")])), vec![ready('I')]].concat()).is_idle();
    assert!(talk.session.has_spoiled_connection());
    assert!(talk.told()[0].contains("'7777kB'"), "{:?}", talk.told());
    talk.checks_out(&ConnectionState::default());
    talk.ran("select 1", &["SELECT 1"]).checks_in();
}

#[test]
fn a_function_that_was_replaced_and_is_harmless_again_ends_the_connection() {
    let (mut talk, functions) = calling();
    talk.ran("select plain(1)", &["SELECT 1"]).is_told(OTHER).waits_for_a_look();
    talk.ran("select plain(1)", &["SELECT 1"]).waits_for_a_look();
    look(&functions, Some(catalog(FunctionEffect::default())), Some(OTHER));
    assert!(talk.session.settle_calls() && talk.session.has_spoiled_connection());
}

#[test]
fn a_server_that_does_not_tell_its_functions_has_the_next_look_told_what_was_called() {
    let (mut refused, functions) = calling();
    refused.ran("select plain(1)", &["SELECT 1"]).asks_for_functions();
    refused.swallows(&[m('3'), m('1'), m('2'), error(), ready('I')]).is_idle().waits_for_a_look();
    look(&functions, None, None);
    assert!(refused.session.settle_calls());
    refused.checks_in();
    refused.ran("select plain(1)", &["SELECT 1"]).is_told(READ).waits_for_a_look();
    look(&functions, None, Some(READ));
    assert!(refused.session.settle_calls());
    refused.checks_in();
}

#[test]
fn where_functions_are_not_read_the_connection_ends_with_what_may_have_called_one() {
    let functions =
        Arc::new(Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Pins)));
    let (mut talk, _read) = calling();
    talk.session = Session::new(settings(), talk.now).with_functions(Some(functions));
    talk.ran("select 1", &["SELECT 1"]).checks_in();
    talk.ran(&format!("select '{}'", "x".repeat(LONG)), &["SELECT 1"]).asks_for_functions();
    talk.swallows(&[answered(&row(&[Some(READ)])), vec![ready('I')]].concat()).is_idle();
    assert!(talk.session.settle_calls(), "no look is waited for, which would never come");
    assert!(talk.session.has_spoiled_connection());
}

#[test]
fn another_function_than_was_read_is_not_undone_by_discard_all() {
    let (mut talk, _functions) = calling();
    talk.ran("select plain(1)", &["SELECT 1"]).is_told(OTHER).waits_for_a_look();
    let left = talk.session.connection_state();
    assert_eq!(left.tainted(), Some(PinReason::UnreadFunction));
    assert!(left.after_discard_all().is_none());
}

#[test]
fn values_and_functions_are_asked_for_in_one_flight() {
    let (mut talk, functions) = calling();
    look(&functions, Some(catalog(FunctionEffect::sets("app.tenant"))), Some(OTHER));
    talk.ran("select plain(1)", &["SELECT 1"]);
    let asked = printable(&talk.session.questions().expect("both"));
    assert!(asked.contains("app.tenant") && asked.contains("pg_proc"), "{asked}");
    let both = [answered(&row(&[Some("a")])), answered(&row(&[Some(OTHER)])), vec![ready('I')]].concat();
    talk.swallows(&both).is_idle().checks_in();
}

/// What is left of a connection whose client leaves without having waited, and whose server then tells this; `None` when the
/// connection ends.
fn left_at_once(sql: &[(&str, &str)], names: StatementNames, told: Option<&str>) -> Option<ConnectionState> {
    let (mut talk, functions) = calling();
    let settings = SessionSettings { statement_names: names, ..settings() };
    talk.session = Session::new(settings, talk.now).with_functions(Some(functions));
    for (sql, tag) in sql {
        talk.ran(sql, &[tag]);
    }
    let mut left = talk.session.connection_state();
    assert!(left.after_discard_all().is_none(), "it is not known what was called");
    let asked = sent(&left.proof().unwrap_or_else(|| panic!("{:?}", left.tainted())).messages);
    assert!(asked[0].contains("pg_proc"), "{asked:?}");
    let row = told.map(|told| row(&[Some(told)]));
    left.calls_told(row.as_deref().map(|row| &row[5..]));
    left.after_discard_all()
}

#[test]
fn of_a_client_that_leaves_at_once_the_server_is_asked_what_it_has_called() {
    let in_transactions = StatementNames::OfContent { statements_max: 8 };
    for names in [in_transactions, StatementNames::OfClient] {
        let (call, listen) = (("select plain(1)", "SELECT 1"), ("listen c", "LISTEN"));
        for sql in [&[call][..], &[call, listen]] {
            assert!(left_at_once(sql, names, Some(READ)).is_some(), "DISCARD ALL will do");
            for told in [Some(OTHER), None] {
                assert!(left_at_once(sql, names, told).is_none(), "{told:?}");
            }
        }
    }
    let (mut talk, _functions) = calling();
    talk.ran("select plain(1)", &["SELECT 1"]).is_told(READ);
    assert!(talk.checks_in().proof().is_none(), "it is known already");
    talk.ran("select plain(1)", &["SELECT 1"]).is_told(OTHER);
    assert!(talk.session.connection_state().proof().is_none(), "nothing is gained by a question");
}

#[test]
fn a_session_whose_server_is_lost_goes_on_elsewhere_and_is_asked_there() {
    let (mut talk, _functions) = calling();
    talk.ran("select plain(1)", &["SELECT 1"]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken();
    // What is sent again may call it there.
    talk.is_told(READ).checks_in();
}

#[test]
fn what_a_long_text_calls_is_compared_with_what_it_was_read_by() {
    let long = format!("select plain(1), '{}'", "x".repeat(LONG));
    let sets = || Some(catalog(FunctionEffect::sets("work_mem")));
    let (mut talk, functions) = calling();
    for part in query(&long).chunks(10_000) {
        talk.client_step(part);
    }
    // It was replaced before it ran, and the look is over before the server is asked.
    look(&functions, sets(), Some(OTHER));
    talk.server(&[complete("SELECT 1"), ready('I')]);
    assert!(talk.session.settle_calls());
    let asked = printable(&talk.session.questions().expect("its values"));
    assert!(asked.contains("work_mem") && asked.contains("pg_proc"), "{asked}");

    let (mut talk, functions) = calling();
    for part in parse("long", &long).chunks(10_000) {
        talk.client_step(part);
    }
    talk.client(&[sync()]).server(&[m('1'), ready('I')]);
    look(&functions, sets(), Some(OTHER));
    talk.session.settle_calls();
    // It runs long after that look, as it was read before.
    look(&functions, None, Some(OTHER));
    talk.client(&[bind("long"), execute(), close("long"), sync()]);
    talk.server(&[m('2'), complete("SELECT 1"), m('3'), ready('I')]);
    talk.session.settle_calls();
    let asked = printable(&talk.session.questions().expect("its values"));
    assert!(asked.contains("work_mem"), "{asked}");
}

/// A session has made a table that runs a function, and others name it before the proxy knows of that.
#[test]
fn what_a_session_has_just_made_is_known_before_others_get_the_connection_of_who_used_it() {
    let (mut maker, functions) = calling();
    let makes = "create schema s create table made (a text default plain('x'))";
    let unread = |functions: &Functions| {
        let mut made = catalog(FunctionEffect::default());
        made.words = [((*b"made").into(), Arc::new(FunctionEffect::sets("work_mem")))].into();
        look(functions, Some(made), Some(READ));
    };
    let uses = "insert into made default values";
    session_of(&functions).ran(uses, &["INSERT 0 1"]).checks_in();
    maker.ran(makes, &["CREATE SCHEMA"]);
    assert!(functions.is_awaited());
    let [mut user, mut other] = [(), ()].map(|()| session_of(&functions));
    user.ran(uses, &["INSERT 0 1"]).waits_for_a_look();
    other.ran("select b from t where c = 'x'", &["SELECT 1"]).checks_in();
    unread(&functions);
    assert!(user.session.settle_calls());
    let asked = printable(&user.session.questions().expect("its values"));
    assert!(asked.contains("work_mem"), "{asked}");
    session_of(&functions).ran("select a from t", &["SELECT 1"]).checks_in();

    // In the text of a DO, too.
    maker.ran("do $x$ begin create view viewed as select plain('x'); end $x$", &["DO"]);
    other.ran("select 1 from viewed", &["SELECT 1"]).waits_for_a_look();
    session_of(&functions).ran("select 1 from made_as", &["SELECT 1"]).checks_in();
}
