//! Nanoseconds per message of the scanner, both directions, small messages and rows.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::scan::{Phase, Scanner};
use trunkline_codec::write;

/// Size of one read of the relay.
const CHUNK: usize = 64 * 1024;

fn rows(row_bytes: usize) -> BytesMut {
    let mut chunk = BytesMut::new();
    let value = vec![b'x'; row_bytes];
    while chunk.len() < CHUNK {
        write::data_row(&mut chunk, [Some(&value[..])]).expect("within a message's limit");
    }
    chunk
}

fn answer() -> BytesMut {
    let mut chunk = BytesMut::new();
    write::row_description(&mut chunk, [&b"?column?"[..]]).expect("one short name");
    write::data_row(&mut chunk, [Some(&b"1"[..])]).expect("a short row");
    write::command_complete(&mut chunk, b"SELECT 1").expect("a short tag");
    write::ready_for_query(&mut chunk, TransactionStatus::Idle);
    chunk
}

fn count(scanner: &mut Scanner, chunk: &[u8]) -> u64 {
    let (mut at, mut messages) = (0, 0);
    while let Ok(Some(piece)) = scanner.next(chunk, &mut at) {
        black_box(piece);
        messages += 1;
    }
    messages
}

fn scanner(c: &mut Criterion) {
    let mut group = c.benchmark_group("scanner");
    let cases =
        [("answer", answer()), ("rows_24", rows(24)), ("rows_1k", rows(1024)), ("rows_8k", rows(8192))];
    for (name, chunk) in cases {
        let mut scanner = Scanner::backend();
        scanner.set_phase(Phase::Normal);
        group.throughput(Throughput::Elements(count(&mut scanner, &chunk)));
        group.bench_function(name, |b| b.iter(|| count(&mut scanner, black_box(&chunk))));
    }
    let mut query = BytesMut::new();
    write::query(&mut query, b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;").expect("no NUL");
    let mut scanner = Scanner::frontend();
    scanner.set_phase(Phase::Normal);
    group.throughput(Throughput::Elements(1));
    group.bench_function("query", |b| b.iter(|| count(&mut scanner, black_box(&query))));
    group.finish();
}

criterion_group!(benches, scanner);
criterion_main!(benches);
