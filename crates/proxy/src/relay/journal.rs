//! The bytes of a session's first request, kept until something of its answer has gone to the client.
//!
//! While it is whole, a standby that dies can be replaced unnoticed: the session has no state yet, a standby
//! cannot have written anything, and so the request may simply be sent again.

use trunkline_codec::backend::ErrorFields;
use trunkline_codec::sqlstate::SqlState;

/// Bytes kept; a longer first request is not sent again.
pub(super) const JOURNAL_BYTES_MAX: usize = 64 * 1024;

/// What reaches beyond the standby it runs on, or lives only there: never run twice. Lower case.
///
/// Functions that call these cannot be seen; docs/failover.md says so.
const NEVER_TWICE: &[&str] = &[
    "dblink",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "alter system",
    "pg_rotate_logfile",
    "pg_wal_replay_",
    "pg_promote",
    "pg_stat_reset",
    "replication_slot",
    "checkpoint",
    "to program",
    "lo_export",
    "pg_log_backend_memory_contexts",
    "pg_backup_start",
    "pg_start_backup",
    "advisory_lock",
    "pg_sleep",
];

#[derive(Debug)]
pub(super) struct Journal(Option<Vec<u8>>);

impl Journal {
    pub(super) fn open() -> Self {
        Journal(Some(Vec::new()))
    }

    pub(super) fn closed() -> Self {
        Journal(None)
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Adds what goes to the server.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let Some(kept) = &mut self.0 else { return };
        if kept.len() + bytes.len() > JOURNAL_BYTES_MAX {
            self.0 = None;
        } else {
            kept.extend_from_slice(bytes);
        }
    }

    /// Something of the answer has gone to the client: it cannot be unsaid.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    /// The request, if it may be sent again.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.0.take().filter(|bytes| is_harmless(bytes))
    }
}

fn is_harmless(bytes: &[u8]) -> bool {
    let text = bytes.to_ascii_lowercase();
    !NEVER_TWICE.iter().any(|word| text.windows(word.len()).any(|window| window == word.as_bytes()))
}

/// Whether the first thing a server says is that it is going away: as good as gone.
pub(super) fn is_farewell(chunk: &[u8]) -> bool {
    let Some((header, rest)) = chunk.split_first_chunk::<5>() else { return false };
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let Some(body) = length.checked_sub(4).and_then(|length| rest.get(..length)) else { return false };
    if !matches!(header[0], b'E' | b'N') {
        return false;
    }
    let fields = ErrorFields::new(body);
    let leaving = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    fields.sqlstate().is_some_and(|code| leaving.contains(&code)) && (fields.is_fatal() || header[0] == b'N')
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use trunkline_codec::write::{ErrorReport, Severity, error_response, notice_response};

    #[test]
    fn a_request_past_the_limit_is_not_kept() {
        let mut journal = Journal::open();
        journal.note(&vec![b'x'; JOURNAL_BYTES_MAX]);
        assert!(journal.is_open());
        journal.note(b"x");
        assert!(!journal.is_open());
    }

    #[test]
    fn what_reaches_beyond_the_standby_is_never_sent_again() {
        let mut journal = Journal::open();
        journal.note(b"Q....SELECT PG_Terminate_Backend(1)");
        assert_eq!(journal.take(), None);
        let mut journal = Journal::open();
        journal.note(b"Q....SELECT 1");
        assert_eq!(journal.take().as_deref(), Some(&b"Q....SELECT 1"[..]));
    }

    #[test]
    fn only_a_whole_farewell_is_one() {
        let mut out = BytesMut::new();
        error_response(&mut out, &ErrorReport::fatal(SqlState::ADMIN_SHUTDOWN, "bye"));
        assert!(is_farewell(&out));
        assert!((0..out.len()).all(|cut| !is_farewell(&out[..cut])));
        out.clear();
        let notice = ErrorReport {
            severity: Severity::Warning,
            ..ErrorReport::fatal(SqlState::ADMIN_SHUTDOWN, "bye")
        };
        notice_response(&mut out, &notice);
        assert!(is_farewell(&out));
        out.clear();
        error_response(&mut out, &ErrorReport::error(SqlState::QUERY_CANCELED, "no"));
        assert!(!is_farewell(&out));
    }
}
