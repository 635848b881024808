//! How long the monitor's probes take: they ask every server the same.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use trunkline_topology::ServerId;

/// Probes of one server that are looked at.
const PROBES_KEPT: usize = 5;

/// Fewer say nothing.
const PROBES_MIN: usize = 3;

/// The probes of a slow server take more than this many times as long as its peers' ...
const PROBE_RATIO: u32 = 2;

/// ... plus this.
const PROBE_SLACK: Duration = Duration::from_millis(3);

/// The last probes of every server.
#[derive(Debug, Default)]
pub(super) struct Probes(BTreeMap<ServerId, VecDeque<Duration>>);

/// Medians of a server's probes, and of its peers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbesCompared {
    pub(super) own: Option<Duration>,
    pub(super) peers: Option<Duration>,
}

impl ProbesCompared {
    pub(super) fn is_slow(self) -> bool {
        matches!((self.own, self.peers), (Some(own), Some(peers)) if own > peers * PROBE_RATIO + PROBE_SLACK)
    }
}

impl Probes {
    pub(super) fn take(&mut self, server: ServerId, took: Duration) {
        let last = self.0.entry(server).or_default();
        if last.len() == PROBES_KEPT {
            last.pop_front();
        }
        last.push_back(took);
    }

    pub(super) fn retain(&mut self, is_known: impl Fn(ServerId) -> bool) {
        self.0.retain(|server, _| is_known(*server));
    }

    pub(super) fn compare(&self, server: ServerId, serving: &[ServerId]) -> ProbesCompared {
        let peers = serving.iter().filter(|peer| **peer != server);
        let medians = peers.filter_map(|peer| self.median(*peer));
        ProbesCompared { own: self.median(server), peers: upper_median(medians) }
    }

    #[cfg(test)]
    pub(super) fn servers(&self) -> usize {
        self.0.len()
    }

    fn median(&self, server: ServerId) -> Option<Duration> {
        let last = self.0.get(&server).filter(|last| last.len() >= PROBES_MIN)?;
        upper_median(last.iter().copied())
    }
}

/// The one in the middle; of two, the greater.
pub(super) fn upper_median<T: PartialOrd>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let middle = all.len() / 2;
    all.into_iter().nth(middle)
}
