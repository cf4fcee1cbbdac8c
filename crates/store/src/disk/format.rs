//! The bytes of a segment, version 2.
//!
//! A segment is a file of records, each of which begins at a multiple of 64 bytes with a header of 64 bytes. All numbers are
//! little-endian; every checksum is CRC-32C.
//!
//! | at | header |
//! |---|---|
//! | 0 | the segment's secret, 8 bytes, drawn when it was made: without it nothing is a header |
//! | 8 | kind, 1 byte; 3 bytes of zeros |
//! | 12 | bytes of the record's head, which follows the header |
//! | 16 | bytes of its body, which follow its head |
//! | 20 | number of the chunk |
//! | 24 | version, 8 bytes; of a chunk that of the body that it belongs to |
//! | 32 | number of the last purge before its fetch began, 8 bytes |
//! | 40 | bytes of the whole object's body, 8 bytes; of a trailer where the index begins |
//! | 48 | checksum of the head |
//! | 52 | checksum of the body |
//! | 56 | 4 bytes of zeros |
//! | 60 | checksum of the header up to here |
//!
//! Kinds: the segment's own beginning; an object with its body; a chunk of a larger body; a large object, whose head lists its
//! chunks; a list of records that are to be forgotten; the index of a segment; and the trailer that says where that begins.
//!
//! The secret is why a body cannot pass for records: whoever may choose bodies does not know it.

use super::DiskError;

/// Where records begin.
pub(super) const ALIGNMENT: usize = 64;
/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 64;
/// The version of all this; what has another one is not read.
pub(super) const VERSION: u32 = 2;
/// Bytes of a body that is written with its object; a longer one is written in chunks.
pub(super) const INLINE_BYTES_MAX: u64 = 256 * 1024;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Beginning = 1,
    Object = 2,
    Chunk = 3,
    Large = 4,
    Forget = 5,
    Index = 6,
    Trailer = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Beginning, Self::Object, Self::Chunk, Self::Large, Self::Forget, Self::Index, Self::Trailer];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) head_bytes: u32,
    pub(super) body_bytes: u32,
    pub(super) chunk: u32,
    pub(super) version: u64,
    pub(super) since: u64,
    pub(super) whole_bytes: u64,
    pub(super) head_checksum: u32,
    pub(super) body_checksum: u32,
}

