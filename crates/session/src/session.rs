//! The session: its state, and what can be asked of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::scan::{Phase, Scanner};

use crate::alignment::{Alignment, Writer};
use crate::announce::Announce;
use crate::attempt::Attempt;
use crate::followed::Followed;
use crate::functions::Functions;
use crate::kept::Debt;
use crate::limits::OUTSTANDING_MAX;
use crate::notified::Processes;
use crate::outstanding::{Outstanding, Request};
use crate::own::{Dropping, Own};
use crate::parameters::Parameters;
use crate::pin::{NotRepeatable, PinReason};
use crate::record::Sink;
use crate::settings::{Mobility, ReportTiming, ServerName, ServerRole, SessionSettings, Tracking};
use crate::state::{ClientEnd, Copy, Course, Farewell, Flow, Joined, Long, Mode, Pipeline, Progress, Tail};
use crate::statements::Statements;
use crate::timing::{Meter, Outcome};

/// One client's life after its login.
#[derive(Debug)]
pub struct Session {
    pub(crate) client: Scanner,
    pub(crate) server: Scanner,
    pub(crate) outstanding: Outstanding,
    pub(crate) meter: Meter,
    /// `None` when no SQL is kept.
    pub(crate) statements: Option<Box<Statements>>,
    pub(crate) announce: Option<Box<Announce>>,
    pub(crate) server_name: ServerName,
    pub(crate) processes: Processes,
    /// What the client was told; for a session that may move.
    pub(crate) parameters: Parameters,
    pub(crate) mobility: Mobility,
    pub(crate) role: ServerRole,
    pub(crate) attempt: Attempt,
    pub(crate) followed: Option<Box<Followed>>,
    pub(crate) long: Long,
    pub(crate) report_timing: ReportTiming,
    pub(crate) mode: Mode,
    pub(crate) status: TransactionStatus,
    pub(crate) pipeline: Pipeline,
    pub(crate) joined: Joined,
    pub(crate) progress: Progress,
    pub(crate) copy: Copy,
    pub(crate) farewell: Farewell,
    pub(crate) client_end: ClientEnd,
    pub(crate) flow: Flow,
    pub(crate) client_tail: Tail,
    pub(crate) server_tail: Tail,
    pub(crate) is_pristine: bool,
    pub(crate) course: Course,
    /// What the client is to be told of a transaction that was lost with its server.
    pub(crate) debt: Option<Box<Debt>>,
    /// Requests of the proxy's own in flight.
    pub(crate) own: Option<Box<Own>>,
    /// A long answer to one of them is passing.
    pub(crate) is_inside_own: bool,
    /// What of the client's messages is not to go to the server.
    pub(crate) dropping: Dropping,
    /// Those of its database; `None` when they are trusted.
    pub(crate) functions: Option<Arc<Functions>>,
}

impl Session {
    /// A session whose login is complete: the client has its first ReadyForQuery, and the next
    /// bytes of either side begin a message.
    #[must_use]
    pub fn new(settings: SessionSettings, now: Instant) -> Self {
        let SessionSettings { sql_bytes_max, report_timing, server, tracking, mobility, role, parameters } =
            settings;
        let mode = match tracking {
            Tracking::Full => Mode::Tracked,
            Tracking::Opaque => Mode::Opaque,
        };
        let mut client = Scanner::frontend();
        client.set_phase(Phase::Normal);
        let is_kept = sql_bytes_max > 0 && mode == Mode::Tracked;
        let mut session = Self {
            client,
            server: scanner_of_a_server(),
            outstanding: Outstanding::new(),
            meter: Meter::new(now),
            statements: is_kept.then(|| Box::new(Statements::new(sql_bytes_max))),
            announce: match report_timing {
                ReportTiming::Off => None,
                ReportTiming::Notice => Some(Box::new(Announce::new(report_timing))),
            },
            server_name: server,
            processes: Processes::default(),
            parameters: Parameters::new(parameters),
            mobility,
            role,
            attempt: Attempt::Idle,
            followed: None,
            long: Long::Other,
            report_timing,
            mode,
            status: TransactionStatus::Idle,
            pipeline: Pipeline::Synced,
            joined: Joined::Nothing,
            progress: Progress::Untouched,
            copy: Copy::None,
            farewell: Farewell::Staying,
            client_end: ClientEnd::Open,
            flow: Flow::Open,
            client_tail: Tail::Empty,
            server_tail: Tail::Empty,
            is_pristine: true,
            course: Course::AsBefore,
            debt: None,
            own: None,
            is_inside_own: false,
            dropping: Dropping::Nothing,
            functions: None,
        };
        session.follow_greeting();
        session
    }

