//! A name made from content never stands for anything else, whatever fails, is skipped or is dropped.

use super::*;

fn taking(connection: &ConnectionState) -> Talk {
    let mut talk = sharing();
    takes_turn(&mut talk, connection);
    talk
}

impl Talk {
    /// The client's bytes wait until all is answered, behind so many that are forwarded.
    #[track_caller]
    fn waits(&mut self, messages: &[Vec<u8>], sent: &[&str]) -> &mut Self {
        let step = self.client_step(&messages.concat());
        assert!(matches!(step.then, ClientThen::Pause), "{:?}", step.then);
        assert_eq!(shown(&self.got), sent);
        assert!(self.session.is_paused());
        self
    }

    /// The same in a series without its Sync: the proxy asks for the answers.
    #[track_caller]
    fn waits_in_series(&mut self, messages: &[Vec<u8>], sent: &[&str]) -> &mut Self {
        let step = self.client_step(&messages.concat());
        let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
        assert_eq!(shown(&self.got), sent);
        let asked = shown(&asked);
        assert!(asked.len() == 2 && asked[0].starts_with("CS@") && asked[1] == "H", "{asked:?}");
        self
    }
}

#[test]
fn a_parse_behind_deallocate_all_is_sent_under_its_own_content() {
    for (sql, tag) in [("deallocate all", "DEALLOCATE ALL"), ("discard all", "DISCARD ALL")] {
        let mut one = sharing();
        one.makes("s", "select 1", &["a"]);
        let flight = [parse("s", "select 2"), describe("s"), bind("s"), execute(), sync()];
        let step = one.client_step(&[&[query(sql)], &flight[..]].concat().concat());
        assert!(matches!(step.then, ClientThen::Pause), "{sql}");
        one.server(&[complete(tag), ready('I')]);
        one.sends(&flight, &["P@1:select 2", "DS@1", "B:@1", "E", "S"]);
        one.server(&[m('1'), takes(&[]), returns(&["a"]), m('2'), complete("SELECT 1"), ready('I')]);
        // Another that has the first statement makes it.
        let left = one.checks_in();
        let mut other = taking(&left);
        other.sends(&[parse("s", "select 1"), sync()], &["P@0:select 1", "S"]);
    }
}

