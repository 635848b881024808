//! What sessions have made that runs functions, before the proxy has looked: nobody gets the connection of a session that may
//! have used it until that is known.

use super::*;

/// SQL that makes something of this name, its tag.
const MAKES: (&str, &str) =
    ("create schema s create table made (a text default plain('x'))", "CREATE SCHEMA");
const USES: &str = "insert into made default values";
const OTHERS: &str = "insert into other default values";
/// Makes what is there already run more.
const ALTERS: (&str, &str) =
    ("create trigger a before insert on made execute function plain()", "CREATE TRIGGER");

/// The catalog of a look that finds that `made` sets something.
fn with_made() -> Option<FunctionCatalog> {
    let mut made = catalog(FunctionEffect::default());
    made.words = [((*b"made").into(), Arc::new(FunctionEffect::sets("work_mem")))].into();
    Some(made)
}

impl Talk {
    /// Binds and runs a statement.
    fn executes(&mut self, name: &str, tag: &str) -> &mut Self {
        self.client(&[bind(name), execute(), sync()]).server(&[m('2'), complete(tag), ready('I')])
    }

    fn parses(&mut self, name: &str, sql: &str) -> &mut Self {
        self.client(&[parse(name, sql), describe(name), sync()]);
        self.server(&[m('1'), takes(&[]), m('n'), ready('I')])
    }

    fn ran_long(&mut self, sql: &str, tag: &str) -> &mut Self {
        let sql = format!("{sql} -- {}", "x".repeat(LONG));
        for part in query(&sql).chunks(10_000) {
            self.client_step(part);
        }
        self.server(&[complete(tag), ready('I')])
    }

    /// The look has told that what it ran sets something.
    #[track_caller]
    fn asks_for_values(&mut self, functions: &Functions) {
        look(functions, with_made(), Some(READ));
        assert!(self.session.settle_calls());
        let asked = printable(&self.session.questions().expect("its values"));
        assert!(asked.contains("work_mem"), "{asked}");
    }
}

/// Whether sessions are waited for that use what was made, and that use something else.
#[track_caller]
fn are_waited_for(functions: &Arc<Functions>, by_name: bool, others: bool) {
    let is_waited_for =
        |sql: &str, tag: &str| session_of(functions).ran(sql, &[tag]).session.check_in_state().is_err();
    assert_eq!([is_waited_for(USES, "INSERT 0 1"), is_waited_for(OTHERS, "INSERT 0 1")], [by_name, others]);
    assert!(!is_waited_for("select 1", "SELECT 1"), "nothing of a user is named");
    look(functions, None, Some(READ));
    assert!(!is_waited_for(USES, "INSERT 0 1") && !is_waited_for(OTHERS, "INSERT 0 1"));
}

#[test]
fn statements_prepared_before_are_compared_with_it_when_they_are_run() {
    for (sql, tag) in [MAKES, ALTERS] {
        let (mut maker, functions) = calling();
        let [mut by_bind, mut by_sql, mut by_both] = [(), (), ()].map(|()| session_of(&functions));
        by_bind.parses("i", USES).parses("o", "select 1").checks_in();
        by_sql.ran(&format!("prepare i as {USES}"), &["PREPARE"]).asks(&["i"], &[], &[]);
        by_both.ran(&format!("prepare i as {USES}"), &["PREPARE"]).asks(&["i"], &[], &[]);
        by_both.parses("e", "execute i").parses("ee", "execute e");
        for talk in [&mut by_bind, &mut by_both] {
            assert!(talk.session.questions().is_none(), "its statements are described");
        }
        maker.ran(sql, &[tag]);
        by_bind.executes("o", "SELECT 1").checks_in();
        by_bind.executes("i", "INSERT 0 1").waits_for_a_look();
        by_sql.ran("execute i", &["INSERT 0 1"]).waits_for_a_look();
        by_both.executes("e", "INSERT 0 1").waits_for_a_look();
        look(&functions, None, Some(READ));
        by_both.session.settle_calls();
        for name in ["e", "ee"] {
            // What it runs is planned when it is run, and not before.
            by_both.client(&[bind(name), flush()]).server(&[m('2')]);
            maker.ran(sql, &[tag]);
            by_both.client(&[execute(), sync()]).server(&[complete("INSERT 0 1"), ready('I')]);
            by_both.waits_for_a_look();
            look(&functions, None, Some(READ));
            by_both.session.settle_calls();
            by_both.ran("select 1", &["SELECT 1"]).checks_in();
        }
        maker.ran(sql, &[tag]);
        by_bind.executes("i", "INSERT 0 1").asks_for_values(&functions);
    }
}

