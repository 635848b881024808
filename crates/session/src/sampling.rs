//! Which statements get a fingerprint, for comparing servers by what they all do.
//!
//! Reading the SQL costs more than all else that is done for a short statement, so a busy session samples: every so many
//! statements, by number and not by time, because then a statement that takes long is as likely to be drawn as any.

use std::time::Instant;

use crate::limits::SAMPLED_SQL_BYTES_MAX;
use crate::sql::fingerprint::Fingerprint;

/// Samples that come faster than this, in nanoseconds, get rarer ...
const GAP_MIN: u64 = 10_000_000;

/// ... and those that come slower than this more frequent.
const GAP_MAX: u64 = 40_000_000;

/// Every so many statements at the rarest: a session runs some 50 000 in a second at most.
const EVERY_MAX: u16 = 1024;

/// Which statement of a session has a fingerprint; one at a time.
#[derive(Debug)]
pub(crate) struct Sampler {
    every: u16,
    /// Statements that are left out before the next.
    skip: u16,
    /// When the last one was drawn, on the session's clock.
    drawn: u64,
    sampled: Sampled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sampled {
    None,
    /// Of a portal that is not executed yet.
    Bound(Fingerprint),
    /// Of the statement sent then.
    Sent(u64, Fingerprint),
}

/// Which of the sessions that begin one after another have their first statement drawn. Of clients that connect, ask once and
/// leave there are as many statements as of one that is busy.
#[derive(Debug)]
pub struct FirstStatements {
    since: Instant,
    sampler: Sampler,
}

impl FirstStatements {
    /// For sessions that begin from now on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        FirstStatements { since: now, sampler: Sampler::new() }
    }

    /// Whether to draw the first statement of the session that begins at `now`;
    /// [`Session::leave_out_first_sample`](crate::Session::leave_out_first_sample) is for the others.
    pub fn draws(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_nanos();
        self.sampler.draws(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self { every: 1, skip: 0, drawn: 0, sampled: Sampled::None }
    }

    /// One that leaves out the first statement.
    pub(crate) fn behind_the_first() -> Self {
        Self { skip: 1, ..Self::new() }
    }

    /// Whether to draw the statement that is sent, or bound, at `now`.
    #[inline]
    pub(crate) fn draws(&mut self, now: u64) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        !matches!(self.sampled, Sampled::Sent(..)) && self.draw(now)
    }

    #[cold]
    fn draw(&mut self, now: u64) -> bool {
        let gap = now.saturating_sub(std::mem::replace(&mut self.drawn, now));
        if gap < GAP_MIN {
            self.every = (self.every * 2).min(EVERY_MAX);
        } else if gap > GAP_MAX {
            self.every = (self.every / 2).max(1);
        }
        // The nanoseconds keep it from falling into step with a client that repeats itself.
        let jitter = (now % u64::from(self.every)) as u16;
        self.skip = self.every / 2 + jitter;
        true
    }

    /// A statement that was drawn goes to the server.
    pub(crate) fn sent(&mut self, sql: &[u8], now: u64) {
        self.sampled = Sampled::Sent(now, fingerprint(sql));
    }

    /// The same of one that is bound to a portal.
    pub(crate) fn bound(&mut self, sql: &[u8]) {
        self.sampled = Sampled::Bound(fingerprint(sql));
    }

    /// An Execute goes to the server.
    #[inline]
    pub(crate) fn executed(&mut self, now: u64) {
        if let Sampled::Bound(fingerprint) = self.sampled {
            self.sampled = Sampled::Sent(now, fingerprint);
        }
    }

    /// The fingerprint of the statement sent at `sent`, which is complete.
    #[inline]
    pub(crate) fn completed(&mut self, sent: u64) -> Option<Fingerprint> {
        let Sampled::Sent(at, fingerprint) = self.sampled else { return None };
        if sent < at {
            return None;
        }
        self.sampled = Sampled::None;
        // One that was sent later is another: the drawn one was lost.
        (sent == at).then_some(fingerprint)
    }
}

fn fingerprint(sql: &[u8]) -> Fingerprint {
    Fingerprint::of(&sql[..sql.len().min(SAMPLED_SQL_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn of_sessions_that_begin_slowly_all_are_drawn_and_of_many_at_one_time_some() {
        for (gap, few, many) in [(100 * MS, 2000, 2000), (MS / 2, 20, 160)] {
            let begun = Instant::now();
            let mut first = FirstStatements::new(begun);
            let drawn = (1..=2000).filter(|n| first.draws(begun + Duration::from_nanos(n * gap))).count();
            assert!((few..=many).contains(&drawn), "{drawn} each {gap} ns");
        }
    }

    #[test]
    fn a_session_whose_first_statement_is_left_out_has_its_second_drawn() {
        let mut sampler = Sampler::behind_the_first();
        assert_eq!([MS, 200 * MS, 400 * MS].map(|now| sampler.draws(now)), [false, true, true]);
    }

    #[test]
    fn a_slow_session_has_all_of_its_statements_drawn_and_a_fast_one_some() {
        for (gap, few, many) in [(100 * MS, 20_000, 20_000), (MS, 400, 2400), (MS / 20, 20, 160)] {
            let mut sampler = Sampler::new();
            // The time is odd, as times are.
            let mut times = (1_u64..).map(|n| n * gap + n * n % 7919);
            let mut draw = |n: usize| {
                let drawn = times.by_ref().take(n).filter(|now| {
                    let is_drawn = sampler.draws(*now);
                    if is_drawn {
                        sampler.sent(b"select 1", *now);
                        assert!(sampler.completed(*now).is_some());
                    }
                    is_drawn
                });
                drawn.count()
            };
            draw(20_000);
            let drawn = draw(20_000);
            assert!((few..=many).contains(&drawn), "{drawn} of 20 000 every {gap} ns");
        }
    }

    #[test]
    fn a_fingerprint_goes_with_its_statement_alone() {
        let mut sampler = Sampler::new();
        assert!(sampler.draws(10));
        sampler.sent(b"select 1", 10);
        assert!(!sampler.draws(11), "one at a time");
        assert_eq!(sampler.completed(9), None, "sent before it");
        assert_eq!(sampler.completed(10), Some(Fingerprint::of(b"select 2")));
        assert_eq!(sampler.completed(10), None);
        sampler.sent(b"select 1", 20);
        assert_eq!(sampler.completed(21), None, "its own was lost");
        sampler.bound(b"select 1");
        assert_eq!(sampler.completed(30), None, "not executed yet");
        sampler.executed(31);
        assert_eq!(sampler.completed(31), Some(Fingerprint::of(b"select 1")));
    }
}
