//! What a session takes along, and what pins it. One test for each kind of state.

use std::sync::Arc;

use trunkline_session::limits::{HOLD_CURSORS_MAX, PARAMETERS_MAX, PREPARED_BYTES_MAX, SETTING_BYTES_MAX};
use trunkline_session::{AlignmentError, LossPlan, Mobility, PinReason, ServerRole, ServerThen};

use crate::talk::*;

impl Talk {
    /// Runs a Query whose statements end with these tags.
    pub(crate) fn ran(&mut self, sql: &str, tags: &[&str]) -> &mut Self {
        let status = if self.session.transaction_status() == trunkline_session::TransactionStatus::Idle {
            'I'
        } else {
            'T'
        };
        self.ran_to(sql, tags, status)
    }

    pub(crate) fn ran_to(&mut self, sql: &str, tags: &[&str], status: char) -> &mut Self {
        let mut answer: Vec<_> = tags.iter().map(|tag| complete(tag)).collect();
        answer.push(ready(status));
        self.client(&[query(sql)]).server(&answer)
    }

    /// The SQL and statements sent to another server, other messages by type.
    pub(crate) fn told(&self) -> Vec<String> {
        let bytes = self.alignment().messages;
        let mut rest = &bytes[..];
        let mut told = Vec::new();
        while let [tag, a, b, c, d, after @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
            let (body, next) = after.split_at(length);
            match tag {
                b'P' => told.push(String::from_utf8_lossy(body).trim_matches('\0').replace('\0', ":")),
                b'C' | b'S' => told.push(char::from(*tag).into()),
                _run => {}
            }
            rest = next;
        }
        told
    }

    #[track_caller]
    pub(crate) fn is_pinned(&mut self, reason: PinReason) -> &mut Self {
        assert_eq!(self.session.movability(), Err(reason));
        assert!(matches!(self.lost(b"", MOVE), LossPlan::Report(_)), "it cannot move");
        self
    }

    #[track_caller]
    pub(crate) fn is_movable(&mut self) -> &mut Self {
        assert_eq!(self.session.movability(), Ok(()));
        self
    }

    pub(crate) fn prepare(&mut self, name: &str, sql: &str) -> &mut Self {
        self.client(&[parse(name, sql), sync()]).server(&[m('1'), ready('I')])
    }
}

#[test]
fn a_session_without_state_moves_with_its_login_alone() {
    let mut talk = Talk::new();
    talk.ran("select 1", &["SELECT 1"]).ran("begin", &["BEGIN"]).is_movable();
    talk.ran("show x", &["SHOW"]).ran("commit", &["COMMIT"]).is_movable();
    assert!(talk.alignment().is_empty());
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken().is_idle().ran("select 1", &["SELECT 1"]);
}

#[test]
fn a_farewell_to_a_movable_session_is_hidden() {
    let mut talk = Talk::new();
    talk.ran("select 1", &["SELECT 1"]);
    for farewell in [report('E', "FATAL", "57P01"), report('N', "WARNING", "57P02")] {
        assert!(matches!(talk.server_step(&farewell).then, ServerThen::Farewell | ServerThen::Terminated));
        assert_eq!(talk.lost(&farewell, MOVE), LossPlan::Move);
        talk.taken().is_idle();
    }
}

#[test]
fn a_fixed_session_stays() {
    let mut talk = Talk::of(Talk::settings(Mobility::Fixed), std::time::Instant::now());
    talk.ran("set a = 1", &["SET"]);
    assert!(talk.alignment().is_empty(), "nothing is kept");
    talk.is_pinned(PinReason::Fixed);
}

#[test]
fn a_statement_that_failed_or_was_skipped_is_not_restored() {
    let mut talk = Talk::new();
    talk.client(&[parse("a", "oops"), parse("b", "select 1"), message(b'C', b"Sc\0"), sync()]);
    talk.server(&[error(), ready('I')]);
    assert_eq!(talk.session.prepared_statements().count(), 0);
}

