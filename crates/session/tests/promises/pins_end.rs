//! Advisory locks and temporary objects pin a session until they are gone, as its server tells.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use trunkline_session::{ConnectionState, Functions, LossPlan, Mobility, PinReason, ServerRole};

use crate::functions::{calling, look};
use crate::talk::*;

const LOCK: &str = "select pg_advisory_lock(1)";
const UNLOCK: &str = "select pg_advisory_unlock(1)";

/// What the server has, as it tells.
#[derive(Clone, Copy)]
pub(crate) struct Has {
    lock: &'static str,
    temporary: &'static str,
    channel: &'static str,
    event_trigger: &'static str,
    /// That of temporary objects, also without any.
    schema: &'static str,
}

pub(crate) const NOTHING: Has =
    Has { lock: "f", temporary: "f", channel: "f", event_trigger: "f", schema: "f" };
pub(crate) const A_LOCK: Has = Has { lock: "t", ..NOTHING };
pub(crate) const AN_OBJECT: Has = Has { temporary: "t", schema: "t", ..NOTHING };
pub(crate) const ITS_SCHEMA: Has = Has { schema: "t", ..NOTHING };
pub(crate) const A_CHANNEL: Has = Has { channel: "t", ..NOTHING };
pub(crate) const AN_EVENT_TRIGGER: Has = Has { event_trigger: "t", ..NOTHING };

impl Talk {
    /// The proxy asks what is there, before anything else of the client goes to the server.
    #[track_caller]
    pub(crate) fn asks_for_pins(&mut self, has: Has) -> &mut Self {
        assert!(self.session.has_questions() && self.session.must_ask_for_pins());
        let asked = printable(&self.session.questions().expect("something is asked"));
        let all = ["pg_locks", "pg_my_temp_schema()", "pg_listening_channels()", "pg_event_trigger"];
        for what in all.map(|what| format!("pg_catalog.{what}")) {
            assert!(asked.contains(&what), "{asked}");
        }
        assert!(self.session.is_paused() && !self.session.is_idle());
        let values = [has.lock, has.temporary, has.channel, has.event_trigger, has.schema].map(Some);
        self.swallows(&[m('3'), m('1'), m('2'), row(&values), complete("SELECT 1"), m('3'), m('3')]);
        self.swallows(&[ready('I')]).is_idle()
    }

    #[track_caller]
    pub(crate) fn asks_nothing(&mut self) -> &mut Self {
        assert!(!self.session.has_questions() && !self.session.must_ask_for_pins());
        assert_eq!(self.session.questions(), None);
        self
    }
}

#[test]
fn a_session_moves_again_once_its_last_lock_is_released() {
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]).asks_nothing().ran(LOCK, &["SELECT 1"]).asks_nothing();
    talk.ran("select 1", &["SELECT 1"]).asks_nothing().is_pinned(PinReason::AdvisoryLock);
    talk.ran(UNLOCK, &["SELECT 1"]).asks_for_pins(A_LOCK).asks_nothing();
    talk.is_pinned(PinReason::AdvisoryLock);
    talk.ran(UNLOCK, &["SELECT 1"]).asks_for_pins(NOTHING).asks_nothing().is_movable();
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken().ran(LOCK, &["SELECT 1"]).is_pinned(PinReason::AdvisoryLock);
}

#[test]
fn a_lock_that_was_not_got_does_not_pin() {
    for tags in [&["SELECT 1"][..], &[]] {
        let mut talk = Talk::new();
        if tags.is_empty() {
            talk.client(&[query(LOCK)]).server(&[error(), ready('I')]);
        } else {
            talk.ran("select pg_try_advisory_lock(1)", tags);
        }
        talk.asks_for_pins(NOTHING).is_movable();
    }
}

#[test]
fn a_try_that_got_its_lock_and_its_release_are_both_asked_about() {
    let mut talk = Talk::new();
    talk.prepare("try", "select pg_try_advisory_lock($1)").prepare("release", UNLOCK);
    for _job in 0..100 {
        talk.client(&[bind("try"), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]).asks_for_pins(A_LOCK);
        talk.ran("update jobs set state = 'done'", &["UPDATE 1"]);
        assert!(!talk.session.must_ask_for_pins());
        talk.client(&[bind("release"), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]).asks_for_pins(NOTHING);
        assert_eq!(talk.session.movability(), Ok(()));
    }
}

