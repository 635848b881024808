//! Statements that leave nothing in a session but what functions do that they run: they pin until the server has told that it
//! has nothing of that.

use std::sync::Arc;

use trunkline_session::{FunctionCatalog, FunctionEffect, PinReason, UnlistedFunctions};

use crate::functions::{calling, catalog, look};
use crate::pins_end::{A_LOCK, AN_EVENT_TRIGGER, AN_OBJECT, NOTHING};
use crate::talk::*;

const TRUNCATE: (&str, &str) = ("truncate t", "TRUNCATE TABLE");
const EMPTIED: PinReason = PinReason::UnknownStatement("TRUNCATE TABLE");

/// Each with its tag, and whether an event trigger may have run for it.
const LEAVES_NOTHING: [(&str, &str, bool); 14] = [
    ("truncate t, u restart identity", "TRUNCATE TABLE", false),
    ("analyze t", "ANALYZE", false),
    ("vacuum (full) t", "VACUUM", false),
    ("cluster t", "CLUSTER", false),
    ("reindex table t", "REINDEX", true),
    ("refresh materialized view v", "REFRESH MATERIALIZED VIEW", true),
    ("comment on table t is 'x'", "COMMENT", true),
    ("grant all on t to u", "GRANT", true),
    ("create table u (a int)", "CREATE TABLE", true),
    ("create table u as select 1", "SELECT 1", true),
    ("create index i on only s.t using gin (a)", "CREATE INDEX", true),
    ("create view v as select 1", "CREATE VIEW", true),
    ("drop schema s", "DROP SCHEMA", true),
    ("call plain()", "CALL", true),
];

#[test]
fn it_pins_only_until_the_server_has_been_asked() {
    for (sql, tag, has_event) in LEAVES_NOTHING {
        let (mut talk, _functions) = calling();
        talk.ran(sql, &[tag]).asks_for_pins(NOTHING).asks_nothing().is_movable();
        let (mut talk, _functions) = calling();
        talk.ran(sql, &[tag]).asks_for_pins(AN_EVENT_TRIGGER);
        assert_eq!(talk.session.movability().is_err(), has_event, "{sql}");
        let (mut talk, _functions) = calling();
        talk.ran_to("begin", &["BEGIN"], 'T').ran(sql, &[tag]).asks_nothing();
        talk.ran_to("commit", &["COMMIT"], 'I').asks_for_pins(AN_OBJECT);
        assert!(talk.session.movability().is_err(), "{sql}");
    }
    let (mut talk, _functions) = calling();
    talk.ran("checkpoint", &["CHECKPOINT"]).asks_nothing().is_movable();
}

#[test]
fn one_that_fails_may_have_run_an_event_trigger() {
    for (sql, _tag, _has_event) in LEAVES_NOTHING {
        let (mut talk, _functions) = calling();
        talk.client(&[query(sql)]).server(&[error(), ready('I')]).asks_for_pins(A_LOCK);
        assert!(talk.session.movability().is_err(), "{sql}");
    }
}

#[test]
fn it_counts_as_a_prepared_statement_too() {
    let (mut talk, _functions) = calling();
    talk.client(&[parse("", TRUNCATE.0), bind(""), execute(), sync()]);
    talk.server(&[m('1'), m('2'), complete(TRUNCATE.1), ready('I')]).asks_for_pins(A_LOCK).is_pinned(EMPTIED);
    let (mut talk, _functions) = calling();
    talk.client(&[parse("", "call set_tenant('a')"), bind(""), execute(), sync()]);
    talk.server(&[m('1'), m('2'), complete("CALL"), ready('I')]);
    talk.asks_for_pins(NOTHING).reads_back(&[Some("a")]).is_movable();
}