#[test]
fn a_statement_whose_text_is_not_kept_may_use_it() {
    let (mut maker, functions) = calling();
    let mut user = session_of(&functions);
    for part in parse("long", &format!("{USES} -- {}", "x".repeat(LONG))).chunks(10_000) {
        user.client_step(part);
    }
    user.client(&[sync()]).server(&[m('1'), ready('I')]);
    look(&functions, None, Some(READ));
    user.session.settle_calls();
    maker.ran(MAKES.0, &[MAKES.1]);
    user.executes("long", "INSERT 0 1");
    user.asks_for_values(&functions);

    let (mut maker, functions) = calling();
    maker.ran(MAKES.0, &[MAKES.1]);
    let mut user = session_of(&functions);
    user.ran_long(USES, "INSERT 0 1").waits_for_a_look();
    user.asks_for_values(&functions);
}

#[test]
fn what_is_new_is_reached_by_its_names_and_a_change_of_what_is_there_by_any() {
    let (mut maker, functions) = calling();
    maker.ran(MAKES.0, &[MAKES.1]);
    are_waited_for(&functions, true, false);
    maker.ran(ALTERS.0, &[ALTERS.1]);
    are_waited_for(&functions, true, true);
    maker.ran("do $$ begin execute 'create table ' || x; end $$", &["DO"]);
    are_waited_for(&functions, true, true);
    maker.ran("commit prepared 'x'", &["COMMIT PREPARED"]);
    are_waited_for(&functions, true, true);
    maker.ran("drop table made", &["DROP TABLE"]);
    are_waited_for(&functions, false, false);
}

#[test]
fn what_a_long_text_makes_may_be_anything() {
    for (sql, tag) in [MAKES, ALTERS, ("do 'x'", "DO"), ("create table made ()", "CREATE TABLE")] {
        let (mut maker, functions) = calling();
        maker.ran_long(sql, tag);
        are_waited_for(&functions, true, true);
    }
    let (mut maker, functions) = calling();
    maker.ran_long("select 1", "SELECT 1").ran_long("drop table t", "DROP TABLE");
    are_waited_for(&functions, false, false);
}

#[test]
fn what_a_statement_makes_is_told_by_the_transaction_that_runs_it() {
    let (mut maker, functions) = calling();
    maker.parses("m", MAKES.0).ran("select 1", &["SELECT 1"]);
    are_waited_for(&functions, false, false);
    maker.executes("m", MAKES.1);
    are_waited_for(&functions, true, false);
    // By SQL, of which the names are not at hand.
    maker.ran("execute m", &[MAKES.1]);
    are_waited_for(&functions, true, true);
}

#[test]
fn each_series_of_a_pipeline_tells_what_it_has_made() {
    let (mut maker, functions) = calling();
    let series = |sql: &str| [parse("", sql), bind(""), execute(), sync()].concat();
    let answer = |tag: &str| vec![m('1'), m('2'), complete(tag), ready('I')];
    let other = MAKES.0.replace("made", "other");
    maker.client(&[series(&other), series(MAKES.0)]).server(&answer(MAKES.1));
    are_waited_for(&functions, false, true);
    maker.client(&[series("create schema third")]).server(&answer(MAKES.1));
    are_waited_for(&functions, true, false);
    maker.server(&answer(MAKES.1));
    are_waited_for(&functions, false, false);
}

#[test]
fn a_commit_inside_of_a_request_tells_at_once() {
    let (mut maker, functions) = calling();
    maker.client(&[query(&format!("begin; {}; commit; select 1", MAKES.0))]);
    maker.server(&[complete("BEGIN"), complete(MAKES.1)]);
    assert!(!functions.is_awaited(), "it may be rolled back");
    maker.server(&[complete("COMMIT")]);
    are_waited_for(&functions, true, false);
    maker.server(&[complete("SELECT 1"), ready('I')]);
}

