//! Which keys are on disk, and where: what a lookup asks before anything is read.

use std::collections::HashMap;

use super::format::ChunkPlace;
use crate::policy::hash::ByHash;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Tables, each with a lock of its own. Many, so that taking out what was in a segment stops lookups for microseconds only.
const TABLES: usize = 256;
/// Bytes that a place takes with its key, in a table that has grown to half of its next size.
pub(crate) const PLACE_BYTES: u64 = 80;

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
    /// The latest version that is to be written. While that is not there, no older one may be found in its place.
    announced: u64,
}

const NOWHERE: Place = Place { version: 0, segment: 0, offset: 0, bytes: 0 };

/// Places by the hash of the key.
#[derive(Debug)]
pub(super) struct Index {
    tables: Box<[Mutex<HashMap<u64, Entry, ByHash>>]>,
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

    /// Says that a version will be written. Nothing older is found from now on.
    pub(super) fn announce(&self, hash: u64, version: u64) {
        let mut table = self.table(hash).lock();
        let entry = table.entry(hash).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Entry { place: NOWHERE, announced: 0 }
        });
        entry.announced = entry.announced.max(version);
    }

    /// Says that a version will not be written after all. Gives the place of an older one, which would be found at the next start.
    pub(super) fn withdraw(&self, hash: u64, version: u64) -> Option<Place> {
        let mut table = self.table(hash).lock();
        // What was announced later decides about what is older.
        let entry = *table.get(&hash).filter(|entry| entry.announced <= version && entry.place.version < version)?;
        table.remove(&hash);
        self.count.fetch_sub(1, Ordering::Relaxed);
        (entry.place != NOWHERE).then_some(entry.place)
    }

    /// Adds a place, unless a newer one is known.
    pub(super) fn insert(&self, hash: u64, place: Place) {
        self.announce(hash, place.version);
        let mut table = self.table(hash).lock();
        if let Some(entry) = table.get_mut(&hash)
            && entry.place.version <= place.version
        {
            entry.place = place;
        }
    }

    /// Takes a place out, if it still is the one that is known.
    pub(super) fn remove(&self, hash: u64, place: &Place) {
        let mut table = self.table(hash).lock();
        if table.get(&hash).is_some_and(|entry| entry.place == *place && entry.announced <= place.version) {
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
                if !stays && entry.announced > entry.place.version {
                    entry.place = NOWHERE;
                    return true;
                }
                stays
            });
            self.count.fetch_sub((before - table.len()) as u64, Ordering::Relaxed);
        }
    }

    fn table(&self, hash: u64) -> &Mutex<HashMap<u64, Entry, ByHash>> {
        &self.tables[(hash >> 40) as usize % TABLES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_older_is_found_than_what_was_announced() {
        let check = || {
            let index = Index::new();
            let place = |version: u64| Place { version, segment: version as u32, offset: 0, bytes: 1 };
            index.insert(1, place(1));
            assert_eq!(index.find(1), Some(place(1)));
            index.announce(1, 3);
            assert_eq!(index.find(1), None);
            // What was announced before comes late.
            index.insert(1, place(2));
            assert_eq!(index.find(1), None);
            assert_eq!(index.withdraw(1, 3), Some(place(2)), "it has to be forgotten on disk too");
            assert_eq!((index.find(1), index.count()), (None, 0));
            index.announce(1, 4);
            index.announce(1, 5);
            assert_eq!(index.withdraw(1, 4), None);
            index.insert(1, place(5));
            index.insert(1, place(4));
            assert_eq!(index.find(1), Some(place(5)));
            index.announce(1, 6);
            index.retain(|place| place.segment != 5);
            assert_eq!((index.withdraw(1, 6), index.count()), (None, 0));
        };
        loom::model(check);
    }
}
