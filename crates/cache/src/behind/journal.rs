//! The journal: segments that are written one after the other, and read at a start.
//!
//! A segment is a file `NUMBER.journal`. It is made under another name, synced, and named, so that one that is there is whole; it begins with
//! how much of the segment before it counts, and a version that none before it is above. What is appended counts once it was synced. The
//! newest segment is never removed, for it keeps the versions from beginning anew.
//!
//! **After a write or a sync that failed, the file is not used again.** What the system holds of it, and whether it will last, is unknown from
//! there on, even if a second sync succeeds. It is cut to what is known to last, and the next append begins another segment.
//!
//! `record` has the bytes, `scan` what is made of a file that is damaged.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::record::{BEGINNING_BYTES, Beginning, Kind, Record, decode_versions, encode};
use super::scan::{End, Scan, scan};
use super::sink::Write;
use super::version::Version;

const ENDING: &str = ".journal";
const UNNAMED: &str = "journal.new";
/// In place of how many bytes of a segment count: that is not known, as if it were the last one.
const OPEN: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Journal<D: Disk> {
    disk: D,
    segment_bytes: u64,
    secret: u64,
    /// Segments that are complete, the oldest first, with the bytes that count.
    sealed: VecDeque<(u64, u64)>,
    active: Option<Active<D::File>>,
    next: u64,
    damaged: BTreeSet<u64>,
    /// The segment of an earlier start of which nobody knows how much lasts.
    loose: Option<u64>,
    syncs: u64,
}

#[derive(Debug)]
struct Active<F> {
    number: u64,
    file: F,
    written: u64,
    synced: u64,
}

/// A place of the journal, or of the dead letters, that is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The name of the file.
    pub file: String,
    /// Where it is, in bytes.
    pub offset: u64,
    /// How many bytes are lost.
    pub bytes: u64,
    /// The key and version of the write that is lost, if they can be told.
    pub write: Option<(Bytes, Version)>,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments of the journal.
    pub segments: usize,
    /// Writes that the sink may not have, one for each key.
    pub dirty: usize,
    /// Bytes at the very end that were being written when the process or the machine ended. Nobody was told that they last.
    pub torn_bytes: u64,
    /// What is damaged. Files with damage are kept, as `.damaged`, when they are no longer needed.
    pub damage: Vec<Damage>,
}

/// What the segments of earlier starts hold.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The latest write of each key, in the order of versions, with its segment.
    pub(super) writes: Vec<(Write, u64)>,
    pub(super) floor: Version,
    /// All segments that are there.
    pub(super) segments: Vec<u64>,
    pub(super) report: Recovery,
}

fn name_of(number: u64) -> String {
    format!("{number:016}{ENDING}")
}

