//! The segment that is being written: records wait in a buffer, are written together, and count only then.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::format::{self, ChunkPlace, Contents, HEADER_BYTES, Header, IndexEntry, Kind, padded};
use super::segment::Segment;

/// A buffer is written when it has so many bytes, or nothing else waits.
const BUFFER_BYTES: usize = 512 * 1024;
/// What it has room for without growing: also the record that made it due.
const BUFFER_ROOM: usize = BUFFER_BYTES + format::INLINE_BYTES_MAX as usize + 64 * 1024;

/// A segment with room, and what it holds so far.
#[derive(Debug)]
pub(super) struct Active {
    segment: Arc<Segment>,
    /// Where the buffer will be.
    written: u64,
    buffer: Vec<u8>,
    contents: Contents,
    bytes_max: u64,
}

impl Active {
    pub(super) fn create(folder: &Path, number: u32, bytes_max: u64) -> io::Result<Self> {
        let segment = Arc::new(Segment::create(folder, number)?);
        let written = HEADER_BYTES as u64;
        let buffer = Vec::with_capacity(BUFFER_ROOM);
        Ok(Self { segment, written, buffer, contents: Contents::default(), bytes_max })
    }

    /// One that refuses every write.
    #[cfg(test)]
    pub(super) fn on_a_full_disk() -> Self {
        let segment = Arc::new(Segment::on_a_full_disk());
        let (written, bytes_max) = (HEADER_BYTES as u64, 1024 * 1024);
        Self { segment, written, buffer: Vec::new(), contents: Contents::default(), bytes_max }
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Bytes of the file, once the buffer is written.
    pub(super) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether a record fits in, with the index that has to follow, in which it takes so many bytes beside those of each.
    pub(super) fn has_room(&self, record_bytes: u64, entry_bytes: usize) -> bool {
        let index = padded(HEADER_BYTES as u64 + self.contents.encoded_bytes + 64 + entry_bytes as u64);
        self.bytes() + record_bytes + index + HEADER_BYTES as u64 <= self.bytes_max
    }

    pub(super) fn is_due(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES
    }

    /// Adds a record to the buffer, and says where it will be, and how long it is.
    pub(super) fn add(&mut self, header: Header, head: &[u8], body: &[&[u8]]) -> (u32, u32) {
        let offset = self.bytes();
        format::write_record(&mut self.buffer, self.segment.secret, header, head, body);
        (offset as u32, (self.bytes() - offset) as u32)
    }

    /// Notes what was added last in the index.
    pub(super) fn note(&mut self, entry: IndexEntry) {
        self.segment.marks.note(&entry.marks);
        self.contents.add(entry);
    }

    pub(super) fn note_forgotten(&mut self, places: &[ChunkPlace]) {
        self.contents.forget(places);
    }

    /// Writes the buffer. After an error the segment is as it was before, as far as the disk allows, and may not be used.
    pub(super) fn flush(&mut self) -> io::Result<u64> {
        let count = self.buffer.len() as u64;
        if count > 0 {
            let outcome = self.segment.write_at(&self.buffer, self.written);
            if outcome.is_err() {
                let _ = self.segment.cut_at(self.written);
            }
            outcome?;
            self.written += count;
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_ROOM);
        }
        Ok(count)
    }

    /// Writes the index behind the records. Without one, the next start has to look at every record.
    pub(super) fn seal(&mut self) -> io::Result<u64> {
        self.segment.marks.seal();
        self.flush()?;
        let (begin, index) = (self.written, self.contents.encode());
        self.add(Header::new(Kind::Index), &index, &[]);
        self.add(Header { whole_bytes: begin, ..Header::new(Kind::Trailer) }, &[], &[]);
        self.flush()?;
        Ok(self.written)
    }
}
