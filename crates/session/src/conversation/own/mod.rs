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

pub(crate) mod batch;
use std::collections::VecDeque;

use bytes::Bytes;

use super::Conversation;
use super::outstanding::{Kind, Request};
use super::state::Pipeline;
use crate::carried::shape::Shape;
use crate::names::Name;

/// Requests of ours in flight.
#[derive(Debug)]
pub(crate) struct OwnRequests {
    pub(crate) purpose: Purpose,
    /// One for each of our requests, oldest first.
    pub(crate) items: VecDeque<OwnRequest>,
    /// Of the statement that is being described.
    pub(crate) shape: Shape,
    pub(crate) guard: Guard,
    /// The statement that the client's message describes.
    pub(crate) described: Option<Name>,
    /// The first error, of which the client was not told.
    pub(crate) refused: Option<Bytes>,
}

/// Whether questions have a savepoint in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    None,
    /// The savepoint is yet to be made, or gone back to: a failure is the transaction's.
    Open,
    Savepoint,
    /// A question has failed: the transaction goes back to the savepoint before the client goes on.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Questions,
    BeforeSeries,
    BeforeQuery,
}

#[derive(Debug)]
pub(crate) enum OwnRequest {
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

/// A message that answers nothing of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

impl Conversation {
    /// Whether extended messages were sent whose Sync was not.
    pub(crate) fn is_series_open(&self) -> bool {
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

    pub(crate) fn is_value_due(&self) -> bool {
        self.own.as_ref().is_some_and(|own| matches!(own.items.front(), Some(OwnRequest::Values)))
    }

    pub(crate) fn end_own(&mut self) {
        let is_inside = self.is_inside_own;
        let has_ended = |own: &OwnRequests| own.items.is_empty() && !is_inside && own.guard != Guard::Failed;
        if self.own.as_deref().is_some_and(has_ended) {
            self.own = None;
        }
    }
}
