//! Prepared statements under names made from their content, which sessions share.

mod by_sql;
mod cut;
mod faults;

use std::cell::RefCell;

use trunkline_session::{ClientThen, StatementNames};

use super::*;

thread_local! {
    /// The names made from content that a test has seen, in order.
    static NAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

const LENGTH: usize = "tl_".len() + 32;

/// Messages as text: each with its tag and fields; names made from content as @0, @1 and so on.
fn shown(mut rest: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [tag, a, b, c, d, after @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        let (body, next) = after.split_at(length);
        let mut text = String::from_utf8_lossy(body).trim_end_matches('\0').replace('\0', ":");
        while let Some(at) = text.find("tl_") {
            let name = text[at..at + LENGTH].to_owned();
            let number = NAMES.with_borrow_mut(|names| {
                names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                })
            });
            text.replace_range(at..at + LENGTH, &format!("@{number}"));
        }
        found.push(format!("{}{text}", *tag as char));
        rest = next;
    }
    found
}

fn sharing() -> Talk {
    let statement_names = StatementNames::OfContent { statements_max: 8 };
    let role = ServerRole::Primary;
    Talk::of(SessionSettings { role, statement_names, ..Talk::settings(Mobility::Movable) }, Instant::now())
}

impl Talk {
    /// The client sends whole messages; this goes to the server.
    #[track_caller]
    fn sends(&mut self, messages: &[Vec<u8>], sent: &[&str]) -> &mut Self {
        self.client(messages);
        assert_eq!(shown(&self.got), sent);
        self
    }

    /// The server sends whole messages; the client gets these.
    #[track_caller]
    fn gets(&mut self, messages: &[Vec<u8>], got: &[Vec<u8>]) -> &mut Self {
        self.server(messages);
        assert_eq!(printable(&self.got), printable(&got.concat()));
        self
    }

    /// The same as [`Talk::needs`], with the proxy's messages as text.
    #[track_caller]
    fn needs_first(&mut self, messages: &[Vec<u8>], own: &[&str]) -> &mut Self {
        let step = self.client_step(&messages.concat());
        let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
        assert_eq!((step.forward, shown(&asked)), (0, own.iter().map(|it| (*it).to_owned()).collect()));
        self
    }

    /// A statement is prepared, which the server does not have, and described.
    #[track_caller]
    fn makes(&mut self, name: &str, sql: &str, columns: &[&str]) -> &mut Self {
        self.client(&[parse(name, sql), describe(name), sync()]);
        assert!(shown(&self.got)[0].starts_with("P@"), "{:?}", shown(&self.got));
        self.server(&[m('1'), takes(&[]), returns(columns), ready('I')])
    }

    fn runs(&mut self, name: &str) -> &mut Self {
        self.client(&[bind(name), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('I')])
    }
}

/// The session goes on with what another has left, without a message.
#[track_caller]
fn takes_turn(talk: &mut Talk, left: &ConnectionState) {
    assert_eq!(talk.checks_out(left), <[&str; 0]>::default());
}

/// A session that has prepared this elsewhere as `s`.
#[track_caller]
fn knowing(sql: &str, columns: &[&str]) -> Talk {
    let mut talk = sharing();
    talk.makes("s", sql, columns).checks_in();
    talk
}

/// A session goes on with what another has left, and can use its statement at once.
#[track_caller]
fn finds(talk: &mut Talk, left: &ConnectionState) {
    talk.checks_out(left);
    talk.client(&[bind("s"), sync()]);
    assert!(shown(&talk.got)[0].starts_with("B:@"), "{:?}", shown(&talk.got));
}

fn named_error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0\0").as_bytes())
}

#[test]
fn clashing_names_of_two_sessions_cost_nothing() {
    let (mut one, mut other) = (sharing(), sharing());
    one.makes("s", "select 1", &["a"]);
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    other.makes("s", "select 2", &["b"]);
    for _turn in 0..3 {
        let left = other.checks_in();
        takes_turn(&mut one, &left);
        one.sends(&[bind("s"), execute(), sync()], &["B:@0", "E", "S"]);
        one.server(&[m('2'), complete("SELECT 1"), ready('I')]);
        let left = one.checks_in();
        takes_turn(&mut other, &left);
        other.sends(&[describe("s"), bind("s"), execute(), sync()], &["DS@1", "B:@1", "E", "S"]);
        other.server(&[takes(&[]), returns(&["b"]), m('2'), complete("SELECT 1"), ready('I')]);
    }
}

