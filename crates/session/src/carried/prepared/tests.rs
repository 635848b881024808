use trunkline_codec::frontend::{Bind, FrontendTag};

use super::*;
use crate::carried::content::{ContentId, PreparedAt};
use crate::carried::encoding::EncodingEra;
use crate::carried::statement_set::ReadingRules;
use crate::limits::{CONTENT_MADE_MAX, LOG_TEXT_BYTES_MAX, PORTALS_MAX, PREPARED_MAX};
use crate::sql::Class;

fn prepared(sql_bytes_max: usize) -> Prepared {
    Prepared::for_moves(sql_bytes_max)
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    format!("{name}\0{sql}\0\0\0").into_bytes()
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    format!("{portal}\0{statement}\0\0\0\0\0\0\0").into_bytes()
}

fn execute(portal: &str) -> Vec<u8> {
    format!("{portal}\0\0\0\0\0").into_bytes()
}

fn executed(prepared: &mut Prepared, portal: &str) -> Option<String> {
    let (text, _effects) = prepared.execute_sent(&execute(portal));
    let sql = prepared.logged_sql(text).map(|sql| String::from_utf8_lossy(sql).into_owned());
    prepared.texts.release(text);
    sql
}

/// Sends a Parse and drops the hold of its queue entry.
fn send_parse(prepared: &mut Prepared, name: &str, sql: &str) {
    let text = prepared.parse_sent(&parse(name, sql), true, Wire::OfClient, |_sql| StatementEffects::PLAIN);
    prepared.texts.release(text);
}

fn send_bind(prepared: &mut Prepared, portal: &str, statement: &str) {
    let text = prepared.bind_sent(&bind(portal, statement), EncodingEra::default()).text;
    prepared.texts.release(text);
}

#[test]
fn execute_resolves_to_the_sql_of_its_statement_even_before_parse_is_answered() {
    let mut s = prepared(100);
    send_parse(&mut s, "s1", "select 1");
    send_parse(&mut s, "", "select 2");
    send_bind(&mut s, "", "s1");
    assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
    send_bind(&mut s, "p", "");
    assert_eq!(executed(&mut s, "p").as_deref(), Some("select 2"));
    s.parse_answered();
    s.parse_answered();
    send_bind(&mut s, "", "s1");
    assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
}

#[test]
fn failed_parse_registers_nothing_and_keeps_what_was_there() {
    let mut s = prepared(100);
    send_parse(&mut s, "s1", "select 1");
    s.parse_answered();
    send_parse(&mut s, "s1", "select 2");
    send_parse(&mut s, "s2", "select 3");
    s.dropped();
    s.dropped();
    send_bind(&mut s, "", "s1");
    assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
    send_bind(&mut s, "", "s2");
    assert_eq!(executed(&mut s, ""), None);
}

#[test]
fn close_and_deallocate_all_forget() {
    let mut s = prepared(100);
    for name in ["a", "b"] {
        send_parse(&mut s, name, "select 1");
        s.parse_answered();
    }
    s.close_sent(b"Sa\0");
    send_bind(&mut s, "", "a");
    assert_eq!(executed(&mut s, ""), None, "it will be closed by then");
    s.close_answered();
    send_bind(&mut s, "", "b");
    assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
    s.deallocate_all();
    send_bind(&mut s, "", "b");
    assert_eq!(executed(&mut s, ""), None);
    assert_eq!(s.texts.held(), 0);
}

#[test]
fn sql_is_cut_at_the_setting_and_not_kept_over_the_limit() {
    let mut s = prepared(6);
    let text = s.query_sent(b"select 1\0");
    assert_eq!(s.texts.sql(text), Some(&b"select"[..]));
    s.texts.release(text);
    let text = s.query_sent(b"se\0junk");
    assert_eq!(s.logged_sql(text), Some(&b"se"[..]));
    send_parse(&mut s, "", "select 1");
    send_bind(&mut s, "", "");
    assert_eq!(executed(&mut s, "").as_deref(), Some("select"), "all of it is kept for another server");
    assert_eq!(s.iter().count(), 0, "until the server has answered");
    s.parse_answered();
    assert_eq!(s.iter().collect::<Vec<_>>(), [(&b""[..], &b"select 1"[..])]);

    let mut s = prepared(LOG_TEXT_BYTES_MAX);
    assert!(s.query_sent(&vec![b'x'; LOG_TEXT_BYTES_MAX]).is_some());
    assert_eq!(s.query_sent(b"x\0"), None);
}