#[test]
fn a_setting_counts_once_its_transaction_commits() {
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T').ran("set a = 1", &["SET"]);
    assert!(talk.told().is_empty());
    talk.ran_to("rollback", &["ROLLBACK"], 'I');
    assert!(talk.told().is_empty());
    talk.ran_to("begin", &["BEGIN"], 'T').ran("set a = 2", &["SET"]).ran("set local a = 3", &["SET"]);
    talk.ran_to("commit", &["COMMIT"], 'I');
    assert_eq!(talk.told(), ["set a = 2", "C", "S"]);
    talk.ran_to("begin", &["BEGIN"], 'T').ran("set a = 4", &["SET"]).client(&[query("oops")]);
    talk.server(&[error(), ready('E')]).ran_to("commit", &["ROLLBACK"], 'I');
    assert_eq!(talk.told(), ["set a = 2", "C", "S"], "COMMIT of a failed transaction");
    talk.client(&[query("set a = 5; oops")]).server(&[complete("SET"), error(), ready('I')]);
    assert_eq!(talk.told(), ["set a = 2", "C", "S"], "an implicit transaction");
    talk.ran("reset all", &["RESET"]);
    assert!(talk.told().is_empty());
}

#[test]
fn savepoints_undo_what_came_after_them() {
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T').ran("set a = 1", &["SET"]).ran("savepoint s", &["SAVEPOINT"]);
    talk.ran("set a = 2", &["SET"]).ran("set b = 2", &["SET"]).ran("rollback to s", &["ROLLBACK"]);
    talk.ran("set c = 3", &["SET"]).ran("release s", &["RELEASE"]).ran_to("commit", &["COMMIT"], 'I');
    assert_eq!(talk.told(), ["set a = 1", "set c = 3", "C", "S"]);
    talk.ran_to("begin", &["BEGIN"], 'T').ran("rollback to unheard_of", &["ROLLBACK"]);
    talk.ran_to("commit", &["COMMIT"], 'I').is_pinned(PinReason::UnknownSavepoint);
}

#[test]
fn settings_of_prepared_statements_count_when_they_run() {
    let mut talk = Talk::new();
    talk.prepare("a", "set x = 1");
    assert!(talk.told().is_empty());
    let run = [bind("a"), execute(), sync()];
    talk.client(&run).server(&[m('2'), complete("SET"), ready('I')]);
    assert_eq!(talk.told()[0], "set x = 1");
    talk.ran("reset x", &["RESET"]);
    talk.client(&[bind("a"), execute(), bind("oops"), sync()]);
    talk.server(&[m('2'), complete("SET"), error(), ready('I')]);
    assert!(talk.told().is_empty(), "the pipeline failed");
}

#[test]
fn set_config_of_parameters_counts_with_the_values_that_were_bound() {
    let mut talk = Talk::new();
    talk.prepare("a", "select set_config('app.tenant', $1, false), set_config($2, '1', true)");
    let mut set = |values: &[Option<&str>], end: &[u8]| {
        talk.client(&[bind_to("a", values), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), end.to_vec()]);
        talk.told()[0].clone()
    };
    assert_eq!(
        set(&[Some("it's"), Some("x")], &ready('I')),
        "SELECT pg_catalog.set_config('app.tenant', 'it''s', false)"
    );
    assert_eq!(
        set(&[Some("42"), Some("x")], &ready('I')),
        "SELECT pg_catalog.set_config('app.tenant', '42', false)"
    );
    talk.is_movable();
    talk.client(&[bind_to("a", &[Some("43"), Some("x")]), execute(), sync()]);
    talk.server(&[m('2'), error(), ready('I')]);
    assert_eq!(talk.told()[0], "SELECT pg_catalog.set_config('app.tenant', '42', false)", "it failed");
    talk.client(&[bind_to("a", &[None, Some("x")]), execute(), sync()]);
    talk.server(&[m('2'), complete("SELECT 1"), ready('I')]).is_pinned(PinReason::UnknownSetting);
}

