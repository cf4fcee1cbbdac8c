//! How large a store is, and where it lies.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Below that there would be no room for anything beside the tables.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;
/// At least sixteen segments of the smallest size.
const DISK_BYTES_MIN: u64 = 16 * SEGMENT_BYTES_MIN;
/// A segment holds every record there can be.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// A larger one would make much go at once, and a scan after a crash long.
const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The oldest segment is what goes at once: about a 64th of everything.
const SEGMENTS: u64 = 64;
/// An object on disk has at most this part of all bytes there.
const OBJECT_SHARE: u64 = 4;
/// The list of its chunks has to fit in memory while it is read: 2 MiB for this.
const OBJECT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// Whoever takes less than a chunk in this time holds others up for nothing: 64 KiB in half a minute are slower than a modem.
const READER_WAIT: Duration = Duration::from_secs(30);

/// How large a store is, and what it remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreParams {
    /// Memory that it takes, with everything that belongs to it: at least 1 MiB.
    pub memory_bytes: u64,
    /// Where it keeps what is to survive, if anywhere.
    pub disk: Option<DiskParams>,
    /// Marks that are remembered once they were purged, at about 64 bytes each. Beyond that, what is older than the oldest of them
    /// is gone.
    pub marks_max: usize,
    /// The same for prefixes. Each is compared with the key of every entry that is older.
    pub prefixes_max: usize,
    /// How long [`crate::Writer::write`] waits for a reader who does not move, before it gives up what that one has not read.
    pub reader_wait: Duration,
}

impl StoreParams {
    /// So much memory, and no disk.
    pub fn new(memory_bytes: u64) -> Self {
        Self { memory_bytes, disk: None, marks_max: 262_144, prefixes_max: 256, reader_wait: READER_WAIT }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if self.memory_bytes < MEMORY_BYTES_MIN {
            return Err(OpenError::Memory { bytes: self.memory_bytes, bytes_min: MEMORY_BYTES_MIN });
        }
        match &self.disk {
            Some(DiskParams { path, bytes, .. }) if *bytes < DISK_BYTES_MIN => {
                Err(OpenError::Disk { path: path.clone(), bytes: *bytes, bytes_min: DISK_BYTES_MIN })
            }
            _ => Ok(()),
        }
    }
}

/// A folder of a store's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskParams {
    /// The folder, which is made if it is not there. One process uses it at a time.
    pub path: PathBuf,
    /// Bytes of its files: at least 16 MiB.
    pub bytes: u64,
    /// Bytes that may wait to be written. What comes when there are more is not written.
    pub queue_bytes: u64,
}

impl DiskParams {
    /// A folder with so many bytes.
    pub fn new(path: impl Into<PathBuf>, bytes: u64) -> Self {
        Self { path: path.into(), bytes, queue_bytes: 16 * 1024 * 1024 }
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        (self.bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }

    pub(crate) fn object_bytes_max(&self) -> u64 {
        (self.bytes / OBJECT_SHARE).min(OBJECT_BYTES_MAX)
    }
}

/// Why a store cannot be opened. A folder that cannot be used now is no reason: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Too little memory.
    #[error("memory of {bytes} bytes is too little: at least {bytes_min}")]
    Memory {
        /// What was wanted.
        bytes: u64,
        /// What is needed.
        bytes_min: u64,
    },
    /// Too little disk.
    #[error("{path}: {bytes} bytes of disk are too little: at least {bytes_min}", path = path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What was wanted.
        bytes: u64,
        /// What is needed.
        bytes_min: u64,
    },
    /// No thread could be started.
    #[error("threads of the disk tier cannot be started")]
    Threads(#[source] io::Error),
}
