//! A client that keeps its connection after its server was lost with a request or transaction open.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::FrontendTag;
use trunkline_codec::scan::{FrameError, Piece};
use trunkline_codec::write;

use crate::conversation::outstanding::Request;
use crate::conversation::state::{ClientEnd, CopyState, Mode};
use crate::limits::ROLLBACK_SERIES_MAX;
use crate::names::{bind_of, parse_of};
use crate::pin::NotRepeatable;
use crate::record::Sink;
use crate::recovery::attempt::Attempt;
use crate::recovery::deferred_error::{DeferredError, Delivery};
use crate::session::Session;
use crate::sql::read::{TransactionEnd, transaction_end};
use crate::step::Refused;

/// What a message is that comes from a client with a deferred error.
enum IncomingMessage {
    /// It has no answer.
    Unanswered,
    /// Query, FunctionCall, or a Sync on its own.
    Whole,
    /// The first of a series that ends with a Sync.
    Extended,
    /// The same, but its Sync has not arrived: the series may be a ROLLBACK.
    Incomplete,
    /// It is a ROLLBACK or Terminate, which needs no error.
    NeedsNoError,
}

impl Session {
    /// Whether the connection could go on with an error if the server were lost now: the client and the
    /// server are between two messages, nothing but a transaction is lost with the server, and at most one
    /// request is in flight, all of it.
    pub(crate) fn is_keepable(&self) -> bool {
        let is_in_step = self.mode == Mode::Tracked
            && self.client.end == ClientEnd::Open
            && self.client.scanner.is_at_boundary()
            && self.conversation.scanner.is_at_boundary();
        let is_copying = match self.conversation.copy {
            CopyState::None | CopyState::Out => false,
            CopyState::In(_) | CopyState::InEnded(_) | CopyState::Both => true,
        };
        is_in_step && !is_copying && self.movability().is_ok() && self.conversation.is_one_unit_in_flight()
    }

    /// Whether the next request of the client is answered with the error of a transaction that was lost.
    #[must_use]
    pub fn has_deferred_error(&self) -> bool {
        self.recovery.deferred_error.is_some()
    }

    /// Whether a client without a request in flight has to get an error for the lost server. A failed transaction is the same on any
    /// server, unless it has a savepoint to go back to.
    pub(crate) fn must_report_loss(&self, was: TransactionStatus) -> bool {
        match was {
            TransactionStatus::Idle => false,
            TransactionStatus::InTransaction => true,
            TransactionStatus::Failed => {
                self.carried.followed.as_ref().is_some_and(|followed| followed.has_savepoint())
            }
        }
    }

    /// The server is lost: what is in flight fails with `error`, unless the client has its error already.
    /// Returns what to write to the client; nothing if it waits for nothing.
    pub(crate) fn keep(&mut self, error: Bytes, now: Instant, out: &mut impl Sink) -> Bytes {
        let (was, at_now) = (self.conversation.status, self.meter.at(now));
        let is_told = self.conversation.has_seen_failure() || self.conversation.has_seen_end();
        self.conversation.status = self.conversation.status_once_failed();
        let mut answer = BytesMut::new();
        if self.conversation.outstanding.is_empty() {
            if self.must_report_loss(was) {
                self.recovery.deferred_error =
                    Some(Box::new(DeferredError { error, delivery: Delivery::NotBegun, is_commit: false }));
            }
        } else {
            if !is_told {
                answer.extend_from_slice(&error);
            }
            if let Some(told) = self.messages_before_ready(at_now) {
                answer.extend_from_slice(&told);
            }
            self.position_lost(&mut answer);
            write::ready_for_query(&mut answer, self.conversation.status);
        }
        self.forget_in_flight(now, out);
        answer.freeze()
    }

    /// The next request of a client that waits for a server gets `error`, and no server gets the request.
    pub fn refuse_next(&mut self, error: Bytes) {
        if self.conversation.status == TransactionStatus::InTransaction {
            return self.fail_transaction(error);
        }
        self.recovery.deferred_error =
            Some(Box::new(DeferredError { error, delivery: Delivery::NotBegun, is_commit: false }));
    }

