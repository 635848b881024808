use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::ids::Lsn;
use trunkline_codec::write;

use super::*;
use crate::carried::parameters::LoginParameters;
use crate::limits::PREPARED_MAX;
use crate::record::{Sink, StatementRecord};
use crate::rewritten::Rewritten;
use crate::settings::{Mobility, ReportTiming, ServerRole, SessionSettings, StatementNames, Tracking};
use crate::sql::functions::{FunctionCatalog, Functions, UnlistedFunctions};
use crate::sql::plainness::PlainnessCatalog;

mod begin;
mod defaults;
mod end;
mod hints;

struct Nobody;

impl Sink for Nobody {
    fn statement(&mut self, _record: &StatementRecord<'_>) {}
}

/// Its catalog has the table `t`, and the functions `reads`, which is plain, and `swallows`, which is not.
fn functions() -> Arc<Functions> {
    let built_in = Arc::new(["count".as_bytes().into()].into());
    let functions = [(b"reads"[..].into(), None), (b"swallows"[..].into(), Some("function swallows".into()))];
    let plainness = PlainnessCatalog {
        built_in: Arc::clone(&built_in),
        functions: functions.into(),
        relations: [b"t"[..].into()].into(),
        types: [(20_000, "type dom".into())].into(),
        position: Some(Lsn(100)),
        ..PlainnessCatalog::default()
    };
    let unread = FunctionCatalog::unread(built_in, UnlistedFunctions::Unread);
    let catalog = FunctionCatalog { plainness: Some(plainness), ..unread };
    let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
    // The first question has the reader look for what is asked.
    let _unread = functions.plainness(b"SELECT", &[]);
    let number = functions.look_begins();
    functions.look_ended(number, Some(catalog));
    Arc::new(functions)
}

fn session_with(parameters: &[(&str, &str)]) -> Session {
    let mut told = BytesMut::new();
    for (name, value) in parameters {
        write::parameter_status(&mut told, name.as_bytes(), value.as_bytes()).expect("short");
    }
    let settings = SessionSettings {
        sql_bytes_max: 1000,
        report_timing: ReportTiming::Off,
        server: Arc::from("primary"),
        tracking: Tracking::Full,
        mobility: Mobility::Movable,
        statement_names: StatementNames::OfContent { statements_max: 100 },
        role: ServerRole::Primary,
        parameters: Arc::new(LoginParameters::new(&told)),
    };
    Session::new(settings, Instant::now()).with_functions(Some(functions()))
}

fn session() -> Session {
    session_with(&[("standard_conforming_strings", "on"), ("client_encoding", "UTF8")])
}

fn bytes(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.to_vec()
}

fn query(sql: &str) -> Vec<u8> {
    bytes(|out| write::query(out, sql.as_bytes()).expect("short"))
}

fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    bytes(|out| write::parse(out, name.as_bytes(), sql.as_bytes(), types).expect("short"))
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    bytes(|out| {
        write::bind(out, portal.as_bytes(), statement.as_bytes(), std::iter::empty()).expect("short");
    })
}

fn execute(portal: &str, max_rows: i32) -> Vec<u8> {
    bytes(|out| write::execute(out, portal.as_bytes(), max_rows).expect("short"))
}

fn sync() -> Vec<u8> {
    bytes(write::sync)
}

const FLUSH: &[u8] = b"H\0\0\0\x04";

