//! The tier in memory: typed values, so that a hit is a reference and decodes nothing.
//!
//! The crate `store` keeps bytes, and its policy is not public, so what stays is decided by `quick_cache` (S3-FIFO with shards under short
//! locks). Only this module knows it.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::time::Instant;

use crate::tags::Generation;

/// What an entry takes beside its key and its value: two allocations with their counts, and its place in the tables.
const ENTRY_BYTES: u64 = 200;
/// What an entry is expected to take, for the first size of the tables.
const EXPECTED_BYTES: u64 = 1024;
/// Tables begin no larger.
const EXPECTED_ENTRIES_MAX: u64 = 1 << 20;

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
    pub(crate) era: u64,
    pub(crate) fresh_until: Instant,
    pub(crate) stale_until: Instant,
    pub(crate) took: Duration,
    pub(crate) tags: Box<[Arc<Generation>]>,
    /// Bytes of the value, or whatever the weigher says.
    pub(crate) value_bytes: u64,
}

type Kept<V> = Arc<Slot<V>>;

#[derive(Clone, Debug)]
struct Weigh {
    bytes: bool,
}

impl<V> Weighter<Box<[u8]>, Kept<V>> for Weigh {
    fn weight(&self, key: &Box<[u8]>, slot: &Kept<V>) -> u64 {
        match self.bytes {
            true => ENTRY_BYTES + key.len() as u64 + slot.value_bytes,
            false => 1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Memory<V>(Cache<Box<[u8]>, Kept<V>, Weigh>);

impl<V> Memory<V> {
    pub(crate) fn new(bound: Bound) -> Self {
        let (capacity, entries, bytes) = match bound {
            Bound::Bytes(bytes) => (bytes, bytes / EXPECTED_BYTES, true),
            Bound::Entries(entries) => (entries, entries, false),
        };
        let entries = entries.clamp(1, EXPECTED_ENTRIES_MAX) as usize;
        let options = OptionsBuilder::new().estimated_items_capacity(entries).weight_capacity(capacity).build();
        let options = options.expect("both capacities are given");
        Self(Cache::with_options(options, Weigh { bytes }, DefaultHashBuilder::default(), DefaultLifecycle::default()))
    }

    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<Kept<V>> {
        self.0.get(key)
    }

    pub(crate) fn insert(&self, key: &[u8], slot: Kept<V>) {
        self.0.insert(key.into(), slot);
    }

    pub(crate) fn remove(&self, key: &[u8]) {
        self.0.remove(key);
    }

    /// Removes what is older than a version.
    pub(crate) fn remove_older(&self, key: &[u8], version: u64) {
        self.0.remove_if(key, |slot| slot.version < version);
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }

    pub(crate) fn entries(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn weight(&self) -> u64 {
        self.0.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(version: u64, value_bytes: u64) -> Kept<u64> {
        let now = Instant::now();
        Arc::new(Slot {
            value: Some(Arc::new(version)),
            version,
            era: 0,
            fresh_until: now,
            stale_until: now,
            took: Duration::ZERO,
            tags: Box::default(),
            value_bytes,
        })
    }

    #[test]
    fn bounds_hold_by_bytes_and_by_entries() {
        let by_bytes = Memory::new(Bound::Bytes(1 << 20));
        let by_entries = Memory::new(Bound::Entries(100));
        for number in 0..10_000_u64 {
            by_bytes.insert(&number.to_le_bytes(), slot(number, number % 4096));
            by_entries.insert(&number.to_le_bytes(), slot(number, 1 << 30));
            assert!(by_bytes.weight() <= 1 << 20 && by_entries.entries() <= 100);
        }
        assert!(by_bytes.weight() > 1 << 19 && by_entries.entries() > 50);
    }

    #[test]
    fn only_what_is_older_is_removed() {
        let memory = Memory::new(Bound::Entries(100));
        memory.insert(b"a", slot(5, 0));
        memory.remove_older(b"a", 5);
        assert!(memory.find(b"a").is_some());
        memory.remove_older(b"a", 6);
        assert!(memory.find(b"a").is_none());
    }
}
