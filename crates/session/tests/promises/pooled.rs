//! Sessions that take turns on server connections: what one has left, the next does not find.

use std::sync::Arc;
use std::time::Instant;

use trunkline_session::{
    ConnectionState, LoginParameters, Mobility, PinReason, ServerRole, Session, SessionSettings, diff,
};

use crate::talk::*;

mod calls;
mod contents;
mod reset;
mod statements;
mod temporary;

impl Talk {
    fn on_primary() -> Self {
        let settings = SessionSettings { role: ServerRole::Primary, ..Talk::settings(Mobility::Movable) };
        Self::of(settings, Instant::now())
    }

    /// The session gives its connection back.
    #[track_caller]
    fn checks_in(&mut self) -> ConnectionState {
        self.session.check_in_state().unwrap_or_else(|reason| panic!("pinned: {reason}"))
    }

    /// The session goes on with a connection. Returns what was sent to it before: SQL as it is, of a Close its name.
    #[track_caller]
    fn checks_out(&mut self, from: &ConnectionState) -> Vec<String> {
        let wanted = self.session.state();
        assert!(from.fits(&wanted), "it does not fit");
        let alignment = diff(from, &wanted);
        let role = self.session.server_role();
        let announce = self.session.differences_on(from, b"");
        self.session.connection_taken(Arc::from("replica2"), role, announce, from);
        sent(&alignment.messages)
    }

    #[track_caller]
    fn stays_with(&mut self, reason: PinReason) -> &mut Self {
        assert_eq!(self.session.check_in_state().err(), Some(reason));
        self
    }

    /// The server reports a parameter with the answer to a Query that ends with this tag.
    fn ran_with(&mut self, sql: &str, tag: &str, reported: &[Vec<u8>]) -> &mut Self {
        let answer = [&[complete(tag)], reported, &[ready('I')]].concat();
        self.client(&[query(sql)]).server(&answer)
    }

    /// Prepares a statement whose description the proxy asks for.
    fn prepared(&mut self, name: &str, sql: &str, columns: &[&str]) -> &mut Self {
        self.prepare(name, sql).asks(&[name], &[], columns)
    }
}

/// The SQL of Parses and the names of Closes, but for the last of an alignment, of its own statement.
fn sent(mut rest: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [tag, a, b, c, d, after @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        let (body, next) = after.split_at(length);
        let text = String::from_utf8_lossy(body).trim_matches('\0').replace('\0', ":");
        match tag {
            b'P' => found.push(text),
            b'C' if body != b"S\0" => found.push(format!("close {}", &text[1..])),
            _run => {}
        }
        rest = next;
    }
    found
}

#[test]
fn a_session_that_has_added_rows_on_a_primary_says_so_once() {
    let cases = [
        ("insert into t values (1)", "INSERT 0 1"),
        ("insert into t select 1 where false", "INSERT 0 0"),
        ("with x as (insert into t values (1) returning 1) select * from x", "SELECT 1"),
        ("merge into t using s on true when not matched then insert values (1)", "MERGE 1"),
    ];
    for (sql, tag) in cases {
        for is_extended in [false, true] {
            let mut talk = Talk::on_primary();
            if is_extended {
                talk.client(&[parse("", sql), bind(""), execute(), sync()]);
                talk.server(&[m('1'), m('2'), complete(tag), ready('I')]);
            } else {
                talk.ran(sql, &[tag]);
            }
            assert!(talk.session.take_insert() && !talk.session.take_insert(), "{sql}");
            let mut standby = Talk::new();
            assert!(!standby.ran(sql, &[tag]).session.take_insert(), "{sql}: no standby has done it");
        }
    }
    for (sql, tag) in [("select 1", "SELECT 1"), ("update t set a = 1", "UPDATE 1"), ("begin", "BEGIN")] {
        assert!(!Talk::on_primary().ran(sql, &[tag]).session.take_insert(), "{sql}");
    }
}

