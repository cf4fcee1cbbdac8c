//! Wall-clock time as a number: responses name dates, and what is stored outlives the process.

use std::time::{Duration, UNIX_EPOCH};

/// A moment in milliseconds since the Unix epoch.
///
/// Milliseconds, though HTTP counts seconds: a response that is fresh for one second would otherwise be fresh for
/// anything from nothing to a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The moment this many milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The moment this many seconds after the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// Milliseconds since `earlier`, none if that is later: clocks are set back.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads a date of a field, in any of the three forms of RFC 9110 section 5.6.7. Nothing before the epoch is read. Capitals
    /// count for as much as small letters, as RFC 9111 section 4.2 has it.
    pub fn of_http_date(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let date = httpdate::parse_http_date(text).or_else(|_| httpdate::parse_http_date(&capitalised(text))).ok()?;
        Some(Self::from_secs(date.duration_since(UNIX_EPOCH).ok()?.as_secs()))
    }

    /// Appends the date as fields have it: `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn write_http_date(self, out: &mut Vec<u8>) {
        // The form ends with the year 9999.
        const SECS_MAX: u64 = 253_402_300_799;
        let date = UNIX_EPOCH + Duration::from_secs(self.secs().min(SECS_MAX));
        out.extend_from_slice(httpdate::fmt_http_date(date).as_bytes());
    }
}

/// A date with capitals where they belong: at the beginning of names, and in the name of the zone.
fn capitalised(text: &str) -> String {
    // No date is longer, and what is not one need not be copied.
    let text = text.get(..64).unwrap_or(text);
    let mut is_within = false;
    let cased = text.chars().map(|letter| {
        let cased = if is_within { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() };
        is_within = letter.is_ascii_alphabetic();
        cased
    });
    cased.collect::<String>().replace("Gmt", "GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_three_forms() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(UnixTime::of_http_date(text.as_bytes()), expected.map(UnixTime::from_secs), "{text}");
        };
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("SUN, 06 nov 1994 08:49:37 gMT", Some(784_111_777));
        check("sunday, 06-NOV-94 08:49:37 GMT", Some(784_111_777));
        check("sun nOV  6 08:49:37 1994", Some(784_111_777));
        let long = "Sun, 06 Nov 1994 08:49:37 gmt".repeat(9);
        for wrong in
            [&*long, "0", "", "-1", "foo", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 94 08:49:37 GMT", "\u{fc}"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn dates_are_written_as_they_are_read() {
        let mut out = Vec::new();
        UnixTime::from_millis(784_111_777_999).write_http_date(&mut out);
        assert_eq!(out, b"Sun, 06 Nov 1994 08:49:37 GMT");
        out.clear();
        UnixTime::from_millis(u64::MAX).write_http_date(&mut out);
        assert_eq!(out, b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