#[test]
fn what_was_perhaps_made_is_told_however_a_session_ends() {
    let (mut maker, functions) = calling();
    maker.client(&[query(MAKES.0)]).lost(b"", MOVE);
    are_waited_for(&functions, true, false);
    let mut maker = session_of(&functions);
    maker.client(&[query(MAKES.0)]);
    assert!(!functions.is_awaited());
    drop(maker);
    are_waited_for(&functions, true, false);
    let mut maker = session_of(&functions);
    maker.ran_to("begin", &["BEGIN"], 'T').ran_to(MAKES.0, &[MAKES.1], 'T').client(&[query("commit")]);
    drop(maker);
    are_waited_for(&functions, true, false);
}

#[test]
fn what_the_first_look_finds_counts_for_those_who_have_used_it_before() {
    let unread = FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread);
    let functions = Arc::new(Functions::new(unread));
    let [mut maker, mut user] = [(), ()].map(|()| session_of(&functions));
    let first = functions.look_begins();
    maker.ran(MAKES.0, &[MAKES.1]);
    user.ran(USES, &["INSERT 0 1"]).waits_for_a_look();
    // It has found what was made while it read, and the next finds no change.
    functions.look_ended(first, with_made());
    look(&functions, None, Some(READ));
    assert!(user.session.settle_calls());
    let asked = printable(&user.session.questions().expect("its values"));
    assert!(asked.contains("work_mem"), "{asked}");
}

#[test]
fn functions_called_while_a_look_is_due_are_asked_for_behind_it() {
    let (mut maker, functions) = calling();
    maker.ran(MAKES.0, &[MAKES.1]);
    let mut user = session_of(&functions);
    user.ran("insert into made values (plain(1))", &["INSERT 0 1"]).waits_for_a_look();
    user.ran("select plain(1)", &["SELECT 1"]).waits_for_a_look();
    look(&functions, None, Some(READ));
    assert!(user.session.settle_calls() && !user.session.has_spoiled_connection());
    user.is_told(READ).checks_in();

    maker.ran(MAKES.0, &[MAKES.1]);
    user.ran("insert into made values (plain(1))", &["INSERT 0 1"]).waits_for_a_look();
    look(&functions, None, Some(READ));
    assert!(user.session.settle_calls());
    user.is_told(READ).checks_in();

    maker.ran(MAKES.0, &[MAKES.1]);
    user.ran(USES, &["INSERT 0 1"]).ran("select plain(1)", &["SELECT 1"]).waits_for_a_look();
    look(&functions, None, Some(READ));
    assert!(user.session.settle_calls());
    user.is_told(OTHER).waits_for_a_look();
    look(&functions, None, Some(OTHER));
    assert!(user.session.settle_calls() && user.session.has_spoiled_connection());
}

#[test]
fn where_nobody_looks_the_connection_ends_with_what_may_have_used_it() {
    let unread = FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Pins);
    let functions = Arc::new(Functions::never_looked_at(unread));
    let mut user = session_of(&functions);
    user.ran(MAKES.0, &[MAKES.1]).ran("discard all", &["DISCARD ALL"]);
    user.checks_out(&ConnectionState::default());
    user.ran(USES, &["INSERT 0 1"]);
    assert!(user.session.settle_calls() && user.session.settle_calls_before_leaving());
    assert!(user.session.has_spoiled_connection());
    user.checks_out(&ConnectionState::default());
    user.ran(OTHERS, &["INSERT 0 1"]).checks_in();
    user.ran("select new_one()", &["SELECT 1"]);
    assert!(user.session.settle_calls());
    user.stays_with(PinReason::UserFunction);
}

#[test]
fn a_long_statement_that_is_closed_is_waited_for_no_more() {
    let (mut talk, functions) = calling();
    for part in parse("long", &format!("select 1 -- {}", "x".repeat(LONG))).chunks(10_000) {
        talk.client_step(part);
    }
    talk.client(&[sync()]).server(&[m('1'), ready('I')]);
    talk.parses("p", "select plain(1)");
    talk.client(&[close("long"), sync()]).server(&[m('3'), ready('I')]);
    look(&functions, None, Some(READ));
    talk.session.settle_calls();
    let mut changed = catalog(FunctionEffect::default());
    changed.functions.insert((*b"other").into(), Arc::new(FunctionEffect::sets("work_mem")));
    look(&functions, Some(changed), Some(READ));
    talk.session.settle_calls();
    talk.is_told(READ);
    talk.executes("p", "SELECT 1");
    talk.session.settle_calls();
    talk.is_told(READ).checks_in();
}