#[test]
fn a_question_for_what_sequences_gave_is_known_before_it_is_asked() {
    let mut talk = Talk::on_primary();
    for asks in [query("SELECT LastVal()"), parse("", "select currval('s')")] {
        assert!(talk.session.may_ask_for_sequences(&asks));
    }
    assert!(!talk.session.may_ask_for_sequences(&query("select last_value from s")));
    assert!(!talk.session.may_ask_for_sequences(&bind("s")));
    talk.client(&[parse("s", "select lastval()"), sync()]).server(&[m('1'), ready('I')]);
    assert!(talk.session.may_ask_for_sequences(&bind("s")), "a statement does");
    assert!(!talk.session.has_asked_for_sequences());
    talk.client(&[bind("s"), execute(), sync()]);
    assert!(talk.session.has_asked_for_sequences());
}

#[test]
fn a_plain_session_needs_nothing_and_leaves_nothing() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran("select 1", &["SELECT 1"]);
    let left = one.checks_in();
    assert_eq!(left.fingerprint(), other.session.state().fingerprint());
    assert!(other.checks_out(&left).is_empty());
    other.ran("select 1", &["SELECT 1"]);
    assert_eq!(other.checks_in().fingerprint(), left.fingerprint());
}

#[test]
fn nothing_in_progress_is_given_on() {
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]).stays_with(PinReason::Transaction);
    talk.server(&[complete("SELECT 1"), ready('I')]).checks_in();
    talk.ran_to("begin", &["BEGIN"], 'T').stays_with(PinReason::Transaction);
    talk.client(&[query("oops")]).server(&[error(), ready('E')]).stays_with(PinReason::Transaction);
    talk.ran_to("rollback", &["ROLLBACK"], 'I').checks_in();
    talk.client(&[parse("", "select 1")]).stays_with(PinReason::Transaction);
    talk.client(&[sync()]).server(&[m('1'), ready('I')]).asks(&[""], &[], &["a"]).checks_in();
    talk.client_step(&query("select 1")[..3]);
    talk.stays_with(PinReason::Transaction);
}

#[test]
fn a_server_that_ends_is_not_given_on() {
    let mut talk = Talk::new();
    talk.ran("select 1", &["SELECT 1"]);
    talk.server_step(&report('N', "WARNING", "57P01"));
    talk.stays_with(PinReason::Transaction);
}

#[test]
fn a_client_that_has_left_gives_its_connection_back() {
    let mut talk = Talk::new();
    talk.ran("select 1", &["SELECT 1"]);
    talk.client_step(&message(b'X', b""));
    talk.checks_in();
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T');
    talk.client_step(&message(b'X', b""));
    talk.stays_with(PinReason::Transaction);
    let mut talk = Talk::new();
    talk.client_step(&query("select 1")[..8]);
    talk.session.handle_client_eof();
    talk.checks_in();
}

#[test]
fn a_session_that_cannot_move_keeps_its_connection() {
    let mut talk = Talk::of(Talk::settings(Mobility::Fixed), Instant::now());
    talk.ran("select 1", &["SELECT 1"]).stays_with(PinReason::Fixed);
}

#[test]
fn settings_are_those_of_the_session_that_is_there() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran("set work_mem = '1MB'", &["SET"]).ran("set search_path = x", &["SET"]);
    let left = one.checks_in();
    assert_ne!(left.fingerprint(), other.session.state().fingerprint());
    assert_eq!(other.checks_out(&left), ["RESET ALL"]);
    other.ran("set work_mem = '2MB'", &["SET"]);
    let left = other.checks_in();
    assert_eq!(
        one.checks_out(&left),
        ["RESET ALL", "set work_mem = '1MB'", "set search_path = x"],
        "in the order of setting"
    );
    let left = one.checks_in();
    assert!(one.checks_out(&left).is_empty(), "its own");
    other.ran("reset work_mem", &["RESET"]);
    assert_eq!(other.checks_out(&left), ["RESET ALL"]);
}

