//! What was seen of a database's servers, in a file: which system they are, and the newest timeline of it. So an old primary that is alone after a
//! restart is known to be old.
//!
//! The file is written before anything is sent to the primary of a new timeline: a crash forgets nothing that a write has followed. It is replaced as a
//! whole and synced. A timeline never goes back, whoever writes: processes that follow each other are there together for a while, and one at a time looks
//! and writes. Another system takes the place of the one that stands there only by hand, since
//! the servers of another system are not used.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgroute::position::Timeline;

use crate::folder::{Alone, folder_of};

/// Longest file of ours.
const BYTES_MAX: u64 = 256;

/// How long a process waits for another one that writes: many times as long as a disk takes to sync a small file.
const OTHER_AT_MOST: Duration = Duration::from_secs(5);

/// A system, and a timeline of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) system: u64,
    pub(crate) timeline: Timeline,
}

/// What is in the files that were read or written.
#[derive(Debug, Default)]
pub(crate) struct SeenFiles {
    /// Never held while the disk is waited for: cores look here.
    known: Mutex<HashMap<PathBuf, Seen>>,
    /// Held by whoever writes.
    writing: Mutex<()>,
}

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

    /// Whether a file is known to have this, or more.
    pub(crate) fn is_kept(&self, path: &Path, seen: Seen) -> bool {
        self.of(path).is_some_and(|found| found.system == seen.system && found.timeline >= seen.timeline)
    }

    /// Keeps what was seen, beside the cores, and waits so long for it. What takes longer goes on with `turn`, without which none begins.
    ///
    /// # Errors
    /// As [`Self::keep`], and `TimedOut`.
    pub(crate) async fn keep_within(
        self: &Arc<Self>,
        turn: &Arc<tokio::sync::Mutex<()>>,
        path: PathBuf,
        seen: Seen,
        at_most: Duration,
    ) -> io::Result<()> {
        let kept = async {
            let turn = Arc::clone(turn).lock_owned().await;
            let files = Arc::clone(self);
            let kept = tokio::task::spawn_blocking(move || {
                let _held = turn;
                files.keep(&path, seen)
            });
            kept.await.map_err(io::Error::other)?
        };
        tokio::time::timeout(at_most, kept).await?
    }

    /// Keeps what was seen. This waits for the disk, and is not for a core.
    ///
    /// # Errors
    /// Those of the system, `InvalidData` when the file is none of ours, or has another system, and `TimedOut` when another process has its lock.
    pub(crate) fn keep(&self, path: &Path, seen: Seen) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_kept(path, seen) {
            return Ok(());
        }
        let _first = Alone::at(path, OTHER_AT_MOST)?;
        // Another process may have been there, such as the one before this.
        let found = read(path)?;
        if let Some(found) = found.filter(|found| found.system != seen.system) {
            let message = format!("it is of system {}, and the servers are of system {}", found.system, seen.system);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let found = found.filter(|found| found.timeline >= seen.timeline);
        if found.is_none() {
            write(path, seen)?;
        }
        self.known().insert(path.to_owned(), found.unwrap_or(seen));
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Seen>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
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
        // Another system takes its place by hand alone.
        assert_eq!(again.keep(&path, seen(1, 9)).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&path).unwrap(), Some(seen(u64::MAX, 4)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind but its lock");
    }

    #[test]
    fn processes_that_write_at_once_take_nothing_back() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.seen");
        for round in 0..20 {
            // As two processes do it, which share nothing but the file. Both know the same and hear of another timeline.
            let both = [round * 2 + 1, round * 2 + 2];
            let begin = Barrier::new(both.len());
            std::thread::scope(|scope| {
                for timeline in both {
                    let (path, begin) = (&path, &begin);
                    scope.spawn(move || {
                        let files = SeenFiles::default();
                        begin.wait();
                        files.keep(path, Seen { system: 1, timeline: Timeline(timeline) }).unwrap();
                    });
                }
            });
            assert_eq!(read(&path).unwrap().unwrap().timeline, Timeline(both[1]), "round {round}");
        }
    }

    #[test]
    fn whoever_comes_second_waits_for_the_first() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.seen");
        let first = Alone::at(&path, Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let kept = scope.spawn(|| {
                SeenFiles::default().keep(&path, Seen { system: 1, timeline: Timeline(1) }).unwrap();
            });
            std::thread::sleep(Duration::from_millis(100));
            assert!(!kept.is_finished() && read(&path).unwrap().is_none());
            drop(first);
            kept.join().unwrap();
        });
        assert!(read(&path).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_nobody() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.seen");
        let (files, turn) = (Arc::new(SeenFiles::default()), Arc::default());
        let seen = Seen { system: 1, timeline: Timeline(2) };
        // As if somebody wrote, and his disk did not answer.
        let (other, begun, ends) = (Arc::clone(&files), Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (has_begun, may_end) = (Arc::clone(&begun), Arc::clone(&ends));
        let writes = std::thread::spawn(move || {
            let _held = other.writing.lock().unwrap();
            has_begun.wait();
            may_end.wait();
        });
        begun.wait();
        for at_most in [Duration::from_millis(50), Duration::ZERO] {
            let late = files.keep_within(&turn, path.clone(), seen, at_most).await;
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(files.of(&path), None);
        ends.wait();
        writes.join().unwrap();
        // What was begun comes to its end.
        files.keep_within(&turn, path.clone(), seen, Duration::from_secs(20)).await.unwrap();
        assert!(files.is_kept(&path, seen));
        assert_eq!(read(&path).unwrap(), Some(seen));
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