#[test]
fn every_other_state_pins_with_its_reason() {
    for (sql, tag, reason) in [
        ("declare c cursor with hold for select 1", "DECLARE CURSOR", PinReason::HoldCursor),
        ("select pg_advisory_lock(1)", "SELECT 1", PinReason::AdvisoryLock),
        ("load 'x'", "LOAD", PinReason::Load),
        ("listen x", "LISTEN", PinReason::Listen),
        ("create temp table t (a int)", "CREATE TABLE", PinReason::TemporaryObject),
        ("select 1 into temp t", "SELECT 1", PinReason::TemporaryObject),
        ("set a = f()", "SET", PinReason::UnknownSetting),
        ("select set_config('a', f(), false)", "SELECT 1", PinReason::UnknownSetting),
        ("do 'x'", "DO", PinReason::UnknownStatement("DO")),
        ("call p(set_config('a', 'b', false))", "CALL", PinReason::SideEffects("CALL")),
        (
            "create function f() returns int return 1",
            "CREATE FUNCTION",
            PinReason::UnknownStatement("CREATE"),
        ),
        ("select 1", "FROBNICATE", PinReason::UnknownStatement("another statement")),
        ("select 1", "SET", PinReason::UnknownStatement("SET")),
        ("execute p", "SET", PinReason::UnknownStatement("SET")),
        ("select 1", "DO", PinReason::SideEffects("DO")),
        ("select setseed(1)", "SELECT 1", PinReason::SideEffects("setseed")),
        ("select dblink_connect('x')", "SELECT 1", PinReason::SideEffects("dblink_connect")),
        ("select currval('s')", "SELECT 1", PinReason::SideEffects("currval")),
    ] {
        let mut talk = Talk::new();
        talk.ran(sql, &[tag]).is_pinned(reason);
        assert!(!reason.to_string().is_empty());
    }
}

#[test]
fn discard_all_makes_clean_what_it_can() {
    let mut talk = Talk::new();
    talk.ran("set a = 1", &["SET"]).ran("listen x", &["LISTEN"]).prepare("a", "select 1");
    talk.ran("select pg_advisory_lock(1)", &["SELECT 1"]).ran("discard all", &["DISCARD ALL"]).is_movable();
    assert!(talk.alignment().is_empty());
    talk.ran("load 'x'", &["LOAD"]).ran("discard all", &["DISCARD ALL"]).is_pinned(PinReason::Load);
}

#[test]
fn a_hold_cursor_pins_until_it_is_closed() {
    let mut talk = Talk::new();
    let declare = |name: usize| format!("declare c{name} cursor with hold for select 1");
    talk.ran(&declare(1), &["DECLARE CURSOR"]).ran(&declare(2), &["DECLARE CURSOR"]);
    talk.ran("close c1", &["CLOSE CURSOR"]);
    assert_eq!(talk.session.movability(), Err(PinReason::HoldCursor));
    talk.ran("close c2", &["CLOSE CURSOR"]).is_movable();
    for name in 0..=HOLD_CURSORS_MAX {
        talk.ran(&declare(name), &["DECLARE CURSOR"]);
    }
    talk.ran("close all", &["CLOSE CURSOR ALL"]).is_pinned(PinReason::HoldCursor);
}

#[test]
fn a_pin_that_failed_pins_only_when_it_may_have_worked() {
    let mut talk = Talk::new();
    for sql in
        ["create temp table t (a int)", "listen x", "set a = f()", "declare c cursor with hold for select 1"]
    {
        talk.client(&[query(sql)]).server(&[error(), ready('I')]).is_movable();
    }
    talk.client(&[query("select pg_advisory_lock(1), 1/0")]).server(&[error(), ready('I')]);
    talk.is_pinned(PinReason::AdvisoryLock);
}

