//! Requests of the proxy's own within the conversation.
//!
//! They stand in the queue of outstanding requests like the client's, behind all of those, and the client is not read
//! until they are answered. Their answers do not reach it.
//!
//! - Questions, while the client has nothing to wait for: what statements take and return. They end with a Sync of
//!   ours, and may fail. In a transaction they are asked behind a savepoint, so that a failure does not end it: a
//!   statement may be readable only by what the transaction has set.
//! - Before a message in a series of extended messages: statements it needs are made again, with a Flush and no Sync.
//!   When the server refuses one, its error is the answer to the client's message, which is skipped by the server as
//!   every message behind an error is.
//! - Before a Query: the same with a Sync of ours. When the server refuses, its error is the answer to the Query, our
//!   ReadyForQuery ends it, and the Query itself is not sent.

mod flight;

use std::collections::VecDeque;

use bytes::Bytes;
use trunkline_codec::backend::{BackendTag, ErrorFields, ReadyForQuery, TransactionStatus};
use trunkline_codec::frontend::{FrontendTag, Target};
use trunkline_codec::write;

use self::flight::{Flight, RELEASE, SAVEPOINT, changed, error_again, takes};
use crate::attempt::Attempt;
use crate::names::{Name, describe_of};
use crate::outstanding::{Entry, Kind, Outstanding, Request};
use crate::pin::{NotRepeatable, PinReason};
use crate::record::Sink;
use crate::session::{Session, scanner_of_a_server};
use crate::shape::{Shape, columns_of, types_of};
use crate::sql::Class;
use crate::state::{ClientEnd, Copy, Farewell, Joined, Mode, Pipeline, Progress, Tail};
use crate::timing::Outcome;

/// Requests of ours in flight.
#[derive(Debug)]
pub(crate) struct Own {
    purpose: Purpose,
    /// One for each of our requests, oldest first.
    items: VecDeque<Item>,
    /// Of the statement that is being described.
    shape: Shape,
    guard: Guard,
    /// The statement that the client's message describes.
    described: Option<Name>,
    /// The first error, of which the client was not told.
    refused: Option<Bytes>,
}

/// Whether questions have a savepoint in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    None,
    /// The savepoint is yet to be made, or gone back to: a failure is the transaction's.
    Open,
    Savepoint,
    /// A question has failed: the transaction goes back to the savepoint before the client goes on.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Questions,
    BeforeSeries,
    BeforeQuery,
}

#[derive(Debug)]
enum Item {
    /// Its answer says nothing.
    Plain,
    /// The description of a statement is kept.
    Learn(Name),
    /// The description of a statement is compared with what is known.
    Check(Name),
    /// The savepoint is made.
    Saved,
    /// Something else has the name of a statement.
    StoodIn(Name),
    /// Nothing has the name of a statement any more.
    Dropped(Name),
    /// It fails, so that the client's message does.
    Fail,
    /// Its row has the values of settings.
    Values,
}

/// What of the client's messages is not to go to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropping {
    Nothing,
    /// The next message: it has been answered.
    Next,
    /// The rest of a long one.
    Rest,
}

impl Session {
    /// Whether [`Self::questions`] has something to ask.
    #[must_use]
    #[inline]
    pub fn has_questions(&self) -> bool {
        self.followed
            .as_ref()
            .is_some_and(|followed| followed.prepared.has_questions() || followed.must_read_back())
            || self.must_recover()
    }

    /// What the proxy itself asks the server while its client waits for nothing: to be written to it. The client is
    /// not read until the answers, which go to [`Self::handle_server`], have come.
    pub fn questions(&mut self) -> Option<Bytes> {
        if self.must_recover() {
            let mut flight = Flight::default();
            flight.back_to_the_savepoint();
            return Some(self.fly(Purpose::Questions, Guard::Open, flight, 0));
        }
        if !self.is_idle() && !self.is_idle_in_transaction() {
            return None;
        }
        if self.is_idle() && self.must_read_back() {
            let mut flight = Flight::default();
            flight.run(&self.followed.as_ref()?.question_of_values(), Item::Values);
            flight.sync();
            return Some(self.fly(Purpose::Questions, Guard::None, flight, 0));
        }
        let names = self.followed.as_mut()?.prepared.questions();
        self.ask(names)
    }

