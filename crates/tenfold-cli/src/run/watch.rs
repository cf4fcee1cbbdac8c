//! Noticing that a file of the configuration has changed.
//!
//! Files are looked at twice a second. That costs next to nothing, works on every file system (network mounts and
//! mounted secrets tell no one of changes), and sees a link that points elsewhere. A change counts once two looks have
//! seen the same, so that a file is not read while an editor writes it. Folders count too: a new file in one that is
//! included is a change.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What a look sees of a file or folder.
type Sight = Option<(u64, u64, i64, i64, u64)>;

/// The files and what was last seen of them.
#[derive(Debug)]
pub(super) struct FileWatch {
    known: BTreeMap<PathBuf, Sight>,
}

impl FileWatch {
    /// Watches the files of a configuration, and those that it names, as they are now.
    pub(super) fn new(files: &[PathBuf], named: &[PathBuf]) -> Self {
        let mut watch = Self { known: BTreeMap::new() };
        watch.follow(files, named);
        watch
    }

    /// Watches these files from now on. What was known of those that were watched before stays so: they may have changed
    /// again since they were read.
    pub(super) fn follow(&mut self, files: &[PathBuf], named: &[PathBuf]) {
        // Of the main file's folder only the file matters: others write there, logs for example.
        let folders = files.iter().skip(1).filter_map(|file| file.parent());
        let folders = folders.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let paths = files.iter().chain(named).map(PathBuf::as_path).chain(folders);
        let before = std::mem::take(&mut self.known);
        let known = |path: &Path| before.get(path).copied().unwrap_or_else(|| sight(path));
        self.known = paths.map(|path| (path.to_owned(), known(path))).collect();
    }

    /// Takes what is there now as known.
    pub(super) fn note(&mut self) {
        self.known = self.look();
    }

    /// Waits for a change that has come to rest.
    pub(super) async fn changed(&mut self) {
        let mut last = self.known.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.look();
            if now != self.known && now == last {
                return;
            }
            last = now;
        }
    }

    fn look(&self) -> BTreeMap<PathBuf, Sight> {
        self.known.keys().map(|path| (path.clone(), sight(path))).collect()
    }
}

fn sight(path: &Path) -> Sight {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_while_the_files_are_read_is_noticed() {
        let path = std::env::temp_dir().join(format!("tenfold-watch-{}", std::process::id()));
        std::fs::write(&path, "a").expect("a file");
        let files = [path.clone()];
        let mut watch = FileWatch::new(&files, &[]);
        watch.note();
        // It is read here, and changes before what was read is served.
        std::fs::write(&path, "another").expect("a change");
        watch.follow(&files, &[]);
        let noticed = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await;
        std::fs::remove_file(&path).expect("the file is there");
        assert_eq!(noticed, Ok(()));
    }
}