#[test]
fn a_parse_behind_one_that_fails_is_sent_under_its_own_content() {
    let mut one = sharing();
    let flight = [parse("s", "oops"), sync(), parse("s", "select 2"), describe("s"), sync()];
    let first = flight[..2].concat().len();
    one.waits(&flight, &["P@0:oops", "S"]);
    one.server(&[error(), ready('I')]);
    let rest = &flight.concat()[first..];
    assert_eq!(one.client_step(rest).forward, rest.len());
    assert_eq!(shown(&one.got), ["P@1:select 2", "DS@1", "S"]);
    one.server(&[m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    let mut other = taking(&one.checks_in());
    other.sends(&[parse("t", "oops"), sync()], &["P@0:oops", "S"]);
}

#[test]
fn a_bind_over_a_sync_waits_for_the_parse_that_may_fail() {
    let mut one = sharing();
    one.waits(&[parse("s", "oops"), sync(), bind("s"), sync()], &["P@0:oops", "S"]);
    one.server(&[error(), ready('I')]);
    one.sends(&[bind("s"), sync()], &["B:s", "S"]).server(&[error(), ready('I')]);
    // A Close that is skipped has closed nothing.
    one.makes("s", "select 1", &["a"]);
    let flight = [bind("none"), close("s"), sync(), bind("s"), sync()];
    let step = one.client_step(&flight.concat());
    assert!(matches!(step.then, ClientThen::Pause));
    one.server(&[error(), ready('I')]);
    one.sends(&[bind("s"), sync()], &["B:@1", "S"]);
}

#[test]
fn a_name_whose_statement_sql_may_drop_waits() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    for message in [bind("s"), describe("s"), close("s"), parse("s", "select 2")] {
        one.waits(&[query("deallocate all"), message, sync()], &["Qdeallocate all"]);
        one.server(&[error(), ready('I')]);
    }
    one.client(&[query("set work_mem = '1MB'"), bind("s"), sync()]);
    one.server(&[complete("SET"), ready('I'), m('2'), ready('I')]);
}

#[test]
fn a_statement_that_is_refused_is_made_anew() {
    for code in ["0A000", "42P01", "42703", "XX000", "55000"] {
        let (mut one, mut other) = (sharing(), knowing("select * from t", &["a"]));
        one.makes("s", "select * from t", &["a"]);
        takes_turn(&mut other, &one.checks_in());
        other.sends(&[bind("s"), sync()], &["B:@0", "S"]);
        other.server(&[report('E', "ERROR", code), ready('I')]);
        other.client(&[close("s"), parse("s", "select * from t"), describe("s"), sync()]);
        assert_eq!(shown(&other.got)[1..], ["Ps:select * from t", "DSs", "S"], "{code}: the server reads it");
        other.server(&[m('3'), m('1'), takes(&[]), returns(&["b"]), ready('I')]);
        let left = other.checks_in();
        let mut third = sharing();
        assert_eq!(third.checks_out(&left).len(), 2, "{code}");
        third.sends(&[parse("s", "select * from t"), sync()], &["P@0:select * from t", "S"]);
    }
}

#[test]
fn wrong_parameters_do_not_make_a_statement_unusable() {
    let (mut one, mut other) = (sharing(), knowing("select 1", &["a"]));
    one.makes("s", "select 1", &["a"]);
    for code in ["22P02", "08P01", "57014", "25P02"] {
        one.client(&[bind("s"), sync()]).server(&[report('E', "ERROR", code), ready('I')]);
    }
    finds(&mut other, &one.checks_in());
}

#[test]
fn a_statement_that_the_server_does_not_have_is_made_again() {
    let mut one = sharing();
    one.makes("other", "select 1", &["a"]).makes("s", "select 1 + 1", &["a"]);
    let name = NAMES.with_borrow(|names| names[1].clone());
    one.sends(&[bind("s"), sync()], &["B:@1", "S"]);
    let text = |name: &str| named_error("26000", &format!("prepared statement \"{name}\" does not exist"));
    one.gets(&[text(&name), ready('I')], &[text("s"), ready('I')]);
    one.needs_first(&[bind("s"), sync()], &["CS@1", "P@1:select 1 + 1", "DS@1", "H"]);
}

#[test]
fn an_error_has_the_name_that_its_message_had() {
    let mut one = sharing();
    one.makes("first", "select 1", &["a"]);
    one.client(&[parse("second", "select 1"), describe("second"), sync()]);
    one.server(&[m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    let left = one.checks_in();
    one.session.connection_left();
    assert_eq!(one.checks_out(&left), ["close second"]);
    let name = NAMES.with_borrow(|names| names[0].clone());
    let text = |name: &str| named_error("26000", &format!("\"{name}\" of tl_x, \"{name}\" does not exist"));
    for asked in ["first", "second"] {
        one.sends(&[bind(asked), sync()], &["B:@0", "S"]);
        one.gets(&[text(&name), ready('I')], &[text(asked), ready('I')]);
        one.needs_first(&[bind(asked), sync()], &["CS@0", "P@0:select 1", "DS@0", "H"]);
        one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
        one.client(&[bind(asked), sync()]).server(&[m('2'), ready('I')]);
    }
    // One that the session does not have any more.
    one.sends(&[bind("first"), close("first"), sync()], &["B:@0", "CS@1", "S"]);
    one.gets(&[text(&name), ready('I')], &[text("first"), ready('I')]);
}

#[test]
fn an_error_of_the_proxys_own_request_has_the_clients_name() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]).checks_in();
    takes_turn(&mut one, &ConnectionState::default());
    one.needs_first(&[bind("s"), sync()], &["CS@0", "P@0:select 1", "DS@0", "H"]);
    one.swallows(&[m('3')]);
    let name = NAMES.with_borrow(|names| names[0].clone());
    let text = |name: &str| named_error("42P05", &format!("prepared statement \"{name}\" already exists"));
    let step = one.server_step(&text(&name));
    assert_eq!(printable(&step.inject.expect("it is the answer to the Bind")), printable(&text("s")));
    one.client(&[bind("s"), sync()]).server(&[ready('I')]);
    let left = one.checks_in();
    let closed = sharing().checks_out(&left);
    assert!(closed.iter().any(|closed| closed.contains(&name)), "what is there is closed: {closed:?}");
}

