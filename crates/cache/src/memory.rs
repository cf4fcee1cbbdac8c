//! The tier in memory: typed values, so that a hit is a reference and decodes nothing.
//!
//! The crate `store` keeps bytes, and its policy is not public, so what stays is decided by `quick_cache` (S3-FIFO with shards under short
//! locks). Only this module knows it.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, Weighter};
use tokio::time::Instant;

use crate::name::{Name, Query};
use crate::tags::Tagged;
use crate::times::Times;

/// What an entry takes beside its key and its value: two allocations, and its place in the tables.
const ENTRY_BYTES: u64 = 200;
/// What an entry is expected to take, for the first size of the tables.
const EXPECTED_BYTES: u64 = 1024;
/// Tables begin no larger.
const EXPECTED_ENTRIES_MAX: u64 = 1 << 20;
/// A shard keeps nothing that is larger than itself, and keys are not spread evenly: none is smaller than this.
const SHARD_BYTES_MIN: u64 = 1 << 20;
/// Of the largest values that are kept, so many fit into a shard.
const SHARD_VALUES_MIN: u64 = 4;
/// The same for entries.
const SHARD_ENTRIES_MIN: u64 = 64;
/// Enough that cores rarely meet at one.
const SHARDS_PER_CORE: usize = 4;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Bytes(u64),
    Entries(u64),
}

/// An entry. Without a value it says that there is none.
#[derive(Debug)]
pub(crate) struct Slot<V> {
    pub(crate) value: Option<Arc<V>>,
    pub(crate) version: u64,
    /// Its load asked Redis for no version, so that it may be older than a change whose version is lower.
    pub(crate) is_unordered: bool,
    pub(crate) era: u64,
    pub(crate) fresh_until: Instant,
    pub(crate) stale_until: Instant,
    pub(crate) took: Duration,
    pub(crate) tags: Tagged,
    /// Bytes of the value, or whatever the weigher says, and of its tags.
    pub(crate) value_bytes: u64,
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), tags: self.tags.clone(), ..*self }
    }
}

/// An entry as it is in the tables themselves, small, as a hit copies it: one count of references is touched, that of the value, and no
/// memory but the table's is waited for.
#[derive(Debug)]
pub(crate) struct Kept<V> {
    pub(crate) value: Option<Arc<V>>,
    pub(crate) version: u64,
    /// By the times of the cache.
    pub(crate) fresh_until: u64,
    pub(crate) tags: Tagged,
    value_bytes: u64,
    /// The lower half. Nobody connects so often that it comes again.
    pub(crate) era: u32,
    pub(crate) took: Took,
}

/// How long a load took, in microseconds, doubled, and whether the entry is unordered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took(u32);

impl Took {
    fn new(time: Duration, is_unordered: bool) -> Self {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX).min(u32::MAX / 2);
        Self(micros << 1 | u32::from(is_unordered))
    }

    pub(crate) fn time(self) -> Duration {
        Duration::from_micros(u64::from(self.0 >> 1))
    }

    fn is_unordered(self) -> bool {
        self.0 & 1 == 1
    }
}

impl<V> Clone for Kept<V> {
    #[inline]
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), tags: self.tags.clone(), ..*self }
    }
}

impl<V> Kept<V> {
    fn new(slot: Slot<V>, times: &Times) -> Self {
        Self {
            value: slot.value,
            version: slot.version,
            fresh_until: times.time(slot.fresh_until),
            tags: slot.tags,
            value_bytes: slot.value_bytes,
            era: slot.era as u32,
            took: Took::new(slot.took, slot.is_unordered),
        }
    }
}

#[derive(Clone, Debug)]
struct Weigh {
    bytes: bool,
}

impl<V> Weighter<Name, Kept<V>> for Weigh {
    fn weight(&self, key: &Name, kept: &Kept<V>) -> u64 {
        match self.bytes {
            true => ENTRY_BYTES + key.bytes_len() + kept.value_bytes,
            false => 1,
        }
    }
}

/// Counts what had to go, or was too large to come. It is dropped outside the locks, as by the engine's own.
struct Evictions<V>(Arc<AtomicU64>, DefaultLifecycle<Name, Kept<V>>);

