//! A session that waits for a server connection of the pools: what its client is told meanwhile, and when nothing comes of it.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, Severity, error_response, notice_response};
use trunkline_pool::limits::NOTICE_AFTER;
use trunkline_session::ClientThen;
use trunkline_topology::ServerId;

use super::attach::{Attachment, Waited};
use super::buffer::Chunk;
use super::pooled::Staying;
use super::{Ending, Next, Relay};
use crate::errors::{code_of, text_of};
use crate::limits::POOL_LOOK_INTERVAL;
use crate::pool::start::{PoolStart, PoolTicket};
use crate::pool::waits::why_not_served;
use crate::server::pooled::LastServer;

/// A wait for a connection such as the session has left, to its last server or another: without a task of its own, nor a
/// timer. Whoever gives one back wakes the session, or else its slot does when it is time to look around.
#[derive(Debug)]
pub(super) struct Queued {
    ticket: PoolTicket,
    last: LastServer,
    /// When it last looked which servers would do.
    looked_at: Instant,
}

impl Relay {
    /// Waits in the queue of the server that the session was on, and in those of whatever others would do.
    pub(super) fn wait_in_queue(
        &mut self,
        cx: &mut Context<'_>,
        ticket: PoolTicket,
        last: LastServer,
    ) -> Next {
        let since = ticket.since;
        // What has found room meanwhile is looked for at intervals. One of its own comes back in a moment.
        let mut servers = match self.has_own_connections() {
            true => Vec::new(),
            false => self.others_known_than(last.server),
        };
        let has_others = !servers.is_empty();
        if has_others {
            servers.insert(0, last.server);
            ticket.set_candidates(&servers);
        }
        self.server = Attachment::Queued(Box::new(Queued { ticket, last, looked_at: since }));
        // One of the others may have had something at once.
        if has_others || self.is_wait_canceled(cx) { Next::Again } else { self.wait_on(cx, since, since) }
    }

    /// Takes what the wait has brought, or goes on waiting.
    pub(super) fn poll_queued(&mut self, cx: &mut Context<'_>) -> Next {
        if self.is_wait_canceled(cx) {
            return Next::Again;
        }
        let queued = match std::mem::replace(&mut self.server, Attachment::Detached) {
            Attachment::Queued(queued) => queued,
            other => {
                self.server = other;
                return Next::Again;
            }
        };
        let Queued { ticket, last, looked_at } = *queued;
        let since = ticket.since;
        let now = self.worker.clock.now();
        match ticket.take(&self.worker.shelf, self.worker.number(), now) {
            Ok(start) => {
                self.worker.metrics.pool_waits.record(now.saturating_duration_since(since));
                self.end_wait(cx, start, last, Waited { since, until: now })
            }
            Err(ticket) => {
                self.server = Attachment::Queued(Box::new(Queued { ticket, last, looked_at }));
                self.wait_on(cx, since, now)
            }
        }
    }

    fn end_wait(&mut self, cx: &mut Context<'_>, start: PoolStart, last: LastServer, waited: Waited) -> Next {
        if self.has_given_up(cx, waited.since) {
            self.put_back(Some(start));
            return Next::End(Ending::Silent);
        }
        if self.decides_anew() {
            self.put_back(Some(start));
            return Next::Again;
        }
        // The verdicts may have changed meanwhile.
        if start.server().is_some_and(|server| !self.is_allowed_on(server)) {
            self.put_back(Some(start));
            return self.search(None, waited.since);
        }
        let left =
            if self.may_stay_on(last.server) { self.take_up(cx, start, last, waited) } else { Some(start) };
        match left {
            None => {
                // It has looked around for the last time.
                self.slot.set_due(None);
                Next::Again
            }
            start => self.search(start, waited.since),
        }
    }

