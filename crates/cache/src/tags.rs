//! Tags are generation counters and not sets of keys: to invalidate one is to write one number, however many entries have it.
//!
//! An entry has the version at which its load began, a tag that of its last invalidation; an entry is good while none of its tags is
//! later than it. Entries in memory point to the counters of their tags, so that a hit compares numbers and looks nothing up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sync::Mutex;

/// Tags that are remembered. Beyond, those without entries are forgotten; together they leave a number behind.
const TAGS_MAX: usize = 100_000;

/// A reference, a counter with its counts, and a place in a table that is half empty.
const TAG_BYTES: u64 = 100;

/// The version of a tag's last invalidation, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    latest: AtomicU64,
    is_known: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// The version at which all entries were invalidated: a tag that each of them has.
    everything: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    generations: HashMap<Box<str>, Arc<Generation>>,
    /// No forgotten tag was invalidated later.
    floor: u64,
    /// Tags at which forgetting is tried again.
    full: usize,
}

/// What tags take in memory: their text, their counters and their places in the table. Each entry counts for all of them, as who else has them
/// may go before it.
pub(crate) fn bytes_of<'t>(tags: impl IntoIterator<Item = &'t str>) -> u64 {
    tags.into_iter().map(|tag| TAG_BYTES + tag.len() as u64).sum()
}

/// The tags of an entry. Most have none, and are copied without a count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tagged(Option<Arc<[Arc<Generation>]>>);

impl Tagged {
    pub(crate) fn generations(&self) -> &[Arc<Generation>] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Generation {
    fn raise(&self, version: u64) {
        self.latest.fetch_max(version, Ordering::AcqRel);
    }
}

impl Tags {
    /// The counters of some tags, for an entry to keep.
    pub(crate) fn of<'t>(&self, tags: impl IntoIterator<Item = &'t str>) -> Tagged {
        let mut tags = tags.into_iter().peekable();
        if tags.peek().is_none() {
            return Tagged::default();
        }
        let mut table = self.table.lock();
        Tagged(Some(tags.map(|tag| table.generation(tag)).collect()))
    }

    /// Notes an invalidation.
    pub(crate) fn raise(&self, tag: &str, version: u64) {
        self.table.lock().generation(tag).raise(version);
    }

    pub(crate) fn raise_all(&self, version: u64) {
        self.everything.fetch_max(version, Ordering::AcqRel);
    }

    /// Whether an entry of this version is good.
    #[inline]
    pub(crate) fn admit(&self, version: u64, tags: &Tagged) -> bool {
        self.everything.load(Ordering::Acquire) <= version
            && tags.generations().iter().all(|generation| generation.latest.load(Ordering::Acquire) <= version)
    }

    /// Notes what Redis has of a tag. One that it does not have may have been invalidated at any time.
    pub(crate) fn learn(&self, generation: &Generation, found: Option<u64>) {
        generation.raise(found.unwrap_or(u64::MAX));
        generation.is_known.store(found.is_some(), Ordering::Release);
        if found.is_none() {
            // Nobody may keep the verdict: the tag comes into being with the next entry.
            self.table.lock().generations.retain(|_, kept| !std::ptr::eq(&raw const **kept, generation));
        }
    }

    /// Forgets all that Redis said before: it may have changed unheard.
    pub(crate) fn forget(&self) {
        let mut table = self.table.lock();
        table.generations = HashMap::new();
        table.floor = 0;
    }
}

/// The tags that Redis has to be asked for, by their places.
pub(crate) fn unknown(tags: &Tagged) -> Vec<usize> {
    let generations = tags.generations();
    let is_unknown = |generation: &Generation| !generation.is_known.load(Ordering::Acquire);
    (0..generations.len()).filter(|at| is_unknown(&generations[*at])).collect()
}

impl Table {
    fn generation(&mut self, tag: &str) -> Arc<Generation> {
        if let Some(found) = self.generations.get(tag) {
            return Arc::clone(found);
        }
        if self.generations.len() >= self.full.max(TAGS_MAX) {
            self.sweep();
        }
        let generation = Arc::new(Generation { latest: AtomicU64::new(self.floor), is_known: AtomicBool::new(false) });
        self.generations.insert(tag.into(), Arc::clone(&generation));
        generation
    }

    fn sweep(&mut self) {
        let mut floor = self.floor;
        self.generations.retain(|_, generation| {
            let is_used = Arc::strong_count(generation) > 1;
            if !is_used {
                floor = floor.max(generation.latest.load(Ordering::Acquire));
            }
            is_used
        });
        self.floor = floor;
        // Otherwise tags that are all in use would be looked through for each new one.
        self.full = self.generations.len() + TAGS_MAX / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_good_while_none_of_its_tags_is_later() {
        let tags = Tags::default();
        let entry = tags.of(["a", "b"]);
        assert!(tags.admit(5, &entry));
        tags.raise("b", 6);
        assert!(!tags.admit(5, &entry) && tags.admit(6, &entry));
        assert!(tags.admit(5, &tags.of(["a"])));
        tags.raise("b", 3);
        assert!(tags.admit(6, &entry));
        tags.raise_all(7);
        assert!(!tags.admit(6, &entry) && !tags.admit(6, &Tagged::default()) && tags.admit(7, &entry));
    }

    #[test]
    fn an_invalidation_before_the_entry_is_stored_counts() {
        let tags = Tags::default();
        tags.raise("a", 6);
        assert!(!tags.admit(5, &tags.of(["a"])));
    }

    #[test]
    fn what_redis_does_not_have_is_not_good_until_it_has_it() {
        let tags = Tags::default();
        let first = tags.of(["a", "b"]);
        assert_eq!(unknown(&first), [0, 1]);
        tags.learn(&first.generations()[0], Some(4));
        tags.learn(&first.generations()[1], None);
        assert!(!tags.admit(5, &first));
        let second = tags.of(["a", "b"]);
        assert_eq!(unknown(&second), [1]);
        tags.learn(&second.generations()[1], Some(5));
        assert!(tags.admit(5, &second));
    }

    #[test]
    fn forgotten_tags_leave_their_latest_number_behind() {
        let tags = Tags::default();
        let used = tags.of(["used"]);
        tags.raise("gone", 9);
        for number in 0..TAGS_MAX {
            tags.raise(&format!("tag {number}"), 1);
        }
        assert!(tags.table.lock().generations.len() < TAGS_MAX / 2);
        assert!(!tags.admit(8, &tags.of(["gone"])) && tags.admit(9, &tags.of(["gone"])));
        assert!(tags.admit(8, &used));
    }
}