impl Header {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            head_bytes: 0,
            body_bytes: 0,
            chunk: 0,
            version: 0,
            since: 0,
            whole_bytes: 0,
            head_checksum: 0,
            body_checksum: 0,
        }
    }

    /// Bytes of the record with the zeros that follow it.
    pub(super) fn record_bytes(&self) -> u64 {
        padded(HEADER_BYTES as u64 + u64::from(self.head_bytes) + u64::from(self.body_bytes))
    }

    fn encode(&self, secret: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &secret.to_le_bytes());
        put(8, &[self.kind as u8]);
        put(12, &self.head_bytes.to_le_bytes());
        put(16, &self.body_bytes.to_le_bytes());
        put(20, &self.chunk.to_le_bytes());
        put(24, &self.version.to_le_bytes());
        put(32, &self.since.to_le_bytes());
        put(40, &self.whole_bytes.to_le_bytes());
        put(48, &self.head_checksum.to_le_bytes());
        put(52, &self.body_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` when these bytes are none, whatever they are.
    pub(super) fn decode(bytes: &[u8], secret: Option<u64>) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let checksum = number_at(bytes, 60)?;
        if crc32c::crc32c(&bytes[..60]) != checksum || secret.is_some_and(|secret| Some(secret) != long_at(bytes, 0)) {
            return None;
        }
        Some(Self {
            kind: Kind::from_byte(bytes[8])?,
            head_bytes: number_at(bytes, 12)?,
            body_bytes: number_at(bytes, 16)?,
            chunk: number_at(bytes, 20)?,
            version: long_at(bytes, 24)?,
            since: long_at(bytes, 32)?,
            whole_bytes: long_at(bytes, 40)?,
            head_checksum: number_at(bytes, 48)?,
            body_checksum: number_at(bytes, 52)?,
        })
    }
}

/// Bytes up to the next place where a record may begin.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT as u64)
}

/// The secret in the first bytes of a segment.
pub(super) fn secret_of(beginning: &[u8]) -> Option<u64> {
    long_at(beginning, 0)
}

/// Writes a record behind what is there: header, head, body, zeros. Lengths and checksums are filled in.
pub(super) fn write_record(out: &mut Vec<u8>, secret: u64, mut header: Header, head: &[u8], body: &[&[u8]]) {
    header.head_bytes = head.len() as u32;
    header.body_bytes = body.iter().map(|part| part.len()).sum::<usize>() as u32;
    header.head_checksum = crc32c::crc32c(head);
    header.body_checksum = body.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part));
    out.extend_from_slice(&header.encode(secret));
    out.extend_from_slice(head);
    body.iter().for_each(|part| out.extend_from_slice(part));
    out.resize(padded(out.len() as u64) as usize, 0);
}

/// A record taken apart, with what its checksums say.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) header: Header,
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Reads a whole record.
pub(super) fn read_record(bytes: &[u8], secret: u64) -> Result<Record<'_>, DiskError> {
    let header = Header::decode(bytes, Some(secret)).ok_or(DiskError::Corrupt("header"))?;
    let head_end = HEADER_BYTES + header.head_bytes as usize;
    let head = bytes.get(HEADER_BYTES..head_end).ok_or(DiskError::Corrupt("length"))?;
    let body = bytes.get(head_end..head_end + header.body_bytes as usize).ok_or(DiskError::Corrupt("length"))?;
    if crc32c::crc32c(head) != header.head_checksum {
        return Err(DiskError::Corrupt("head"));
    }
    if crc32c::crc32c(body) != header.body_checksum {
        return Err(DiskError::Corrupt("body"));
    }
    Ok(Record { header, head, body })
}

/// Where a chunk is: a segment, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// The head of an object, in memory or as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectHead<'a> {
    pub(super) key: &'a [u8],
    pub(super) marks: Vec<u64>,
    pub(super) meta: &'a [u8],
    /// The version that the chunks of a large object carry.
    pub(super) body_version: u64,
    pub(super) chunks: Vec<ChunkPlace>,
}

impl<'a> ObjectHead<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let lists = self.key.len() + self.meta.len() + 8 * (self.marks.len() + self.chunks.len());
        let mut out = Vec::with_capacity(24 + lists);
        for length in [self.key.len(), self.marks.len(), self.meta.len(), self.chunks.len()] {
            out.extend_from_slice(&(length as u32).to_le_bytes());
        }
        out.extend_from_slice(&self.body_version.to_le_bytes());
        out.extend_from_slice(self.key);
        self.marks.iter().for_each(|mark| out.extend_from_slice(&mark.to_le_bytes()));
        out.extend_from_slice(self.meta);
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.segment.to_le_bytes());
            out.extend_from_slice(&chunk.offset.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(head: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(head);
        let (key, marks, meta, chunks) = (reader.number()?, reader.number()?, reader.number()?, reader.number()?);
        let body_version = reader.long()?;
        let key = reader.take(key as usize)?;
        let marks = (0..marks).map(|_| reader.long()).collect::<Option<Vec<_>>>()?;
        let meta = reader.take(meta as usize)?;
        let place = |reader: &mut Reader<'_>| Some(ChunkPlace { segment: reader.number()?, offset: reader.number()? });
        let chunks = (0..chunks).map(|_| place(&mut reader)).collect::<Option<Vec<_>>>()?;
        reader.0.is_empty().then_some(Self { key, marks, meta, body_version, chunks })
    }
}

/// What the index of a segment says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) offset: u32,
    pub(super) bytes: u32,
    pub(super) version: u64,
    pub(super) key: Box<[u8]>,
    /// The numbers of its marks.
    pub(super) marks: Box<[u64]>,
}

/// The index of a segment, and what it has to be forgotten of earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) objects: Vec<IndexEntry>,
    pub(super) forgotten: Vec<ChunkPlace>,
    /// Bytes that it takes when it is encoded.
    pub(super) encoded_bytes: u64,
}

impl Contents {
    pub(super) fn add(&mut self, entry: IndexEntry) {
        self.encoded_bytes += (24 + entry.key.len() + 8 * entry.marks.len()) as u64;
        self.objects.push(entry);
    }

    pub(super) fn forget(&mut self, places: &[ChunkPlace]) {
        self.encoded_bytes += 8 * places.len() as u64;
        self.forgotten.extend_from_slice(places);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_bytes as usize + 8);
        out.extend_from_slice(&(self.objects.len() as u32).to_le_bytes());
        for entry in &self.objects {
            out.extend_from_slice(&entry.offset.to_le_bytes());
            out.extend_from_slice(&entry.bytes.to_le_bytes());
            out.extend_from_slice(&entry.version.to_le_bytes());
            out.extend_from_slice(&(entry.key.len() as u32).to_le_bytes());
            out.extend_from_slice(&(entry.marks.len() as u32).to_le_bytes());
            out.extend_from_slice(&entry.key);
            entry.marks.iter().for_each(|mark| out.extend_from_slice(&mark.to_le_bytes()));
        }
        out.extend_from_slice(&encode_places(&self.forgotten));
        out
    }

    pub(super) fn decode(head: &[u8]) -> Option<Self> {
        let mut reader = Reader(head);
        let mut contents = Self::default();
        for _ in 0..reader.number()? {
            let (offset, bytes, version) = (reader.number()?, reader.number()?, reader.long()?);
            let (length, marks) = (reader.number()?, reader.number()?);
            let key = reader.take(length as usize)?.into();
            let marks = (0..marks).map(|_| reader.long()).collect::<Option<_>>()?;
            contents.add(IndexEntry { offset, bytes, version, key, marks });
        }
        contents.forget(&decode_places(reader.0)?);
        Some(contents)
    }
}

/// A list of places, as the head of a record that forgets them.
pub(super) fn encode_places(places: &[ChunkPlace]) -> Vec<u8> {
    places.iter().flat_map(|place| [place.segment.to_le_bytes(), place.offset.to_le_bytes()].concat()).collect()
}

pub(super) fn decode_places(bytes: &[u8]) -> Option<Vec<ChunkPlace>> {
    let place = |bytes: &[u8]| Some(ChunkPlace { segment: number_at(bytes, 0)?, offset: number_at(bytes, 4)? });
    bytes.chunks(8).map(place).collect()
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn long_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        number_at(self.take(4)?, 0)
    }

    fn long(&mut self) -> Option<u64> {
        long_at(self.take(8)?, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ObjectHead<'static> {
        let chunks = vec![ChunkPlace { segment: 1, offset: 64 }, ChunkPlace { segment: 2, offset: 128 }];
        ObjectHead { key: b"example.com/", marks: vec![1, 2, 3], meta: b"meta", body_version: 9, chunks }
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let header = Header { chunk: 3, version: 7, since: 5, whole_bytes: 11, ..Header::new(Kind::Object) };
        let mut out = Vec::new();
        write_record(&mut out, 42, header, &head().encode(), &[b"hello", b" world"]);
        assert_eq!(out.len() % ALIGNMENT, 0);
        let record = read_record(&out, 42).expect("whole");
        assert_eq!((record.header.version, record.header.since, record.header.chunk), (7, 5, 3));
        assert_eq!((record.body, record.header.record_bytes()), (&b"hello world"[..], out.len() as u64));
        assert_eq!(ObjectHead::decode(record.head), Some(head()));
        assert!(read_record(&out, 43).is_err(), "another segment's");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut out = Vec::new();
        write_record(&mut out, 42, Header::new(Kind::Object), &head().encode(), &[b"a body of some length"]);
        let header = Header::decode(&out, Some(42)).expect("whole");
        let used = HEADER_BYTES + header.head_bytes as usize + header.body_bytes as usize;
        for bit in 0..used * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read_record(&bad, 42).is_err(), "bit {bit}");
        }
        for length in 0..used {
            assert!(read_record(&out[..length], 42).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_index_comes_back_and_rubbish_is_none() {
        let mut contents = Contents::default();
        contents.add(IndexEntry { offset: 64, bytes: 128, version: 3, key: b"a"[..].into(), marks: [7, 8].into() });
        contents.add(IndexEntry { offset: 192, bytes: 64, version: 4, key: b""[..].into(), marks: [].into() });
        contents.forget(&[ChunkPlace { segment: 1, offset: 0 }]);
        let bytes = contents.encode();
        assert_eq!(bytes.len() as u64, contents.encoded_bytes + 4);
        assert_eq!(Contents::decode(&bytes), Some(contents));
        for length in 0..bytes.len() {
            let decoded = Contents::decode(&bytes[..length]);
            assert!(decoded.is_none_or(|contents| contents.forgotten.is_empty()), "{length} bytes");
        }
        assert_eq!(ObjectHead::decode(b"rubbish that is long enough to have lengths"), None);
    }
}
