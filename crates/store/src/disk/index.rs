//! Which keys are on disk, and where: what a lookup asks before anything is read.

use std::collections::HashMap;

use super::format::ChunkPlace;
use crate::policy::hash::ByHash;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Tables, each with a lock of its own. Many, so that taking out what was in a segment stops lookups for microseconds only.
const TABLES: usize = 256;
/// Bytes that a place takes with its key, in a table that has grown to half of its next size, and its two marks.
pub(crate) const PLACE_BYTES: u64 = 88;

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: u64,
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Of the whole record.
    pub(super) bytes: u32,
}

impl Place {
    /// What the record is called that it leads to.
    pub(super) fn record(&self) -> ChunkPlace {
        ChunkPlace { segment: self.segment, offset: self.offset }
    }
}

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The latest place, or `NOWHERE`.
    place: Place,
    /// The latest version that is to be written, or that was and is not stored. No older one may be found in its place.
    announced: u64,
    /// Versions that were announced and may yet be written. As long as there are some, it is known which of them are too old.
    waiting: u32,
}

const NOWHERE: Place = Place { version: 0, segment: 0, offset: 0, bytes: 0 };

type Table = HashMap<u64, Entry, ByHash>;

/// Places by the hash of the key.
#[derive(Debug)]
pub(super) struct Index {
    tables: Box<[Mutex<Table>]>,
    count: AtomicU64,
}

impl Index {
    pub(super) fn new() -> Self {
        let tables = (0..TABLES).map(|_| Mutex::new(HashMap::default())).collect();
        Self { tables, count: AtomicU64::new(0) }
    }

    /// The place of the latest version.
    pub(super) fn find(&self, hash: u64) -> Option<Place> {
        let entry = *self.table(hash).lock().get(&hash)?;
        (entry.place.version >= entry.announced).then_some(entry.place)
    }

    /// The latest place that is known, though something newer may be announced.
    pub(super) fn latest(&self, hash: u64) -> Option<Place> {
        self.table(hash).lock().get(&hash).map(|entry| entry.place)
    }

    /// Keys that are on disk, or will be.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Says that a version will be written. Nothing older is found from now on. It is followed by [`Index::insert`] or
    /// [`Index::withdraw`].
    pub(super) fn announce(&self, hash: u64, version: u64) {
        let mut table = self.table(hash).lock();
        let entry = self.entry(&mut table, hash);
        entry.announced = entry.announced.max(version);
        entry.waiting += 1;
    }

