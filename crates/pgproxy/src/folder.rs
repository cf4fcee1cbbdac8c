//! A folder that one process at a time changes: the old and the new one of an upgrade would otherwise both look, and both write.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long whoever comes second waits: many times as long as a disk takes to sync a small file.
const AT_MOST: Duration = Duration::from_secs(5);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(2);

/// Held while something in a folder is looked at and replaced. It ends with the process, whatever becomes of that.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Locked, where that can be.
    _folder: Option<File>,
}

impl Alone {
    /// Waits until nobody else holds the folder of a file. The folder itself is locked, and so no file is left behind. Where folders cannot be
    /// locked or read, as on some network file systems, everybody is let in at once.
    ///
    /// # Errors
    /// `TimedOut` when somebody holds it for seconds.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let Ok(folder) = File::open(folder_of(path)) else { return Ok(Self { _folder: None }) };
        let until = Instant::now() + AT_MOST;
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _folder: Some(folder) }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => std::thread::sleep(LOOK),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    let message = format!("another process has locked {} for {AT_MOST:?}", folder_of(path).display());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
                Err(_) => return Ok(Self { _folder: None }),
            }
        }
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