    /// The transaction has failed with `error` while its client waited for nothing.
    pub(crate) fn transaction_failed(&mut self, error: Bytes) {
        self.conversation.status = TransactionStatus::Failed;
        if let Some(followed) = &mut self.carried.followed {
            followed.has_failed = true;
        }
        self.recovery.deferred_error =
            Some(Box::new(DeferredError { error, delivery: Delivery::NotBegun, is_commit: false }));
    }

    fn forget_in_flight(&mut self, now: Instant, out: &mut impl Sink) {
        let is_query = self.conversation.outstanding.front_request() == Some(Request::Query);
        if let Some(followed) = &mut self.carried.followed {
            followed.server_lost(is_query);
        }
        self.finish(now, out);
        self.meter.reset(self.meter.at(now));
        if let Some(announce) = &mut self.announce {
            announce.ready();
        }
        self.conversation.server_lost();
        self.recovery.attempt = Attempt::Closed(NotRepeatable::Answered);
        if self.conversation.status == TransactionStatus::Idle {
            self.forget_transaction();
        }
    }

    fn forget_transaction(&mut self) {
        self.recovery.attempt = Attempt::Idle;
        self.follow_transaction_lost();
    }

    /// Answers what the client sends with the deferred error, in place of a server. `None` once there is
    /// nothing to refuse.
    #[cold]
    pub(crate) fn refuse(&mut self, chunk: &[u8]) -> Result<Option<Refused>, FrameError> {
        let mut end = 0;
        let mut answer = BytesMut::new();
        let was = self.conversation.status;
        while let Some(deferred_error) = &self.recovery.deferred_error {
            let (delivery, before) = (deferred_error.delivery, end);
            let piece = match self.client.scanner.next(chunk, &mut end) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // What came before it is answered first.
                Err(_again) if end > 0 => break,
                Err(error) => return Err(error),
            };
            let (tag, body, is_last) = match piece {
                Piece::Message { tag, body } => (FrontendTag::from_byte(tag), body, true),
                Piece::Start { tag, body, .. } => (FrontendTag::from_byte(tag), body, false),
                // Of a Query, or of a message that is dropped.
                Piece::More { is_last, .. } => {
                    if is_last && delivery == Delivery::InQuery {
                        self.tell(&mut answer, true);
                    }
                    continue;
                }
            };
            match (self.classify_incoming(tag, body, is_last, &chunk[before..]), delivery) {
                (IncomingMessage::Incomplete, Delivery::NotBegun) => {
                    end = before;
                    break;
                }
                (IncomingMessage::NeedsNoError, Delivery::NotBegun) if is_last => {
                    self.recovery.deferred_error = None;
                    end = before;
                }
                (_, Delivery::UntilSync) if tag == FrontendTag::Terminate => {
                    self.recovery.deferred_error = None;
                    end = before;
                }
                (_, Delivery::UntilSync) if tag == FrontendTag::Sync => self.end_deferred_error(&mut answer),
                (_, Delivery::UntilSync | Delivery::InQuery)
                | (IncomingMessage::Unanswered, Delivery::NotBegun) => {}
                (IncomingMessage::Extended, Delivery::NotBegun) => self.tell(&mut answer, false),
                (IncomingMessage::Whole | IncomingMessage::NeedsNoError, Delivery::NotBegun) if is_last => {
                    self.tell(&mut answer, true);
                }
                (IncomingMessage::Whole | IncomingMessage::NeedsNoError, Delivery::NotBegun) => {
                    if let Some(deferred_error) = &mut self.recovery.deferred_error {
                        deferred_error.delivery = Delivery::InQuery;
                    }
                }
            }
        }
        let is_end = self.conversation.status != was;
        Ok((end > 0).then(|| Refused { dropped: end, answer: answer.freeze(), is_end }))
    }

    /// Classifies the message at the start of `rest`.
    fn classify_incoming(
        &mut self,
        tag: FrontendTag,
        body: &[u8],
        is_whole: bool,
        rest: &[u8],
    ) -> IncomingMessage {
        let sql = match tag {
            _ if !is_whole => None,
            FrontendTag::Query => Some(body.strip_suffix(b"\0").unwrap_or(body)),
            FrontendTag::Parse => parse_of(body).map(|parse| parse.sql),
            FrontendTag::Bind => bind_of(body).and_then(|bind| self.prepared_sql(bind.statement)),
            _other => None,
        };
        let end = sql.and_then(transaction_end);
        if let Some(deferred_error) = &mut self.recovery.deferred_error
            && deferred_error.delivery == Delivery::NotBegun
        {
            deferred_error.is_commit = end == Some(TransactionEnd::Commit);
        }
        // Outside a transaction there is nothing that it could end.
        let is_end =
            end == Some(TransactionEnd::Rollback) && self.conversation.status != TransactionStatus::Idle;
        match tag {
            FrontendTag::Query if is_end => IncomingMessage::NeedsNoError,
            _ if is_end => match self.is_rollback_series(rest) {
                Some(true) => IncomingMessage::NeedsNoError,
                Some(false) => IncomingMessage::Extended,
                None => IncomingMessage::Incomplete,
            },
            FrontendTag::Terminate => IncomingMessage::NeedsNoError,
            FrontendTag::Query | FrontendTag::FunctionCall | FrontendTag::Sync => IncomingMessage::Whole,
            FrontendTag::Flush if body.is_empty() => IncomingMessage::Unanswered,
            FrontendTag::CopyData | FrontendTag::CopyDone | FrontendTag::CopyFail => {
                IncomingMessage::Unanswered
            }
            _extended => IncomingMessage::Extended,
        }
    }

    fn prepared_sql(&self, statement: &[u8]) -> Option<&[u8]> {
        self.carried.followed.as_ref()?.prepared.sql(statement)
    }

    /// Whether a series of extended messages runs a ROLLBACK and nothing else; `None` until its Sync has arrived. The
    /// whole series is read: a Parse does not say which statement is run.
    fn is_rollback_series(&self, series: &[u8]) -> Option<bool> {
        let is_rollback = |sql: &[u8]| transaction_end(sql) == Some(TransactionEnd::Rollback);
        let mut scanner = self.client.scanner.clone();
        let (mut at, mut parsed, mut is_bound) = (0, None, false);
        while at <= ROLLBACK_SERIES_MAX {
            let (tag, body) = match scanner.next(series, &mut at) {
                Ok(Some(Piece::Message { tag, body })) => (FrontendTag::from_byte(tag), body),
                Ok(None) if series.len() <= ROLLBACK_SERIES_MAX => return None,
                Ok(_) | Err(_) => return Some(false),
            };
            let goes_on = match tag {
                FrontendTag::Parse => {
                    let parse = parse_of(body);
                    parsed = parse.map(|parse| parse.name);
                    parse.is_some_and(|parse| is_rollback(parse.sql))
                }
                FrontendTag::Bind => bind_of(body).is_some_and(|bind| {
                    is_bound = true;
                    parsed == Some(bind.statement)
                        || self.prepared_sql(bind.statement).is_some_and(is_rollback)
                }),
                FrontendTag::Describe | FrontendTag::Execute => true,
                FrontendTag::Sync => return Some(is_bound),
                _other => false,
            };
            if !goes_on {
                return Some(false);
            }
        }
        Some(false)
    }

    fn tell(&mut self, answer: &mut BytesMut, is_whole: bool) {
        if let Some(deferred_error) = &mut self.recovery.deferred_error {
            answer.extend_from_slice(&deferred_error.error);
            deferred_error.delivery = Delivery::UntilSync;
        }
        if is_whole {
            self.end_deferred_error(answer);
        }
    }

    fn end_deferred_error(&mut self, answer: &mut BytesMut) {
        if self.recovery.deferred_error.take().is_some_and(|deferred_error| deferred_error.is_commit) {
            self.conversation.status = TransactionStatus::Idle;
            self.forget_transaction();
        }
        write::ready_for_query(answer, self.conversation.status);
    }
}
