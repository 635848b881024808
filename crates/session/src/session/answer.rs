//! The model of the conversation: which answer belongs to which request.
//!
//! A message that fits no request is an error; the session is then relayed without being tracked.

use trunkline_codec::backend::{BackendTag, ErrorFields, ReadyForQuery, TransactionStatus};
use trunkline_codec::sqlstate::SqlState;

use crate::carried::residue::ForeignUnnamed;
use crate::conversation::farewell::shutdown_notice;
use crate::conversation::outstanding::{Entry, Request, RequestKind};
use crate::conversation::state::{
    AnswerProgress, CopyState, Farewell, Joined, ObjectsMade, Pipeline, Syncs, TransactionEffect,
};
use crate::pin::PinReason;
use crate::record::{Sink, StatementKind, StatementRecord};
use crate::recovery::attempt::Attempt;
use crate::session::Session;
use crate::session::announce::Figures;
use crate::timing::Outcome;

impl Session {
    /// One message arrived from the server. Of a large one `body` is the first part and `length`
    /// the whole.
    #[inline]
    pub(crate) fn answered(
        &mut self,
        tag: BackendTag,
        body: &[u8],
        length: u64,
        now: u64,
        out: &mut impl Sink,
    ) -> Result<(), PinReason> {
        let is_explained = match tag {
            BackendTag::DataRow => self.data_row(length, now),
            BackendTag::ReadyForQuery => self.ready(body, length, now, out),
            BackendTag::CommandComplete => self.command_complete(body, length, now, out),
            BackendTag::BindComplete => self.settle(Request::Bind),
            BackendTag::ParseComplete => self.settle(Request::Parse),
            BackendTag::CloseComplete => self.settle(Request::Close),
            BackendTag::RowDescription | BackendTag::NoData => self.described(tag, body, length, now),
            BackendTag::ParameterDescription => self.parameters_described(body),
            BackendTag::EmptyQueryResponse => self.executed(Outcome::Empty, length, now, out),
            BackendTag::PortalSuspended => self.suspended(length, now, out),
            BackendTag::CopyInResponse => self.copy_in(length, now),
            BackendTag::CopyOutResponse => self.copy_out(CopyState::Out, length, now),
            BackendTag::CopyBothResponse => self.copy_out(CopyState::Both, length, now),
            BackendTag::CopyData => self.copy_data(length, now),
            BackendTag::CopyDone => self.copy_done(length, now),
            BackendTag::FunctionCallResponse => self.function_returned(length, now),
            BackendTag::ErrorResponse => return self.failed(body, length, now, out),
            BackendTag::NoticeResponse => self.noticed(body),
            // Asynchronous: may come between any two messages.
            BackendTag::ParameterStatus | BackendTag::NotificationResponse => true,
            BackendTag::Authentication
            | BackendTag::BackendKeyData
            | BackendTag::NegotiateProtocolVersion
            | BackendTag::Unknown(_) => false,
        };
        if is_explained { Ok(()) } else { Err(PinReason::UnexpectedMessage(tag.byte())) }
    }

    /// Part of a statement's answer.
    #[inline]
    fn underway(&mut self, length: u64, now: u64) {
        self.conversation.progress = AnswerProgress::Underway;
        self.meter.answered(length, now);
    }

    /// A row of a result: by far the most frequent message.
    #[inline]
    pub(crate) fn data_row(&mut self, length: u64, now: u64) -> bool {
        if !self.conversation.is_running() {
            return false;
        }
        self.underway(length, now);
        self.meter.rows += 1;
        true
    }

    /// The only answer to a Parse, Bind or Close.
    #[inline]
    fn settle(&mut self, request: Request) -> bool {
        if self.conversation.front() != Some(request) {
            return false;
        }
        let Some(entry) = self.conversation.outstanding.settle() else { return false };
        if self.residue.unnamed != ForeignUnnamed::None {
            self.foreign_unnamed_answered();
        }
        if let Some(followed) = &mut self.carried.followed {
            match request {
                Request::Parse => followed.parse_answered(),
                Request::Close => followed.prepared.close_answered(),
                _bind => {}
            }
            followed.prepared.texts.release(entry.text);
            if entry.class.is_shared() {
                followed.prepared.renamed.pop();
            }
        }
        self.conversation.next_of_pipeline();
        true
    }

