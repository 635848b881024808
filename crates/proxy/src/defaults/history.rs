//! The latest generations of one server's defaults, and when they were read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::generation::Generation;
use crate::limits::DEFAULTS_GENERATIONS_MAX;

/// One generation.
#[derive(Clone, Debug)]
struct SeenGeneration {
    generation: Arc<Generation>,
    /// When it had been read first.
    found_by: Instant,
    /// When the last read that found it unchanged began.
    last: Instant,
}

/// The newest is the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    seen: VecDeque<SeenGeneration>,
}

/// A generation that may have been in force while a session logged in.
#[derive(Clone, Debug)]
pub(crate) struct PossibleGeneration {
    pub(crate) generation: Arc<Generation>,
    /// From the end of the login to the nearest time that it was found in force.
    pub(crate) distance: Duration,
}

impl History {
    /// The latest generation; `None` before the first read.
    pub(crate) fn newest(&self) -> Option<&Arc<Generation>> {
        self.seen.back().map(|seen| &seen.generation)
    }

    /// Adds a generation that was in force at `found_by`, and still in force when it was checked again `at`.
    pub(super) fn found(&self, generation: Arc<Generation>, found_by: Instant, at: Instant) -> Self {
        let mut seen = self.seen.clone();
        match seen.back_mut() {
            Some(newest) if newest.generation == generation => newest.last = at,
            Some(_) | None => seen.push_back(SeenGeneration { generation, found_by, last: at }),
        }
        if seen.len() > DEFAULTS_GENERATIONS_MAX {
            seen.pop_front();
        }
        History { seen }
    }

    /// Records that a check that began `at` found the newest generation still in force.
    pub(super) fn confirmed(&self, at: Instant) -> Self {
        let mut confirmed = self.clone();
        if let Some(newest) = confirmed.seen.back_mut() {
            newest.last = at;
        }
        confirmed
    }

    /// Whether a check that began after `time` has ended.
    pub(crate) fn has_looked_since(&self, time: Instant) -> bool {
        self.seen.back().is_some_and(|newest| newest.last > time)
    }

    /// The known generations that may have been in force between `began` and `ended`, the oldest first.
    pub(crate) fn in_force(&self, began: Instant, ended: Instant) -> Vec<PossibleGeneration> {
        let has_come_later = |at: usize| {
            let before = at.checked_sub(1).and_then(|at| self.seen.get(at));
            before.is_some_and(|before| before.last > ended)
        };
        let was_gone = |at: usize| self.seen.get(at + 1).is_some_and(|next| next.found_by < began);
        let seen = self.seen.iter().enumerate();
        let candidates = seen.filter(|(at, _)| !was_gone(*at) && !has_come_later(*at)).map(|(_, seen)| {
            let since = ended.saturating_duration_since(seen.last);
            let distance = since.max(seen.found_by.saturating_duration_since(ended));
            PossibleGeneration { generation: Arc::clone(&seen.generation), distance }
        });
        candidates.collect()
    }
}
