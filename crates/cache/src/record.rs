//! The form of an entry in Redis. Whatever else is found there is told apart, counted, and treated as a miss.
//!
//! ```text
//! version  8   big-endian; the order of the cache's clock; written by scripts, so the checksum leaves it out
//! magic    3   "TFc"
//! format   1   of what follows
//! schema   4   little-endian, as the rest: the caller's number for the form of its values
//! kind     1   bits 0-3 codec, 4 compressed, 5 negative
//! loaded   8   milliseconds since 1970
//! fresh    8   milliseconds from then
//! took     4   milliseconds that the load took
//! whole    4   bytes of the value when it is not compressed
//! tags     2   how many; each 2 bytes of length and its text
//! body
//! check    4   CRC-32C of all after the version
//! ```

use std::time::Duration;

use crate::redis::VERSION_MAX;

/// Bytes of the version, which come first, so that scripts can read and write it.
pub(crate) const VERSION_BYTES: usize = 8;
const MAGIC: &[u8; 3] = b"TFc";
const FORMAT: u8 = 1;
const COMPRESSED: u8 = 1 << 4;
const NEGATIVE: u8 = 1 << 5;
const CODEC: u8 = 0x0f;

/// An entry, as it is kept outside the process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record<'a> {
    pub(crate) version: u64,
    pub(crate) schema: u32,
    pub(crate) codec: u8,
    pub(crate) compressed: bool,
    /// That there is no value.
    pub(crate) negative: bool,
    pub(crate) loaded_millis: u64,
    pub(crate) fresh_millis: u64,
    pub(crate) took_millis: u32,
    pub(crate) whole_bytes: u32,
    pub(crate) tags: Vec<&'a str>,
    pub(crate) body: &'a [u8],
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    #[error("it is not from a cache")]
    Magic,
    #[error("it has another format")]
    Format,
    #[error("it has another schema")]
    Schema,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it is cut short")]
    Short,
    #[error("no clock has its version")]
    Version,
}

impl<'a> Record<'a> {
    /// All but the version, which whoever stores it writes before it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48 + self.body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.schema.to_le_bytes());
        let compressed = if self.compressed { COMPRESSED } else { 0 };
        let negative = if self.negative { NEGATIVE } else { 0 };
        bytes.push(self.codec & CODEC | compressed | negative);
        bytes.extend_from_slice(&self.loaded_millis.to_le_bytes());
        bytes.extend_from_slice(&self.fresh_millis.to_le_bytes());
        bytes.extend_from_slice(&self.took_millis.to_le_bytes());
        bytes.extend_from_slice(&self.whole_bytes.to_le_bytes());
        // Callers bound tags when they are made.
        bytes.extend_from_slice(&(self.tags.len() as u16).to_le_bytes());
        for tag in &self.tags {
            bytes.extend_from_slice(&(tag.len() as u16).to_le_bytes());
            bytes.extend_from_slice(tag.as_bytes());
        }
        bytes.extend_from_slice(self.body);
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads an entry of this schema.
    pub(crate) fn decode(bytes: &'a [u8], schema: u32) -> Result<Self, Foreign> {
        let (version, rest) = bytes.split_first_chunk::<VERSION_BYTES>().ok_or(Foreign::Magic)?;
        let head = rest.strip_prefix(MAGIC).ok_or(Foreign::Magic)?;
        match head.first() {
            Some(&FORMAT) => {}
            Some(_) => return Err(Foreign::Format),
            None => return Err(Foreign::Short),
        }
        let (checked, check) = rest.split_last_chunk::<4>().ok_or(Foreign::Short)?;
        if crc32c::crc32c(checked) != u32::from_le_bytes(*check) {
            return Err(Foreign::Checksum);
        }
        let mut input = Input(checked.get(MAGIC.len() + 1..).ok_or(Foreign::Short)?);
        let found = u32::from_le_bytes(input.array()?);
        if found != schema {
            return Err(Foreign::Schema);
        }
        let [kind] = input.array()?;
        let loaded_millis = u64::from_le_bytes(input.array()?);
        let fresh_millis = u64::from_le_bytes(input.array()?);
        let took_millis = u32::from_le_bytes(input.array()?);
        let whole_bytes = u32::from_le_bytes(input.array()?);
        let count = u16::from_le_bytes(input.array()?);
        let tags = (0..count).map(|_| input.tag()).collect::<Result<_, _>>()?;
        let version = u64::from_be_bytes(*version);
        if version >= VERSION_MAX {
            return Err(Foreign::Version);
        }
        Ok(Self {
            version,
            schema,
            codec: kind & CODEC,
            compressed: kind & COMPRESSED != 0,
            negative: kind & NEGATIVE != 0,
            loaded_millis,
            fresh_millis,
            took_millis,
            whole_bytes,
            tags,
            body: input.0,
        })
    }