#[test]
fn equal_settings_of_two_sessions_need_no_message() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    for talk in [&mut one, &mut other] {
        talk.ran("set work_mem = '1MB'", &["SET"]);
    }
    let left = one.checks_in();
    assert_eq!(left.fingerprint(), other.session.state().fingerprint());
    assert!(other.checks_out(&left).is_empty());
    other.ran("set work_mem = '2MB'", &["SET"]);
    assert!(!diff(&left, &other.session.state()).is_empty(), "the one is not changed with the other");
    assert!(diff(&left, &one.session.state()).is_empty());
}

#[test]
fn what_a_transaction_sets_and_takes_back_is_not_there() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran_to("begin", &["BEGIN"], 'T').ran("set work_mem = '1MB'", &["SET"]);
    one.ran_to("rollback", &["ROLLBACK"], 'I');
    one.ran_to("begin", &["BEGIN"], 'T').ran("set local work_mem = '2MB'", &["SET"]);
    one.ran_to("commit", &["COMMIT"], 'I');
    one.ran_to("begin", &["BEGIN"], 'T').ran("savepoint s", &["SAVEPOINT"]);
    one.ran("set work_mem = '3MB'", &["SET"]).ran("rollback to s", &["ROLLBACK"]);
    one.ran_to("commit", &["COMMIT"], 'I');
    let left = one.checks_in();
    assert!(other.checks_out(&left).is_empty());
}

#[test]
fn custom_settings_are_known_only_to_those_that_used_them() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran("set app.user = 'one'", &["SET"]);
    let left = one.checks_in();
    assert!(!left.fits(&other.session.state()), "current_setting('app.user', true) would tell");
    assert!(left.fits(&one.session.state()));
    other.ran("set app.user = 'other'", &["SET"]);
    assert_eq!(other.checks_out(&left), ["RESET ALL", "set app.user = 'other'"]);
    let mut third = Talk::new();
    third.ran_to("begin", &["BEGIN"], 'T').ran("set app.user = 'third'", &["SET"]);
    third.ran_to("rollback", &["ROLLBACK"], 'I');
    assert!(left.fits(&third.session.state()), "it exists there too");
    assert_eq!(third.checks_out(&left), ["RESET ALL", "RESET \"app\".\"user\""]);
    let left = third.checks_in();
    assert!(!left.fits(&Talk::new().session.state()), "although it has no value");
}

#[test]
fn who_a_session_is_is_taken_back_first() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran("set role admin", &["SET"]);
    let left = one.checks_in();
    let undone = ["SET SESSION AUTHORIZATION DEFAULT", "RESET ROLE"];
    assert_eq!(other.checks_out(&left), undone);
    other.ran("set work_mem = '2MB'", &["SET"]).ran("set session authorization x", &["SET"]);
    other.ran("set search_path = y", &["SET"]);
    let left = other.checks_in();
    assert_eq!(one.checks_out(&left), [&undone[..], &["RESET ALL", "set role admin"]].concat());
}

#[test]
fn a_time_out_of_another_does_not_end_what_undoes_it() {
    let (mut one, mut other) = (Talk::new(), Talk::new());
    one.ran("set statement_timeout = 1", &["SET"]);
    let left = one.checks_in();
    assert_eq!(other.checks_out(&left), ["SET statement_timeout = 0", "RESET ALL"]);
}

