//! What write-behind is told, and why it may not begin.

use std::path::PathBuf;
use std::time::Duration;

use breaker::{Backoff, BackoffParams};

use super::ledger::Rules;
use super::record::{KEY_BYTES_MAX, record_bytes};

/// Nothing waits longer: far below what a clock can count, and far beyond what anybody means.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What a write does when there is no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It fails at once.
    Refuse,
    /// It waits for room, and fails when there is none within this time.
    Wait(Duration),
}

/// The settings of [`WriteBehind`](super::WriteBehind).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BehindParams {
    /// The folder of the journal, on a local disk, for this process alone.
    pub folder: PathBuf,
    /// Writes that the sink does not have yet, at most: one for each key, and one more while another is under way.
    pub entries_max: usize,
    /// Their bytes, at most, with 48 for each. So much is held in memory; the journal takes up to about twice that on disk.
    pub bytes_max: u64,
    /// The key and value of one write, at most. Two of them always fit.
    pub entry_bytes_max: u64,
    /// What happens beyond the bounds.
    pub when_full: WhenFull,
    /// Writes in one batch, at most.
    pub batch_entries_max: usize,
    /// Bytes in one batch, at most; a larger write goes alone.
    pub batch_bytes_max: u64,
    /// How long a write waits for others to come into its batch, or for a newer one that makes it needless.
    pub linger: Duration,
    /// Batches under way to the sink at a time.
    pub lanes: usize,
    /// A batch that takes longer counts as one that found the sink unavailable.
    pub deliver_timeout: Duration,
    /// The pauses between tries.
    pub backoff: BackoffParams,
    /// A write that failed alone so often is a dead letter.
    pub tries_max: u32,
    /// A write that found the sink unavailable so often is a dead letter; none: it waits for the sink, however long that takes.
    pub outage_tries_max: Option<u32>,
    /// Bytes of dead letters, at most. Beyond it, bad writes stay in the journal.
    pub dead_bytes_max: u64,
}

/// Why write-behind cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting that cannot be.
    #[error("write-behind: {setting}: {problem}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process, or another part of this one, has the folder.
    #[error("write-behind: {}: another process has this journal open", .0.display())]
    Locked(PathBuf),
    /// The disk.
    #[error("write-behind: {}: {error}", folder.display())]
    Disk {
        /// The folder of the journal.
        folder: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl BehindParams {
    /// Settings for a journal in this folder; everything else has a default.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            entries_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            entry_bytes_max: 1024 * 1024,
            when_full: WhenFull::Wait(Duration::from_secs(1)),
            batch_entries_max: 500,
            batch_bytes_max: 4 * 1024 * 1024,
            linger: Duration::from_millis(5),
            lanes: 1,
            deliver_timeout: Duration::from_secs(30),
            backoff: BackoffParams { base: Duration::from_millis(100), max: Duration::from_secs(30) },
            tries_max: 8,
            outage_tries_max: None,
            dead_bytes_max: 64 * 1024 * 1024,
        }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let wrong = |setting, problem: &str| Err(OpenError::Setting { setting, problem: problem.to_owned() });
        let positive = [
            ("entries_max", self.entries_max as u64),
            ("entry_bytes_max", self.entry_bytes_max),
            ("batch_entries_max", self.batch_entries_max as u64),
            ("batch_bytes_max", self.batch_bytes_max),
            ("lanes", self.lanes as u64),
            ("tries_max", self.tries_max.into()),
            ("outage_tries_max", self.outage_tries_max.unwrap_or(1).into()),
            ("dead_bytes_max", self.dead_bytes_max),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, number)| *number == 0) {
            return wrong(setting, "must be at least 1");
        }
        if self.entry_bytes_max > u64::from(u32::MAX) / 2 {
            return wrong("entry_bytes_max", "must be at most 2 GiB");
        }
        let entry = record_bytes(KEY_BYTES_MAX.min(self.entry_bytes_max as usize), self.entry_bytes_max as usize);
        if self.bytes_max < 2 * entry {
            return wrong("bytes_max", &format!("must be at least {}, twice an entry of entry_bytes_max", 2 * entry));
        }
        if self.deliver_timeout.is_zero() {
            return wrong("deliver_timeout", "must be longer than 0");
        }
        if self.linger > PAUSE_MAX {
            return wrong("linger", "must be at most 366 days");
        }
        if self.backoff.max > PAUSE_MAX {
            return wrong("backoff", "its max must be at most 366 days");
        }
        if self.backoff.max.is_zero() || self.backoff.max < self.backoff.base {
            return wrong("backoff", "its max must be longer than 0 and not below its base");
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            entries_max: self.entries_max,
            bytes_max: self.bytes_max,
            batch_entries_max: self.batch_entries_max,
            batch_bytes_max: self.batch_bytes_max,
            linger: self.linger,
            backoff: Backoff::new(self.backoff),
            tries_max: self.tries_max,
            outage_tries_max: self.outage_tries_max,
        }
    }

    /// A segment is an eighth of the bytes: small enough that a few of them can wait for their last write, and large enough that files
    /// are not made all the time.
    pub(super) fn segment_bytes(&self) -> u64 {
        (self.bytes_max / 8).clamp(16 * 1024, 16 * 1024 * 1024)
    }

    /// When the journal is longer than that, what is needed of its oldest segment is written anew. At most half of it is needed then.
    pub(super) fn journal_bytes_max(&self) -> u64 {
        2 * self.bytes_max + 2 * self.segment_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_named() {
        let check = |change: fn(&mut BehindParams), expected: Option<&str>| {
            let mut params = BehindParams::new("/var/lib/shop/behind");
            change(&mut params);
            let text = params.check().err().map(|error| error.to_string());
            assert_eq!(text.as_deref(), expected);
        };
        check(|_| (), None);
        check(|params| params.entries_max = 0, Some("write-behind: entries_max: must be at least 1"));
        check(|params| params.lanes = 0, Some("write-behind: lanes: must be at least 1"));
        check(|params| params.outage_tries_max = Some(0), Some("write-behind: outage_tries_max: must be at least 1"));
        let small = "write-behind: bytes_max: must be at least 2228320, twice an entry of entry_bytes_max";
        check(|params| params.bytes_max = 2_000_000, Some(small));
        let backoff = "write-behind: backoff: its max must be longer than 0 and not below its base";
        check(|params| params.backoff.max = Duration::from_millis(1), Some(backoff));
        let linger = "write-behind: linger: must be at most 366 days";
        check(|params| params.linger = Duration::MAX, Some(linger));
        let backoff = "write-behind: backoff: its max must be at most 366 days";
        check(|params| params.backoff.max = Duration::MAX, Some(backoff));
        check(
            |params| params.deliver_timeout = Duration::ZERO,
            Some("write-behind: deliver_timeout: must be longer than 0"),
        );
    }
}
