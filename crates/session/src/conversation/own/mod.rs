//! The proxy's own requests within the conversation.
//!
//! They are in the queue of outstanding requests, after all of the client's, and the proxy does not read the client
//! until they are answered. Their answers do not reach the client.
//!
//! - Questions, while the client waits for nothing: what statements take and return. They end with a Sync of the
//!   proxy's own, and may fail. In a transaction they are asked after a SAVEPOINT, so that a failure does not end it: a
//!   statement may be readable only by what the transaction has set.
//! - Before a message in a series of extended messages: statements that it needs are prepared again, with a Flush and no Sync.
//!   When the server refuses one, its error is the answer to the client's message, which the server skips as it does
//!   every message after an error. A Bind is first tried on a stand-in for its statement.
//! - Before a Query: the same with a Sync of the proxy's own. When the server refuses, its error is the answer to the
//!   Query, the ReadyForQuery for that Sync ends it, and the Query itself is not sent.

pub(crate) mod batch;
use std::collections::VecDeque;

use bytes::Bytes;

use super::Conversation;
use super::outstanding::{Request, RequestKind};
use super::state::Pipeline;
use crate::carried::content::{ContentId, PreparedAt};
use crate::carried::shape::Shape;
use crate::hints::MinLsn;
use crate::names::Name;

/// The proxy's own requests in flight.
#[derive(Debug)]
pub(crate) struct OwnRequests {
    pub(crate) purpose: Purpose,
    /// One for each of them, oldest first.
    pub(crate) items: VecDeque<OwnRequest>,
    /// Of the statement that is being described.
    pub(crate) shape: Shape,
    pub(crate) guard: Guard,
    /// The statement that the client's message describes.
    pub(crate) described: Option<Name>,
    /// The first error; the client has not seen it.
    pub(crate) refused: Option<Bytes>,
    /// Up to where the client has written, once the server has told.
    pub(crate) position: Option<MinLsn>,
}

/// Whether a savepoint protects the questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    None,
    /// SAVEPOINT or ROLLBACK TO is in flight: an error fails the transaction.
    Open,
    Savepoint,
    /// A question has failed: the transaction goes back to the savepoint before the client goes on.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What the client does not wait for.
    Questions,
    /// What its next message may need, in batches of their own: a refusal is none of the message.
    Ahead,
    BeforeSeries,
    BeforeQuery,
}

impl Purpose {
    /// Whether a refusal is not the answer to a message of the client.
    pub(crate) fn is_apart(self) -> bool {
        matches!(self, Purpose::Questions | Purpose::Ahead)
    }
}

#[derive(Debug)]
pub(crate) enum OwnRequest {
    /// Its answer does not matter.
    Plain,
    /// The description of a statement is kept.
    Learn(Name),
    /// The description of a statement is compared with what is known.
    Check(Name),
    /// SAVEPOINT has succeeded.
    Saved,
    /// A stand-in now has the name of this statement.
    StoodIn(Name),
    /// No statement has this name any more.
    Dropped(Name),
    /// The statement of this content is there, as it was made then.
    ContentMade(ContentId, PreparedAt),
    /// It is no longer.
    ContentClosed(ContentId),
    /// It fails on purpose, so that the client's message fails.
    Fail,
    /// Its row has the values of settings.
    Values,
    /// Its row tells whether what pins the session is there.
    Pins,
    /// Its row tells which functions the server has.
    Calls,
    /// Its row tells up to where the client has written.
    WrittenPosition,
}

/// Which of the client's messages do not go to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropping {
    Nothing,
    /// The next message: it has been answered.
    Next,
    /// The rest of a long one.
    Rest,
}

/// A message that answers none of the proxy's own requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

impl Conversation {
    /// Whether extended messages were sent whose Sync was not.
    pub(crate) fn is_series_open(&self) -> bool {
        // The end of a COPY, in a series or in a Query, says nothing about that.
        let requests = self.outstanding.iter().map(|entry| entry.request);
        match requests.filter(|request| *request != Request::CopyEnd).last().map(Request::kind) {
            None => self.pipeline != Pipeline::Synced,
            Some(RequestKind::Extended) => true,
            Some(
                RequestKind::Query | RequestKind::Sync | RequestKind::FunctionCall | RequestKind::CopyEnd,
            ) => false,
        }
    }

    /// Whether the next answer is for one of the proxy's own requests.
    #[inline]
    pub(crate) fn is_own_due(&self) -> bool {
        self.own.is_some() && self.outstanding.front().is_some_and(|entry| entry.class.is_own())
    }

    /// Whether the proxy's own requests are all that is outstanding.
    #[inline]
    pub(crate) fn owes_only_proxy(&self) -> bool {
        self.outstanding.front().is_none_or(|entry| entry.class.is_own())
    }

    pub(crate) fn is_value_due(&self) -> bool {
        self.own.as_ref().is_some_and(|own| matches!(own.items.front(), Some(OwnRequest::Values)))
    }

    pub(crate) fn are_pins_due(&self) -> bool {
        self.own.as_ref().is_some_and(|own| matches!(own.items.front(), Some(OwnRequest::Pins)))
    }

    pub(crate) fn are_calls_due(&self) -> bool {
        self.own.as_ref().is_some_and(|own| matches!(own.items.front(), Some(OwnRequest::Calls)))
    }

    pub(crate) fn is_position_due(&self) -> bool {
        self.own.as_ref().is_some_and(|own| matches!(own.items.front(), Some(OwnRequest::WrittenPosition)))
    }

    /// Whether the own request in front may be answered with rows that do not matter.
    pub(crate) fn may_have_row(&self) -> bool {
        self.own.as_ref().is_some_and(|own| matches!(own.items.front(), Some(OwnRequest::Plain)))
    }

    pub(crate) fn end_own(&mut self) {
        let is_inside = self.is_inside_own;
        let has_ended = |own: &OwnRequests| own.items.is_empty() && !is_inside && own.guard != Guard::Failed;
        if self.own.as_deref().is_some_and(has_ended) {
            self.own = None;
        }
    }
}
