//! Cells that one core writes and the scrape reads.
//!
//! The data path counts several things per request, so a count must cost about as much as adding to a plain integer. An
//! atomic read-modify-write does not: it locks the cache line. Every cell therefore has **one writer**, the core that owns
//! its shard, and adding is a relaxed load and a relaxed store. Two writers would not be unsound, but counts would be lost.
//! Readers see values that may be a moment old and never torn.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A count that only grows, with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning core may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one. Only the owning core may call this.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// The count so far. Any thread may read it.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level that rises and falls, with one writer. A shard's level may be negative when what rose on one core fell on
/// another; only the sum over all shards has a meaning then.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Raises the level by `n`, or lowers it when `n` is negative. Only the owning core may call this.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets the level. Only the owning core may call this.
    #[inline]
    pub fn set(&self, level: i64) {
        self.0.store(level, Relaxed);
    }

    /// The level now. Any thread may read it.
    #[inline]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One `T` per core, each on cache lines of its own, so that cores that count do not slow each other down.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Aligned<T>]>);

/// 128 bytes, because x86 prefetches cache lines of 64 bytes in pairs and some ARM cores have lines of 128.
#[derive(Debug)]
#[repr(align(128))]
struct Aligned<T>(T);

impl<T> Sharded<T> {
    /// Makes one shard per core; at least one, so that [`Self::core`] always has an answer for core 0.
    pub fn new(cores: usize, mut make: impl FnMut() -> T) -> Self {
        Self((0..cores.max(1)).map(|_| Aligned(make())).collect())
    }

    /// The shard of a core.
    ///
    /// # Panics
    /// When `core` is not below the number of cores that [`Self::new`] was given.
    #[inline]
    pub fn core(&self, core: usize) -> &T {
        &self.0[core].0
    }

    /// Every shard, in the order of cores.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }

    /// A sum over all shards.
    pub fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(of).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_no_cache_line() {
        let cells = Sharded::new(3, Counter::default);
        let places: Vec<usize> = cells.iter().map(|cell| std::ptr::from_ref(cell).addr()).collect();
        assert!(places.iter().all(|place| place % 128 == 0), "{places:?}");
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 128), "{places:?}");
    }

    #[test]
    fn one_writer_per_shard_loses_nothing() {
        let cells = Sharded::new(4, Counter::default);
        std::thread::scope(|scope| {
            for core in 0..4 {
                let cell = cells.core(core);
                scope.spawn(move || (0..50_000).for_each(|_| cell.increment()));
            }
        });
        assert_eq!(cells.sum(Counter::value), 200_000);
    }

    #[test]
    fn a_level_may_fall_on_another_shard_than_it_rose() {
        let levels = Sharded::new(2, Gauge::default);
        levels.core(0).add(3);
        levels.core(1).add(-2);
        assert_eq!(levels.iter().map(Gauge::value).sum::<i64>(), 1);
    }
}