#[test]
fn a_lock_that_is_never_released_is_seldom_asked_about() {
    for (sql, rarely) in [("select 1", 2), (UNLOCK, 20)] {
        let mut talk = Talk::new();
        talk.ran(LOCK, &["SELECT 1"]);
        let mut asked = 0;
        for _query in 0..2000 {
            talk.ran(sql, &["SELECT 1"]);
            if talk.session.has_questions() {
                talk.asks_for_pins(A_LOCK);
                asked += 1;
            }
        }
        assert!(asked >= 2 && asked <= rarely * 5, "{sql}: {asked}");
        talk.is_pinned(PinReason::AdvisoryLock);
    }
}

#[test]
fn a_release_that_no_sql_shows_is_found_later() {
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]);
    for _query in 0..14 {
        talk.ran("select release_it()", &["SELECT 1"]).asks_nothing();
    }
    talk.ran("select release_it()", &["SELECT 1"]).asks_for_pins(NOTHING).is_movable();
}

#[test]
fn a_temporary_table_pins_until_it_is_dropped() {
    for (sql, tag) in [("drop table t", "DROP TABLE"), ("discard temp", "DISCARD TEMP")] {
        let mut talk = Talk::new();
        talk.ran("create temp table t (a int)", &["CREATE TABLE"]).asks_for_pins(AN_OBJECT);
        talk.ran("insert into t values (1)", &["INSERT 0 1"]).asks_nothing();
        talk.is_pinned(PinReason::TemporaryObject).ran(sql, &[tag]).asks_for_pins(NOTHING).is_movable();
    }
}

#[test]
fn a_temporary_table_that_ends_with_its_transaction_pins_no_more() {
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T');
    talk.ran_to("create temp table t (a int) on commit drop", &["CREATE TABLE"], 'T').asks_nothing();
    talk.ran_to("commit", &["COMMIT"], 'I').asks_for_pins(NOTHING).is_movable();
}

#[test]
fn a_dropped_table_pins_only_where_an_event_trigger_may_have_seen_it() {
    let dropped = PinReason::UnknownStatement("DROP TABLE");
    let mut talk = Talk::new();
    talk.ran("drop table if exists t", &["DROP TABLE"]).asks_for_pins(NOTHING).is_movable();
    talk.ran("drop table t", &["DROP TABLE"]).asks_for_pins(AN_EVENT_TRIGGER).is_pinned(dropped);
    let mut talk = Talk::new();
    talk.ran("create temp table t ()", &["CREATE TABLE"]).asks_for_pins(AN_OBJECT);
    talk.ran("drop table t", &["DROP TABLE"]).asks_for_pins(AN_EVENT_TRIGGER);
    talk.is_pinned(PinReason::TemporaryObject);
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]).asks_for_pins(AN_EVENT_TRIGGER).is_movable();
    for sql in ["drop owned by x", "drop event trigger e", "drop \"table\" t", "drop extension x"] {
        let mut talk = Talk::new();
        talk.ran(sql, &["DROP OWNED"]).asks_nothing().is_pinned(PinReason::UnknownStatement("DROP"));
    }
}

#[test]
fn an_event_trigger_that_ran_for_what_was_rolled_back_does_not_count_later() {
    let makes = ("create temp table t ()", "CREATE TABLE");
    let drops = ("drop table u", "DROP TABLE");
    let begin = |talk: &mut Talk| {
        talk.ran_to("begin", &["BEGIN"], 'T').ran_to("savepoint a", &["SAVEPOINT"], 'T');
    };
    let looks = |functions: &Functions| {
        let number = functions.look_begins();
        functions.have_event_triggers(number);
        functions.look_ended(number, None);
        look(functions, None);
    };
    type End = (&'static str, &'static str);
    let ends: [&[End]; 2] =
        [&[("rollback", "ROLLBACK")], &[("rollback to a", "ROLLBACK"), ("commit", "COMMIT")]];
    for end in ends {
        let (mut talk, functions) = calling();
        begin(&mut talk);
        talk.ran_to(makes.0, &[makes.1], 'T');
        for (sql, tag) in end {
            talk.ran_to(sql, &[tag], if *tag == "COMMIT" || end.len() == 1 { 'I' } else { 'T' });
        }
        looks(&functions);
        talk.ran(drops.0, &[drops.1]).asks_for_pins(NOTHING).is_movable();
    }
    // One that ran in the transaction, or for what comes behind it, counts.
    let (mut talk, functions) = calling();
    begin(&mut talk);
    talk.ran_to(makes.0, &[makes.1], 'T');
    talk.client(&[query("rollback"), query(makes.0)]);
    looks(&functions);
    talk.server(&[complete("ROLLBACK"), ready('I'), complete(makes.1), ready('I')]);
    talk.asks_for_pins(ITS_SCHEMA).is_pinned(PinReason::TemporaryObject);
}

