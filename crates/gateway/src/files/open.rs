//! Opening a file below a root, whatever links lie on the way.
//!
//! The kernel resolves the path by `openat2` with `RESOLVE_BENEATH`: what leads out of the root by a symbolic link or
//! otherwise fails, without a moment between a check and its use. Kernels before 5.6, and sandboxes that hide the call,
//! have the path walked name by name, and follow no link at all.
//!
//! The root itself is opened for each request, so that a link which is turned to another release takes effect at once.
//! With `RESOLVE_CACHED` (Linux 5.12) the kernel says instead of reading a disk that it would have to; that is how a core
//! looks before it asks a thread.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A regular file that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) stat: Stat,
}

/// Why no file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// There is none, or none that may be read.
    Missing,
    /// It is a directory.
    Directory,
    /// The way leads out of the root.
    Outside,
    /// It cannot be told without the disk.
    Later,
    /// The system does not say.
    Failed(Errno),
}

/// What the kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    /// It keeps below a root by itself.
    pub(crate) beneath: bool,
    /// It can say that it would have to read the disk.
    pub(crate) cached: bool,
}

const OPEN_FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);
const OPEN_FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How often a path is tried again that was being renamed while it was resolved.
const RACES_MAX: u32 = 16;

impl Means {
    /// Asks the kernel.
    pub(crate) fn of_kernel() -> Self {
        let try_with = |resolve| rustix::fs::openat2(CWD, "/", OPEN_FOLDER, Mode::empty(), resolve).is_ok();
        Self { beneath: try_with(ResolveFlags::empty()), cached: try_with(ResolveFlags::CACHED) }
    }
}

/// Opens the root. `cached` tells not to read the disk for it.
pub(crate) fn root(path: &Path, means: Means, cached: bool) -> Result<OwnedFd, Missed> {
    let opened = match (cached, means.cached) {
        (true, false) => return Err(Missed::Later),
        (true, true) => rustix::fs::openat2(CWD, path, OPEN_FOLDER, Mode::empty(), ResolveFlags::CACHED),
        (false, _) => rustix::fs::open(path, OPEN_FOLDER, Mode::empty()),
    };
    opened.map_err(|errno| missed(errno, cached))
}

/// Opens a file below the root. The path has been checked: it has no empty names, and none of dots alone.
pub(crate) fn file(root: &OwnedFd, relative: &[u8], means: Means, cached: bool) -> Result<Opened, Missed> {
    let path = OsStr::from_bytes(relative);
    let fd = if means.beneath { beneath(root, path, cached) } else { walk(root, relative) };
    let file = File::from(fd.map_err(|errno| missed(errno, cached))?);
    let stat = rustix::fs::fstat(&file).map_err(Missed::Failed)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Opened { file, stat }),
        FileType::Directory => Err(Missed::Directory),
        // Neither pipes nor devices are files of a site.
        _ => Err(Missed::Missing),
    }
}

fn beneath(root: &OwnedFd, path: &OsStr, cached: bool) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if cached {
        resolve |= ResolveFlags::CACHED;
    }
    let mut races = 0;
    loop {
        match rustix::fs::openat2(root, path, OPEN_FILE, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if !cached && races < RACES_MAX => races += 1,
            opened => return opened,
        }
    }
}

/// Follows no link, for nothing would keep it below the root.
fn walk(root: &OwnedFd, relative: &[u8]) -> Result<OwnedFd, Errno> {
    let (folders, name) = match relative.iter().rposition(|&b| b == b'/') {
        Some(at) => (&relative[..at], &relative[at + 1..]),
        None => (&b""[..], relative),
    };
    let mut folder: Option<OwnedFd> = None;
    for name in folders.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
        let above = folder.as_ref().unwrap_or(root);
        let opened = rustix::fs::openat(above, OsStr::from_bytes(name), OPEN_FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        folder = Some(opened);
    }
    let above = folder.as_ref().unwrap_or(root);
    rustix::fs::openat(above, OsStr::from_bytes(name), OPEN_FILE | OFlags::NOFOLLOW, Mode::empty())
}

