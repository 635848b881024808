//! Statements that SQL runs, and those from PREPARE.

use super::*;

#[test]
fn sql_that_runs_a_statement_has_it_prepared_first() {
    for sql in ["execute s(1)", "explain analyze execute s(1)", "select 1; execute \"s\"(1)"] {
        let mut talk = moved();
        let [parsed, described] = made_again();
        talk.needs(&[query(sql)], &[parsed, described, sync()]);
        talk.swallows(&[m('1'), takes(&[INT]), returns(&["a"]), ready('I')]).is_busy();
        talk.client(&[query(sql)]).server(&[complete("SELECT 1"), ready('I')]).is_idle();
    }
    let mut talk = moved();
    let [parsed, described] = made_again();
    talk.needs(&[parse("", "execute s(1)"), sync()], &[parsed, described, flush()]);
}

#[test]
fn the_refusal_of_a_statement_answers_the_query_that_runs_it() {
    for status in ['I', 'E'] {
        let mut talk = moved();
        let both = [query("execute s(1)"), query("select 1")].concat();
        assert!(matches!(talk.client_step(&both).then, ClientThen::Ask(_)));
        assert_eq!(replaced(&mut talk, &error()), printable(&error()));
        talk.server(&[ready(status)]);
        let step = talk.client_step(&both);
        let ClientThen::Refuse(refused) = step.then else { panic!("{:?}", step.then) };
        assert_eq!(
            (step.forward, refused.dropped, refused.answer.len()),
            (0, query("execute s(1)").len(), 0)
        );
        talk.client(&[query("select 1")]);
    }
}

#[test]
fn a_changed_statement_fails_the_query_that_runs_it() {
    let mut talk = moved();
    let run = [query("execute s(1)")];
    let [parsed, described] = made_again();
    talk.needs(&run, &[parsed, described, sync()]);
    talk.swallows(&[m('1'), takes(&[INT]), returns(&["b"]), ready('I')]);
    talk.needs(&run, &[close("s"), message(b'E', b"trunkline: statement changed\0\0\0\0\0"), sync()]);
    talk.swallows(&[m('3')]);
    assert!(is_changed(&replaced(&mut talk, &report('E', "ERROR", "34000"))));
    talk.server(&[ready('I')]);
    assert!(matches!(talk.client_step(&run.concat()).then, ClientThen::Refuse(_)));
    talk.is_idle();
}

#[test]
fn a_statement_of_sql_is_prepared_again_by_its_sql() {
    let mut talk = Talk::new();
    talk.client(&[query("prepare p as select 1")]).server(&[complete("PREPARE"), ready('I')]);
    talk.asks(&["p"], &[], &["a"]).lost(b"", MOVE);
    let again = "trunkline: prepare";
    let own = [
        close(again),
        parse(again, "prepare p as select 1"),
        message(b'B', format!("{again}\0{again}\0\0\0\0\0\0\0").as_bytes()),
        message(b'E', format!("{again}\0\0\0\0\0").as_bytes()),
        message(b'C', format!("P{again}\0").as_bytes()),
        close(again),
        describe("p"),
        sync(),
    ];
    talk.taken().needs(&[query("execute p")], &own);
    talk.swallows(&[
        m('3'),
        m('1'),
        m('2'),
        complete("PREPARE"),
        m('3'),
        m('3'),
        takes(&[]),
        returns(&["a"]),
        ready('I'),
    ]);
    talk.client(&[query("execute p")]).server(&[complete("SELECT 1"), ready('I')]).is_idle();
}

#[test]
fn a_statement_of_sql_keeps_the_types_that_were_chosen_for_it() {
    let mut talk = Talk::new();
    talk.client(&[query("prepare p as select f($1)")]).server(&[complete("PREPARE"), ready('I')]);
    talk.asks(&["p"], &[INT], &["a"]).lost(b"", MOVE);
    let own = [parse_of("p", "select f($1)", &[INT]), describe("p"), sync()];
    talk.taken().needs(&[query("execute p(1)")], &own);
}

#[test]
fn a_statement_that_drops_another_finds_its_name_taken() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "select $1 a"), sync()]).server(&[m('1'), ready('I')]);
    talk.asks(&["s"], &[INT], &["a"]);
    talk.client(&[parse("d", "deallocate s"), sync()]).server(&[m('1'), ready('I')]);
    talk.session.questions().expect("it is asked");
    talk.swallows(&[takes(&[]), m('n'), ready('I')]).is_idle();
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    let run = [bind("d"), execute(), sync()];
    talk.taken().needs(&run, &[parse("d", "deallocate s"), describe("d"), stand_in("s"), flush()]);
    talk.swallows(&[m('1'), takes(&[]), m('n'), m('1')]).client(&run);
    talk.server(&[m('2'), complete("DEALLOCATE"), ready('I')]).is_idle();
}

#[test]
fn a_name_that_is_dropped_twice_is_taken_once() {
    let mut talk = moved();
    let twice = [query("deallocate s; deallocate s")];
    talk.needs(&twice, &[stand_in("s"), sync()]).swallows(&[m('1'), ready('I')]).client(&twice);
}
