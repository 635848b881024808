//! Prepared statements and transactions: prepared before a transaction that would change how they are read, and described
//! after a savepoint.

use trunkline_session::{ClientThen, LossPlan, Mobility, PinReason};

use crate::talk::*;

const INT: u32 = 23;

/// What runs a statement of the proxy's own.
fn own_run(sql: &str) -> Vec<u8> {
    let name = "trunkline: prepare";
    let messages = [
        close(name),
        parse(name, sql),
        message(b'B', format!("{name}\0{name}\0\0\0\0\0\0\0").as_bytes()),
        message(b'E', format!("{name}\0\0\0\0\0").as_bytes()),
        message(b'C', format!("P{name}\0").as_bytes()),
        close(name),
    ];
    messages.concat()
}

/// What drops the portal by which statements of the proxy's own are run.
fn close_own_portal() -> Vec<u8> {
    message(b'C', b"Ptrunkline: prepare\0")
}

/// The answers to [`own_run`].
fn ran(tag: &str) -> [Vec<u8>; 6] {
    [m('3'), m('1'), m('2'), complete(tag), m('3'), m('3')]
}

/// A session with a statement that has a constant, on another server than the one that prepared it.
fn moved_with_a_constant() -> Talk {
    let mut talk = Talk::new();
    talk.client(&[parse("c", CONSTANT), sync(), parse("s", "select $1 a"), sync()]);
    talk.server(&[m('1'), ready('I'), m('1'), ready('I')]);
    talk.session.questions().expect("they are asked for");
    for _ in ["s", "c"] {
        talk.swallows(&[takes(&[INT]), returns(&["a"])]);
    }
    talk.swallows(&[ready('I')]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken();
    talk
}

const CONSTANT: &str = "select $1 a where '01/02/2020'::date > 'epoch'";

#[test]
fn statements_with_constants_are_prepared_before_they_would_be_read_differently() {
    let own = [parse_of("c", CONSTANT, &[INT]), describe("c"), sync()];
    let made = [m('1'), takes(&[INT]), returns(&["a"]), ready('I')];
    let mut talk = moved_with_a_constant();
    let set = [query("SET TIME ZONE -7")];
    talk.needs(&set, &own).swallows(&made).client(&set).server(&[complete("SET"), ready('I')]);

    // A snapshot is not taken in the client's transaction.
    let mut talk = moved_with_a_constant();
    let begin = [query("begin")];
    talk.needs(&begin, &own).swallows(&made).client(&begin).server(&[complete("BEGIN"), ready('T')]);
    for set in ["set local datestyle = 'DMY'", "set transaction isolation level serializable"] {
        talk.client(&[query(set)]).server(&[complete("SET"), ready('T')]);
    }
    talk.client(&[query("commit")]).server(&[complete("COMMIT"), ready('I')]).is_idle();
}

#[test]
fn a_statement_that_cannot_be_prepared_before_its_transaction_is_prepared_within() {
    let [parsed, described] = [parse_of("c", CONSTANT, &[INT]), describe("c")];
    let made = [m('1'), takes(&[INT]), returns(&["a"])];
    for is_refused in [false, true] {
        let mut talk = moved_with_a_constant();
        let begin = [query("begin")];
        talk.needs(&begin, &[parsed.clone(), described.clone(), sync()]).swallows(&[error(), ready('I')]);
        talk.client(&begin).server(&[complete("BEGIN"), ready('T')]);
        let set = [query("SET LOCAL datestyle = 'DMY'")];
        let [save, back, release] = ["SAVEPOINT", "ROLLBACK TO", "RELEASE"]
            .map(|word| own_run(&format!("{word} \"trunkline: questions\"")));
        let own =
            [save, parsed.clone(), described.clone(), sync(), close_own_portal(), back, release, sync()];
        talk.needs(&set, &own);
        talk.swallows(&ran("SAVEPOINT"));
        if is_refused {
            talk.swallows(&[error(), ready('E')]);
        } else {
            talk.swallows(&made).swallows(&[ready('T')]);
        }
        talk.swallows(&[m('3')]).swallows(&ran("ROLLBACK")).swallows(&ran("RELEASE"));
        talk.swallows(&[ready('T')]).client(&set).server(&[complete("SET"), ready('T')]);
        talk.client(&[query("commit")]).server(&[complete("COMMIT"), ready('I')]).is_idle();
        talk.client(&begin).server(&[complete("BEGIN"), ready('T')]);
    }
}

#[test]
fn in_a_transaction_statements_are_described_after_a_savepoint() {
    let (save, release) =
        (own_run("SAVEPOINT \"trunkline: questions\""), own_run("RELEASE \"trunkline: questions\""));
    let begun = || {
        let mut talk = Talk::new();
        talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
        talk.client(&[parse("s", "select 1"), sync()]).server(&[m('1'), ready('T')]);
        let asked = talk.session.questions().expect("it is asked");
        assert_eq!(
            printable(&asked),
            printable(&[save.clone(), describe("s"), release.clone(), sync()].concat())
        );
        talk.swallows(&ran("SAVEPOINT"));
        talk
    };
    let mut talk = begun();
    talk.swallows(&[takes(&[]), returns(&["a"])]).swallows(&ran("RELEASE")).swallows(&[ready('T')]);
    assert!(!talk.session.is_paused() && !talk.session.has_questions());
    talk.client(&[query("commit")]).server(&[complete("COMMIT"), ready('I')]).is_idle();

    let mut talk = begun();
    talk.swallows(&[error(), ready('E')]);
    assert!(talk.session.is_paused(), "the transaction must not have failed");
    let back = talk.session.questions().expect("the way back");
    let rollback = own_run("ROLLBACK TO \"trunkline: questions\"");
    assert_eq!(printable(&back), printable(&[close_own_portal(), rollback, release, sync()].concat()));
    talk.swallows(&[m('3')]).swallows(&ran("ROLLBACK")).swallows(&ran("RELEASE")).swallows(&[ready('T')]);
    assert!(!talk.session.is_paused() && !talk.session.has_questions());
    talk.client(&[query("commit")]).server(&[complete("COMMIT"), ready('I')]).is_idle();
}

/// A transaction with another `search_path` in which one of these series runs, whose answer the client does not wait for.
fn in_another_path(talk: &mut Talk, series: &[Vec<u8>], answers: &[Vec<u8>]) {
    let start = [query("begin"), query("set local search_path = one")];
    talk.client(&start[..1]).server(&[complete("BEGIN"), ready('T')]);
    talk.client(&start[1..]).server(&[complete("SET"), ready('T')]);
    talk.client(&[series, &[query("commit")]].concat());
    talk.server(&[answers, &[complete("COMMIT"), ready('I')]].concat()).is_idle();
}

#[test]
fn constants_that_the_next_use_reads_again_are_not_read_by_a_description_before() {
    let mut talk = Talk::new();
    in_another_path(&mut talk, &[parse("c", CONSTANT)], &[m('1')]);
    assert_eq!(talk.session.questions(), None);
    assert_eq!(talk.session.stays_for(), Some(PinReason::StatementNotDescribed));
    talk.client(&[bind("c"), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('I')]);
    talk.asks(&["c"], &[INT], &["a"]);
    assert_eq!(talk.session.stays_for(), None);
    // Without constants there is nothing to read.
    in_another_path(&mut talk, &[parse("s", "select $1 a")], &[m('1')]);
    talk.asks(&["s"], &[INT], &["a"]);
}

#[test]
fn constants_that_the_next_use_reads_again_are_prepared_then() {
    let mut talk = moved_with_a_constant();
    let run = [bind("c"), execute(), sync()];
    let [parsed, described] = [parse_of("c", CONSTANT, &[INT]), describe("c")];
    let tried = [parse_of("c", "", &[INT]), bind("c"), message(b'C', b"P\0"), close("c")].concat();
    let again = [tried, parsed.clone(), described.clone(), flush()];
    let answers = [m('1'), m('2'), m('3'), m('3'), m('1'), takes(&[INT]), returns(&["a"])];
    let (begin, set) = ([query("begin")], [query("set local search_path = one")]);
    let made = [m('1'), takes(&[INT]), returns(&["a"]), ready('I')];
    talk.needs(&begin, &[parsed, described, sync()]).swallows(&made);
    talk.client(&begin).server(&[complete("BEGIN"), ready('T')]);
    talk.client(&set).server(&[complete("SET"), ready('T')]);
    talk.client(&run).server(&[m('2'), complete("SELECT 1"), ready('T')]);
    talk.client(&[query("commit")]).server(&[complete("COMMIT"), ready('I')]).is_idle();

    // It was read under a path that is not the session's: the next use under that reads it again, on one server too.
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken().client(&begin).server(&[complete("BEGIN"), ready('T')]);
    talk.client(&[query("set local datestyle = 'DMY'")]).server(&[complete("SET"), ready('T')]);
    talk.needs(&run, &again).swallows(&answers).client(&run);
    talk.server(&[m('2'), complete("SELECT 1"), ready('T')]);
}

/// Whether the statement of [`moved_with_a_constant`] is prepared before this SQL.
fn is_prepared_before(talk: &mut Talk, sql: &str) -> bool {
    matches!(talk.client_step(&query(sql)).then, ClientThen::Ask(_))
}

#[test]
fn every_use_of_a_statement_reads_its_constants_again() {
    let begin = |talk: &mut Talk| {
        let [parsed, described] = [parse_of("c", CONSTANT, &[INT]), describe("c")];
        talk.needs(&[query("begin")], &[parsed, described, sync()]);
        talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]);
        talk.ran_to("begin", &["BEGIN"], 'T').ran_to("commit", &["COMMIT"], 'I');
    };
    let answered = [m('2'), complete("SELECT 1"), ready('I')];
    let uses: [fn(&mut Talk); 3] = [
        |talk| {
            talk.ran("execute c(1)", &["SELECT 1"]);
        },
        |talk| {
            talk.client(&[describe("c"), sync()]).server(&[takes(&[INT]), returns(&["a"]), ready('I')]);
        },
        |talk| {
            talk.client(&[bind("c"), execute(), sync()]);
            talk.server(&[m('2'), complete("SELECT 1"), ready('I')]);
        },
    ];
    for (number, used) in uses.into_iter().enumerate() {
        let mut talk = moved_with_a_constant();
        begin(&mut talk);
        talk.ran("set search_path = one", &["SET"]);
        used(&mut talk);
        assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
        talk.taken();
        assert!(is_prepared_before(&mut talk, "begin"), "use {number} was under the path of the session");
    }

    // Nobody knows under which path a use that does not wait for the SET is.
    let mut talk = moved_with_a_constant();
    begin(&mut talk);
    talk.client(&[query("set search_path = one"), bind("c"), execute(), sync()]);
    talk.server(&[complete("SET"), ready('I')]).server(&answered).is_idle();
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    begin(talk.taken());
    // There it was read under this path.
    talk.ran("set search_path = two", &["SET"]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    assert!(!is_prepared_before(talk.taken(), "begin"), "its next use reads it");
}

