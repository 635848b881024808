//! How long a read waits for a standby where nothing else is said: a moment, as standbys are mostly a fraction of a millisecond
//! behind, and a client that asks one thing after another would be ahead of them for ever.

use std::time::{Duration, Instant};

use trunkline_routing::{WaitCredit, WaitEnd};
use trunkline_session::ReadUnit;

use super::state::{Split, UnitPlace};
use crate::limits::{NEW_READ_GAP, NEW_READ_WAIT, SHOWN_WAIT};
use crate::relay::Relay;

/// What a session remembers of its waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WaitPatience {
    credit: WaitCredit,
    /// When a read has waited last that no standby has run.
    new_at: Option<Instant>,
}

/// What is known of a read that would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadNews {
    /// A standby has run it: the primary runs it without writing.
    RunBefore,
    /// If the primary runs it, it counts as a write, and so does the next one like it.
    New,
}

impl WaitPatience {
    /// How long such a read may wait that comes at `now`.
    pub(super) fn limit(&self, news: ReadNews, now: Instant) -> Duration {
        let is_due = self.new_at.is_none_or(|last| now >= last + NEW_READ_GAP);
        match news {
            ReadNews::New if is_due => NEW_READ_WAIT,
            ReadNews::New | ReadNews::RunBefore if self.credit.lasts(now) => SHOWN_WAIT,
            ReadNews::New | ReadNews::RunBefore => Duration::ZERO,
        }
    }

    /// Such a read has waited from `since` to `now`.
    pub(super) fn waited(&mut self, news: ReadNews, since: Instant, now: Instant, how: WaitEnd) {
        self.credit.waited(since, now, how);
        if news == ReadNews::New {
            self.new_at = Some(now);
        }
    }
}

impl Relay {
    /// What is known of the unit that would go to this place.
    pub(super) fn news_of(&self, place: UnitPlace) -> ReadNews {
        match place {
            UnitPlace::ReadOnPrimary(unit) if !self.is_known_to_read(unit) => ReadNews::New,
            _place => ReadNews::RunBefore,
        }
    }

    /// Whether the primary runs it without writing, as far as standbys have shown to this session or another of its pool.
    fn is_known_to_read(&self, unit: ReadUnit) -> bool {
        let Some(split) = &self.context.split else { return false };
        let settings = self.session.settings_fingerprint();
        let pool = self.context.seat.as_ref().map(|seat| (seat.id(), self.context.own.digest()));
        let key = pool.and_then(|pool| Split::shared_key(unit, settings, pool));
        let is_shared = |key| self.worker.shared.run_on_standbys.knows(key, Instant::now());
        split.only_reads(unit, settings) || key.is_some_and(is_shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_no_standby_has_run_waits_now_and_then_whatever_the_last_waits_have_brought() {
        let (mut patience, now) = (WaitPatience::default(), Instant::now());
        assert_eq!(patience.limit(ReadNews::RunBefore, now), SHOWN_WAIT);
        patience.waited(ReadNews::RunBefore, now, now, WaitEnd::InVain);
        assert_eq!(patience.limit(ReadNews::RunBefore, now), Duration::ZERO);
        assert_eq!(patience.limit(ReadNews::New, now), NEW_READ_WAIT);
        patience.waited(ReadNews::New, now, now, WaitEnd::InVain);
        assert_eq!(patience.limit(ReadNews::New, now), Duration::ZERO);
        assert_eq!(patience.limit(ReadNews::New, now + NEW_READ_GAP), NEW_READ_WAIT);
    }
}
