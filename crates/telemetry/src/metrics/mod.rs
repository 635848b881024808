//! What happened, counted where it happens and added up only when somebody looks.
//!
//! Each worker thread owns one [`ThreadMetrics`] and is its only writer, so that counting is a plain load
//! and store in its own cache lines; `/metrics` reads all of them and adds.

mod config;
mod counter;
mod histogram;
mod label;
mod learned;
mod pools;
mod sources;
mod statement;
mod thread;
mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use trunkline_topology::ServerId;

pub use config::ConfigReloads;
pub use counter::{Counter, CounterSet, Gauge};
pub use histogram::{BUCKETS, Histogram, HistogramSum, MAX_RECORDED};
pub use label::{
    ActivityLabel, CancelResult, FailoverCause, IneligibleState, Label, LoginResult, LossCause, MoveCause,
    MoveKind, MoveOutcome, MoveRefusal, PinnedBy, RefusalReason, RepeatCause, RouteReason, TerminationCause,
};
pub use learned::LearnedReader;
pub(crate) use pools::add as add_counts;
pub use pools::{CheckoutResult, PoolCloseReason, PoolReader, PoolRow, PoolsNow};
pub use sources::{SourceMember, SourceRow, SourceRows};
pub use statement::{StatementKind, StatementPhase};
pub use thread::{ServerMetrics, ThreadMetrics};
pub use tls::{CertificateRow, Certificates, HandshakeResult, TlsLeg};

/// All counters of the process.
#[derive(Debug)]
pub struct Metrics {
    threads: Box<[Arc<ThreadMetrics>]>,
    config: ConfigReloads,
    certificates: Certificates,
    /// Shares of their weight that slow servers keep.
    speeds: Mutex<BTreeMap<ServerId, f32>>,
    sources: SourceRows,
    pools: PoolReader,
    learned: LearnedReader,
}