    /// What is to be done while the session waits, since then.
    fn wait_on(&mut self, cx: &mut Context<'_>, since: Instant, now: Instant) -> Next {
        if self.has_given_up(cx, since) {
            return Next::End(Ending::Silent);
        }
        let waited = now.saturating_duration_since(since);
        self.tell_of_wait(cx, waited);
        let is_over = matches!(&self.server, Attachment::Queued(queued) if queued.ticket.is_over());
        if is_over {
            // The pools hear of a reload before their sessions do.
            self.live = self.worker.shared.live();
        }
        let limit = self.live.pool.query_wait_timeout;
        if !limit.is_zero() && waited >= limit {
            let crowd = match std::mem::replace(&mut self.server, Attachment::Detached) {
                Attachment::Queued(queued) => Some(queued.ticket.expire()),
                Attachment::Attached(_) | Attachment::Detached | Attachment::Taking(_) => None,
            };
            let why = why_not_served(crowd.filter(|_| self.has_room_elsewhere()), limit);
            self.wait_ended(&why);
            return Next::Again;
        }
        if is_over {
            self.server = Attachment::Detached;
            return self.search(None, since);
        }
        if let Some(next) = self.look_around(now) {
            return next;
        }
        Next::Wait
    }

    /// Looks, when it is time to, which servers would do by now. `Some` when the session may not have its last one any more:
    /// it searches for another, and keeps its turn.
    fn look_around(&mut self, now: Instant) -> Option<Next> {
        let Attachment::Queued(queued) = &mut self.server else { return Some(Next::Again) };
        let next = queued.looked_at + POOL_LOOK_INTERVAL;
        if now < next && self.context.staying != Staying::Unknown {
            self.slot.due_by(next);
            return None;
        }
        queued.looked_at = now;
        let last = queued.last.server;
        self.slot.due_by(now + POOL_LOOK_INTERVAL);
        let may_stay = self.may_stay_on(last);
        let others = self.others_than(last);
        let own = may_stay.then_some(last);
        let servers: Vec<ServerId> = own.into_iter().chain(others).collect();
        let Attachment::Queued(queued) = &self.server else { return Some(Next::Again) };
        if !servers.is_empty() {
            queued.ticket.set_candidates(&servers);
        }
        if may_stay {
            return None;
        }
        match std::mem::replace(&mut self.server, Attachment::Detached) {
            Attachment::Queued(queued) => {
                let since = queued.ticket.since;
                Some(self.search(Some(PoolStart::Wait(queued.ticket)), since))
            }
            other => {
                self.server = other;
                Some(Next::Again)
            }
        }
    }

    /// Tells a client once that it waits for a server connection, since `waited` is long.
    pub(super) fn tell_of_wait(&mut self, cx: &mut Context<'_>, waited: Duration) {
        if waited < NOTICE_AFTER || self.seat_among_others().is_none() || self.context.is_told_to_wait {
            return;
        }
        if self.begins_unasked() {
            return;
        }
        self.context.is_told_to_wait = true;
        let (message, hint) = match self.waits_for_connection() {
            true => (
                "the request waits for a free server connection of the proxy",
                "An administrator can raise pool_size, or find out who holds connections with \"trunkline sessions\".",
            ),
            false => (
                "the request waits for a server that can take it",
                "An administrator can ask for the state of the servers with \"trunkline status\".",
            ),
        };
        let detail = format!("It has waited for {} s, and goes on.", waited.as_secs());
        let mut notice = BytesMut::new();
        let report = ErrorReport {
            severity: Severity::Notice,
            code: SqlState::SUCCESSFUL_COMPLETION,
            message,
            detail: Some(&detail),
            hint: Some(hint),
        };
        notice_response(&mut notice, &report);
        // A client that has gone is noticed when it is read.
        let _gone = self.to_client.write(cx, &mut self.client, &notice, Instant::now());
    }

    /// Whether there is a server for the request, and what it waits for is a connection.
    fn waits_for_connection(&self) -> bool {
        let waiting = self.context.seat.as_ref().map(|seat| seat.pools().lock().crowd_of(seat.id()).waiting);
        waiting > Some(0) && self.has_room_elsewhere()
    }

