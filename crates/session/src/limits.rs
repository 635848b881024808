//! Bounds on what one session may hold.

pub use trunkline_codec::limits::NAME_BYTES_MAX;

/// Requests sent to the server and not yet answered; beyond it the client is not read until half
/// of them are.
///
/// A server may keep 8 KiB of answers to itself until a Sync or Flush asks for them
/// (PostgreSQL 18, src/backend/libpq/pqcomm.c, `PQ_SEND_BUFFER_SIZE`), which is 1638 of the
/// shortest. Half of this bound is more than that: otherwise the session could wait for answers
/// that the server does not send before it gets the Sync that waits after them.
pub const OUTSTANDING_MAX: usize = 4096;

/// SQL kept of a session's statements, in bytes: at most [`PREPARED_BYTES_MAX`] of those that are prepared, and those that
/// were replaced while they run.
pub const STATEMENT_TEXT_BYTES_MAX: usize = 2 * PREPARED_BYTES_MAX;

/// SQL kept for the log only, in bytes. A request beyond it has no SQL there.
pub const LOG_TEXT_BYTES_MAX: usize = 1 << 20;

/// Named portals whose statement is remembered. They end with their transaction.
pub const PORTALS_MAX: usize = 256;

/// Bytes kept of a command tag.
/// Source: PostgreSQL 18, src/include/tcop/cmdtag.h: the longest tag has 32 characters
/// (`ALTER TEXT SEARCH CONFIGURATION` and its like); `INSERT 0` with 20 digits has 29.
pub const TAG_BYTES_MAX: usize = 32;

/// Bytes of the prepared statements kept for another server, names and SQL. Beyond it the session
/// is pinned while it has them.
pub const PREPARED_BYTES_MAX: usize = 1 << 20;

/// Prepared statements kept, for another server and for the log.
pub const PREPARED_MAX: usize = 4096;

/// Bytes of the settings kept for another server.
pub const SETTING_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the ParameterStatus messages kept beyond those of the login.
pub const PARAMETER_BYTES_MAX: usize = 16 * 1024;

/// Parameters that a server may report at the login, and as many afterwards; PostgreSQL 18 reports fifteen. A session whose
/// server reports more at the login stays on it; one more afterwards ends the session. Each message costs a look at all of them.
pub const PARAMETERS_MAX: usize = 64;

/// Bytes of the ParameterStatus messages a server may send while it is aligned.
pub const ALIGNMENT_PARAMETERS_MAX: usize = 64 * 1024;

/// Bytes of a row that is kept of the answers to an alignment: that of a fingerprint.
pub const ALIGNMENT_ROW_MAX: usize = 1024;

/// Longest beginning of an answer that is held back until its first row, in bytes: what a server
/// sends at once.
/// Source: PostgreSQL 18, src/backend/libpq/pqcomm.c, `PQ_SEND_BUFFER_SIZE`.
pub const HELD_BYTES_MAX: usize = 8 * 1024;

/// Longest unit that is judged before a server is chosen for it, in bytes: a longer one goes to the primary.
pub const UNIT_BYTES_MAX: usize = 16 * 1024;

/// Statements named, or portals bound, in a unit that is judged.
pub const UNIT_STATEMENTS_MAX: usize = 64;

/// Statements of one Query that are read; a Query of more pins when one of them is not plain.
pub const QUERY_STATEMENTS_MAX: usize = 256;

/// Changes of settings and savepoints kept of one transaction.
pub const STAGED_MAX: usize = 1024;

/// Cursors WITH HOLD whose names are kept.
pub const HOLD_CURSORS_MAX: usize = 64;

/// Channels of LISTEN whose names are kept.
pub const CHANNELS_MAX: usize = 64;

/// Depth to which an EXECUTE of a statement that is itself an EXECUTE is followed.
pub const EXECUTE_DEPTH_MAX: usize = 8;

/// Statements looked up for one EXECUTE; where its name may stand for more, it pins.
pub const EXECUTE_LOOKUPS_MAX: usize = 64;

/// Longest series of extended messages, in bytes, that is held until its Sync to see whether it is only a ROLLBACK.
pub const ROLLBACK_SERIES_MAX: usize = 1024;

/// Longest Bind, in bytes, that is held until the next message has arrived, to see whether that describes its portal.
pub const BIND_HELD_BYTES_MAX: usize = 4096;

/// Statements that the proxy describes at one idle point.
pub const QUESTIONS_MAX: usize = 256;

/// Statements prepared again before one message that uses them.
pub const REFERENCES_MAX: usize = 256;

/// Settings that functions may have changed and that are read back at once.
pub const READ_BACK_MAX: usize = 64;

/// Longest name of such a setting, in bytes; one that is longer pins.
pub const SETTING_NAME_MAX: usize = 128;

/// Transactions of a session after which the server is asked whether what pins it is still there, if none of them may have
/// ended it by its SQL. Twice as many after each question in vain, up to [`PIN_TRANSACTIONS_MAX`].
pub const PIN_TRANSACTIONS_MIN: u16 = 16;

/// See [`PIN_TRANSACTIONS_MIN`].
pub const PIN_TRANSACTIONS_MAX: u16 = 4096;

/// Questions in vain until not every transaction that may have ended a reason by its SQL leads to the next one, but every
/// second, then every fourth, and so on up to [`PIN_HINTS_MAX`]: a try that got its lock, and its unlock, are asked about.
pub const PIN_QUESTIONS_AT_ONCE: u8 = 2;

/// See [`PIN_QUESTIONS_AT_ONCE`].
pub const PIN_HINTS_MAX: u16 = 256;

/// How often a shared statement is made on a server connection for one message; then it stands under its client's name.
pub const CONTENT_MADE_MAX: u8 = 3;

/// Functions called by one session that have not been read yet; with one more it is pinned.
pub const UNREAD_NAMES_MAX: usize = 32;

/// Longest source of a function that the proxy reads, in bytes; a longer one pins.
pub const FUNCTION_SOURCE_MAX: usize = 256 * 1024;

/// Depth to which SQL in string constants of a function is read, for EXECUTE.
pub const SOURCE_DEPTH_MAX: usize = 4;

/// Longest SQL, with the types of its parameters, of which is kept that it reads, in bytes; longer is judged each time.
pub const KNOWN_READ_BYTES_MAX: usize = 4 * 1024;

/// Most bytes of such SQL that a thread keeps; then it begins anew.
pub const KNOWN_READS_BYTES_MAX: usize = 1024 * 1024;

/// Longest SQL that is judged for a standby, in bytes; longer goes to the primary.
pub const PLAINNESS_SQL_MAX: usize = 64 * 1024;

/// Changes of functions kept for the sessions to see.
pub const FUNCTION_CHANGES_KEPT: usize = 1024;

/// User-defined functions, harmless by the last look, that one session is known to have called; beyond it, any
/// that changes may be one of them.
pub const RECENT_CALLS_MAX: usize = 32;

/// Names in the SQL of what sessions have just created or changed, until functions are read again. Of more, any name is one.
pub const MADE_NAMES_MAX: usize = 4096;

/// Those of one text; beyond it, likewise.
pub const CALLS_PER_TEXT_MAX: usize = 8;

/// Capacity of the longest journal a pool keeps once its request is answered: longer requests are rare.
pub const JOURNAL_KEPT_BYTES: usize = 64 * 1024;

/// Empty journals that a pool keeps for the sessions of its thread.
pub const JOURNALS_KEPT: usize = 256;

/// Bytes of a statement that its fingerprint is of, where servers are compared by their statements.
pub const SAMPLED_SQL_BYTES_MAX: usize = 2048;