    /// Whether nothing is in progress, so that the server connection could be exchanged: all
    /// requests are answered, no transaction is open (not even the implicit one of extended
    /// messages without a Sync), no COPY, and neither side is inside a message.
    ///
    /// Whether the bytes to be forwarded have all been written only the caller knows.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_held = self.farewell == Farewell::Held;
        self.own.is_none()
            && self.is_quiet()
            && self.client_tail == Tail::Empty
            && (is_held || self.server_tail == Tail::Empty)
    }

    /// The same, without regard to bytes that were not forwarded.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet_in(TransactionStatus::Idle)
    }

    #[inline]
    pub(crate) fn is_quiet_in(&self, status: TransactionStatus) -> bool {
        self.owes_only_us()
            && self.mode == Mode::Tracked
            && self.status == status
            && self.pipeline == Pipeline::Synced
            && self.copy == Copy::None
            && self.client_end == ClientEnd::Open
            && !self.farewell.is_said()
            && self.client.is_at_boundary()
            && self.server.is_at_boundary()
    }

    /// Whether no byte of the client was forwarded yet.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        self.is_pristine
    }

    /// Whether the client must not be read: too many of its requests are outstanding, a farewell is
    /// held back, or the proxy's own requests are in flight.
    #[must_use]
    #[inline]
    pub fn is_paused(&self) -> bool {
        let is_full = self.flow == Flow::Full && self.outstanding.len() > OUTSTANDING_MAX / 2;
        is_full || self.farewell == Farewell::Held || self.own.is_some()
    }

    /// The transaction status of the last ReadyForQuery. An untracked session keeps the one it had.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    /// Requests sent to the server whose answers are owed. Meaningless for an untracked session.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Why the session cannot leave its server now, if there is a reason other than a request in
    /// progress. What it has left on its server is [`Self::movability`]'s to tell.
    #[must_use]
    pub fn pinned(&self) -> Option<PinReason> {
        match self.mode {
            Mode::Opaque => Some(PinReason::Replication),
            Mode::Untracked(reason) => Some(reason),
            Mode::Tracked if self.copy != Copy::None => Some(PinReason::Copy),
            Mode::Tracked if self.is_in_transaction() => Some(PinReason::Transaction),
            Mode::Tracked => None,
        }
    }

    /// What the session's server is, as it said last: at its login, or since.
    #[must_use]
    pub fn server_role(&self) -> ServerRole {
        self.role
    }

    /// How long the next statement waited for a server. Added up until that statement completes.
    pub fn note_wait(&mut self, waited: Duration) {
        self.meter.note_wait(waited);
    }

    /// How long the client did not take bytes of the answer in progress. Time outside an answer
    /// is not counted.
    pub fn note_client_blocked(&mut self, blocked: Duration) {
        if !self.outstanding.is_empty() {
            self.meter.note_client_blocked(blocked);
        }
    }

    /// The client closed its sending side. The server's end is then the regular end of the
    /// session, once it has answered everything.
    pub fn handle_client_eof(&mut self) {
        match self.client_end {
            ClientEnd::Open => self.client_end = ClientEnd::HalfClosed,
            ClientEnd::HalfClosed | ClientEnd::Terminated | ClientEnd::Refused => {}
        }
    }

    /// Whether the client has said goodbye and the server owes it nothing: neither has anything more to
    /// say.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.client_end == ClientEnd::Terminated
            && self.mode == Mode::Tracked
            && self.outstanding.is_empty()
            && self.pipeline == Pipeline::Synced
            && self.copy == Copy::None
            && self.farewell == Farewell::Staying
            && self.server.is_at_boundary()
            && self.server_tail == Tail::Empty
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.status != TransactionStatus::Idle || self.pipeline != Pipeline::Synced
    }

    /// What a freshly logged-in server must be told, to be as the session left its last one.
    #[must_use]
    pub fn alignment(&self) -> Alignment {
        let mut out = Writer::default();
        if let Some(followed) = &self.followed {
            followed.write(&mut out, &self.parameters);
        }
        let has_failed = self.status == TransactionStatus::Failed;
        if has_failed { out.finish_failed() } else { out.finish() }
    }

    /// Whether the login on the next server brings a statement_timeout, of its startup packet or of defaults: an
    /// [`Self::alignment`] must not run into it.
    pub fn login_has_timeout(&mut self, has: bool) {
        self.parameters.set_login_timeout(has);
    }

    /// The parameters of the server as the client was last told of them: names and values.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parameters.iter()
    }

    /// The prepared statements that the client has, on whatever server: names, the unnamed one's empty, and SQL.
    pub fn prepared_statements(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.followed.iter().flat_map(|followed| followed.prepared.iter())
    }

    /// ParameterStatus messages for what another server has otherwise than the client was told:
    /// `now` holds its messages, those of its login and behind them those of
    /// [`crate::AlignmentReader::parameters`].
    #[must_use]
    pub fn differences(&self, now: &[u8]) -> Bytes {
        self.parameters.differences(now)
    }

    /// Another server was taken and aligned, after [`crate::LossPlan::Move`] or [`crate::LossPlan::Fail`], after
    /// [`Self::rewind`], or at
    /// any idle point of a movable session. `announce` (see [`Self::differences`]) goes to the client
    /// before its next ReadyForQuery. Then present the client's unforwarded bytes again.
    pub fn server_taken(&mut self, server: ServerName, role: ServerRole, announce: Bytes) {
        self.server_name = server;
        self.role = role;
        self.server = scanner_of_a_server();
        self.server_tail = Tail::Empty;
        self.farewell = Farewell::Staying;
        if let Some(followed) = &mut self.followed {
            followed.prepared.server_taken();
        }
        if let Some(ours) = &mut self.announce {
            ours.set_parameters(announce);
        } else if !announce.is_empty() {
            let mut ours = Box::new(Announce::new(self.report_timing));
            ours.set_parameters(announce);
            self.announce = Some(ours);
        }
    }

    /// The session ends, for whatever reason: records the statements still in flight as lost. The
    /// other ways to end a session do this by themselves.
    pub fn finish(&mut self, now: Instant, out: &mut impl Sink) {
        self.forget_own();
        let now = self.meter.at(now);
        while let Some(entry) = self.outstanding.pop() {
            match entry.request {
                Request::Query | Request::Execute | Request::FunctionCall => {
                    if self.progress != Progress::Settled {
                        self.meter.outcome = Outcome::Lost;
                    }
                    self.record(entry, now, out);
                    self.progress = Progress::Untouched;
                }
                Request::Parse
                | Request::Bind
                | Request::DescribeStatement
                | Request::DescribePortal
                | Request::Close
                | Request::BrokenFlush
                | Request::Sync
                | Request::CopyEnd => self.discard(entry),
            }
        }
    }

    /// Nothing the server sends is explained any more: relays on without a guess.
    #[cold]
    pub(crate) fn untrack(&mut self, reason: PinReason) {
        self.mode = Mode::Untracked(reason);
        self.attempt = Attempt::Closed(NotRepeatable::Pinned);
        self.followed = None;
        self.statements = None;
        self.announce = None;
        self.outstanding = Outstanding::new();
        self.copy = Copy::None;
        self.flow = Flow::Open;
    }
}

pub(crate) fn scanner_of_a_server() -> Scanner {
    let mut scanner = Scanner::backend();
    scanner.set_phase(Phase::Normal);
    scanner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<Session>();
        assert!(size <= 480, "{size} bytes");
    }
}