impl<V> Clone for Evictions<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), DefaultLifecycle::default())
    }
}

impl<V> Lifecycle<Name, Kept<V>> for Evictions<V> {
    type RequestState = <DefaultLifecycle<Name, Kept<V>> as Lifecycle<Name, Kept<V>>>::RequestState;

    fn on_evict(&self, state: &mut Self::RequestState, key: Name, kept: Kept<V>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.on_evict(state, key, kept);
    }
}

pub(crate) struct Memory<V> {
    entries: Cache<Name, Kept<V>, Weigh, DefaultHashBuilder, Evictions<V>>,
    evictions: Arc<AtomicU64>,
    times: Times,
    /// For how long a value is good for when a load fails.
    stale: Duration,
}

impl<V> Memory<V> {
    /// A tier whose values have at most so many bytes, and may be stale for so long.
    pub(crate) fn new(bound: Bound, value_bytes_max: u64, stale: Duration) -> Self {
        let (most, expected, shard_min, bytes) = match bound {
            Bound::Bytes(bytes) => {
                let shard_min = SHARD_BYTES_MIN.max(value_bytes_max.saturating_mul(SHARD_VALUES_MIN));
                (bytes, bytes / EXPECTED_BYTES, shard_min, true)
            }
            Bound::Entries(entries) => (entries, entries, SHARD_ENTRIES_MIN, false),
        };
        let shards = shards(most / shard_min);
        // The engine rounds up what a shard has, and takes fewer of them where it expects few entries in each.
        let expected = expected.clamp(shards * SHARD_ENTRIES_MIN, EXPECTED_ENTRIES_MAX.max(shards * SHARD_ENTRIES_MIN));
        let mut options = OptionsBuilder::new();
        options.shards(shards as usize).estimated_items_capacity(expected as usize);
        let options = options.weight_capacity(most / shards * shards).build().expect("both capacities are given");
        let evictions = Arc::new(AtomicU64::new(0));
        let lifecycle = Evictions(Arc::clone(&evictions), DefaultLifecycle::default());
        let entries = Cache::with_options(options, Weigh { bytes }, DefaultHashBuilder::default(), lifecycle);
        Self { entries, evictions, times: Times::new(), stale }
    }

    #[inline]
    pub(crate) fn find<Q: Hash + Equivalent<Name>>(&self, key: &Q) -> Option<Kept<V>> {
        self.entries.get(key)
    }

    /// What was found, for whoever needs all of it.
    pub(crate) fn slot(&self, kept: Kept<V>) -> Slot<V> {
        let fresh_until = self.times.moment(kept.fresh_until);
        let stale = if kept.value.is_some() { self.stale } else { Duration::ZERO };
        Slot {
            version: kept.version,
            is_unordered: kept.took.is_unordered(),
            era: kept.era.into(),
            fresh_until,
            stale_until: fresh_until + stale,
            took: kept.took.time(),
            value_bytes: kept.value_bytes,
            value: kept.value,
            tags: kept.tags,
        }
    }

    pub(crate) fn times(&self) -> &Times {
        &self.times
    }

    pub(crate) fn insert(&self, key: &[u8], slot: Slot<V>) {
        self.entries.insert(Name::from(key), Kept::new(slot, &self.times));
    }

    pub(crate) fn remove(&self, key: &[u8]) {
        self.entries.remove(&Query::from(key));
    }

    /// Removes what is older than a version, or may be.
    pub(crate) fn remove_older(&self, key: &[u8], version: u64) {
        self.entries.remove_if(&Query::from(key), |kept| kept.version < version || kept.took.is_unordered());
    }

    pub(crate) fn clear(&self) {
        self.entries.clear();
    }

    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn weight(&self) -> u64 {
        self.entries.weight()
    }

    /// Entries that made room for others.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

/// A power of two, so many at most, and no more than cores can use.
fn shards(most: u64) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let useful = (cores * SHARDS_PER_CORE).next_power_of_two() as u64;
    1 << most.clamp(1, useful).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(version: u64, value_bytes: u64) -> Slot<u64> {
        let now = Instant::now();
        Slot {
            value: Some(Arc::new(version)),
            version,
            is_unordered: false,
            era: 0,
            fresh_until: now,
            stale_until: now,
            took: Duration::ZERO,
            tags: Tagged::default(),
            value_bytes,
        }
    }