#[test]
fn parameters_are_told_where_they_differ_and_by_nobodys_doing() {
    let login = Arc::new(LoginParameters::new(&greeting()));
    let of = |login: &Arc<LoginParameters>| {
        let settings = Talk::settings(Mobility::Movable);
        Talk::of(SessionSettings { parameters: Arc::clone(login), ..settings }, Instant::now())
    };
    let (mut one, other) = (of(&login), of(&login));
    one.ran_with("set timezone = 'CET'", "SET", &[status("TimeZone", "CET")]);
    let left = one.checks_in();
    assert_eq!(other.session.differences_on(&left, &status("TimeZone", "UTC")), "", "the reset reports it");
    assert_eq!(other.session.differences_on(&left, b""), status("TimeZone", "CET"));
    let promoted = status("in_hot_standby", "off");
    one.server(std::slice::from_ref(&promoted));
    let left = one.checks_in();
    assert_eq!(other.session.differences_on(&left, &status("TimeZone", "UTC")), promoted);
    assert!(Arc::ptr_eq(left.login_parameters(), &login), "for the next new session");
}

#[test]
fn what_the_client_is_not_told_yet_is_known_of_the_connection() {
    let (mut one, mut other, third) = (Talk::new(), Talk::new(), Talk::new());
    one.ran_with("set timezone = 'CET'", "SET", &[status("TimeZone", "CET")]);
    let left = one.checks_in();
    other.checks_out(&left);
    // It gives it back before it has asked for anything.
    let left = other.checks_in();
    assert_eq!(third.session.differences_on(&left, b""), status("TimeZone", "CET"));
}

#[test]
fn a_connection_of_another_login_keeps_its_own_parameters() {
    let mut one = Talk::new();
    let other_login = [greeting(), status("server_version", "18.1")].concat();
    let from = ConnectionState::logged_in(true, Arc::new(LoginParameters::new(&other_login)));
    assert_eq!(one.session.differences_on(&from, b""), status("server_version", "18.1"));
    one.checks_out(&from);
    let left = one.checks_in();
    assert_eq!(left.login_parameters().messages(), other_login);
    assert!(left.has_login_timeout);
    let same = Session::new(
        SessionSettings {
            parameters: Arc::clone(left.login_parameters()),
            ..Talk::settings(Mobility::Movable)
        },
        Instant::now(),
    );
    assert_eq!(same.differences_on(&left, b""), "");
}

#[test]
fn sequences_of_another_session_are_discarded() {
    let (mut one, mut other) = (Talk::on_primary(), Talk::on_primary());
    one.ran("insert into t values (1)", &["INSERT 0 1"]);
    let left = one.checks_in();
    assert!(one.checks_out(&left).is_empty(), "its own");
    let left = one.checks_in();
    assert_eq!(other.checks_out(&left), ["DISCARD SEQUENCES"]);
    other.ran("select 1", &["SELECT 1"]);
    let left = other.checks_in();
    assert!(one.checks_out(&left).is_empty(), "a read uses none");
    for sql in
        ["with x as (insert into t values (1) returning a) select a from x", "copy t from '/x'", "oops"]
    {
        let mut writer = Talk::on_primary();
        writer.ran(if sql == "oops" { "delete from t" } else { sql }, &["SELECT 1"]);
        let left = writer.checks_in();
        assert_eq!(one.checks_out(&left), ["DISCARD SEQUENCES"], "{sql}");
    }
}

#[test]
fn a_use_of_sequences_that_was_left_elsewhere_is_not_found_again() {
    let mut one = Talk::on_primary();
    one.ran("insert into t values (1)", &["INSERT 0 1"]);
    let first = one.checks_in();
    one.checks_out(&ConnectionState::default());
    one.ran("insert into t values (2)", &["INSERT 0 1"]);
    let second = one.checks_in();
    assert!(one.checks_out(&second).is_empty());
    assert_eq!(one.checks_out(&first), ["DISCARD SEQUENCES"], "its values are out of date");
}

#[test]
fn a_session_finds_on_its_own_connections_what_sequences_have_given() {
    let mut one = Talk::on_primary();
    one.session = Talk::on_primary().session.with_own_connections();
    one.ran("insert into t values (1)", &["INSERT 0 1"]);
    let primary = one.checks_in();
    one.checks_out(&ConnectionState::default());
    one.ran("select 1", &["SELECT 1"]).checks_in();
    assert!(one.checks_out(&primary).is_empty());
}

