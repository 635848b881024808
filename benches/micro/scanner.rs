//! Nanoseconds per message of the scanner, both directions, small messages and rows.

mod chunks;

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trunkline_codec::scan::Scanner;

/// Size of one read of the relay.
const CHUNK: usize = 64 * 1024;

fn rows(row_bytes: usize) -> BytesMut {
    let row = chunks::row(row_bytes);
    BytesMut::from(&row.repeat(CHUNK.div_ceil(row.len()))[..])
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
    let cases = [
        ("answer", Scanner::backend(), chunks::answer()),
        ("rows_24", Scanner::backend(), rows(24)),
        ("rows_1k", Scanner::backend(), rows(1024)),
        ("rows_8k", Scanner::backend(), rows(8192)),
        ("query", Scanner::frontend(), chunks::query()),
    ];
    for (name, scanner, chunk) in cases {
        let mut scanner = chunks::logged_in(scanner);
        group.throughput(Throughput::Elements(count(&mut scanner, &chunk)));
        group.bench_function(name, |b| b.iter(|| count(&mut scanner, black_box(&chunk))));
    }
    group.finish();
}

criterion_group!(benches, scanner);
criterion_main!(benches);
