//! User instructions of the scanner and of a query's journey through the session, with a ceiling each.
//!
//! `make bench-instructions` runs them under Valgrind, whose count is the same on a busy machine. The ceilings are 4 %
//! above what was counted with the profile `release` (fat LTO, as it is shipped) and rustc 1.95 on x86-64. Who makes
//! one of them cheaper lowers its ceiling; who has to make it dearer raises it, and says why in the commit.

#![expect(missing_docs, reason = "the macros make public modules and constants")]

#[path = "../micro/chunks/mod.rs"]
mod chunks;
#[path = "../micro/journeys/mod.rs"]
mod journeys;

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind, OutputFormat};
use trunkline_codec::scan::Scanner;
use trunkline_session::{Mobility, Session};

use crate::chunks::{answer, query};
use crate::journeys::Journey;

/// Times that each is done while instructions are counted, after as many that are not.
const TIMES: usize = 100;

/// Percent that a ceiling is raised by; for another compiler than the one they were counted with.
const HEAD_ROOM: &str = "TRUNKLINE_CEILING_HEAD_ROOM";

/// Fails the benchmark above so many instructions each time.
fn ceiling(instructions: u64) -> LibraryBenchmarkConfig {
    let head_room: u64 = std::env::var(HEAD_ROOM).ok().and_then(|percent| percent.parse().ok()).unwrap_or(0);
    let limit = instructions * TIMES as u64 * (100 + head_room) / 100;
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, limit)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind).output_format(OutputFormat::default().truncate_description(Some(0)));
    config
}

/// Bytes of one direction, and where each read of them ends.
struct Reads {
    scanner: Scanner,
    bytes: BytesMut,
    ends: Vec<usize>,
}

impl Reads {
    fn whole(scanner: Scanner, bytes: BytesMut) -> Self {
        let ends = vec![bytes.len()];
        Self::new(scanner, bytes, ends)
    }

    /// Reads of `size` bytes, the first of `first`.
    fn parts(scanner: Scanner, bytes: BytesMut, first: usize, size: usize) -> Self {
        let ends = (first..bytes.len()).step_by(size).chain([bytes.len()]).collect();
        Self::new(scanner, bytes, ends)
    }

    fn new(scanner: Scanner, bytes: BytesMut, ends: Vec<usize>) -> Self {
        let mut reads = Self { scanner: chunks::logged_in(scanner), bytes, ends };
        (0..TIMES).for_each(|_| reads.scan());
        reads
    }

    #[inline(never)]
    fn scan(&mut self) {
        let mut at = 0;
        for end in &self.ends {
            while let Ok(Some(piece)) = self.scanner.next(&self.bytes[..*end], &mut at) {
                black_box(piece);
            }
        }
        assert_eq!(at, self.bytes.len());
    }
}

fn rows_1000(row_bytes: usize) -> BytesMut {
    BytesMut::from(&chunks::row(row_bytes).repeat(1000)[..])
}

/// Rows of 1 byte, of which each read ends in the middle of the next one's header.
fn split_headers() -> Reads {
    let rows = rows_1000(1);
    let row = rows.len() / 1000;
    Reads::parts(Scanner::backend(), rows, row + 3, row)
}

/// A message of 1 MiB in reads of 16 KiB.
fn long_message() -> Reads {
    Reads::parts(Scanner::backend(), chunks::row(1 << 20), 4096, 16384)
}

#[library_benchmark]
#[bench::query(args = (Reads::whole(Scanner::frontend(), query())), config = ceiling(109))]
#[bench::answer(args = (Reads::whole(Scanner::backend(), answer())), config = ceiling(255))]
#[bench::rows_1000(args = (Reads::whole(Scanner::backend(), rows_1000(24))), config = ceiling(48_900))]
#[bench::split_headers(args = (split_headers()), config = ceiling(69_700))]
#[bench::long_message(args = (long_message()), config = ceiling(5_520))]
fn scanner(mut reads: Reads) -> Reads {
    (0..TIMES).for_each(|_| reads.scan());
    reads
}

fn ready(mobility: Mobility, name: &str) -> (Session, Journey) {
    let mut session = journeys::session(mobility, 0);
    let journey =
        journeys::journeys().into_iter().find(|journey| journey.name == name).expect("a journey's name");
    let now = Instant::now();
    (0..TIMES).for_each(|_| journey.travel(&mut session, now));
    (session, journey)
}

#[library_benchmark]
#[bench::fixed_simple(args = (ready(Mobility::Fixed, "simple")), config = ceiling(1_370))]
#[bench::fixed_extended(args = (ready(Mobility::Fixed, "extended")), config = ceiling(2_520))]
#[bench::fixed_prepared(args = (ready(Mobility::Fixed, "prepared")), config = ceiling(2_160))]
#[bench::fixed_rows_1000(args = (ready(Mobility::Fixed, "rows_1000")), config = ceiling(70_000))]
#[bench::movable_simple(args = (ready(Mobility::Movable, "simple")), config = ceiling(2_430))]
#[bench::movable_extended(args = (ready(Mobility::Movable, "extended")), config = ceiling(4_700))]
#[bench::movable_prepared(args = (ready(Mobility::Movable, "prepared")), config = ceiling(2_920))]
#[bench::movable_rows_1000(args = (ready(Mobility::Movable, "rows_1000")), config = ceiling(71_000))]
fn session((mut session, journey): (Session, Journey)) -> (Session, Journey) {
    let now = Instant::now();
    (0..TIMES).for_each(|_| journey.travel(&mut session, now));
    (session, journey)
}

library_benchmark_group!(name = instructions, benchmarks = [scanner, session]);
main!(library_benchmark_groups = instructions);
