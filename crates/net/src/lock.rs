//! Files that stand for the right to change something, which one process at a time has.
//!
//! The lock is on a file of its own, which is for its owner alone: whoever may open a file may lock it, even if only for reading, so that a lock on
//! a folder could be held by anybody who may look into it. The file stays when the lock ends. If it was removed, one could hold the file that
//! was there and another one its successor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The right that a file stands for, until it is dropped. It ends with the process, whatever becomes of that.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a file, which is made if it is not there; `None` while somebody else has it, who may be of this process.
    ///
    /// # Errors
    /// When the file cannot be made, opened or locked.
    pub fn attempt(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}