#[test]
fn a_savepoint_undoes_the_path_of_a_use() {
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T').ran_to("savepoint a", &["SAVEPOINT"], 'T');
    talk.ran_to("set local search_path = one", &["SET"], 'T');
    talk.client(&[parse("c", CONSTANT), describe("c"), sync()]);
    talk.server(&[m('1'), takes(&[INT]), returns(&["a"]), ready('T')]);
    assert_eq!(talk.session.questions(), None, "the client has asked");
    talk.ran_to("rollback to a", &["ROLLBACK"], 'T');
    talk.client(&[bind("c"), execute(), sync()]).server(&[m('2'), complete("SELECT 1"), ready('T')]);
    talk.ran_to("commit", &["COMMIT"], 'I');
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    assert!(is_prepared_before(talk.taken(), "begin"), "it was used under the path of the session");
}

#[test]
fn a_statement_that_sets_the_path_of_its_transaction_is_described_after_that() {
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T');
    let sets = parse("c", "select set_config('search_path', $1, true)");
    talk.client(&[sets, bind_to("c", &[Some("one")]), execute(), sync()]);
    talk.server(&[m('1'), m('2'), complete("SELECT 1"), ready('T')]);
    assert_eq!(talk.session.questions(), None, "its next use may read it under another path");
    talk.ran_to("commit", &["COMMIT"], 'I').asks(&["c"], &[25], &["set_config"]);
    assert_eq!(talk.session.stays_for(), None);
}

