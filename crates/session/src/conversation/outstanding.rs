//! The requests without an answer yet, in the order they were sent.

use std::collections::VecDeque;

use crate::carried::prepared::texts::TextId;
use crate::sql::Class;

/// What a client sent that the server answers, or that decides how it reads what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Query,
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    Close,
    /// A Flush with a body. A valid Flush has no answer and is not listed; this one fails as an
    /// extended message does.
    BrokenFlush,
    Sync,
    FunctionCall,
    /// A CopyDone or CopyFail sent before the server has said whether the request before it copies. It has
    /// no answer, and is never at the front.
    CopyEnd,
}

/// How a request relates to those before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Query,
    /// One of a series that a Sync ends.
    Extended,
    Sync,
    FunctionCall,
    CopyEnd,
}

impl Request {
    #[inline]
    pub(crate) fn kind(self) -> RequestKind {
        match self {
            Self::Query => RequestKind::Query,
            Self::Parse
            | Self::Bind
            | Self::DescribeStatement
            | Self::DescribePortal
            | Self::Execute
            | Self::Close
            | Self::BrokenFlush => RequestKind::Extended,
            Self::Sync => RequestKind::Sync,
            Self::FunctionCall => RequestKind::FunctionCall,
            Self::CopyEnd => RequestKind::CopyEnd,
        }
    }

    /// Whether it runs something, which is recorded once it is complete.
    pub(crate) fn is_run(self) -> bool {
        matches!(self, Self::Query | Self::Execute | Self::FunctionCall)
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it was sent, on the session's clock.
    pub(crate) sent: u64,
    /// Its SQL. Whoever takes the entry releases it.
    pub(crate) text: Option<TextId>,
    pub(crate) request: Request,
    pub(crate) class: Class,
}

/// Entries that need no allocation: more than the five messages of an extended query.
const INLINE: usize = 8;
const MASK: u8 = INLINE as u8 - 1;

/// Longest spill kept for the next burst.
const SPILL_KEPT: usize = 64;

const VACANT: Entry = Entry { sent: 0, text: None, request: Request::CopyEnd, class: Class::PLAIN };

/// A queue: a ring of [`INLINE`] entries, followed by those that do not fit into it.
#[derive(Debug)]
pub(crate) struct Outstanding {
    ring: [Entry; INLINE],
    head: u8,
    ring_len: u8,
    /// `None` in sessions that have never had more than the ring has room for.
    #[expect(clippy::box_collection, reason = "few sessions ever spill: 8 bytes of each, not 32")]
    spill: Option<Box<VecDeque<Entry>>>,
}

impl Outstanding {
    pub(crate) fn new() -> Self {
        Self { ring: [VACANT; INLINE], head: 0, ring_len: 0, spill: None }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ring_len == 0
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.ring_len) + self.spill.as_ref().map_or(0, |spill| spill.len())
    }