/// Of a function that takes a lock and makes a table, one reason is known.
#[test]
fn locks_and_temporary_objects_pin_until_both_are_gone() {
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]).asks_for_pins(AN_OBJECT);
    talk.is_pinned(PinReason::AdvisoryLock);
    talk.ran("drop table t", &["DROP TABLE"]).asks_for_pins(A_LOCK).is_pinned(PinReason::AdvisoryLock);
    talk.ran(UNLOCK, &["SELECT 1"]).asks_for_pins(NOTHING).is_movable();
}

#[test]
fn nothing_is_asked_while_something_else_pins() {
    for (sql, tag) in [
        ("load 'x'", "LOAD"),
        ("listen x", "LISTEN"),
        ("declare c cursor with hold for select 1", "DECLARE CURSOR"),
    ] {
        let mut talk = Talk::new();
        talk.ran(sql, &[tag]).ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]).asks_nothing();
    }
    let mut talk = Talk::new();
    talk.ran("listen x", &["LISTEN"]).ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]).asks_nothing();
    talk.ran("unlisten x", &["UNLISTEN"]).asks_for_pins(NOTHING).is_movable();
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]).ran_to("begin", &["BEGIN"], 'T').ran_to(UNLOCK, &["SELECT 1"], 'T');
    talk.asks_nothing().ran_to("commit", &["COMMIT"], 'I').asks_for_pins(NOTHING);
}

/// A table made under such a path is temporary, although nothing says so.
#[test]
fn a_path_with_temporary_objects_pins_as_long_as_it_is_set() {
    let mut talk = Talk::new();
    talk.ran("set search_path = PG_TEMP, public", &["SET"]).ran("drop table t", &["DROP TABLE"]);
    talk.asks_nothing().ran("select 1 as a into t", &["SELECT 1"]).is_pinned(PinReason::TemporaryObject);
    talk.ran("drop table t", &["DROP TABLE"]).asks_nothing();
    talk.ran("reset search_path", &["RESET"]).asks_for_pins(NOTHING).is_movable();
}

#[test]
fn what_is_sent_behind_the_release_is_answered_first() {
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]).client(&[query(UNLOCK), query(LOCK)]);
    talk.server(&[complete("SELECT 1"), ready('I')]);
    assert!(!talk.session.must_ask_for_pins() && talk.session.questions().is_none());
    talk.server(&[complete("SELECT 1"), ready('I')]).asks_for_pins(A_LOCK);
    talk.is_pinned(PinReason::AdvisoryLock);
}

#[test]
fn a_question_that_is_not_answered_clearly_leaves_the_pin() {
    let begun = [m('3'), m('1'), m('2')];
    let ended = [complete("SELECT 1"), m('3'), m('3'), ready('I')];
    let refused = || vec![error(), ready('I')];
    let no_row = || ended.to_vec();
    let strange = |values: &[Option<&str>]| [&[row(values)][..], &ended].concat();
    let two = strange(&[Some("f"), Some("f")]);
    let unknown = strange(&[None, None, None]);
    let other = strange(&[Some("false"), Some("f"), Some("f")]);
    for answer in [refused(), no_row(), two, unknown, other] {
        let mut talk = Talk::new();
        talk.ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]);
        assert!(talk.session.questions().is_some());
        talk.swallows(&begun).swallows(&answer).is_idle().asks_nothing();
        talk.ran("select 1", &["SELECT 1"]).asks_nothing().is_pinned(PinReason::AdvisoryLock);
        talk.ran(UNLOCK, &["SELECT 1"]).asks_for_pins(NOTHING).is_movable();
    }
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]);
    assert!(talk.session.questions().is_some());
    talk.swallows(&begun);
    assert!(matches!(talk.lost(b"", MOVE), LossPlan::Report(_)), "the lock may have been held");
}

#[test]
fn a_connection_is_free_for_others_once_the_lock_is_gone() {
    let mut talk = Talk::new();
    talk.ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]);
    assert_eq!(talk.session.check_in_state().err(), Some(PinReason::AdvisoryLock));
    talk.asks_for_pins(NOTHING);
    let left = talk.session.check_in_state().expect("nothing is left on it");
    assert_eq!(left.tainted(), None);
    talk.session.connection_taken(
        Arc::from("replica2"),
        ServerRole::Standby,
        Bytes::new(),
        &ConnectionState::default(),
    );
    talk.asks_nothing().ran("select 1", &["SELECT 1"]).is_movable();
}

#[test]
fn a_session_that_cannot_move_is_not_asked_about() {
    let mut talk = Talk::of(Talk::settings(Mobility::Fixed), Instant::now());
    talk.ran(LOCK, &["SELECT 1"]).ran(UNLOCK, &["SELECT 1"]).asks_nothing();
}
