//! Calls of the last seconds, counted by whoever makes them and added up only when one of them went wrong.
//!
//! The window is a ring of buckets, and every core has a ring of its own, so that counting a call writes no line that
//! another core writes. A bucket knows which tick of which generation it is for; one of another is taken over by the
//! first call that needs it, and is not added up. So nothing has to be cleared when time passes or the breaker moves.

use super::super::sync::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of the window. The sum thus reaches back nine to ten tenths of it.
pub(super) const BUCKETS: usize = 10;

/// The counts of all cores.
#[derive(Debug)]
pub(super) struct Window {
    /// Time of a bucket.
    tick_millis: u64,
    shards: Box<[Shard]>,
}

/// A core's ring, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard([Bucket; BUCKETS]);

#[derive(Debug)]
struct Bucket {
    /// The generation above the tick plus one; 0 while it was never used.
    stamp: AtomicU64,
    /// Calls in the lowest bits, then failures, then slow ones.
    counts: AtomicU64,
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

const CALL_BITS: u32 = 22;
const BAD_BITS: u32 = 21;
const FAILURES_AT: u32 = CALL_BITS;
const SLOW_AT: u32 = CALL_BITS + BAD_BITS;

/// From this many calls on a bucket is halved, which keeps its rates: about two million in one bucket of one core. The
/// bound is the smaller fields', since all calls may fail.
const CALLS_MAX: u64 = (1 << BAD_BITS) - 2;

const TICK_BITS: u32 = 48;

impl Tally {
    fn unpack(counts: u64) -> Self {
        let bad = (1 << BAD_BITS) - 1;
        Self {
            calls: counts & ((1 << CALL_BITS) - 1),
            failures: counts >> FAILURES_AT & bad,
            slow: counts >> SLOW_AT & bad,
        }
    }

    fn pack(self) -> u64 {
        self.calls | self.failures << FAILURES_AT | self.slow << SLOW_AT
    }

    /// About the same rates among half the calls.
    fn halved(self) -> Self {
        Self { calls: self.calls / 2, failures: self.failures / 2, slow: self.slow / 2 }
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.slow += other.slow;
    }
}

impl Window {
    pub(super) fn new(window: Duration, shards: usize) -> Self {
        let bucket = || Bucket { stamp: AtomicU64::new(0), counts: AtomicU64::new(0) };
        let shard = || Shard(std::array::from_fn(|_| bucket()));
        let tick_millis = (window.as_millis() as u64 / BUCKETS as u64).max(1);
        Self { tick_millis, shards: (0..shards.max(1)).map(|_| shard()).collect() }
    }

    /// Counts a call that ended so many milliseconds after the start.
    pub(super) fn note(&self, shard: usize, generation: u16, millis: u64, (failed, slow): (bool, bool)) {
        let tick = millis / self.tick_millis;
        let bucket = &self.shards[shard % self.shards.len()].0[tick as usize % BUCKETS];
        let stamp = stamp(generation, tick);
        let found = bucket.stamp.load(Ordering::Relaxed);
        if found != stamp {
            if found > stamp && found >> TICK_BITS == u64::from(generation) {
                // Its time is already over: a clock that was read long ago.
                return;
            }
            // Emptied before it gets its new stamp: who reads the stamp finds nothing older behind it. Two that share a
            // shard and do this at once may lose a few calls.
            bucket.counts.store(0, Ordering::Relaxed);
            bucket.stamp.store(stamp, Ordering::Release);
        }
        let counts = bucket.counts.load(Ordering::Relaxed);
        let tally = Tally::unpack(counts);
        if tally.calls >= CALLS_MAX {
            bucket.counts.store(tally.halved().pack(), Ordering::Relaxed);
        }
        let one = Tally { calls: 1, failures: u64::from(failed), slow: u64::from(slow) };
        bucket.counts.fetch_add(one.pack(), Ordering::Relaxed);
    }

    /// All calls of a generation in the window that ends now.
    pub(super) fn sum(&self, generation: u16, millis: u64) -> Tally {
        let tick = millis / self.tick_millis;
        let oldest = stamp(generation, (tick + 1).saturating_sub(BUCKETS as u64));
        let latest = stamp(generation, tick);
        let mut sum = Tally::default();
        for bucket in self.shards.iter().flat_map(|shard| &shard.0) {
            // Pairs with the release above.
            if (oldest..=latest).contains(&bucket.stamp.load(Ordering::Acquire)) {
                sum.add(Tally::unpack(bucket.counts.load(Ordering::Relaxed)));
            }
        }
        sum
    }
}

fn stamp(generation: u16, tick: u64) -> u64 {
    u64::from(generation) << TICK_BITS | (tick + 1)
}

#[cfg(test)]
mod tests {
    use super::super::super::sync;
    use super::*;

    fn tally(calls: u64, failures: u64, slow: u64) -> Tally {
        Tally { calls, failures, slow }
    }

    #[test]
    fn calls_leave_the_window_bucket_by_bucket() {
        sync::run(|| {
            let window = Window::new(Duration::from_secs(10), 2);
            window.note(0, 1, 500, (true, false));
            window.note(1, 1, 500, (false, true));
            window.note(0, 1, 9_900, (true, true));
            assert_eq!(window.sum(1, 9_999), tally(3, 2, 2));
            assert_eq!(window.sum(1, 10_000), tally(1, 1, 1));
            assert_eq!(window.sum(1, 18_999), tally(1, 1, 1));
            assert_eq!(window.sum(1, 19_000), tally(0, 0, 0));
        });
    }

    #[test]
    fn another_generation_begins_with_nothing() {
        sync::run(|| {
            let window = Window::new(Duration::from_secs(10), 1);
            window.note(0, 1, 0, (true, true));
            assert_eq!(window.sum(2, 0), tally(0, 0, 0));
            window.note(0, 2, 0, (false, false));
            assert_eq!(window.sum(2, 0), tally(1, 0, 0));
            assert_eq!(window.sum(1, 0), tally(0, 0, 0));
        });
    }

    #[test]
    fn a_clock_that_reads_early_does_not_empty_what_is_newer() {
        sync::run(|| {
            let window = Window::new(Duration::from_secs(10), 1);
            window.note(0, 7, 25_000, (true, false));
            window.note(0, 7, 5_000, (true, false));
            assert_eq!(window.sum(7, 25_000), tally(1, 1, 0));
        });
    }

    #[test]
    fn a_bucket_is_halved_before_a_count_overflows() {
        let full = tally(CALLS_MAX, CALLS_MAX, CALLS_MAX);
        assert_eq!(Tally::unpack(full.pack()), full);
        // Several that share a shard may each add one before the first has halved it.
        let beyond = tally(CALLS_MAX + 1, CALLS_MAX + 1, CALLS_MAX + 1);
        assert_eq!(Tally::unpack(beyond.pack()), beyond);
        assert_eq!(tally(1_000, 501, 10).halved(), tally(500, 250, 5));
    }
}
