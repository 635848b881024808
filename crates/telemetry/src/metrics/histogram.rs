//! Log-linear histograms of durations: cheap to record, never off by more than one part in 32.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::counter::Counter;

/// Linear steps within each doubling of the time.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = 5;

/// The finest step is 2^5 = 32 ns: the doublings then start at 1.024 us, and no division is needed to find one.
const UNIT_BITS: u32 = 5;

/// Doublings from 1.024 us on; 32 of them reach 73 minutes.
const OCTAVES: usize = 32;

/// Buckets of a histogram: 32 below 1.024 us, then 32 for each doubling.
pub const BUCKETS: usize = STEPS + OCTAVES * STEPS;

/// The longest time told apart (about 73 minutes); longer ones land in the last bucket.
pub const MAX_RECORDED: Duration = Duration::from_nanos(upper_bound_nanos(BUCKETS - 1) - 1);

/// Durations counted by one thread, readable by others.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: Counter,
}

/// Histograms added together, for reading.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    buckets: Box<[u64]>,
    sum_nanos: u64,
}

impl Histogram {
    /// Nothing counted.
    #[must_use]
    pub const fn new() -> Self {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_nanos: Counter::new() }
    }

    /// Counts one duration. Only the owning thread may call this.
    pub fn record(&self, took: Duration) {
        let nanos =
            took.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(took.subsec_nanos()));
        let bucket = &self.buckets[bucket_of(nanos)];
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        self.sum_nanos.add(nanos);
    }

    /// Nothing counted again.
    pub(super) fn reset(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
        self.sum_nanos.reset();
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for HistogramSum {
    fn default() -> Self {
        HistogramSum { buckets: vec![0; BUCKETS].into(), sum_nanos: 0 }
    }
}

impl HistogramSum {
    /// Adds what `histogram` holds now.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum = sum.wrapping_add(bucket.load(Relaxed));
        }
        self.sum_nanos = self.sum_nanos.wrapping_add(histogram.sum_nanos.value());
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Their sum.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// How many were surely not above `bound`; up to one step (1/32) of those below it may be left out.
    #[must_use]
    pub fn count_up_to(&self, bound: Duration) -> u64 {
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let within = self.buckets.iter().enumerate().take_while(|(i, _)| upper_bound_nanos(*i) <= bound);
        within.fold(0, |sum, (_, n)| sum.wrapping_add(*n))
    }

    /// The duration that `share` (0 to 1) of the counted ones do not exceed, rounded up by at most one step;
    /// `None` when nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // A count past 2^52, where f64 would round, is not reached.
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0_u64;
        let last = self.buckets.iter().position(|n| {
            seen = seen.wrapping_add(*n);
            seen >= rank
        });
        last.map(|i| Duration::from_nanos(upper_bound_nanos(i) - 1))
    }
}

/// Which bucket counts `nanos`.
fn bucket_of(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    if units < STEPS as u64 {
        return units as usize;
    }
    let exponent = units.ilog2();
    let step = (units >> (exponent - STEP_BITS)) as usize - STEPS;
    let octave = (exponent - STEP_BITS) as usize;
    (STEPS + octave * STEPS + step).min(BUCKETS - 1)
}

/// The first duration, in nanoseconds, past bucket `index`.
const fn upper_bound_nanos(index: usize) -> u64 {
    let units = if index < STEPS {
        index as u64 + 1
    } else {
        let octave = (index / STEPS - 1) as u32;
        ((STEPS + index % STEPS + 1) as u64) << octave
    };
    units << UNIT_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bucket found the slow way: the first whose upper bound lies beyond.
    fn naive_bucket_of(nanos: u64) -> usize {
        (0..BUCKETS).find(|i| nanos < upper_bound_nanos(*i)).unwrap_or(BUCKETS - 1)
    }

    #[test]
    fn buckets_are_adjacent_and_none_is_wider_than_a_32nd() {
        for i in 1..BUCKETS {
            let (low, high) = (upper_bound_nanos(i - 1), upper_bound_nanos(i));
            assert!(low < high);
            assert_eq!(bucket_of(low), i, "the first of bucket {i}");
            assert_eq!(bucket_of(high - 1), i, "the last of bucket {i}");
            assert!((high - low) * 32 <= low.max(1024), "bucket {i}: {low}..{high}");
        }
    }

    #[test]
    fn an_hour_is_told_apart_and_more_is_counted_last() {
        assert!(MAX_RECORDED > Duration::from_secs(3600));
        assert!(bucket_of(3_600_000_000_000) < BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        let histogram = Histogram::new();
        histogram.record(Duration::MAX);
        let mut sum = HistogramSum::default();
        sum.add(&histogram);
        assert_eq!(sum.quantile(0.5), Some(MAX_RECORDED));
    }

    #[test]
    fn nothing_counted_has_no_quantile() {
        assert_eq!(HistogramSum::default().quantile(0.5), None);
    }

    /// Numbers of every magnitude, the same on every run.
    fn numbers() -> impl Iterator<Item = u64> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> (state % 64)
        })
    }

    #[test]
    fn bucket_is_the_one_a_linear_search_finds() {
        for nanos in (0..5_000).chain(numbers().take(5_000)) {
            assert_eq!(bucket_of(nanos), naive_bucket_of(nanos), "{nanos} ns");
        }
    }

    #[test]
    fn quantiles_and_counts_agree_with_sorting() {
        let mut numbers = numbers();
        for len in 1..120 {
            let mut nanos: Vec<u64> = numbers.by_ref().map(|n| n % 5_000_000_000).take(len).collect();
            let halves = [Histogram::new(), Histogram::new()];
            for (i, n) in nanos.iter().enumerate() {
                halves[i % 2].record(Duration::from_nanos(*n));
            }
            let mut sum = HistogramSum::default();
            halves.iter().for_each(|h| sum.add(h));
            nanos.sort_unstable();
            assert_eq!(sum.count(), len as u64);
            assert_eq!(sum.total(), Duration::from_nanos(nanos.iter().sum()));
            for share in [0.0, 0.01, 0.5, 0.95, 0.99, 1.0] {
                let rank = ((share * len as f64).ceil() as usize).clamp(1, len);
                let exact = nanos[rank - 1];
                let found = sum.quantile(share).expect("counted").as_nanos() as u64;
                assert!(found >= exact && found <= exact + (exact / 32).max(32), "{found} for {exact}");
            }
            let bound = 1_000_000_u64;
            let counted = sum.count_up_to(Duration::from_nanos(bound));
            let surely = nanos.iter().filter(|n| **n < bound - bound / 31).count() as u64;
            let possibly = nanos.iter().filter(|n| **n <= bound).count() as u64;
            assert!(surely <= counted && counted <= possibly, "{surely} <= {counted} <= {possibly}");
        }
    }
}
