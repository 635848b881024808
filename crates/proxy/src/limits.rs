//! The limits of sessions that are not settings.
//!
//! A limit that concerns one file only is a constant there. The limits of other crates are theirs: of connections
//! in `trunkline-net`, of HTTP and agent-check in `trunkline-control`, of secrets in `trunkline-auth`, of the
//! monitor in `trunkline-health`, of what one session holds in `trunkline_session::limits`.

use std::time::Duration;

/// Bytes read from a socket at once; one buffer per worker thread, shared by its sessions.
///
/// Measured on bulk results of 1 KiB rows, CPU seconds per gigabyte: 0.50 with 64 KiB, 0.43 with 128 KiB, 0.40
/// with this. Pages that are never filled take no memory.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// How often the files of certificates are looked at.
pub const TLS_FILES_INTERVAL: Duration = Duration::from_secs(10);

/// A certificate that expires within this is warned of ...
pub const CERTIFICATE_EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// ... so often.
pub const CERTIFICATE_WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Changes of the set of servers that wait for the one under way; who asks for one more waits, too.
pub const SERVER_EDITS_WAITING_MAX: usize = 16;

/// How often a server that leaves is looked at: whether its last session has gone.
pub const DEPARTURES_INTERVAL: Duration = Duration::from_millis(250);

/// How long a server that leaves must have been without sessions before it is forgotten.
pub const DEPARTED_REST: Duration = Duration::from_secs(1);

/// A session in transaction mode that comes to rest so often between two ticks may keep its connection while nobody waits.
pub const BUSY_RESTS_MIN: u8 = 32;

/// Ticks for which no session does, since a client had to wait.
pub const CROWD_TICKS: u32 = 4;

/// How long a session in transaction mode prefers the server that it was on last: another has to show as much.
pub const POOL_STAY: Duration = Duration::from_secs(1);

/// How often a session that has its own connections compares the server that it reads on with others: it stays unless that has more
/// than its share.
pub const OWN_STAY: Duration = Duration::from_secs(10);

/// How long a session in transaction mode that has added rows keeps its connection at least, and how often it looks whether
/// others wait: its client may ask `currval` or `lastval` next, as drivers do at once.
pub const SEQUENCE_STAY_MIN: Duration = Duration::from_millis(20);

/// The same at most, while nobody waits.
pub const SEQUENCE_STAY_MAX: Duration = Duration::from_secs(1);

/// Transactions that have added rows after which a session keeps its connection, before it is known that clients of its user
/// and database ask for what sequences have given.
pub const SEQUENCE_STAYS_UNASKED_MAX: u8 = 16;

/// Bytes of a client's next request that are looked at for that question.
pub const SEQUENCE_QUESTION_BYTES: usize = 1024;

/// Pairs of user and database for which it is remembered that their clients ask. Each further one learns it for each session.
pub const SEQUENCE_ASKERS_MAX: usize = 65_536;

/// How often a client in the queue of a pool looks whether it is its turn, also if nobody tells it.
pub const POOL_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a real login of a user to a database vouches for others of it, which get connections that are logged in already.
pub const POOL_VOUCHES: Duration = Duration::from_secs(60);

/// How long DISCARD ALL may take on a connection whose client has gone.
pub const POOL_RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a query whose client has gone may go on before it is canceled: a statement that nobody waits for is done by then.
pub const VANISHED_PATIENCE: Duration = Duration::from_secs(1);

/// Answers to a client that has gone that are read before its server connection is closed: a server that sends notices that.
pub const VANISHED_BYTES_MAX: usize = 256 * 1024;

/// Turns that a login for `min_pool_size` sits out at most, once a server has refused it again and again. A turn comes every
/// [`FILL_RETRY`](trunkline_pool::limits::FILL_RETRY): it is tried again within five minutes.
pub const FILL_TURNS_OUT_MAX: u32 = 19;

/// Servers of a pool's key on which the opening ahead is known to fail. Of one more, the log tells again.
pub const FILL_FAILURES_MAX: usize = 64;

/// How long the clients of a database and user may wait for a server connection before the log says so ...
pub const POOL_WAIT_TOLD: Duration = Duration::from_secs(1);

/// ... and how long none must have waited for that long before it says that it is over.
pub const POOL_WAIT_OVER: Duration = Duration::from_secs(10);

/// Databases and users of which the log says so at one time.
pub const POOL_WAITS_TOLD_MAX: usize = 64;

/// How long a client that logs in is kept waiting by a limit of its role or database on servers, before it is told as by the
/// server itself: a connection may become free.
pub const SERVER_LIMIT_PATIENCE: Duration = Duration::from_secs(1);

/// How often one request is sent again.
pub const REPEATS_MAX: u32 = 2;

/// Bytes one direction of one session may move before the other sessions of its thread get their turn.
pub const RELAY_BUDGET_BYTES: usize = 256 * 1024;

/// Of this, what a read takes at least: TLS records of a byte each cost their opening, not their bytes.
pub const READ_COST_BYTES: usize = 8 * 1024;

