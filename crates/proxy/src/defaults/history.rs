//! The latest generations of one server's defaults, and when they were found.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::generation::Generation;
use crate::limits::DEFAULTS_GENERATIONS_MAX;

/// One generation.
#[derive(Clone, Debug)]
struct Seen {
    generation: Arc<Generation>,
    /// When the first look that found it began.
    first: Instant,
    /// When the last look that found it began.
    last: Instant,
}

/// The newest is the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    seen: VecDeque<Seen>,
}

/// A generation that took the place of another at about a certain time.
#[derive(Clone, Debug)]
pub(crate) struct ChangedTo {
    pub(crate) generation: Arc<Generation>,
    /// Whether that time is nearer to the look that found this one than to the last that found the other.
    pub(crate) is_nearer_to_next: bool,
}

impl History {
    /// The latest generation; `None` before the first look.
    pub(crate) fn newest(&self) -> Option<&Arc<Generation>> {
        self.seen.back().map(|seen| &seen.generation)
    }

    /// With what a look that began `at` has found.
    pub(super) fn found(&self, generation: Arc<Generation>, at: Instant) -> Self {
        let mut seen = self.seen.clone();
        match seen.back_mut() {
            Some(newest) if newest.generation == generation => newest.last = at,
            Some(_) | None => seen.push_back(Seen { generation, first: at, last: at }),
        }
        if seen.len() > DEFAULTS_GENERATIONS_MAX {
            seen.pop_front();
        }
        History { seen }
    }

    /// With a look that began `at` and found what is known already.
    pub(super) fn confirmed(&self, at: Instant) -> Self {
        let mut confirmed = self.clone();
        if let Some(newest) = confirmed.seen.back_mut() {
            newest.last = at;
        }
        confirmed
    }

    /// The generation that was found after `time`, if that may have been in force then: no look since has found the
    /// one before it.
    pub(crate) fn changed_around(&self, time: Instant) -> Option<ChangedTo> {
        let at = self.seen.iter().position(|seen| seen.first > time)?;
        let next = &self.seen[at];
        let before = at.checked_sub(1).and_then(|at| self.seen.get(at));
        let is_nearer_to_next = match before {
            Some(before) if before.last >= time => return None,
            Some(before) => next.first - time < time - before.last,
            None => true,
        };
        Some(ChangedTo { generation: Arc::clone(&next.generation), is_nearer_to_next })
    }
}
