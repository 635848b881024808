//! The proxy's own requests that the server refuses, or that are lost with it.

use crate::carried::prepared::ContentRefused;
use crate::conversation::farewell::conflict;
use crate::conversation::outstanding::{Entry, Outstanding, Request};
use crate::conversation::own::batch::{CHANGED_BY_MOVE, changed, error_again, takes};
use crate::conversation::own::{Dropping, Guard, OwnRequest, Purpose};
use crate::conversation::scanner_of_a_server;
use crate::conversation::state::{AnswerProgress, Pipeline};
use crate::names::Name;
use crate::pin::NotRepeatable;
use crate::record::Sink;
use crate::recovery::attempt::{Attempt, Flush, Unit};
use crate::session::Session;
use crate::settings::{ServerRole, StatementNames};
use crate::sql::Class;
use crate::timing::Outcome;
use bytes::Bytes;
use trunkline_codec::backend::{ErrorFields, TransactionStatus};
use trunkline_codec::sqlstate::SqlState;

impl Session {
    /// The code of a standby's error that cancels, for a conflict with recovery, what is asked before a message of the
    /// client, while the client's request may be sent to another server.
    pub(crate) fn own_canceled(&mut self, error: &[u8]) -> Option<SqlState> {
        let purpose = self.conversation.own.as_ref()?.purpose;
        if purpose == Purpose::Questions || self.conversation.role != ServerRole::Standby {
            return None;
        }
        let code = conflict(error)?;
        match self.recovery.attempt {
            Attempt::Closed(_) => return None,
            Attempt::Open { .. } => {}
            Attempt::Idle if !self.is_quiet() || self.movability().is_err() => return None,
            Attempt::Idle => {
                self.recovery.attempt = Attempt::Open { unit: Unit::Begun, flush: Flush::NotSent };
            }
        }
        Some(code)
    }

    /// Whether the server has only been asked what the client's next message needs: nothing of the request in flight
    /// was sent to it.
    #[must_use]
    pub fn has_sent_nothing(&self) -> bool {
        self.conversation.own.is_some() && self.conversation.owes_only_proxy()
    }

    /// The server refuses one of the proxy's own requests, possibly one that was sent to fail.
    pub(super) fn own_failed(
        &mut self,
        entry: Entry,
        body: &[u8],
        is_whole: bool,
        now: u64,
        out: &mut impl Sink,
    ) -> Option<Bytes> {
        self.own_statement_left();
        self.own_content_refused(body);
        let told = if is_whole { self.in_clients_words(body) } else { None };
        let body = told.as_deref().unwrap_or(body);
        let own = self.conversation.own.as_mut()?;
        let (purpose, guard) = (own.purpose, own.guard);
        if guard == Guard::Savepoint {
            own.guard = Guard::Failed;
        }
        let is_meant = matches!(own.items.front(), Some(OwnRequest::Fail));
        // In a pool the table is another one now, as a rule, and the session has not moved.
        let detail = Some(CHANGED_BY_MOVE).filter(|_| self.names == StatementNames::OfClient);
        let error = if is_meant { changed(detail) } else { error_again(body, is_whole) };
        if purpose.is_apart() && guard == Guard::None && own.refused.is_none() {
            own.refused = Some(error.clone());
        }
        self.skip_own();
        if guard == Guard::Open {
            self.transaction_failed(error.clone());
        }
        if purpose.is_apart() {
            return None;
        }
        self.follow_failed(Request::Bind, Class::PLAIN);
        // The client has an answer and waits for its ReadyForQuery: the request cannot be repeated any more.
        self.recovery.attempt = Attempt::Closed(NotRepeatable::Answered);
        self.meter.answered(body.len() as u64, now);
        self.meter.outcome = Outcome::Failed(ErrorFields::new(body).sqlstate());
        self.record(Entry { request: Request::Bind, ..entry }, now, out);
        match purpose {
            Purpose::BeforeSeries => self.conversation.pipeline = Pipeline::Skipping,
            // The ReadyForQuery that is due goes to the client.
            Purpose::BeforeQuery | Purpose::Ahead | Purpose::Questions => {
                self.conversation.outstanding = Outstanding::new();
                self.conversation.outstanding.push(Entry {
                    request: Request::Sync,
                    class: Class::PLAIN,
                    ..entry
                });
                self.conversation.pipeline = Pipeline::Failed;
                self.client.dropping = Dropping::Next;
            }
        }
        self.conversation.progress = AnswerProgress::Untouched;
        let described = self.conversation.own.take().and_then(|own| own.described);
        Some(self.behind_parameters(described, error))
    }

