//! Whether clients wait for connections: while they do, no session keeps one that it could give back.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::limits::CROWD_TICKS;

/// Ticks for which sessions still give back whatever they can, since a client had to wait.
#[derive(Debug, Default)]
pub(crate) struct Crowd(AtomicU32);

impl Crowd {
    /// Whether there is one, or was a moment ago.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    /// A client has to wait. Whether sessions have to be told to give back what they keep: those that came to rest a while
    /// ago know it already.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        if self.0.load(Relaxed) > CROWD_TICKS / 2 {
            return false;
        }
        self.0.store(CROWD_TICKS, Relaxed);
        true
    }

    /// One tick has passed.
    pub(super) fn tick(&self) {
        // A client may begin to wait meanwhile.
        let _none_left = self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_told_once_and_again_while_clients_go_on_waiting() {
        let crowd = Crowd::default();
        assert!(!crowd.is_there());
        assert!(crowd.waits() && crowd.is_there());
        assert!(!crowd.waits());
        for _ in 0..CROWD_TICKS / 2 {
            crowd.tick();
            assert!(crowd.is_there());
        }
        assert!(crowd.waits(), "that it is still there is told before it would be forgotten");
        for _ in 0..=CROWD_TICKS {
            crowd.tick();
        }
        assert!(!crowd.is_there());
    }
}
