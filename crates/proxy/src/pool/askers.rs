//! Users and databases whose clients ask for what sequences have given.

use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashSet;

use crate::limits::SEQUENCE_ASKERS_MAX;

/// See the module. They are known by a hash: of two with the same, one has its clients keep connections for longer.
#[derive(Debug, Default)]
pub(super) struct SequenceAskers {
    names: DashSet<u64>,
    /// There are some.
    are_any: AtomicBool,
}

impl SequenceAskers {
    pub(super) fn note(&self, names: u64) {
        if self.names.len() < SEQUENCE_ASKERS_MAX {
            self.names.insert(names);
            self.are_any.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn has(&self, names: u64) -> bool {
        self.are_any.load(Ordering::Relaxed) && self.names.contains(&names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_are_known_and_no_more() {
        let askers = SequenceAskers::default();
        assert!(!askers.has(0));
        (0..=SEQUENCE_ASKERS_MAX as u64).for_each(|names| askers.note(names));
        assert!(askers.has(0) && askers.has(SEQUENCE_ASKERS_MAX as u64 - 1));
        assert!(!askers.has(SEQUENCE_ASKERS_MAX as u64));
    }
}
