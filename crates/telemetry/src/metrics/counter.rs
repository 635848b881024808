//! Numbers with one writer and any number of readers.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::label::Label;

/// A number that only grows. One thread writes it, any may read it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Adds `n`. Only the owning thread may call this: two writers would lose counts.
    pub fn add(&self, n: u64) {
        // A load and a store, not fetch_add: the line is ours, so no locked instruction is needed.
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one, as [`Counter::add`].
    pub fn one(&self) {
        self.add(1);
    }

    /// Zero again.
    pub(super) fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down; it may leave on another thread than it came, so one thread's share can be
/// negative and only the sum means something. Each share has one writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Gauge(AtomicU64::new(0))
    }

    /// One more. Only the owning thread may call this.
    pub fn up(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// One less. Only the owning thread may call this.
    pub fn down(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// Zero again.
    pub(super) fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// This thread's share, modulo 2^64: to be added to the others' shares.
    pub(super) fn raw(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One [`Counter`] per value of a closed set of labels.
#[derive(Debug)]
pub struct CounterSet<L, const N: usize> {
    counters: [Counter; N],
    label: PhantomData<L>,
}

impl<L: Label, const N: usize> CounterSet<L, N> {
    const COMPLETE: () = assert!(N == L::COUNT, "one counter per label");

    pub(super) const fn new() -> Self {
        const { Self::COMPLETE };
        CounterSet { counters: [const { Counter::new() }; N], label: PhantomData }
    }

    /// The counter of `label`.
    #[must_use]
    pub fn of(&self, label: L) -> &Counter {
        &self.counters[label.index()]
    }

    /// All at zero again.
    pub(super) fn reset(&self) {
        self.counters.iter().for_each(Counter::reset);
    }

    /// Adds one to the counter of `label`.
    pub fn one(&self, label: L) {
        self.of(label).one();
    }
}
