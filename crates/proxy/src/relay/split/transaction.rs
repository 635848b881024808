//! A transaction that only reads, as a whole on a standby or on the primary.
//!
//! ```text
//!   BEGIN READ ONLY, answered here        its first unit reads, and a standby shows enough
//! ---------------------------------> Held -------------------------------------------------> Within, on a standby
//!                                     |  reads, and no standby will do                          |  its end: Undecided
//!                                     |-----------------------------> Within, on the primary    |
//!                                     |  anything else, or too late     | anything but reads    | what it should not run
//!                                     '------------> OnPrimary <--------'                       '------> the transaction fails
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use trunkline_codec::ids::Lsn;
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, error_response};
use trunkline_reactor::{spawn, timer};
use trunkline_routing::eligible::shows;
use trunkline_session::{
    Alignment, ConnectionState, NotProven, TransactionPiece, TransactionReading, TransactionStatus,
    UnitReading,
};
use trunkline_telemetry::metrics::RouteReason;
use trunkline_topology::{Role, ServerStatus};

use super::decision::UnitVisit;
use super::state::{
    HeldTransaction, Lesson, SplitSide, StandbyConnection, UnitPlace, Within, WithinOn, WithinStep,
};
use crate::context::Worker;
use crate::limits::{POSITION_PATIENCE, TICK, TRANSACTION_HOLD, TRANSACTION_PATIENCE};
use crate::pool::connection::ServerConnection;
use crate::relay::attachment::Attachment;
use crate::relay::buffer::Chunk;
use crate::relay::{ClientState, Ending, Next, Relay};
use crate::server::align::run;
use crate::server::positions::AskedPosition;
use crate::server::take::UnitLeg;

/// What the client is told whose transaction cannot go on on its standby.
const MESSAGE: &str = "could not go on with a read-only transaction on a replica";
const DETAIL: &str = "Only the primary may run what comes next in it.";
const HINT: &str = "Run the transaction again: one that begins alike runs on the primary from now on.";

/// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_simple_query`.
const IN_FAILED: &str = "current transaction is aborted, commands ignored until end of transaction block";

impl Relay {
    /// Answers the unit that has just been read if it begins a transaction that only reads, or ends one that has no server. `None` if a
    /// server has to.
    pub(super) fn answers_unit(
        &mut self,
        cx: &mut Context<'_>,
        unit: &[u8],
        reading: UnitReading,
    ) -> Option<Next> {
        match reading {
            UnitReading::Other(NotProven::Transaction) => self.hold_transaction(cx, unit),
            UnitReading::Other(NotProven::Unknown | NotProven::Session) => self.end_transaction(cx, unit),
            UnitReading::Other(NotProven::Settings | NotProven::Unjudged)
            | UnitReading::Reads(_)
            | UnitReading::Incomplete => None,
        }
    }

    fn hold_transaction(&mut self, cx: &mut Context<'_>, unit: &[u8]) -> Option<Next> {
        let sql: Arc<[u8]> = self.session.begins_read_only(unit)?.into();
        let snapshot = self.worker.shared.health.load();
        let is_up = |server: &ServerStatus| server.role == Role::Standby && server.state.takes_new();
        if !snapshot.servers.iter().any(is_up) {
            return None;
        }
        drop(snapshot);
        let now = Instant::now();
        let told = self.record(|session, recorder| session.begin_without_server(unit, now, recorder))?;
        if let Some(split) = &mut self.context.split {
            split.held = Some(Box::new(HeldTransaction { sql, since: now }));
        }
        Some(self.tells_answer(cx, &told, now))
    }

    fn end_transaction(&mut self, cx: &mut Context<'_>, unit: &[u8]) -> Option<Next> {
        let may_end = match self.session.transaction_status() {
            TransactionStatus::Idle => false,
            TransactionStatus::InTransaction => self.held_begin().is_some(),
            TransactionStatus::Failed => true,
        };
        if !may_end {
            return None;
        }
        let now = Instant::now();
        let Some(told) = self.record(|session, recorder| session.end_without_server(unit, now, recorder))
        else {
            return self.ignores(unit);
        };
        if let Some(split) = &mut self.context.split {
            split.held = None;
        }
        Some(self.tells_answer(cx, &told, now))
    }

