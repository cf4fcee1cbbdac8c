//! What a loss of power may do to the journal of a process that was killed: anything to what was not synced, and nothing to the rest.
//!
//! The kill leaves everything that was written. What is known to have been synced is what a later record says was, and what was acknowledged
//! where the outside could see it. Behind that, the last segment is cut, holed or filled with noise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fault::cache::Random;

const BEGINNING_BYTES: usize = 112;
const RECORD_BYTES: usize = 48;

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing: the process was killed, and the machine went on.
    None,
    /// The file ends somewhere in it.
    Cut,
    /// A part of it is zeros, and what follows is there.
    Hole,
    /// A part of it is what was there before.
    Noise,
}

impl Loss {
    pub(super) fn of_round(round: u32) -> Self {
        [Self::None, Self::Cut, Self::Hole, Self::Noise][(round % 4) as usize]
    }

    /// Does it, to some of what was not synced, and tells how many bytes that was.
    pub(super) fn apply(self, folder: &Path, acknowledged: &BTreeMap<String, u64>, random: &mut Random) -> Result<u64> {
        let Some(path) = last_segment(folder)? else { return Ok(0) };
        let mut bytes = std::fs::read(&path)?;
        let from = synced(&bytes, acknowledged);
        let loose = bytes.len() - from;
        if loose == 0 || self == Self::None {
            return Ok(0);
        }
        let start = from + random.below(loose as u64) as usize;
        let end = start + 1 + random.below((bytes.len() - start) as u64) as usize;
        match self {
            Self::None => {}
            Self::Cut => bytes.truncate(start),
            Self::Hole => bytes[start..end].fill(0),
            Self::Noise => bytes[start..end].iter_mut().for_each(|byte| *byte = random.below(256) as u8),
        }
        std::fs::write(&path, &bytes)?;
        Ok(loose as u64)
    }
}

fn last_segment(folder: &Path) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "journal") {
            found.push(path);
        }
    }
    Ok(found.into_iter().max())
}

/// How many bytes of a segment a loss of power leaves for sure.
fn synced(bytes: &[u8], acknowledged: &BTreeMap<String, u64>) -> usize {
    let mut synced = BEGINNING_BYTES.min(bytes.len());
    let mut at = synced;
    while let Some(Record { end, synced_before, write }) = record(bytes, at) {
        synced = synced.max(synced_before);
        let is_known = write.is_some_and(|(key, number)| acknowledged.get(&key).is_some_and(|last| number <= *last));
        synced = if is_known { synced.max(end) } else { synced };
        at = end;
    }
    synced.min(bytes.len())
}

/// What is read of a record.
struct Record {
    end: usize,
    /// How many bytes of the file were known to last before it.
    synced_before: usize,
    /// The key and number, if it is a write.
    write: Option<(String, u64)>,
}

fn record(bytes: &[u8], at: usize) -> Option<Record> {
    let head = bytes.get(at..at + RECORD_BYTES).filter(|head| head.starts_with(b"TFWB"))?;
    let key_bytes = usize::from(u16::from_le_bytes(head[6..8].try_into().ok()?));
    let value_bytes = u32::from_le_bytes(head[8..12].try_into().ok()?) as usize;
    let synced_before = u64::from_le_bytes(head[32..40].try_into().ok()?) as usize;
    let value_at = at + RECORD_BYTES + key_bytes;
    let end = (value_at + value_bytes).next_multiple_of(8);
    let value = bytes.get(value_at..end)?;
    let write = || {
        let key = std::str::from_utf8(&bytes[at + RECORD_BYTES..value_at]).ok()?;
        let number = value.split(|byte| *byte == b' ').next()?;
        Some((key.to_owned(), std::str::from_utf8(number).ok()?.parse().ok()?))
    };
    Some(Record { end, synced_before, write: (head[4] == 1).then(write).flatten() })
}

/// The size of all segments.
pub(super) fn journal_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