#[test]
fn a_statement_that_another_session_has_made_is_used_from_the_next_turn_on() {
    let (mut one, mut other) = (sharing(), sharing());
    one.makes("s", "select * from t", &["a"]);
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    // The table may have changed since the server has read the other.
    let series = [parse("mine", "select * from t"), describe("mine"), bind("mine"), execute(), sync()];
    other.sends(&series, &["Pmine:select * from t", "DSmine", "B:mine", "E", "S"]);
    other.server(&[m('1'), takes(&[]), returns(&["a"]), m('2'), complete("SELECT 1"), ready('I')]);
    let left = other.checks_in();
    other.session.connection_left();
    assert_eq!(one.checks_out(&left), ["close mine"]);
    one.runs("s");
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    // That was made before this client prepared its own: `t` may be another table now.
    let used = [bind("mine"), sync()];
    other.needs_first(&used, &["CS@0", "P@0:select * from t", "DS@0", "H"]);
    other.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
    other.sends(&used, &["B:@0", "S"]).server(&[m('2'), ready('I')]);
    let left = other.checks_in();
    takes_turn(&mut one, &left);
    one.runs("s");
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    other.sends(&used, &["B:@0", "S"]).server(&[m('2'), ready('I')]);
    other.sends(&[close("mine"), sync()], &["CS@1", "S"]).gets(&[m('3'), ready('I')], &[m('3'), ready('I')]);
    other.sends(&[bind("mine"), sync()], &["B:mine", "S"]).server(&[error(), ready('I')]);
    let left = other.checks_in();
    takes_turn(&mut one, &left);
    one.runs("s");
}

#[test]
fn a_statement_that_is_prepared_after_its_table_has_changed_is_made_anew_for_all() {
    let (mut one, mut other) = (sharing(), sharing());
    one.makes("s", "select * from t", &["a"]);
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    other.client(&[parse("s", "select * from t"), describe("s"), sync()]);
    other.server(&[m('1'), takes(&[]), returns(&["a", "b"]), ready('I')]);
    let left = other.checks_in();
    other.session.connection_left();
    assert_eq!(other.checks_out(&left), ["close s"]);
    other.needs_first(&[bind("s"), sync()], &["CS@0", "P@0:select * from t", "DS@0", "H"]);
    other.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a", "b"])]);
    other.sends(&[bind("s"), sync()], &["B:@0", "S"]).server(&[m('2'), ready('I')]);
}

#[test]
fn a_connection_without_the_statement_gets_it_first() {
    let (mut one, mut other) = (sharing(), knowing("select 1", &["a"]));
    one.makes("s", "select 1", &["a"]).checks_in();
    takes_turn(&mut one, &ConnectionState::default());
    let series = [bind("s"), execute(), sync()];
    one.needs_first(&series, &["CS@0", "P@0:select 1", "DS@0", "H"]);
    one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
    one.sends(&series, &["B:@0", "E", "S"]).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    finds(&mut other, &one.checks_in());
}

#[test]
fn a_statement_that_returns_other_columns_there_gets_its_own_name_and_fails() {
    let (mut one, mut other) = (sharing(), sharing());
    let mut third = knowing("select * from t", &["a", "b"]);
    one.makes("s", "select * from t", &["a"]).checks_in();
    // Made after ALTER TABLE.
    other.makes("s", "select * from t", &["a", "b"]);
    let left = other.checks_in();
    takes_turn(&mut one, &left);
    let series = [bind("s"), execute(), sync()];
    one.needs_first(&series, &["CS@0", "P@0:select * from t", "DS@0", "H"]);
    one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a", "b"])]);
    one.needs_first(&series, &["Ps:select * from t", "DSs", "H"]);
    one.swallows(&[m('1'), takes(&[]), returns(&["a", "b"])]);
    let step = one.client_step(&series.concat());
    let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
    assert_eq!(shown(&asked)[0], "CSs", "then something that fails");
    one.swallows(&[m('3')]);
    let step = one.server_step(&error());
    let told = printable(&step.inject.expect("an error"));
    assert!(told.contains("cached plan must not change") && !told.contains("moved"), "{told}");
    one.client(&series).server(&[ready('I')]);
    finds(&mut third, &one.checks_in());
}

