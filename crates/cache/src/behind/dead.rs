//! Dead letters: writes that the sink will not take, kept on disk until somebody has looked at them.
//!
//! One file of records, in the form of the journal, synced before a write leaves the journal. So after a crash a write may be in
//! both, and never in neither; the same write is kept once. When the file is full the writes stay in the journal.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::journal::Damage;
use super::ledger::Dead;
use super::record::{BEGINNING_BYTES, Beginning, Kind, Record, decode_dead, encode, encode_dead};
use super::scan::{End, scan};
use super::sink::Write;
use super::version::Version;

const NAME: &str = "dead-letters";
const UNNAMED: &str = "dead-letters.new";
const DAMAGED: &str = "dead-letters.damaged";
/// Of a reason; the rest of it is cut off.
const REASON_BYTES_MAX: usize = 1024;

/// A write that the sink did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What should have been written.
    pub write: Write,
    /// What the sink said.
    pub reason: String,
}

#[derive(Debug)]
pub(super) struct DeadLetters<F> {
    file: Option<F>,
    secret: u64,
    bytes: u64,
    bytes_max: u64,
    versions: HashSet<Version>,
}

impl<F: DiskFile> DeadLetters<F> {
    /// Reads what is there; a file that is damaged is set aside, and what is whole of it is kept.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, bytes_max: u64, secret: u64) -> io::Result<(Self, Vec<Damage>)> {
        let mut dead = Self { file: None, secret, bytes: 0, bytes_max, versions: HashSet::new() };
        let (letters, damage) = read(disk)?;
        dead.versions = letters.iter().map(|letter| letter.write.version).collect();
        if !damage.is_empty() {
            let whole = disk.read(NAME)?;
            let mut copy = disk.create(DAMAGED)?;
            copy.write_at(0, &whole)?;
            copy.sync()?;
        }
        // Written anew, it ends where its last letter does.
        if !letters.is_empty() || !damage.is_empty() {
            dead.rewrite(disk, &letters)?;
        }
        Ok((dead, damage))
    }

    /// Writes letters down, and returns once they last.
    ///
    /// # Errors
    /// When there is no room for them, or the disk did not take them. Then none of them counts.
    pub(super) fn append<D: Disk<File = F>>(&mut self, disk: &D, letters: &[Dead]) -> io::Result<()> {
        // Before it is told which of them are there: a removal that failed may have been done.
        if self.file.is_none() {
            let (before, _) = read(disk)?;
            self.rewrite(disk, &before)?;
        }
        let fresh: Vec<_> = letters.iter().filter(|dead| !self.versions.contains(&dead.write.version)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let Some(mut file) = self.file.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let bytes = self.encode(fresh.iter().map(|dead| (&dead.write, dead.reason.as_str())), self.bytes);
        if self.bytes + bytes.len() as u64 > self.bytes_max {
            self.file = Some(file);
            return Err(io::Error::other("the dead letters are full"));
        }
        // After a failure the file is written anew before it is used again.
        file.write_at(self.bytes, &bytes)?;
        file.sync()?;
        self.bytes += bytes.len() as u64;
        self.versions.extend(fresh.iter().map(|dead| dead.write.version));
        self.file = Some(file);
        Ok(())
    }

    /// Forgets some of them: how many were there.
    pub(super) fn remove<D: Disk<File = F>>(&mut self, disk: &D, gone: &HashSet<Version>) -> io::Result<usize> {
        let (mut letters, _) = read(disk)?;
        let before = letters.len();
        letters.retain(|letter| !gone.contains(&letter.write.version));
        let removed = before - letters.len();
        self.rewrite(disk, &letters).map(|()| removed)
    }

    fn rewrite<D: Disk<File = F>>(&mut self, disk: &D, letters: &[DeadLetter]) -> io::Result<()> {
        self.file = None;
        let mut file = disk.create(UNNAMED)?;
        let beginning = Beginning { number: 0, before_bytes: 0, secret: self.secret, floor: Version::ZERO };
        let mut bytes = beginning.encode();
        let letters_of = letters.iter().map(|letter| (&letter.write, letter.reason.as_str()));
        bytes.extend(self.encode(letters_of, BEGINNING_BYTES as u64));
        file.write_at(0, &bytes)?;
        file.sync()?;
        disk.rename(UNNAMED, NAME)?;
        disk.sync_names()?;
        self.bytes = bytes.len() as u64;
        self.versions = letters.iter().map(|letter| letter.write.version).collect();
        self.file = Some(file);
        Ok(())
    }

    fn encode<'l>(&self, letters: impl Iterator<Item = (&'l Write, &'l str)>, synced: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (write, reason) in letters {
            let kind = if write.value.is_some() { Kind::DeadPut } else { Kind::DeadRemove };
            let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
            let value = encode_dead(reason, write.value.as_deref().unwrap_or_default());
            let record = Record { kind, version: write.version, synced, key: write.key.clone(), value };
            encode(&record, self.secret, &mut bytes);
        }
        bytes
    }

    pub(super) fn count(&self) -> usize {
        self.versions.len()
    }
}