#[test]
fn a_statement_that_only_sql_runs_is_described_after_that() {
    let mut talk = Talk::new();
    let all = format!("begin; set local search_path = one; prepare c as {CONSTANT}; commit");
    talk.ran(&all, &["BEGIN", "SET", "PREPARE", "COMMIT"]);
    assert_eq!(talk.session.questions(), None);
    assert_eq!(talk.session.stays_for(), Some(PinReason::StatementNotDescribed));
    talk.ran("execute c(1)", &["SELECT 1"]).asks(&["c"], &[INT], &["a"]);
    assert_eq!(talk.session.stays_for(), None);
}

#[test]
fn an_exported_snapshot_is_noted_for_as_long_as_it_may_last() {
    for mobility in [Mobility::Movable, Mobility::Fixed] {
        let export = "select pg_export_snapshot()";
        let talk = || Talk::of(Talk::settings(mobility), std::time::Instant::now());
        let mut begun = talk();
        begun.ran_to("begin", &["BEGIN"], 'T').ran_to(export, &["SELECT 1"], 'T');
        assert!(begun.session.exports_snapshot());
        begun.ran_to("commit", &["COMMIT"], 'I');
        assert!(!begun.session.exports_snapshot());
        let mut at_once = talk();
        at_once.ran_to(&format!("begin; {export}"), &["BEGIN", "SELECT 1"], 'T');
        assert!(at_once.session.exports_snapshot());
        let mut pipelined = talk();
        pipelined.client(&[query("begin"), query(export)]);
        pipelined.server(&[complete("BEGIN"), ready('T'), complete("SELECT 1"), ready('T')]);
        assert!(pipelined.session.exports_snapshot());
        let mut parsed = talk();
        parsed.ran_to("begin", &["BEGIN"], 'T').client(&[parse("", export), sync()]);
        assert!(parsed.session.exports_snapshot());
        let mut alone = talk();
        alone.ran_to(&format!("{export};"), &["SELECT 1"], 'I');
        assert!(!alone.session.exports_snapshot(), "it has ended");
    }
}