/// Bytes a server may send between its AuthenticationOk and its first ReadyForQuery.
///
/// A dozen ParameterStatus, a BackendKeyData and notices: well under 4 KiB from PostgreSQL.
pub const LOGIN_REPLY_BYTES_MAX: usize = 64 * 1024;

/// Bytes a client may send ahead while its login is going on (pipelined first queries).
pub const LOGIN_AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Connections beyond `connections_max` and `startups_max` together: cancel requests, and those that are being refused.
pub const REFUSED_EXTRA: usize = 128;

/// CancelRequests being delivered at one time; one more is dropped, as a lost packet would be.
pub const CANCELS_MAX: usize = 128;

/// How long the delivery of one CancelRequest may take, connect included.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a CancelRequest that must not be dropped tries again for a place among them.
pub const CANCEL_PAUSE: Duration = Duration::from_millis(10);

/// Sockets waiting for the worker thread that they are handed over to.
pub const HANDOFF_QUEUE: usize = 1024;

/// Changes of the listening sockets that wait for one worker: a reload waits until they are done.
pub const LISTENER_CHANGES_MAX: usize = 1;

/// How long a reload waits until the workers have let go of listening sockets.
pub const LISTENERS_CHANGE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a server that sent a FATAL error to an idle session may take to close the connection.
pub const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// How long a session waits for a server at least whose client has closed its sending side: the client may still read.
pub const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

/// How often a worker looks at idle limits and deadlines of its sessions.
pub const TICK: Duration = Duration::from_millis(250);

/// How often each worker compares the spread of sessions with the weights.
pub const REBALANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Sessions ordered to move in one round, by all workers together: at least this many ...
pub const MOVES_PER_ROUND_MIN: f32 = 4.0;

/// ... or this share of all, if that is more. Each move costs a server a login.
pub const MOVES_PER_ROUND_SHARE: f32 = 0.02;

/// Surplus over the fair share that is tolerated.
pub const REBALANCE_TOLERANCE: f32 = 0.1;

/// Moving sessions that log in on one server at one time.
pub const MOVING_LOGINS_MAX: usize = 32;

/// How long a session that still has its server searches for another, logins and the restoring of its state included.
/// Its client waits no longer than that.
pub const PLANNED_MOVE_TIMEOUT: Duration = Duration::from_millis(2500);

/// Sessions that have a second server connection at one time, because they are about to move there.
pub const PLANNED_MOVES_MAX: usize = 64;

/// How long a server that has refused a session is not asked again by that session, the first time; then twice as long,
/// and so on ...
pub const MOVE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// ... up to this.
pub const MOVE_RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Least time between two lines in the log about sessions that one server refuses.
pub const MOVE_REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long a server may take to replay what a session that moves to it has seen elsewhere.
pub const REPLAY_PATIENCE: Duration = Duration::from_millis(300);

/// Pause before its position is queried again; doubled each time.
pub const REPLAY_LOOK: Duration = Duration::from_millis(5);

/// How long a session stays on a server because the others were behind, before it tries them again.
pub const FRESHNESS_HOLD: Duration = Duration::from_secs(10);

/// How often a login is tried again on a standby that refuses a password that the primary accepts: with the pauses
/// below, for some 300 ms.
pub const ROLE_LOOKS_MAX: u32 = 5;

/// Pause before such a login; doubled each time.
pub const ROLE_PAUSE: Duration = Duration::from_millis(10);

/// Pause after `accept` failed because file descriptors or memory ran out.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Pause before servers that have all just refused are tried again within `acquire`.
pub const RETAKE_PAUSE: Duration = Duration::from_millis(50);

/// Pause before a user's secret is looked up again when no server has answered.
pub const LOOKUP_PAUSE: Duration = Duration::from_millis(250);

/// How long a session that finds no server waits before it looks again.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often a server is asked whether its defaults for new logins have changed.
pub const DEFAULTS_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How old the last look at the defaults of a server may be when a new client gets a connection that is logged in already.
pub const DEFAULTS_AGE_MAX: Duration = Duration::from_millis(500);

/// How old it is when such a client has another taken. Each costs more than the client does, which itself is content with one of
/// [`DEFAULTS_AGE_MAX`]: in time for those that come behind it.
pub const DEFAULTS_AGE_OF_REUSE: Duration = Duration::from_millis(250);

/// Minimum pause between two such queries to one server, however many sessions log in there.
pub const DEFAULTS_LOOK_GAP_MIN: Duration = Duration::from_millis(25);

/// How long one such query may take.
pub const DEFAULTS_LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a session that should move waits for the defaults to be read after its first login.
pub const DEFAULTS_CONFIRM_PATIENCE: Duration = Duration::from_secs(3);

/// How long a session that has moved waits for defaults that were read after its login, and any session for the
/// first read from a server.
pub const DEFAULTS_NEWS_PATIENCE: Duration = Duration::from_millis(500);

/// How often a session that moves logs in to one server to get its defaults right.
pub const RESTORING_LOGINS_MAX: usize = 6;

/// Settings of one server, its roles and databases, and superusers, that are kept.
pub const DEFAULTS_ROWS_MAX: usize = 8192;

