//! The bytes of the request in flight, kept while it may still be sent again to another server.
//!
//! The buffer comes from a pool and goes back to it: an idle session owns none.

use crate::limits::{JOURNAL_KEPT_BYTES, JOURNALS_KEPT};

/// Empty buffers of the sessions of one thread.
#[derive(Debug, Default)]
pub struct JournalPool(Vec<Vec<u8>>);

/// One request's bytes.
#[derive(Debug, Default)]
pub enum Journal {
    /// Nothing is in flight that may be sent again.
    #[default]
    Closed,
    /// All of it so far.
    Open(Vec<u8>),
}

impl Journal {
    /// A request begins: discards the one before.
    pub fn begin(&mut self, pool: &mut JournalPool) {
        match self {
            Journal::Open(bytes) => bytes.clear(),
            Journal::Closed => *self = Journal::Open(pool.0.pop().unwrap_or_default()),
        }
    }

    /// Appends bytes for the server. A request of more than `most` bytes is not kept.
    pub fn note(&mut self, bytes: &[u8], most: usize, pool: &mut JournalPool) {
        let Journal::Open(kept) = self else { return };
        if kept.len() + bytes.len() > most {
            self.close(pool);
        } else {
            kept.extend_from_slice(bytes);
        }
    }

    /// The request is answered, or cannot be sent again any more.
    pub fn close(&mut self, pool: &mut JournalPool) {
        if let Journal::Open(mut bytes) = std::mem::take(self)
            && pool.0.len() < JOURNALS_KEPT
            && bytes.capacity() <= JOURNAL_KEPT_BYTES
        {
            bytes.clear();
            pool.0.push(bytes);
        }
    }

    /// Whether all of it so far is kept.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Journal::Open(_))
    }

    /// The request, to be sent again.
    #[must_use]
    pub fn take(&mut self) -> Option<Vec<u8>> {
        match std::mem::take(self) {
            Journal::Open(bytes) => Some(bytes),
            Journal::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_at_the_limit_is_kept_and_one_byte_more_is_not() {
        let mut pool = JournalPool::default();
        let mut journal = Journal::default();
        journal.begin(&mut pool);
        journal.note(&[b'x'; 100], 100, &mut pool);
        assert!(journal.is_open());
        journal.note(b"x", 100, &mut pool);
        assert!(!journal.is_open());
    }

    #[test]
    fn the_pool_keeps_short_buffers_only() {
        for (length, kept) in [(JOURNAL_KEPT_BYTES, 1), (JOURNAL_KEPT_BYTES + 1, 0)] {
            let mut pool = JournalPool::default();
            let mut journal = Journal::default();
            journal.begin(&mut pool);
            journal.note(&vec![b'x'; length], usize::MAX, &mut pool);
            journal.close(&mut pool);
            assert_eq!(pool.0.len(), kept, "{length} bytes");
        }
    }

    #[test]
    fn a_buffer_serves_one_session_after_another_and_never_tells() {
        let mut pool = JournalPool::default();
        let (mut first, mut second) = (Journal::default(), Journal::default());
        first.begin(&mut pool);
        first.note(b"secret", 100, &mut pool);
        first.close(&mut pool);
        second.begin(&mut pool);
        second.note(b"own", 100, &mut pool);
        assert_eq!(second.take().as_deref(), Some(&b"own"[..]));
    }

    #[test]
    fn bytes_are_noted_only_after_a_beginning() {
        let mut pool = JournalPool::default();
        let mut journal = Journal::default();
        journal.note(b"lost", 100, &mut pool);
        assert_eq!(journal.take(), None);
        journal.begin(&mut pool);
        journal.note(b"one", 100, &mut pool);
        journal.begin(&mut pool);
        journal.note(b"two", 100, &mut pool);
        assert_eq!(journal.take().as_deref(), Some(&b"two"[..]));
    }
}
