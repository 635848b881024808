//! The LSN clock: when did the primary have which WAL?
//!
//! Each sample says: asked at `sent`, answered at `received`, WAL flushed up to `lsn`. So the WAL up to
//! `lsn` existed at `received`, and everything acknowledged before `sent` lies below `lsn`. A standby that
//! has `lsn` shows all commits up to `sent`; one that has not, misses WAL that existed at `received`.
//! Both are proofs, by one monotonic clock, whatever the servers' clocks say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::Lsn;

use trunkline_topology::FlushedWal;

/// Most entries kept. Thinned beyond it, which widens bounds and never makes them wrong.
const ENTRIES_MAX: usize = 4096;

/// An estimate interpolates between samples at most this many ticks apart.
const INTERPOLATE_TICKS_MAX: u32 = 3;

/// A run of samples with one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SampleRun {
    lsn: Lsn,
    /// The WAL up to `lsn` existed at this time: the first sample's answer.
    existed_at: Instant,
    /// The primary had no more than `lsn` at this time: the last sample's question. `None` where only
    /// standbys told of this position.
    complete_at: Option<Instant>,
}

/// Where the primary's WAL was, when; for one timeline.
#[derive(Clone, Debug)]
pub(super) struct LsnClock {
    entries: VecDeque<SampleRun>,
    horizon: Duration,
}

/// How a standby stands on the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockReading {
    /// It is at least this far behind.
    pub(super) lo: Duration,
    /// Best estimate.
    pub(super) est: Duration,
    /// It shows every commit acknowledged before this.
    pub(super) fresh_as_of: Option<Instant>,
    /// It has all that is known to exist.
    pub(super) is_in_sync: bool,
    /// By what.
    pub(super) basis: LagBasis,
}

/// What a reading rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LagBasis {
    /// WAL positions: a proof in both directions.
    Positions,
    /// The operator's `lag_query`, which is believed in both directions.
    LagQuery,
    /// When the last transaction replayed was committed, if that is known: proves that little is missing, never that much is.
    LastCommit,
}

impl LsnClock {
    /// An empty clock that remembers `horizon`.
    pub(super) fn new(horizon: Duration) -> Self {
        LsnClock { entries: VecDeque::new(), horizon }
    }

    /// The farthest position known.
    pub(super) fn newest(&self) -> Option<Lsn> {
        self.entries.back().map(|entry| entry.lsn)
    }

    /// Forgets every position.
    pub(super) fn forget_all(&mut self) {
        self.entries.clear();
    }

    /// From now on remembers `horizon`.
    pub(super) fn set_horizon(&mut self, horizon: Duration) {
        self.horizon = horizon;
    }

    /// Where the WAL ended, when, as far as the primary itself has told.
    pub(super) fn written(&self) -> Arc<[FlushedWal]> {
        let told = |entry: &SampleRun| Some(FlushedWal { at: entry.complete_at?, lsn: entry.lsn });
        self.entries.iter().filter_map(told).collect()
    }

    /// Records the primary's answer.
    pub(super) fn push_primary(&mut self, sent: Instant, received: Instant, lsn: Lsn) {
        match self.entries.back_mut() {
            Some(last) if last.lsn == lsn => {
                last.complete_at = last.complete_at.max(Some(sent));
                return;
            }
            // The primary came back with less than was seen before: what was lost never counts again.
            Some(last) if last.lsn > lsn => self.entries.retain(|entry| entry.lsn < lsn),
            Some(_) | None => {}
        }
        self.entries.push_back(SampleRun { lsn, existed_at: received, complete_at: Some(sent) });
        self.forget(received);
    }

    /// Records that a standby knows of WAL up to `lsn`. It proves that the WAL exists, not that it is all.
    pub(super) fn push_frontier(&mut self, received: Instant, lsn: Lsn) {
        if self.newest().is_none_or(|newest| newest < lsn) {
            self.entries.push_back(SampleRun { lsn, existed_at: received, complete_at: None });
            self.forget(received);
        }
    }

    /// Reads the clock for a standby asked at `sent`, of which `covers` tells whether it has a position.
    pub(super) fn read(
        &self,
        sent: Instant,
        replay: Lsn,
        tick: Duration,
        covers: impl Fn(Lsn) -> bool,
    ) -> ClockReading {
        // Positions ascend, and what is covered is a prefix of them.
        let covered_count = self.entries.partition_point(|entry| covers(entry.lsn));
        let covered = self.entries.iter().take(covered_count).rev().find(|entry| entry.complete_at.is_some());
        let fresh_as_of = covered.and_then(|entry| entry.complete_at);
        let Some(missing) = self.entries.get(covered_count) else {
            return ClockReading {
                lo: Duration::ZERO,
                est: Duration::ZERO,
                fresh_as_of,
                is_in_sync: true,
                basis: LagBasis::Positions,
            };
        };
        let lo = sent.saturating_duration_since(missing.existed_at);
        let est = covered.map_or(lo, |entry| estimate(entry, missing, sent, replay, tick).max(lo));
        ClockReading { lo, est, fresh_as_of, is_in_sync: false, basis: LagBasis::Positions }
    }

    fn forget(&mut self, now: Instant) {
        // The newest entry past the horizon stays: what lies before it is "horizon or more" behind.
        while self
            .entries
            .get(1)
            .is_some_and(|next| now.saturating_duration_since(next.existed_at) > self.horizon)
        {
            self.entries.pop_front();
        }
        if self.entries.len() > ENTRIES_MAX {
            let mut index = 0;
            let half = self.entries.len() / 2;
            self.entries.retain(|_| {
                index += 1;
                // The oldest is what proves the most.
                index == 1 || index > half || index % 2 == 0
            });
        }
    }
}

/// How far behind a standby is that replayed to between two entries.
fn estimate(
    covered: &SampleRun,
    missing: &SampleRun,
    sent: Instant,
    replay: Lsn,
    tick: Duration,
) -> Duration {
    let from = covered.complete_at.unwrap_or(covered.existed_at);
    let span = missing.existed_at.saturating_duration_since(from);
    if span > tick * INTERPOLATE_TICKS_MAX {
        return sent.saturating_duration_since(missing.existed_at);
    }
    let whole = missing.lsn.bytes_since(covered.lsn).max(1);
    let part = replay.bytes_since(covered.lsn).min(whole);
    // Positions a few ticks apart: exact enough as floating point.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of two byte counts")]
    let reached = from + span.mul_f64(part as f64 / whole as f64);
    sent.saturating_duration_since(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_the_primary_told_and_nobody_else() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut clock = LsnClock::new(Duration::from_secs(120));
        clock.push_primary(at(1), at(2), Lsn(100));
        clock.push_primary(at(3), at(4), Lsn(100));
        clock.push_frontier(at(5), Lsn(150));
        clock.push_primary(at(6), at(7), Lsn(200));
        let written = [(3, 100), (6, 200)].map(|(asked, lsn)| FlushedWal { at: at(asked), lsn: Lsn(lsn) });
        assert_eq!(*clock.written(), written);
    }
}