/// All of them, in the order in which they came.
pub(super) fn read<D: Disk>(disk: &D) -> io::Result<(Vec<DeadLetter>, Vec<Damage>)> {
    let file = match disk.read(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(error),
    };
    let damaged = |offset, bytes, write| Damage { file: NAME.to_owned(), offset, bytes, write };
    let Some((beginning, is_whole)) = Beginning::decode(&file) else {
        return Ok((Vec::new(), vec![damaged(0, file.len() as u64, None)]));
    };
    let found = scan(&file, beginning.secret, End::Open);
    let mut damage: Vec<_> = found.damage.into_iter().map(|gap| damaged(gap.at, gap.bytes, gap.named)).collect();
    if !is_whole {
        damage.push(damaged(0, BEGINNING_BYTES as u64, None));
    }
    let letters = found.records.into_iter().filter_map(|record| {
        let (reason, value) = decode_dead(&record.value)?;
        let value = (record.kind == Kind::DeadPut).then(|| Bytes::copy_from_slice(&value));
        let write = Write { key: Bytes::copy_from_slice(&record.key), version: record.version, value };
        Some(DeadLetter { write, reason })
    });
    Ok((letters.collect(), damage))
}

#[cfg(test)]
mod tests {
    use super::super::disk::Folder;
    use super::*;

    fn dead(version: u128, value: Option<&'static str>) -> Dead {
        let write = Write { key: "k".into(), version: Version::from_u128(version), value: value.map(Bytes::from) };
        Dead { write, reason: format!("reason {version}") }
    }

    fn versions(disk: &Folder) -> Vec<u128> {
        read(disk).unwrap().0.iter().map(|letter| letter.write.version.as_u128()).collect()
    }

    #[test]
    fn letters_are_kept_once_and_until_they_are_removed() {
        let folder = testkit::TempDir::new().unwrap();
        let disk = Folder::open(folder.path()).unwrap().unwrap();
        let (mut letters, damage) = DeadLetters::open(&disk, 10_000, 5).unwrap();
        assert_eq!(damage, []);
        letters.append(&disk, &[dead(1, Some("a")), dead(2, None)]).unwrap();
        letters.append(&disk, &[dead(2, None), dead(3, Some(""))]).unwrap();
        assert_eq!((versions(&disk), letters.count()), (vec![1, 2, 3], 3));
        let (mut letters, _) = DeadLetters::open(&disk, 10_000, 6).unwrap();
        letters.append(&disk, &[dead(3, Some(""))]).unwrap();
        let found = read(&disk).unwrap().0;
        assert_eq!(found[1], DeadLetter { write: dead(2, None).write, reason: "reason 2".into() });
        assert_eq!(found[2].write.value, Some(Bytes::new()));
        letters.remove(&disk, &[Version::from_u128(1), Version::from_u128(3)].into()).unwrap();
        assert_eq!((versions(&disk), letters.count()), (vec![2], 1));
    }

    #[test]
    fn full_letters_take_no_more() {
        let folder = testkit::TempDir::new().unwrap();
        let disk = Folder::open(folder.path()).unwrap().unwrap();
        let (mut letters, _) = DeadLetters::open(&disk, 239, 5).unwrap();
        letters.append(&disk, &[dead(1, Some("a"))]).unwrap();
        assert!(letters.append(&disk, &[dead(2, Some("b"))]).is_err());
        assert_eq!(versions(&disk), [1]);
    }

    #[test]
    fn damage_is_named_and_a_torn_end_is_cut_off() {
        let folder = testkit::TempDir::new().unwrap();
        let disk = Folder::open(folder.path()).unwrap().unwrap();
        let (mut letters, _) = DeadLetters::open(&disk, 10_000, 5).unwrap();
        for version in 1..=3 {
            letters.append(&disk, &[dead(version, Some("value"))]).unwrap();
        }
        let path = folder.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        let length = bytes.len();
        bytes[BEGINNING_BYTES + 52] ^= 1;
        bytes.truncate(length - 3);
        std::fs::write(&path, &bytes).unwrap();
        let (letters, damage) = DeadLetters::open(&disk, 10_000, 6).unwrap();
        assert_eq!((versions(&disk), letters.count()), (vec![2], 1));
        assert_eq!(damage.len(), 1);
        assert_eq!(damage[0].write, Some(("k".into(), Version::from_u128(1))));
        assert!(folder.path().join(DAMAGED).exists());
    }
}
