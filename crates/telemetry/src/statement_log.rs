//! The log of statements: chosen by threshold and sampling on the session's thread, written on its own.
//!
//! A relay never waits for it: what does not fit the queue is dropped and counted.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use trunkline_codec::ids::Lsn;
use trunkline_session::{Completion, Fingerprint, StatementRecord, Timing, command_word};
use trunkline_tls::Negotiated;

use crate::limits::STATEMENT_LOG_QUEUE;
use crate::metrics::{Label as _, RouteReason};
use crate::sessions::SessionInfo;

/// Target of the log events, for filters.
const TARGET: &str = "trunkline::statement";

/// Which statements are logged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatementLogSettings {
    /// Statements that take at least this long; `None` = none for their time.
    pub threshold: Option<Duration>,
    /// Share of all others, 0 to 1.
    pub sample_rate: f64,
    /// Bytes of SQL kept with a record.
    pub sql_bytes_max: usize,
}

impl StatementLogSettings {
    /// Whether any statement can be logged at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.threshold.is_some() || self.sample_rate > 0.0
    }
}

/// A record on its way to the log.
#[derive(Debug)]
struct LoggedStatement {
    session: SessionInfo,
    server: Arc<str>,
    way: StatementWay,
    kind: &'static str,
    sql: Option<Box<[u8]>>,
    /// Whether that is all of it.
    is_whole: bool,
    outcome: StatementOutcome,
    timing: Timing,
    rows: u64,
    bytes: u64,
    retries: u32,
}

/// By which connection to its server a statement went.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatementWay {
    /// Its TLS.
    pub tls: Option<Negotiated>,
    /// Why to that server, if one is chosen for each request.
    pub route: Option<StatementRoute>,
}

/// Why a statement went to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementRoute {
    /// `None`: the session has kept its server.
    pub reason: Option<RouteReason>,
    /// What the server is known to show, if it is a standby.
    pub shown: Option<ShownData>,
}

/// What a standby was known to show when it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownData {
    /// Everything up to here.
    pub lsn: Lsn,
    /// How far it was behind the primary at most; `None` while no bound is known.
    pub behind_at_most: Option<Duration>,
}

impl StatementRoute {
    fn word(&self) -> &'static str {
        self.reason.map_or("kept", RouteReason::word)
    }
}

#[derive(Debug)]
enum StatementOutcome {
    /// With its command tag.
    Complete(Box<[u8]>),
    Failed(String),
    Other(&'static str),
}

/// The sessions' end of the queue.
#[derive(Clone, Debug)]
pub struct StatementLog(SyncSender<LoggedStatement>);

/// Whether `record` is to be logged.
pub fn is_chosen(settings: &StatementLogSettings, timing: &Timing) -> bool {
    let took = timing.wait + timing.server_total;
    settings.threshold.is_some_and(|threshold| took >= threshold)
        || (settings.sample_rate > 0.0 && fastrand::f64() < settings.sample_rate)
}

impl StatementLog {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (sender, receiver) = sync_channel(STATEMENT_LOG_QUEUE);
        std::thread::Builder::new().name("statement-log".to_owned()).spawn(move || write_all(receiver))?;
        Ok(StatementLog(sender))
    }

    /// One that takes no record.
    #[must_use]
    pub fn off() -> Self {
        StatementLog(sync_channel(0).0)
    }

    /// Queues a record, with the way to its server; `false` when it had to be dropped.
    pub fn offer(
        &self,
        settings: &StatementLogSettings,
        session: &SessionInfo,
        way: StatementWay,
        record: &StatementRecord<'_>,
    ) -> bool {
        let outcome = match record.completion {
            Completion::Complete(tag) => StatementOutcome::Complete(tag.into()),
            Completion::Failed(code) => {
                StatementOutcome::Failed(code.map_or_else(String::new, |code| code.as_str().to_owned()))
            }
            Completion::Empty => StatementOutcome::Other("empty"),
            Completion::Suspended => StatementOutcome::Other("suspended"),
            Completion::Lost => StatementOutcome::Other("lost"),
        };
        let entry = LoggedStatement {
            session: session.clone(),
            server: Arc::clone(record.server),
            way,
            kind: kind_word(record),
            sql: record.sql.map(Into::into),
            is_whole: record.sql.is_some_and(|sql| sql.len() < settings.sql_bytes_max),
            outcome,
            timing: record.timing,
            rows: record.rows,
            bytes: record.bytes,
            retries: record.retries,
        };
        self.0.try_send(entry).is_ok()
    }
}

fn kind_word(record: &StatementRecord<'_>) -> &'static str {
    use trunkline_session::StatementKind as Kind;
    match record.kind {
        Kind::Query => "query",
        Kind::Execute => "execute",
        Kind::FunctionCall => "function_call",
        Kind::Parse => "parse",
        Kind::Bind => "bind",
        Kind::Describe => "describe",
        Kind::Close => "close",
    }
}

fn write_all(entries: Receiver<LoggedStatement>) {
    for entry in entries {
        let LoggedStatement { session, server, way, kind, sql, is_whole, outcome, .. } = &entry;
        let StatementWay { tls: server_tls, route } = way;
        let shown = route.and_then(|route| route.shown);
        let LoggedStatement { timing, rows, bytes, retries, .. } = entry;
        let fingerprint = sql.as_deref().filter(|_| *is_whole).map(Fingerprint::of);
        let (tag, sqlstate) = match outcome {
            StatementOutcome::Complete(tag) => (String::from_utf8_lossy(tag).into_owned(), None),
            StatementOutcome::Failed(code) => (failed_tag(code, sql.as_deref()), Some(code.as_str())),
            StatementOutcome::Other(word) => ((*word).to_owned(), None),
        };
        let sql = sql.as_deref().map(String::from_utf8_lossy);
        tracing::info!(
            target: TARGET,
            listener = %session.names.listener,
            server.name = %server,
            session.id = session.id.0,
            client.addr = %session.client,
            tls.client = session.tls.map(tracing::field::display),
            tls.server = server_tls.map(tracing::field::display),
            db.user = %session.names.user,
            db.name = %session.names.database,
            route.reason = route.as_ref().map(StatementRoute::word),
            route.lsn = shown.map(|shown| tracing::field::display(shown.lsn)),
            route.behind_us = shown.and_then(|shown| shown.behind_at_most).map(micros),
            statement.kind = kind,
            statement.tag = tag,
            statement.fingerprint = fingerprint.map(tracing::field::display),
            sqlstate = sqlstate,
            wait_us = micros(timing.wait),
            first_us = micros(timing.server_first),
            total_us = micros(timing.server_total),
            client_us = micros(timing.client),
            rows = rows,
            bytes = bytes,
            retries = retries,
            sql = sql.as_deref(),
            "statement"
        );
    }
}

/// What stands for the command tag of a statement that failed: `22012 SELECT`.
fn failed_tag(code: &str, sql: Option<&[u8]>) -> String {
    let command = sql.and_then(command_word).unwrap_or_default();
    format!("{code} {command}").trim().to_owned()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