#[test]
fn how_sql_is_read_must_not_change_under_statements() {
    let mut talk = Talk::new();
    talk.ran("set time zone 'UTC'", &["SET"]).prepare("a", "select now()").is_movable();
    talk.ran("set datestyle = 'German'", &["SET"]);
    assert_eq!(talk.session.movability(), Err(PinReason::SettingAfterStatements));
    talk.ran("deallocate all", &["DEALLOCATE ALL"]).is_movable();
    talk.server(&[status("standard_conforming_strings", "off")]).is_pinned(PinReason::UnknownSetting);
}

#[test]
fn a_reset_to_what_it_is_already_changes_nothing_under_statements() {
    let all = ["SELECT 1", "CLOSE CURSOR ALL", "UNLISTEN", "RESET"];
    let asyncpg = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;";
    for (reset, tags) in [(asyncpg, &all[..]), ("reset timezone", &["RESET"]), ("reset all", &["RESET"])] {
        let mut talk = Talk::new();
        talk.prepare("a", "select '1.2.2000'::date").ran("set a = 1", &["SET"]);
        talk.ran(reset, tags).is_movable().prepare("b", "select 'x'").is_movable();
        let mut talk = Talk::new();
        talk.ran("set timezone = 'CET'", &["SET"]).prepare("a", "select 'x'").is_movable();
        talk.ran(reset, tags).is_pinned(PinReason::SettingAfterStatements);
        let mut talk = Talk::new();
        talk.ran_to("begin", &["BEGIN"], 'T').ran("set timezone = 'CET'", &["SET"]).ran(reset, tags);
        talk.ran("prepare a as select 'x'", &["PREPARE"]).ran_to("rollback", &["ROLLBACK"], 'I');
        talk.is_pinned(PinReason::SettingAfterStatements);
    }
}

#[test]
fn a_statement_read_by_rules_that_end_with_its_transaction_pins() {
    for set in [
        "set local datestyle = 'German'",
        "set datestyle = 'German'",
        "select set_config('datestyle', 'German', true)",
    ] {
        for (make, tag) in [("prepare p as select '1.2.2000'::date", "PREPARE"), ("select 1", "SELECT 1")] {
            let mut talk = Talk::new();
            let tag_of_set = if set.starts_with("select") { "SELECT 1" } else { "SET" };
            talk.ran_to("begin", &["BEGIN"], 'T').ran(set, &[tag_of_set]).ran(make, &[tag]);
            talk.ran_to("rollback", &["ROLLBACK"], 'I');
            let expected = if tag == "PREPARE" { Err(PinReason::SettingAfterStatements) } else { Ok(()) };
            assert_eq!(talk.session.movability(), expected, "{set}; {make}");
            talk.ran("deallocate all", &["DEALLOCATE ALL"]).is_movable();
        }
    }
}

#[test]
fn what_is_kept_is_bounded_and_then_pins() {
    let mut talk = Talk::new();
    let long = "x".repeat(30_000);
    let count = PREPARED_BYTES_MAX / 30_000;
    for n in 0..=count {
        assert_eq!(talk.session.movability(), Ok(()), "{n} of {count}");
        talk.prepare(&format!("s{n}"), &format!("select '{long}'"));
    }
    assert_eq!(talk.session.movability(), Err(PinReason::StatementsTooLarge));
    talk.client(&[message(b'C', format!("Ss{count}\0").as_bytes()), sync()]).server(&[m('3'), ready('I')]);
    talk.is_movable().ran("deallocate all", &["DEALLOCATE ALL"]);
    for n in 0..SETTING_BYTES_MAX / 30_000 {
        talk.ran(&format!("set a{n} = '{long}'"), &["SET"]).is_movable();
    }
    talk.ran(&format!("set b = '{long}'"), &["SET"]).is_pinned(PinReason::SettingsTooLarge);
}

