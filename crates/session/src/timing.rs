//! Measures the statement whose answer is in progress.

use std::time::{Duration, Instant};

use trunkline_codec::sqlstate::SqlState;

use crate::limits::TAG_BYTES_MAX;
use crate::record::{Completion, Timing};

/// How the statement in progress ended, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has not, or it is a FunctionCall.
    Tag,
    Empty,
    Suspended,
    Failed(Option<SqlState>),
    Lost,
}

/// Stands for "no byte of the answer has come".
const NEVER: u64 = u64::MAX;

/// Times are nanoseconds since the session began: half the size of an [`Instant`].
#[derive(Debug)]
pub(crate) struct Meter {
    epoch: Instant,
    /// When the statement before was complete.
    last_done: u64,
    first_byte: u64,
    wait: u64,
    client: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) outcome: Outcome,
    /// How often the request in flight was sent again.
    pub(crate) retries: u16,
    tag_len: u8,
    tag: [u8; TAG_BYTES_MAX],
}

impl Meter {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            last_done: 0,
            first_byte: NEVER,
            wait: 0,
            client: 0,
            rows: 0,
            bytes: 0,
            outcome: Outcome::Tag,
            retries: 0,
            tag_len: 0,
            tag: [0; TAG_BYTES_MAX],
        }
    }

    /// `now` on the session's clock. Its 64 bits of nanoseconds last for 584 years.
    #[inline]
    pub(crate) fn at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos()))
    }

    /// A message of the answer arrived.
    #[inline]
    pub(crate) fn answered(&mut self, length: u64, now: u64) {
        if self.first_byte == NEVER {
            self.first_byte = now;
        }
        self.bytes += length;
    }

    /// Keeps a command tag.
    #[inline]
    pub(crate) fn set_tag(&mut self, body: &[u8]) {
        let tag = body.strip_suffix(b"\0").unwrap_or(body);
        let length = tag.len().min(TAG_BYTES_MAX);
        self.tag[..length].copy_from_slice(&tag[..length]);
        self.tag_len = length as u8;
        self.outcome = Outcome::Tag;
    }

    pub(crate) fn note_wait(&mut self, waited: Duration) {
        self.wait = self.wait.saturating_add(nanoseconds(waited));
    }

    pub(crate) fn note_client_blocked(&mut self, blocked: Duration) {
        self.client = self.client.saturating_add(nanoseconds(blocked));
    }

    pub(crate) fn completion(&self) -> Completion<'_> {
        match self.outcome {
            Outcome::Tag => Completion::Complete(&self.tag[..usize::from(self.tag_len)]),
            Outcome::Empty => Completion::Empty,
            Outcome::Suspended => Completion::Suspended,
            Outcome::Failed(code) => Completion::Failed(code),
            Outcome::Lost => Completion::Lost,
        }
    }

    /// The phases of a statement sent at `sent`, were it complete at `now`.
    pub(crate) fn timing(&self, sent: u64, now: u64) -> Timing {
        let start = sent.max(self.last_done);
        let first = self.first_byte.min(now);
        Timing {
            wait: Duration::from_nanos(self.wait),
            server_first: Duration::from_nanos(first.saturating_sub(start)),
            server_total: Duration::from_nanos(now.saturating_sub(start)),
            client: Duration::from_nanos(self.client),
        }
    }

    /// The next statement begins.
    #[inline]
    pub(crate) fn reset(&mut self, now: u64) {
        self.last_done = now;
        self.first_byte = NEVER;
        self.wait = 0;
        self.client = 0;
        self.rows = 0;
        self.bytes = 0;
        self.outcome = Outcome::Tag;
        self.retries = 0;
        self.tag_len = 0;
    }

    /// The request in flight, sent at `sent`, will be sent again: the time so far was spent waiting
    /// for a server.
    pub(crate) fn begin_again(&mut self, sent: u64, now: u64) {
        let wait = self.wait.saturating_add(now.saturating_sub(sent));
        let (client, retries) = (self.client, self.retries.saturating_add(1));
        self.reset(self.last_done);
        (self.wait, self.client, self.retries) = (wait, client, retries);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_begins_when_the_one_before_it_is_complete() {
        let mut meter = Meter::new(Instant::now());
        meter.answered(10, 500);
        meter.reset(700);
        meter.answered(10, 900);
        let timing = meter.timing(100, 1000);
        assert_eq!(timing.server_first, Duration::from_nanos(200));
        assert_eq!(timing.server_total, Duration::from_nanos(300));
    }

    #[test]
    fn a_statement_without_an_answer_has_its_total_as_first() {
        let meter = Meter::new(Instant::now());
        let timing = meter.timing(100, 1000);
        assert_eq!(timing.server_first, timing.server_total);
    }

    #[test]
    fn tag_is_cut_at_its_limit() {
        let mut meter = Meter::new(Instant::now());
        for length in [TAG_BYTES_MAX, TAG_BYTES_MAX + 1] {
            meter.set_tag(&vec![b'x'; length]);
            assert_eq!(meter.completion(), Completion::Complete(&[b'x'; TAG_BYTES_MAX]));
        }
    }
}