#[track_caller]
fn key_of(session: &Session, unit: &[Vec<u8>]) -> u64 {
    match session.read_unit(&unit.concat(), &mut KnownReads::default()) {
        UnitReading::Reads(ReadUnit { key, position, .. }) => {
            assert_eq!(position, Some(Lsn(100)));
            key
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_other(session: &Session, why: NotProven, unit: &[Vec<u8>]) {
    assert_eq!(session.read_unit(&unit.concat(), &mut KnownReads::default()), UnitReading::Other(why));
}

/// Has the session send this, which its server answers with these messages.
fn talks(session: &mut Session, sent: &[u8], answer: &[u8]) {
    let (now, mut rewritten) = (Instant::now(), Rewritten::default());
    let step = session.handle_client_renaming(sent, now, &mut rewritten, &mut Nobody);
    assert_eq!(step.forward, sent.len());
    let mut answer = answer.to_vec();
    answer.extend(bytes(|out| write::ready_for_query(out, TransactionStatus::Idle)));
    let step = session.handle_server_renaming(&answer, now, &mut rewritten, &mut Nobody);
    assert_eq!(step.forward, answer.len());
}

#[test]
fn a_unit_is_judged_as_a_whole() {
    let session = session();
    let whole = [parse("", "SELECT reads(1) FROM t", &[]), bind("", ""), execute("", 0), sync()].concat();
    for length in 0..whole.len() {
        assert_eq!(
            session.read_unit(&whole[..length], &mut KnownReads::default()),
            UnitReading::Incomplete,
            "{length} bytes"
        );
    }
    let by_query = key_of(&session, &[query("SELECT reads(2) FROM t")]);
    // Each names it twice: by its Parse, and by its Bind.
    assert_ne!(key_of(&session, std::slice::from_ref(&whole)), by_query);
    assert_eq!(by_query, key_of(&session, &[query("select reads( 3 ) from t")]), "constants do not count");
    is_other(&session, NotProven::Unknown, &[whole.clone(), query("SELECT 1")]);
    is_other(&session, NotProven::Unknown, &[query("SELECT 1"), vec![b'Q']]);
}

#[test]
fn whatever_is_not_proven_is_the_primarys() {
    let session = session();
    for sql in ["SELECT swallows()", "SELECT * FROM missing", "SELECT missing()", "INSERT INTO t VALUES (1)"]
    {
        is_other(&session, NotProven::Unknown, &[query(sql)]);
        is_other(&session, NotProven::Unknown, &[parse("", sql, &[]), sync()]);
    }
    is_other(&session, NotProven::Transaction, &[query("BEGIN READ ONLY")]);
    let read = || parse("", "SELECT 1", &[]);
    let units: [&[Vec<u8>]; 8] = [
        &[read(), bind("", ""), execute("", 0), FLUSH.to_vec()],
        &[read(), bind("", ""), execute("other", 0), sync()],
        &[read(), query("SELECT 1")],
        &[bind("", "unknown"), execute("", 0), sync()],
        &[parse("", "SELECT $1", &[20_000]), bind("", ""), execute("", 0), sync()],
        &[
            read(),
            bind("", ""),
            execute("", 0),
            parse("", "INSERT INTO t VALUES (1)", &[]),
            bind("", ""),
            execute("", 0),
            sync(),
        ],
        &[sync()],
        &[vec![b'F', 0, 0, 0, 4]],
    ];
    for (number, unit) in units.iter().enumerate() {
        assert_eq!(
            session.read_unit(&unit.concat(), &mut KnownReads::default()),
            UnitReading::Other(NotProven::Unknown),
            "unit {number}"
        );
    }
    let long = format!("SELECT '{}'", "x".repeat(UNIT_BYTES_MAX));
    is_other(&session, NotProven::Unknown, &[query(&long)]);
    let many = vec![read(); UNIT_STATEMENTS_MAX + 1];
    is_other(&session, NotProven::Unknown, &[many.concat(), sync()]);
}

#[test]
fn a_bind_counts_by_the_text_of_its_statement() {
    let mut session = session();
    let run = |name| [bind("", name), execute("", 0), sync()];
    talks(&mut session, &[parse("read", "SELECT 1 FROM t", &[]), sync()].concat(), b"1\0\0\0\x04");
    talks(&mut session, &[parse("write", "INSERT INTO t VALUES (1)", &[]), sync()].concat(), b"1\0\0\0\x04");
    key_of(&session, &run("read"));
    is_other(&session, NotProven::Unknown, &run("write"));
    let unnamed = [parse("", "SELECT 1 FROM t", &[]), run("").concat()];
    assert_eq!(key_of(&session, &unnamed), key_of(&session, &unnamed));
    // The server refuses a name that is taken, and skips the rest.
    let taken = [parse("write", "SELECT 1 FROM t", &[]), run("write").concat()];
    is_other(&session, NotProven::Unknown, &taken);
}

#[test]
fn a_statement_that_would_not_be_kept_is_the_primarys() {
    let mut session = session();
    let name = |n: usize| format!("s{n}");
    for n in 0..PREPARED_MAX {
        talks(&mut session, &[parse(&name(n), "SELECT 1 FROM t", &[]), sync()].concat(), b"1\0\0\0\x04");
    }
    let run = |name: &str| [bind("", name), execute("", 0), sync()].concat();
    key_of(&session, &[run(&name(0))]);
    let one_more = name(PREPARED_MAX);
    let unit = [parse(&one_more, "SELECT 1 FROM t", &[]), run(&one_more)];
    is_other(&session, NotProven::Unknown, &unit);
}

#[test]
fn a_limit_of_rows_ends_with_the_unit() {
    let session = session();
    let unit =
        |max_rows| [parse("", "SELECT 1 FROM t", &[]), bind("", ""), execute("", max_rows), sync()].concat();
    for (max_rows, may_write) in [(0, false), (1, true)] {
        match session.read_unit(&unit(max_rows), &mut KnownReads::default()) {
            UnitReading::Reads(unit) => assert_eq!(unit.may_call_what_writes, may_write),
            other => panic!("{other:?}"),
        }
    }
    // What was not asked for is gone.
    is_other(&session, NotProven::Unknown, &[execute("", 1), sync()]);
    // In a transaction it is not.
    let begin = || [parse("", "BEGIN READ ONLY", &[]), bind("", ""), execute("", 0)].concat();
    assert!(matches!(
        session.read_unit(&[begin(), unit(0)].concat(), &mut KnownReads::default()),
        UnitReading::Reads(_)
    ));
    is_other(&session, NotProven::Unknown, &[begin(), unit(1)]);
    let mut session = session;
    assert!(begins(&mut session, "BEGIN READ ONLY").is_some());
    is_other(&session, NotProven::Unknown, &[unit(1)]);
}

#[test]
fn a_unit_tells_whether_it_calls_what_may_write() {
    let session = session();
    for (sql, may_write) in
        [("SELECT count(*) FROM t", false), ("SELECT (1) FROM t", false), ("SELECT reads(1)", true)]
    {
        match session.read_unit(&query(sql), &mut KnownReads::default()) {
            UnitReading::Reads(unit) => assert_eq!(unit.may_call_what_writes, may_write, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn what_sets_or_shows_settings_alone_is_told_from_what_may_write() {
    let mut session = session();
    let run = |sql: &str| [parse("", sql, &[]), bind("", ""), execute("", 0)].concat();
    for sql in ["SET search_path = a", "reset all;", "SHOW search_path", "SET SESSION AUTHORIZATION a"] {
        is_other(&session, NotProven::Settings, &[query(sql)]);
        is_other(&session, NotProven::Settings, &[run(sql), sync()]);
    }
    for sql in ["SET a = 1; INSERT INTO t VALUES (1)", "DISCARD ALL", "LOCK t"] {
        is_other(&session, NotProven::Unknown, &[query(sql)]);
    }
    is_other(&session, NotProven::Unknown, &[run("SET a = 1"), run("INSERT INTO t VALUES (1)"), sync()]);
    is_other(&session, NotProven::Unknown, &[query("SET a = 1"), query("INSERT INTO t VALUES (1)")]);
    begins(&mut session, "BEGIN READ ONLY").expect("it begins");
    is_other(&session, NotProven::Unknown, &[query("SET LOCAL a = 1")]);
}

#[test]
fn a_session_that_only_the_primary_goes_on_with_stays_there() {
    let mut session = session();
    let set = query("SET default_transaction_isolation = 'serializable'");
    key_of(&session, &[query("SELECT 1")]);
    talks(&mut session, &set, &bytes(|out| write::command_complete(out, b"SET").expect("short")));
    is_other(&session, NotProven::Session, &[query("SELECT 1")]);
    let other_strings = session_with(&[("standard_conforming_strings", "off"), ("client_encoding", "UTF8")]);
    is_other(&other_strings, NotProven::Session, &[query("SELECT 1")]);
    let other_encoding = session_with(&[("standard_conforming_strings", "on"), ("client_encoding", "SJIS")]);
    key_of(&other_encoding, &[query("SELECT 1")]);
    is_other(&other_encoding, NotProven::Unknown, &[query("SELECT '\u{e9}'")]);
    let unread = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
    let unread = self::session().with_functions(Some(Arc::new(unread)));
    is_other(&unread, NotProven::Unjudged, &[query("SELECT 1")]);
    is_other(&unread, NotProven::Unknown, &[query("INSERT INTO t VALUES (1)")]);
}

fn begins(session: &mut Session, sql: &str) -> Option<Vec<u8>> {
    session.begin_without_server(&query(sql), Instant::now(), &mut Nobody).map(|told| told.to_vec())
}

fn answer_to(tag: &str) -> Vec<u8> {
    let mut answer = bytes(|out| write::command_complete(out, tag.as_bytes()).expect("short"));
    answer.extend(bytes(|out| write::ready_for_query(out, TransactionStatus::InTransaction)));
    answer
}

#[test]
fn a_transaction_that_only_reads_begins_before_it_has_a_server() {
    for (sql, tag) in
        [("BEGIN READ ONLY", "BEGIN"), ("START TRANSACTION READ ONLY, DEFERRABLE;", "START TRANSACTION")]
    {
        let mut session = session();
        let outside = key_of(&session, &[query("SELECT 1")]);
        assert_eq!(begins(&mut session, sql), Some(answer_to(tag)), "{sql}");
        assert_eq!(session.transaction_status(), TransactionStatus::InTransaction);
        assert_eq!(session.outstanding(), 0);
        assert!(session.is_between_units_of_transaction() && session.is_before_request());
        assert_ne!(key_of(&session, &[query("SELECT 1")]), outside, "{sql}");
        is_other(&session, NotProven::Transaction, &[query("BEGIN READ ONLY")]);
        is_other(&session, NotProven::Unknown, &[query("COMMIT")]);
        assert_eq!(begins(&mut session, sql), None, "it has begun");
    }
    let mut session = session();
    let begin = || query("BEGIN READ ONLY");
    assert_eq!(session.begins_read_only(&[begin(), query("SELECT 1")].concat()), None, "something follows");
    assert_eq!(session.begins_read_only(&begin()[..10]), None);
    for sql in ["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "SELECT 1"] {
        assert_eq!(begins(&mut session, sql), None, "{sql}");
    }
    let set = query("SET default_transaction_isolation = 'serializable'");
    talks(&mut session, &set, &bytes(|out| write::command_complete(out, b"SET").expect("short")));
    assert_eq!(begins(&mut session, "BEGIN READ ONLY"), None, "only the primary goes on with it");
}

#[test]
fn a_connection_begins_the_transaction_that_its_session_has_begun() {
    let mut session = session();
    begins(&mut session, "BEGIN READ ONLY").expect("it begins");
    let mut state = session.state();
    let from = crate::ConnectionState::logged_in(false, Arc::new(LoginParameters::new(b"")));
    assert!(crate::diff(&from, &state).is_empty(), "it is not said how it was begun");
    state.begin(Some(b"BEGIN READ ONLY"[..].into()));
    let alignment = crate::diff(&from, &state);
    assert!(alignment.messages.ends_with(&query("BEGIN READ ONLY")) && alignment.needs_position_first());
    let mut reader = alignment.reader();
    let step = reader.handle(&answer_to("BEGIN")).expect("it is answered");
    assert!(step.done);
    let refused = bytes(|out| {
        write::command_complete(out, b"BEGIN").expect("short");
        write::ready_for_query(out, TransactionStatus::Idle);
    });
    assert!(alignment.reader().handle(&refused).is_err(), "no transaction has begun");
}

#[test]
fn the_first_unit_of_a_transaction_is_sent_again_inside_it() {
    let mut session = session();
    begins(&mut session, "BEGIN READ ONLY").expect("it begins");
    session.ask_standby_first(true);
    let unit = query("SELECT 1 FROM t");
    let (now, mut rewritten) = (Instant::now(), Rewritten::default());
    let step = session.handle_client_renaming(&unit, now, &mut rewritten, &mut Nobody);
    assert_eq!((step.forward, session.repeatable()), (unit.len(), Ok(())));
    session.rewind(now);
    assert_eq!(session.transaction_status(), TransactionStatus::InTransaction);
    assert!(session.is_before_request());
}

#[test]
fn a_series_that_begins_a_transaction_is_judged_by_what_it_reads() {
    let mut session = session();
    let run = |sql: &str| [parse("", sql, &[]), bind("", ""), execute("", 0)].concat();
    let outside = key_of(&session, &[run("SELECT 1"), sync()]);
    let series = |begin: &str, then: &str| [run(begin), run(then), sync()].concat();
    let unit = series("BEGIN READ ONLY", "SELECT 1");
    assert_ne!(key_of(&session, std::slice::from_ref(&unit)), outside);
    for (begin, then) in [
        ("BEGIN", "SELECT 1"),
        ("BEGIN READ ONLY", "SELECT swallows()"),
        ("BEGIN READ ONLY", "SET TRANSACTION READ WRITE"),
        ("BEGIN READ ONLY", "COMMIT"),
    ] {
        assert!(
            matches!(
                session.read_unit(&series(begin, then), &mut KnownReads::default()),
                UnitReading::Other(_)
            ),
            "{begin}; {then}"
        );
    }
    is_other(&session, NotProven::Transaction, &[run("BEGIN READ ONLY"), sync()]);
    // It may be sent again as a whole where a standby is asked first.
    session.ask_standby_first(true);
    let (now, mut rewritten) = (Instant::now(), Rewritten::default());
    session.handle_client_renaming(&unit, now, &mut rewritten, &mut Nobody);
    assert_eq!(session.repeatable(), Ok(()));
    session.rewind(now);
    assert_eq!(session.transaction_status(), TransactionStatus::Idle);
}

#[test]
fn inside_a_transaction_all_is_judged_up_to_each_sync_and_flush() {
    let mut session = session();
    begins(&mut session, "BEGIN READ ONLY").expect("it begins");
    let run = |sql: &str, rows| [parse("", sql, &[]), bind("", ""), execute("", rows)].concat();
    let goes_on = |session: &Session, bytes: &[u8], length, ends, position| {
        assert_eq!(session.read_in_transaction(bytes), TransactionReading::GoesOn(length, ends, position));
    };
    let read = [run("SELECT reads(1) FROM t", 10), sync()].concat();
    for length in 0..read.len() {
        assert_eq!(session.read_in_transaction(&read[..length]), TransactionReading::Incomplete, "{length}");
    }
    let shown = Some(Lsn(100));
    goes_on(&session, &read, read.len(), TransactionPiece::Unit, shown);
    // What follows is judged by itself.
    let more = [&read[..], &query("LISTEN a")].concat();
    goes_on(&session, &more, read.len(), TransactionPiece::Unit, shown);
    let flushed = [&run("SELECT 1", 0)[..], FLUSH].concat();
    goes_on(&session, &[&flushed[..], &sync()].concat(), flushed.len(), TransactionPiece::Flushed, shown);
    let portal = [execute("opened_before", 10), sync()].concat();
    goes_on(&session, &portal, portal.len(), TransactionPiece::Unit, None);
}

#[test]
fn inside_a_transaction_nothing_goes_on_that_only_the_primary_may_run() {
    let mut session = session();
    begins(&mut session, "BEGIN READ ONLY").expect("it begins");
    let run = |sql: &str| [parse("", sql, &[]), bind("", ""), execute("", 0)].concat();
    for sql in ["SELECT swallows()", "SELECT missing()", "LISTEN a", "SELECT 1; SELECT 2"] {
        assert_eq!(session.read_in_transaction(&query(sql)), TransactionReading::Other, "{sql}");
        assert_eq!(
            session.read_in_transaction(&[run(sql), sync()].concat()),
            TransactionReading::Other,
            "{sql}"
        );
    }
    let behind_the_end = [run("COMMIT"), run("SELECT 1"), sync()].concat();
    assert_eq!(session.read_in_transaction(&behind_the_end), TransactionReading::Other);
    // What follows it would be judged as inside the transaction.
    let flushed_end = [&run("COMMIT")[..], FLUSH].concat();
    assert_eq!(session.read_in_transaction(&flushed_end), TransactionReading::Other);
    assert_eq!(
        session.read_in_transaction(&[bind("", "unknown"), sync()].concat()),
        TransactionReading::Other
    );
    let long = query(&format!("SELECT '{}'", "x".repeat(UNIT_BYTES_MAX)));
    assert_eq!(session.read_in_transaction(&long), TransactionReading::Other);
    for sql in ["COMMIT", "INSERT INTO t VALUES (1)", "FETCH c"] {
        let unit = query(sql);
        assert!(matches!(session.read_in_transaction(&unit), TransactionReading::GoesOn(..)), "{sql}");
    }
    session.fail_transaction(bytes(|out| write::ready_for_query(out, TransactionStatus::Failed)).into());
    assert_eq!(session.transaction_status(), TransactionStatus::Failed);
    assert!(session.has_deferred_error() && !session.is_between_units_of_transaction());
}
