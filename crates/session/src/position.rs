//! Asks a server after the login how far it has replayed: a session must not go back in time.

use bytes::BytesMut;
use trunkline_codec::backend::{BackendTag, DataRow};
use trunkline_codec::ids::{Lsn, TimelineId};
use trunkline_codec::scan::{FrameError, Piece, ScanPhase, Scanner};
use trunkline_codec::write;

/// Names no schema but PostgreSQL's own, so that the user's settings do not matter.
const QUESTION: &[u8] = b"SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
    THEN pg_catalog.pg_last_wal_replay_lsn() END";

/// Where a primary writes next: behind all that was committed, flushed or not.
const INSERT_QUESTION: &[u8] = b"SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() \
    THEN pg_catalog.pg_current_wal_insert_lsn() END";

/// The timeline that a primary writes, and where it writes next. The name of any segment begins with the timeline.
pub(crate) const WRITTEN_QUESTION: &[u8] =
    b"SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(w.lsn), 1, 8), w.lsn \
    FROM (SELECT pg_catalog.pg_current_wal_insert_lsn()) AS w (lsn)";

/// Reads the row that answers [`WRITTEN_QUESTION`].
pub(crate) fn written_position(row: &[u8]) -> Option<(TimelineId, Lsn)> {
    let row = DataRow::parse(row).ok()?;
    let mut values = row.values().map(|value| std::str::from_utf8(value?).ok());
    let (timeline, lsn) = (values.next()??, values.next()??);
    let timeline = u32::from_str_radix(timeline, 16).ok()?;
    Some((TimelineId(timeline), lsn.parse().ok()?))
}

/// How much a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Everything: it is not a standby.
    Everything,
    /// The WAL up to here.
    UpTo(Lsn),
    /// Unknown: it did not answer.
    Untold,
}

/// Appends the question, one Query.
pub fn ask_position(out: &mut BytesMut) {
    let written = write::query(out, QUESTION);
    debug_assert!(written.is_ok(), "it is short and has no NUL");
}

/// Appends the question where a primary writes next, one Query. Of a standby the answer is [`Position::Everything`].
pub fn ask_insert_position(out: &mut BytesMut) {
    let written = write::query(out, INSERT_QUESTION);
    debug_assert!(written.is_ok(), "it is short and has no NUL");
}

/// Reads the answer to [`ask_position`] or [`ask_insert_position`].
#[derive(Debug)]
pub struct PositionReader {
    scanner: Scanner,
    position: Position,
    is_done: bool,
}

impl Default for PositionReader {
    fn default() -> Self {
        let mut scanner = Scanner::backend();
        scanner.set_phase(ScanPhase::Normal);
        PositionReader { scanner, position: Position::Untold, is_done: false }
    }
}

impl PositionReader {
    /// Takes what the server sent: the rest of the last chunk, and what came since. Gives how many bytes from the
    /// front are dealt with, and the position once the answer is complete. If the server refuses, the position is
    /// unknown.
    ///
    /// # Errors
    /// When the server breaks the framing.
    pub fn handle(&mut self, chunk: &[u8]) -> Result<(usize, Option<Position>), FrameError> {
        let mut at = 0;
        while !self.is_done {
            let (tag, body) = match self.scanner.next(chunk, &mut at)? {
                None => break,
                Some(Piece::Message { tag, body } | Piece::Start { tag, body, .. }) => (tag, body),
                Some(Piece::More { .. }) => continue,
            };
            match BackendTag::from_byte(tag) {
                BackendTag::DataRow => self.position = position(body),
                BackendTag::ReadyForQuery => self.is_done = true,
                _others => {}
            }
        }
        Ok((at, self.is_done.then_some(self.position)))
    }
}

fn position(row: &[u8]) -> Position {
    let Ok(row) = DataRow::parse(row) else { return Position::Untold };
    match row.values().next() {
        Some(None) => Position::Everything,
        Some(Some(value)) => {
            let lsn = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            lsn.map_or(Position::Untold, Position::UpTo)
        }
        None => Position::Untold,
    }
}

#[cfg(test)]
mod tests {
    use trunkline_codec::backend::TransactionStatus;
    use trunkline_codec::sqlstate::SqlState;
    use trunkline_codec::write::ErrorReport;

    use super::*;

    fn read(answer: &[u8], behind: &[u8]) -> Option<Position> {
        let mut bytes = BytesMut::from(answer);
        write::ready_for_query(&mut bytes, TransactionStatus::Idle);
        let length = bytes.len();
        bytes.extend_from_slice(behind);
        let mut reader = PositionReader::default();
        // As it might come: all but the last byte first.
        let (first, told) = reader.handle(&bytes[..length - 1]).expect("valid");
        assert_eq!(told, None);
        let (second, told) = reader.handle(&bytes[first..]).expect("valid");
        assert_eq!(first + second, length, "what follows is not its own");
        told
    }

    fn row(value: Option<&[u8]>) -> BytesMut {
        let mut body = BytesMut::from(&1_u16.to_be_bytes()[..]);
        match value {
            Some(value) => {
                body.extend_from_slice(&u32::try_from(value.len()).expect("short").to_be_bytes());
                body.extend_from_slice(value);
            }
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
        let mut out = BytesMut::from(&b"D"[..]);
        out.extend_from_slice(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    #[test]
    fn a_server_tells_what_it_shows() {
        assert_eq!(read(&row(Some(b"16/B374D848")), b"1...."), Some(Position::UpTo(Lsn(0x16_B374_D848))));
        assert_eq!(read(&row(None), b""), Some(Position::Everything));
        assert_eq!(read(&row(Some(b"soon")), b""), Some(Position::Untold));
        let mut refused = BytesMut::new();
        let report = ErrorReport::fatal(SqlState::FEATURE_NOT_SUPPORTED, "no");
        trunkline_codec::write::error_response(&mut refused, &report);
        assert_eq!(read(&refused, b""), Some(Position::Untold));
    }
}
