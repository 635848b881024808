//! What the plot shows, in bounded memory however long it runs: when the buckets are full, two become one.

use super::formula::{FORMULAS, Formula, FormulaAnswer};
use super::ledger::{Mark, Proof, Settled};

/// Most buckets: what a plot's width shows.
pub(super) const BUCKETS_MAX: usize = 480;

/// Some samples in a row as one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bucket {
    /// Seconds since the beginning, of its first sample.
    pub(super) at: f64,
    /// The largest lower bound, in seconds.
    pub(super) lo: f64,
    /// The largest upper bound; `None` where one was unknown.
    pub(super) hi: Option<f64>,
    /// The largest number that each formula gave.
    pub(super) values: [Option<f64>; FORMULAS],
    /// The worst mark of each.
    pub(super) marks: [Mark; FORMULAS],
    /// Whether it was DOWN or FENCED.
    pub(super) is_unfit: bool,
}

/// The buckets of one standby.
#[derive(Debug)]
pub(super) struct Series {
    buckets: Vec<Bucket>,
    /// Samples in a full bucket.
    width: u32,
    /// Samples in the last one.
    filled: u32,
}

impl Series {
    pub(super) fn new() -> Self {
        Series { buckets: Vec::with_capacity(BUCKETS_MAX), width: 1, filled: 0 }
    }

    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Adds a sample of `at` seconds since the beginning.
    pub(super) fn push(&mut self, at: f64, settled: &Settled) {
        let bucket = of_sample(at, settled);
        match self.buckets.last_mut().filter(|_| self.filled < self.width) {
            Some(last) => *last = merged(*last, bucket),
            None => {
                if self.buckets.len() >= BUCKETS_MAX {
                    self.halve();
                    return self.push(at, settled);
                }
                self.buckets.push(bucket);
                self.filled = 0;
            }
        }
        self.filled += 1;
    }

    fn halve(&mut self) {
        self.buckets =
            self.buckets.chunks(2).filter_map(|pair| pair.iter().copied().reduce(merged)).collect();
        self.buckets.reserve_exact(BUCKETS_MAX - self.buckets.len());
        self.width = self.width.saturating_mul(2);
        self.filled = self.width;
    }
}

fn of_sample(at: f64, settled: &Settled) -> Bucket {
    let sample = &settled.sample;
    let before = sample.before;
    let since = sample.received.saturating_duration_since(before.at);
    let value = |answer: FormulaAnswer| match answer {
        FormulaAnswer::Seconds(seconds) => Some(seconds.max(0.0)),
        FormulaAnswer::Bytes(bytes) => Some(bytes as f64),
        FormulaAnswer::Nothing | FormulaAnswer::InSync | FormulaAnswer::NotInSync => None,
    };
    let is_unfit = settled.proof == Proof::Unfit;
    Bucket {
        at,
        lo: if is_unfit { 0.0 } else { before.lo.as_secs_f64() },
        hi: before.hi.filter(|_| !is_unfit).map(|hi| (hi + since).as_secs_f64()),
        values: sample.answers.map(value),
        marks: settled.marks,
        is_unfit,
    }
}

fn merged(left: Bucket, right: Bucket) -> Bucket {
    let largest = |left: Option<f64>, right: Option<f64>| match (left, right) {
        (Some(left), Some(right)) => Some(left.max(right)),
        (one, other) => one.or(other),
    };
    let mut bucket = left;
    bucket.lo = left.lo.max(right.lo);
    bucket.hi = left.hi.zip(right.hi).map(|(left, right)| left.max(right));
    for at in 0..Formula::ALL.len() {
        bucket.values[at] = largest(left.values[at], right.values[at]);
        bucket.marks[at] = left.marks[at].max(right.marks[at]);
    }
    bucket.is_unfit |= right.is_unfit;
    bucket
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::commands::observe::ledger::{FormulaSample, MomentVerdict, ObservedFitness};

    fn settled(lo: u64, mark: Mark) -> Settled {
        let now = Instant::now();
        let before = MomentVerdict {
            at: now,
            asked_at: None,
            fitness: ObservedFitness::ByLag,
            lo: Duration::from_secs(lo),
            hi: Some(Duration::from_secs(lo + 1)),
        };
        let sample = FormulaSample { sent: now, received: now, before, answers: Default::default() };
        Settled { sample, proof: Proof::Fresh, marks: [mark; FORMULAS] }
    }

    #[test]
    fn buckets_are_bounded_and_nothing_is_lost_from_sight() {
        let mut series = Series::new();
        let count = BUCKETS_MAX as u32 * 37;
        for at in 0..count {
            let is_wrong = at == 11;
            series.push(
                f64::from(at),
                &settled(
                    if is_wrong { 50 } else { 0 },
                    if is_wrong { Mark::WronglyFresh } else { Mark::Right },
                ),
            );
            assert!(series.buckets().len() <= BUCKETS_MAX, "{at}");
        }
        let first = series.buckets()[0];
        assert_eq!(
            (first.at, first.lo, first.hi, first.marks[0]),
            (0.0, 50.0, Some(51.0), Mark::WronglyFresh)
        );
        assert!(series.buckets().is_sorted_by(|left, right| left.at < right.at));
        assert!(series.buckets().len() > BUCKETS_MAX / 2);
        let width = f64::from(series.width);
        assert!(series.buckets().windows(2).all(|pair| pair[1].at - pair[0].at == width));
    }

    #[test]
    fn at_the_limit_each_sample_has_its_own_bucket() {
        let mut series = Series::new();
        for at in 0..BUCKETS_MAX {
            series.push(at as f64, &settled(0, Mark::Right));
        }
        assert_eq!((series.buckets().len(), series.width), (BUCKETS_MAX, 1));
        series.push(BUCKETS_MAX as f64, &settled(0, Mark::Right));
        assert_eq!((series.buckets().len(), series.width), (BUCKETS_MAX / 2 + 1, 2));
    }
}