#[test]
fn a_statement_whose_columns_have_changed_is_made_anew_for_others() {
    let (mut one, mut other) = (sharing(), knowing("select * from t", &["a"]));
    one.makes("s", "select * from t", &["a"]);
    takes_turn(&mut other, &one.checks_in());
    other.client(&[bind("s"), sync()]).server(&[report('E', "ERROR", "0A000"), ready('I')]);
    let left = other.checks_in();
    assert_eq!(one.checks_out(&left).len(), 1, "it is closed");
    let series = [bind("s"), execute(), sync()];
    one.needs_first(&series, &["CS@0", "P@0:select * from t", "DS@0", "H"]);
    one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
    one.sends(&series, &["B:@0", "E", "S"]);
}

#[test]
fn what_changes_the_meaning_of_a_statement_is_a_part_of_its_content() {
    let (mut one, mut other) = (sharing(), sharing());
    one.makes("t", "select a from t", &["a"]);
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    other.ran("set search_path = x", &["SET"]).makes("s", "select a from t", &["a"]);
    let mut third = sharing();
    takes_turn(&mut third, &left);
    third.ran_with("set timezone = 'CET'", "SET", &[status("TimeZone", "CET")]);
    third.makes("t", "select a from t", &["a"]);
    let mut fourth = sharing();
    takes_turn(&mut fourth, &left);
    fourth.client(&[parse_of("s", "select a from t", &[23]), sync()]);
    assert!(shown(&fourth.got)[0].starts_with("P@"), "other types");
}

#[test]
fn statements_with_constants_are_read_by_the_server_for_each_client() {
    for sql in [
        "select '1/2/2020'::date",
        "select 'today'::date",
        "select 'mood'::regtype",
        "select a = null from t",
    ] {
        sharing().sends(&[parse("s", sql)], &[&format!("Ps:{sql}")]);
    }
}

#[test]
fn the_statements_used_longest_ago_are_closed_for_the_next_session() {
    let mut one = sharing();
    for n in 0..9 {
        one.makes(&format!("s{n}"), &format!("select {n}"), &["a"]);
    }
    one.runs("s0");
    let left = one.checks_in();
    let closed: Vec<_> = one.checks_out(&left);
    assert_eq!(closed.len(), 2, "one below the limit of eight");
    one.runs("s0").runs("s8");
    one.needs_first(&[bind("s1"), sync()], &["CS@1", "P@1:select 1", "DS@1", "H"]);
    one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
    one.client(&[bind("s1"), sync()]).server(&[m('2'), ready('I')]);
    let left = one.checks_in();
    takes_turn(&mut one, &left);
}

#[test]
fn beyond_twice_the_limit_a_statement_has_its_own_name() {
    let mut one = sharing();
    one.ran_to("begin", &["BEGIN"], 'T');
    for n in 0..16 {
        one.client(&[parse("s", &format!("select {n}")), close("s"), sync()]);
        assert!(shown(&one.got)[0].starts_with("P@"));
        one.server(&[m('1'), m('3'), ready('T')]);
    }
    one.sends(&[parse("s", "select 16"), close("s")], &["Ps:select 16", "CSs"]);
}

#[test]
fn a_name_that_is_taken_is_refused_by_the_server() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    let refused = named_error("42P05", "prepared statement \"s\" already exists");
    let again = [parse("s", "select 2"), sync()];
    one.needs_first(&again, &["Ps", "H"]).swallows(&[m('1')]);
    one.sends(&again, &["Ps:select 2", "S"]).gets(&[refused.clone(), ready('I')], &[refused, ready('I')]);
    // It stands for what it stood for.
    one.needs_first(&[bind("s"), sync()], &["CSs", "Ps:select 1", "DSs", "H"]);
    one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
    one.sends(&[bind("s"), sync()], &["B:s", "S"]).server(&[m('2'), ready('I')]);
}

#[test]
fn a_name_that_is_taken_twice_in_a_series_is_refused_by_the_server() {
    let mut one = sharing();
    let twice = [parse("t", "select 3"), parse("t", "select 4"), sync()];
    let step = one.client_step(&twice.concat());
    assert_eq!((shown(&one.got), step.forward), (vec!["P@0:select 3".to_owned()], twice[0].len()));
    let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
    assert_eq!(shown(&asked), ["CS@1", "H"], "it waits");
    one.server(&[m('1')]).swallows(&[m('3')]);
    let rest = &twice[1..];
    one.needs_first(rest, &["Pt", "H"]).swallows(&[m('1')]);
    one.sends(rest, &["Pt:select 4", "S"]).server(&[error(), ready('I')]);
    // What the stand-in returns is not asked: it stands for what it stood for.
    assert!(one.session.questions().is_none());
    one.needs_first(&[bind("t"), sync()], &["CSt", "Pt:select 3", "DSt", "H"]);
    one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
    one.sends(&[bind("t"), sync()], &["B:t", "S"]).server(&[m('2'), ready('I')]);
}