    /// How long it is still fresh, or within so much time after. A clock that is behind that of whoever stored it makes it no younger than
    /// new.
    pub(crate) fn left(&self, now_millis: u64, after: Duration) -> Duration {
        let age = now_millis.saturating_sub(self.loaded_millis);
        let life = self.fresh_millis.saturating_add(after.as_millis() as u64);
        Duration::from_millis(life.saturating_sub(age))
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Foreign> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(Foreign::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn tag(&mut self) -> Result<&'a str, Foreign> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let (text, rest) = self.0.split_at_checked(len).ok_or(Foreign::Short)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Foreign::Short)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Record<'static> {
        Record {
            version: 1_700_000_000_000_001,
            schema: 3,
            codec: 1,
            compressed: true,
            negative: false,
            loaded_millis: 1_700_000_000_000,
            fresh_millis: 300_000,
            took_millis: 12,
            whole_bytes: 99,
            tags: vec!["category:7", ""],
            body: b"body",
        }
    }

    fn whole(record: &Record<'_>) -> Vec<u8> {
        [&record.version.to_be_bytes()[..], &record.encode()].concat()
    }

    /// Gives altered bytes a right checksum again.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - 4;
        let check = crc32c::crc32c(&bytes[VERSION_BYTES..end]);
        bytes[end..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for (negative, compressed) in [(false, false), (false, true), (true, false)] {
            let record = Record { negative, compressed, ..sample() };
            assert_eq!(Record::decode(&whole(&record), 3), Ok(record));
        }
    }

    #[test]
    fn each_kind_of_stranger_is_told_apart() {
        let good = whole(&sample());
        assert_eq!(Record::decode(b"", 3), Err(Foreign::Magic));
        assert_eq!(Record::decode(b"a value of somebody else", 3), Err(Foreign::Magic));
        assert_eq!(Record::decode(&good, 4), Err(Foreign::Schema));
        let mut newer = good.clone();
        newer[11] = FORMAT + 1;
        assert_eq!(Record::decode(&newer, 3), Err(Foreign::Format));
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(Record::decode(&flipped, 3), Err(Foreign::Checksum));
        let mut never = good.clone();
        never[..VERSION_BYTES].copy_from_slice(&VERSION_MAX.to_be_bytes());
        assert_eq!(Record::decode(&never, 3), Err(Foreign::Version));
        let mut tags = good.clone();
        tags[41..43].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(Record::decode(&sealed(tags), 3), Err(Foreign::Short));
    }

    #[test]
    fn a_clock_behind_makes_nothing_younger_than_new() {
        let record = sample();
        let left = |now| record.left(now, Duration::ZERO).as_millis();
        assert_eq!(record.left(record.loaded_millis + 400_000, Duration::from_secs(120)).as_millis(), 20_000);
        assert_eq!(left(record.loaded_millis + 100_000), 200_000);
        assert_eq!(left(record.loaded_millis - 5_000), 300_000);
        assert_eq!(left(record.loaded_millis + 900_000), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_and_no_flipped_bit_passes(
            garbage in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..64, bit in 0_u8..8,
        ) {
            let _any_end = Record::decode(&garbage, 3);
            let _any_end = Record::decode(&sealed([&[0; 8], &MAGIC[..], &[FORMAT], &garbage, &[0; 4]].concat()), 3);
            let mut bytes = whole(&sample());
            let at = VERSION_BYTES + at % (bytes.len() - VERSION_BYTES);
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Record::decode(&bytes, 3).is_err());
        }
    }
}
