//! WAL positions that servers have told a worker beside health's looks: for sessions that read elsewhere what they have written.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use tokio::sync::Notify;
use trunkline_codec::ids::Lsn;
use trunkline_topology::ServerId;

/// The newest of each server.
#[derive(Debug, Default)]
pub(crate) struct TalliedPositions {
    servers: RefCell<HashMap<ServerId, ServerTally>>,
    news: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct ServerTally {
    told: Option<TalliedPosition>,
    asking: Asking,
}

/// Where a server was when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TalliedPosition {
    pub(crate) asked_at: Instant,
    /// Of the primary where it wrote next; of a standby what it had replayed.
    pub(crate) lsn: Lsn,
}

/// Whether a question is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asking {
    #[default]
    Nothing,
    Once,
    /// Another is due behind it: it began too early.
    Twice,
}

impl TalliedPositions {
    pub(crate) fn of(&self, server: ServerId) -> Option<TalliedPosition> {
        self.servers.borrow().get(&server)?.told
    }

    /// Somebody needs a position of a question that begins now. `true` if the caller is to ask.
    pub(crate) fn wanted(&self, server: ServerId) -> bool {
        let mut all = self.servers.borrow_mut();
        let asking = &mut all.entry(server).or_default().asking;
        let is_first = *asking == Asking::Nothing;
        *asking = if is_first { Asking::Once } else { Asking::Twice };
        is_first
    }

    /// The question has its answer, if there is one. `true` if the caller is to ask again.
    pub(crate) fn answered(&self, server: ServerId, told: Option<TalliedPosition>) -> bool {
        let mut all = self.servers.borrow_mut();
        let tally = all.entry(server).or_default();
        tally.told = told.or(tally.told);
        let is_due = tally.asking == Asking::Twice && told.is_some();
        tally.asking = if is_due { Asking::Once } else { Asking::Nothing };
        drop(all);
        self.news.notify_waiters();
        is_due
    }

    /// Returns at the next answer.
    pub(crate) async fn told(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_many_sessions_are_asked_one_at_a_time() {
        let (tallied, server) = (TalliedPositions::default(), ServerId(1));
        let told = |lsn| Some(TalliedPosition { asked_at: Instant::now(), lsn: Lsn(lsn) });
        assert!(tallied.wanted(server) && !tallied.wanted(server) && !tallied.wanted(server));
        assert!(tallied.answered(server, told(1)), "two have come since it began");
        assert!(!tallied.answered(server, told(2)));
        assert_eq!(tallied.of(server).map(|told| told.lsn), Some(Lsn(2)));
        assert!(tallied.wanted(server) && !tallied.wanted(server));
        assert!(!tallied.answered(server, None), "a server that does not answer is not asked again at once");
        assert_eq!(tallied.of(server).map(|told| told.lsn), Some(Lsn(2)));
        assert_eq!(tallied.of(ServerId(2)), None);
    }
}
