//! Connections that keep the schema of temporary objects go to sessions that have had some.

use super::*;
use crate::pins_end::{AN_OBJECT, ITS_SCHEMA, NOTHING};

/// A session that has had a temporary table, and its connection.
fn without_its_table() -> (Talk, ConnectionState) {
    let mut talk = Talk::on_primary();
    talk.ran("create temp table t (a int)", &["CREATE TABLE"]).asks_for_pins(AN_OBJECT);
    talk.ran("drop table t", &["DROP TABLE"]).asks_for_pins(ITS_SCHEMA);
    let left = talk.checks_in();
    (talk, left)
}

fn fits(left: &ConnectionState, talk: &Talk) -> bool {
    let state = talk.session.state();
    let is_marked = left.custom_marks() & !state.custom_marks() != 0;
    assert!(!left.fits(&state) || !is_marked, "the pool has to find it");
    left.fits(&state)
}

#[test]
fn who_has_had_none_gets_no_connection_with_their_schema() {
    let (mut one, left) = without_its_table();
    assert!(left.after_discard_all().is_none(), "nothing undoes it");
    let mut other = Talk::on_primary();
    other.ran("set work_mem = 1", &["SET"]);
    assert!(!fits(&left, &other) && !fits(&left, &Talk::on_primary()));
    assert!(fits(&left, &one));
    let fingerprint = |talk: &Talk| talk.session.state().fingerprint();
    assert_eq!(left.fingerprint(), fingerprint(&one), "it is preferred");
    assert_ne!(left.fingerprint(), fingerprint(&Talk::on_primary()), "it is left to others");
    let (two, _) = without_its_table();
    assert!(fits(&left, &two), "it has had some, too");
    // Elsewhere there is none, and the session may still come back.
    assert!(one.checks_out(&ConnectionState::default()).is_empty());
    let elsewhere = one.checks_in();
    assert!(fits(&elsewhere, &other) && fits(&left, &one));
    one.checks_out(&left);
    assert!(!fits(&one.checks_in(), &other), "it is there still");
}

#[test]
fn a_table_that_was_rolled_back_or_no_table_leaves_no_schema() {
    let mut talk = Talk::on_primary();
    talk.ran("drop table if exists t", &["DROP TABLE"]).asks_for_pins(NOTHING);
    assert!(fits(&talk.checks_in(), &Talk::on_primary()));
    talk.ran_to("begin", &["BEGIN"], 'T').ran_to("create temp table t ()", &["CREATE TABLE"], 'T');
    talk.ran_to("rollback", &["ROLLBACK"], 'I');
    assert!(fits(&talk.checks_in(), &Talk::on_primary()));
}

#[test]
fn a_client_that_discards_or_leaves_its_table_leaves_the_schema() {
    let mut talk = Talk::on_primary();
    talk.ran("create temp table t (a int)", &["CREATE TABLE"]);
    assert!(talk.session.connection_state().after_discard_all().is_none());
    talk.ran("discard all", &["DISCARD ALL"]);
    assert!(!fits(&talk.checks_in(), &Talk::on_primary()));
}

#[test]
fn what_cannot_be_set_there_is_not_to_be_set_there() {
    let (_, left) = without_its_table();
    let (mut buffered, _) = without_its_table();
    buffered.checks_out(&ConnectionState::default());
    buffered.ran("set temp_buffers = '16MB'", &["SET"]);
    assert!(!fits(&left, &buffered));
    assert!(fits(&buffered.checks_in(), &buffered));
}
