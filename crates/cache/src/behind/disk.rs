//! What the journal asks of a disk, and the one that is a folder. The other one is the simulator's, which loses power.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

/// A folder of files. Nothing of it lasts before it was synced.
pub(super) trait Disk: Send + 'static {
    type File: DiskFile;

    fn list(&self) -> io::Result<Vec<String>>;
    fn read(&self, name: &str) -> io::Result<Bytes>;
    /// A file without content, in place of one that has the name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Has the names of files last.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file that is written at its end.
pub(super) trait DiskFile: Send {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Has its content last. After an error nobody knows what does, and trying again may only seem to help.
    fn sync(&mut self) -> io::Result<()>;
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
}

/// A folder of the file system, which this process alone has.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked for as long as it is open; the system gives the lock back when the process ends, however it ends.
    _lock: File,
}

const LOCK: &str = "lock";

impl Folder {
    /// Opens the folder, making it where it is missing. None when another process has it.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        if !path.exists() {
            std::fs::create_dir_all(path)?;
            // Its own name has to last as well.
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Disk for Folder {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        std::fs::read(self.path.join(name)).map(Bytes::from)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        File::create(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)?;
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner() {
        let folder = testkit::TempDir::new().unwrap();
        let path = folder.path().join("deep/journal");
        let first = Folder::open(&path).unwrap();
        assert!(first.is_some());
        assert!(Folder::open(&path).unwrap().is_none());
        drop(first);
        assert!(Folder::open(&path).unwrap().is_some());
    }
}
