//! The bytes of the journal: records, each of which says by itself whether it is whole.
//!
//! A record is 48 bytes, the key, the value, and zeros up to a multiple of 8. Numbers are little-endian.
//!
//! | at | |
//! |---|---|
//! | 0 | the letters `TFWB` |
//! | 4 | kind: 1 put, 2 removal, 3 settled, 4 closed, 5 and 6 a dead letter of a put and of a removal; 1 byte, and one of zeros |
//! | 6 | bytes of the key, 2 bytes |
//! | 8 | bytes of the value, 4 bytes |
//! | 12 | checksum of the value |
//! | 16 | version, 16 bytes |
//! | 32 | how many bytes of this file were known to last when this was written, 8 bytes |
//! | 40 | checksum of what is above, of the file's secret and of the key, 4 bytes |
//! | 44 | 4 bytes of zeros |
//!
//! The checksum of the beginning is apart from that of the value, so that a damaged value can be named by its key. The secret, drawn at
//! random for each file, keeps a value that holds the bytes of a record from being taken for one.

use bytes::Bytes;

use super::version::Version;

const MAGIC: &[u8; 4] = b"TFWB";
pub(super) const RECORD_BYTES: usize = 48;
/// Records begin at multiples of it, which is where a search for one looks.
pub(super) const ALIGNMENT: usize = 8;
/// What the two bytes of its length can say.
pub(super) const KEY_BYTES_MAX: usize = u16::MAX as usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Put = 1,
    Remove = 2,
    /// The value is a list of versions that need not be delivered any more.
    Settled = 3,
    /// The journal was closed in order; the version is the last that was issued.
    Closed = 4,
    /// The value is preceded by the reason, and that by its length.
    DeadPut = 5,
    DeadRemove = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Put, Self::Remove, Self::Settled, Self::Closed, Self::DeadPut, Self::DeadRemove]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) version: Version,
    pub(super) synced: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// What is wrong with the bytes where a record should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It cannot even be told what should be here.
    Unknown,
    /// A record whose value is damaged or cut short; so many bytes should be its own.
    Value { key: Bytes, version: Version, bytes: u64 },
}

/// Bytes of a record with a key and a value of these lengths.
pub(super) fn record_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    (RECORD_BYTES + key_bytes + value_bytes).next_multiple_of(ALIGNMENT) as u64
}

pub(super) fn encode(record: &Record, secret: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[record.kind as u8, 0]);
    out.extend_from_slice(&(record.key.len() as u16).to_le_bytes());
    out.extend_from_slice(&(record.value.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&record.value).to_le_bytes());
    out.extend_from_slice(&record.version.as_u128().to_le_bytes());
    out.extend_from_slice(&record.synced.to_le_bytes());
    let checksum = head_checksum(&out[start..start + 40], secret, &record.key);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&record.key);
    out.extend_from_slice(&record.value);
    out.resize(start + (out.len() - start).next_multiple_of(ALIGNMENT), 0);
}

fn head_checksum(head: &[u8], secret: u64, key: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&secret.to_le_bytes()), head), key)
}

/// Reads the record that begins at a place, with its bytes.
pub(super) fn decode(file: &Bytes, at: usize, secret: u64) -> Result<(Record, usize), Bad> {
    let head = file.get(at..at + RECORD_BYTES).ok_or(Bad::Unknown)?;
    let word = |from: usize| head[from..from + 4].try_into().map_or(0, u32::from_le_bytes);
    if &head[..4] != MAGIC {
        return Err(Bad::Unknown);
    }
    let kind = Kind::of(head[4]).ok_or(Bad::Unknown)?;
    let key_bytes = usize::from(u16::from_le_bytes([head[6], head[7]]));
    let value_bytes = word(8) as usize;
    let key_at = at + RECORD_BYTES;
    let value_at = key_at + key_bytes;
    let end = at + record_bytes(key_bytes, value_bytes) as usize;
    if value_at > file.len() || head_checksum(&head[..40], secret, &file[key_at..value_at]) != word(40) {
        return Err(Bad::Unknown);
    }
    let key = file.slice(key_at..value_at);
    let version = Version::from_u128(head[16..32].try_into().map_or(0, u128::from_le_bytes));
    // What fills up the last bytes is checked too, or a damaged byte there would go unnoticed.
    let is_whole = end <= file.len()
        && crc32c::crc32c(&file[value_at..value_at + value_bytes]) == word(12)
        && file[value_at + value_bytes..end].iter().all(|byte| *byte == 0)
        && head[5] == 0
        && word(44) == 0;
    if !is_whole {
        return Err(Bad::Value { key, version, bytes: (end - at) as u64 });
    }
    let synced = head[32..40].try_into().map_or(0, u64::from_le_bytes);
    let value = file.slice(value_at..value_at + value_bytes);
    Ok((Record { kind, version, synced, key, value }, end - at))
}

