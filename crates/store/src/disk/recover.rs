//! What a start finds on disk.
//!
//! A segment that was sealed has an index at its end, which is read alone. The one that was being written when the process ended has
//! none, and one whose index is damaged is treated alike: its records are looked at one by one. Behind a record that is
//! damaged the next one is searched for, at each place where one may begin. Bodies are not looked at here: their checksums are
//! compared whenever they are read.

use std::collections::HashSet;
use std::path::Path;

use super::DiskError;
use super::format::{self, ChunkPlace, Contents, HEADER_BYTES, Header, IndexEntry, Kind, ObjectHead};
use super::index::{Index, Place};
use super::segment::{self, Segment};
use crate::key::KeyHasher;

/// Bytes that are read at once while records are looked at.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Segments of an earlier process, the oldest first, each with the bytes of its file.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) segments: Vec<(Segment, u64)>,
    /// The highest number of a segment, whatever became of it.
    pub(super) number_max: u32,
    pub(super) version_max: u64,
}

/// Reads what is in the folder into the index.
pub(super) fn recover(folder: &Path, index: &Index, hasher: &KeyHasher) -> Result<Recovered, DiskError> {
    let mut recovered = Recovered::default();
    let mut forgotten: HashSet<(u32, u32)> = HashSet::new();
    for (number, path) in segment::list(folder)? {
        recovered.number_max = recovered.number_max.max(number);
        let Some(segment) = Segment::open(&path, number)? else {
            tracing::warn!(path = %path.display(), "store: a file is no segment of this version, and is removed");
            let _ = std::fs::remove_file(&path);
            continue;
        };
        let bytes = segment.file_bytes()?;
        let contents = match sealed(&segment, bytes) {
            Some(contents) => contents,
            None => scan(&segment, bytes)?,
        };
        for entry in &contents.objects {
            let IndexEntry { offset, bytes, version, ref key, ref marks } = *entry;
            segment.marks.note(marks);
            recovered.version_max = recovered.version_max.max(version);
            index.restore(hasher.key(key).hash(), Place { version, segment: number, offset, bytes });
        }
        forgotten.extend(contents.forgotten.iter().map(|place| (place.segment, place.offset)));
        segment.marks.seal();
        recovered.segments.push((segment, bytes));
    }
    if !forgotten.is_empty() {
        index.retain(|place| !forgotten.contains(&(place.segment, place.offset)));
    }
    Ok(recovered)
}

/// The index at the end of a segment, if it is there and whole.
fn sealed(segment: &Segment, bytes: u64) -> Option<Contents> {
    let trailer_at = bytes.checked_sub(HEADER_BYTES as u64)?;
    let trailer = segment.read_at(trailer_at, HEADER_BYTES).ok()?;
    let trailer = Header::decode(&trailer, Some(segment.secret)).filter(|header| header.kind == Kind::Trailer)?;
    let length = trailer_at.checked_sub(trailer.whole_bytes)?;
    let record = segment.read_at(trailer.whole_bytes, length as usize).ok()?;
    let record =
        format::read_record(&record, segment.secret).ok().filter(|record| record.header.kind == Kind::Index)?;
    Contents::decode(record.head)
}

/// Looks at every record.
fn scan(segment: &Segment, file_bytes: u64) -> Result<Contents, DiskError> {
    let mut contents = Contents::default();
    let mut window = Window { segment, start: 0, bytes: Vec::new() };
    let mut at = HEADER_BYTES as u64;
    while at + HEADER_BYTES as u64 <= file_bytes {
        let header = Header::decode(window.read(at, HEADER_BYTES)?, Some(segment.secret));
        let Some(header) = header.filter(|header| at + used_bytes(header) <= file_bytes) else {
            at += format::ALIGNMENT as u64;
            continue;
        };
        let head = window.read(at + HEADER_BYTES as u64, head_bytes(&header))?;
        if crc32c::crc32c(head) == header.head_checksum || head.is_empty() {
            note(&mut contents, &header, head, at);
        }
        at += header.record_bytes();
    }
    Ok(contents)
}

/// Bytes of a head that is to be looked at.
fn head_bytes(header: &Header) -> usize {
    match header.kind {
        Kind::Object | Kind::Large | Kind::Forget => header.head_bytes as usize,
        Kind::Beginning | Kind::Chunk | Kind::Index | Kind::Trailer => 0,
    }
}

/// Bytes of a record without the zeros that follow it.
fn used_bytes(header: &Header) -> u64 {
    HEADER_BYTES as u64 + u64::from(header.head_bytes) + u64::from(header.body_bytes)
}

fn note(contents: &mut Contents, header: &Header, head: &[u8], at: u64) {
    match header.kind {
        Kind::Object | Kind::Large => {
            if let Some(head) = ObjectHead::decode(head) {
                let bytes = used_bytes(header) as u32;
                let (version, key, marks) = (header.version, head.key.into(), head.marks.into());
                contents.add(IndexEntry { offset: at as u32, bytes, version, key, marks });
            }
        }
        Kind::Forget => contents.forget(&format::decode_places(head).unwrap_or_default()),
        Kind::Beginning | Kind::Chunk | Kind::Index | Kind::Trailer => {}
    }
}

/// A part of the file that is in memory.
struct Window<'a> {
    segment: &'a Segment,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Bytes at a place; fewer only where the file ends.
    fn read(&mut self, at: u64, count: usize) -> Result<&[u8], DiskError> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + count as u64 > end {
            self.bytes = self.segment.read_up_to(at, count.max(WINDOW_BYTES))?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from..self.bytes.len().min(from + count)])
    }
}

/// Removes every segment of a folder. Says whether none is left.
pub(super) fn wipe(folder: &Path) -> bool {
    let Ok(segments) = segment::list(folder) else { return false };
    segments.into_iter().all(|(_, path)| std::fs::remove_file(path).is_ok())
}

/// The places in a list that leads to segments which are there.
pub(super) fn all_there(places: &[ChunkPlace], is_there: impl Fn(u32) -> bool) -> bool {
    places.iter().all(|place| is_there(place.segment))
}
