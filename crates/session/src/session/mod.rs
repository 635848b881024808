//! The session: its state, and what the caller can ask it.
//!
//! - `client`, `server`: the two halves of the machine, what comes from either side.
//! - `sent`: what requests do, read on their way to the server; `answer`: which answer belongs to which request.
//! - `followed`, `functions`, `parameters`: what answers change of what is carried.
//! - `own`: the proxy's own requests; `announce`: what the client gets before a ReadyForQuery.
//! - `connection`: its server connection is checked in, and another checked out.
//! - `naming`: statements under names made from their content.
//! - `reported`: the client is told up to where it has written.
//! - `residue`: what other sessions have left on the connection.
//! - `attempt`, `losing`, `kept`: the request in flight is repeated, the server is lost, the client goes on.
//! - `farewell`: the server ends the connection.

pub(crate) mod announce;
mod answer;
mod attempt;
mod client;
mod connection;
mod farewell;
mod followed;
mod functions;
mod kept;
mod losing;
mod naming;
mod own;
mod parameters;
pub(crate) mod reported;
mod residue;
pub(crate) mod route;
mod sent;
mod server;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_codec::backend::TransactionStatus;

use self::client::Client;
use crate::carried::Carried;
use crate::carried::followed::Followed;
use crate::carried::parameters::without_recovery;
use crate::carried::prepared::Prepared;
use crate::carried::residue::{Residue, RoleTold};
use crate::conversation::Conversation;
use crate::conversation::outstanding::Outstanding;
use crate::conversation::state::{
    AnswerProgress, ClientEnd, CopyState, Farewell, Flow, Mode, Pipeline, Tail,
};
use crate::limits::OUTSTANDING_MAX;
use crate::pin::{NotRepeatable, PinReason};
use crate::record::Sink;
use crate::recovery::Recovery;
use crate::recovery::attempt::Attempt;
use crate::sampling::Sampler;
use crate::session::announce::Announce;
use crate::settings::{
    ConnectionHeirs, Mobility, ReportTiming, ServerRole, SessionSettings, StatementNames, Tracking,
};
use crate::timing::{Meter, Outcome};

/// One client's life after its login.
#[derive(Debug)]
pub struct Session {
    pub(crate) client: Client,
    pub(crate) conversation: Conversation,
    pub(crate) carried: Carried,
    pub(crate) recovery: Recovery,
    pub(crate) meter: Meter,
    pub(crate) sampler: Sampler,
    pub(crate) announce: Option<Box<Announce>>,
    pub(crate) residue: Residue,
    pub(crate) mobility: Mobility,
    pub(crate) names: StatementNames,
    pub(crate) heirs: ConnectionHeirs,
    pub(crate) report_timing: ReportTiming,
    pub(crate) mode: Mode,
}

impl Session {
    /// A session whose login is complete: the client has its first ReadyForQuery, and the next
    /// bytes of either side begin a message.
    #[must_use]
    pub fn new(settings: SessionSettings, now: Instant) -> Self {
        let SessionSettings {
            sql_bytes_max,
            report_timing,
            server,
            tracking,
            mobility,
            role,
            statement_names,
            parameters,
        } = settings;
        let mode = match tracking {
            Tracking::Full => Mode::Tracked,
            Tracking::Opaque => Mode::Opaque,
        };
        let is_logged = sql_bytes_max > 0 && mode == Mode::Tracked;
        let logged = is_logged.then(|| match mobility {
            Mobility::Movable => Prepared::for_moves(sql_bytes_max),
            Mobility::Fixed => Prepared::for_log(sql_bytes_max),
        });
        let mut session = Self {
            client: Client::new(),
            conversation: Conversation::new(server, role),
            carried: Carried::new(logged, parameters),
            recovery: Recovery::default(),
            meter: Meter::new(now),
            sampler: Sampler::new(),
            announce: match report_timing {
                ReportTiming::Off => None,
                ReportTiming::Notice => Some(Box::new(Announce::new(report_timing))),
            },
            residue: Residue::default(),
            mobility,
            names: match mobility {
                Mobility::Movable => statement_names,
                Mobility::Fixed => StatementNames::OfClient,
            },
            heirs: ConnectionHeirs::Anyone,
            report_timing,
            mode,
        };
        session.follow_login();
        session
    }

