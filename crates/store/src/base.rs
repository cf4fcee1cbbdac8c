//! What the store and the threads of its disk tier share.

use std::sync::Arc;
use std::time::SystemTime;

use crate::disk::PLACE_BYTES;
use crate::key::KeyHasher;
use crate::memory::Memory;
use crate::noted::Filter;
use crate::pool::Pool;
use crate::purges::Purges;
use crate::stats::Counter;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Of the memory, so much is for fetches that are under way.
const FILLING_SHARE: u64 = 8;
/// The index of the disk tier takes at most this part of the memory.
const INDEX_SHARE: u64 = 2;
/// Entries have to make room for the index only when it has grown by this part of the memory.
const INDEX_STEP: u64 = 64;

#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) memory: Memory,
    pub(crate) purges: Purges,
    pub(crate) hasher: KeyHasher,
    pub(crate) pool: Arc<Pool>,
    pub(crate) filter: Arc<Filter>,
    versions: AtomicU64,
    position: Mutex<Option<u64>>,
    memory_bytes: AtomicU64,
    index_bytes: AtomicU64,
    filling: AtomicU64,
    pub(crate) fills_refused: Counter,
    pub(crate) readers_cut: Counter,
}

/// A version that is higher than those of earlier processes, whose folder may be read only after something was stored. A thousand million in
/// a second are more than are ever stored.
fn first_version() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_millis() as u64) << 20
}

impl Base {
    pub(crate) fn new(memory_bytes: u64, purges: Purges) -> Self {
        Self {
            memory: Memory::new(memory_bytes - memory_bytes / FILLING_SHARE),
            purges,
            hasher: KeyHasher::new(),
            pool: Pool::new(memory_bytes),
            filter: Filter::new(memory_bytes),
            versions: AtomicU64::new(first_version()),
            position: Mutex::new(None),
            memory_bytes: AtomicU64::new(memory_bytes),
            index_bytes: AtomicU64::new(0),
            filling: AtomicU64::new(0),
            fills_refused: Counter::default(),
            readers_cut: Counter::default(),
        }
    }

    /// The next version, higher than all that were given out or found on disk.
    pub(crate) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn skip_versions(&self, found: u64) {
        self.versions.fetch_max(found + 1, Ordering::Relaxed);
    }

    /// The last position in a stream of purges that was applied.
    pub(crate) fn position(&self) -> Option<u64> {
        *self.position.lock()
    }

    /// Goes on to a position; `false` when it was passed already.
    pub(crate) fn restore_position(&self, position: u64) -> bool {
        let mut known = self.position.lock();
        let is_next = known.is_none_or(|known| known < position);
        if is_next {
            *known = Some(position);
        }
        is_next
    }

    /// Changes how much memory there is.
    pub(crate) fn set_memory_bytes(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
        self.resize_memory();
    }

    /// Places that the index of the disk tier may have.
    pub(crate) fn places_max(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed) / INDEX_SHARE / PLACE_BYTES
    }

    /// Has entries make room for the index of the disk tier.
    pub(crate) fn make_memory_fit(&self, places: u64) {
        let (bytes, known) = (places * PLACE_BYTES, self.index_bytes.load(Ordering::Relaxed));
        if bytes.abs_diff(known) > self.memory_bytes.load(Ordering::Relaxed) / INDEX_STEP {
            self.index_bytes.store(bytes, Ordering::Relaxed);
            self.resize_memory();
        }
    }

    fn resize_memory(&self) {
        let all = self.memory_bytes.load(Ordering::Relaxed);
        let used = all / FILLING_SHARE + self.index_bytes.load(Ordering::Relaxed);
        self.memory.resize(all.saturating_sub(used));
    }

    /// Counts bytes of a fetch; `false` when there are too many now.
    pub(crate) fn fill(&self, bytes: u64) -> bool {
        let before = self.filling.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= self.filling_max()
    }

    /// Whether fetches have more bytes than their part.
    pub(crate) fn is_crowded(&self) -> bool {
        self.filling_bytes() > self.filling_max()
    }

    fn filling_max(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed) / FILLING_SHARE
    }

    pub(crate) fn unfill(&self, bytes: u64) {
        self.filling.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn filling_bytes(&self) -> u64 {
        self.filling.load(Ordering::Relaxed)
    }
}
