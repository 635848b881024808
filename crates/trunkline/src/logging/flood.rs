//! Warnings that come by the thousand in an outage, one for each session: the first of each kind are logged, the others
//! counted.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind within [`INTERVAL`]; more are counted.
const LINES_MAX: u64 = 100;

/// See [`LINES_MAX`].
const INTERVAL: Duration = Duration::from_secs(10);

/// Leaves out warnings and errors of which there are too many.
#[derive(Clone, Debug, Default)]
pub(super) struct FloodLimit(Arc<Mutex<Flood<Identifier>>>);

/// Lines of one kind that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    /// Their message.
    pub(super) message: String,
}

impl FloodLimit {
    /// What was left out since the last call.
    pub(super) fn take_left_out(&self) -> Vec<LeftOut> {
        self.flood().take_left_out()
    }

    fn flood(&self) -> MutexGuard<'_, Flood<Identifier>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for FloodLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // An ordinary line is asked for, at its level.
        if *metadata.level() > Level::WARN {
            return true;
        }
        self.flood().admits(metadata.callsite(), Instant::now(), || message_of(event))
    }
}

/// The lines of each kind; there are as many kinds as places in the program that log a warning.
#[derive(Debug)]
struct Flood<K> {
    kinds: HashMap<K, Lines>,
}

impl<K> Default for Flood<K> {
    fn default() -> Self {
        Self { kinds: HashMap::new() }
    }
}

#[derive(Debug)]
struct Lines {
    began: Instant,
    /// Since then.
    number: u64,
    left_out: u64,
    message: String,
}

impl<K: Hash + Eq> Flood<K> {
    /// Whether one more line of a kind is logged; otherwise it is counted.
    fn admits(&mut self, kind: K, now: Instant, message: impl FnOnce() -> String) -> bool {
        let lines = self.kinds.entry(kind).or_insert_with(|| Lines {
            began: now,
            number: 0,
            left_out: 0,
            message: String::new(),
        });
        if now.saturating_duration_since(lines.began) >= INTERVAL {
            (lines.began, lines.number) = (now, 0);
        }
        lines.number += 1;
        if lines.number <= LINES_MAX {
            return true;
        }
        if lines.left_out == 0 {
            lines.message = message();
        }
        lines.left_out += 1;
        false
    }

    fn take_left_out(&mut self) -> Vec<LeftOut> {
        let kinds = self.kinds.values_mut().filter(|lines| lines.left_out > 0);
        kinds
            .map(|lines| LeftOut {
                lines: std::mem::take(&mut lines.left_out),
                message: std::mem::take(&mut lines.message),
            })
            .collect()
    }
}

fn message_of(event: &Event<'_>) -> String {
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _to_memory = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_of_a_kind_are_logged_and_the_others_counted() {
        let mut flood = Flood::default();
        let start = Instant::now();
        let lost = || "server was lost".to_owned();
        let mut admitted = |kind: u8, after: Duration| flood.admits(kind, start + after, lost);
        for _line in 0..LINES_MAX {
            assert!(admitted(1, Duration::ZERO));
        }
        assert!(!admitted(1, Duration::from_secs(1)) && !admitted(1, Duration::from_secs(9)));
        assert!(admitted(2, Duration::from_secs(9)), "each kind has its own");
        assert!(admitted(1, INTERVAL), "a new interval");
        assert_eq!(flood.take_left_out(), [LeftOut { lines: 2, message: lost() }]);
        assert_eq!(flood.take_left_out(), []);
    }
}