    fn parameters_described(&mut self, body: &[u8]) -> bool {
        let Some(entry) = self.conversation.outstanding.front() else { return false };
        let is_due = entry.request == Request::DescribeStatement
            && self.conversation.progress == AnswerProgress::Untouched;
        if is_due {
            self.conversation.progress = AnswerProgress::Underway;
        }
        if let (Some(followed), true, true) = (&mut self.carried.followed, is_due, entry.class.is_noted()) {
            followed.prepared.parameters_described(body);
        }
        is_due
    }

    #[inline]
    fn described(&mut self, tag: BackendTag, body: &[u8], length: u64, now: u64) -> bool {
        match (self.conversation.front(), self.conversation.progress) {
            (Some(Request::Query), _)
                if tag == BackendTag::RowDescription && self.conversation.is_running() =>
            {
                self.underway(length, now);
                return true;
            }
            (Some(Request::DescribePortal), AnswerProgress::Untouched)
            | (Some(Request::DescribeStatement), AnswerProgress::Underway) => {}
            _unexplained => return false,
        }
        if let Some(entry) = self.conversation.outstanding.settle() {
            if let (Some(followed), true) = (&mut self.carried.followed, entry.class.is_noted()) {
                followed.prepared.columns_described(tag, body);
            }
            self.release(entry);
        }
        self.conversation.next_of_pipeline();
        true
    }

    #[inline]
    fn command_complete(&mut self, body: &[u8], length: u64, now: u64, out: &mut impl Sink) -> bool {
        match self.conversation.copy {
            CopyState::None => {}
            CopyState::InEnded(_) => self.conversation.copy = CopyState::None,
            CopyState::In(_) | CopyState::Out | CopyState::Both => return false,
        }
        if !self.conversation.is_running() {
            return false;
        }
        self.meter.set_tag(body);
        if let (Some(followed), b"DISCARD ALL\0" | b"DEALLOCATE ALL\0") = (&mut self.carried.followed, body) {
            followed.prepared.deallocate_all();
        }
        if self.conversation.outstanding.front().is_some_and(|front| !front.class.is_repeatable()) {
            self.may_have_inserted(body);
            self.conversation.objects.completed(body);
        }
        self.follow_completed(body);
        self.executed(Outcome::Tag, length, now, out)
    }

    fn suspended(&mut self, length: u64, now: u64, out: &mut impl Sink) -> bool {
        if self.conversation.front() != Some(Request::Execute) {
            return false;
        }
        self.follow_suspended();
        self.executed(Outcome::Suspended, length, now, out)
    }

    /// A statement of a Query, or all of an Execute, is complete.
    #[inline]
    fn executed(&mut self, outcome: Outcome, length: u64, now: u64, out: &mut impl Sink) -> bool {
        if !self.conversation.is_running() {
            return false;
        }
        self.underway(length, now);
        self.meter.outcome = outcome;
        if self.conversation.front() == Some(Request::Execute) {
            if let Some(entry) = self.conversation.outstanding.settle() {
                self.record(entry, now, out);
            }
            self.conversation.next_of_pipeline();
        }
        true
    }

    fn copy_in(&mut self, length: u64, now: u64) -> bool {
        if !self.conversation.is_running() {
            return false;
        }
        self.underway(length, now);
        let seen = self.conversation.outstanding.copy_in();
        let syncs = if seen.has_lost_sync { Syncs::Lost } else { Syncs::NoneLost };
        self.conversation.copy =
            if seen.has_ended { CopyState::InEnded(syncs) } else { CopyState::In(syncs) };
        true
    }

    fn copy_out(&mut self, copy: CopyState, length: u64, now: u64) -> bool {
        if !self.conversation.is_running() {
            return false;
        }
        self.underway(length, now);
        self.conversation.copy = copy;
        true
    }

