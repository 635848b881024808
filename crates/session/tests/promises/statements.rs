//! The records of statements.

use std::time::Duration;

use trunkline_session::{Fingerprint, ReportTiming, StatementKind, Tracking};

use crate::talk::*;

#[test]
fn a_query_is_one_statement_with_its_phases() {
    let mut talk = Talk::new();
    talk.session.note_wait(Duration::from_millis(7));
    talk.client(&[query("select 1; select 2")]).wait(10).server(&[m('T'), m('D')]);
    talk.session.note_client_blocked(Duration::from_millis(3));
    talk.wait(5).server(&[complete("SELECT 1"), m('T'), m('D'), complete("SELECT 1"), ready('I')]);
    let [record] = &talk.records.0[..] else { panic!("{:?}", talk.records.0) };
    assert_eq!((record.kind, record.sql.as_str()), (StatementKind::Query, "select 1; select 2"));
    assert_eq!((record.end.as_str(), record.rows), ("SELECT 1", 2));
    let milliseconds = |duration: Duration| duration.as_millis();
    assert_eq!(milliseconds(record.timing.wait), 7);
    assert_eq!(milliseconds(record.timing.server_first), 10);
    assert_eq!(milliseconds(record.timing.server_total), 15);
    assert_eq!(milliseconds(record.timing.client), 3);
}

#[test]
fn each_execute_of_a_pipeline_is_timed_on_its_own() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "select 1"), bind(""), execute(), bind(""), execute(), sync()]);
    talk.wait(10).server(&[m('1'), m('2'), m('D'), complete("SELECT 1")]);
    talk.wait(20).server(&[m('2'), m('D')]).wait(30).server(&[m('s'), ready('I')]);
    assert_eq!(talk.ends(), ["SELECT 1", "suspended"]);
    let second = &talk.records.0[1];
    assert_eq!(second.timing.server_first, Duration::from_millis(20));
    assert_eq!(second.timing.server_total, Duration::from_millis(50));
    assert_eq!(second.sql, "select 1");
}

#[test]
fn named_statements_are_resolved_until_they_are_gone() {
    let mut talk = Talk::new();
    talk.client(&[parse("a", "select $1"), sync()]).server(&[m('1'), ready('I')]);
    let run = [bind("a"), execute(), sync()];
    let answer = [m('2'), complete("SELECT 0"), ready('I')];
    talk.client(&run).server(&answer);
    talk.client(&[query("deallocate all")]).server(&[complete("DEALLOCATE ALL"), ready('I')]);
    talk.client(&run).server(&[error(), ready('I')]);
    let sql: Vec<_> = talk.records.0.iter().map(|record| record.sql.as_str()).collect();
    assert_eq!(sql, ["select $1", "deallocate all", "-"]);
}

#[test]
fn a_statement_prepared_by_sql_is_recorded_with_its_prepare() {
    let mut talk = Talk::new();
    talk.client(&[query("prepare a as select 1")]).server(&[complete("PREPARE"), ready('I')]);
    talk.asks(&["a"], &[], &["a"]);
    talk.client(&[bind("a"), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    talk.client(&[query("deallocate a")]).server(&[complete("DEALLOCATE"), ready('I')]);
    talk.client(&[bind("a"), execute(), sync()]).server(&[error(), ready('I')]);
    let sql: Vec<_> = talk.records.0.iter().map(|record| record.sql.as_str()).collect();
    assert_eq!(sql, ["prepare a as select 1", "prepare a as select 1", "deallocate a", "-"]);
}

#[test]
fn skipped_statements_are_not_recorded() {
    let mut talk = Talk::new();
    talk.client(&[bind("a"), execute(), bind("a"), execute(), sync()]).server(&[m('2'), error(), ready('I')]);
    assert_eq!(talk.ends(), ["failed 22012"]);
}

#[test]
fn the_timing_notice_precedes_the_ready_for_query() {
    let mut talk = Talk::with(ReportTiming::Notice, Tracking::Full);
    talk.client(&[query("select 1")]).wait(2);
    let answer = [m('T'), m('D'), complete("SELECT 1"), ready('I')].concat();
    let step = talk.server_step(&answer);
    assert_eq!(step.forward, answer.len() - 6);
    let notice = step.inject.expect("a notice");
    let text = String::from_utf8_lossy(&notice);
    let detail = "Dserver=replica1 wait_us=0 first_us=2000 total_us=2000 client_us=0 rows=1 bytes=";
    assert!(text.contains("Mtrunkline timing") && text.contains(detail), "{text:?}");
    talk.server(&[ready('I')]).is_idle();
    talk.client(&[sync()]).server(&[ready('I')]).is_idle();
}

/// Slow enough that each is drawn.
#[test]
fn what_servers_are_compared_by_is_the_fingerprint_of_each_statement() {
    let mut talk = Talk::new();
    let of = |sql: &str| Some(Fingerprint::of(sql.as_bytes()));
    talk.wait(100).client(&[query("select 1")]).server(&[m('T'), complete("SELECT 1"), ready('I')]);
    talk.wait(100).client(&[parse("a", "select a"), sync()]).server(&[m('1'), ready('I')]);
    talk.client(&[bind("a"), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    talk.wait(100).client(&[parse("", "select b"), bind(""), execute(), sync()]);
    talk.server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    talk.wait(100).client(&[query("select 2 + 3")]).server(&[error(), ready('I')]);
    let sampled: Vec<_> = talk.records.0.iter().map(|record| record.sampled).collect();
    assert_eq!(sampled, [of("select 7"), of("select a"), of("select b"), of("select 8 + 9")]);
}

#[test]
fn of_a_pipeline_one_statement_is_drawn_and_has_its_own_fingerprint() {
    let mut talk = Talk::new();
    talk.wait(100);
    talk.client(&[query("select a"), query("select b"), parse("", "select c"), bind(""), execute(), sync()]);
    talk.server(&[complete("SELECT 1"), ready('I'), complete("SELECT 1"), ready('I')]);
    talk.server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]);
    let sampled: Vec<_> = talk.records.0.iter().map(|record| record.sampled).collect();
    assert_eq!(sampled, [Some(Fingerprint::of(b"select a")), None, None]);
}