impl<D: Disk> Journal<D> {
    /// Reads what is there. `secret` is drawn at random.
    pub(super) fn open(disk: D, segment_bytes: u64, secret: u64) -> io::Result<(Self, Recovered)> {
        let names = disk.list()?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(ENDING)?.parse().ok()).collect();
        numbers.sort_unstable();
        let mut journal = Self {
            disk,
            segment_bytes,
            secret,
            sealed: VecDeque::new(),
            active: None,
            next: numbers.last().map_or(1, |last| last + 1),
            damaged: BTreeSet::new(),
            loose: None,
            syncs: 0,
        };
        let mut reading = Reading::default();
        let mut ahead = None;
        for (index, &number) in numbers.iter().enumerate() {
            let file = ahead.take().map_or_else(|| journal.disk.read(&name_of(number)), Ok)?;
            let next = numbers.get(index + 1).copied();
            let mut end = End::Open;
            if let Some(next) = next {
                let after = journal.disk.read(&name_of(next))?;
                let beginning = Beginning::decode(&after).filter(|_| next == number + 1);
                end = match beginning.map(|(beginning, _)| beginning.before_bytes) {
                    Some(OPEN) => End::Open,
                    known => End::Known(known.unwrap_or(file.len() as u64)),
                };
                ahead = Some(after);
            }
            let bytes = reading.segment(number, &file, end);
            let file = file.slice(..(bytes as usize).min(file.len()));
            if next.is_none() && journal.keep(number, &file).is_err() {
                journal.loose = Some(number);
            }
            journal.sealed.push_back((number, bytes));
            for missing in number + 1..next.unwrap_or(number + 1) {
                reading.damage(missing, 0, 0, None);
            }
        }
        journal.damaged = std::mem::take(&mut reading.damaged);
        Ok((journal, reading.done(numbers)))
    }

    /// Has the last segment last: a killed process may have left some of it in memory alone, and from here on all of it counts. As a sync of
    /// it may have failed before, which a second one does not tell, it is copied. Where there is no room for that, the segment stays one
    /// whose end is not known.
    fn keep(&self, number: u64, file: &[u8]) -> io::Result<()> {
        let mut copy = self.disk.create(UNNAMED)?;
        copy.write_at(0, file)?;
        copy.sync()?;
        self.disk.rename(UNNAMED, &name_of(number))?;
        self.disk.sync_names()
    }

    /// Writes records behind the others, and tells their segment. If they are to last, they do when it returns.
    ///
    /// # Errors
    /// When the disk did not take them, or nobody knows whether it did.
    pub(super) fn append(&mut self, mut records: Vec<Record>, floor: Version, lasting: bool) -> io::Result<u64> {
        let mut active = match self.active.take() {
            Some(active) if active.written < self.segment_bytes => active,
            Some(mut full) => {
                let outcome = if full.synced < full.written { self.sync(&mut full) } else { Ok(()) };
                self.seal(full, outcome.is_err());
                outcome?;
                self.begin(floor)?
            }
            None => self.begin(floor)?,
        };
        let mut bytes = Vec::new();
        for record in &mut records {
            record.synced = active.synced;
            encode(record, self.secret, &mut bytes);
        }
        let written = active.file.write_at(active.written, &bytes);
        let outcome = written.and_then(|()| {
            active.written += bytes.len() as u64;
            if lasting { self.sync(&mut active) } else { Ok(()) }
        });
        let number = active.number;
        match outcome {
            Ok(()) => {
                self.active = Some(active);
                Ok(number)
            }
            Err(error) => {
                self.seal(active, true);
                Err(error)
            }
        }
    }

    fn sync(&mut self, active: &mut Active<D::File>) -> io::Result<()> {
        self.syncs += 1;
        active.file.sync()?;
        active.synced = active.written;
        Ok(())
    }

    fn seal(&mut self, mut active: Active<D::File>, failed: bool) {
        if failed {
            // If the disk does not do even that, the next segment says where this one ends.
            let _ = active.file.truncate(active.synced);
        }
        self.sealed.push_back((active.number, active.synced));
    }

    fn begin(&mut self, floor: Version) -> io::Result<Active<D::File>> {
        let number = self.next;
        let before_bytes = match self.sealed.back() {
            Some((before, _)) if self.loose == Some(*before) => OPEN,
            before => before.map_or(0, |(_, bytes)| *bytes),
        };
        let beginning = Beginning { number, before_bytes, secret: self.secret, floor };
        let mut file = self.disk.create(UNNAMED)?;
        file.write_at(0, &beginning.encode())?;
        file.sync()?;
        self.disk.rename(UNNAMED, &name_of(number))?;
        self.disk.sync_names()?;
        self.next = number + 1;
        Ok(Active { number, file, written: BEGINNING_BYTES as u64, synced: BEGINNING_BYTES as u64 })
    }

    /// Removes the oldest segment, or sets it aside if it is damaged.
    pub(super) fn remove(&mut self, number: u64) -> io::Result<()> {
        let name = name_of(number);
        let outcome = if self.damaged.contains(&number) {
            self.disk.rename(&name, &format!("{number:016}.damaged"))
        } else {
            self.disk.remove(&name)
        };
        // Gone already, by a removal that was not known to last.
        outcome.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        self.damaged.remove(&number);
        self.sealed.retain(|(sealed, _)| *sealed != number);
        // Or a later one could be gone after a crash, and this one be there.
        self.disk.sync_names()
    }

    /// Says that everything before this lasts and was written in order.
    pub(super) fn close(&mut self, floor: Version) -> io::Result<()> {
        self.append(vec![plain(Kind::Closed, floor, Bytes::new())], floor, true).map(|_| ())
    }

    /// The number of the newest segment.
    pub(super) fn newest(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.number).or(self.sealed.back().map(|(number, _)| *number))
    }

    /// The numbers of all segments.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.sealed.iter().map(|(number, _)| *number).chain(self.active.as_ref().map(|active| active.number))
    }

    pub(super) fn bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|(_, bytes)| bytes).sum();
        sealed + self.active.as_ref().map_or(0, |active| active.written)
    }

    pub(super) fn segments(&self) -> usize {
        self.sealed.len() + usize::from(self.active.is_some())
    }

    pub(super) fn syncs(&self) -> u64 {
        self.syncs
    }

    pub(super) fn disk(&self) -> &D {
        &self.disk
    }
}

