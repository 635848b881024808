//! A session in transaction mode whose client asks one thing after another: to give its connection back and to take it again
//! for each costs more than a short query, and serves nobody while no client waits. It keeps the connection until it is busy no
//! more, a client waits for one ([`crate::pool::crowd`]), or its server is to be chosen anew.

use super::Relay;
use crate::limits::{BUSY_RESTS_MIN, POOL_STAY, TICK};

/// How busy a session is, by the ticks of its worker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Business {
    tick: u16,
    /// Times that it has come to rest since.
    rests: u8,
    pace: Pace,
}

/// What a session did between the last two ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pace {
    #[default]
    Slow,
    /// It came to rest at least [`BUSY_RESTS_MIN`] times.
    Busy,
}

impl Business {
    /// The session has come to rest.
    #[inline]
    fn rests(&mut self, tick: u16) -> Pace {
        if self.tick != tick {
            let is_busy = self.rests >= BUSY_RESTS_MIN && tick == self.tick.wrapping_add(1);
            *self = Business { tick, rests: 0, pace: if is_busy { Pace::Busy } else { Pace::Slow } };
        }
        self.rests = self.rests.saturating_add(1);
        self.pace
    }
}

impl Relay {
    /// Whether the idle session keeps its connection because it will soon need one again.
    #[inline]
    pub(super) fn stays_busy(&mut self) -> bool {
        self.context.business.rests(self.worker.slots.ticks()) == Pace::Busy && self.may_stay_busy()
    }

    fn may_stay_busy(&mut self) -> bool {
        if self.context.split.is_some()
            || self.worker.shared.pools.crowd.is_there()
            || self.watch.must_leave.is_some()
            || self.answered_at >= self.context.chosen_at + POOL_STAY
        {
            return false;
        }
        self.worker.slots.keeps_connection(&self.slot);
        // It may have been the last request.
        self.slot.due_by(self.answered_at + TICK);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paces(business: &mut Business, tick: u16, rests: u8) -> Vec<Pace> {
        (0..rests).map(|_| business.rests(tick)).collect()
    }

    #[test]
    fn a_session_is_busy_after_a_tick_with_many_rests_until_one_with_few() {
        let mut business = Business::default();
        let many = BUSY_RESTS_MIN;
        assert_eq!(paces(&mut business, 0, many), vec![Pace::Slow; usize::from(many)]);
        assert_eq!(paces(&mut business, 1, many - 1), vec![Pace::Busy; usize::from(many - 1)]);
        assert_eq!(paces(&mut business, 2, many), vec![Pace::Slow; usize::from(many)], "too few before");
        assert_eq!(business.rests(3), Pace::Busy);
        assert_eq!(paces(&mut business, 5, many)[0], Pace::Slow, "it has rested for a whole tick");
        assert_eq!(business.rests(6), Pace::Busy);
        assert_eq!(business.rests(u16::MAX), Pace::Slow);
    }

    #[test]
    fn ticks_may_begin_again_from_nothing() {
        let mut business = Business::default();
        paces(&mut business, u16::MAX, BUSY_RESTS_MIN);
        assert_eq!(business.rests(0), Pace::Busy);
    }
}
