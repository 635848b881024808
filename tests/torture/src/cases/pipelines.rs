//! Series of messages: errors in them, several Syncs, none, Flush, portals with row limits, FunctionCall.

use crate::flight::{
    Flight, bind, bind_portal, close_portal, copy_data, copy_done, copy_fail, describe_portal, execute,
    flush, function_call, parse, query, raw, run_prepared, sync, unnamed,
};
use crate::scenario::{Player, Scenario, Until};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = errors();
    cases.extend(oddities());
    cases.extend(transactions());
    cases.extend(portals());
    cases.extend(calls());
    cases
}

fn errors() -> Vec<Scenario> {
    vec![
        Scenario::new("pipe-error-skips", "what is behind an error is skipped up to Sync")
            .flight(
                Player::A,
                &[unnamed("SELECT 1"), unnamed("SELECT 1 / 0"), unnamed("SELECT 'skipped'"), sync()],
            )
            .shows("22012")
            .hides("D(skipped)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)"),
        Scenario::new("pipe-error-later", "an error, Sync, more, Sync, in one write")
            .flight(
                Player::A,
                &[
                    unnamed("SELECT 1 / 0"),
                    unnamed("SELECT 'skipped'"),
                    sync(),
                    unnamed("SELECT 'after'"),
                    sync(),
                ],
            )
            .shows("D(after)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .hides("22012"),
        Scenario::new("pipe-error-bytes", "an error, the Sync comes later, another client between")
            .send(Player::A, &[unnamed("SELECT 1 / 0"), flush()])
            .read(Player::A, Until::Tag(b'E'))
            .shows("22012")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .flight(Player::A, &[unnamed("SELECT 'skipped'"), sync()])
            .hides("D(skipped)")
            .a("SELECT 'well'")
            .shows("D(well)"),
        Scenario::new("pipe-parse-error-name", "Parse of a name behind an error is not there")
            .flight(Player::A, &[unnamed("SELECT 1 / 0"), parse("s", "SELECT 'never'"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("26000"),
        Scenario::new("pipe-parse-before-error", "a name parsed before an error stays")
            .flight(Player::A, &[parse("s", "SELECT 'stays'"), unnamed("SELECT 1 / 0"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("D(stays)"),
        Scenario::new("pipe-two-parses-one-fails", "two names in a series, the second text fails")
            .flight(
                Player::A,
                &[parse("s1", "SELECT 'one'"), parse("s2", "SELEC"), parse("s3", "SELECT 3"), sync()],
            )
            .shows("42601")
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s1", &[]), sync()])
            .shows("D(one)")
            .flight(Player::A, &[run_prepared("s3", &[]), sync()])
            .shows("26000"),
    ]
}

/// Parameters, sizes and orders that are seldom.
fn oddities() -> Vec<Scenario> {
    vec![
        Scenario::new("pipe-bind-error", "a parameter that cannot be read")
            .flight(Player::A, &[parse("s", "SELECT $1::int"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s", &[Some("x")]), sync()])
            .shows("22P02")
            .flight(Player::A, &[run_prepared("s", &[Some("7")]), sync()])
            .shows("D(7)"),
        Scenario::new("pipe-wrong-count", "too few parameters")
            .flight(Player::A, &[parse("s", "SELECT $1::int"), sync()])
            .b("SELECT 'between'")
            .flight(Player::A, &[run_prepared("s", &[]), sync()])
            .shows("08P01"),
        Scenario::new("pipe-queries", "ten Queries in one write, the third fails")
            .flight(
                Player::A,
                &(0..10).map(|n| query(&format!("SELECT 10 / (2 - {n}), {n}"))).collect::<Vec<_>>(),
            )
            .shows("22012")
            .shows("D(-1|9)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)"),
        Scenario::new("pipe-syncs", "Syncs with nothing before them")
            .flight(Player::A, &[sync(), sync(), unnamed("SELECT 'one'"), sync(), sync()])
            .shows("D(one)")
            .b("SELECT 'stranger'"),
        Scenario::new("pipe-mixed", "Query and extended messages by turns in one write")
            .flight(
                Player::A,
                &[
                    query("SELECT 1"),
                    unnamed("SELECT 2"),
                    sync(),
                    query("SELECT 3"),
                    unnamed("SELECT 4"),
                    sync(),
                ],
            )
            .shows("D(4)")
            .b("SELECT 'stranger'"),
        Scenario::new("pipe-empty", "empty statements by both protocols")
            .a("")
            .shows("I")
            .flight(Player::A, &[parse("", ""), bind("", &[]), describe_portal(""), execute("", 0), sync()])
            .shows("n · I")
            .b("SELECT 'stranger'")
            .a(";;; -- nothing")
            .shows("I"),
        Scenario::new("pipe-long", "a text and a value of 300 kB")
            .a(format!("SELECT length('{}')", "x".repeat(300_000)))
            .shows("D(300000)")
            .b("SELECT 'stranger'")
            .flight(Player::A, &[parse("s", "SELECT length($1)"), sync()])
            .flight(Player::A, &[run_prepared("s", &[Some(&"y".repeat(300_000))]), sync()])
            .shows("D(300000)"),
    ]
}

fn transactions() -> Vec<Scenario> {
    vec![
        Scenario::new("pipe-implicit", "a series is one transaction: its INSERT is undone by an error")
            .table("implied", "x int", "")
            .flight(
                Player::A,
                &[unnamed("INSERT INTO torture.implied VALUES (1)"), unnamed("SELECT 1 / 0"), sync()],
            )
            .b("SELECT count(*) FROM torture.implied")
            .shows("D(0)"),
        Scenario::new("pipe-two-transactions", "two series, the second fails: the first stays")
            .table("implied", "x int", "")
            .flight(
                Player::A,
                &[unnamed("INSERT INTO torture.implied VALUES (1)"), sync(), unnamed("SELECT 1 / 0"), sync()],
            )
            .b("SELECT count(*) FROM torture.implied")
            .shows("D(1)"),
        Scenario::new("pipe-begin-described", "BEGIN and SELECT in one series, each described")
            .flight(Player::A, &[unnamed("BEGIN"), unnamed("SELECT 'within' AS x"), sync()])
            .shows("T(x:25)")
            .shows("Z(T)")
            .b("SELECT 'stranger'")
            .a("SELECT txid_current_if_assigned() IS NULL")
            .ax("COMMIT")
            .shows("Z(I)"),
        Scenario::new("pipe-begin-fails", "a transaction that fails within its series, and the next one")
            .flight(
                Player::A,
                &[unnamed("BEGIN"), unnamed("SELECT 1 / 0"), sync(), unnamed("SELECT 1"), sync()],
            )
            .shows("25P02")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .flight(Player::A, &[unnamed("ROLLBACK"), sync(), unnamed("SELECT 'well'"), sync()])
            .shows("D(well)"),
        Scenario::new("pipe-commit-and-more", "COMMIT and the next transaction in one write")
            .table("implied", "x int", "")
            .a("BEGIN")
            .a("INSERT INTO torture.implied VALUES (1)")
            .flight(
                Player::A,
                &[query("COMMIT"), query("BEGIN"), query("SELECT count(*) FROM torture.implied")],
            )
            .shows("D(1)")
            .b("SELECT count(*) FROM torture.implied")
            .shows("D(1)")
            .a("COMMIT"),
        Scenario::new("pipe-unsynced", "a series without Sync, ended by one later")
            .send(Player::A, &[unnamed("SELECT 'first'"), flush()])
            .read(Player::A, Until::Tag(b'C'))
            .shows("D(first)")
            .b("SELECT 'stranger'")
            .hides("D(first)")
            .flight(Player::A, &[unnamed("SELECT 'second'"), sync()])
            .shows("D(second)"),
    ]
}

fn portals() -> Vec<Scenario> {
    let series = |from: i32| format!("SELECT x FROM generate_series({from}, {from} + 3) x");
    vec![
        Scenario::new("portal-rows", "a portal read two rows at a time in a transaction")
            .a("BEGIN")
            .flight(Player::A, &[parse("", &series(1)), bind_portal("p", "", &[]), execute("p", 2), sync()])
            .shows("D(2) · s")
            .b("SELECT 'stranger'")
            .flight(Player::A, &[execute("p", 2), sync()])
            .shows("D(4)")
            .flight(Player::A, &[execute("p", 2), sync()])
            .shows("C(SELECT 0)")
            .a("COMMIT"),
        Scenario::new(
            "portal-suspended",
            "a portal that is suspended ends with its Sync outside a transaction",
        )
        .flight(Player::A, &[parse("", &series(1)), bind_portal("p", "", &[]), execute("p", 2), sync()])
        .shows("D(2) · s")
        .b("SELECT 'stranger'")
        .flight(Player::A, &[execute("p", 2), sync()])
        .shows("34000"),
        Scenario::new("portal-flush", "rows by Flush, the portal kept open between")
            .send(Player::A, &[parse("", &series(1)), bind("", &[]), execute("", 1), flush()])
            .read(Player::A, Until::Tag(b's'))
            .shows("D(1) · s")
            .b("SELECT x FROM generate_series(71, 74) x")
            .shows("D(74)")
            .send(Player::A, &[execute("", 1), flush()])
            .read(Player::A, Until::Tag(b's'))
            .shows("D(2) · s")
            .flight(Player::A, &[execute("", 0), sync()])
            .shows("D(4)"),
        Scenario::new("portal-both", "two clients' portals of one name")
            .a("BEGIN")
            .b("BEGIN")
            .flight(Player::A, &[parse("", &series(1)), bind_portal("p", "", &[]), execute("p", 1), sync()])
            .shows("D(1)")
            .flight(Player::B, &[parse("", &series(71)), bind_portal("p", "", &[]), execute("p", 1), sync()])
            .shows("D(71)")
            .flight(Player::A, &[execute("p", 1), sync()])
            .shows("D(2)")
            .flight(Player::B, &[execute("p", 1), sync()])
            .shows("D(72)")
            .a("COMMIT")
            .b("COMMIT"),
        Scenario::new("portal-closed", "Close of a portal, then Execute")
            .a("BEGIN")
            .flight(Player::A, &[parse("", &series(1)), bind_portal("p", "", &[]), close_portal("p"), sync()])
            .flight(Player::A, &[execute("p", 0), sync()])
            .shows("34000")
            .a("ROLLBACK")
            .b("SELECT 'stranger'"),
        Scenario::new("portal-foreign", "Execute of a portal that only another client has")
            .a("BEGIN")
            .flight(Player::A, &[parse("", "SELECT 'mine'"), bind_portal("p", "", &[]), sync()])
            .flight(Player::B, &[execute("p", 0), sync()])
            .shows("34000")
            .hides("D(mine)")
            .flight(Player::A, &[execute("p", 0), sync()])
            .shows("D(mine)")
            .a("COMMIT"),
        Scenario::new("portal-again", "Bind of a portal's name that is taken")
            .a("BEGIN")
            .flight(Player::A, &[parse("", &series(1)), bind_portal("p", "", &[]), sync()])
            .flight(Player::A, &[bind_portal("p", "", &[]), sync()])
            .shows("42P03")
            .a("ROLLBACK")
            .b("SELECT 'stranger'"),
    ]
}

/// OIDs of functions: int4pl, pg_advisory_lock(bigint), setseed.
const INT4PL: u32 = 177;
const ADVISORY_LOCK: u32 = 2880;

fn calls() -> Vec<Scenario> {
    vec![
        Scenario::new("call-function", "FunctionCall")
            .flight(Player::A, &[function_call(INT4PL, &[Some("3"), Some("4")])])
            .shows("V(7)")
            .b("SELECT 'stranger'")
            .flight(Player::A, &[function_call(INT4PL, &[Some("x"), Some("4")])])
            .shows("22P02")
            .b("SELECT 'stranger'")
            .flight(Player::A, &[function_call(999_999_999, &[])])
            .shows("E(ERROR"),
        Scenario::new("call-locks", "FunctionCall of pg_advisory_lock")
            .flight(Player::A, &[function_call(ADVISORY_LOCK, &[Some("4711")])])
            .shows("V(")
            .b("SELECT pg_try_advisory_lock(4711)")
            .shows("D(f)")
            .a("SELECT pg_advisory_unlock(4711)")
            .shows("D(t)")
            .b("SELECT pg_try_advisory_lock(4711)")
            .shows("D(t)"),
        Scenario::new("call-in-transaction", "FunctionCall in a transaction and in a failed one")
            .a("BEGIN")
            .flight(Player::A, &[function_call(INT4PL, &[Some("3"), Some("4")])])
            .shows("Z(T)")
            .a("SELECT 1 / 0")
            .flight(Player::A, &[function_call(INT4PL, &[Some("3"), Some("4")])])
            .shows("25P02")
            .b("SELECT 'stranger'")
            .a("ROLLBACK"),
        Scenario::new("late-copy", "CopyData, CopyDone and CopyFail outside a COPY are ignored")
            .flight(Player::A, &[copy_data("late"), copy_done(), copy_fail("late"), query("SELECT 'well'")])
            .shows("D(well)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)"),
        Scenario::new("bad-describe", "Describe of a kind that does not exist")
            .flight(Player::A, &[raw(b'D', b"X\0", 0), sync()])
            .shows("08P01")
            .b("SELECT 'stranger'")
            .a("SELECT 'well'")
            .shows("D(well)"),
        Scenario::new("bad-query", "a Query without its zero ends the connection")
            .send(Player::A, &[raw(b'Q', b"SELECT 'no zero'", 0)])
            .read(Player::A, Until::Tag(b'E'))
            .shows("08P01")
            .b("SELECT 'stranger'")
            .shows("D(stranger)"),
        Scenario::new("bad-type", "a message type that does not exist ends the connection")
            .b("SELECT 'before'")
            .send(Player::A, &[raw(b'!', b"?", 0)])
            .read(Player::A, Until::Tag(b'E'))
            .shows("FATAL 08P01")
            .read(Player::A, Until::End)
            .b("SELECT 'stranger'")
            .shows("D(stranger)"),
        Scenario::new("bad-zero-text", "a zero within a Query's text")
            .flight(Player::A, &[zero_within()])
            .shows("E(")
            .b("SELECT 'stranger'")
            .shows("D(stranger)"),
    ]
}

fn zero_within() -> Flight {
    raw(b'Q', b"SELECT 'a'\0SELECT 'b'\0", 1)
}