    /// One of the proxy's own requests is refused: of a shared statement, its content may be unusable.
    fn own_content_refused(&mut self, error: &[u8]) {
        let item = self.conversation.own.as_ref().and_then(|own| own.items.front());
        let Some(prepared) = self.carried.followed.as_mut().map(|followed| &mut followed.prepared) else {
            return;
        };
        let refused = match item {
            Some(OwnRequest::ContentMade(id, _)) => Some((*id, ContentRefused::Parse)),
            Some(OwnRequest::Check(name) | OwnRequest::Learn(name)) => {
                prepared.wire_content(name).map(|id| (id, ContentRefused::Use))
            }
            _other => None,
        };
        if let Some((id, what)) = refused {
            prepared.content_refused(id, what, ErrorFields::new(error).sqlstate());
        }
    }

    /// The error of a Describe: PostgreSQL sends the parameters before it finds that it cannot describe the columns.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_describe_statement_message`.
    fn behind_parameters(&self, described: Option<Name>, error: Bytes) -> Bytes {
        let prepared = self.carried.followed.as_ref().map(|followed| &followed.prepared);
        let returns_rows = described.and_then(|name| prepared?.parameters_of_rows(&name));
        match (returns_rows, self.conversation.status) {
            (Some(types), TransactionStatus::Idle | TransactionStatus::InTransaction) => {
                let mut told = takes(types);
                told.extend_from_slice(&error);
                told.freeze()
            }
            (_, TransactionStatus::Failed) | (None, _) => error,
        }
    }

    /// The server skips the proxy's own requests up to their Sync. A statement whose Describe failed is not asked for
    /// again; the statements after it are.
    fn skip_own(&mut self) {
        let mut skipped = Vec::new();
        while let Some(entry) = self.conversation.outstanding.front() {
            if !entry.class.is_own() || entry.request == Request::Sync {
                break;
            }
            self.conversation.outstanding.pop();
            match self.conversation.own.as_mut().and_then(|own| own.items.pop_front()) {
                Some(OwnRequest::Learn(name)) => skipped.push(name),
                question @ Some(OwnRequest::Values | OwnRequest::Calls) => {
                    self.question_settled(question.as_ref());
                }
                Some(
                    OwnRequest::Plain
                    | OwnRequest::Saved
                    | OwnRequest::StoodIn(_)
                    | OwnRequest::Dropped(_)
                    | OwnRequest::ContentMade(..)
                    | OwnRequest::ContentClosed(_)
                    | OwnRequest::Check(_)
                    | OwnRequest::Fail
                    | OwnRequest::Pins
                    | OwnRequest::WrittenPosition,
                )
                | None => {}
            }
        }
        if let Some(followed) = &mut self.carried.followed {
            followed.prepared.not_described(skipped);
        }
    }

    /// Forgets the proxy's own requests in flight: their server is lost.
    pub(crate) fn forget_own(&mut self) {
        if std::mem::take(&mut self.conversation.is_inside_own) {
            self.conversation.scanner = scanner_of_a_server();
        }
        if self.conversation.own.take().is_none() {
            return;
        }
        let all: Vec<Entry> = std::iter::from_fn(|| self.conversation.outstanding.pop()).collect();
        all.into_iter()
            .filter(|entry| !entry.class.is_own())
            .for_each(|entry| self.conversation.outstanding.push(entry));
    }
}
