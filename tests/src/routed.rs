//! Where the requests of a listener went that chooses a server for each of them.

use std::collections::BTreeMap;

use crate::{Endpoint, http_get};

impl Endpoint {
    /// How many requests went where, by reason.
    ///
    /// # Panics
    /// When the metrics cannot be read.
    #[must_use]
    pub fn routed(&self) -> BTreeMap<String, u64> {
        let page = http_get(self.http(), "/metrics").expect("it answers").body;
        let counts =
            page.lines().filter_map(|line| line.strip_prefix("trunkline_requests_routed_total{reason=\""));
        counts
            .map(|line| {
                let (reason, count) = line.split_once("\"} ").expect("it has a value");
                (reason.to_owned(), count.parse().expect("it is a number"))
            })
            .collect()
    }

    /// Why the requests of `work` went where they did, each reason once.
    #[must_use]
    pub fn reasons_of(&self, work: impl FnOnce()) -> String {
        let before = self.routed();
        work();
        let after = self.routed();
        let grown = |reason: &&String| after[*reason] > before.get(*reason).copied().unwrap_or_default();
        after.keys().filter(grown).cloned().collect::<Vec<_>>().join(" ")
    }
}
