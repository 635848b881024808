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
//!   every message behind an error is. A Bind is tried on something that stands in for its statement first.
//! - Before a Query: the same with a Sync of ours. When the server refuses, its error is the answer to the Query, our
//!   ReadyForQuery ends it, and the Query itself is not sent.
//!
//! `flight` writes them, `answers` takes what the server says to them, `failures` what it refuses.

mod answers;
mod failures;
mod flight;

use std::collections::VecDeque;

use bytes::Bytes;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::{FrontendTag, Target};
use trunkline_codec::write;

pub(crate) use self::answers::Unexpected;
use self::flight::{Flight, RELEASE, SAVEPOINT};
use crate::names::{Name, describe_of};
use crate::outstanding::{Entry, Kind, Request};
use crate::pin::PinReason;
use crate::session::Session;
use crate::shape::Shape;
use crate::sql::Class;
use crate::state::{ClientEnd, Copy, Farewell, Joined, Mode, Pipeline, Tail};

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
}
