//! COPY in, out and both.

use trunkline_session::PinReason;

use crate::talk::*;

#[test]
fn copy_in_is_over_with_its_ready_for_query() {
    let mut talk = Talk::new();
    talk.client(&[query("copy t from stdin")]).server(&[m('G')]).is_busy();
    assert_eq!(talk.session.pinned(), Some(PinReason::Copy));
    talk.client(&[m('d'), m('d'), m('c')]).is_busy();
    talk.server(&[complete("COPY 2"), ready('I')]).is_idle();
}

#[test]
fn copy_in_swallows_sync_and_flush() {
    let mut talk = Talk::new();
    talk.client(&[bind("a"), execute(), flush()]).server(&[m('2'), m('G')]);
    talk.client(&[m('d'), sync(), flush(), m('d'), m('c'), sync()]);
    talk.server(&[complete("COPY 2"), ready('I')]).is_idle();
}

#[test]
fn copy_in_swallows_the_sync_sent_before_it_began() {
    let mut talk = Talk::new();
    talk.client(&[bind("a"), execute(), sync()]).server(&[m('2'), m('G')]);
    talk.client(&[m('d'), m('c')]).server(&[complete("COPY 1")]).is_busy();
    talk.client(&[sync()]).server(&[ready('I')]).is_idle();

    let mut all_at_once = Talk::new();
    all_at_once.client(&[bind("a"), execute(), sync(), m('d'), m('c'), sync(), query("select 1")]);
    all_at_once.server(&[m('2'), m('G'), complete("COPY 1"), ready('I')]).is_busy();
    all_at_once.server(&[complete("SELECT 0"), ready('I')]).is_idle();
}

#[test]
fn copy_that_fails_early_ignores_the_rest_of_its_data() {
    let mut talk = Talk::new();
    talk.client(&[query("copy t from stdin")]).server(&[m('G')]).client(&[m('d')]);
    talk.server(&[error(), ready('I')]).is_idle();
    talk.client(&[m('d'), m('c')]).is_idle();

    let mut extended = Talk::new();
    extended.client(&[bind("a"), execute(), flush()]).server(&[m('2'), m('G')]).client(&[m('d')]);
    extended.server(&[error()]).client(&[m('d'), m('c')]).is_busy();
    extended.client(&[sync()]).server(&[ready('I')]).is_idle();
}

#[test]
fn a_sync_inside_a_copy_that_fails_is_not_guessed_at() {
    let mut talk = Talk::new();
    talk.client(&[bind("a"), execute(), sync()]).server(&[m('2'), m('G')]).client(&[m('d')]);
    talk.server(&[error()]).is_busy();
    assert_eq!(talk.session.pinned(), Some(PinReason::SyncInFailedCopy));
}

#[test]
fn copy_fail_ends_the_data() {
    let mut talk = Talk::new();
    talk.client(&[query("copy t from stdin")]).server(&[m('G')]).client(&[message(b'f', b"no\0")]);
    talk.server(&[report('E', "ERROR", "57014"), ready('I')]).is_idle();
    assert_eq!(talk.ends(), ["failed 57014"]);
}

#[test]
fn anything_else_during_copy_gives_two_errors_and_the_end() {
    let mut talk = Talk::new();
    talk.client(&[query("copy t from stdin")]).server(&[m('G')]).client(&[query("select 1")]);
    talk.server(&[report('E', "ERROR", "08P01"), report('E', "FATAL", "08P01")]).is_busy();
    assert_eq!(talk.ends(), ["failed 08P01"]);
}

#[test]
fn copy_out_and_several_copies_in_one_query() {
    let mut talk = Talk::new();
    talk.client(&[query("copy a to stdout; copy b from stdin; copy c from stdin")]);
    talk.server(&[m('H'), m('d'), m('c'), complete("COPY 1"), m('G')]);
    talk.client(&[m('d'), m('c'), m('d'), m('c'), query("select 1")]);
    talk.server(&[complete("COPY 1"), m('G'), complete("COPY 1"), ready('I')]).is_busy();
    talk.server(&[complete("SELECT 0"), ready('I')]).is_idle();
}

#[test]
fn copy_both_ends_with_two_command_completes() {
    let mut talk = Talk::new();
    talk.client(&[query("START_REPLICATION 0/0")]).server(&[m('W'), m('d')]).client(&[m('d'), m('c')]);
    talk.server(&[m('d'), m('c'), complete("START_STREAMING"), complete("START_REPLICATION"), ready('I')]);
    talk.is_idle();
}

#[test]
fn copy_messages_outside_copy_are_ignored() {
    let mut talk = Talk::new();
    talk.client(&[m('d'), m('c'), message(b'f', b"no\0")]).is_idle();
    talk.client(&[query("select 1"), m('c'), query("select 2")]);
    talk.server(&[complete("SELECT 0"), ready('I')]).is_busy();
    talk.server(&[complete("SELECT 0"), ready('I')]).is_idle();
}
