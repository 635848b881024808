//! What is in flight, and what the client has seen of it.

use trunkline_codec::backend::{BackendTag, TransactionStatus};
use trunkline_codec::frontend::FrontendTag;
use trunkline_codec::scan::Piece;

use super::Conversation;
use super::farewell::is_farewell;
use super::outstanding::{Entry, Request, RequestKind};
use super::state::{AnswerProgress, CopyState, Pipeline, TransactionEffect};
use crate::sql::Class;

impl Conversation {
    #[inline]
    pub(crate) fn front(&self) -> Option<Request> {
        self.outstanding.front_request()
    }

    /// Whether the oldest request is a statement whose answer may go on outside COPY.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        let is_statement = matches!(self.front(), Some(Request::Query | Request::Execute));
        is_statement && self.progress != AnswerProgress::Settled && self.copy == CopyState::None
    }

    /// An extended message is answered.
    #[inline]
    pub(crate) fn next_of_pipeline(&mut self) {
        self.progress = AnswerProgress::Untouched;
        self.pipeline = Pipeline::Unsynced;
    }

    pub(crate) fn is_one_unit_in_flight(&self) -> bool {
        let clients = self.outstanding.iter().filter(|entry| !entry.class.is_own());
        let mut requests = clients.map(|entry| entry.request).peekable();
        if requests.peek().is_none() {
            return self.pipeline == Pipeline::Synced;
        }
        while let Some(request) = requests.next() {
            match request.kind() {
                RequestKind::Query => return self.pipeline == Pipeline::Synced && requests.next().is_none(),
                RequestKind::Sync => return requests.next().is_none(),
                RequestKind::FunctionCall | RequestKind::CopyEnd => return false,
                RequestKind::Extended => {}
            }
            // A Query after it would not be part of it.
            if requests.peek() == Some(&Request::Query) {
                return false;
            }
        }
        false
    }

    /// Whether the client has seen that the request in flight failed.
    pub(crate) fn has_seen_failure(&self) -> bool {
        let is_settled = self.progress == AnswerProgress::Settled
            && matches!(self.outstanding.front_request(), Some(Request::Query | Request::Sync));
        is_settled || self.pipeline == Pipeline::Failed
    }

    /// Whether the request in flight has committed or rolled back, and the client has seen it.
    pub(crate) fn has_seen_end(&self) -> bool {
        let is_last = matches!(self.outstanding.front_request(), Some(Request::Query | Request::Sync));
        self.transaction_effect == TransactionEffect::JustEnded && is_last
    }

    /// The transaction status after the request in flight has failed. COMMIT and ROLLBACK end the transaction
    /// even then, and a BEGIN that failed has begun none.
    pub(crate) fn status_once_failed(&self) -> TransactionStatus {
        let mut runs =
            self.outstanding.iter().filter(|e| matches!(e.request, Request::Query | Request::Execute));
        let is_end = runs.next().is_some_and(|entry| entry.class.ends());
        let is_open = match self.transaction_effect {
            TransactionEffect::Unchanged => self.status != TransactionStatus::Idle,
            TransactionEffect::Begun => true,
            TransactionEffect::JustEnded | TransactionEffect::Ended => false,
        };
        if is_open && !is_end { TransactionStatus::Failed } else { TransactionStatus::Idle }
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.status != TransactionStatus::Idle || self.pipeline != Pipeline::Synced
    }

    pub(crate) fn sent_while_skipping(&mut self, tag: FrontendTag, sent: u64) {
        if tag == FrontendTag::Sync {
            self.pipeline = Pipeline::Failed;
            let class = Class::PLAIN;
            self.outstanding.push(Entry { sent, text: None, request: Request::Sync, class });
        }
    }

    pub(crate) fn is_all_farewell(&self, rest: &[u8]) -> bool {
        let mut scanner = self.scanner.clone();
        let mut at = 0;
        while at < rest.len() {
            match scanner.next(rest, &mut at) {
                Ok(Some(Piece::Message { tag, body })) if is_farewell(BackendTag::from_byte(tag), body) => {}
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}