    #[test]
    fn bounds_hold_by_bytes_and_by_entries() {
        let by_bytes = Memory::new(Bound::Bytes(1 << 20), 4096, Duration::ZERO);
        let by_entries = Memory::new(Bound::Entries(101), 4096, Duration::ZERO);
        for number in 0..10_000_u64 {
            by_bytes.insert(&number.to_le_bytes(), slot(number, number % 4096));
            by_entries.insert(&number.to_le_bytes(), slot(number, 1 << 30));
            assert!(by_bytes.weight() <= 1 << 20 && by_entries.count() <= 101);
        }
        assert!(by_bytes.weight() > 1 << 19 && by_entries.count() > 50);
        assert_eq!(by_entries.evictions(), 10_000 - by_entries.count());
    }

    #[test]
    fn small_bounds_keep_what_they_say() {
        for bound in 1..=64 {
            let memory = Memory::new(Bound::Entries(bound), 4096, Duration::ZERO);
            for number in 0..bound {
                memory.insert(&number.to_le_bytes(), slot(number, 1));
            }
            assert_eq!(memory.count(), bound);
            memory.insert(b"another", slot(7, 1));
            assert_eq!(memory.count(), bound);
            assert!(memory.find(&Query::from(&b"another"[..])).is_some(), "{bound}");
        }
        for bytes in [64 << 10, 1 << 20, 64 << 20] {
            let memory = Memory::new(Bound::Bytes(bytes), 48 << 10, Duration::ZERO);
            memory.insert(b"large", slot(7, 48 << 10));
            assert!(memory.find(&Query::from(&b"large"[..])).is_some(), "{bytes}");
        }
    }

    #[test]
    fn the_largest_value_is_kept() {
        let memory = Memory::new(Bound::Bytes(4 << 20), 1 << 20, Duration::ZERO);
        for number in 0..3_u64 {
            memory.insert(&number.to_le_bytes(), slot(number, 1 << 20));
        }
        assert!((0..3_u64).all(|number| memory.find(&Query::from(&number.to_le_bytes()[..])).is_some()));
    }

    #[test]
    fn entries_are_small_and_come_out_as_they_went_in() {
        assert_eq!((size_of::<Kept<u64>>(), size_of::<Name>()), (56, 24));
        let memory = Memory::new(Bound::Entries(100), 4096, Duration::from_secs(5));
        let fresh_until = Instant::now() + Duration::from_secs(60);
        for (length, is_unordered) in [(0, false), (22, true), (23, false), (300, true)] {
            let key = vec![b'k'; length];
            let took = Duration::from_micros(1_234_567);
            let stale_until = fresh_until + Duration::from_secs(5);
            memory.insert(&key, Slot { fresh_until, stale_until, took, is_unordered, era: 7, ..slot(9, 1) });
            let found = memory.slot(memory.find(&Query::from(&key[..])).unwrap());
            assert_eq!((found.version, found.is_unordered, found.era, found.took), (9, is_unordered, 7, took));
            assert_eq!((found.fresh_until, found.stale_until), (fresh_until, stale_until));
            assert!(memory.find(&Query::from(&[&key[..], b"0"].concat()[..])).is_none());
        }
        memory.insert(b"long", Slot { took: Duration::from_secs(1 << 20), ..slot(1, 1) });
        assert!(memory.find(&Query::from(&b"long"[..])).unwrap().took.time() > Duration::from_secs(2_000));
    }

    #[test]
    fn only_what_is_older_is_removed() {
        let memory = Memory::new(Bound::Entries(100), 4096, Duration::ZERO);
        memory.insert(b"a", slot(5, 0));
        memory.remove_older(b"a", 5);
        assert!(memory.find(&Query::from(&b"a"[..])).is_some());
        memory.remove_older(b"a", 6);
        assert!(memory.find(&Query::from(&b"a"[..])).is_none());
    }
}
