//! A query like one that was seen before costs no allocation.

use std::alloc::System;
use std::sync::Arc;
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use trunkline_session::{Mobility, ReportTiming, ServerRole, Session, SessionSettings, Tracking, diff};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

/// Requests and answers of a simple, a prepared and an extended query.
fn conversations() -> [(Vec<u8>, Vec<u8>); 3] {
    let [bind, execute, sync] =
        [message(b'B', b"\0s1\0\0\0\0\0\0\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")];
    let [ready, rows] = [message(b'Z', b"I"), message(b'D', b"\0\x01\0\0\0\x011").repeat(3)];
    let complete = message(b'C', b"SELECT 3\0");
    let simple = message(b'Q', b"select 1 from a_table where id = 42\0");
    let simple_answer = [message(b'T', b"\0\0"), rows.clone(), complete.clone(), ready.clone()].concat();
    let prepared = [bind, execute.clone(), sync.clone()].concat();
    let prepared_answer = [message(b'2', b""), rows.clone(), complete.clone(), ready.clone()].concat();
    let extended = [
        message(b'P', b"\0select 1 from a_table where id = $1\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        message(b'D', b"P\0"),
        execute,
        sync,
    ];
    let extended_answer =
        [message(b'1', b""), message(b'2', b""), message(b'T', b"\0\0"), rows, complete, ready].concat();
    [(simple, simple_answer), (prepared, prepared_answer), (extended.concat(), extended_answer)]
}

fn exchange(session: &mut Session, request: &[u8], answer: &[u8], now: Instant) {
    let step = session.handle_client(request, now, &mut ());
    assert_eq!(step.forward, request.len());
    let step = session.handle_server(answer, now, &mut ());
    assert_eq!(step.forward, answer.len());
    assert!(session.is_idle());
}

fn main() {
    queries_in_steady_state_allocate_nothing();
    println!("queries in steady state allocate nothing: ok");
    a_connection_checked_in_and_out_unchanged_allocates_nothing();
    println!("a connection checked in and out unchanged allocates nothing: ok");
}

/// A session with a prepared statement that is described.
fn prepared(now: Instant) -> Session {
    let settings = SessionSettings {
        sql_bytes_max: 1000,
        report_timing: ReportTiming::Off,
        server: Arc::from("replica1"),
        tracking: Tracking::Full,
        mobility: Mobility::Movable,
        statement_names: trunkline_session::StatementNames::OfClient,
        role: ServerRole::Standby,
        parameters: Arc::default(),
    };
    let mut session = Session::new(settings, now);
    let parse = [message(b'P', b"s1\0select 1\0\0\0"), message(b'S', b"")].concat();
    let parsed = [message(b'1', b""), message(b'Z', b"I")].concat();
    exchange(&mut session, &parse, &parsed, now);
    assert!(session.questions().is_some(), "what the client did not ask");
    let described = [message(b't', b"\0\0"), message(b'T', b"\0\0"), message(b'Z', b"I")].concat();
    let step = session.handle_server(&described[..7], now, &mut ());
    assert_eq!((step.forward, step.dropped), (0, 7));
    assert_eq!(session.handle_server(&described[7..], now, &mut ()).dropped, 7);
    assert_eq!(session.handle_server(&described[14..], now, &mut ()).dropped, 6);
    session
}

/// Two sessions with equal settings and statements take turns on two connections.
fn a_connection_checked_in_and_out_unchanged_allocates_nothing() {
    let now = Instant::now();
    let server: Arc<str> = Arc::from("replica1");
    let mut sessions = [prepared(now), prepared(now)];
    let set = message(b'Q', b"set work_mem = '1MB'\0");
    let done = [message(b'C', b"SET\0"), message(b'Z', b"I")].concat();
    for session in &mut sessions {
        exchange(session, &set, &done, now);
    }
    let conversations = conversations();
    let mut idle = [None, None];
    let mut turn = |number: usize| {
        let session = &mut sessions[number % 2];
        for (request, answer) in &conversations {
            if let Some(from) = idle[number / 2 % 2].take() {
                assert!(diff(&from, &session.state()).is_empty());
                let announce = session.differences_on(&from, b"");
                session.connection_taken(Arc::clone(&server), ServerRole::Standby, announce, &from);
            }
            exchange(session, request, answer, now);
            let state = session.check_in_state().expect("nothing pins it");
            assert_eq!(state.fingerprint(), session.state().fingerprint());
            idle[number / 2 % 2] = Some(state);
        }
    };
    (0..16).for_each(&mut turn);
    let region = Region::new(ALLOCATOR);
    (0..1000).for_each(&mut turn);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
}

fn queries_in_steady_state_allocate_nothing() {
    let now = Instant::now();
    let mut session = prepared(now);
    let conversations = conversations();
    let mut run = |times: usize| {
        for (request, answer) in &conversations {
            (0..times).for_each(|_| exchange(&mut session, request, answer, now));
        }
    };
    run(3);
    let region = Region::new(ALLOCATOR);
    run(1000);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
}
