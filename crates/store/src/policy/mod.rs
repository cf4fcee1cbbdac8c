//! Which entries stay: a window and a main part with admission by frequency (`segmented`, `sketch`), whose style is found out
//! while it runs (`tuner`).
//!
//! The policy knows hashes and weights alone; whoever owns the values is told which slot has to go. It is plain data without
//! locks or clocks, so that the same code is in the store's shards, in `simulate`, and in the tests.

pub(crate) mod hash;
mod list;
mod segmented;
mod sketch;
mod tuner;

use segmented::Segmented;
use sketch::Sketch;
use tuner::Tuner;

/// A cache with less room than this part of its capacity is full, or about to be.
const ROOM_SHARE: u64 = 8;

/// Entries by slots, within a bound on the sum of their weights.
#[derive(Debug)]
pub(crate) struct Policy {
    entries: Segmented,
    sketch: Sketch,
    tuner: Tuner,
}

impl Policy {
    pub(crate) fn new(capacity: u64) -> Self {
        let tuner = Tuner::new(capacity);
        Self { entries: Segmented::new(capacity, tuner.style()), sketch: Sketch::new(), tuner }
    }

    /// The sum of the weights.
    pub(crate) fn weight(&self) -> u64 {
        self.entries.lists().weight_of_all()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.entries.capacity()
    }

    /// The part of the capacity that is for what came lately, as found out so far.
    pub(crate) fn window_share(&self) -> f64 {
        self.entries.style().window_share
    }

    /// Changes the bound. [`Policy::evict`] has to be called until there is nothing to evict.
    pub(crate) fn resize(&mut self, capacity: u64) {
        self.entries.resize(capacity);
        self.tuner.resize(capacity);
    }

    /// Notes a use of an entry.
    pub(crate) fn hit(&mut self, slot: u32) {
        let lists = self.entries.lists();
        let (hash, weight) = (lists.hash(slot), lists.node_weight(slot));
        self.entries.hit(slot);
        self.note(hash, weight);
    }

    /// Adds an entry. [`Policy::evict`] has to be called until there is nothing to evict.
    pub(crate) fn insert(&mut self, hash: u64, weight: u32) -> u32 {
        let slot = self.entries.insert(hash, weight);
        self.sketch.make_room(self.entries.lists().count());
        self.note(hash, weight);
        slot
    }

    /// Takes out an entry that has to go. `None` when all that is left has its place.
    pub(crate) fn evict(&mut self) -> Option<u32> {
        self.entries.evict(&self.sketch)
    }

    /// The hash of an entry, also of the one that was taken out last.
    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.entries.lists().hash(slot)
    }

    /// Forgets an entry.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.entries.remove(slot);
    }

    fn note(&mut self, hash: u64, weight: u32) {
        self.sketch.add(hash);
        // As long as there is room for everything, no style is better than another.
        let is_full = self.weight() >= self.capacity() - self.capacity() / ROOM_SHARE;
        if is_full && self.tuner.samples(hash) && self.tuner.request(hash, weight, &self.sketch) {
            self.entries.set_style(self.tuner.style());
        }
    }
}
