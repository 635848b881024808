//! Nanoseconds to make a session's state into messages for another server, and to read the answers. A move costs
//! a login besides, which is a thousand times as much.

#[expect(dead_code, reason = "only its session is of use here")]
mod journeys;

use std::time::Instant;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::write;
use trunkline_session::{ConnectionState, Mobility, Session, diff};

/// Statements a pool's connection has prepared.
const STATEMENTS: usize = 50;
const SETTINGS: [&str; 3] =
    ["SET TIME ZONE 'UTC'", "SET application_name = 'app'", "SET statement_timeout = 5000"];

/// A session with settings and, beside the one it begins with, statements.
fn used_session() -> Session {
    let mut session = journeys::session(Mobility::Movable, 0);
    for sql in SETTINGS {
        let (mut request, mut answer) = (BytesMut::new(), BytesMut::new());
        write::query(&mut request, sql.as_bytes()).expect("no NUL");
        write::command_complete(&mut answer, b"SET").expect("a short tag");
        exchange(&mut session, &request, answer);
    }
    for number in 0..STATEMENTS {
        let mut request = BytesMut::new();
        let sql = format!("SELECT * FROM a_table_of_some_name WHERE id = $1 AND part = {number}");
        write::parse(&mut request, format!("s_{number}").as_bytes(), sql.as_bytes(), &[]).expect("no NUL");
        write::sync(&mut request);
        exchange(&mut session, &request, BytesMut::from(&b"1\0\0\0\x04"[..]));
    }
    session
}

fn exchange(session: &mut Session, request: &[u8], mut answer: BytesMut) {
    write::ready_for_query(&mut answer, TransactionStatus::Idle);
    let step = session.handle_client(request, Instant::now(), &mut ());
    assert_eq!(step.forward, request.len());
    let step = session.handle_server(&answer, Instant::now(), &mut ());
    assert_eq!(step.forward, answer.len());
}

/// What a server says to all of it.
fn answers() -> BytesMut {
    let mut out = BytesMut::new();
    for _ in SETTINGS {
        out.extend_from_slice(b"1\0\0\0\x042\0\0\0\x04");
        write::command_complete(&mut out, b"SET").expect("a short tag");
    }
    (0..STATEMENTS + 1).for_each(|_| out.extend_from_slice(b"1\0\0\0\x04"));
    out.extend_from_slice(b"3\0\0\0\x04");
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    out
}

fn align(c: &mut Criterion) {
    let (session, answers) = (used_session(), answers());
    let mut group = c.benchmark_group("align");
    group.bench_function("write", |b| b.iter(|| diff(&ConnectionState::default(), &session.state())));
    let alignment = diff(&ConnectionState::default(), &session.state());
    group.bench_function("read", |b| {
        b.iter(|| {
            let step = alignment.reader().handle(&answers).expect("the answers due");
            assert!(step.done);
        });
    });
    group.finish();
}

criterion_group!(benches, align);
criterion_main!(benches);
