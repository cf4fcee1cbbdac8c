//! Latency histograms that one core writes and the scrape merges.
//!
//! Prometheus wants cumulative buckets of seconds as floats; the data path wants integers and no division. A histogram
//! therefore counts microseconds into plain buckets, and the scrape sums shards, accumulates and converts.
//! A bucket's bound belongs to it (`le`: less or equal), as in Prometheus' data model.

use crate::cell::Counter;

/// Upper bounds of the buckets in microseconds: 0.5 ms to 10 s, about 1-2.5-5 per decade, the range in which an operator
/// of an HTTP service sets objectives. What is slower than 10 s falls into the last, unbounded bucket.
pub const LATENCY_BOUNDS_MICROS: [u32; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

const BUCKETS: usize = LATENCY_BOUNDS_MICROS.len() + 1;

/// Counts of durations in buckets, with one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_micros: Counter,
}

/// What one or several histograms held at a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramTotals {
    buckets: [u64; BUCKETS],
    sum_micros: u64,
}

impl Histogram {
    /// Counts one duration, in microseconds. Only the owning core may call this.
    #[inline]
    pub fn record_micros(&self, micros: u64) {
        // Counting the bounds below is one vector comparison and has no branch to mispredict.
        let capped = u32::try_from(micros).unwrap_or(u32::MAX);
        let bucket = LATENCY_BOUNDS_MICROS.iter().map(|&bound| usize::from(bound < capped)).sum::<usize>();
        self.buckets[bucket].increment();
        self.sum_micros.add(micros);
    }

    /// Adds what this histogram holds to `totals`.
    pub fn add_to(&self, totals: &mut HistogramTotals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.value();
        }
        totals.sum_micros = totals.sum_micros.wrapping_add(self.sum_micros.value());
    }
}

impl HistogramTotals {
    /// How many durations were counted. It is the sum of the buckets, so the two never disagree in one scrape.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all durations, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// Each bucket's upper bound in seconds, the last one infinite, and its own count (not accumulated).
    pub fn buckets(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|at| {
            let bound = LATENCY_BOUNDS_MICROS.get(at).map_or(f64::INFINITY, |&micros| f64::from(micros) / 1e6);
            (bound, self.buckets[at])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn totals(durations: &[u64]) -> HistogramTotals {
        let histogram = Histogram::default();
        durations.iter().for_each(|&micros| histogram.record_micros(micros));
        let mut totals = HistogramTotals::default();
        histogram.add_to(&mut totals);
        totals
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let check = |micros: u64, le: f64| {
            let hit: Vec<f64> =
                totals(&[micros]).buckets().iter().filter(|(_, n)| *n > 0).map(|&(bound, _)| bound).collect();
            assert_eq!(hit, [le], "{micros} us");
        };
        check(0, 0.0005);
        check(500, 0.0005);
        check(501, 0.001);
        check(2_500, 0.0025);
        check(10_000_000, 10.0);
        check(10_000_001, f64::INFINITY);
        check(u64::from(u32::MAX) + 1, f64::INFINITY);
        check(u64::MAX, f64::INFINITY);
    }

    proptest! {
        #[test]
        fn agrees_with_counting_by_hand(durations in prop::collection::vec(0u64..20_000_000, 0..200)) {
            let totals = totals(&durations);
            prop_assert_eq!(totals.count(), durations.len() as u64);
            prop_assert!((totals.sum_seconds() - durations.iter().sum::<u64>() as f64 / 1e6).abs() < 1e-6);
            let mut cumulative = 0;
            for (le, n) in totals.buckets() {
                cumulative += n;
                let expected = durations.iter().filter(|&&micros| micros as f64 / 1e6 <= le).count() as u64;
                prop_assert_eq!(cumulative, expected, "le {}", le);
            }
        }
    }
}
