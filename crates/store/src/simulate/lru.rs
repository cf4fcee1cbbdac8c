//! Naive models that policies are compared with: least recently used, and the ordered set that these models share.

use std::collections::{BTreeMap, HashMap};

use super::Model;

/// Keys in the order of their last use, as slow and as plain as can be.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    stamps: HashMap<u64, u64>,
    keys: BTreeMap<u64, u64>,
    clock: u64,
}

impl Ordered {
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.stamps.contains_key(&key)
    }

    /// Adds a key as the latest, or makes it so.
    pub(super) fn touch(&mut self, key: u64) {
        self.remove(key);
        self.clock += 1;
        self.stamps.insert(key, self.clock);
        self.keys.insert(self.clock, key);
    }

    pub(super) fn remove(&mut self, key: u64) -> bool {
        let stamp = self.stamps.remove(&key);
        stamp.is_some_and(|stamp| self.keys.remove(&stamp).is_some())
    }

    /// Takes the key that was not used for the longest time.
    pub(super) fn pop_oldest(&mut self) -> Option<u64> {
        let (_, key) = self.keys.pop_first()?;
        self.stamps.remove(&key);
        Some(key)
    }
}

/// Least recently used.
#[derive(Debug)]
pub(super) struct Lru {
    capacity: usize,
    keys: Ordered,
}

impl Lru {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, keys: Ordered::default() }
    }
}

impl Model for Lru {
    fn request(&mut self, key: u64) -> bool {
        let hit = self.keys.contains(key);
        if !hit && self.keys.len() >= self.capacity {
            self.keys.pop_oldest();
        }
        self.keys.touch(key);
        hit
    }
}