#[test]
fn portals_are_bounded_and_end_with_the_transaction() {
    let mut s = prepared(100);
    send_parse(&mut s, "", "select 1");
    for n in 0..=PORTALS_MAX {
        send_bind(&mut s, &format!("p{n}"), "");
    }
    assert_eq!(executed(&mut s, &format!("p{PORTALS_MAX}")), None, "one too many");
    assert_eq!(executed(&mut s, "p0").as_deref(), Some("select 1"));
    s.portals_ended();
    assert_eq!(executed(&mut s, "p0"), None);
}

#[test]
fn a_text_is_kept_once_for_the_log_and_for_another_server() {
    let mut s = prepared(100);
    send_parse(&mut s, "a", "select 1");
    s.parse_answered();
    send_bind(&mut s, "", "a");
    assert_eq!(s.texts.held(), 1);
    s.deallocate(b"a");
    assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"), "the portal still runs it");
    s.portals_ended();
    assert_eq!(s.texts.held(), 0);
}

#[test]
fn what_is_not_logged_has_no_text_to_show() {
    let mut s = prepared(0);
    assert_eq!(s.query_sent(b"select 1\0"), None);
    let text = s.parse_sent(&parse("a", "select 1"), true, Wire::OfClient, |_sql| StatementEffects::PLAIN);
    assert_eq!(text, None);
    s.parse_answered();
    send_bind(&mut s, "", "a");
    assert_eq!((executed(&mut s, ""), s.described_text(b"Sa\0")), (None, None));
    assert_eq!(s.iter().count(), 1);
    s.close_sent(b"Sa\0");
    s.close_answered();
    assert_eq!(s.texts.held(), 0);
}

#[test]
fn a_session_that_stays_keeps_no_more_than_the_log_needs() {
    let mut s = Prepared::for_log(6);
    send_parse(&mut s, "a", "select 1");
    send_parse(&mut s, "", "select 2");
    s.parse_answered();
    s.parse_answered();
    assert_eq!((s.iter().count(), s.has_questions()), (0, false));
    send_bind(&mut s, "", "a");
    assert_eq!(s.texts.whole(s.unnamed.as_ref().and_then(|saved| saved.text)), Some(&b"select"[..]));
    assert_eq!(executed(&mut s, "").as_deref(), Some("select"));
}

#[test]
fn a_portal_with_effects_takes_the_place_of_one_that_is_only_logged() {
    let mut s = prepared(100);
    send_parse(&mut s, "", "select 1");
    let odd = StatementEffects { class: crate::sql::Class::ONCE, ..StatementEffects::PLAIN };
    let text = s.parse_sent(&parse("odd", "insert"), true, Wire::OfClient, |_sql| odd);
    s.texts.release(text);
    for n in 0..PORTALS_MAX {
        send_bind(&mut s, &format!("p{n}"), "");
    }
    let bound = s.bind_sent(&bind("q", "odd"), EncodingEra::default());
    s.texts.release(bound.text);
    assert!(bound.pins.is_empty(), "it pins nothing");
    assert_eq!(s.portals.len(), PORTALS_MAX);
    assert!(s.execute_sent(b"q\0\0\0\0\0").1.class == crate::sql::Class::ONCE);
}

#[test]
fn a_name_that_is_kept_gets_its_new_sql_however_many_there_are() {
    let mut s = Prepared::for_log(100);
    for n in 0..=PREPARED_MAX {
        send_parse(&mut s, &format!("s{n}"), "select 1");
        s.parse_answered();
    }
    send_parse(&mut s, "s0", "select 2");
    s.parse_answered();
    send_bind(&mut s, "", "s0");
    assert_eq!(executed(&mut s, "").as_deref(), Some("select 2"));
}

/// One whose unnamed statement is on another connection; the client has run it or has not.
fn without_its_unnamed(sql: &str, is_run: bool) -> Prepared {
    let mut s = prepared(0);
    send_parse(&mut s, "", sql);
    if is_run {
        send_bind(&mut s, "", "");
        s.describe_sent(b"P\0");
    }
    s.parse_answered();
    s.portals_ended();
    s.connection_taken(None, ReadingRules::Same, UnnamedKept::Lost);
    assert!(s.has_absent());
    s
}