#[test]
fn what_a_procedure_does_pins_as_what_a_function_does() {
    let (mut talk, functions) = calling();
    talk.ran("call lock_it()", &["CALL"]).asks_for_pins(A_LOCK).is_pinned(PinReason::AdvisoryLock);
    let (mut talk, _functions) = calling();
    talk.ran("call set_tenant('a')", &["CALL"]).asks_for_pins(NOTHING).reads_back(&[Some("a")]).is_movable();
    assert!(talk.told().iter().any(|sql| sql.contains("app.tenant")), "{:?}", talk.told());
    // Made a moment ago.
    let mut talk = Talk::new();
    talk.session =
        trunkline_session::Session::new(Talk::settings(trunkline_session::Mobility::Movable), talk.now)
            .with_functions(Some(Arc::clone(&functions)));
    talk.ran("call new_one()", &["CALL"]);
    assert!(talk.session.movability().is_err());
    look(&functions, Some(catalog(&[("new_one", FunctionEffect::pins(PinReason::Load))])));
    talk.session.settle_calls();
    talk.is_pinned(PinReason::Load);
}

#[test]
fn a_relation_that_runs_something_pins_by_that() {
    let lock: Arc<FunctionEffect> = Arc::new(FunctionEffect::pins(PinReason::AdvisoryLock));
    let (mut talk, functions) = calling();
    let mut with_word = catalog(&[]);
    with_word.words.insert(b"t"[..].into(), lock);
    look(&functions, Some(with_word));
    for (sql, tag) in [TRUNCATE, ("create view w as select * from t", "CREATE VIEW")] {
        talk.ran(sql, &[tag]).asks_nothing();
        let is_known = matches!(
            talk.session.movability(),
            Err(PinReason::UnknownStatement("TRUNCATE" | "CREATE") | PinReason::AdvisoryLock)
        );
        assert!(is_known, "{sql}: {:?}", talk.session.movability());
    }
    // What no relation decides.
    let (mut talk, _functions) = calling();
    talk.ran("comment on table t is 'x'", &["COMMENT"]).asks_for_pins(NOTHING).is_movable();
}

#[test]
fn without_knowledge_of_the_functions_of_relations_it_pins_for_good() {
    let lasting = PinReason::UnknownStatement("TRUNCATE");
    let (mut talk, functions) = calling();
    functions.is_not_watched();
    talk.ran(TRUNCATE.0, &[TRUNCATE.1]).asks_nothing().is_pinned(lasting);
    let (mut talk, functions) = calling();
    look(&functions, Some(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Pins)));
    talk.ran(TRUNCATE.0, &[TRUNCATE.1]).asks_nothing().is_pinned(lasting);
    // What calls something with an effect makes something that does.
    let (mut talk, _functions) = calling();
    talk.ran("create view v as select set_tenant('a')", &["CREATE VIEW"]);
    talk.asks_nothing().is_pinned(PinReason::UnknownStatement("CREATE"));
    // Long SQL is not read as a whole.
    let (mut talk, _functions) = calling();
    let long = query(&format!("truncate t, {}", "u, ".repeat(20_000)));
    assert_eq!(talk.client_step(&long[..35_000]).forward, 35_000);
    assert_eq!(talk.client_step(&long[35_000..]).forward, long.len() - 35_000);
    talk.server(&[complete(TRUNCATE.1), ready('I')]).asks_nothing();
    assert_eq!(talk.session.movability(), Err(lasting));
}

#[test]
fn of_all_tables_it_pins_for_good() {
    for (sql, tag, word) in [
        ("truncate t cascade", "TRUNCATE TABLE", "TRUNCATE"),
        ("analyze", "ANALYZE", "ANALYZE"),
        ("vacuum full", "VACUUM", "VACUUM"),
        ("reindex index i", "REINDEX", "REINDEX"),
        ("create function f() returns int return 1", "CREATE FUNCTION", "CREATE"),
        ("alter table t add b int", "ALTER TABLE", "ALTER"),
    ] {
        let (mut talk, _functions) = calling();
        talk.ran(sql, &[tag]).asks_nothing().is_pinned(PinReason::UnknownStatement(word));
    }
}
