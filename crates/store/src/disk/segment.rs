//! A file of records, which is written once from the beginning to the end and then only read, until it is removed as a whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::DiskError;
use super::format::{self, HEADER_BYTES, Header, Kind, VERSION};
use super::marks::Marks;

const SUFFIX: &str = "segment";

/// An open segment. Whoever holds it can read from it, even when it has been removed meanwhile.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) number: u32,
    pub(super) secret: u64,
    pub(super) marks: Marks,
    path: PathBuf,
    file: File,
}

/// A chunk of a body on disk.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(super) segment: std::sync::Arc<Segment>,
    pub(super) offset: u32,
    /// Of the chunk alone, without its header.
    pub(super) bytes: u32,
    pub(super) body_version: u64,
    /// Its place among the body's chunks.
    pub(crate) index: u32,
}

impl Segment {
    /// Makes the file of a segment, with its beginning.
    pub(super) fn create(folder: &Path, number: u32) -> io::Result<Self> {
        use std::hash::BuildHasher;
        // Keys drawn from the system's randomness, and a hash of them that nobody can tell.
        let secret = std::hash::RandomState::new().hash_one(number);
        let path = path_of(folder, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let mut beginning = Vec::new();
        let header = Header { chunk: VERSION, version: u64::from(number), ..Header::new(Kind::Beginning) };
        format::write_record(&mut beginning, secret, header, &[], &[]);
        let segment = Self { number, secret, marks: Marks::new(), path, file };
        if let Err(error) = segment.file.write_all_at(&beginning, 0) {
            segment.remove();
            return Err(error);
        }
        Ok(segment)
    }

    /// Opens what an earlier process wrote; `None` when it is no segment of this version.
    pub(super) fn open(path: &Path, number: u32) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let mut beginning = [0; HEADER_BYTES];
        match file.read_exact_at(&mut beginning, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome?,
        }
        let header = Header::decode(&beginning, None).filter(|header| {
            header.kind == Kind::Beginning && header.chunk == VERSION && header.version == u64::from(number)
        });
        let secret = header.and(format::secret_of(&beginning));
        Ok(secret.map(|secret| Self { number, secret, marks: Marks::new(), path: path.to_owned(), file }))
    }

    /// One that refuses every write.
    #[cfg(test)]
    pub(super) fn on_a_full_disk() -> Self {
        let file = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        Self { number: 1, secret: 1, marks: Marks::new(), path: PathBuf::new(), file }
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Cuts off what follows a place, so that a write which failed half-way leaves nothing behind.
    pub(super) fn cut_at(&self, offset: u64) -> io::Result<()> {
        self.file.set_len(offset)
    }

    pub(super) fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    /// As much as there is, up to so many bytes.
    pub(super) fn read_up_to(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    /// Removes the file; readers that hold it go on.
    pub(super) fn remove(&self) {
        // What cannot be removed now is found again at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Chunk {
    /// Reads the chunk, and proves that it is the one that was meant.
    pub(super) fn read(&self) -> Result<Bytes, DiskError> {
        let whole = HEADER_BYTES + self.bytes as usize;
        let buffer = self.segment.read_at(u64::from(self.offset), whole)?;
        let record = format::read_record(&buffer, self.segment.secret)?;
        let Header { kind, chunk, version, .. } = record.header;
        if kind != Kind::Chunk || chunk != self.index || version != self.body_version {
            return Err(DiskError::Corrupt("chunk of another body"));
        }
        if record.body.len() != self.bytes as usize {
            return Err(DiskError::Corrupt("length"));
        }
        Ok(Bytes::from(buffer).slice(HEADER_BYTES..))
    }
}

/// Segments in a folder, by their numbers in falling age.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|suffix| suffix == SUFFIX);
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number.filter(|_| is_segment) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn path_of(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:010}.{SUFFIX}"))
}