    fn entry<'t>(&self, table: &'t mut Table, hash: u64) -> &'t mut Entry {
        table.entry(hash).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Entry { place: NOWHERE, announced: 0, waiting: 0 }
        })
    }

    /// Says that a version that was announced will not be written after all. Gives the place of an older one that is to be forgotten,
    /// since it would be found at the next start.
    pub(super) fn withdraw(&self, hash: u64, version: u64) -> Option<Place> {
        self.settle(hash, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.announced = entry.announced.max(version);
        })
    }

    /// Says that nothing up to a version that was never announced may be found. Gives a place as [`Index::withdraw`].
    pub(super) fn supersede(&self, hash: u64, version: u64) -> Option<Place> {
        self.settle(hash, |entry| entry.announced = entry.announced.max(version))
    }

    /// Adds a place that was announced. Gives one that is to be forgotten, as [`Index::withdraw`].
    pub(super) fn insert(&self, hash: u64, place: Place) -> Option<Place> {
        self.settle(hash, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
            if entry.place.version <= place.version {
                entry.place = place;
            }
        })
    }

    /// Adds a place of an earlier process, unless a newer version is known.
    pub(super) fn restore(&self, hash: u64, place: Place) {
        let mut table = self.table(hash).lock();
        let entry = self.entry(&mut table, hash);
        if entry.place.version <= place.version {
            entry.place = place;
            entry.announced = entry.announced.max(place.version);
        }
    }

    /// Changes what is known of a key, and takes it out once nothing can be found under it any more.
    fn settle(&self, hash: u64, change: impl FnOnce(&mut Entry)) -> Option<Place> {
        let mut table = self.table(hash).lock();
        let entry = table.get_mut(&hash)?;
        change(entry);
        let Entry { place, announced, waiting } = *entry;
        if waiting > 0 || place.version >= announced {
            return None;
        }
        table.remove(&hash);
        self.count.fetch_sub(1, Ordering::Relaxed);
        (place != NOWHERE).then_some(place)
    }

    /// Takes a place out, if it still is the one that is known.
    pub(super) fn remove(&self, hash: u64, place: &Place) {
        let mut table = self.table(hash).lock();
        let Some(entry) = table.get_mut(&hash).filter(|entry| entry.place == *place) else { return };
        if entry.waiting > 0 {
            entry.place = NOWHERE;
        } else {
            table.remove(&hash);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Keeps only what a rule says, and what is announced.
    pub(super) fn retain(&self, mut stays: impl FnMut(&Place) -> bool) {
        for table in &self.tables {
            let mut table = table.lock();
            let before = table.len();
            table.retain(|_, entry| {
                let stays = entry.place == NOWHERE || stays(&entry.place);
                if !stays && entry.waiting > 0 {
                    entry.place = NOWHERE;
                    return true;
                }
                stays
            });
            self.count.fetch_sub((before - table.len()) as u64, Ordering::Relaxed);
        }
    }

    fn table(&self, hash: u64) -> &Mutex<Table> {
        &self.tables[(hash >> 40) as usize % TABLES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(version: u64) -> Place {
        Place { version, segment: version as u32, offset: 0, bytes: 1 }
    }

    /// Announces versions, and writes one.
    fn written(index: &Index, version: u64) -> Option<Place> {
        index.announce(1, version);
        index.insert(1, place(version))
    }

    #[test]
    fn nothing_older_is_found_than_what_was_announced() {
        loom::model(|| {
            let index = Index::new();
            written(&index, 1);
            assert_eq!(index.find(1), Some(place(1)));
            index.announce(1, 2);
            index.announce(1, 3);
            assert_eq!(index.find(1), None);
            // What was announced before comes late.
            assert_eq!(index.insert(1, place(2)), None);
            assert_eq!(index.find(1), None);
            assert_eq!(index.withdraw(1, 3), Some(place(2)), "it has to be forgotten on disk too");
            assert_eq!((index.find(1), index.count()), (None, 0));
            index.announce(1, 4);
            index.announce(1, 5);
            assert_eq!(index.withdraw(1, 4), None);
            index.insert(1, place(5));
            assert_eq!(index.find(1), Some(place(5)));
            index.announce(1, 6);
            index.retain(|place| place.segment != 5);
            assert_eq!((index.withdraw(1, 6), index.count()), (None, 0));
        });
    }

    #[test]
    fn an_older_version_that_is_written_late_is_not_found_when_the_newer_one_is_not_written() {
        loom::model(|| {
            let index = Index::new();
            index.announce(1, 1);
            index.announce(1, 2);
            assert_eq!(index.withdraw(1, 2), None, "the older one waits still");
            assert_eq!(index.insert(1, place(1)), Some(place(1)), "it is to be forgotten");
            assert_eq!((index.find(1), index.count()), (None, 0));
            // The same for what was never to be written.
            written(&index, 3);
            index.announce(1, 4);
            assert_eq!(index.supersede(1, 5), None);
            assert_eq!(index.find(1), None);
            assert_eq!(index.insert(1, place(4)), Some(place(4)));
            assert_eq!(index.supersede(1, 6), None, "nothing is there");
            written(&index, 7);
            assert_eq!(index.supersede(1, 8), Some(place(7)));
            index.restore(1, place(9));
            index.restore(1, place(8));
            assert_eq!((index.find(1), index.count()), (Some(place(9)), 1));
            index.announce(1, 10);
            index.remove(1, &place(9));
            index.insert(1, place(10));
            assert_eq!((index.find(1), index.count()), (Some(place(10)), 1));
        });
    }
}