impl Metrics {
    /// Counters for so many worker threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let threads = (0..threads).map(|_| Arc::new(ThreadMetrics::new())).collect();
        Metrics {
            threads,
            config: ConfigReloads::started(),
            certificates: Certificates::default(),
            speeds: Mutex::default(),
            sources: SourceRows::default(),
            pools: PoolReader::default(),
            learned: LearnedReader::default(),
        }
    }

    /// The counters of worker thread `index`; only that thread may write them.
    ///
    /// # Panics
    /// When `index` is not below the number of threads given to [`Metrics::new`].
    #[must_use]
    pub fn thread(&self, index: usize) -> Arc<ThreadMetrics> {
        Arc::clone(&self.threads[index])
    }

    /// How the configuration was reloaded.
    #[must_use]
    pub fn config(&self) -> &ConfigReloads {
        &self.config
    }

    /// The certificates in force.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Notes which share of its weight, 0 to 1, a server keeps for its speed.
    pub fn set_speed(&self, server: ServerId, speed: f32) {
        let mut speeds = self.speeds.lock().unwrap_or_else(PoisonError::into_inner);
        if speed < 1.0 {
            speeds.insert(server, speed);
        } else {
            speeds.remove(&server);
        }
    }

    /// That share; 1 where none was noted.
    #[must_use]
    pub fn speed(&self, server: ServerId) -> f32 {
        let speeds = self.speeds.lock().unwrap_or_else(PoisonError::into_inner);
        speeds.get(&server).copied().unwrap_or(1.0)
    }

    /// The sources of servers.
    #[must_use]
    pub fn sources(&self) -> &SourceRows {
        &self.sources
    }

    /// The pools of server connections.
    #[must_use]
    pub fn pools(&self) -> &PoolReader {
        &self.pools
    }

    /// The requests that are known to be the primary's.
    #[must_use]
    pub fn learned(&self) -> &LearnedReader {
        &self.learned
    }

    /// Counts from zero for the next server that has the slot of `server`, which is forgotten.
    pub fn forget(&self, server: ServerId) {
        self.counted(server).for_each(ServerMetrics::reset);
        self.set_speed(server, 1.0);
    }

    /// Sessions that have a server connection to `server` now.
    #[must_use]
    pub fn sessions_on(&self, server: ServerId) -> u64 {
        let net = self.sum_on(server, |counted| counted.sessions_active.raw());
        // A reader may see a session leave one thread before it sees it arrive at another.
        if net > i64::MAX.unsigned_abs() { 0 } else { net }
    }

    /// Sum over all threads of what `read` takes from their counters for `server`.
    pub fn sum_on(&self, server: ServerId, read: impl Fn(&ServerMetrics) -> u64) -> u64 {
        self.counted(server).fold(0_u64, |sum, counted| sum.wrapping_add(read(counted)))
    }

    /// Sum over all threads of what `read` takes from each.
    pub fn sum(&self, read: impl Fn(&ThreadMetrics) -> u64) -> u64 {
        self.all().fold(0_u64, |sum, thread| sum.wrapping_add(read(thread)))
    }

    /// The latencies of one phase on one server, over all threads.
    #[must_use]
    pub fn latency(&self, server: ServerId, phase: StatementPhase) -> HistogramSum {
        let mut sum = HistogramSum::default();
        self.counted(server).for_each(|counted| sum.add(counted.latency(phase)));
        sum
    }

    /// How long sessions waited for another server, over all threads.
    #[must_use]
    pub fn move_times(&self, kind: MoveKind, outcome: MoveOutcome) -> HistogramSum {
        let mut sum = HistogramSum::default();
        self.all().for_each(|thread| sum.add(thread.move_times(kind, outcome)));
        sum
    }

    /// How long requests waited for a server connection of their pool, over all threads.
    #[must_use]
    pub fn pool_waits(&self) -> HistogramSum {
        let mut sum = HistogramSum::default();
        self.all().for_each(|thread| sum.add(&thread.pool_waits));
        sum
    }

    fn counted(&self, server: ServerId) -> impl Iterator<Item = &ServerMetrics> {
        self.all().filter_map(move |thread| thread.counted(server))
    }

    fn all(&self) -> impl Iterator<Item = &ThreadMetrics> {
        self.threads.iter().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_threads_count_is_added_when_read() {
        let metrics = Metrics::new(2);
        metrics.thread(0).server(ServerId(1)).rows.add(5);
        metrics.thread(1).server(ServerId(1)).rows.add(7);
        assert_eq!(metrics.sum_on(ServerId(1), |counted| counted.rows.value()), 12);
        assert_eq!(metrics.sum_on(ServerId(0), |counted| counted.rows.value()), 0);
    }

    #[test]
    fn the_next_server_of_a_slot_begins_at_zero() {
        let metrics = Metrics::new(2);
        let (first, next) = (ServerId::new(7, 0), ServerId::new(7, 1));
        for thread in [0, 1] {
            let thread = metrics.thread(thread);
            let counted = thread.server(first);
            counted.rows.add(5);
            counted.sessions_active.up();
            counted.statements.one(StatementKind::Query);
            counted.record(StatementPhase::ServerTotal, Duration::from_millis(3));
        }
        assert_eq!(
            (metrics.sessions_on(first), metrics.latency(first, StatementPhase::ServerTotal).count()),
            (2, 2)
        );
        metrics.forget(first);
        assert_eq!(
            (metrics.sessions_on(next), metrics.latency(next, StatementPhase::ServerTotal).count()),
            (0, 0)
        );
        let all = |counted: &ServerMetrics| {
            counted.rows.value() + counted.statements.of(StatementKind::Query).value()
        };
        assert_eq!(metrics.sum_on(next, all), 0);
    }

    #[test]
    fn a_session_may_leave_on_another_thread_than_it_came() {
        let metrics = Metrics::new(2);
        metrics.thread(0).server(ServerId(0)).sessions_active.up();
        metrics.thread(0).server(ServerId(0)).sessions_active.up();
        metrics.thread(1).server(ServerId(0)).sessions_active.down();
        assert_eq!(metrics.sessions_on(ServerId(0)), 1);
        metrics.thread(1).server(ServerId(0)).sessions_active.down();
        metrics.thread(1).server(ServerId(0)).sessions_active.down();
        assert_eq!(metrics.sessions_on(ServerId(0)), 0, "never below zero for a reader");
        assert_eq!(metrics.sessions_on(ServerId(9)), 0, "a server nobody counts for");
    }

    #[test]
    fn threads_do_not_share_cache_lines() {
        assert!(std::mem::align_of::<ThreadMetrics>() >= 128);
        assert!(std::mem::align_of::<ServerMetrics>() >= 128);
    }
}