    /// A server has refused the connection that the request needs because it has too many: the request gets an error, and the
    /// session goes on. `Err` for any other refusal.
    pub(super) fn is_refused_by_limit(&mut self, refusal: Bytes) -> Result<(), Bytes> {
        if self.seat_in_transaction_mode().is_none()
            || code_of(&refusal) != Some(SqlState::TOO_MANY_CONNECTIONS)
            || !self.has_nothing_on_servers()
        {
            return Err(refusal);
        }
        let said = text_of(&refusal).unwrap_or_default();
        self.wait_ended(&format!("The server says: {said}."));
        Ok(())
    }

    /// Ends the wait where the client has canceled its request, which was not sent to any server: it gets the error that a
    /// server would send, and the session goes on.
    pub(super) fn is_wait_canceled(&mut self, cx: &Context<'_>) -> bool {
        let may_end = self.seat_in_transaction_mode().is_some()
            && self.repeated().is_none()
            && self.has_nothing_on_servers()
            && !self.begins_unasked();
        if !may_end || !self.context.cancel.waits(cx.waker()) {
            return false;
        }
        self.server = Attachment::Detached;
        self.context.cancel.wait_ended();
        self.context.is_told_to_wait = false;
        let mut error = BytesMut::new();
        let report = ErrorReport::error(SqlState::QUERY_CANCELED, "canceling statement due to user request");
        error_response(&mut error, &report);
        self.session.refuse_next(error.freeze());
        true
    }

    /// The wait has come to nothing: the client's request gets this error, and the session goes on.
    pub(super) fn wait_ended(&mut self, why: &str) {
        self.context.cancel.wait_ended();
        self.context.is_told_to_wait = false;
        if self.begins_unasked() {
            return self.holds_on();
        }
        let info = &self.context.info;
        tracing::warn!(
            session.id = info.id.0, client.addr = %info.client, db.user = %info.names.user, db.name = %info.names.database, why,
            "a request got no server connection"
        );
        let mut error = BytesMut::new();
        let report = ErrorReport::error(
            SqlState::TOO_MANY_CONNECTIONS,
            "no server connection was free for the request",
        )
        .with_detail(why)
        .with_hint("Try again later. An administrator can find out who holds connections with \"trunkline sessions\", and raise pool_size, or query_wait_timeout.");
        error_response(&mut error, &report);
        self.session.refuse_next(error.freeze());
    }

    /// Answers the request that got no server connection.
    pub(super) fn refuse_without_server(&mut self, cx: &mut Context<'_>) -> Next {
        let worker = std::rc::Rc::clone(&self.worker);
        loop {
            let mut buffer = worker.buffer.borrow_mut();
            let length = match self.to_server.poll_chunk(cx, &mut self.client, &mut buffer) {
                Poll::Pending => return Next::Wait,
                Poll::Ready(Chunk::Bytes(length)) => length,
                Poll::Ready(Chunk::Eof) => return Next::End(self.say(&[])),
                Poll::Ready(Chunk::Broken) => return Next::End(Ending::Silent),
            };
            let now = Instant::now();
            let step = self.record(|session, recorder| {
                let mut rewritten = worker.rewritten.borrow_mut();
                session.handle_client_renaming(&buffer[..length], now, &mut rewritten, recorder)
            });
            match step.then {
                ClientThen::Refuse(refused) => {
                    if self.to_client.write(cx, &mut self.client, &refused.answer, now).is_err() {
                        return Next::End(Ending::Silent);
                    }
                    self.to_server.input.keep(&buffer[refused.dropped..length]);
                    if refused.dropped < length {
                        self.to_server.input.process_again(Vec::new());
                    }
                    if !self.session.has_deferred_error() {
                        return Next::Again;
                    }
                }
                ClientThen::Violation(violation) => return Next::End(self.violation(*violation)),
                ClientThen::ReadOn if step.forward == 0 => self.to_server.input.keep(&buffer[..length]),
                // A goodbye; anything else would need a server.
                _goodbye => return Next::End(self.say(&[])),
            }
        }
    }
}