#[test]
fn who_names_nextval_may_keep_the_connection_until_sequences_are_discarded() {
    for sql in ["select nextval('s')", "select setval('s', 1)", "insert into t values (NEXTVAL('s'))"] {
        let mut talk = Talk::on_primary();
        talk.ran(sql, &["SELECT 1"]).is_movable();
        assert!(talk.session.take_insert() && talk.session.has_named_sequences(), "{sql}");
        talk.ran("discard sequences", &["DISCARD SEQUENCES"]).checks_in();
        assert!(!talk.session.has_named_sequences(), "{sql}");
        talk.ran(sql, &["SELECT 1"]).ran("discard all", &["DISCARD ALL"]);
        let left = talk.checks_in();
        assert!(diff(&left, &Talk::on_primary().session.state()).is_empty());
    }
    let mut standby = Talk::new();
    standby.client(&[query("select nextval('s')")]).server(&[error(), ready('I')]).checks_in();
    assert!(!standby.session.take_insert() && !standby.session.has_named_sequences());
}

#[test]
fn what_nextval_gave_is_for_its_session_alone() {
    let prepared = |talk: &mut Talk| {
        talk.prepared("n", "select nextval('s')", &["nextval"]).client(&[bind("n"), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]);
    };
    let simple = |talk: &mut Talk| {
        talk.ran("select nextval('s')", &["SELECT 1"]);
    };
    let called = |talk: &mut Talk| {
        const NEXTVAL: &[u8] = b"\0\0\x06\x26\0\0\0\x01\0\0\0\x01s\0\0";
        talk.client(&[message(b'F', NEXTVAL)]).server(&[message(b'V', &[0; 4]), ready('I')]);
    };
    for (way, uses) in [("prepared", prepared as fn(&mut Talk)), ("simple", simple), ("called", called)] {
        let (mut one, mut other) = (Talk::on_primary(), Talk::on_primary());
        uses(&mut one);
        assert!(one.session.has_named_sequences() && one.session.take_insert(), "{way}");
        let left = one.checks_in();
        assert!(other.checks_out(&left).contains(&"DISCARD SEQUENCES".to_owned()), "{way}");
        other.ran("select currval('s')", &["SELECT 1"]);
        // Its own use was on another connection.
        let (mut first, mut second) = (Talk::on_primary(), Talk::on_primary());
        uses(&mut first);
        let used = first.checks_in();
        assert!(first.checks_out(&used).is_empty(), "{way}: its own");
        assert!(!first.session.has_named_sequences(), "{way}: it is not pinned for good");
        uses(&mut second);
        let used_by_other = second.checks_in();
        assert!(first.checks_out(&used_by_other).contains(&"DISCARD SEQUENCES".to_owned()), "{way}");
    }
}

#[test]
fn what_pins_keeps_the_connection() {
    let pins = [
        ("create temp table t (a int)", "CREATE TABLE", PinReason::TemporaryObject),
        ("select pg_advisory_lock(1)", "SELECT 1", PinReason::AdvisoryLock),
        ("listen c", "LISTEN", PinReason::Listen),
        ("load 'x'", "LOAD", PinReason::Load),
        ("select setseed(0.1)", "SELECT 1", PinReason::SideEffects("setseed")),
        ("select currval('s')", "SELECT 1", PinReason::SideEffects("currval")),
        ("declare c cursor with hold for select 1", "DECLARE CURSOR", PinReason::HoldCursor),
        ("do $$ begin end $$", "DO", PinReason::UnknownStatement("DO")),
    ];
    for (sql, tag, reason) in pins {
        let mut talk = Talk::new();
        talk.ran(sql, &[tag]).stays_with(reason);
    }
    let mut talk = Talk::new();
    talk.ran("listen c", &["LISTEN"]).ran("unlisten *", &["UNLISTEN"]).checks_in();
}
