//! Ranges of a file: RFC 9110 section 14.
//!
//! What cannot be read, or is in another unit than bytes, is passed over, and all of the file is sent. So it is where
//! many ranges are asked for, or more bytes than the file has: such requests are attempts to make a server work, and the
//! RFC leaves a server the choice.

use std::ops::Range;

/// Most ranges that are sent apart. Readers of documents ask for some; more of them are cheaper as a whole.
const RANGES_MAX: usize = 16;

/// What of a file is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, in this order; at least one range, none of them empty.
    Parts(Vec<Range<u64>>),
    /// Bytes that it has not.
    Unsatisfiable,
}

/// Reads the value of `Range` for a file of so many bytes.
pub(crate) fn read(value: &[u8], size: u64) -> Wanted {
    let Some((unit, list)) = value.split_at_checked(6) else { return Wanted::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Wanted::Whole;
    }
    let (mut parts, mut any) = (Vec::new(), false);
    for text in list.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|text| !text.is_empty()) {
        any = true;
        match part(text, size) {
            Err(Malformed) => return Wanted::Whole,
            Ok(None) => {}
            Ok(Some(range)) => parts.push(range),
        }
        if parts.len() > RANGES_MAX {
            return Wanted::Whole;
        }
    }
    match (any, parts.is_empty()) {
        (false, _) => Wanted::Whole,
        (true, true) => Wanted::Unsatisfiable,
        (true, false) if parts.len() > 1 && total(&parts) > size => Wanted::Whole,
        (true, false) => Wanted::Parts(parts),
    }
}

/// Bytes of all ranges together.
pub(crate) fn total(parts: &[Range<u64>]) -> u64 {
    parts.iter().map(|range| range.end - range.start).sum()
}

struct Malformed;

/// One range; `None` when the file has none of its bytes.
fn part(text: &[u8], size: u64) -> Result<Option<Range<u64>>, Malformed> {
    let dash = memchr::memchr(b'-', text).ok_or(Malformed)?;
    let (first, last) = (&text[..dash], &text[dash + 1..]);
    let range = if first.is_empty() {
        let count = number(last).ok_or(Malformed)?;
        size.saturating_sub(count)..size
    } else {
        let first = number(first).ok_or(Malformed)?;
        let last = if last.is_empty() { u64::MAX } else { number(last).ok_or(Malformed)? };
        if last < first {
            return Err(Malformed);
        }
        first..last.saturating_add(1).min(size)
    };
    Ok((range.start < range.end).then_some(range))
}

/// A number in decimal; one that no file can reach counts as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read() {
        let check = |value: &str, size: u64, expected: &[(u64, u64)]| {
            let expected = expected.iter().map(|&(start, end)| start..end).collect();
            assert_eq!(read(value.as_bytes(), size), Wanted::Parts(expected), "{value} of {size}");
        };
        check("bytes=0-0", 10, &[(0, 1)]);
        check("bytes=2-4", 10, &[(2, 5)]);
        check("Bytes=2-", 10, &[(2, 10)]);
        check("bytes=-3", 10, &[(7, 10)]);
        check("bytes=-30", 10, &[(0, 10)]);
        check("bytes=9-99", 10, &[(9, 10)]);
        check("bytes=0-18446744073709551615", 10, &[(0, 10)]);
        check("bytes=0-99999999999999999999999", 10, &[(0, 10)]);
        check("bytes=0-1, 4-5 ,,-1", 10, &[(0, 2), (4, 6), (9, 10)]);
        check("bytes=8-9,0-1", 10, &[(8, 10), (0, 2)]);
        check("bytes=0-1,50-60", 10, &[(0, 2)]);
    }

    #[test]
    fn what_cannot_be_read_is_all_of_it() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=5-4",
            "bytes=1-2-3",
            "bytes=+1-2",
            "lines=0-1",
            "bytes:0-1",
            "bytes=0-1;2-3",
            "bytes=--1",
            "bytes= 1 - 2",
        ] {
            assert_eq!(read(value.as_bytes(), 10), Wanted::Whole, "{value}");
        }
        // More than there is, and more than anybody needs.
        assert_eq!(read(b"bytes=0-9,0-9", 10), Wanted::Whole);
        let many: Vec<String> = (0..17).map(|at| format!("{at}-{at}")).collect();
        assert_eq!(read(format!("bytes={}", many.join(",")).as_bytes(), 100), Wanted::Whole);
    }

    #[test]
    fn what_the_file_has_not_is_said() {
        for (value, size) in
            [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
        {
            assert_eq!(read(value.as_bytes(), size), Wanted::Unsatisfiable, "{value} of {size}");
        }
        assert_eq!(read(b"bytes=99999999999999999999-", 10), Wanted::Unsatisfiable);
    }

    proptest! {
        /// The naive model: which bytes of a small file are asked for.
        #[test]
        fn one_range_is_what_counting_gives(first in 0_u64..12, last in 0_u64..12, size in 0_u64..10) {
            prop_assume!(first <= last);
            let expected: Vec<u64> = (first..=last).filter(|&at| at < size).collect();
            let found = match read(format!("bytes={first}-{last}").as_bytes(), size) {
                Wanted::Parts(parts) => parts.into_iter().flatten().collect(),
                Wanted::Unsatisfiable => Vec::new(),
                Wanted::Whole => return Err(TestCaseError::fail("it can be read")),
            };
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn whatever_comes_the_ranges_are_inside(list in "[-0-9, ]{0,40}", size in 0_u64..1000) {
            if let Wanted::Parts(parts) = read(format!("bytes={list}").as_bytes(), size) {
                prop_assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
                prop_assert!(parts.iter().all(|range| range.start < range.end && range.end <= size));
                prop_assert!(parts.len() == 1 || total(&parts) <= size);
            }
        }
    }
}