    /// Whether the values of settings are to be read before the session can leave its server.
    #[must_use]
    #[inline]
    pub fn must_read_back(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.must_read_back())
    }

    /// Why it should not leave a server that still serves, though it could go on elsewhere if that were lost.
    #[must_use]
    pub fn stays_for(&self) -> Option<PinReason> {
        let has_refused = self.followed.as_ref().is_some_and(|followed| followed.prepared.has_refused());
        has_refused.then_some(PinReason::StatementNotDescribed)
    }

    /// Whether the transaction is to go back to our savepoint before anything else, wherever the session may go.
    #[must_use]
    #[inline]
    pub fn must_recover(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.items.is_empty() && own.guard == Guard::Failed)
    }

    /// Whether everything is answered, and a transaction is open that has not failed.
    fn is_idle_in_transaction(&self) -> bool {
        self.status == TransactionStatus::InTransaction
            && self.own.is_none()
            && self.debt.is_none()
            && self.outstanding.is_empty()
            && self.mode == Mode::Tracked
            && self.pipeline == Pipeline::Synced
            && self.joined == Joined::Nothing
            && self.copy == Copy::None
            && self.client_end == ClientEnd::Open
            && self.farewell == Farewell::Staying
            && self.client.is_at_boundary()
            && self.server.is_at_boundary()
            && self.client_tail == Tail::Empty
            && self.server_tail == Tail::Empty
    }

    /// The same for a session about to leave a server that still answers.
    pub fn last_questions(&mut self) -> Option<Bytes> {
        let names =
            if self.is_idle() { self.followed.as_mut()?.prepared.last_questions() } else { return None };
        self.ask(names)
    }

    fn ask(&mut self, names: Vec<Name>) -> Option<Bytes> {
        if names.is_empty() {
            return None;
        }
        let guard = if self.status == TransactionStatus::Idle { Guard::None } else { Guard::Open };
        let mut flight = Flight::default();
        if guard == Guard::Open {
            flight.run(SAVEPOINT, Item::Saved);
        }
        for name in names {
            flight.describe(&name, Item::Learn(name.clone()));
        }
        if guard == Guard::Open {
            flight.run(RELEASE, Item::Plain);
        }
        flight.sync();
        Some(self.fly(Purpose::Questions, guard, flight, 0))
    }

    fn fly(&mut self, purpose: Purpose, guard: Guard, flight: Flight, sent: u64) -> Bytes {
        let mut items = VecDeque::with_capacity(flight.expected.len());
        for (request, item) in flight.expected {
            self.outstanding.push(Entry { sent, text: None, request, class: Class::OWN_REQUEST });
            items.push_back(item);
        }
        let shape = Shape::default();
        let own = Own { purpose, items, shape, guard, described: None, refused: None };
        self.own = Some(Box::new(own));
        flight.out.freeze()
    }

    /// Whether this message of the client's may need something of the server first.
    #[inline]
    pub(crate) fn may_need_more(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.prepared.has_absent())
    }

    /// What the server is sent before this message of the client's; it is presented again once that is answered.
    #[cold]
    pub(crate) fn before(&mut self, tag: FrontendTag, body: &[u8], sent: u64) -> Option<Bytes> {
        if self.mode != Mode::Tracked || self.copy != Copy::None || self.pipeline == Pipeline::Skipping {
            return None;
        }
        let is_idle = self.is_quiet();
        let is_in_transaction = self.is_quiet_in(TransactionStatus::InTransaction);
        let prepared = &mut self.followed.as_mut()?.prepared;
        let which = match (is_idle, is_in_transaction) {
            (true, _) => prepared.must_make(tag, body),
            (false, true) => prepared.must_make_within(tag, body),
            (false, false) => None,
        };
        if let Some(which) = which {
            let mut flight = Flight::default();
            for steps in prepared.steps_to_make(which) {
                if is_in_transaction {
                    flight.behind_a_savepoint(steps);
                } else {
                    steps.into_iter().for_each(|step| flight.step(step));
                    flight.sync();
                }
            }
            if !flight.expected.is_empty() {
                return Some(self.fly(Purpose::Questions, Guard::None, flight, sent));
            }
        }
        let steps = prepared.steps_before(tag, body);
        prepared.message_sent();
        if steps.is_empty() {
            return None;
        }
        let mut flight = Flight::default();
        steps.into_iter().for_each(|step| flight.step(step));
        let is_alone = tag == FrontendTag::Query && !self.is_series_open();
        let purpose = if is_alone { Purpose::BeforeQuery } else { Purpose::BeforeSeries };
        match purpose {
            Purpose::BeforeQuery => flight.sync(),
            Purpose::BeforeSeries | Purpose::Questions => write::flush(&mut flight.out),
        }
        let messages = self.fly(purpose, Guard::None, flight, sent);
        if let (Some(own), FrontendTag::Describe, Some(describe)) = (&mut self.own, tag, describe_of(body)) {
            own.described = (describe.kind == Target::Statement).then(|| describe.name.into());
        }
        Some(messages)
    }

    /// Whether extended messages were sent whose Sync was not.
    fn is_series_open(&self) -> bool {
        // The end of a COPY, in a series or in a Query, says nothing about that.
        let requests = self.outstanding.iter().map(|entry| entry.request);
        match requests.filter(|request| *request != Request::CopyEnd).last().map(Request::kind) {
            None => self.pipeline != Pipeline::Synced,
            Some(Kind::Extended) => true,
            Some(Kind::Query | Kind::Sync | Kind::FunctionCall | Kind::CopyEnd) => false,
        }
    }

    /// Whether the next answer is to a request of ours.
    #[inline]
    pub(crate) fn is_own_due(&self) -> bool {
        self.own.is_some() && self.outstanding.front().is_some_and(|entry| entry.class.is_own())
    }

    /// Whether all that is outstanding is ours.
    #[inline]
    pub(crate) fn owes_only_us(&self) -> bool {
        self.outstanding.front().is_none_or(|entry| entry.class.is_own())
    }

    /// More of a long answer passed. Whether it was ours.
    pub(crate) fn passed_own(&mut self, is_last: bool) -> bool {
        if !self.is_inside_own {
            return false;
        }
        self.is_inside_own = !is_last;
        self.end_own();
        true
    }

    /// An answer to a request of ours; of a long one `body` is the first part. Gives what goes to the client in its
    /// place, or the answer back where it answers nothing of ours.
    pub(crate) fn own_answered(
        &mut self,
        tag: BackendTag,
        body: &[u8],
        is_whole: bool,
        now: u64,
        out: &mut impl Sink,
    ) -> Result<Option<Bytes>, Unexpected> {
        let entry = self.outstanding.front().ok_or(Unexpected)?;
        self.is_inside_own = !is_whole;
        match (tag, entry.request) {
            (BackendTag::ParseComplete, Request::Parse)
            | (BackendTag::BindComplete, Request::Bind)
            | (BackendTag::CloseComplete, Request::Close) => drop(self.own_settled()),
            (BackendTag::CommandComplete, Request::Execute) => {
                if let Some(Item::Values) = self.own_settled() {
                    self.values_settled();
                }
            }
            (BackendTag::DataRow, Request::Execute) if self.is_value_due() => {
                self.values_read(is_whole.then_some(body));
            }
            (BackendTag::ParameterDescription, Request::DescribeStatement) => {
                if let Some(own) = &mut self.own {
                    own.shape.parameters = is_whole.then(|| types_of(body)).flatten();
                }
            }
            (BackendTag::RowDescription | BackendTag::NoData, Request::DescribeStatement) => {
                self.own_described(is_whole.then(|| columns_of(tag, body)).flatten());
            }
            (BackendTag::ReadyForQuery, Request::Sync) => {
                let ready = ReadyForQuery::parse(body).map_err(|_| Unexpected)?;
                self.pipeline = Pipeline::Synced;
                self.own_ready(ready.status);
            }
            (BackendTag::ErrorResponse, _) => return Ok(self.own_failed(entry, body, is_whole, now, out)),
            _unexpected => return Err(Unexpected),
        }
        Ok(None)
    }

    fn is_value_due(&self) -> bool {
        self.own.as_ref().is_some_and(|own| matches!(own.items.front(), Some(Item::Values)))
    }

    fn own_settled(&mut self) -> Option<Item> {
        self.outstanding.settle();
        let own = self.own.as_mut()?;
        let item = own.items.pop_front();
        match &item {
            Some(Item::Saved) => own.guard = Guard::Savepoint,
            Some(Item::StoodIn(name)) => {
                if let Some(followed) = &mut self.followed {
                    followed.prepared.stood_in(name);
                }
            }
            Some(Item::Dropped(name)) => {
                if let Some(followed) = &mut self.followed {
                    followed.prepared.dropped_there(name);
                }
            }
            _other => {}
        }
        self.end_own();
        item
    }

    /// Our Sync is answered. A transaction that has failed by what was ours is not gone on with in silence.
    fn own_ready(&mut self, status: TransactionStatus) {
        let is_last = self.own.as_ref().is_some_and(|own| own.items.len() == 1 && own.guard != Guard::Failed);
        let has_failed =
            is_last && status == TransactionStatus::Failed && self.status == TransactionStatus::InTransaction;
        let refused = self.own.as_mut().and_then(|own| own.refused.take()).filter(|_| has_failed);
        drop(self.own_settled());
        if let Some(error) = refused {
            self.transaction_failed(error);
        }
    }

    fn end_own(&mut self) {
        let is_inside = self.is_inside_own;
        let has_ended = |own: &Own| own.items.is_empty() && !is_inside && own.guard != Guard::Failed;
        if self.own.as_deref().is_some_and(has_ended) {
            self.own = None;
        }
    }

    fn own_described(&mut self, columns: Option<crate::shape::Columns>) {
        let parameters = self.own.as_mut().and_then(|own| own.shape.parameters.take());
        let item = self.own_settled();
        let Some(followed) = &mut self.followed else { return };
        let shape = Shape { parameters, columns };
        match item {
            Some(Item::Learn(name)) if shape.is_known() => followed.prepared.learned(&name, shape),
            Some(Item::Learn(name)) => followed.prepared.cannot_be_known(&name),
            Some(Item::Check(name)) => followed.prepared.made_again(&name, &shape),
            Some(
                Item::Plain | Item::Saved | Item::StoodIn(_) | Item::Dropped(_) | Item::Fail | Item::Values,
            )
            | None => {}
        }
    }

    /// The server refuses a request of ours, or was made to.
    fn own_failed(
        &mut self,
        entry: Entry,
        body: &[u8],
        is_whole: bool,
        now: u64,
        out: &mut impl Sink,
    ) -> Option<Bytes> {
        let own = self.own.as_mut()?;
        let (purpose, guard) = (own.purpose, own.guard);
        if guard == Guard::Savepoint {
            own.guard = Guard::Failed;
        }
        let is_meant = matches!(own.items.front(), Some(Item::Fail));
        let error = if is_meant { changed() } else { error_again(body, is_whole) };
        if purpose == Purpose::Questions && guard == Guard::None && own.refused.is_none() {
            own.refused = Some(error.clone());
        }
        self.skip_own();
        if guard == Guard::Open {
            self.transaction_failed(error.clone());
        }
        if purpose == Purpose::Questions {
            return None;
        }
        self.follow_failed(Request::Bind);
        // The client has had an answer, and its ReadyForQuery is due: nothing behind it can be told apart if repeated.
        self.attempt = Attempt::Closed(NotRepeatable::Answered);
        self.meter.answered(body.len() as u64, now);
        self.meter.outcome = Outcome::Failed(ErrorFields::new(body).sqlstate());
        self.record(Entry { request: Request::Bind, ..entry }, now, out);
        match purpose {
            Purpose::BeforeSeries => self.pipeline = Pipeline::Skipping,
            // The ReadyForQuery that is due is the client's now.
            Purpose::BeforeQuery | Purpose::Questions => {
                self.outstanding = Outstanding::new();
                self.outstanding.push(Entry { request: Request::Sync, class: Class::PLAIN, ..entry });
                self.pipeline = Pipeline::Failed;
                self.dropping = Dropping::Next;
            }
        }
        self.progress = Progress::Untouched;
        let described = self.own.take().and_then(|own| own.described);
        Some(self.behind_parameters(described, error))
    }

    /// The error of a Describe: PostgreSQL tells the parameters before it finds that it cannot tell the columns.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_describe_statement_message`.
    fn behind_parameters(&self, described: Option<Name>, error: Bytes) -> Bytes {
        let prepared = self.followed.as_ref().map(|followed| &followed.prepared);
        let returns_rows = described.and_then(|name| prepared?.parameters_of_rows(&name));
        match (returns_rows, self.status) {
            (Some(types), TransactionStatus::Idle | TransactionStatus::InTransaction) => {
                let mut told = takes(types);
                told.extend_from_slice(&error);
                told.freeze()
            }
            (_, TransactionStatus::Failed) | (None, _) => error,
        }
    }

    /// The server skips what we sent, up to our Sync. A statement whose description fails is not asked for again; those
    /// behind it are.
    fn skip_own(&mut self) {
        let mut skipped = Vec::new();
        while let Some(entry) = self.outstanding.front() {
            if !entry.class.is_own() || entry.request == Request::Sync {
                break;
            }
            self.outstanding.pop();
            match self.own.as_mut().and_then(|own| own.items.pop_front()) {
                Some(Item::Learn(name)) => skipped.push(name),
                Some(Item::Values) => self.values_settled(),
                Some(
                    Item::Plain
                    | Item::Saved
                    | Item::StoodIn(_)
                    | Item::Dropped(_)
                    | Item::Check(_)
                    | Item::Fail,
                )
                | None => {}
            }
        }
        if let Some(followed) = &mut self.followed {
            followed.prepared.not_described(skipped);
        }
    }

    /// Forgets the requests of ours in flight: their server is lost.
    pub(crate) fn forget_own(&mut self) {
        if std::mem::take(&mut self.is_inside_own) {
            self.server = scanner_of_a_server();
        }
        if self.own.take().is_none() {
            return;
        }
        let all: Vec<Entry> = std::iter::from_fn(|| self.outstanding.pop()).collect();
        all.into_iter().filter(|entry| !entry.class.is_own()).for_each(|entry| self.outstanding.push(entry));
    }
}

/// A message that answers nothing of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;
