//! Ranges of bytes: RFC 9110 section 14.
//!
//! - A `Range` that is malformed, or of a unit other than bytes, is as if it were not there.
//! - One range, or what remains of several once those beyond the end are left out, is answered by that part; several by
//!   `multipart/byteranges`, in the order asked for; none that lies within by 416.
//! - Whoever asks for many, for ranges that overlap, or for as much as there is gets the whole: section 17.15 warns of
//!   small requests for huge answers.

use crate::name::alike;

/// A range of bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Position of the first byte.
    pub first: u64,
    /// Position of the last byte, not before the first.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes it has.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether all of `other` lies within.
    pub fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Most ranges that are answered as asked for.
const RANGES_MAX: usize = 16;

/// What a `Range` asks for of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Whole,
    One(ByteRange),
    Several(Box<[ByteRange]>),
    /// Nothing of what it asks for is there.
    Unsatisfiable,
}

/// One range as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From(u64),
    Within(u64, u64),
    Suffix(u64),
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&text[..dash], &text[dash + 1..]);
        match (first.is_empty(), last.is_empty()) {
            (true, _) => number(last).map(Self::Suffix),
            (_, true) => number(first).map(Self::From),
            _ => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Within(first, last))
            }
        }
    }

    fn of(self, len: u64) -> Option<ByteRange> {
        let last = len.checked_sub(1)?;
        match self {
            Self::From(first) => (first <= last).then_some(ByteRange { first, last }),
            Self::Within(first, end) => (first <= last).then_some(ByteRange { first, last: last.min(end) }),
            Self::Suffix(0) => None,
            Self::Suffix(suffix) => Some(ByteRange { first: len.saturating_sub(suffix), last }),
        }
    }
}

/// A number of digits alone; the largest for those beyond it.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |number: u64, &byte: &u8| number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    Some(text.iter().fold(0, digit))
}

/// Reads a `Range` against a representation of `len` bytes.
pub(crate) fn asked(value: &[u8], len: u64) -> Asked {
    const UNIT: &[u8] = b"bytes=";
    let unit = value.get(..UNIT.len()).is_some_and(|unit| alike(unit, UNIT));
    // No part of nothing can be named in a response.
    if !unit || len == 0 {
        return Asked::Whole;
    }
    let specs = &value[UNIT.len()..];
    if !specs.contains(&b',') {
        let spec = Spec::parse(specs.trim_ascii());
        return spec.map_or(Asked::Whole, |spec| spec.of(len).map_or(Asked::Unsatisfiable, Asked::One));
    }
    let specs = specs.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let (mut count, mut ranges) = (0, [None; RANGES_MAX]);
    for spec in specs.filter(|spec| !spec.is_empty()) {
        let (Some(spec), true) = (Spec::parse(spec), count < RANGES_MAX) else { return Asked::Whole };
        ranges[count] = spec.of(len);
        count += 1;
    }
    if count == 0 {
        return Asked::Whole;
    }
    let mut there = ranges.iter().flatten().copied();
    match (there.next(), there.next()) {
        (None, _) => Asked::Unsatisfiable,
        (Some(one), None) => Asked::One(one),
        _ => several(ranges.iter().flatten().copied().collect(), len),
    }
}

fn several(ranges: Box<[ByteRange]>, len: u64) -> Asked {
    let apart = ranges.iter().enumerate().all(|(at, range)| !ranges[..at].iter().any(|other| range.overlaps(*other)));
    if !apart || ranges.iter().map(|range| range.len()).sum::<u64>() >= len {
        return Asked::Whole;
    }
    Asked::Several(ranges)
}

/// What a `Content-Range` says: which part, and of how many bytes if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The part.
    pub range: ByteRange,
    /// Bytes of the whole.
    pub total: Option<u64>,
}

