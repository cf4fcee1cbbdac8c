//! What was seen of a database's servers, in a file: which system they are, and the newest timeline of it. So an old primary that is alone after a
//! restart is known to be old.
//!
//! The file is written before anything is sent to the primary of a new timeline: a crash forgets nothing that a write has followed. It is replaced as a
//! whole and synced. A timeline never goes back, whoever writes; another system takes the place of the one that stands there only by hand, since
//! the servers of another system are not used.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pgroute::position::Timeline;

/// Longest file of ours.
const BYTES_MAX: u64 = 256;

/// A system, and a timeline of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) system: u64,
    pub(crate) timeline: Timeline,
}

/// What is in the files that were read or written.
#[derive(Debug, Default)]
pub(crate) struct SeenFiles(Mutex<HashMap<PathBuf, Seen>>);

impl SeenFiles {
    /// Reads a file, if it is there.
    ///
    /// # Errors
    /// Those of the system, and `InvalidData` for what is none of ours: then nobody knows what was seen.
    pub(crate) fn load(&self, path: &Path) -> io::Result<()> {
        if let Some(found) = read(path)? {
            self.known().insert(path.to_owned(), found);
        }
        Ok(())
    }

    /// What is known to be in a file.
    pub(crate) fn of(&self, path: &Path) -> Option<Seen> {
        self.known().get(path).copied()
    }

    /// Keeps what was seen. This waits for the disk, and is not for a core.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn keep(&self, path: &Path, seen: Seen) -> io::Result<()> {
        // Held, so that nobody else writes meanwhile.
        let mut known = self.known();
        let is_older = |found: Seen| found.system == seen.system && found.timeline >= seen.timeline;
        if known.get(path).copied().is_some_and(is_older) {
            return Ok(());
        }
        // Another process may have been there, such as the one before this.
        let found = read(path)?.filter(|found| is_older(*found));
        if found.is_none() {
            write(path, seen)?;
        }
        known.insert(path.to_owned(), found.unwrap_or(seen));
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<Option<Seen>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(BYTES_MAX).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
    let timeline = number("timeline").and_then(|timeline| u32::try_from(timeline).ok());
    match (number("system"), timeline) {
        (Some(system), Some(timeline)) => Ok(Some(Seen { system, timeline: Timeline(timeline) })),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file of what was seen of servers")),
    }
}

fn write(path: &Path, seen: Seen) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(name);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    write!(file, "system {}\ntimeline {}\n", seen.system, seen.timeline.0)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::TempDir;

    #[test]
    fn a_timeline_never_goes_back() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.seen");
        let seen = |system, timeline| Seen { system, timeline: Timeline(timeline) };
        let files = SeenFiles::default();
        files.load(&path).unwrap();
        assert_eq!(files.of(&path), None);
        files.keep(&path, seen(u64::MAX, 3)).unwrap();
        files.keep(&path, seen(u64::MAX, 2)).unwrap();
        assert_eq!(files.of(&path), Some(seen(u64::MAX, 3)));
        // Another process, which knows less than the file.
        let other = SeenFiles::default();
        other.keep(&path, seen(u64::MAX, 2)).unwrap();
        let again = SeenFiles::default();
        again.load(&path).unwrap();
        assert_eq!(again.of(&path), Some(seen(u64::MAX, 3)));
        files.keep(&path, seen(u64::MAX, 4)).unwrap();
        again.load(&path).unwrap();
        assert_eq!(again.of(&path), Some(seen(u64::MAX, 4)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_is_none_of_ours_is_not_guessed_at() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.seen");
        for text in ["", "system 1", "timeline 1", "system x\ntimeline 1\n", "system 1\ntimeline 4294967296\n"] {
            std::fs::write(&path, text).unwrap();
            let error = SeenFiles::default().load(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
        assert!(SeenFiles::default().load(folder.path()).is_err());
    }
}
