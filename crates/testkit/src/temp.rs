use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// A folder of its own, removed with all it holds when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes an empty folder in the system's place for temporary files.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new() -> Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// Makes an empty folder whose files are kept in memory, where the system has a place for such, and otherwise as
    /// [`new`](Self::new).
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn in_memory() -> Result<Self> {
        let place = Path::new("/dev/shm");
        if place.is_dir() { Self::new_in(place) } else { Self::new() }
    }

    fn new_in(place: &Path) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("tenfold-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = place.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("temporary folder {}", path.display()))?;
        Ok(Self { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in the folder, with the folders above it, and gives its path. A file that exists is replaced in
    /// one step, so that a reader sees the old content or the new and never a part.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        let fresh = self.path.join(format!("{name}.new"));
        std::fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
        std::fs::write(&fresh, content).with_context(|| format!("write {}", fresh.display()))?;
        std::fs::rename(&fresh, &path).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A folder left behind is a nuisance, not a failure of the test that used it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
