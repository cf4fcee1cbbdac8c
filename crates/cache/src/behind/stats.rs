//! What can be seen of it.

use std::time::Duration;

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) refused_full: u64,
    pub(super) disk_errors: u64,
    pub(super) delivered: u64,
    pub(super) superseded: u64,
    pub(super) dead: u64,
    pub(super) batches: u64,
    pub(super) failures: u64,
    pub(super) syncs: u64,
    pub(super) moved: u64,
    /// Now: of the writer, as it last said.
    pub(super) journal_bytes: u64,
    pub(super) segments: usize,
    pub(super) dead_letters: usize,
}

/// The state of a [`WriteBehind`](super::WriteBehind), and what it counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BehindStats {
    /// Keys that the sink does not have the latest write of.
    pub keys: usize,
    /// Writes that take room: those that wait, are under way, or are being written down.
    pub entries: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The age of the oldest write that the sink does not have.
    pub lag: Duration,
    /// Tries in a row that found the sink unavailable.
    pub outage: u32,
    /// Bytes and segments of the journal.
    pub journal_bytes: u64,
    /// Segments of the journal.
    pub segments: usize,
    /// Dead letters on disk.
    pub dead_letters: usize,
    /// Damaged places that the start found.
    pub damaged: usize,
    /// Writes that were acknowledged.
    pub acknowledged_total: u64,
    /// Writes that were refused because there was no room.
    pub refused_full_total: u64,
    /// Groups of writes that the disk did not take, and other failures of it.
    pub disk_errors_total: u64,
    /// Syncs of the journal; each is shared by all writes that came while the one before was under way.
    pub syncs_total: u64,
    /// Writes that the sink has.
    pub delivered_total: u64,
    /// Writes that were replaced by newer ones before the sink had them.
    pub coalesced_total: u64,
    /// Writes that did nothing, as the sink had a newer one.
    pub superseded_total: u64,
    /// Writes that became dead letters.
    pub dead_total: u64,
    /// Batches that ended.
    pub batches_total: u64,
    /// Batches that failed.
    pub failures_total: u64,
    /// Writes that were written down anew so that old segments could go.
    pub moved_total: u64,
}
