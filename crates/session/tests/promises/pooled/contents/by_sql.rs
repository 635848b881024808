//! SQL that names, lists or drops statements.

use super::*;

#[test]
fn sql_finds_statements_under_their_clients_names() {
    for (sql, tag) in [("execute s", "SELECT 1"), ("deallocate s", "DEALLOCATE")] {
        let mut one = sharing();
        one.makes("s", "select 1", &["a"]).makes("t", "select 2", &["a"]);
        let is_run = sql == "execute s";
        let first = if is_run { &["Ps:select 1", "DSs", "S"][..] } else { &["Ps", "S"] };
        one.needs_first(&[query(sql)], first);
        let answers = [m('1'), takes(&[]), returns(&["a"]), ready('I')];
        if is_run {
            one.swallows(&answers)
        } else {
            one.swallows(&[m('1'), ready('I')])
        };
        one.client(&[query(sql)]).server(&[complete(tag), ready('I')]);
        one.client(&[bind("t")]);
        assert!(shown(&one.got)[0].starts_with("B:@"), "the others are not touched");
    }
}

#[test]
fn sql_that_lists_statements_finds_the_sessions_own_alone() {
    let (mut one, mut other) = (sharing(), sharing());
    one.makes("s", "select 1", &["a"]);
    let left = one.checks_in();
    takes_turn(&mut other, &left);
    let list = [query("select * from pg_prepared_statements")];
    other.needs_first(&list, &["CS@0", "S"]).swallows(&[m('3'), ready('I')]);
    other.client(&list).server(&[complete("SELECT 0"), ready('I')]);
    let left = other.checks_in();
    takes_turn(&mut one, &left);
    one.needs_first(&list, &["Ps:select 1", "DSs", "S"]);
}

#[test]
fn sql_that_lists_statements_finds_no_stand_in() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    let again = [parse("s", "select 2"), sync()];
    one.needs_first(&again, &["Ps", "H"]).swallows(&[m('1')]);
    one.client(&again).server(&[error(), ready('I')]);
    let list = [query("select * from pg_prepared_statements")];
    one.needs_first(&list, &["CS@0", "S"]).swallows(&[m('3'), ready('I')]);
    one.needs_first(&list, &["CSs", "Ps:select 1", "DSs", "S"]);
}

#[test]
fn all_that_is_deallocated_is_gone_for_all() {
    for (sql, tag) in [("deallocate all", "DEALLOCATE ALL"), ("discard all", "DISCARD ALL")] {
        let (mut one, mut other) = (sharing(), sharing());
        one.makes("s", "select 1", &["a"]);
        let left = one.checks_in();
        takes_turn(&mut other, &left);
        // Whether the server still has the statement is not known when the Parse comes.
        let flight = [query(sql), parse("s", "select 1"), bind("s"), sync()];
        other.client(&flight);
        assert_eq!(shown(&other.got)[1..], ["Ps:select 1", "B:s", "S"]);
        other.server(&[complete(tag), ready('I'), m('1'), m('2'), ready('I')]);
        other.client(&[describe("s"), sync()]).server(&[takes(&[]), returns(&["a"]), ready('I')]);
        let left = other.checks_in();
        assert_eq!(one.checks_out(&left), ["close s"]);
        one.needs_first(&[bind("s"), sync()], &["CS@0", "P@0:select 1", "DS@0", "H"]);
    }
}
