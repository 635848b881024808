//! Bounds of sessions and of what serves them that are not settings, by name.
//!
//! What a single part of the proxy alone knows is bounded by a constant beside it: HTTP and agent-check in `http`, first
//! packets in `client`, secrets and their users in `auth::secrets`. Those of connections are in `trunkline-net`, the
//! health monitor's in `trunkline-health`, those of what one session holds in `trunkline_session::limits`.

use std::time::Duration;

/// Bytes read from a socket at once; one buffer per worker thread, shared by its sessions.
///
/// Measured on bulk results of 1 KiB rows, CPU seconds per gigabyte: 0.50 with 64 KiB, 0.43 with 128 KiB, 0.40 with
/// this. It is memory only once something fills it.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Capacity of the longest journal a worker keeps once its request is answered: longer requests are rare.
pub const JOURNAL_KEPT_BYTES: usize = 64 * 1024;

/// Empty journals a worker keeps for its sessions.
pub const JOURNALS_KEPT: usize = 256;

/// How often one request is sent again.
pub const REPEATS_MAX: u32 = 2;

/// Bytes one direction of one session may move before the other sessions of its thread get their turn.
pub const RELAY_BUDGET_BYTES: usize = 256 * 1024;

/// Bytes a server may send between its AuthenticationOk and its first ReadyForQuery.
///
/// A dozen ParameterStatus, a BackendKeyData and notices: well under 4 KiB from PostgreSQL.
pub const LOGIN_REPLY_BYTES_MAX: usize = 64 * 1024;

/// Bytes a client may send ahead while its login is going on (pipelined first queries).
pub const LOGIN_AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Connections that may be in their first packets beyond `connections_max`: cancel requests and refusals need room.
pub const BEFORE_LOGIN_EXTRA: usize = 128;

/// CancelRequests being delivered at one time; one more is dropped, as a lost packet would be.
pub const CANCELS_MAX: usize = 128;

/// How long the delivery of one CancelRequest may take, connect included.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a CancelRequest that must not be dropped tries again to be among them.
pub const CANCEL_PAUSE: Duration = Duration::from_millis(10);

/// Sockets waiting to be taken over by another worker thread.
pub const HANDOFF_QUEUE: usize = 1024;

/// How long a server that said goodbye to an idle session may take to close the connection.
pub const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// How often a worker looks at idle limits and deadlines of its sessions.
pub const TICK: Duration = Duration::from_millis(250);

/// How often each worker looks whether sessions are spread as the weights say.
pub const REBALANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Sessions asked to move in one round, all workers together: at least so many ...
pub const MOVES_PER_ROUND_MIN: f32 = 4.0;

/// ... or this share of all, if that is more. A move costs its server a login.
pub const MOVES_PER_ROUND_SHARE: f32 = 0.02;

/// Surplus over the fair share that is left alone.
pub const REBALANCE_TOLERANCE: f32 = 0.1;

/// Sessions on the move that log in on one server at one time.
pub const MOVING_LOGINS_MAX: usize = 32;

/// How long a server may take to replay what a session that comes to it has seen elsewhere.
pub const REPLAY_PATIENCE: Duration = Duration::from_millis(300);

/// Pause before it is asked again, the first time; then twice as long, and so on.
pub const REPLAY_LOOK: Duration = Duration::from_millis(5);

/// How long a session stays where it is because others showed less than it had seen, before they are tried again.
pub const FRESHNESS_HOLD: Duration = Duration::from_secs(10);

/// How often a login is tried again on a standby that refuses a password the primary has: with the pauses below, for
/// some 300 ms.
pub const ROLE_LOOKS_MAX: u32 = 5;

/// Pause before that, the first time; then twice as long, and so on.
pub const ROLE_PAUSE: Duration = Duration::from_millis(10);

/// Pause after `accept` failed for want of file descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Pause before servers that have all just refused are tried again within `acquire`.
pub const RETAKE_PAUSE: Duration = Duration::from_millis(50);

/// Pause before a user's secret is asked for again when no server has answered.
pub const LOOKUP_PAUSE: Duration = Duration::from_millis(250);

/// How long a session that finds no server waits at most before it looks again.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two complaints that connections cannot be accepted.
pub const ACCEPT_COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// How often a server is asked whether what it gives new logins has changed.
pub const DEFAULTS_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Pause between two looks at one server, however many sessions log in there.
pub const DEFAULTS_LOOK_GAP_MIN: Duration = Duration::from_millis(25);

/// How long one such look may take.
pub const DEFAULTS_LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a session waits for a look from behind its first login before it leaves that server without.
pub const DEFAULTS_CONFIRM_PATIENCE: Duration = Duration::from_secs(3);

/// How long a session that has moved waits for a look that is not older than its login, and any session for the first
/// look at a server since the proxy was started.
pub const DEFAULTS_NEWS_PATIENCE: Duration = Duration::from_millis(500);

/// How often a session that moves logs in to one server for the sake of its defaults.
pub const RESTORING_LOGINS_MAX: usize = 6;

/// Settings of one server, its roles and databases that are kept, and superusers.
pub const DEFAULTS_ROWS_MAX: usize = 8192;

/// Bytes of their names and values.
pub const DEFAULTS_BYTES_MAX: usize = 512 * 1024;

/// Bytes of one such setting of a role or database, with its name. A longer one is left with its server: it is not known,
/// and a session that moves has what the new server's login gives.
pub const DEFAULTS_SETTING_BYTES_MAX: usize = 16 * 1024;

/// Latest generations of one server's defaults that are kept to tell which one a login was given.
pub const DEFAULTS_GENERATIONS_MAX: usize = 8;

/// Databases whose functions are read; in any other, sessions that call a function of the user's own are pinned.
pub const FUNCTION_DATABASES_MAX: usize = 64;

/// Functions read of one database; with one more none is, and those who call one are pinned.
pub const FUNCTIONS_MAX: usize = 20_000;

/// Bytes of their sources, likewise.
pub const FUNCTION_SOURCES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of the names of settings that functions change, counted for each function that calls one that does, likewise.
pub const FUNCTION_EFFECTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Relations, types, operators and functions that use those of interest, likewise.
pub const FUNCTION_USERS_MAX: usize = 100_000;

/// Rounds of looking for users, and for functions that mention them, likewise.
pub const FUNCTION_ROUNDS_MAX: usize = 16;

/// How often a database in use is looked at for functions that are new.
pub const FUNCTION_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// So many looks that get no answer, one after the other, are a line in the log.
pub const FUNCTION_FAILURES_TOLD: u32 = 5;

/// How often it is seen whether somebody waits for a look.
pub const FUNCTION_LOOK_TICK: Duration = Duration::from_millis(50);

/// So many times as long as it took, a database is left alone after a look.
pub const FUNCTION_LOOK_SHARE: u32 = 20;

/// How long one answer of a look may take.
pub const FUNCTION_LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// A database in which nothing was run for so long is looked at no more until something is.
pub const FUNCTION_QUIET: Duration = Duration::from_secs(10);

/// How long what was read is kept after the last session has left the database.
pub const FUNCTIONS_KEPT: Duration = Duration::from_secs(60);

/// Pause after functions could not be read.
pub const FUNCTION_UNREADABLE_PAUSE: Duration = Duration::from_secs(5);