#[test]
fn a_series_that_prepares_what_it_runs_plainly_needs_nothing_first() {
    let (execute, bind_unnamed, bind_named) = (execute(""), bind("", ""), bind("", "s1"));
    let parses = [parse("", "select 1"), parse("", "execute s1"), parse("s1", "select 1")];
    let others: [(FrontendTag, &[u8]); 7] = [
        (FrontendTag::Bind, &bind_unnamed),
        (FrontendTag::Bind, &bind_named),
        (FrontendTag::Describe, b"P\0"),
        (FrontendTag::Describe, b"S\0"),
        (FrontendTag::Execute, &execute),
        (FrontendTag::Sync, b""),
        (FrontendTag::Query, b"execute s1\0"),
    ];
    let messages = || parses.iter().map(|body| (FrontendTag::Parse, &body[..])).chain(others);
    for (sql, is_run) in [("select 1", false), ("select 1", true), ("execute s1", true)] {
        for in_flight in [None, Some(""), Some("s1")] {
            let mut plain = Vec::new();
            for (tag, body) in messages() {
                let mut s = without_its_unnamed(sql, is_run);
                if let Some(name) = in_flight {
                    send_parse(&mut s, name, "select 1");
                }
                if !s.needs_at_most_new_unnamed(tag, body) {
                    continue;
                }
                plain.push(tag);
                let made = s.must_make((tag, body, MessageExtent::Whole)).map(|which| s.steps_to_make(which));
                assert_eq!(made.unwrap_or_default(), Vec::<Vec<Step>>::new(), "{tag:?} {body:?}");
                assert!(Bind::parse(body).map_or(true, |bind| !s.depends_on_describe(&bind)));
                for asked in [ColumnsAsked::Now, ColumnsAsked::No] {
                    assert_eq!(s.steps_before(tag, body, asked), [], "{tag:?} {body:?} {asked:?}");
                }
            }
            let bound = (in_flight == Some("")).then_some(FrontendTag::Bind);
            let rest = [FrontendTag::Describe, FrontendTag::Execute, FrontendTag::Sync];
            let expected: Vec<_> = [FrontendTag::Parse; 3].into_iter().chain(bound).chain(rest).collect();
            assert_eq!(plain, expected, "{sql} {in_flight:?}");
        }
    }
}

#[test]
fn nothing_is_plain_where_named_statements_may_be_missing() {
    let mut s = without_its_unnamed("select 1", true);
    send_parse(&mut s, "s1", "select 1");
    s.parse_answered();
    assert!(!s.needs_at_most_new_unnamed(FrontendTag::Parse, &parse("", "execute s1")));
}

#[test]
fn only_the_very_text_of_an_unnamed_statement_that_reads_is_known_to_read_again() {
    let is_known = |s: &Prepared, sql: &str| s.is_plain_unnamed(&parse("", sql));
    let mut s = prepared(0);
    send_parse(&mut s, "", "select 1");
    assert!(!is_known(&s, "select 1"), "the server may refuse it");
    s.parse_answered();
    assert!(is_known(&s, "select 1"));
    for other in ["select 2", "select 1 ", "select", "set a = 1"] {
        assert!(!is_known(&s, other), "{other}");
    }
    assert!(!s.is_plain_unnamed(b"\0select 1\0\0\x01\0\0\0\x17"), "with another type");
    assert!(!s.is_plain_unnamed(&parse("s1", "select 1")));
    s.query_answered();
    assert!(!is_known(&s, "select 1"), "a Query has dropped it");

    let writes = |_sql: &[u8]| StatementEffects { class: Class::ONCE, ..StatementEffects::PLAIN };
    let text = s.parse_sent(&parse("", "insert into t values (1)"), true, Wire::OfClient, writes);
    s.texts.release(text);
    s.parse_answered();
    assert!(!is_known(&s, "insert into t values (1)"));

    let mut s = Prepared::for_log(100);
    send_parse(&mut s, "", "select 1");
    s.parse_answered();
    assert!(!is_known(&s, "select 1"), "it is kept for the log only");
}

#[test]
fn a_content_that_is_made_and_never_there_is_given_up() {
    let id = ContentId::from_bytes([7; ContentId::BYTES]);
    let body = parse("s", "fetch 1 from c");
    let mut s = prepared(100);
    let text = s.parse_sent(&body, true, Wire::OfContent(id), |_sql| StatementEffects::PLAIN);
    s.texts.release(text);
    s.parse_answered();
    let describe = (FrontendTag::Describe, &b"Ss\0"[..], MessageExtent::Whole);
    for time in 0..CONTENT_MADE_MAX {
        // Its columns are those of the moment for its client, and described here.
        s.content_made(id, PreparedAt::now());
        let steps = s.steps_of_names(describe, |_parse| Some(id));
        assert!(matches!(steps[..], [Step::MakeContent { .. }]), "{time}: {steps:?}");
    }
    assert_eq!(s.steps_of_names(describe, |_parse| Some(id)), []);
    assert_eq!(s.wire_content(b"s"), None, "it stands under its client's name");
}
