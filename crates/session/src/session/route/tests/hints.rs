//! What clients say of where their units go.

use super::*;
use crate::hints::{Hints, RouteHint};

fn completed(tag: &str) -> Vec<u8> {
    bytes(|out| write::command_complete(out, tag.as_bytes()).expect("short"))
}

#[track_caller]
fn routed(session: &Session, unit: &[Vec<u8>]) -> Option<RouteHint> {
    session.hints_of(&unit.concat(), Hints::default()).expect("the values are valid").route
}

#[test]
fn a_comment_goes_before_a_setting_and_that_before_what_was_given() {
    let mut session = session();
    let given = Hints { route: Some(RouteHint::Standby), ..Hints::default() };
    let of = |session: &Session, sql: &str| session.hints_of(&query(sql), given).map(|hints| hints.route);
    let by_comment = "/* trunkline.route=auto */ SELECT 1";
    assert_eq!(of(&session, "SELECT 1"), Ok(Some(RouteHint::Standby)));
    talks(&mut session, &query("SET trunkline.route = primary"), &completed("SET"));
    assert_eq!(of(&session, "SELECT 1"), Ok(Some(RouteHint::Primary)));
    assert_eq!(of(&session, by_comment), Ok(Some(RouteHint::Auto)));
    talks(&mut session, &query("RESET trunkline.route"), &completed("RESET"));
    assert_eq!(of(&session, "SELECT 1"), Ok(Some(RouteHint::Standby)));
    assert_eq!(of(&session, by_comment), Ok(Some(RouteHint::Auto)));
    let by_call = query("SELECT set_config('trunkline.route', 'primary', false)");
    let row = b"D\0\0\0\x06\0\0".to_vec();
    talks(&mut session, &by_call, &[row, completed("SELECT 1")].concat());
    assert_eq!(of(&session, "SELECT 1"), Ok(Some(RouteHint::Primary)));
    talks(&mut session, &query("DISCARD ALL"), &completed("DISCARD ALL"));
    assert_eq!(of(&session, "SELECT 1"), Ok(Some(RouteHint::Standby)));
}

#[test]
fn a_series_is_hinted_by_all_that_it_runs() {
    let mut session = session();
    let (primary, standby) =
        ("/* trunkline.route=primary */ SELECT 1", "/*trunkline.route='standby'*/ SELECT 2");
    let series = |texts: &[&str]| -> Vec<Vec<u8>> {
        let one = |text: &&str| [parse("", text, &[]), bind("", ""), execute("", 0)].concat();
        texts.iter().map(one).chain([sync()]).collect()
    };
    assert_eq!(routed(&session, &series(&[standby, standby])), Some(RouteHint::Standby));
    assert_eq!(routed(&session, &series(&[standby, primary])), Some(RouteHint::Primary));
    assert_eq!(routed(&session, &series(&[standby, "SELECT 3"])), Some(RouteHint::Auto));
    assert_eq!(routed(&session, &series(&["SELECT 3"])), None);
    talks(&mut session, &[parse("hinted", primary, &[]), sync()].concat(), b"1\0\0\0\x04");
    assert_eq!(routed(&session, &[bind("", "hinted"), execute("", 0), sync()]), Some(RouteHint::Primary));
    assert_eq!(routed(&session, &[bind("", "other"), execute("", 0), sync()]), None);
    assert_eq!(routed(&session, &[vec![b'Q', 0, 0, 0, 0]]), None, "it is no message");
}

#[test]
fn a_value_that_a_hint_cannot_have_is_told_where_it_is_set_and_where_something_reads() {
    let mut session = session();
    let wrong =
        |session: &Session, unit: &[Vec<u8>]| session.hints_of(&unit.concat(), Hints::default()).is_err();
    let set = "SET trunkline.route = nowhere";
    assert!(
        wrong(&session, &[query(set)]) && wrong(&session, &[query("SET LOCAL trunkline.route = 'a', 'b'")])
    );
    assert!(wrong(&session, &[parse("", set, &[]), bind("", ""), execute("", 0), sync()]));
    let comment = query("/* trunkline.route=nowhere */ SELECT 1");
    assert!(wrong(&session, std::slice::from_ref(&comment)));
    assert!(
        !wrong(&session, &[query("SELECT 1"), comment]),
        "the first of two is not refused for the second"
    );
    for sql in
        ["SET trunkline.other = nowhere", "SET other.route = nowhere", "/* trunkline.other=a */ SELECT 1"]
    {
        assert!(!wrong(&session, &[query(sql)]), "{sql}");
    }
    // In a transaction, PostgreSQL alone has judged it.
    talks(&mut session, &query(set), &completed("SET"));
    assert!(wrong(&session, &[query("SELECT 1")]));
    assert!(!wrong(&session, &[query("/* trunkline.route=nowhere */ INSERT INTO t VALUES (1)")]));
    assert!(!wrong(&session, &[query("RESET trunkline.route")]));
    talks(&mut session, &query("RESET trunkline.route"), &completed("RESET"));
    assert!(!wrong(&session, &[query("SELECT 1")]));
}

#[test]
fn what_the_client_vouches_for_needs_no_catalog() {
    let session = session();
    for sql in ["SELECT swallows()", "SELECT * FROM missing", "SELECT missing()"] {
        is_other(&session, NotProven::Unknown, &[query(sql)]);
        match session.read_trusted_unit(&query(sql)) {
            UnitReading::Reads(unit) => assert!(unit.may_call_what_writes, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    for sql in
        ["INSERT INTO t VALUES (1)", "SELECT 1; SELECT 2", "SELECT 1 FOR UPDATE", "SELECT nextval('s')"]
    {
        assert_eq!(session.read_trusted_unit(&query(sql)), UnitReading::Other(NotProven::Unknown), "{sql}");
    }
    let unread = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
    let unread = self::session().with_functions(Some(Arc::new(unread)));
    let reading = unread.read_trusted_unit(&query("SELECT 1"));
    assert!(matches!(reading, UnitReading::Reads(ReadUnit { position: Some(Lsn(0)), .. })), "{reading:?}");
}
