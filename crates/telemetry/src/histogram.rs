//! Latency histograms that one core writes and the scrape merges.
//!
//! Prometheus wants cumulative buckets of seconds as floats; the data path wants integers and no division. A histogram
//! therefore counts microseconds into plain buckets, and the scrape sums shards, accumulates and converts.
//! A bucket's bound belongs to it (`le`: less or equal), as in Prometheus' data model.
//!
//! What is counted is finer than what is shown: a scrape merges neighbours into the buckets that were chosen, whose
//! bounds must therefore be bounds of what is counted. So the choice costs a request nothing.

use std::time::Duration;

use crate::cell::Counter;

/// Upper bounds of what is counted, in microseconds: 1, 1.5, 2, 2.5, 3, 4, 5 and 7.5 by powers of ten, from 0.5 ms to
/// 50 s, and 60 s, so that there are the round numbers that objectives are set in. What is slower than 60 s falls into
/// the last, unbounded bucket.
pub const LATENCY_BOUNDS_MICROS: [u32; 42] = [
    500, 750, 1_000, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000, 7_500, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000,
    50_000, 75_000, 100_000, 150_000, 200_000, 250_000, 300_000, 400_000, 500_000, 750_000, 1_000_000, 1_500_000,
    2_000_000, 2_500_000, 3_000_000, 4_000_000, 5_000_000, 7_500_000, 10_000_000, 15_000_000, 20_000_000, 25_000_000,
    30_000_000, 40_000_000, 50_000_000, 60_000_000,
];

/// Those that are shown when nobody chooses: 1-2.5-5 per decade, then 30 s and 60 s, where time limits end.
const SHOWN_MICROS: [u32; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

const BUCKETS: usize = LATENCY_BOUNDS_MICROS.len() + 1;

/// The buckets that a scrape shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyBuckets {
    /// Positions in [`LATENCY_BOUNDS_MICROS`], ascending.
    bounds: Vec<usize>,
}

/// A bound that is none of those that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bound:?} is not a bound that is counted, the nearest is {nearest:?}")]
pub struct UnknownBound {
    /// The bound.
    pub bound: Duration,
    /// The nearest one that is counted.
    pub nearest: Duration,
}

impl LatencyBuckets {
    /// Buckets with these upper bounds, in any order, and the unbounded one.
    ///
    /// # Errors
    /// [`UnknownBound`] for the first bound that is none of [`LATENCY_BOUNDS_MICROS`].
    pub fn new(bounds: impl IntoIterator<Item = Duration>) -> Result<Self, UnknownBound> {
        let mut bounds = bounds.into_iter().map(position).collect::<Result<Vec<_>, _>>()?;
        bounds.sort_unstable();
        bounds.dedup();
        Ok(Self { bounds })
    }
}

impl Default for LatencyBuckets {
    fn default() -> Self {
        let shown = SHOWN_MICROS.map(|micros| Duration::from_micros(micros.into()));
        Self::new(shown).expect("what is shown is among what is counted")
    }
}

fn position(bound: Duration) -> Result<usize, UnknownBound> {
    let known = LATENCY_BOUNDS_MICROS.map(|micros| Duration::from_micros(micros.into()));
    known.binary_search(&bound).map_err(|_| {
        let nearest = known.into_iter().min_by_key(|known| known.abs_diff(bound)).unwrap_or_default();
        UnknownBound { bound, nearest }
    })
}

/// Most bounds between a power of two and the next.
const BOUNDS_PER_OCTAVE: usize = 4;

/// How many bounds are below each power of two.
const BELOW_OCTAVE: [u8; 32] = {
    let mut below = [0; 32];
    let mut octave = 0;
    while octave < below.len() {
        let mut count = 0;
        while count < LATENCY_BOUNDS_MICROS.len() && LATENCY_BOUNDS_MICROS[count] < 1 << octave {
            count += 1;
        }
        below[octave] = count as u8;
        assert!(octave == 0 || below[octave] - below[octave - 1] <= BOUNDS_PER_OCTAVE as u8);
        octave += 1;
    }
    below
};

/// The bounds, and behind them some that nothing exceeds.
const PADDED_BOUNDS: [u32; LATENCY_BOUNDS_MICROS.len() + BOUNDS_PER_OCTAVE] = {
    let mut padded = [u32::MAX; LATENCY_BOUNDS_MICROS.len() + BOUNDS_PER_OCTAVE];
    let (known, _) = padded.split_at_mut(LATENCY_BOUNDS_MICROS.len());
    known.copy_from_slice(&LATENCY_BOUNDS_MICROS);
    padded
};

