//! Files that one process at a time replaces: the old and the new one of an upgrade would otherwise both look, and both write.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use net::Lock;

/// How often whoever comes second looks.
const LOOK: Duration = Duration::from_millis(2);

/// The end of a lock's name. PostgreSQL has files at `.lock` beside its own sockets, and does not start where it finds one of somebody else's.
const END: &str = ".tenfold.lock";

/// Held while a file is looked at and replaced. It ends with the process, whatever becomes of that.
#[derive(Debug)]
pub(crate) struct Alone {
    /// There where it can be.
    _lock: Option<Lock>,
}

impl Alone {
    /// Waits so long until nobody else replaces a file. The lock beside it stays, empty. Where none can be made or locked, as on some network file
    /// systems, everybody is let in at once.
    ///
    /// # Errors
    /// `TimedOut` when somebody holds it for so long.
    pub(crate) fn at(path: &Path, at_most: Duration) -> io::Result<Self> {
        let beside = beside(path);
        let until = Instant::now() + at_most;
        loop {
            match Lock::attempt(&beside) {
                Ok(Some(lock)) => return Ok(Self { _lock: Some(lock) }),
                Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
                Ok(None) => {
                    let message = format!("another process has locked {} for {at_most:?}", beside.display());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
                Err(_) => return Ok(Self { _lock: None }),
            }
        }
    }
}

/// The lock of a file.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(END);
    PathBuf::from(name)
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt as _;
    use testkit::TempDir;

    #[test]
    fn whoever_may_read_a_folder_holds_up_nobody() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.seen");
        let read = File::open(folder.path()).unwrap();
        flock(&read, FlockOperation::LockExclusive).unwrap();
        let first = Alone::at(&path, Duration::ZERO).unwrap();
        // What stands for the right is nobody else's to open.
        assert_eq!(beside(&path).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let second = Alone::at(&path, Duration::from_millis(10)).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        drop(first);
        assert!(Alone::at(&path, Duration::ZERO).unwrap()._lock.is_some());
        // Where there can be none, nobody waits for it.
        assert!(Alone::at(&folder.path().join("none/shop.seen"), Duration::ZERO).unwrap()._lock.is_none());
    }
}
