//! Whole journeys of queries through a session, as pgbench sends them and PostgreSQL answers.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::Target;
use trunkline_codec::write;
use trunkline_session::{Mobility, ReportTiming, Rewritten, ServerRole, Session, SessionSettings, Tracking};

const SQL: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";

/// What a client sends, and what it is answered.
pub(crate) struct Journey {
    /// In pgbench's words.
    pub(crate) name: &'static str,
    request: BytesMut,
    answer: BytesMut,
}

/// A session as the relay makes it, without the SQL of statements unless `sql_bytes_max` says so.
pub(crate) fn session(mobility: Mobility, sql_bytes_max: usize) -> Session {
    let settings = SessionSettings {
        sql_bytes_max,
        report_timing: ReportTiming::Off,
        server: Arc::from("replica1"),
        tracking: Tracking::Full,
        mobility,
        statement_names: trunkline_session::StatementNames::OfClient,
        role: ServerRole::Standby,
        parameters: Arc::default(),
    };
    let mut session = Session::new(settings, Instant::now());
    // Parses the statement that the prepared journey is about.
    let mut parse = BytesMut::new();
    write::parse(&mut parse, b"s1", SQL, &[]).expect("no NUL");
    write::sync(&mut parse);
    let mut parsed = BytesMut::from(&b"1\0\0\0\x04"[..]);
    write::ready_for_query(&mut parsed, TransactionStatus::Idle);
    Journey { name: "parse", request: parse, answer: parsed }.travel(&mut session, Instant::now());
    if session.questions().is_some() {
        answer_questions(&mut session);
    }
    session
}

/// Tells the proxy itself what that statement takes and returns, as the server would.
fn answer_questions(session: &mut Session) {
    let mut answer = BytesMut::from(&b"t\0\0\0\x06\0\0"[..]);
    write::row_description(&mut answer, [&b"abalance"[..]]).expect("one short name");
    write::ready_for_query(&mut answer, TransactionStatus::Idle);
    while !answer.is_empty() {
        let step = session.handle_server(&answer, Instant::now(), &mut ());
        assert!(step.dropped > 0, "an answer of the proxy's own goes to nobody");
        let _own = answer.split_to(step.dropped);
    }
}

/// The journeys, and a result of many rows.
pub(crate) fn journeys() -> [Journey; 4] {
    let of = |name, request, answer| Journey { name, request, answer };
    [
        of("simple", query(), answer(&[], 1)),
        of("extended", extended(b"", true), answer(b"12", 1)),
        of("prepared", extended(b"s1", false), answer(b"2", 1)),
        of("rows_1000", query(), answer(&[], 1000)),
    ]
}

impl Journey {
    /// Takes one query there and its answer back.
    pub(crate) fn travel(&self, session: &mut Session, now: Instant) {
        let mut rewritten = Rewritten::default();
        let step = session.handle_client_renaming(&self.request, now, &mut rewritten, &mut ());
        assert_eq!(step.forward, self.request.len());
        let step = session.handle_server_renaming(&self.answer, now, &mut rewritten, &mut ());
        assert_eq!(step.forward, self.answer.len());
    }
}

fn query() -> BytesMut {
    let mut out = BytesMut::new();
    write::query(&mut out, SQL).expect("no NUL");
    out
}

fn extended(statement: &[u8], is_parsed: bool) -> BytesMut {
    let mut out = BytesMut::new();
    if is_parsed {
        write::parse(&mut out, statement, SQL, &[]).expect("no NUL");
    }
    write::bind(&mut out, b"", statement, []).expect("short names");
    write::describe(&mut out, Target::Portal, b"").expect("a short name");
    write::execute(&mut out, b"", 0).expect("a short name");
    write::sync(&mut out);
    out
}

fn answer(before: &[u8], rows: usize) -> BytesMut {
    let mut out = BytesMut::new();
    before.iter().for_each(|tag| out.extend_from_slice(&[*tag, 0, 0, 0, 4]));
    write::row_description(&mut out, [&b"abalance"[..]]).expect("one short name");
    (0..rows).for_each(|_| write::data_row(&mut out, [Some(&b"0"[..])]).expect("a short row"));
    write::command_complete(&mut out, format!("SELECT {rows}").as_bytes()).expect("a short tag");
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    out
}