    #[inline]
    fn copy_data(&mut self, length: u64, now: u64) -> bool {
        let is_due = matches!(self.conversation.copy, CopyState::Out | CopyState::Both);
        if is_due {
            self.meter.answered(length, now);
        }
        is_due
    }

    fn copy_done(&mut self, length: u64, now: u64) -> bool {
        let is_due = self.copy_data(length, now);
        if is_due {
            self.conversation.copy = CopyState::None;
        }
        is_due
    }

    fn function_returned(&mut self, length: u64, now: u64) -> bool {
        let is_due = self.conversation.front() == Some(Request::FunctionCall)
            && self.conversation.progress == AnswerProgress::Untouched;
        if is_due {
            self.meter.answered(length, now);
            self.conversation.progress = AnswerProgress::Settled;
            self.conversation.objects = ObjectsMade::Possible;
            self.follow_function_returned();
        }
        is_due
    }

    #[inline]
    fn ready(&mut self, body: &[u8], length: u64, now: u64, out: &mut impl Sink) -> bool {
        let is_due = match self.conversation.front() {
            Some(Request::Query) => {
                self.conversation.progress != AnswerProgress::Untouched
                    && self.conversation.copy == CopyState::None
            }
            Some(Request::FunctionCall) => self.conversation.progress == AnswerProgress::Settled,
            Some(Request::Sync) => true,
            _unexplained => false,
        };
        let (true, Ok(ReadyForQuery { status })) = (is_due, ReadyForQuery::parse(body)) else {
            return false;
        };
        let Some(entry) = self.conversation.outstanding.settle() else { return false };
        self.conversation.status = status;
        if entry.request != Request::Sync {
            self.meter.bytes += length;
            self.record(entry, now, out);
        }
        if entry.request == Request::Query {
            self.residue.unnamed = ForeignUnnamed::None;
            if let Some(followed) = &mut self.carried.followed {
                followed.prepared.query_answered();
            }
        }
        self.conversation.progress = AnswerProgress::Untouched;
        if entry.request == Request::Sync || status == TransactionStatus::Idle {
            self.conversation.joined = Joined::Nothing;
        } else if self.conversation.pipeline != Pipeline::Synced {
            self.conversation.joined = Joined::Series;
        }
        self.conversation.pipeline = Pipeline::Synced;
        self.conversation.transaction_effect = TransactionEffect::Unchanged;
        if !self.conversation.farewell.is_forwarded() {
            self.conversation.farewell = Farewell::Staying;
        }
        if let Some(announce) = &mut self.announce {
            announce.ready();
        }
        if status == TransactionStatus::Idle {
            self.conversation.objects = ObjectsMade::None;
            self.follow_transaction_ended();
        }
        if status == TransactionStatus::Idle && self.conversation.outstanding.is_empty() {
            self.recovery.attempt = Attempt::Idle;
        }
        true
    }

    pub(crate) fn noticed(&mut self, body: &[u8]) -> bool {
        if let Some(code) = shutdown_notice(body)
            && !self.conversation.farewell.is_forwarded()
        {
            self.conversation.farewell = Farewell::Announced(code);
        }
        true
    }

    fn failed(&mut self, body: &[u8], length: u64, now: u64, out: &mut impl Sink) -> Result<(), PinReason> {
        let fields = ErrorFields::new(body);
        let code = fields.sqlstate();
        if fields.is_fatal() {
            self.ended(code, length, now, out);
            return Ok(());
        }
        let unexplained = Err(PinReason::UnexpectedMessage(BackendTag::ErrorResponse.byte()));
        let Some(entry) = self.conversation.outstanding.front() else { return unexplained };
        match self.conversation.copy {
            CopyState::In(Syncs::Lost) | CopyState::InEnded(Syncs::Lost) => {
                return Err(PinReason::SyncInFailedCopy);
            }
            CopyState::In(Syncs::NoneLost) | CopyState::InEnded(Syncs::NoneLost) | CopyState::None => {}
            CopyState::Out | CopyState::Both => {}
        }
        self.follow_failed(entry.request, entry.class);
        if entry.class.is_shared() {
            self.shared_is_refused(entry.request, code);
        }
        match entry.request.kind() {
            RequestKind::Query | RequestKind::FunctionCall | RequestKind::Sync => {
                if self.conversation.progress == AnswerProgress::Settled {
                    return unexplained;
                }
                if entry.request != Request::Sync {
                    self.meter.answered(length, now);
                    self.meter.outcome = Outcome::Failed(code);
                }
                self.conversation.progress = AnswerProgress::Settled;
                self.conversation.copy = CopyState::None;
            }
            RequestKind::Extended => {
                self.meter.answered(length, now);
                self.meter.outcome = Outcome::Failed(code);
                self.skip_to_sync(now, out);
            }
            RequestKind::CopyEnd => return unexplained,
        }
        Ok(())
    }