    /// From the oldest on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        let in_ring = (0..self.ring_len).map(|at| &self.ring[usize::from((self.head + at) & MASK)]);
        in_ring.chain(self.spill.iter().flat_map(|spill| spill.iter()))
    }

    /// Whether there is more than Syncs behind this many of the oldest.
    pub(crate) fn has_requests_behind(&self, oldest: usize) -> bool {
        self.iter().skip(oldest).any(|entry| entry.request != Request::Sync)
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<Entry> {
        (self.ring_len != 0).then(|| self.ring[usize::from(self.head & MASK)])
    }

    #[inline]
    pub(crate) fn front_request(&self) -> Option<Request> {
        (self.ring_len != 0).then(|| self.ring[usize::from(self.head & MASK)].request)
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        if usize::from(self.ring_len) < INLINE && self.spill.as_ref().is_none_or(|spill| spill.is_empty()) {
            self.ring[usize::from((self.head + self.ring_len) & MASK)] = entry;
            self.ring_len += 1;
        } else {
            self.spill(entry);
        }
    }

    /// The newest one went to the server with the name of a shared statement.
    pub(crate) fn newest_is_shared(&mut self) {
        let spilt = self.spill.as_mut().and_then(|spill| spill.back_mut());
        let last = usize::from((self.head + self.ring_len).wrapping_sub(1) & MASK);
        let in_ring = if self.ring_len == 0 { None } else { self.ring.get_mut(last) };
        if let Some(entry) = spilt.or(in_ring) {
            entry.class = entry.class.shared();
        }
    }

    /// How many Parses and Closes of the client are behind the last message that is not of their series.
    pub(crate) fn named_in_series(&self) -> usize {
        self.iter().filter(|entry| !entry.class.is_own()).fold(0, |count, entry| match entry.request {
            Request::Parse | Request::Close => count + 1,
            Request::Bind
            | Request::DescribeStatement
            | Request::DescribePortal
            | Request::Execute
            | Request::BrokenFlush
            | Request::CopyEnd => count,
            Request::Query | Request::Sync | Request::FunctionCall => 0,
        })
    }

    /// Removes the front entry, markers included.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.front()?;
        self.head = (self.head + 1) & MASK;
        self.ring_len -= 1;
        if self.ring_len == 0 {
            self.refill();
        }
        Some(entry)
    }

    #[cold]
    fn spill(&mut self, entry: Entry) {
        self.spill.get_or_insert_default().push_back(entry);
    }

    #[inline]
    fn refill(&mut self) {
        if self.spill.is_some() {
            self.refill_from_spill();
        }
    }

    fn refill_from_spill(&mut self) {
        while usize::from(self.ring_len) < INLINE
            && let Some(entry) = self.spill.as_mut().and_then(|spill| spill.pop_front())
        {
            self.ring[usize::from((self.head + self.ring_len) & MASK)] = entry;
            self.ring_len += 1;
        }
        if self.spill.as_ref().is_some_and(|spill| spill.is_empty() && spill.capacity() > SPILL_KEPT) {
            self.spill = None;
        }
    }

    /// Removes the front entry and the markers after it, which the server has ignored.
    #[inline]
    pub(crate) fn settle(&mut self) -> Option<Entry> {
        let entry = self.pop();
        while self.front_request() == Some(Request::CopyEnd) {
            self.pop();
        }
        entry
    }

    /// The server reads COPY data for the front entry: applies what was already sent after it.
    /// Syncs and Flushes before the end of the data are lost. The data ends with its marker, or
    /// with any other request, which either finds the COPY failed or makes the server give up.
    pub(crate) fn copy_in(&mut self) -> CopyInSeen {
        let mut seen = CopyInSeen { has_ended: false, has_lost_sync: false };
        if self.len() == 1 {
            return seen;
        }
        let mut kept = Vec::with_capacity(self.len());
        kept.extend(self.pop());
        while let Some(entry) = self.pop() {
            if seen.has_ended {
                kept.push(entry);
                continue;
            }
            match entry.request {
                Request::Sync | Request::BrokenFlush => seen.has_lost_sync = true,
                Request::CopyEnd => seen.has_ended = true,
                Request::Query
                | Request::Parse
                | Request::Bind
                | Request::DescribeStatement
                | Request::DescribePortal
                | Request::Execute
                | Request::Close
                | Request::FunctionCall => {
                    seen.has_ended = true;
                    kept.push(entry);
                }
            }
        }
        kept.into_iter().for_each(|entry| self.push(entry));
        seen
    }
}

/// What was sent after a request and before its CopyInResponse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopyInSeen {
    pub(crate) has_ended: bool,
    pub(crate) has_lost_sync: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(request: Request, sent: u64) -> Entry {
        Entry { sent, text: None, request, class: Class::PLAIN }
    }

    #[test]
    fn order_is_kept_over_the_ring_and_the_spill() {
        for burst in [1, INLINE - 1, INLINE, INLINE + 1, 3 * INLINE, 200] {
            let mut queue = Outstanding::new();
            let (mut pushed, mut popped) = (0, 0);
            for _ in 0..5 {
                for _ in 0..burst {
                    queue.push(entry(Request::Query, pushed));
                    pushed += 1;
                }
                for _ in 0..burst / 2 + 1 {
                    assert_eq!(queue.pop().map(|e| e.sent), Some(popped));
                    popped += 1;
                    if popped == pushed {
                        break;
                    }
                }
                assert_eq!(queue.len() as u64, pushed - popped);
            }
            while let Some(e) = queue.pop() {
                assert_eq!(e.sent, popped);
                popped += 1;
            }
            assert_eq!(popped, pushed);
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn copy_in_loses_the_syncs_before_the_end_of_its_data_only() {
        let mut queue = Outstanding::new();
        let sent = [Request::Execute, Request::Sync, Request::CopyEnd, Request::Sync, Request::Query];
        (0..).zip(sent).for_each(|(at, request)| queue.push(entry(request, at)));
        assert_eq!(queue.copy_in(), CopyInSeen { has_ended: true, has_lost_sync: true });
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|e| e.sent).collect();
        assert_eq!(left, [0, 3, 4]);
    }

    #[test]
    fn markers_go_with_the_request_they_follow() {
        let mut queue = Outstanding::new();
        for request in [Request::Query, Request::CopyEnd, Request::CopyEnd, Request::Sync] {
            queue.push(entry(request, 0));
        }
        assert_eq!(queue.settle().map(|e| e.request), Some(Request::Query));
        assert_eq!(queue.front().map(|e| e.request), Some(Request::Sync));
    }
}