#[test]
fn one_statement_under_two_names_in_a_flight_is_made_under_its_content_once() {
    let mut one = sharing();
    let twice = [parse("a", "select 1"), parse("b", "select 1"), bind("b"), sync()];
    one.sends(&twice, &["P@0:select 1", "Pb:select 1", "B:b", "S"]);
}

#[test]
fn a_name_that_is_replaced_stands_for_the_new_statement() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    let series = [close("s"), parse("s", "select 2"), bind("s"), execute(), sync()];
    one.sends(&series, &["CS@1", "P@2:select 2", "B:@2", "E", "S"]);
    one.server(&[m('3'), m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    let asked = one.session.questions().expect("it is not described");
    assert_eq!(shown(&asked)[0], "DS@2");
}

#[test]
fn what_an_error_skips_has_not_happened() {
    let (mut one, mut other) = (sharing(), sharing());
    one.makes("s", "select 1", &["a"]);
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    let series =
        [parse("", "oops"), parse("s", "select 1"), parse("t", "select 2"), bind("s"), close("s"), sync()];
    other.client(&series);
    assert_eq!(shown(&other.got)[1..], ["Ps:select 1", "P@1:select 2", "B:s", "CSs", "S"]);
    other.server(&[error(), ready('I')]).is_idle();
    other.sends(&[bind("s"), sync()], &["B:s", "S"]).server(&[error(), ready('I')]);
    other.client(&[parse("t", "select 2"), sync()]);
    assert_eq!(shown(&other.got)[0], "P@1:select 2", "the server has not made it");
}

#[test]
fn a_pinned_session_uses_its_own_names() {
    let mut one = sharing();
    one.ran_to("begin", &["BEGIN"], 'T').ran("create temp table t (a int)", &["CREATE TABLE"]);
    one.sends(&[parse("s", "select 1"), sync()], &["Ps:select 1", "S"]);
}

#[test]
fn a_statement_with_its_own_name_is_shared_once_the_reason_is_gone() {
    let mut one = sharing();
    let flight = [query("set work_mem = '1MB'"), parse("s", "select 1"), describe("s"), sync()];
    one.client(&flight);
    assert_eq!(shown(&one.got)[1..], ["Ps:select 1", "DSs", "S"], "the SET is in flight");
    one.server(&[complete("SET"), ready('I'), m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    let left = one.checks_in();
    one.session.connection_left();
    assert_eq!(one.checks_out(&left), ["close s"]);
    one.needs_first(&[bind("s"), sync()], &["CS@0", "P@0:select 1", "DS@0", "H"]);
}

#[test]
fn a_request_that_is_sent_again_is_named_again() {
    let settings = Talk::settings(Mobility::Movable);
    let statement_names = StatementNames::OfContent { statements_max: 8 };
    let mut one = Talk::of(SessionSettings { statement_names, ..settings }, Instant::now());
    let series = [parse("s", "select 1"), bind("s"), execute(), sync()];
    one.sends(&series, &["P@0:select 1", "B:@0", "E", "S"]);
    let step = one.server_step(&m('1'));
    assert_eq!(step.forward, 0, "nothing is shown before its first row");
    assert!(matches!(one.lost(&m('1'), REPEAT), trunkline_session::LossPlan::Repeat));
    one.session.rewind(one.now);
    one.taken();
    one.sends(&series, &["P@0:select 1", "B:@0", "E", "S"]);
}

#[test]
fn a_session_that_is_no_longer_followed_still_finds_its_statements() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]).makes("t", "select 2", &["a"]);
    // What nobody has asked for.
    one.server(&[m('2')]);
    assert!(matches!(one.session.pinned(), Some(PinReason::UnexpectedMessage(_))));
    one.sends(&[bind("s"), describe("t"), execute(), sync()], &["B:@0", "DS@1", "E", "S"]);
    one.client(&[close("s"), parse("s", "select 3"), bind("s"), sync()]);
    assert_eq!(shown(&one.got)[1..], ["Ps:select 3", "B:s", "S"]);
}
