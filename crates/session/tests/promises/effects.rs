//! What functions do, when each of it ends, and what makes more of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use trunkline_session::{
    FunctionCatalog, FunctionEffect, FunctionSource, Functions, Mobility, PinReason, Session,
};

use crate::functions::{calling, catalog, look};
use crate::pins_end::{A_CHANNEL, A_LOCK, AN_OBJECT, NOTHING};
use crate::talk::*;

#[test]
fn of_what_a_function_does_each_reason_counts_until_it_is_gone() {
    let pinned = |reasons: &[PinReason]| {
        let mut effect = FunctionEffect::default();
        reasons.iter().for_each(|reason| {
            effect.add(&FunctionEffect::pins(*reason));
        });
        let mut own = catalog(&[("does_all", effect)]);
        own.built_in = Arc::new([b"pg_advisory_unlock_all"[..].into()].into());
        let functions = Arc::new(Functions::new(own));
        look(&functions, None);
        let mut talk = Talk::of(Talk::settings(Mobility::Movable), Instant::now());
        talk.session =
            Session::new(Talk::settings(Mobility::Movable), talk.now).with_functions(Some(functions));
        talk.ran("select does_all()", &["SELECT 1"]);
        talk
    };
    let unlock = "select pg_advisory_unlock_all()";
    for reasons in [
        [PinReason::AdvisoryLock, PinReason::TemporaryObject],
        [PinReason::TemporaryObject, PinReason::AdvisoryLock],
    ] {
        let mut talk = pinned(&reasons);
        talk.ran(unlock, &["SELECT 1"]).asks_for_pins(AN_OBJECT).asks_nothing();
        assert!(talk.session.movability().is_err());
        talk.ran("drop table made", &["DROP TABLE"]).asks_for_pins(NOTHING).is_movable();
    }
    for other in [PinReason::UnknownSetting, PinReason::SideEffects("dblink_connect")] {
        for reasons in [[PinReason::Listen, other], [other, PinReason::Listen]] {
            let mut talk = pinned(&reasons);
            talk.ran("unlisten *", &["UNLISTEN"]).asks_nothing();
            assert!(talk.session.movability().is_err(), "{reasons:?}");
        }
    }
}

/// A trigger runs at the end of a transaction, after what its statements have released.
#[test]
fn what_is_released_in_a_transaction_may_be_there_after_its_end() {
    let (lock, listen) = (PinReason::AdvisoryLock, PinReason::Listen);
    for (reason, release, tag, has) in [
        (lock, "select pg_advisory_unlock_all()", "SELECT 1", A_LOCK),
        (listen, "unlisten *", "UNLISTEN", A_CHANNEL),
    ] {
        let mut own = catalog(&[]);
        own.built_in = Arc::new([b"pg_advisory_unlock_all"[..].into()].into());
        own.words = HashMap::from([(b"deferred"[..].into(), Arc::new(FunctionEffect::pins(reason)))]);
        let functions = Arc::new(Functions::new(own));
        look(&functions, None);
        let mut talk = Talk::of(Talk::settings(Mobility::Movable), Instant::now());
        talk.session =
            Session::new(Talk::settings(Mobility::Movable), talk.now).with_functions(Some(functions));
        talk.ran_to("begin", &["BEGIN"], 'T').ran_to("insert into deferred values (1)", &["INSERT 0 1"], 'T');
        talk.ran_to(release, &[tag], 'T').ran_to("commit", &["COMMIT"], 'I');
        talk.asks_for_pins(has).is_pinned(reason);
        talk.ran(release, &[tag]).asks_for_pins(NOTHING).is_movable();
    }
}

/// Statements that make what may run something later: it is looked for at once.
#[test]
fn what_makes_something_that_runs_a_function_has_functions_looked_at() {
    let (sets, temporary) = ("set_config('work_mem', '1MB', false)", "create temp table t (a text default");
    let makes = FunctionSource::read(b"begin create view v as select set_tenant('a'); end").effect;
    let with_more = |mut own: FunctionCatalog| {
        let mut effect = makes.clone();
        effect.add(&FunctionEffect::sets("app.tenant"));
        own.functions.insert(b"makes"[..].into(), Arc::new(effect));
        own.functions.insert(b"makes_plain"[..].into(), Arc::new(makes.clone()));
        let runs = FunctionEffect::pins(PinReason::SideEffects("EXECUTE"));
        own.functions.insert(b"runs"[..].into(), Arc::new(runs));
        own.built_in = Arc::new([b"set_config"[..].into()].into());
        own
    };
    for (sql, tag, is_awaited) in [
        ("create table t (a int primary key)", "CREATE TABLE", false),
        (&format!("create table t (a text default {sets})"), "CREATE TABLE", true),
        ("create table t (a text default set_tenant('a'))", "CREATE TABLE", true),
        (&format!("{temporary} 'x')"), "CREATE TABLE", false),
        (&format!("{temporary} {sets})"), "CREATE TABLE", true),
        ("create temp view v as select 1", "CREATE VIEW", false),
        ("create view v as select 1", "CREATE VIEW", true),
        ("create schema s", "CREATE SCHEMA", true),
        ("create index i on t (a)", "CREATE INDEX", false),
        ("create index i on t (set_tenant(a))", "CREATE INDEX", true),
        ("create statistics s on a, b from t", "CREATE STATISTICS", true),
        ("do $$ begin create table t (); end $$", "DO", true),
        ("select makes()", "SELECT 1", true),
        ("select makes_plain()", "SELECT 1", false),
        ("select runs()", "SELECT 1", false),
        ("select set_tenant('a')", "SELECT 1", false),
    ] {
        let own = with_more(catalog(&[("set_tenant", FunctionEffect::sets("app.tenant"))]));
        let functions = Arc::new(Functions::new(own));
        look(&functions, None);
        let mut talk = Talk::of(Talk::settings(Mobility::Movable), Instant::now());
        let session = Session::new(Talk::settings(Mobility::Movable), talk.now);
        talk.session = session.with_functions(Some(Arc::clone(&functions)));
        talk.ran(sql, &[tag]);
        assert_eq!(functions.is_awaited(), is_awaited, "{sql}");
    }
}

#[test]
fn an_event_trigger_that_a_look_has_found_has_run_although_it_is_disabled_since() {
    for is_found in [true, false] {
        let (mut talk, functions) = calling();
        talk.ran_to("begin", &["BEGIN"], 'T').ran_to("comment on table t is 'x'", &["COMMENT"], 'T');
        let number = functions.look_begins();
        if is_found {
            functions.have_event_triggers(number);
        }
        functions.look_ended(number, None);
        talk.ran_to("commit", &["COMMIT"], 'I').asks_for_pins(NOTHING).asks_nothing();
        assert_eq!(talk.session.movability().is_err(), is_found);
        look(&functions, None);
        talk.ran("discard all", &["DISCARD ALL"]).ran("comment on table t is 'x'", &["COMMENT"]);
        talk.asks_for_pins(NOTHING).is_movable();
    }
}