    /// Refuses what comes behind the failure of a transaction that no server has begun.
    fn ignores(&mut self, unit: &[u8]) -> Option<Next> {
        let is_held = self.context.split.as_ref().is_some_and(|split| split.held.is_some());
        let has_failed = self.session.transaction_status() == TransactionStatus::Failed;
        if !is_held || !has_failed || !self.session.is_ignored_once_failed(unit) {
            return None;
        }
        let mut error = BytesMut::new();
        error_response(&mut error, &ErrorReport::error(SqlState::IN_FAILED_SQL_TRANSACTION, IN_FAILED));
        self.session.refuse_next(error.freeze());
        self.to_server.input.process_again(Vec::new());
        Some(Next::Again)
    }

    fn tells_answer(&mut self, cx: &mut Context<'_>, answer: &[u8], now: Instant) -> Next {
        drop(self.to_server.input.take_held());
        self.idle_since = None;
        match self.to_client.write(cx, &mut self.client, answer, now) {
            Ok(()) => Next::Again,
            Err(_broken) => Next::End(Ending::Silent),
        }
    }

    /// The BEGIN that the next server has to run before anything else.
    pub(in crate::relay) fn held_begin(&self) -> Option<Arc<[u8]>> {
        let held = self.context.split.as_ref()?.held.as_ref()?;
        let is_begun = self.session.transaction_status() == TransactionStatus::InTransaction;
        is_begun.then(|| Arc::clone(&held.sql))
    }

    /// Until when the session may have no server for the transaction that its client has begun.
    fn held_until(&self) -> Option<Instant> {
        self.held_begin()?;
        let held = self.context.split.as_ref()?.held.as_ref()?;
        Some(held.since + TRANSACTION_HOLD)
    }

    /// Whether nothing is lost if no server takes the session now: what it has begun, it has begun without one.
    pub(in crate::relay) fn has_nothing_on_servers(&self) -> bool {
        self.session.transaction_status() != TransactionStatus::InTransaction || self.held_begin().is_some()
    }

    /// Whether the session has a server sought for a transaction in which its client has asked for nothing yet.
    pub(in crate::relay) fn begins_unasked(&self) -> bool {
        self.held_begin().is_some() && !self.to_server.input.has_read_ahead()
    }

    /// No server was there for that: its client goes on as it did, and one is sought later.
    pub(in crate::relay) fn holds_on(&mut self) {
        if let Some(held) = self.context.split.as_mut().and_then(|split| split.held.as_mut()) {
            held.since = Instant::now();
        }
    }

    /// Has the primary begin the transaction, if its client has sent nothing for long.
    pub(super) fn begins_late(&mut self) -> Option<Next> {
        let until = self.held_until()?;
        if Instant::now() < until {
            return None;
        }
        self.turn_to(SplitSide::Primary, UnitLeg::Any);
        self.session.ask_standby_first(false);
        let split = self.context.split.as_mut()?;
        split.decision.made(RouteReason::Transaction, UnitVisit::First);
        split.decision.count(&self.worker.metrics.routed);
        split.place = UnitPlace::OnPrimary;
        split.may_change = false;
        Some(self.search(None, Instant::now()))
    }

