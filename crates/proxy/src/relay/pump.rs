//! The two pumps.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWrite;
use trunkline_codec::sqlstate::SqlState;
use trunkline_session::{ClientStep, ClientThen, Peer, ServerLoss, ServerThen, Violation};

use super::attach::Attachment;
use super::buffer::Chunk;
use super::{ClientState, Ending, Next, Relay, record};
use crate::limits::{READ_COST_BYTES, RELAY_BUDGET_BYTES};
use crate::pool::connection::ServerConnection;
use crate::settings::Retry;
use trunkline_telemetry::metrics::LossCause;

/// Whether this is a Terminate, as it comes from an idle client.
#[inline]
pub(super) fn is_goodbye(bytes: &[u8]) -> bool {
    *bytes == [b'X', 0, 0, 0, 4]
}

/// The server takes nothing more. Its last messages may still be unread, and its end is noticed when they are read: at once
/// where it is the proxy that can seal nothing more for it, and nothing comes.
fn hear_last_words(cx: &Context<'_>) {
    cx.waker().wake_by_ref();
}

impl Relay {
    /// Client to server, until the client has nothing more or the server takes nothing more.
    pub(super) fn pump_client(&mut self, cx: &mut Context<'_>) -> Next {
        let worker = Rc::clone(&self.worker);
        let mut budget = RELAY_BUDGET_BYTES;
        loop {
            if let Some(next) = self.flush_to_server(cx) {
                return next;
            }
            if self.client_state != ClientState::Speaking || self.is_client_held() {
                return Next::Wait;
            }
            // A request that is processed again is not new: its repeats count on.
            let is_again = self.to_server.input.has_read_ahead();
            let mut buffer = worker.buffer.borrow_mut();
            let Poll::Ready(chunk) = self.to_server.poll_chunk(cx, &mut self.client, &mut buffer) else {
                return Next::Wait;
            };
            let length = match chunk {
                Chunk::Bytes(length)
                    if is_goodbye(&buffer[..length]) && self.keeps_server_without_client() =>
                {
                    return Next::End(self.say(&[]));
                }
                Chunk::Bytes(length) => length,
                Chunk::Eof if self.keeps_server_without_client() => return Next::End(self.say(&[])),
                Chunk::Eof => {
                    self.client_left();
                    continue;
                }
                Chunk::Broken => return Next::End(Ending::Silent),
            };
            let now = worker.clock.now();
            // What is read next comes later.
            worker.clock.moves();
            self.idle_since = None;
            self.note_request(is_again);
            let Some(step) = self.forward_requests(cx, &buffer[..length], now) else {
                return Next::End(Ending::Silent);
            };
            self.to_server.input.keep(&buffer[step.forward..length]);
            match step.then {
                ClientThen::ReadOn => {}
                // Processed again when there is room, even if the client sends nothing more.
                ClientThen::Pause => self.to_server.input.process_again(Vec::new()),
                ClientThen::Ask(own) => {
                    self.forward_to_server(cx, &own, now);
                    self.to_server.input.process_again(Vec::new());
                }
                ClientThen::Refuse(refused) => {
                    if self.to_client.write(cx, &mut self.client, &refused.answer, now).is_err() {
                        return Next::End(Ending::Silent);
                    }
                    self.to_server.input.keep(&buffer[refused.dropped..length]);
                    self.to_server.input.process_again(Vec::new());
                    if refused.is_end {
                        self.let_go(cx);
                    }
                    // The other pump writes what the client has not taken of the answer.
                    return Next::Again;
                }
                ClientThen::Terminate => self.client_state = ClientState::Done { told_server: true },
                ClientThen::Unknown(error) => {
                    self.complain(Peer::Client, &error);
                    self.client_state = ClientState::Refused;
                    // Nothing after this message will be read.
                    drop(self.to_server.input.take_held());
                }
                ClientThen::Violation(violation) => return Next::End(self.violation(*violation)),
            }
            if !self.has_news_for_server() {
                return Next::Wait;
            }
            budget = budget.saturating_sub(length.max(READ_COST_BYTES));
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Next::Wait;
            }
        }
    }

    /// Passes a chunk from the client to the session, and forwards what that releases; `None` if the session ends with it.
    #[inline]
    fn forward_requests(&mut self, cx: &mut Context<'_>, chunk: &[u8], now: Instant) -> Option<ClientStep> {
        let worker = Rc::clone(&self.worker);
        let mut rewritten = worker.rewritten.borrow_mut();
        let step = self
            .record(|session, recorder| session.handle_client_renaming(chunk, now, &mut rewritten, recorder));
        let forward = &chunk[..step.forward];
        if matches!(step.then, ClientThen::Terminate) && self.is_over() {
            self.say_goodbye(rewritten.sent(forward));
            return None;
        }
        self.note_snapshot();
        // Another server needs what the client has sent.
        self.keep_for_repeat(forward);
        self.forward_to_server(cx, rewritten.sent(forward), now);
        Some(step)
    }

    /// A request may begin now, which is kept to be sent again.
    #[inline]
    fn note_request(&mut self, is_again: bool) {
        if !self.session.is_before_request() {
            return;
        }
        if !is_again {
            self.repeats = 0;
        }
        if self.retry == Retry::On {
            self.journal.begin(&mut self.worker.journals.borrow_mut());
        }
    }

    /// Server to client, until the server has nothing more or the client takes nothing more.
    pub(super) fn pump_server(&mut self, cx: &mut Context<'_>) -> Next {
        let worker = Rc::clone(&self.worker);
        let mut budget = RELAY_BUDGET_BYTES;
        loop {
            match self.to_client.poll_flush(cx, &mut self.client) {
                Poll::Pending => return Next::Wait,
                Poll::Ready(Err(_broken)) => return Next::End(Ending::Silent),
                Poll::Ready(Ok(blocked)) if blocked.is_zero() => {}
                Poll::Ready(Ok(blocked)) => self.session.note_client_blocked(blocked),
            }
            let Some(ServerConnection { stream, .. }) = self.server.connection_mut() else {
                return Next::Again;
            };
            let mut buffer = worker.buffer.borrow_mut();
            let Poll::Ready(chunk) = self.to_client.poll_chunk(cx, stream, &mut buffer) else {
                return Next::Wait;
            };
            let length = match chunk {
                Chunk::Bytes(length) => length,
                Chunk::Eof => return Next::Lost(ServerLoss::Eof),
                Chunk::Broken => return Next::Lost(ServerLoss::Reset),
            };
            self.watch.heard();
            match self.take_from_server(cx, &buffer[..length]) {
                Next::Wait => {}
                done @ (Next::Again | Next::Lost(_) | Next::End(_)) => return done,
            }
            if self.server.connection().is_some() && !self.has_news_for_client() {
                return Next::Wait;
            }
            budget = budget.saturating_sub(length.max(READ_COST_BYTES));
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Next::Wait;
            }
        }
    }

    /// Passes a chunk from the server to the session, again after each injection, and forwards what the session
    /// releases.
    pub(super) fn take_from_server(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Next {
        let now = self.worker.clock.now();
        self.worker.clock.moves();
        self.answered_at = now;
        let mut rest = chunk;
        let worker = Rc::clone(&self.worker);
        loop {
            let mut rewritten = worker.rewritten.borrow_mut();
            let step = self.record(|session, recorder| {
                session.handle_server_renaming(rest, now, &mut rewritten, recorder)
            });
            let (forward, held) = rest.split_at(step.forward);
            if self.forward_to_client(cx, rewritten.sent(forward), now).is_err() {
                return Next::End(Ending::Silent);
            }
            drop(rewritten);
            let goes_on = step.inject.is_some() || step.dropped > 0;
            if let Some(own) = step.inject
                && self.to_client.write(cx, &mut self.client, &own, now).is_err()
            {
                return Next::End(Ending::Silent);
            }
            rest = &held[step.dropped..];
            match step.then {
                ServerThen::ReadOn => self.watch.stays(),
                ServerThen::Terminated if self.must_inquire() => {
                    self.inquire(rest, now);
                    return Next::Again;
                }
                ServerThen::Farewell | ServerThen::Terminated => self.watch.farewell(now, &self.slot),
                ServerThen::Conflict(SqlState::ADMIN_SHUTDOWN) if self.must_inquire() => {
                    self.inquire(rest, now);
                    return Next::Again;
                }
                ServerThen::Conflict(code) => {
                    self.note_nothing_sent();
                    if self.can_repeat_elsewhere() {
                        self.repeat_elsewhere(code, rest);
                        return Next::Again;
                    }
                    self.session.accept_answer();
                    continue;
                }
                ServerThen::Refused(why) => {
                    if self.leave_to_primary(why, rest) {
                        return Next::Again;
                    }
                    self.session.accept_answer();
                    continue;
                }
                ServerThen::Violation(violation) => return Next::End(self.violation(*violation)),
            }
            if !goes_on {
                self.to_client.input.keep(rest);
                break;
            }
        }
        self.note_snapshot();
        if self.journal.is_open() && self.session.repeatable().is_err() {
            self.journal.close(&mut self.worker.journals.borrow_mut());
        }
        Next::Wait
    }

    /// Copies what goes to the server, while the request in flight may be sent again.
    fn keep_for_repeat(&mut self, bytes: &[u8]) {
        if !self.journal.is_open() {
            return;
        }
        let mut pool = self.worker.journals.borrow_mut();
        match self.session.repeatable() {
            Ok(()) => self.journal.note(bytes, self.live.retry.journal_max, &mut pool),
            Err(_never) => self.journal.close(&mut pool),
        }
    }

    fn forward_to_client(&mut self, cx: &mut Context<'_>, bytes: &[u8], now: Instant) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(ServerConnection { lease, .. }) = self.server.connection() {
            self.worker.metrics.server(lease.server()).bytes_to_client.add(bytes.len() as u64);
        }
        self.to_client.write(cx, &mut self.client, bytes, now)
    }

    pub(super) fn forward_to_server(&mut self, cx: &mut Context<'_>, bytes: &[u8], now: Instant) {
        let Some(ServerConnection { stream, lease, .. }) = self.server.connection_mut() else { return };
        if bytes.is_empty() {
            return;
        }
        self.worker.metrics.server(lease.server()).bytes_to_server.add(bytes.len() as u64);
        if self.to_server.write(cx, stream, bytes, now).is_err() {
            self.to_server.drop_pending();
            hear_last_words(cx);
        }
    }

    /// Forwards the client's last bytes. The proxy does not wait for the server to close, which would cost a
    /// wakeup and a read.
    fn say_goodbye(&mut self, bytes: &[u8]) {
        let Some(ServerConnection { stream, lease, .. }) = self.server.connection() else { return };
        self.worker.metrics.server(lease.server()).bytes_to_server.add(bytes.len() as u64);
        // If the socket does not take them, closing it is enough.
        let _ = stream.try_write_last(bytes);
    }

    /// `Some` while bytes for the server are pending.
    fn flush_to_server(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let Some(ServerConnection { stream, .. }) = self.server.connection_mut() else {
            return Some(Next::Again);
        };
        match self.to_server.poll_flush(cx, stream) {
            Poll::Pending => return Some(Next::Wait),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_broken)) => {
                self.to_server.drop_pending();
                hear_last_words(cx);
            }
        }
        if self.client_state == (ClientState::Done { told_server: false }) {
            let shutdown = Pin::new(stream).poll_shutdown(cx);
            if shutdown.is_ready() {
                self.client_state = ClientState::Done { told_server: true };
            }
        }
        None
    }

    /// Lets others find the session's exported snapshot, before its client is told the name, and for as long as there is one.
    #[inline]
    fn note_snapshot(&mut self) {
        if self.session.exports_snapshot() != self.context.exported.is_some() {
            self.follow_snapshot();
        }
    }

    #[cold]
    fn follow_snapshot(&mut self) {
        let group = self.context.group;
        let server = match &self.server {
            Attachment::Attached(server) if self.session.exports_snapshot() => Some(server.lease.server()),
            Attachment::Attached(_)
            | Attachment::Detached
            | Attachment::Queued(_)
            | Attachment::Taking(_) => None,
        };
        self.context.exported =
            server.map(|server| Box::new(self.worker.shared.snapshots.export(group, server)));
    }

    /// The client closed its sending side: so does the proxy towards the server, after the last byte.
    pub(super) fn client_left(&mut self) {
        let cut_message = self.to_server.input.take_held();
        self.to_server.push_pending(&cut_message);
        self.session.handle_client_eof();
        self.client_state = ClientState::Done { told_server: false };
    }

    /// Whether the client has sent Terminate and no bytes are pending for either side.
    fn is_over(&self) -> bool {
        self.session.is_over() && self.to_server.is_flushed() && self.to_client.is_flushed()
    }

    /// Whether the client's bytes must wait in its socket.
    pub(super) fn is_client_held(&self) -> bool {
        self.session.is_paused() || self.watch.is_leaving() || self.holds_next_unit()
    }

    pub(super) fn violation(&mut self, violation: Violation) -> Ending {
        self.complain(violation.by, &violation.error);
        self.say(violation.report.as_deref().unwrap_or_default())
    }

    /// Logs and counts a violation of the protocol.
    fn complain(&self, by: Peer, error: &dyn fmt::Display) {
        let info = &self.context.info;
        tracing::warn!(
            session.id = info.id.0, client.addr = %info.client, ?by, %error,
            "protocol violation ends the session"
        );
        match by {
            Peer::Client => {
                record::count_refusal(&self.worker, trunkline_telemetry::metrics::RefusalReason::Protocol)
            }
            Peer::Server => self.count_loss(LossCause::Protocol),
        }
    }
}
