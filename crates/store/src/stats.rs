//! What happened and what is there, as plain values.

use crate::sync::{AtomicU64, Ordering};

/// The memory tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Lookups that found a whole entry in memory.
    pub hits: u64,
    /// Lookups, and wishes to fetch, that joined somebody else's fetch or read.
    pub joined: u64,
    /// Lookups that found nothing in memory.
    pub misses: u64,
    /// Entries that were added, or replaced.
    pub inserts: u64,
    /// Entries that the policy took out.
    pub evictions: u64,
    /// Entries that were looked up and had been purged.
    pub purged: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Bytes that they take, with everything that belongs to them.
    pub bytes: u64,
    /// Bytes that they may take.
    pub bytes_max: u64,
    /// Fetches and reads from disk that are under way.
    pub fetching: u64,
}

impl MemoryStats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.joined += other.joined;
        self.misses += other.misses;
        self.inserts += other.inserts;
        self.evictions += other.evictions;
        self.purged += other.purged;
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.bytes_max += other.bytes_max;
        self.fetching += other.fetching;
    }
}

/// The disk tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Whether it is written to.
    pub is_up: bool,
    /// Objects that were read and were good.
    pub hits: u64,
    /// Objects that are there.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that they may have.
    pub bytes_max: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Objects that were written.
    pub writes: u64,
    /// Objects or parts of them that were not written, since the queue was full or the disk was down.
    pub writes_dropped: u64,
    /// Reads that were not made, since the queue was full.
    pub reads_dropped: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
    /// Reads and writes that the disk refused.
    pub errors: u64,
    /// Records whose checksums were wrong.
    pub corrupt: u64,
    /// Segments that made room for new ones.
    pub segments_removed: u64,
}

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The memory tier.
    pub memory: MemoryStats,
    /// The disk tier, where there is one.
    pub disk: Option<DiskStats>,
    /// Bytes of fetches under way.
    pub filling_bytes: u64,
    /// Fetches that were turned away, since too many bytes were being fetched.
    pub fills_refused: u64,
    /// Readers of fetches that were given up, since they read nothing for too long.
    pub readers_cut: u64,
    /// The number of the last purge.
    pub purges: u64,
    /// Marks and prefixes that were purged and are remembered.
    pub purge_rules: u64,
}

/// A number that only grows.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// Written by the threads of the disk tier, and by cores when something is dropped.
#[derive(Debug, Default)]
pub(crate) struct DiskCounters {
    pub(crate) is_up: Counter,
    pub(crate) hits: Counter,
    pub(crate) bytes: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) bytes_written: Counter,
    pub(crate) writes: Counter,
    pub(crate) writes_dropped: Counter,
    pub(crate) reads_dropped: Counter,
    pub(crate) errors: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) segments_removed: Counter,
}

impl DiskCounters {
    pub(crate) fn stats(&self) -> DiskStats {
        DiskStats {
            is_up: self.is_up.value() == 1,
            hits: self.hits.value(),
            bytes: self.bytes.value(),
            bytes_read: self.bytes_read.value(),
            bytes_written: self.bytes_written.value(),
            writes: self.writes.value(),
            writes_dropped: self.writes_dropped.value(),
            reads_dropped: self.reads_dropped.value(),
            errors: self.errors.value(),
            corrupt: self.corrupt.value(),
            segments_removed: self.segments_removed.value(),
            ..DiskStats::default()
        }
    }
}