impl ContentRange {
    /// Reads a value such as `bytes 0-499/1234`, or nothing if it is malformed or names no part.
    pub fn parse(value: &[u8]) -> Option<Self> {
        const UNIT: &[u8] = b"bytes ";
        let unit = value.get(..UNIT.len())?;
        let rest = &value[UNIT.len()..];
        let slash = rest.iter().position(|&byte| byte == b'/')?;
        let Spec::Within(first, last) = Spec::parse(&rest[..slash])? else { return None };
        let total = &rest[slash + 1..];
        let total = if total == b"*" { None } else { Some(number(total)?) };
        let fits = total.is_none_or(|total| last < total) && last < u64::MAX;
        (alike(unit, UNIT) && fits).then_some(Self { range: ByteRange { first, last }, total })
    }

    /// Appends the value.
    pub fn write(self, out: &mut Vec<u8>) {
        let ByteRange { first, last } = self.range;
        match self.total {
            Some(total) => write_text(out, format_args!("bytes {first}-{last}/{total}")),
            None => write_text(out, format_args!("bytes {first}-{last}/*")),
        }
    }
}

/// Appends the value of `Content-Range` that a 416 has.
pub fn write_unsatisfied(out: &mut Vec<u8>, total: u64) {
    write_text(out, format_args!("bytes */{total}"));
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    // Writing into memory cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> ByteRange {
        ByteRange { first, last }
    }

    #[test]
    fn ranges_of_ten_bytes() {
        let check = |value: &str, expected: Asked| assert_eq!(asked(value.as_bytes(), 10), expected, "{value}");
        let one = |first, last| Asked::One(range(first, last));
        check("bytes=0-1", one(0, 1));
        check("BYTES=0-1", one(0, 1));
        check("bytes=9-9", one(9, 9));
        check("bytes=5-", one(5, 9));
        check("bytes=5-99999999999999999999999", one(5, 9));
        check("bytes=-1", one(9, 9));
        check("bytes=-99999999999999999999999", one(0, 9));
        check("bytes=0-", one(0, 9));
        check("bytes= ,0-1,", one(0, 1));
        check("bytes=10-,0-1", one(0, 1));
        check("bytes=10-", Asked::Unsatisfiable);
        check("bytes=99999999999999999999999-", Asked::Unsatisfiable);
        check("bytes=-0", Asked::Unsatisfiable);
        check("bytes=10-11, -0", Asked::Unsatisfiable);
        let several = |ranges: &[(u64, u64)]| Asked::Several(ranges.iter().map(|&(f, l)| range(f, l)).collect());
        check("bytes=0-0,-1", several(&[(0, 0), (9, 9)]));
        check("bytes=7-8 ,\t0-1, 20-", several(&[(7, 8), (0, 1)]));
        check("bytes=0-4,4-5", Asked::Whole);
        check("bytes=0-4,5-9", Asked::Whole);
        for wrong in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5",
            "bytes=2-1",
            "bytes=a-",
            "bytes=0-1,x",
            "lines=0-1",
            "bytes =0-1",
            "bytes=+1-2",
            "bytes=0 -1",
            "bytes=1--2",
        ] {
            check(wrong, Asked::Whole);
        }
        let many = format!("bytes={}", "0-0,".repeat(RANGES_MAX + 1));
        check(&many, Asked::Whole);
        assert_eq!(asked(b"bytes=0-", 0), Asked::Whole);
    }

    #[test]
    fn content_ranges() {
        let check = |value: &str, expected: Option<(u64, u64, Option<u64>)>| {
            let expected = expected.map(|(first, last, total)| ContentRange { range: range(first, last), total });
            assert_eq!(ContentRange::parse(value.as_bytes()), expected, "{value}");
            if let Some(found) = expected {
                let mut out = Vec::new();
                found.write(&mut out);
                assert_eq!(out.to_ascii_lowercase(), value.to_ascii_lowercase().as_bytes());
            }
        };
        check("bytes 0-4/10", Some((0, 4, Some(10))));
        check("Bytes 0-4/*", Some((0, 4, None)));
        for wrong in ["", "bytes */10", "bytes 4-0/10", "bytes 0-10/10", "bytes 0-4", "bytes=0-4/10", "bytes 0-/10"] {
            check(wrong, None);
        }
    }
}