    /// The first unit of a transaction was answered, or another one of it.
    pub(super) fn rests_within(&mut self, cx: &Context<'_>) {
        let is_between = self.session.is_between_units_of_transaction();
        let settings = self.session.settings_fingerprint();
        let until = self.held_until().filter(|_| matches!(self.server, Attachment::Detached));
        if let Some(until) = until {
            self.slot.due_by(until);
        }
        let Some(split) = &mut self.context.split else { return };
        if !matches!(self.server, Attachment::Attached(_)) || self.to_server.input.has_read_ahead() {
            return;
        }
        let failed = split.failed.get();
        match &mut split.place {
            UnitPlace::OnStandby(unit) if is_between => {
                let unit = *unit;
                split.decision.count(&self.worker.metrics.routed);
                if failed.is_none() {
                    split.has_run(unit, settings);
                }
                let on = WithinOn::Standby;
                split.place = UnitPlace::Within(Within { key: unit.key, on, step: WithinStep::Between });
            }
            UnitPlace::ReadOnPrimary(unit) if is_between => {
                let (key, on) = (unit.key, WithinOn::Primary);
                split.place = UnitPlace::Within(Within { key, on, step: WithinStep::Between });
            }
            UnitPlace::Within(within) if within.step == WithinStep::Running && is_between => {
                within.step = WithinStep::Between;
            }
            UnitPlace::Undecided
            | UnitPlace::NotRun
            | UnitPlace::OnStandby(_)
            | UnitPlace::ReadOnPrimary(_)
            | UnitPlace::OnPrimary
            | UnitPlace::Within(_) => {}
        }
        let UnitPlace::Within(within) = split.place else { return };
        match within.step {
            WithinStep::Running => {}
            WithinStep::Unjudged(_) => self.slot.due_by(split.reconsidered_at + TICK),
            // What it has sent meanwhile was not looked at.
            WithinStep::Between | WithinStep::Flushed => {
                let goes_on = self.client_state == ClientState::Speaking && !self.to_server.has_work();
                if goes_on && (self.client.may_read() || !split.behind.is_empty()) {
                    cx.waker().wake_by_ref();
                }
            }
        }
    }

    #[cold]
    pub(super) fn chooses_before_pumps(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let split = self.context.split.as_mut()?;
        if std::mem::replace(&mut split.is_young, false) {
            self.part_from_standby(StandbyConnection::AsBefore);
            if let Some(split) = &mut self.context.split {
                split.refused = Some(Lesson::Young);
            }
            return Some(Next::Again);
        }
        let UnitPlace::Within(within) = split.place else { return None };
        let is_due = match within.step {
            WithinStep::Running => false,
            WithinStep::Between | WithinStep::Flushed => true,
            WithinStep::Unjudged(_) => Instant::now() >= split.reconsidered_at + TICK,
        };
        let may_read = is_due && self.client_state == ClientState::Speaking;
        if may_read && !self.to_server.has_work() { self.reads_within(cx, within) } else { None }
    }

    /// Reads what the client sends next inside the transaction, and lets its server have what that may run. `None` to go on with
    /// the pumps.
    fn reads_within(&mut self, cx: &mut Context<'_>, within: Within) -> Option<Next> {
        self.read_behind();
        let worker = Rc::clone(&self.worker);
        loop {
            let mut buffer = worker.buffer.borrow_mut();
            let length = match self.to_server.poll_chunk(cx, &mut self.client, &mut buffer) {
                Poll::Pending => return None,
                Poll::Ready(Chunk::Bytes(length)) => length,
                Poll::Ready(Chunk::Eof) => {
                    // Nothing of an incomplete unit goes to the server.
                    drop(self.to_server.input.take_held());
                    self.client_left();
                    return None;
                }
                Poll::Ready(Chunk::Broken) => return Some(Next::End(Ending::Silent)),
            };
            let chunk = &buffer[..length];
            self.to_server.input.keep(chunk);
            // A Terminate goes to the server, as it leaves no connection to others.
            let reading = if chunk.first() == Some(&b'X') {
                TransactionReading::GoesOn(length, TransactionPiece::Unit, None)
            } else {
                self.session.read_in_transaction(chunk)
            };
            let reading = match reading {
                TransactionReading::GoesOn(_, _, Some(position)) if !self.is_shown(within, position) => {
                    TransactionReading::Unjudged
                }
                reading => reading,
            };
            match reading {
                TransactionReading::Incomplete => {}
                TransactionReading::GoesOn(end, piece, _) => {
                    self.lets_server_have(&chunk[..end], &chunk[end..], piece);
                    return None;
                }
                TransactionReading::Unjudged | TransactionReading::Other
                    if within.on == WithinOn::Primary =>
                {
                    self.to_server.input.process_again(Vec::new());
                    self.context.split.as_mut()?.place = UnitPlace::OnPrimary;
                    self.notes_effect();
                    return None;
                }
                TransactionReading::Unjudged if self.waits_for_judgement(chunk) => return None,
                TransactionReading::Unjudged | TransactionReading::Other => {
                    return Some(self.gives_transaction_up(cx, within));
                }
            }
        }
    }

