//! Which keys are on disk, and where: what a lookup asks before anything is read.

use std::collections::HashMap;

use super::format::ChunkPlace;
use crate::policy::hash::ByHash;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Tables, each with a lock of its own. Many, so that taking out what was in a segment stops lookups for microseconds only.
const TABLES: usize = 256;
/// Bytes that a place takes with its key, in a table that has grown to half of its next size.
pub(crate) const PLACE_BYTES: u64 = 64;

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

/// Places by the hash of the key.
#[derive(Debug)]
pub(super) struct Index {
    tables: Box<[Mutex<HashMap<u64, Place, ByHash>>]>,
    count: AtomicU64,
}

impl Index {
    pub(super) fn new() -> Self {
        let tables = (0..TABLES).map(|_| Mutex::new(HashMap::default())).collect();
        Self { tables, count: AtomicU64::new(0) }
    }

    pub(super) fn find(&self, hash: u64) -> Option<Place> {
        self.table(hash).lock().get(&hash).copied()
    }

    /// Keys that are on disk.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds a place, unless a newer one is known.
    pub(super) fn insert(&self, hash: u64, place: Place) {
        let mut table = self.table(hash).lock();
        let known = table.get(&hash).map(|known| known.version);
        if known.is_none_or(|known| known <= place.version) {
            table.insert(hash, place);
        }
        if known.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a place out, if it still is the one that is known.
    pub(super) fn remove(&self, hash: u64, place: &Place) {
        let mut table = self.table(hash).lock();
        if table.get(&hash) == Some(place) {
            table.remove(&hash);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes out what is older than a version, and gives its place.
    pub(super) fn take_older(&self, hash: u64, version: u64) -> Option<Place> {
        let mut table = self.table(hash).lock();
        let place = *table.get(&hash).filter(|place| place.version < version)?;
        table.remove(&hash);
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(place)
    }

    /// Keeps only what a rule says.
    pub(super) fn retain(&self, mut stays: impl FnMut(&Place) -> bool) {
        for table in &self.tables {
            let mut table = table.lock();
            let before = table.len();
            table.retain(|_, place| stays(place));
            self.count.fetch_sub((before - table.len()) as u64, Ordering::Relaxed);
        }
    }

    fn table(&self, hash: u64) -> &Mutex<HashMap<u64, Place, ByHash>> {
        &self.tables[(hash >> 40) as usize % TABLES]
    }
}