/// The bucket of a duration: how many bounds are below it. The power of two below it tells nearly all of them, and the
/// few that are left are compared without a branch to mispredict.
fn bucket_of(micros: u32) -> usize {
    let first = usize::from(BELOW_OCTAVE[(micros | 1).ilog2() as usize]);
    let near = &PADDED_BOUNDS[first..first + BOUNDS_PER_OCTAVE];
    first + near.iter().map(|&bound| usize::from(bound < micros)).sum::<usize>()
}

/// Counts of durations in buckets, with one writer.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_micros: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum_micros: Counter::default() }
    }
}

/// What one or several histograms held at a scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramTotals {
    buckets: [u64; BUCKETS],
    sum_micros: u64,
}

impl Default for HistogramTotals {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_micros: 0 }
    }
}

impl Histogram {
    /// Counts one duration, in microseconds. Only the owning core may call this.
    #[inline]
    pub fn record_micros(&self, micros: u64) {
        self.buckets[bucket_of(u32::try_from(micros).unwrap_or(u32::MAX))].increment();
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

    /// Each shown bucket's upper bound in seconds, the last one infinite, and its own count (not accumulated).
    pub fn buckets(&self, shown: &LatencyBuckets) -> Vec<(f64, u64)> {
        let mut counted = self.buckets.iter();
        let mut upto = 0;
        let mut rows = Vec::with_capacity(shown.bounds.len() + 1);
        for &at in &shown.bounds {
            let count = counted.by_ref().take(at + 1 - upto).sum();
            upto = at + 1;
            rows.push((f64::from(LATENCY_BOUNDS_MICROS[at]) / 1e6, count));
        }
        rows.push((f64::INFINITY, counted.sum()));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_between_its_bounds() {
        let check = |micros: u32| {
            let expected = LATENCY_BOUNDS_MICROS.iter().filter(|&&bound| bound < micros).count();
            assert_eq!(bucket_of(micros), expected, "{micros}");
        };
        (0..=100_000).for_each(check);
        for bound in LATENCY_BOUNDS_MICROS {
            (bound - 1..=bound + 1).for_each(check);
        }
        for octave in 0..32 {
            (0..3).for_each(|by| check((1_u32 << octave).wrapping_add(by).wrapping_sub(1)));
        }
        check(u32::MAX);
    }
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
            let shown = LatencyBuckets::default();
            let hit: Vec<f64> =
                totals(&[micros]).buckets(&shown).iter().filter(|(_, n)| *n > 0).map(|&(bound, _)| bound).collect();
            assert_eq!(hit, [le], "{micros} us");
        };
        check(0, 0.0005);
        check(500, 0.0005);
        check(501, 0.001);
        check(2_500, 0.0025);
        check(10_000_000, 10.0);
        check(10_000_001, 30.0);
        check(60_000_000, 60.0);
        check(60_000_001, f64::INFINITY);
        check(u64::from(u32::MAX) + 1, f64::INFINITY);
        check(u64::MAX, f64::INFINITY);
    }

    #[test]
    fn bounds_are_chosen_among_those_that_are_counted() {
        let millis = |bounds: &[u64]| LatencyBuckets::new(bounds.iter().map(|&ms| Duration::from_millis(ms)));
        assert_eq!(millis(&[300, 5, 300]).unwrap(), millis(&[5, 300]).unwrap());
        let error = millis(&[5, 310]).unwrap_err();
        assert_eq!((error.bound, error.nearest), (Duration::from_millis(310), Duration::from_millis(300)));
        assert_eq!(millis(&[90_000]).unwrap_err().nearest, Duration::from_secs(60));
        assert_eq!(millis(&[]).unwrap(), LatencyBuckets { bounds: vec![] });
    }

    proptest! {
        #[test]
        fn agrees_with_counting_by_hand(
            durations in prop::collection::vec(0u64..80_000_000, 0..200),
            chosen in prop::sample::subsequence(LATENCY_BOUNDS_MICROS.to_vec(), 0..42),
        ) {
            let shown = LatencyBuckets::new(chosen.iter().map(|&micros| Duration::from_micros(micros.into()))).unwrap();
            let totals = totals(&durations);
            prop_assert_eq!(totals.count(), durations.len() as u64);
            prop_assert!((totals.sum_seconds() - durations.iter().sum::<u64>() as f64 / 1e6).abs() < 1e-6);
            let mut cumulative = 0;
            let rows = totals.buckets(&shown);
            prop_assert_eq!(rows.len(), chosen.len() + 1);
            for (le, n) in rows {
                cumulative += n;
                let expected = durations.iter().filter(|&&micros| micros as f64 / 1e6 <= le).count() as u64;
                prop_assert_eq!(cumulative, expected, "le {}", le);
            }
        }
    }
}