/// What an error means for whoever asked for the file.
fn missed(errno: Errno, cached: bool) -> Missed {
    match errno {
        Errno::AGAIN if cached => Missed::Later,
        Errno::XDEV | Errno::LOOP => Missed::Outside,
        // What this process may not read is nobody's business; a name that no file can have has none.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::NAMETOOLONG
        | Errno::ACCESS
        | Errno::PERM
        | Errno::NXIO
        | Errno::INVAL => Missed::Missing,
        errno => Missed::Failed(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder of its own for one test.
    struct Site(std::path::PathBuf);

    impl Site {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tenfold-open-{}-{name}", std::process::id()));
            std::fs::create_dir_all(path.join("root/folder")).unwrap();
            std::fs::write(path.join("secret"), "secret").unwrap();
            std::fs::write(path.join("root/a.txt"), "a").unwrap();
            std::fs::write(path.join("root/folder/b.txt"), "b").unwrap();
            symlink("folder/b.txt", path.join("root/inside")).unwrap();
            symlink("../secret", path.join("root/outside")).unwrap();
            symlink(path.join("secret"), path.join("root/absolute")).unwrap();
            symlink("..", path.join("root/up")).unwrap();
            symlink("loop", path.join("root/loop")).unwrap();
            symlink("/proc/self/root", path.join("root/magic")).unwrap();
            rustix::fs::mknodat(CWD, path.join("root/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            Self(path)
        }

        fn open(&self, relative: &str, means: Means) -> Result<u64, Missed> {
            let root = root(&self.0.join("root"), means, false)?;
            file(&root, relative.as_bytes(), means, false).map(|opened| opened.stat.st_size as u64)
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            // What stays behind is a nuisance and no failure.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn no_link_leads_out() {
        let site = Site::new("links");
        for means in [Means::of_kernel(), Means { beneath: false, cached: false }] {
            let check = |relative: &str, expected: Result<u64, Missed>| {
                assert_eq!(site.open(relative, means), expected, "{relative} {means:?}");
            };
            check("a.txt", Ok(1));
            check("folder/b.txt", Ok(1));
            check("folder", Err(Missed::Directory));
            check("none", Err(Missed::Missing));
            check("a.txt/b", Err(Missed::Missing));
            check("pipe", Err(Missed::Missing));
            check(&"x".repeat(300), Err(Missed::Missing));
            for link in ["outside", "absolute", "loop"] {
                check(link, Err(Missed::Outside));
            }
            for through in ["up/secret", "magic/etc/passwd"] {
                assert!(matches!(site.open(through, means), Err(Missed::Outside | Missed::Missing)), "{through}");
            }
        }
    }

    #[test]
    fn links_that_stay_inside_are_followed_where_the_kernel_keeps_watch() {
        let site = Site::new("inside");
        let means = Means::of_kernel();
        let expected = if means.beneath { Ok(1) } else { Err(Missed::Outside) };
        assert_eq!(site.open("inside", means), expected);
        assert_eq!(site.open("inside", Means { beneath: false, ..means }), Err(Missed::Outside));
    }

    #[test]
    fn what_was_read_is_found_without_the_disk() {
        let site = Site::new("cached");
        let means = Means::of_kernel();
        let path = site.0.join("root");
        let found = root(&path, means, true).and_then(|root| file(&root, b"a.txt", means, true));
        // Whether a file system can say so is its own matter; but it never says that a file is missing.
        assert!(matches!(found, Ok(_) | Err(Missed::Later)), "{found:?}");
        let without = Means { cached: false, ..means };
        assert!(matches!(root(&path, without, true), Err(Missed::Later)));
    }

    #[test]
    fn a_root_that_is_not_there_is_missing() {
        let site = Site::new("rootless");
        let means = Means::of_kernel();
        assert_eq!(root(&site.0.join("nowhere"), means, false).map(drop), Err(Missed::Missing));
        assert_eq!(root(&site.0.join("secret"), means, false).map(drop), Err(Missed::Missing));
    }
}
