//! Every change of a session's state is followed, or pins; a change that is undone pins no more.

use trunkline_session::PinReason;

use crate::pins_end::{A_LOCK, NOTHING};
use crate::talk::*;

const UNLOCK_ALL: &str = "select pg_advisory_unlock_all()";

impl Talk {
    #[track_caller]
    fn stays(&mut self, reason: PinReason) -> &mut Self {
        assert_eq!(self.session.movability(), Err(reason));
        self
    }
}

const LASTING: PinReason = PinReason::SideEffects("dblink_connect");

#[test]
fn discard_all_leaves_what_it_cannot_undo_whatever_else_pinned_first() {
    for sql in [
        "select pg_advisory_lock(1), dblink_connect('x', 'y')",
        "select set_config('a', f(), false), dblink_connect('x', 'y')",
        "select pg_advisory_lock(1); select dblink_connect('x', 'y')",
    ] {
        let tags = vec!["SELECT 1"; sql.matches("select").count()];
        Talk::new().ran(sql, &tags).ran("discard all", &["DISCARD ALL"]).stays(LASTING);
    }
    let mut talk = Talk::new();
    talk.prepare("a", "select pg_advisory_lock(1), dblink_connect('x', 'y')").is_movable();
    talk.client(&[bind("a"), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    talk.ran("discard all", &["DISCARD ALL"]).stays(LASTING);
    let sets = ("call p(set_config('a', 'b', false))", "CALL");
    for (sql, tag) in [sets, ("do $$begin execute 'lo' || 'ad x'; end$$", "DO")] {
        let mut talk = Talk::new();
        talk.ran(sql, &[tag]).ran("discard all", &["DISCARD ALL"]).stays(PinReason::SideEffects(tag));
    }
    let mut talk = Talk::new();
    talk.ran("do $$begin perform 1; end$$", &["DO"]).ran("discard all", &["DISCARD ALL"]).is_movable();
}

#[test]
fn requests_sent_after_discard_all_pin_again() {
    let mut talk = Talk::new();
    let lock = "select pg_advisory_lock(1)";
    talk.client(&[parse("", "discard all"), bind(""), execute(), sync(), query(lock)]);
    talk.server(&[m('1'), m('2'), complete("DISCARD ALL"), ready('I'), complete("SELECT 1"), ready('I')]);
    talk.stays(PinReason::AdvisoryLock);
    let mut talk = Talk::new();
    talk.ran(lock, &["SELECT 1"]).client(&[query("select pg_advisory_unlock_all()"), query(lock)]);
    talk.server(&[complete("SELECT 1"), ready('I'), complete("SELECT 1"), ready('I')]);
    talk.stays(PinReason::AdvisoryLock);
    talk.ran(UNLOCK_ALL, &["SELECT 1"]).asks_for_pins(NOTHING).is_movable();
    let mut talk = Talk::new();
    talk.ran(lock, &["SELECT 1"]).client(&[query("discard all")]);
    let long = query(&format!("select '{}', pg_advisory_lock(1)", "x".repeat(40_000)));
    assert_eq!(talk.client_step(&long[..35_000]).forward, 35_000);
    assert_eq!(talk.client_step(&long[35_000..]).forward, long.len() - 35_000);
    talk.server(&[complete("DISCARD ALL"), ready('I'), complete("SELECT 1"), ready('I')]);
    talk.stays(PinReason::AdvisoryLock);
}

#[test]
fn execute_has_the_effect_of_a_statement_from_a_parse() {
    let mut talk = Talk::new();
    for (name, sql) in [
        ("s", "set a = 1"),
        ("c", "select set_config('b', 'x', false)"),
        ("l", "listen x"),
        ("k", "select pg_advisory_lock(1)"),
        ("p", "select set_config($1, $2, false)"),
        ("e", "execute s"),
        ("d", "deallocate all"),
        ("loop", "execute loop"),
    ] {
        talk.prepare(name, sql).is_movable();
    }
    talk.ran("execute e", &["SET"]).ran("EXECUTE \"c\"", &["SELECT 1"]).is_movable();
    let told = talk.told();
    assert_eq!(told[..2], ["set a = 1", "SELECT pg_catalog.set_config('b', 'x', false)"]);
    talk.ran_to("begin", &["BEGIN"], 'T').ran("execute l", &["LISTEN"]).ran_to(
        "rollback",
        &["ROLLBACK"],
        'I',
    );
    talk.is_movable().ran("execute l", &["LISTEN"]).stays(PinReason::Listen);
    talk.ran("unlisten *", &["UNLISTEN"]).is_movable();
    talk.client(&[query("execute k")]).server(&[error(), ready('I')]).stays(PinReason::AdvisoryLock);
    talk.ran(UNLOCK_ALL, &["SELECT 1"]).asks_for_pins(NOTHING).is_movable();
    talk.prepare("x", "execute k").client(&[bind("x"), execute(), sync()]);
    talk.server(&[m('2'), complete("SELECT 1"), ready('I')]).stays(PinReason::AdvisoryLock);
    talk.ran(UNLOCK_ALL, &["SELECT 1"]).asks_for_pins(NOTHING).is_movable();
    talk.ran("execute p('a', 'b')", &["SELECT 1"]).stays(PinReason::UnknownSetting);
    talk.ran("execute d", &["DEALLOCATE ALL"]);
    talk.ran("execute nothing", &["SELECT 1"]).ran("discard all", &["DISCARD ALL"]).is_movable();
}

#[test]
fn execute_of_itself_pins() {
    let mut talk = Talk::new();
    talk.prepare("loop", "execute loop").client(&[query("execute loop")]);
    talk.server(&[error(), ready('I')]).stays(PinReason::UnknownStatement("EXECUTE"));
    let mut talk = Talk::new();
    // Which statement that is depends on the encoding of the server.
    let broken = "x".repeat(62) + "\u{e9}";
    talk.ran(&format!("execute \"{broken}\""), &["SELECT 1"]).stays(PinReason::UnknownStatement("EXECUTE"));
}

#[test]
fn execute_finds_a_statement_whose_parse_is_in_flight() {
    let mut talk = Talk::new();
    talk.client(&[
        parse("k", "select pg_advisory_lock(1)"),
        sync(),
        parse("k", "select 1"),
        sync(),
        query("execute k"),
    ]);
    let failed = [m('1'), ready('I'), error(), ready('I'), complete("SELECT 1"), ready('I')];
    talk.server(&failed).stays(PinReason::AdvisoryLock);
}

#[test]
fn explain_analyze_runs_what_it_explains() {
    for (sql, reason) in [
        ("select pg_advisory_lock(1)", PinReason::AdvisoryLock),
        ("select set_config('a', 'b', false)", PinReason::UnknownStatement("EXPLAIN")),
    ] {
        let mut talk = Talk::new();
        talk.prepare("s", sql).prepare("e", "execute s").ran("explain analyze execute e", &["EXPLAIN"]);
        talk.stays(reason);
    }
    let mut talk = Talk::new();
    talk.prepare("s", "select 1").ran("explain (analyze, costs off) execute s", &["EXPLAIN"]).is_movable();
    talk.ran("explain analyze create temp table t as select 1", &["EXPLAIN"]);
    talk.stays(PinReason::TemporaryObject);
}

#[test]
fn a_statement_of_prepare_pins_each_time_it_is_run() {
    let mut talk = Talk::new();
    talk.ran("prepare k as select pg_advisory_lock(1)", &["PREPARE"]);
    talk.ran(UNLOCK_ALL, &["SELECT 1"]).asks_for_pins(NOTHING).is_movable();
    talk.ran("execute k", &["SELECT 1"]).stays(PinReason::AdvisoryLock);
}

#[test]
fn effects_of_a_rolled_back_transaction_do_not_pin() {
    for (sql, tag) in [
        ("listen x", "LISTEN"),
        ("create temp table t ()", "CREATE TABLE"),
        ("select 1 into temp t", "SELECT 1"),
        ("declare c cursor with hold for select 1", "DECLARE CURSOR"),
    ] {
        let mut talk = Talk::new();
        talk.ran_to("begin", &["BEGIN"], 'T').ran(sql, &[tag]);
        assert!(talk.session.movability().is_err(), "{sql}: its COMMIT may be on its way");
        talk.ran_to("rollback", &["ROLLBACK"], 'I').is_movable();
        talk.ran_to("begin", &["BEGIN"], 'T').ran("savepoint a", &["SAVEPOINT"]).ran(sql, &[tag]);
        talk.ran("rollback to a", &["ROLLBACK"]).ran_to("commit", &["COMMIT"], 'I').is_movable();
        talk.ran_to("begin", &["BEGIN"], 'T').ran("savepoint a", &["SAVEPOINT"]).ran(sql, &[tag]);
        talk.ran("release a", &["RELEASE"]).ran_to("commit", &["COMMIT"], 'I');
        assert!(talk.session.movability().is_err(), "{sql}");
    }
}

#[test]
fn listening_pins_until_no_channel_is_left() {
    let mut talk = Talk::new();
    talk.ran("listen a", &["LISTEN"]).ran("listen \"B\"", &["LISTEN"]).ran("unlisten a", &["UNLISTEN"]);
    talk.ran_to("begin", &["BEGIN"], 'T').ran("unlisten *", &["UNLISTEN"]).ran_to(
        "rollback",
        &["ROLLBACK"],
        'I',
    );
    talk.stays(PinReason::Listen).ran("unlisten b", &["UNLISTEN"]).stays(PinReason::Listen);
    talk.ran("unlisten \"B\"", &["UNLISTEN"]).is_movable();
    for n in 0..=trunkline_session::limits::CHANNELS_MAX {
        talk.ran(&format!("listen c{n}"), &["LISTEN"]);
        talk.ran(&format!("unlisten d{n}"), &["UNLISTEN"]);
    }
    for n in 0..=trunkline_session::limits::CHANNELS_MAX {
        talk.ran(&format!("unlisten c{n}"), &["UNLISTEN"]);
    }
    talk.stays(PinReason::Listen).ran("unlisten *", &["UNLISTEN"]).asks_for_pins(NOTHING).is_movable();
}

#[test]
fn a_cursor_that_locks_pins_beyond_the_release_of_all_locks() {
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T');
    talk.ran("declare c cursor for select pg_advisory_lock(i) from t", &["DECLARE CURSOR"]);
    talk.ran("select pg_advisory_unlock_all()", &["SELECT 1"]).ran("fetch c", &["FETCH 1"]);
    talk.ran_to("commit", &["COMMIT"], 'I').stays(PinReason::AdvisoryLock);
    talk.asks_for_pins(A_LOCK).is_pinned(PinReason::AdvisoryLock);
}

/// A FunctionCall with arguments in text format.
fn call(function: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = function.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 0, u8::try_from(arguments.len()).expect("few")]);
    for argument in arguments {
        body.extend_from_slice(&u32::try_from(argument.len()).expect("short").to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'F', &body)
}

#[test]
fn a_function_called_by_message_is_followed_or_pins() {
    let returned = [message(b'V', &[0xff; 4]), ready('I')];
    let mut talk = Talk::new();
    talk.client(&[call(2078, &["app.x", "it's", "f"])]).server(&[error(), ready('I')]).is_movable();
    assert!(talk.told().is_empty(), "it failed");
    talk.client(&[call(2078, &["app.x", "it's", "f"])]).server(&returned).is_movable();
    assert_eq!(talk.told()[0], "SELECT pg_catalog.set_config('app.x', 'it''s', false)");
    talk.client(&[call(952, &["1", "2"])]).server(&returned).is_movable();
    talk.client(&[call(2880, &["1"])]).server(&returned).stays(PinReason::AdvisoryLock);
    talk.client(&[call(2892, &[])]).server(&returned).asks_for_pins(NOTHING).is_movable();
    talk.client(&[call(2078, &["app.x", "x", "perhaps"])]).server(&returned);
    talk.stays(PinReason::UnknownSetting);
    talk.client(&[call(16_384, &[])]).server(&returned).ran("discard all", &["DISCARD ALL"]);
    talk.stays(PinReason::SideEffects("FunctionCall"));
    let mut long = Talk::new();
    let bytes = call(2078, &["app.x", &"x".repeat(50_000), "f"]);
    assert_eq!(long.client_step(&bytes).forward, bytes.len());
    long.server(&returned).stays(PinReason::UnknownSetting);
}

#[test]
fn long_sql_is_searched_for_what_it_executes_and_updates() {
    for (sql, reason) in [
        ("execute k", PinReason::UnknownStatement("EXECUTE")),
        ("update pg_settings set setting = ''", PinReason::UnknownSetting),
    ] {
        let mut talk = Talk::new();
        talk.prepare("k", "select pg_advisory_lock(1)");
        let bytes = query(&format!("select '{}'; {sql}", "x".repeat(40_000)));
        for part in [&bytes[..40_025], &bytes[40_025..]] {
            assert_eq!(talk.client_step(part).forward, part.len());
        }
        talk.server(&[complete("SELECT 1"), complete("SELECT 1"), ready('I')]).stays(reason);
    }
}

#[test]
fn a_long_execute_of_a_parse_pins_when_it_is_run() {
    let mut talk = Talk::new();
    let bytes = parse("e", &format!("execute k('{}')", "x".repeat(40_000)));
    assert_eq!(talk.client_step(&bytes).forward, bytes.len());
    talk.client(&[sync()]).server(&[m('1'), ready('I')]).ran("select 1", &["SELECT 1"]);
    talk.prepare("k", "select pg_advisory_lock(1)").client(&[bind("e"), execute(), sync()]);
    talk.server(&[m('2'), complete("SELECT 1"), ready('I')]).stays(PinReason::UnknownStatement("EXECUTE"));
}

/// A Bind of a named portal without parameters.
fn bind_as(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

#[test]
fn a_portal_that_a_fetch_may_run_pins_once_it_is_bound() {
    for (sql, reason) in [
        ("select pg_advisory_lock(1)", PinReason::AdvisoryLock),
        ("select set_config('a', 'b', false)", PinReason::UnknownSetting),
    ] {
        let mut talk = Talk::new();
        talk.prepare("s", sql).ran_to("begin", &["BEGIN"], 'T');
        talk.client(&[bind_as("p", "s"), sync()]).server(&[m('2'), ready('T')]);
        talk.ran("fetch all from p", &["FETCH 1"]).ran_to("commit", &["COMMIT"], 'I').stays(reason);
    }
    let mut talk = Talk::new();
    talk.prepare("k", "select pg_advisory_lock(1)").prepare("s", "select 1");
    talk.client(&[bind_as("p", "s"), sync()]).server(&[m('2'), ready('I')]).is_movable();
}

#[test]
fn a_bind_runs_the_older_statement_when_the_newer_parse_has_failed() {
    let mut talk = Talk::new();
    let again = parse("k", "insert into t values (1)");
    talk.client(&[parse("k", "select pg_advisory_lock(1)"), sync(), again, sync()]);
    talk.client(&[bind("k"), execute(), sync()]);
    talk.server(&[m('1'), ready('I'), error(), ready('I'), m('2'), complete("SELECT 1"), ready('I')]);
    talk.stays(PinReason::AdvisoryLock);
}