#[test]
fn a_parse_that_finds_its_content_taken_has_it_closed() {
    let mut one = sharing();
    one.sends(&[parse("s", "select 1"), sync()], &["P@0:select 1", "S"]);
    one.server(&[report('E', "ERROR", "42P05"), ready('I')]);
    one.sends(&[parse("s", "select 1"), sync()], &["Ps:select 1", "S"]);
    one.server(&[m('1'), ready('I')]);
    one.client(&[describe("s"), sync()]).server(&[takes(&[]), returns(&["a"]), ready('I')]);
    let left = one.checks_in();
    assert_eq!(sharing().checks_out(&left).len(), 2, "it and the client's own");
}

#[test]
fn a_statement_is_made_again_with_the_types_that_its_parse_names() {
    let (mut one, mut other) = (sharing(), sharing());
    for talk in [&mut other, &mut one] {
        talk.client(&[parse("s", "select $1"), describe("s"), sync()]);
        talk.server(&[m('1'), takes(&[25]), returns(&["a"]), ready('I')]).checks_in();
    }
    takes_turn(&mut one, &ConnectionState::default());
    let step = one.client_step(&[bind("s"), sync()].concat());
    let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
    let asked = String::from_utf8_lossy(&asked).into_owned();
    assert!(asked.contains("select $1\0\0\0D"), "no types: {asked:?}");
    one.swallows(&[m('3'), m('1'), takes(&[25]), returns(&["a"])]);
    one.client(&[bind("s"), sync()]).server(&[m('2'), ready('I')]);
    finds(&mut other, &one.checks_in());
}

#[test]
fn nothing_is_shared_behind_what_may_make_a_table() {
    // In the same series.
    let mut other = sharing();
    let series = [
        parse("", "create temp table t (a int)"),
        bind(""),
        execute(),
        parse("s", "select a from t"),
        sync(),
    ];
    other.client(&series);
    assert_eq!(shown(&other.got)[3..], ["Ps:select a from t", "S"]);
    // In the same flight.
    let mut other = sharing();
    other.client(&[query("create table t (a int)"), parse("s", "select a from t"), sync()]);
    assert_eq!(shown(&other.got)[1..], ["Ps:select a from t", "S"]);
    // In the same transaction.
    for (sql, tag) in [("create table t (a int)", "CREATE TABLE"), ("create table t as select 1", "SELECT 1")]
    {
        let mut other = sharing();
        other.ran_to("begin", &["BEGIN"], 'T').ran_to(sql, &[tag], 'T');
        other.sends(&[parse("s", "select a from t"), sync()], &["Ps:select a from t", "S"]);
        other.server(&[m('1'), ready('T')]).ran_to("rollback", &["ROLLBACK"], 'I');
    }
    // Rows are no tables.
    let mut other = sharing();
    other.ran_to("begin", &["BEGIN"], 'T').ran_to("insert into u values (1)", &["INSERT 0 1"], 'T');
    other.sends(&[parse("s", "select a from t"), sync()], &["P@0:select a from t", "S"]);
}

#[test]
fn nothing_is_made_for_others_behind_what_may_make_a_table() {
    let mut one = sharing();
    one.makes("s", "select a from t", &["a"]).checks_in();
    takes_turn(&mut one, &ConnectionState::default());
    one.ran_to("begin", &["BEGIN"], 'T').ran_to("create table t (a int)", &["CREATE TABLE"], 'T');
    one.needs_first(&[bind("s"), sync()], &["Ps:select a from t", "DSs", "H"]);
}

#[test]
fn a_statement_that_a_connection_lacks_is_made_once_all_before_it_is_answered() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]).checks_in();
    takes_turn(&mut one, &ConnectionState::default());
    let flight = [parse("", "create table t (a int)"), bind(""), execute(), bind("s"), sync()];
    one.waits_in_series(&flight, &["P:create table t (a int)", "B", "E"]);
    one.server(&[m('1'), m('2'), complete("CREATE TABLE")]).swallows(&[m('3')]);
    one.needs_first(&flight[3..], &["Ps:select 1", "DSs", "H"]);
}