/// A record without a key.
pub(super) fn plain(kind: Kind, version: Version, value: Bytes) -> Record {
    Record { kind, version, synced: 0, key: Bytes::new(), value }
}

/// The record of a write.
pub(super) fn record_of(write: &Write) -> Record {
    let kind = if write.value.is_some() { Kind::Put } else { Kind::Remove };
    let value = write.value.clone().unwrap_or_default();
    Record { kind, version: write.version, synced: 0, key: write.key.clone(), value }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    latest: HashMap<Bytes, (Write, u64)>,
    settled: HashSet<Version>,
    damaged: BTreeSet<u64>,
    recovered: Recovered,
}

impl Reading {
    /// Reads a segment, and tells how many of its bytes count.
    fn segment(&mut self, number: u64, file: &Bytes, end: End) -> u64 {
        let Some((beginning, is_whole)) = Beginning::decode(file) else {
            self.damage(number, 0, file.len() as u64, None);
            return file.len() as u64;
        };
        if !is_whole {
            self.damage(number, 0, BEGINNING_BYTES as u64, None);
        }
        self.recovered.floor = self.recovered.floor.max(beginning.floor);
        let Scan { records, damage, end, torn_bytes } = scan(file, beginning.secret, end);
        self.recovered.report.torn_bytes += torn_bytes;
        if torn_bytes > 0 {
            let file = name_of(number);
            tracing::warn!(file, offset = end, bytes = torn_bytes, "write-behind: what was being written is cut off");
        }
        for gap in damage {
            self.damage(number, gap.at, gap.bytes, gap.named);
        }
        for record in records {
            self.record(record, number);
        }
        end
    }

    fn record(&mut self, record: Record, segment: u64) {
        let Record { kind, version, key, value, .. } = record;
        self.recovered.floor = self.recovered.floor.max(version);
        let value = match kind {
            Kind::Put => Some(value),
            Kind::Remove => None,
            Kind::Settled => {
                self.settled.extend(decode_versions(&value));
                return;
            }
            Kind::Closed | Kind::DeadPut | Kind::DeadRemove => return,
        };
        // The record is a part of the whole file, which it would keep in memory.
        let key = Bytes::copy_from_slice(&key);
        let value = value.map(|value| Bytes::copy_from_slice(&value));
        // It was a dead letter, and is to be delivered again: what was moved always stands before the record that settles it.
        self.settled.remove(&version);
        let latest = self.latest.get(&key);
        // The same version again is one that was moved here. An older one behind one that is settled is a dead letter that came back.
        if latest.is_none_or(|(latest, _)| latest.version <= version || self.settled.contains(&latest.version)) {
            self.latest.insert(key.clone(), (Write { key, version, value }, segment));
        }
    }

    fn damage(&mut self, number: u64, offset: u64, bytes: u64, write: Option<(Bytes, Version)>) {
        self.damaged.insert(number);
        let write = write.map(|(key, version)| (Bytes::copy_from_slice(&key), version));
        let file = name_of(number);
        tracing::error!(file, offset, bytes, ?write, "write-behind: the journal is damaged");
        self.recovered.report.damage.push(Damage { file, offset, bytes, write });
    }

    fn done(self, segments: Vec<u64>) -> Recovered {
        let mut recovered = self.recovered;
        recovered.writes =
            self.latest.into_values().filter(|(write, _)| !self.settled.contains(&write.version)).collect();
        recovered.writes.sort_unstable_by_key(|(write, _)| write.version);
        recovered.report.segments = segments.len();
        recovered.segments = segments;
        recovered.report.dirty = recovered.writes.len();
        recovered
    }
}
