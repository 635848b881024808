//! The counters of one thread.

use std::sync::OnceLock;
use std::time::Duration;

use trunkline_topology::{SERVERS_MAX, ServerId};

use super::counter::{Counter, CounterSet, Gauge};
use super::histogram::Histogram;
use super::label::{
    CancelResult, FailoverCause, IneligibleState, Label, LoginResult, LossCause, MoveCause, MoveKind,
    MoveOutcome, MoveRefusal, RefusalReason, RepeatCause, RouteReason, TerminationCause,
};
use super::pools::PoolCloseReason;
use super::statement::{StatementKind, StatementPhase};
use super::tls::{HandshakeResult, TlsLeg};

/// What one thread has counted; that thread is the only writer.
///
/// Aligned to two cache lines (the adjacent-line prefetcher pairs them), so that no thread's counting slows
/// another's.
#[derive(Debug)]
#[repr(align(128))]
pub struct ThreadMetrics {
    /// Connections whose startup packet was admitted.
    pub sessions_accepted: Counter,
    /// Connections refused, and sessions ended by the proxy.
    pub sessions_refused: CounterSet<RefusalReason, { RefusalReason::COUNT }>,
    /// Logins ended.
    pub logins: CounterSet<LoginResult, { LoginResult::COUNT }>,
    /// CancelRequests received.
    pub cancels: CounterSet<CancelResult, { CancelResult::COUNT }>,
    /// TLS handshakes ended, by [`TlsLeg`] and result.
    pub tls_handshakes: [CounterSet<HandshakeResult, { HandshakeResult::COUNT }>; TlsLeg::COUNT],
    /// Statement records dropped because the log could not keep up.
    pub statement_log_dropped: Counter,
    /// Times of statements that were not compared because too many waited.
    pub speed_samples_dropped: Counter,
    /// Searches for another server after a move, by [`MoveOutcome`] and cause.
    pub moves_ended: [CounterSet<MoveCause, { MoveCause::COUNT }>; MoveOutcome::COUNT],
    /// The same for requests that were sent again.
    pub repeats_ended: [CounterSet<RepeatCause, { RepeatCause::COUNT }>; MoveOutcome::COUNT],
    /// Requests that a server was chosen for by what they do.
    pub routed: CounterSet<RouteReason, { RouteReason::COUNT }>,
    /// Server connections of pools that were closed for a reason that the pools do not know.
    pub pool_closed: CounterSet<PoolCloseReason, { PoolCloseReason::COUNT }>,
    /// How long requests waited for a server connection of their pool, those that did not wait left out.
    pub pool_waits: Box<Histogram>,
    /// How long the searches for another server took, by [`MoveKind`] and [`MoveOutcome`].
    move_times: Box<[[Histogram; MoveOutcome::COUNT]; MoveKind::COUNT]>,
    /// By slot; made when the slot is first counted for.
    servers: Box<[OnceLock<Box<ServerMetrics>>]>,
}

/// What one thread has counted for one server.
#[derive(Debug)]
#[repr(align(128))]
pub struct ServerMetrics {
    /// Sessions that have a server connection to it now.
    pub sessions_active: Gauge,
    /// Sessions that got it although it is in another zone than the proxy.
    pub sessions_crossed: Counter,
    /// Statements it completed, errors included.
    pub statements: CounterSet<StatementKind, { StatementKind::COUNT }>,
    /// Statements that ended in an ERROR or FATAL.
    pub statement_errors: Counter,
    /// Rows it returned or took, as its CommandComplete tags say.
    pub rows: Counter,
    /// Bytes relayed from it to clients.
    pub bytes_to_client: Counter,
    /// Bytes relayed from clients to it.
    pub bytes_to_server: Counter,
    /// Sessions that went on to another server before their first query, by what happened here.
    pub failovers: CounterSet<FailoverCause, { FailoverCause::COUNT }>,
    /// Sessions that left it for another at an idle point.
    pub moves: CounterSet<MoveCause, { MoveCause::COUNT }>,
    /// Sessions it did not take while they still had another server.
    pub moves_refused: CounterSet<MoveRefusal, { MoveRefusal::COUNT }>,
    /// Requests it did not answer that were sent again to another.
    pub repeats: CounterSet<RepeatCause, { RepeatCause::COUNT }>,
    /// Requests and transactions that failed because it was lost, their sessions going on.
    pub requests_failed: CounterSet<LossCause, { LossCause::COUNT }>,
    /// Sessions that ended because it was lost.
    pub sessions_lost: CounterSet<LossCause, { LossCause::COUNT }>,
    /// Sessions that it ended while it served on.
    pub sessions_terminated: CounterSet<TerminationCause, { TerminationCause::COUNT }>,
    /// Sessions found on it, at an idle point, after it had become ineligible.
    pub sessions_ineligible: CounterSet<IneligibleState, { IneligibleState::COUNT }>,
    latency: [Histogram; StatementPhase::COUNT],
}

