//! A session that waits for a server connection of the pools: what its client is told meanwhile, and when nothing comes of it.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, Severity, error_response, notice_response};
use trunkline_pool::limits::NOTICE_AFTER;
use trunkline_session::ClientThen;

use super::buffer::Chunk;
use super::{Ending, Next, Relay};

impl Relay {
    /// Tells a client once that it waits for a server connection, since `waited` is long.
    pub(super) fn tell_of_wait(&mut self, cx: &mut Context<'_>, waited: Duration) {
        if waited < NOTICE_AFTER || self.seat_in_transaction_mode().is_none() || self.context.is_told_to_wait
        {
            return;
        }
        self.context.is_told_to_wait = true;
        let detail = format!("It has waited for {} s, and goes on.", waited.as_secs());
        let mut notice = BytesMut::new();
        let report = ErrorReport {
            severity: Severity::Notice,
            code: SqlState::SUCCESSFUL_COMPLETION,
            message: "the request waits for a free server connection of the proxy",
            detail: Some(&detail),
            hint: Some(
                "An administrator can raise pool_size, or find out who holds connections with \"trunkline sessions\".",
            ),
        };
        notice_response(&mut notice, &report);
        // A client that has gone is noticed when it is read.
        let _gone = self.to_client.write(cx, &mut self.client, &notice, Instant::now());
    }

    /// The wait has come to nothing: the client's request gets this error, and the session goes on.
    pub(super) fn wait_ended(&mut self, why: &str) {
        let info = &self.context.info;
        tracing::warn!(
            session.id = info.id.0, client.addr = %info.client, db.user = %info.user, db.name = %info.database, why,
            "a request got no server connection"
        );
        let mut error = BytesMut::new();
        let report = ErrorReport::error(
            SqlState::TOO_MANY_CONNECTIONS,
            "no server connection was free for the request",
        )
        .with_detail(why)
        .with_hint("Try again later; an administrator can raise pool_size or query_wait_timeout.");
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
            let step =
                self.record(|session, recorder| session.handle_client(&buffer[..length], now, recorder));
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
                _goodbye => return Next::End(Ending::Silent),
            }
        }
    }
}
