//! Positions, timelines, and what clients carry from one connection to another.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A position in the log: bytes since its beginning. Written as two numbers in hexadecimal, of 32 bits each.
///
/// ```
/// use pgroute::position::Lsn;
///
/// let position: Lsn = "16/B374D848".parse().unwrap();
/// assert_eq!(position.0, 0x16_B374_D848);
/// assert_eq!(position.to_string(), "16/B374D848");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Bytes of a page of the log. Other sizes need a PostgreSQL that was built for them.
const PAGE_BYTES: u64 = 8192;
/// Bytes before the first record of a page, and before that of a segment.
const PAGE_HEAD_BYTES: u64 = 24;
const SEGMENT_HEAD_BYTES: u64 = 40;

impl Lsn {
    /// Where the last record ends, if this is where the next one begins. The server says the latter, which lies behind a page's
    /// head when the last record filled its page; no replica comes there before there is another record.
    #[must_use]
    pub fn end_of_last(self, segment_bytes: u64) -> Self {
        let is_segment = segment_bytes > 0 && (self.0 - self.0 % PAGE_BYTES).is_multiple_of(segment_bytes);
        let head = if is_segment { SEGMENT_HEAD_BYTES } else { PAGE_HEAD_BYTES };
        if self.0 % PAGE_BYTES == head { Self(self.0 - head) } else { self }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A text that is no position, file name or token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid {0}")]
pub struct ParseError(&'static str);

/// Hexadecimal digits and nothing else; the standard library would take a sign as well.
fn hex(text: &str) -> Option<u32> {
    let is_hex = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

impl FromStr for Lsn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let halves = text.split_once('/').and_then(|(high, low)| Some((hex(high)?, hex(low)?)));
        let (high, low) = halves.ok_or(ParseError("position in the log"))?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// A history of the log: each promotion begins another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The timeline that the name of a file of the log begins with, as `pg_walfile_name` gives it.
    ///
    /// # Errors
    /// When it is no such name.
    pub fn of_file(name: &str) -> Result<Self, ParseError> {
        let timeline = name.get(..8).filter(|_| name.len() == 24).and_then(hex).filter(|&number| number > 0);
        timeline.map(Self).ok_or(ParseError("name of a file of the log"))
    }
}

/// What a client must see, in a form that it can carry: `SYSTEM.TIMELINE.POSITION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The system that the position belongs to: a number that each `initdb` makes anew.
    pub system: u64,
    /// Its timeline.
    pub timeline: Timeline,
    /// The position.
    pub position: Lsn,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.system, self.timeline.0, self.position)
    }
}

impl FromStr for Token {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const FAULT: ParseError = ParseError("token of a position");
        let mut parts = text.splitn(3, '.');
        let mut number = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).ok_or(FAULT);
        let system = number()?.parse().map_err(|_| FAULT)?;
        let timeline = Timeline(number()?.parse().map_err(|_| FAULT)?);
        let position = parts.next().ok_or(FAULT)?.parse().map_err(|_| FAULT)?;
        Ok(Self { system, timeline, position })
    }
}