/// Roles and databases of one server whose OIDs are kept, to notice when a name is given to another.
pub const IDENTITIES_MAX: usize = 16_384;

/// Bytes of their names and values.
pub const DEFAULTS_BYTES_MAX: usize = 512 * 1024;

/// Bytes of one such setting of a role or database, with its name. A longer one is not read: a session that moves
/// gets the new server's.
pub const DEFAULTS_SETTING_BYTES_MAX: usize = 16 * 1024;

/// Latest versions of one server's defaults that are kept, to find the one that a login got.
pub const DEFAULTS_GENERATIONS_MAX: usize = 8;

/// Databases whose functions are read; in any other, sessions that call a user-defined function are pinned.
pub const FUNCTION_DATABASES_MAX: usize = 64;

/// Functions read from one database. With more, none is read, and sessions that call one are pinned.
pub const FUNCTIONS_MAX: usize = 20_000;

/// Bytes of their sources, with the same consequence.
pub const FUNCTION_SOURCES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of the names of settings that functions change, directly or through others, with the same consequence.
pub const FUNCTION_EFFECTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Relations, types, operators and functions that depend on those with effects, with the same consequence.
pub const FUNCTION_USERS_MAX: usize = 100_000;

/// Rounds of searching for dependents, and for functions that mention them, with the same consequence.
pub const FUNCTION_ROUNDS_MAX: usize = 16;

/// Relations read from one database. With more, nothing of it is known to be fit for a standby.
pub const PLAINNESS_RELATIONS_MAX: usize = 100_000;

/// How long the first sessions of a database wait for the first look at its functions.
pub const FUNCTIONS_FIRST_LOOK_PATIENCE: Duration = Duration::from_secs(3);

/// How often a database in use is checked for new functions.
pub const FUNCTION_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks that fail in a row before a line is logged.
pub const FUNCTION_FAILURES_TOLD: u32 = 5;

/// The pause after a check, in multiples of the time that the check took.
pub const FUNCTION_LOOK_SHARE: u32 = 20;

/// The longest pause after a check while a session waits for the next one, however long the last one took: a drain waits
/// for it.
pub const FUNCTION_LOOK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long one answer of a check may take.
pub const FUNCTION_LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// A database in which nothing ran for this long is not checked until something runs again.
pub const FUNCTION_QUIET: Duration = Duration::from_secs(10);

/// The connection to a database closes so long after its last session has left: DROP DATABASE waits five seconds for others to leave
/// (PostgreSQL 18, src/backend/storage/ipc/procarray.c, CountOtherDBBackends).
pub const FUNCTIONS_LEFT: Duration = Duration::from_secs(2);

/// How long functions are kept after the last session has left the database.
pub const FUNCTIONS_KEPT: Duration = Duration::from_secs(60);

/// Pause after functions could not be read.
pub const FUNCTION_UNREADABLE_PAUSE: Duration = Duration::from_secs(5);

/// Times of statements that wait to be looked at; more are dropped.
pub const SPEED_SAMPLES_MAX: usize = 16 * 1024;

/// How often, in a window of the judge of slow servers, they are taken from the queue.
pub const SLOW_LOOKS_PER_WINDOW: u32 = 4;

/// Sets of requests that standbys have refused and the primary has run.
pub(crate) const LEARNED_SETS: usize = 1024;

/// Requests in each set.
pub(crate) const LEARNED_WAYS: usize = 4;

/// After so many minutes a standby is asked for such a request again: the functions it calls may have changed.
pub(crate) const LEARNED_MINUTES: u64 = 60;

/// Least time between an answer to a worker's question for a server's WAL position and the next one, for sessions that read what
/// they have written. Where answers take longer, so does the pause behind each.
pub(crate) const POSITION_GAP: Duration = Duration::from_micros(250);

/// How long such an answer may take.
pub(crate) const POSITION_PATIENCE: Duration = Duration::from_secs(2);

/// How long a read waits until the primary has told that it has written what the client wants to see.
pub(crate) const MIN_LSN_PATIENCE: Duration = Duration::from_secs(1);

/// When servers are asked again for a read that waits for a standby, first ...
pub(crate) const STANDBY_ASKED_AGAIN: Duration = Duration::from_micros(250);

/// ... and, twice as long each time, at most.
pub(crate) const STANDBY_ASKED_SELDOM: Duration = Duration::from_millis(32);

/// How long a read behind its session's own write waits for a standby where nothing else is said.
pub(crate) const SHOWN_WAIT: Duration = Duration::from_millis(4);

/// The same of a read that no standby has run yet, and that would count as a write if the primary ran it, ...
pub(crate) const NEW_READ_WAIT: Duration = Duration::from_millis(10);

/// ... once in this time.
pub(crate) const NEW_READ_GAP: Duration = Duration::from_millis(100);

/// How long a transaction that only reads has no server while its client sends nothing: its time is that of its first statement,
/// and no server counts how long it is idle.
pub(crate) const TRANSACTION_HOLD: Duration = Duration::from_millis(100);

/// How long a request inside such a transaction waits for what it is judged by.
pub(crate) const TRANSACTION_PATIENCE: Duration = Duration::from_secs(5);