impl ThreadMetrics {
    pub(super) fn new() -> Self {
        ThreadMetrics {
            sessions_accepted: Counter::new(),
            sessions_refused: CounterSet::new(),
            logins: CounterSet::new(),
            cancels: CounterSet::new(),
            tls_handshakes: std::array::from_fn(|_| CounterSet::new()),
            statement_log_dropped: Counter::new(),
            speed_samples_dropped: Counter::new(),
            moves_ended: std::array::from_fn(|_| CounterSet::new()),
            repeats_ended: std::array::from_fn(|_| CounterSet::new()),
            routed: CounterSet::new(),
            pool_closed: CounterSet::new(),
            pool_waits: Box::default(),
            move_times: Box::default(),
            servers: (0..SERVERS_MAX).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Counts a TLS handshake.
    pub fn handshake_ended(&self, leg: TlsLeg, result: HandshakeResult) {
        self.tls_handshakes[leg.index()].one(result);
    }

    /// Notes how long a session was without a server while its client waited.
    pub fn record_move(&self, kind: MoveKind, outcome: MoveOutcome, took: Duration) {
        self.move_times[kind.index()][outcome.index()].record(took);
    }

    /// The times noted so.
    #[must_use]
    pub fn move_times(&self, kind: MoveKind, outcome: MoveOutcome) -> &Histogram {
        &self.move_times[kind.index()][outcome.index()]
    }

    /// The counters for `server`.
    ///
    /// # Panics
    /// When its slot is beyond [`SERVERS_MAX`]: those of a health monitor are not.
    #[must_use]
    pub fn server(&self, server: ServerId) -> &ServerMetrics {
        self.servers[server.index()].get_or_init(ServerMetrics::new)
    }

    /// The same, if anything has been counted for its slot.
    #[must_use]
    pub fn counted(&self, server: ServerId) -> Option<&ServerMetrics> {
        self.servers.get(server.index())?.get().map(AsRef::as_ref)
    }
}

impl ServerMetrics {
    fn new() -> Box<Self> {
        Box::new(ServerMetrics {
            sessions_active: Gauge::new(),
            sessions_crossed: Counter::new(),
            statements: CounterSet::new(),
            statement_errors: Counter::new(),
            rows: Counter::new(),
            bytes_to_client: Counter::new(),
            bytes_to_server: Counter::new(),
            failovers: CounterSet::new(),
            moves: CounterSet::new(),
            moves_refused: CounterSet::new(),
            repeats: CounterSet::new(),
            requests_failed: CounterSet::new(),
            sessions_lost: CounterSet::new(),
            sessions_terminated: CounterSet::new(),
            sessions_ineligible: CounterSet::new(),
            latency: [const { Histogram::new() }; StatementPhase::COUNT],
        })
    }

    /// Counts from zero again, for the next server of the slot. The owning thread may be counting: what it adds at the same
    /// moment may be lost, or stay.
    pub(super) fn reset(&self) {
        self.sessions_active.reset();
        for counter in [
            &self.sessions_crossed,
            &self.statement_errors,
            &self.rows,
            &self.bytes_to_client,
            &self.bytes_to_server,
        ] {
            counter.reset();
        }
        self.statements.reset();
        self.failovers.reset();
        self.moves.reset();
        self.moves_refused.reset();
        self.repeats.reset();
        self.requests_failed.reset();
        self.sessions_lost.reset();
        self.sessions_terminated.reset();
        self.sessions_ineligible.reset();
        self.latency.iter().for_each(Histogram::reset);
    }

    /// Notes how long one phase of a statement took.
    pub fn record(&self, phase: StatementPhase, took: Duration) {
        self.latency[phase.index()].record(took);
    }

    /// The times noted for one phase.
    #[must_use]
    pub fn latency(&self, phase: StatementPhase) -> &Histogram {
        &self.latency[phase.index()]
    }
}