    fn lets_server_have(&mut self, piece: &[u8], behind: &[u8], ends: TransactionPiece) {
        drop(self.to_server.input.take_held());
        self.to_server.input.process_again(piece.to_vec());
        self.repeats = 0;
        let Some(split) = &mut self.context.split else { return };
        split.behind.extend_from_slice(behind);
        if let UnitPlace::Within(within) = &mut split.place {
            within.step = match ends {
                TransactionPiece::Unit => WithinStep::Running,
                TransactionPiece::Flushed => WithinStep::Flushed,
            };
        }
    }

    /// Whether the transaction's server is known to have the objects that the catalog has of which its next statements were judged.
    fn is_shown(&self, within: Within, position: Lsn) -> bool {
        let Some(ServerConnection { lease, .. }) = self.server.connection() else { return false };
        let (server, snapshot) = (lease.server(), self.worker.shared.health.load());
        let is_shown = within.on == WithinOn::Primary
            || snapshot.server(server).is_some_and(|status| shows(&snapshot, status, position))
            || self.worker.positions.of(server).is_some_and(|told| told.lsn >= position);
        if !is_shown {
            self.ask_position(server, AskedPosition::Replay, None);
        }
        is_shown
    }

    /// Has the client's bytes wait until the catalog is read, or the standby shows it. `false` if that takes too long.
    fn waits_for_judgement(&mut self, chunk: &[u8]) -> bool {
        let now = Instant::now();
        let Some(split) = &mut self.context.split else { return false };
        let UnitPlace::Within(within) = &mut split.place else { return false };
        let since = match within.step {
            WithinStep::Unjudged(since) => since,
            // The judgement of a piece is that of its beginning.
            WithinStep::Flushed => return false,
            WithinStep::Between | WithinStep::Running => now,
        };
        if now >= since + TRANSACTION_PATIENCE {
            return false;
        }
        within.step = WithinStep::Unjudged(since);
        split.reconsidered_at = now;
        split.behind = chunk.to_vec();
        drop(self.to_server.input.take_held());
        true
    }

    /// The transaction fails: its next request is not for a standby, and what it has read there cannot be read again elsewhere at
    /// the same time.
    fn gives_transaction_up(&mut self, cx: &mut Context<'_>, within: Within) -> Next {
        self.worker.metrics.routed.one(RouteReason::GivenUp);
        self.worker.shared.learned.learn(within.key, Instant::now());
        tracing::debug!(
            session.id = self.context.info.id.0,
            "a read-only transaction fails because it cannot go on on its standby"
        );
        let error = |report: ErrorReport<'_>| {
            let mut out = BytesMut::new();
            error_response(&mut out, &report.with_detail(DETAIL).with_hint(HINT));
            out.freeze()
        };
        if within.step == WithinStep::Flushed {
            // Its unit goes on, and cannot fail here.
            let error = error(ErrorReport::fatal(SqlState::SERIALIZATION_FAILURE, MESSAGE));
            return Next::End(self.say(&error));
        }
        self.session.fail_transaction(error(ErrorReport::error(SqlState::SERIALIZATION_FAILURE, MESSAGE)));
        self.to_server.input.process_again(Vec::new());
        self.let_go(cx);
        Next::Again
    }

    /// Has what the client has sent behind its last unit read next.
    pub(super) fn read_behind(&mut self) {
        let Some(split) = &mut self.context.split else { return };
        if split.behind.is_empty() {
            return;
        }
        let mut bytes = self.to_server.input.unprocessed();
        bytes.append(&mut split.behind);
        self.to_server.input.restart(&bytes);
    }
}

/// Gives a connection back on which a transaction has begun in which nothing was done: once that is rolled back.
pub(super) fn give_back_unused(
    worker: &Rc<Worker>,
    left: Box<ServerConnection>,
    (rollback, state): (Alignment, ConnectionState),
    defaults: u32,
) {
    let worker = Rc::clone(worker);
    left.stream.change_reader();
    spawn(async move {
        match timer::timeout(POSITION_PATIENCE, run(left, &rollback)).await {
            Ok(Ok((server, _answers))) => worker.check_in(server, state, defaults, Instant::now()),
            Ok(Err(error)) => tracing::debug!(%error, "could not roll an unused transaction back"),
            Err(_elapsed) => tracing::debug!("could not roll an unused transaction back in time"),
        }
    });
}
