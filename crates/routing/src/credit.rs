//! How long reads of a session may wait for a standby to show what it has written: for no more than a share of its time, and for a
//! while not at all where that is in vain.

use std::time::{Duration, Instant};

/// A session waits for at most so many parts of its time, of so many, ...
const WAIT_SHARE: [u32; 2] = [2, 3];

/// ... counted over this time, or somewhat longer.
const WAIT_WINDOW: Duration = Duration::from_millis(50);

/// For how long no read waits behind one that has waited in vain; twice as long each time, ...
const VAIN_REST: Duration = Duration::from_millis(2);

/// ... at most.
const VAIN_REST_MAX: Duration = Duration::from_secs(1);

/// What the waits of a session have cost and brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitCredit {
    /// From then on its waits are no more than their share of its time.
    paid: Option<Instant>,
    /// Until then none waits, since the last wait was in vain.
    rests: Option<Instant>,
    /// Waits in vain since the last that was not.
    vain: u32,
}

/// What a wait has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// A standby shows enough.
    Shown,
    /// It was too long.
    InVain,
}

impl WaitCredit {
    /// Whether a read may wait that comes now.
    #[must_use]
    pub fn lasts(&self, now: Instant) -> bool {
        [self.paid, self.rests].into_iter().flatten().all(|until| until <= now)
    }

    /// A read has waited from `since` to `now`.
    pub fn waited(&mut self, since: Instant, now: Instant, how: WaitEnd) {
        let [part, whole] = WAIT_SHARE;
        let oldest = since.checked_sub(WAIT_WINDOW).unwrap_or(since);
        let paid = self.paid.map_or(oldest, |paid| paid.max(oldest));
        self.paid = Some(paid + now.saturating_duration_since(since) * whole / part);
        match how {
            WaitEnd::Shown => (self.rests, self.vain) = (None, 0),
            WaitEnd::InVain => {
                let rest = VAIN_REST.saturating_mul(2_u32.saturating_pow(self.vain));
                self.rests = Some(now + rest.min(VAIN_REST_MAX));
                self.vain = self.vain.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// How long a session waits within `time` whose reads come at once, and wait for so long wherever they may.
    fn waits_within(time: Duration, each: Duration, how: WaitEnd) -> Duration {
        let (begun, mut credit, mut waited) = (Instant::now(), WaitCredit::default(), Duration::ZERO);
        let mut now = begun;
        while now < begun + time {
            if credit.lasts(now) {
                credit.waited(now, now + each, how);
                (now, waited) = (now + each, waited + each);
            } else {
                now += MILLISECOND / 10;
            }
        }
        waited
    }

    #[test]
    fn a_session_waits_for_no_more_than_its_share_of_the_time() {
        for each in [MILLISECOND / 2, MILLISECOND, 3 * MILLISECOND, 10 * MILLISECOND] {
            let (time, most) = (Duration::from_secs(1), WAIT_WINDOW + each);
            let waited = waits_within(time, each, WaitEnd::Shown);
            let share = time * WAIT_SHARE[0] / WAIT_SHARE[1];
            assert!(waited <= share + most && waited >= share - most, "{waited:?}");
        }
    }

    #[test]
    fn a_session_that_has_not_waited_saves_no_more_than_a_window() {
        let (mut credit, now) = (WaitCredit::default(), Instant::now());
        credit.waited(now, now + MILLISECOND, WaitEnd::Shown);
        let later = now + Duration::from_secs(3600);
        let mut end = later;
        while credit.lasts(end) {
            credit.waited(end, end + MILLISECOND, WaitEnd::Shown);
            end += MILLISECOND;
            assert!(end < later + 3 * WAIT_WINDOW, "{credit:?}");
        }
        assert!(end >= later + WAIT_WINDOW, "{credit:?}");
    }

    #[test]
    fn waits_in_vain_come_ever_less_often_until_one_is_not() {
        let (mut credit, mut now) = (WaitCredit::default(), Instant::now());
        let mut rest = VAIN_REST;
        for _ in 0..40 {
            assert!(credit.lasts(now));
            credit.waited(now, now, WaitEnd::InVain);
            assert!(!credit.lasts(now + rest - Duration::from_nanos(1)), "{rest:?}");
            now += rest;
            rest = (rest * 2).min(VAIN_REST_MAX);
        }
        assert!(rest == VAIN_REST_MAX && credit.lasts(now));
        credit.waited(now, now, WaitEnd::Shown);
        assert!(credit.lasts(now));
        credit.waited(now, now, WaitEnd::InVain);
        assert!(!credit.lasts(now) && credit.lasts(now + VAIN_REST));
    }

    #[test]
    fn waits_in_vain_cost_next_to_nothing() {
        let time = Duration::from_secs(60);
        let waited = waits_within(time, 3 * MILLISECOND, WaitEnd::InVain);
        assert!(waited * 100 <= time, "{waited:?}");
    }
}