#[test]
fn sql_in_a_series_without_a_sync_finds_statements_under_their_clients_names() {
    let mut one = sharing();
    let flight = [parse("s", "select 1"), query("execute s")];
    one.waits_in_series(&flight, &["P@0:select 1"]);
    one.server(&[m('1')]).swallows(&[m('3')]);
    one.needs_first(&flight[1..], &["Ps:select 1", "DSs", "H"]);
}

#[test]
fn a_long_query_finds_all_statements_under_their_clients_names() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    let long = format!("select '{}'; execute s", "x".repeat(40_000));
    let step = one.client_step(&query(&long)[..33_000]);
    let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
    assert_eq!(shown(&asked), ["Ps:select 1", "DSs", "S"]);
}

#[test]
fn a_session_that_is_no_longer_followed_does_not_run_what_a_name_stood_for() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    one.client(&[parse("t", "select 2"), sync()]).server(&[m('2'), ready('I')]);
    assert!(matches!(one.session.pinned(), Some(PinReason::UnexpectedMessage(_))));
    one.sends(&[bind("t"), sync()], &["B:@1", "S"]);
    one.sends(&[parse("s", "select 3"), bind("s"), sync()], &["Ps:select 3", "B:s", "S"]);
}

#[test]
fn settings_of_output_are_a_part_of_the_content() {
    let parsed = [parse("s", "select 1.5::float8::text"), sync()];
    let own = ["P@0:select 1.5::float8::text", "S"];
    sharing().sends(&parsed, &own);
    sharing().ran("set application_name = 'x'", &["SET"]).sends(&parsed, &own);
    for sql in ["set extra_float_digits = 0", "set bytea_output = 'escape'", "set intervalstyle = 'iso_8601'"]
    {
        let mut other = sharing();
        other.ran(sql, &["SET"]).client(&parsed);
        assert!(shown(&other.got)[0].starts_with("P@") && shown(&other.got) != own, "{sql}");
        // The same before it is committed.
        let mut other = sharing();
        other.ran_to("begin", &["BEGIN"], 'T').ran_to(sql, &["SET"], 'T').client(&parsed);
        assert!(shown(&other.got) != own, "{sql}");
    }
}

#[test]
fn a_statement_is_another_once_settings_are_others() {
    let (mut one, mut other) = (sharing(), knowing("select 1", &["a"]));
    one.makes("s", "select 1", &["a"]).ran("set extra_float_digits = 0", &["SET"]);
    one.needs_first(&[bind("s"), sync()], &["CS@1", "P@1:select 1", "DS@1", "H"]);
    one.swallows(&[m('3'), m('1'), takes(&[]), returns(&["a"])]);
    one.sends(&[bind("s"), sync()], &["B:@1", "S"]).server(&[m('2'), ready('I')]);
    finds(&mut other, &one.checks_in());
}

#[test]
fn words_that_only_begin_like_others_do_not_matter() {
    let mut other = knowing("select executed_at, known from t", &["a", "b"]);
    let mut one = sharing();
    one.makes("s", "select executed_at, known from t", &["a", "b"]);
    one.client(&[query("select executed_at, prepared from t")]).server(&[complete("SELECT 0"), ready('I')]);
    finds(&mut other, &one.checks_in());
}

#[test]
fn a_stand_in_is_not_described_as_its_statement() {
    let mut one = sharing();
    let flight = [parse("s", "select 1"), parse("s", "select 2"), sync()];
    one.waits_in_series(&flight, &["P@0:select 1"]);
    one.server(&[m('1')]).swallows(&[m('3')]);
    let again = &flight[1..];
    one.needs_first(again, &["Ps", "H"]).swallows(&[m('1')]);
    one.client(again).server(&[report('E', "ERROR", "42P05"), ready('I')]);
    assert!(one.session.questions().is_none(), "it would be told what the stand-in returns");
    one.needs_first(&[bind("s"), sync()], &["CSs", "Ps:select 1", "DSs", "H"]);
}

#[test]
fn a_statement_that_sql_may_drop_is_not_made_again_behind_it() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    let flight = [query("deallocate s"), bind("s"), sync()];
    one.needs_first(&flight, &["Ps", "S"]).swallows(&[m('1'), ready('I')]);
    one.waits(&flight, &["Qdeallocate s"]);
    one.server(&[complete("DEALLOCATE"), ready('I')]);
    one.sends(&flight[1..], &["B:s", "S"]).server(&[report('E', "ERROR", "26000"), ready('I')]);
}
