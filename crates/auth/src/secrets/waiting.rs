//! Look-ups that wait for the source.

use std::collections::VecDeque;

use super::task::StoreRequest;
use super::{LOOKUPS_WAITING_MAX, LookupError, STRANGERS_WAITING_MAX};

/// Requests fetched at once: one query each, pipelined.
pub(super) const BATCH_MAX: usize = 64;

/// Places in a batch that strangers find even when more known users wait than it has.
const STRANGERS_IN_BATCH: usize = BATCH_MAX / 4;

/// The queues: users who were found lately, and everybody else. Whoever tries names at random fills only the second.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    known: VecDeque<StoreRequest>,
    strangers: VecDeque<StoreRequest>,
}

/// Whether a request is for a user who was found lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquaintance {
    Known,
    Stranger,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.known.len() + self.strangers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a request, or answers it with [`LookupError::Busy`] when its queue is full.
    pub(super) fn push(&mut self, request: StoreRequest, acquaintance: Acquaintance) {
        let (queue, max) = match acquaintance {
            Acquaintance::Known => (&mut self.known, LOOKUPS_WAITING_MAX),
            Acquaintance::Stranger => (&mut self.strangers, STRANGERS_WAITING_MAX),
        };
        match request {
            StoreRequest::Lookup { reply, .. } if queue.len() >= max => {
                // The login that asked may have ended.
                let _gone = reply.send(Err(LookupError::Busy));
            }
            request => queue.push_back(request),
        }
    }

    /// Takes the requests to fetch next, those of known users first.
    pub(super) fn take_batch(&mut self) -> Vec<StoreRequest> {
        let strangers_least = self.strangers.len().min(STRANGERS_IN_BATCH);
        let known = self.known.len().min(BATCH_MAX - strangers_least);
        let strangers = self.strangers.len().min(BATCH_MAX - known);
        self.known.drain(..known).chain(self.strangers.drain(..strangers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::sync::oneshot;

    use super::super::task::Freshness;
    use super::super::{LookupError, Secret};
    use super::*;

    type Answer = oneshot::Receiver<Result<Secret, LookupError>>;

    fn lookup(user: &str) -> (StoreRequest, Answer) {
        let (reply, answer) = oneshot::channel();
        let asked_at = Instant::now();
        (StoreRequest::Lookup { user: user.into(), freshness: Freshness::Current, asked_at, reply }, answer)
    }

    fn fill(waiting: &mut Waiting, acquaintance: Acquaintance, number: usize) -> Vec<Answer> {
        let mut push = |n| {
            let (request, answer) = lookup(&format!("{acquaintance:?}{n}"));
            waiting.push(request, acquaintance);
            answer
        };
        (0..number).map(&mut push).collect()
    }

    fn names(batch: &[StoreRequest]) -> Vec<&str> {
        batch.iter().map(name).collect()
    }

    fn name(request: &StoreRequest) -> &str {
        match request {
            StoreRequest::Lookup { user, .. } => user,
            StoreRequest::Reload { .. } | StoreRequest::Distrust { .. } => "",
        }
    }

    #[test]
    fn strangers_at_their_bound_leave_the_places_of_known_users_alone() {
        let mut waiting = Waiting::default();
        let mut strangers = fill(&mut waiting, Acquaintance::Stranger, STRANGERS_WAITING_MAX + 1);
        let refused = strangers.pop().map(|mut answer| answer.try_recv());
        assert!(matches!(refused, Some(Ok(Err(LookupError::Busy)))), "one more than the bound");
        assert!(strangers.iter_mut().all(|answer| answer.try_recv().is_err()), "the others wait");
        let mut known = fill(&mut waiting, Acquaintance::Known, LOOKUPS_WAITING_MAX + 1);
        let refused = known.pop().map(|mut answer| answer.try_recv());
        assert!(matches!(refused, Some(Ok(Err(LookupError::Busy)))));
        assert!(known.iter_mut().all(|answer| answer.try_recv().is_err()));
        assert_eq!(waiting.len(), STRANGERS_WAITING_MAX + LOOKUPS_WAITING_MAX);
    }

    #[test]
    fn known_users_come_first_and_strangers_come_too() {
        let mut waiting = Waiting::default();
        let _strangers = fill(&mut waiting, Acquaintance::Stranger, STRANGERS_WAITING_MAX);
        let _known = fill(&mut waiting, Acquaintance::Known, 2);
        let batch = waiting.take_batch();
        assert_eq!(batch.len(), BATCH_MAX);
        assert_eq!(names(&batch)[..3], ["Known0", "Known1", "Stranger0"]);
        let _more = fill(&mut waiting, Acquaintance::Known, 2 * BATCH_MAX);
        let batch = waiting.take_batch();
        let strangers = names(&batch).iter().filter(|name| name.starts_with("Stranger")).count();
        assert_eq!((batch.len(), strangers), (BATCH_MAX, STRANGERS_IN_BATCH));
    }

    #[test]
    fn everything_is_taken_in_the_end() {
        let mut waiting = Waiting::default();
        let _answers = fill(&mut waiting, Acquaintance::Stranger, BATCH_MAX + 1);
        assert_eq!((waiting.take_batch().len(), waiting.take_batch().len()), (BATCH_MAX, 1));
        assert!(waiting.is_empty() && waiting.take_batch().is_empty());
    }
}