#[test]
fn statements_with_constants_are_prepared_before_whatever_comes_first() {
    let own = [parse_of("c", CONSTANT, &[INT]), describe("c"), sync()];
    let made = [m('1'), takes(&[INT]), returns(&["a"]), ready('I')];
    let series: [Vec<Vec<u8>>; 3] = [
        vec![query("select f()")],
        vec![parse("", "select set_config($1, $2, false)"), bind(""), execute(), sync()],
        vec![message(b'F', b"\0\0\x08\x1e")],
    ];
    for first in series {
        let mut talk = moved_with_a_constant();
        talk.needs(&first, &own).swallows(&made).client(&first);
    }
}

#[test]
fn a_query_that_sets_the_path_of_what_it_runs_has_that_prepared_under_it() {
    let sets = ["set search_path = one", "select set_config('search_path', 'one', false)"];
    let own = ["set search_path = one", "SELECT pg_catalog.set_config('search_path', 'one', false)"];
    for (sets, own) in sets.into_iter().zip(own) {
        let mut talk = moved_with_a_constant();
        let made = [own_run("BEGIN"), own_run(own), parse_of("s", "select $1 a", &[INT]), describe("s")];
        let undone = [own_run("ROLLBACK"), sync(), close_own_portal(), own_run("ROLLBACK"), sync()];
        // What has constants is prepared before them all, under the session's own path.
        let constant = [parse_of("c", CONSTANT, &[INT]), describe("c"), sync()];
        let all = [query(&format!("{sets}; execute s(1); execute s(2)"))];
        talk.needs(&all, &[made.concat(), undone.concat(), constant.concat()]);
        talk.swallows(&ran("BEGIN")).swallows(&[m('3'), m('1'), m('2')]);
        if own.starts_with("SELECT") {
            talk.swallows(&[message(b'D', b"\0\x01\0\0\0\x03one")]);
        }
        talk.swallows(&[complete("SET"), m('3'), m('3'), m('1'), takes(&[INT]), returns(&["a"])]);
        talk.swallows(&ran("ROLLBACK")).swallows(&[ready('I'), m('3')]);
        talk.swallows(&ran("ROLLBACK")).swallows(&[ready('I')]);
        talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]);
        let [set, selected] = [complete("SET"), complete("SELECT 1")];
        talk.client(&all).server(&[set, selected.clone(), selected, ready('I')]);
    }
}