/// The value of a record of settled versions.
pub(super) fn encode_versions(versions: &[Version]) -> Bytes {
    versions.iter().flat_map(|version| version.as_u128().to_le_bytes()).collect::<Vec<u8>>().into()
}

pub(super) fn decode_versions(value: &[u8]) -> impl Iterator<Item = Version> {
    let (versions, _) = value.as_chunks::<16>();
    versions.iter().map(|bytes| Version::from_u128(u128::from_le_bytes(*bytes)))
}

/// The value of a dead letter: the reason, and what should have been written.
pub(super) fn encode_dead(reason: &str, value: &[u8]) -> Bytes {
    [&(reason.len() as u32).to_le_bytes()[..], reason.as_bytes(), value].concat().into()
}

pub(super) fn decode_dead(value: &Bytes) -> Option<(String, Bytes)> {
    let (length, rest) = value.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let reason = String::from_utf8_lossy(rest.get(..length)?).into_owned();
    Some((reason, value.slice(4 + length..)))
}

/// What a file begins with, twice, so that one damaged byte hurts neither its secret nor what it says of the file before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) number: u64,
    /// How many bytes of the file before this one count; all ones where that is not known.
    pub(super) before_bytes: u64,
    pub(super) secret: u64,
    /// Not below any version that was issued before this file.
    pub(super) floor: Version,
}

const BEGINNING: &[u8; 8] = b"tfwb\x00\x00\x00\x01";
const COPY_BYTES: usize = 56;
pub(super) const BEGINNING_BYTES: usize = 2 * COPY_BYTES;

impl Beginning {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = BEGINNING.to_vec();
        copy.extend_from_slice(&self.number.to_le_bytes());
        copy.extend_from_slice(&self.before_bytes.to_le_bytes());
        copy.extend_from_slice(&self.secret.to_le_bytes());
        copy.extend_from_slice(&self.floor.as_u128().to_le_bytes());
        copy.extend_from_slice(&u64::from(crc32c::crc32c(&copy)).to_le_bytes());
        copy.repeat(2)
    }

    /// The beginning, and whether both copies of it are whole.
    pub(super) fn decode(file: &[u8]) -> Option<(Self, bool)> {
        let copies: Vec<_> = file.chunks_exact(COPY_BYTES).take(2).map(Self::decode_copy).collect();
        let whole = copies.iter().flatten().next()?;
        Some((*whole, copies.len() == 2 && copies.iter().all(Option::is_some)))
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let long = |at: usize| copy[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        if &copy[..8] != BEGINNING || u64::from(crc32c::crc32c(&copy[..48])) != long(48) {
            return None;
        }
        let floor = Version::from_u128(copy[32..48].try_into().map_or(0, u128::from_le_bytes));
        Some(Self { number: long(8), before_bytes: long(16), secret: long(24), floor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let version = Version::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        Record { kind: Kind::Put, version, synced: 4096, key: "product:7".into(), value: "a value".into() }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = vec![0; 16];
        encode(&record(), 99, &mut bytes);
        assert_eq!(bytes.len() as u64 - 16, record_bytes(9, 7));
        let bytes = Bytes::from(bytes);
        assert_eq!(decode(&bytes, 16, 99), Ok((record(), bytes.len() - 16)));
        assert_eq!(decode(&bytes, 16, 98), Err(Bad::Unknown), "of another file");
        assert_eq!(decode(&bytes, 8, 99), Err(Bad::Unknown));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut whole = Vec::new();
        encode(&record(), 99, &mut whole);
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad.into(), 0, 99).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(decode(&whole[..length].to_vec().into(), 0, 99).is_err(), "{length} bytes");
        }
        let beginning = Beginning { number: 3, before_bytes: 88, secret: 5, floor: Version::from_u128(7) };
        let whole = beginning.encode();
        assert_eq!(whole.len(), BEGINNING_BYTES);
        assert_eq!(Beginning::decode(&whole), Some((beginning, true)));
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Beginning::decode(&bad), Some((beginning, false)), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_value_is_named_by_its_key() {
        let mut bytes = Vec::new();
        encode(&record(), 99, &mut bytes);
        let value_at = RECORD_BYTES + 9;
        bytes[value_at] ^= 1;
        let length = bytes.len() as u64;
        let named = Bad::Value { key: record().key, version: record().version, bytes: length };
        assert_eq!(decode(&bytes.into(), 0, 99), Err(named));
    }

    #[test]
    fn lists_and_reasons_come_back() {
        let versions = [Version::from_u128(1), Version::from_u128(u128::MAX)];
        assert_eq!(decode_versions(&encode_versions(&versions)).collect::<Vec<_>>(), versions);
        assert_eq!(decode_dead(&encode_dead("no such table", b"v")), Some(("no such table".into(), "v".into())));
        assert_eq!(decode_dead(&Bytes::from_static(b"\xff\xff\xff\xff")), None);
    }
}
