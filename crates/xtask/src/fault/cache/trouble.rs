//! What goes wrong: damage to files, and disks without room.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::fault::subject::Subject;

/// Numbers from a seed (SplitMix64).
pub(in crate::fault) struct Random(u64);

impl Random {
    pub(in crate::fault) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::fault) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// What is done to the files between a kill and the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    None,
    /// Some bits of segments are flipped.
    Flips,
    /// The latest segment ends early, within a record.
    Torn,
    /// A page of a segment is all zeros.
    Hole,
    /// A bit of the journal of purges is flipped.
    Journal,
}

impl Damage {
    pub(super) fn of_round(round: u32) -> Self {
        match round % 10 {
            1 | 4 | 6 => Self::Flips,
            2 | 7 => Self::Torn,
            3 | 8 => Self::Hole,
            9 => Self::Journal,
            _ => Self::None,
        }
    }

    /// Whether nearly all that was stored has to be there all the same. A journal that cannot be trusted takes everything with it.
    pub(super) fn spares_records(self) -> bool {
        self != Self::Journal
    }

    /// Does it, and says where.
    pub(super) fn apply(self, folder: &Path, random: &mut Random) -> Result<String> {
        let segments = segments(folder)?;
        let pick = |random: &mut Random| segments.get(random.below(segments.len() as u64) as usize).cloned();
        match self {
            Self::None => Ok(String::new()),
            Self::Flips => {
                let mut places = Vec::new();
                for _ in 0..5 {
                    let Some(path) = pick(random) else { continue };
                    places.push(flip(&path, 64, random)?);
                }
                Ok(places.join(", "))
            }
            Self::Torn => {
                let Some(path) = segments.last() else { return Ok(String::new()) };
                let file = OpenOptions::new().write(true).open(path)?;
                let length = file.metadata()?.len();
                let left = length - random.below(length.min(20_000));
                file.set_len(left)?;
                Ok(format!("{} at {left} of {length}", name(path)))
            }
            Self::Hole => {
                let Some(path) = pick(random) else { return Ok(String::new()) };
                let file = OpenOptions::new().write(true).open(&path)?;
                let at = random.below(file.metadata()?.len() / 4096) * 4096 + 4096;
                let length = (file.metadata()?.len().saturating_sub(at)).min(4096);
                file.write_all_at(&vec![0; length as usize], at)?;
                Ok(format!("{} at {at}", name(&path)))
            }
            Self::Journal => flip(&folder.join("purges"), 0, random),
        }
    }
}

/// Flips a bit somewhere behind a place.
fn flip(path: &Path, from: u64, random: &mut Random) -> Result<String> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let at = from + random.below(length.saturating_sub(from));
    let mut byte = [0];
    if file.read_at(&mut byte, at)? == 1 {
        byte[0] ^= 1 << random.below(8);
        file.write_all_at(&byte, at)?;
    }
    Ok(format!("{} at {at} of {length}", name(path)))
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn segments(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "segment") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Starts the program with files that may have 400 KiB at most, until it lifts the limit itself.
pub(super) fn with_small_files(program: &Path, folder: &Path, disk_mib: u64) -> Result<Subject> {
    let mut command = Command::new("sh");
    // Blocks of 512 bytes. The signal is left ignored, so that the write fails and the process goes on.
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 800; exec \"$0\" \"$@\""]).arg(program);
    command.args(["full", &folder.display().to_string(), &disk_mib.to_string()]);
    Subject::spawn(command)
}

/// A file system of its own, unmounted when dropped.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Mounts a file system of 20 MiB in memory; `None` where that is not allowed.
pub(super) fn mount_small(folder: &Path) -> Option<Mounted> {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", "size=20m", "tmpfs"]).arg(folder);
    let mounted = command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success());
    mounted.then(|| Mounted(folder.to_owned()))
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Left mounted it would be in the way of nobody but the folder's removal.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