#[test]
fn in_a_transaction_such_a_path_is_undone_before_the_server_can_report_it() {
    let mut talk = moved_with_a_constant();
    talk.needs(&[query("begin")], &[parse_of("c", CONSTANT, &[INT]), describe("c"), sync()]);
    talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]).ran_to("begin", &["BEGIN"], 'T');
    let [save, back, release] = ["SAVEPOINT", "ROLLBACK TO", "RELEASE"]
        .map(|word| own_run(&format!("{word} \"trunkline: questions\"")));
    let set = own_run("set local search_path = one");
    let made = [save, set, parse_of("s", "select $1 a", &[INT]), describe("s"), back.clone(), sync()];
    let undone = [close_own_portal(), back, release, sync()];
    let all = [query("set local search_path = one; execute s(1)")];
    talk.needs(&all, &[made.concat(), undone.concat()]);
    talk.swallows(&ran("SAVEPOINT")).swallows(&ran("SET")).swallows(&[
        m('1'),
        takes(&[INT]),
        returns(&["a"]),
    ]);
    talk.swallows(&ran("ROLLBACK")).swallows(&[ready('T'), m('3')]);
    talk.swallows(&ran("ROLLBACK")).swallows(&ran("RELEASE")).swallows(&[ready('T')]);
    talk.client(&all).server(&[complete("SET"), complete("SELECT 1"), ready('T')]);
}

#[test]
fn such_a_query_waits_for_the_answers_that_are_due() {
    let all = query("set search_path = one; execute s(1)");
    for all in [all.clone(), query("select name from pg_prepared_statements")] {
        let mut talk = moved_with_a_constant();
        talk.needs(&[query("select 1")], &[parse_of("c", CONSTANT, &[INT]), describe("c"), sync()]);
        talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]);
        talk.client(&[query("select 1")]);
        let step = talk.client_step(&all);
        assert!(step.forward == 0 && matches!(step.then, ClientThen::Pause));
        assert!(talk.session.is_paused());
        talk.server(&[complete("SELECT 1"), ready('I')]);
        assert!(!talk.session.is_paused());
        assert!(matches!(talk.client_step(&all).then, ClientThen::Ask(_)));
    }

    // A server that reads COPY data waits for its client.
    let mut talk = moved_with_a_constant();
    talk.needs(&[query("copy t from stdin")], &[parse_of("c", CONSTANT, &[INT]), describe("c"), sync()]);
    talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]);
    talk.client(&[query("copy t from stdin")]);
    assert!(matches!(talk.client_step(&all).then, ClientThen::Pause));
    talk.server(&[message(b'G', b"\0\0\0")]);
    assert!(!talk.session.is_paused());
    assert_eq!(talk.client_step(&all).forward, all.len());
}