    /// An extended message failed: the server discards what follows it, up to the next Sync.
    fn skip_to_sync(&mut self, now: u64, out: &mut impl Sink) {
        self.conversation.copy = CopyState::None;
        self.conversation.progress = AnswerProgress::Untouched;
        self.conversation.pipeline = Pipeline::Skipping;
        if let Some(entry) = self.conversation.outstanding.pop() {
            self.record(entry, now, out);
        }
        while let Some(entry) = self.conversation.outstanding.front() {
            if entry.request == Request::Sync {
                self.conversation.pipeline = Pipeline::Failed;
                return;
            }
            self.conversation.outstanding.pop();
            self.discard(entry);
        }
        // What was sent before the client's next message is skipped with the rest.
        self.conversation.own = None;
    }

    /// A FATAL error: nothing follows. The statement in progress failed with it; those after it
    /// never began.
    fn ended(&mut self, code: Option<SqlState>, length: u64, now: u64, out: &mut impl Sink) {
        self.conversation.farewell = Farewell::Forwarded(code);
        self.forget_own();
        let Some(entry) = self.conversation.outstanding.pop() else { return };
        if entry.request == Request::Sync {
            return;
        }
        self.meter.answered(length, now);
        if self.conversation.progress != AnswerProgress::Settled {
            self.meter.outcome = Outcome::Failed(code);
        }
        self.record(entry, now, out);
        self.conversation.progress = AnswerProgress::Untouched;
    }

    /// Releases what an answered entry holds.
    #[inline]
    pub(crate) fn release(&mut self, entry: Entry) {
        if let Some(followed) = &mut self.carried.followed {
            followed.prepared.texts.release(entry.text);
            if entry.class.is_shared() {
                followed.prepared.renamed.pop();
            }
        }
    }

    /// An entry will have no answer.
    pub(crate) fn discard(&mut self, entry: Entry) {
        if entry.class.is_own() {
            return;
        }
        if let (Some(followed), true) = (&mut self.carried.followed, entry.class.is_noted()) {
            followed.prepared.describe_dropped();
        }
        if let (Some(followed), Request::Parse | Request::Close) = (&mut self.carried.followed, entry.request)
        {
            followed.prepared.dropped();
        }
        if let (Some(followed), true) = (&mut self.carried.followed, entry.class.has_effects()) {
            followed.drop_effects();
        }
        self.release(entry);
    }

    /// Records a complete statement, and begins the next.
    #[inline]
    pub(crate) fn record(&mut self, entry: Entry, now: u64, out: &mut impl Sink) {
        let timing = self.meter.timing(entry.sent, now);
        let (rows, bytes) = (self.meter.rows, self.meter.bytes);
        let sampled = if entry.request.is_run() { self.sampler.completed(entry.sent) } else { None };
        if let Some(kind) = StatementKind::of(entry.request) {
            out.statement(&StatementRecord {
                kind,
                sql: self.carried.followed.as_ref().and_then(|f| f.prepared.logged_sql(entry.text)),
                completion: self.meter.completion(),
                transaction: self.conversation.status,
                timing,
                rows,
                bytes,
                retries: u32::from(self.meter.retries),
                server: &self.conversation.server_name,
                sampled,
            });
        }
        if let Some(announce) = &mut self.announce {
            announce.last = Some(Figures { timing, rows, bytes });
        }
        self.meter.reset(now);
        self.discard(entry);
    }
}
