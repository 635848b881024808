//! What the scanner is given, of both directions.

use bytes::BytesMut;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::scan::{ScanPhase, Scanner};
use trunkline_codec::write;

/// The answer to a query of one row.
pub(crate) fn answer() -> BytesMut {
    let mut chunk = BytesMut::new();
    write::row_description(&mut chunk, [&b"?column?"[..]]).expect("one short name");
    chunk.extend_from_slice(&row(1));
    write::command_complete(&mut chunk, b"SELECT 1").expect("a short tag");
    write::ready_for_query(&mut chunk, TransactionStatus::Idle);
    chunk
}

/// One row of one column of `bytes`.
pub(crate) fn row(bytes: usize) -> BytesMut {
    let mut row = BytesMut::new();
    write::data_row(&mut row, [Some(&vec![b'x'; bytes][..])]).expect("within a message's limit");
    row
}

/// A query as pgbench sends it.
pub(crate) fn query() -> BytesMut {
    let mut chunk = BytesMut::new();
    write::query(&mut chunk, b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;").expect("no NUL");
    chunk
}

/// A scanner after the login.
pub(crate) fn logged_in(mut scanner: Scanner) -> Scanner {
    scanner.set_phase(ScanPhase::Normal);
    scanner
}