    /// The same, whose server connections no other session ever gets.
    #[must_use]
    pub fn with_own_connections(self) -> Self {
        Self { heirs: ConnectionHeirs::Itself, ..self }
    }

    /// The first statement gets no fingerprint: [`FirstStatements`](crate::FirstStatements) has not drawn it.
    pub fn leave_out_first_sample(&mut self) {
        self.sampler = Sampler::behind_the_first();
    }

    /// Whether nothing is in progress, so that the server connection could be exchanged: all
    /// requests are answered, no transaction is open (not even the implicit one of extended
    /// messages without a Sync), no COPY, and neither side is inside a message.
    ///
    /// Only the caller knows whether the bytes to be forwarded have all been written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_held = self.conversation.farewell == Farewell::Held;
        self.conversation.own.is_none()
            && self.is_quiet()
            && self.client.tail == Tail::Empty
            && (is_held || self.conversation.tail == Tail::Empty)
    }

    /// The same, without regard to bytes that were not forwarded.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet_in(TransactionStatus::Idle)
    }

    #[inline]
    pub(crate) fn is_quiet_in(&self, status: TransactionStatus) -> bool {
        self.is_quiet_before(status) && self.client.scanner.is_at_boundary()
    }

    /// The same before a message of the client, of which a part may have arrived.
    #[inline]
    pub(crate) fn is_quiet_before(&self, status: TransactionStatus) -> bool {
        self.conversation.owes_only_proxy()
            && self.mode == Mode::Tracked
            && self.conversation.status == status
            && self.conversation.pipeline == Pipeline::Synced
            && self.conversation.copy == CopyState::None
            && self.client.end == ClientEnd::Open
            && !self.conversation.farewell.is_forwarded()
            && !self.conversation.is_ready_withheld()
            && self.conversation.scanner.is_at_boundary()
    }

    /// Whether no byte of the client was forwarded yet.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        self.client.is_pristine
    }

    /// Whether the client must not be read: too many of its requests are outstanding, or all that are have to be answered
    /// before the next one, a farewell or a ReadyForQuery is held back, or the proxy's own requests are in flight.
    #[must_use]
    #[inline]
    pub fn is_paused(&self) -> bool {
        let is_held_back = self.client.flow != Flow::Open && self.holds_requests_back();
        is_held_back
            || self.conversation.farewell == Farewell::Held
            || self.conversation.own.is_some()
            || self.conversation.is_ready_withheld()
    }

    #[cold]
    fn holds_requests_back(&self) -> bool {
        match self.client.flow {
            Flow::Open => false,
            Flow::Full => self.conversation.outstanding.len() > OUTSTANDING_MAX / 2,
            // A server that reads COPY data answers nothing before it has them.
            Flow::Waiting => !self.conversation.outstanding.is_empty() && !self.reads_copy_data(),
        }
    }

    /// Whether the server waits for COPY data of the client.
    pub(crate) fn reads_copy_data(&self) -> bool {
        matches!(self.conversation.copy, CopyState::In(_) | CopyState::Both)
    }

    /// The transaction status of the last ReadyForQuery. An untracked session keeps the one it had.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.conversation.status
    }

    /// Requests sent to the server and not answered yet. Meaningless for an untracked session.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.conversation.outstanding.len()
    }

    /// Why the session cannot leave its server now, if there is a reason other than a request in
    /// progress. [`Self::movability`] covers what it has changed on its server.
    #[must_use]
    pub fn pinned(&self) -> Option<PinReason> {
        match self.mode {
            Mode::Opaque => Some(PinReason::Replication),
            Mode::Untracked(reason) => Some(reason),
            Mode::Tracked if self.conversation.copy != CopyState::None => Some(PinReason::Copy),
            Mode::Tracked if self.conversation.is_in_transaction() => Some(PinReason::Transaction),
            Mode::Tracked => None,
        }
    }

    /// The role that the session's server reported last, at its login or since.
    #[must_use]
    pub fn server_role(&self) -> ServerRole {
        self.conversation.role
    }

    /// How long the next statement waited for a server. Added up until that statement completes.
    pub fn note_wait(&mut self, waited: Duration) {
        self.meter.note_wait(waited);
    }

    /// How long the client did not take bytes of the answer in progress. Time outside an answer
    /// is not counted.
    pub fn note_client_blocked(&mut self, blocked: Duration) {
        if !self.conversation.outstanding.is_empty() {
            self.meter.note_client_blocked(blocked);
        }
    }

    /// The client closed its sending side. The server's end is then the regular end of the
    /// session, once it has answered everything.
    pub fn handle_client_eof(&mut self) {
        match self.client.end {
            ClientEnd::Open => self.client.end = ClientEnd::HalfClosed,
            ClientEnd::HalfClosed | ClientEnd::Terminated | ClientEnd::Refused => {}
        }
    }

    /// Whether the client has sent Terminate and everything is answered: neither side has anything more to
    /// send.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.client.end == ClientEnd::Terminated
            && self.mode == Mode::Tracked
            && self.conversation.outstanding.is_empty()
            && self.conversation.pipeline == Pipeline::Synced
            && self.conversation.copy == CopyState::None
            && self.conversation.farewell == Farewell::Staying
            && self.conversation.scanner.is_at_boundary()
            && self.conversation.tail == Tail::Empty
    }

    /// Whether a message of the caller's own may go to the client now: it is inside none of its server's.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.conversation.scanner.is_at_boundary()
            && self.conversation.tail == Tail::Empty
            && self.conversation.own.is_none()
    }

    /// The server's parameters as the client last received them: names and values.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.carried.parameters.iter()
    }

    /// The prepared statements that the client has, on whatever server: names, the unnamed one's empty, and SQL.
    pub fn prepared_statements(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.carried.followed.iter().flat_map(|followed| followed.prepared.iter())
    }

    /// ParameterStatus messages for parameters whose values on another server differ from those that the client has:
    /// `now` holds its messages, those of its login followed by those of
    /// [`crate::AlignmentReader::parameters`].
    #[must_use]
    pub fn differences(&self, now: &[u8]) -> Bytes {
        let differences = self.carried.parameters.differences(now);
        match self.carried.marks.role_told() {
            RoleTold::Present => differences,
            RoleTold::AtLogin(_) => without_recovery(differences),
        }
    }

    /// What was taken differs by these ParameterStatus messages from what the client has.
    #[inline]
    pub(crate) fn announce_parameters(&mut self, announce: Bytes) {
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
        while let Some(entry) = self.conversation.outstanding.pop() {
            if !entry.request.is_run() {
                self.discard(entry);
                continue;
            }
            if self.conversation.progress != AnswerProgress::Settled {
                self.meter.outcome = Outcome::Lost;
            }
            self.record(entry, now, out);
            self.conversation.progress = AnswerProgress::Untouched;
        }
    }

    /// Whether the client has exported the snapshot of the transaction that it is in.
    #[inline]
    #[must_use]
    pub fn exports_snapshot(&self) -> bool {
        self.conversation.exports_snapshot
    }

    /// The server's messages fit no request any more: the session relays them without tracking.
    #[cold]
    pub(crate) fn untrack(&mut self, reason: PinReason) {
        self.mode = Mode::Untracked(reason);
        self.recovery.attempt = Attempt::Closed(NotRepeatable::Pinned);
        let names = self.carried.followed.take().and_then(|mut followed| followed.prepared.names_alone());
        self.carried.followed = names.map(|names| Box::new(Followed::new(None, names)));
        self.announce = None;
        self.conversation.outstanding = Outstanding::new();
        self.conversation.copy = CopyState::None;
        self.conversation.exports_snapshot = false;
        self.client.flow = Flow::Open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<Session>();
        assert!(size <= 512, "{size} bytes");
    }
}
