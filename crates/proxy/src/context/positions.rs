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
    asking: Option<PositionQuestion>,
}

/// Where a server was when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TalliedPosition {
    pub(crate) asked_at: Instant,
    /// Of the primary where it wrote next; of a standby what it had replayed.
    pub(crate) lsn: Lsn,
}

/// A question that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PositionQuestion {
    /// `None` if it is about to begin.
    began: Option<Instant>,
    next: NextQuestion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextQuestion {
    None,
    /// It began too early for somebody.
    Due,
}

impl PositionQuestion {
    const COMING: PositionQuestion = PositionQuestion { began: None, next: NextQuestion::None };
}

impl TalliedPositions {
    pub(crate) fn of(&self, server: ServerId) -> Option<TalliedPosition> {
        self.servers.borrow().get(&server)?.told
    }

    /// Somebody needs a position of a question that begins at `since` or later; `None` if any that is under way will do. `true` if the
    /// caller is to ask.
    pub(crate) fn wanted(&self, server: ServerId, since: Option<Instant>) -> bool {
        let mut all = self.servers.borrow_mut();
        match &mut all.entry(server).or_default().asking {
            Some(question) => {
                if since.is_some_and(|since| question.began.is_some_and(|began| began < since)) {
                    question.next = NextQuestion::Due;
                }
                false
            }
            nothing => {
                *nothing = Some(PositionQuestion::COMING);
                true
            }
        }
    }

    /// The question begins now.
    pub(crate) fn asks(&self, server: ServerId, now: Instant) {
        let question = PositionQuestion { began: Some(now), next: NextQuestion::None };
        self.servers.borrow_mut().entry(server).or_default().asking = Some(question);
    }

    /// The question has its answer, if there is one. `true` if the caller is to ask again.
    pub(crate) fn answered(&self, server: ServerId, told: Option<TalliedPosition>) -> bool {
        let mut all = self.servers.borrow_mut();
        let tally = all.entry(server).or_default();
        tally.told = told.or(tally.told);
        let is_due =
            tally.asking.is_some_and(|question| question.next == NextQuestion::Due) && told.is_some();
        tally.asking = is_due.then_some(PositionQuestion::COMING);
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn questions_of_many_sessions_are_asked_one_at_a_time() {
        let (tallied, server) = (TalliedPositions::default(), ServerId(1));
        let told = |lsn| Some(TalliedPosition { asked_at: Instant::now(), lsn: Lsn(lsn) });
        let now = Instant::now();
        let later = now + Duration::from_nanos(1);
        assert!(
            tallied.wanted(server, Some(now)) && !tallied.wanted(server, Some(later)),
            "it is still to begin"
        );
        tallied.asks(server, now);
        assert!(!tallied.wanted(server, Some(later)) && !tallied.wanted(server, Some(now)));
        assert!(tallied.answered(server, told(1)), "it began too early for one of them");
        tallied.asks(server, later);
        assert!(!tallied.wanted(server, Some(later)) && !tallied.wanted(server, None));
        assert!(!tallied.answered(server, told(2)), "it is late enough for all");
        assert_eq!(tallied.of(server).map(|told| told.lsn), Some(Lsn(2)));
        assert!(tallied.wanted(server, None));
        tallied.asks(server, now);
        assert!(!tallied.wanted(server, Some(later)));
        assert!(!tallied.answered(server, None), "a server that does not answer is not asked again at once");
        assert_eq!(tallied.of(server).map(|told| told.lsn), Some(Lsn(2)));
        assert_eq!(tallied.of(ServerId(2)), None);
    }
}