#[test]
fn a_long_query_is_searched_as_it_passes() {
    for cut in [40_000, 40_010, 50_000] {
        let mut talk = Talk::new();
        let bytes =
            query(&format!("select '{}', pg_advisory_lock(1), '{}'", "x".repeat(40_000), "y".repeat(40_000)));
        assert_eq!(talk.client_step(&bytes[..cut]).forward, cut);
        assert_eq!(talk.client_step(&bytes[cut..]).forward, bytes.len() - cut);
        talk.server(&[complete("SELECT 1"), ready('I')]).is_pinned(PinReason::AdvisoryLock);
    }
    let mut talk = Talk::new();
    let insert = query(&format!("insert into t values ('{}')", "x; ".repeat(40_000)));
    assert_eq!(talk.client_step(&insert).forward, insert.len());
    talk.server(&[complete("INSERT 0 1"), ready('I')]).is_movable();
}

#[test]
fn the_answers_to_an_alignment_are_read_in_any_chunks() {
    let mut talk = Talk::new();
    talk.ran("set a = 1", &["SET"]).prepare("s", "select 1");
    let alignment = talk.alignment();
    let changed = status("TimeZone", "CET");
    let answers = [m('1'), m('2'), complete("SET"), m('3'), changed.clone(), ready('I')].concat();
    for size in [1, 3, 1000] {
        let (mut reader, mut tail, mut is_done) = (alignment.reader(), Vec::new(), false);
        for chunk in answers.chunks(size) {
            assert!(!is_done);
            tail.extend(chunk);
            let step = reader.handle(&tail).expect("sound");
            tail.drain(..step.consumed);
            is_done = step.done;
        }
        assert!(is_done && tail.is_empty());
        assert_eq!(reader.parameters(), changed);
        assert_eq!(talk.session.differences(&[&greeting()[..], reader.parameters()].concat()), changed);
    }
    let refused = alignment.reader().handle(&error());
    assert!(matches!(refused, Err(AlignmentError::Refused { code: Some(_), .. })));
    for unexpected in [m('G'), [m('1'), ready('I')].concat(), m('T'), m('K')] {
        let seen = alignment.reader().handle(&unexpected);
        assert!(matches!(seen, Err(AlignmentError::Unexpected(_))), "{seen:?}");
    }
    let flood: Vec<_> = (0..=PARAMETERS_MAX).map(|n| status(&format!("name{n}"), "a")).collect();
    assert!(alignment.reader().handle(&flood[1..].concat()).is_ok());
    let seen = alignment.reader().handle(&flood.concat());
    assert!(matches!(seen, Err(AlignmentError::TooManyParameters)), "{seen:?}");
}

#[test]
fn the_client_gets_differences_once_and_none_that_it_has_already() {
    let mut talk = Talk::new();
    talk.server(&[status("TimeZone", "CET")]);
    let seen: Vec<_> = talk.session.parameters().map(|(name, value)| [name, value].concat()).collect();
    assert_eq!(seen, [&b"in_hot_standbyon"[..], b"is_superuseroff", b"TimeZoneCET"]);
    let announce = talk.session.differences(&[greeting(), status("in_hot_standby", "off")].concat());
    assert_eq!(announce, [status("TimeZone", "UTC"), status("in_hot_standby", "off")].concat());
    talk.session.server_taken(Arc::from("primary"), ServerRole::Primary, announce);
    talk.client(&[query("set time zone 'EET'")]);
    let answer = [complete("SET"), status("TimeZone", "EET")].concat();
    let step = talk.server_step(&[&answer[..], &ready('I')].concat());
    assert_eq!(step.forward, answer.len());
    assert_eq!(step.inject.as_deref(), Some(&status("in_hot_standby", "off")[..]), "no stale time zone");
    talk.server(&[ready('I')]).is_idle();
    assert!(
        talk.session
            .differences(&[status("TimeZone", "EET"), status("in_hot_standby", "off")].concat())
            .is_empty()
    );
}
