//! Where commands begin and end.
//!
//! A command is an array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or a line of words for people at a terminal. Clients
//! send many of them without waiting, and large ones come in pieces, so the decoder remembers how far it has looked.
//!
//! **Bounded.** A count or a length that is too large is known before what it announces has come. Such a command is passed over
//! byte by byte and answered by an error, so that its client hears of the limit and the conversation goes on. What is not the
//! protocol at all ends it, as nobody can tell where the next command would begin.
//!
//! Source: the specification of RESP (redis.io), and what Redis 7 does where that is silent: empty lines and arrays of nothing are
//! passed over, a null array counts as one, numbers have no leading `+`.

use std::fmt;
use std::ops::Range;

use crate::number::number;

/// The longest line of words, where no less is taken for a whole command. That of Redis.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The longest line of a count or a length: a sign and the digits of 64 bits.
const NUMBER_BYTES_MAX: usize = 32;
/// What Redis itself takes at most in a string. Beyond, not even the end is worth waiting for.
const LENGTH_MAX: u64 = 512 << 20;
/// What Redis itself takes at most in parts.
const COUNT_MAX: u64 = 1 << 20;

/// What a command may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Parts: the name and the arguments.
    pub parts_max: usize,
    /// Bytes of a part.
    pub part_bytes_max: usize,
    /// Bytes of the whole command, as it is sent.
    pub command_bytes_max: usize,
}

/// How far the input goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The command is not whole yet: at least so many bytes are needed, counted from its beginning.
    More {
        /// How many, all told.
        bytes: usize,
    },
    /// A command is whole, and has so many bytes. Its parts are [`Decoder::parts`].
    Command {
        /// How many.
        bytes: usize,
    },
    /// So many bytes are of no use, and the rest of the input goes on behind them.
    Discard {
        /// How many.
        bytes: usize,
    },
    /// A command that is not acceptable ends after so many bytes. The next one may follow.
    Refused {
        /// How many.
        bytes: usize,
        /// Why.
        why: Unacceptable,
    },
}

/// Why a command is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacceptable {
    /// It has too many parts.
    Parts {
        /// How many.
        found: u64,
    },
    /// One of its parts is too long.
    Part {
        /// Its bytes.
        found: u64,
    },
    /// All its parts together are too long.
    Command,
    /// It is a line with quotes, which are not read.
    Quotes,
}

/// Bytes that are not the protocol: the text of the error that ends the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Finds a command in the input. The input of each step begins where the command does, or after what the last step discarded.
#[derive(Debug, Default)]
pub struct Decoder {
    parts: Vec<Range<usize>>,
    state: State,
    /// How far has been looked.
    at: usize,
    /// Parts that are still to come.
    left: u64,
    refused: Option<Unacceptable>,
}

/// The name of a command and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'i> {
    input: &'i [u8],
    ranges: &'i [Range<usize>],
}

impl<'i> Parts<'i> {
    /// How many there are.
    pub fn len(self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.ranges.is_empty()
    }

    /// One of them; nothing where there are fewer.
    pub fn part(self, at: usize) -> Option<&'i [u8]> {
        self.ranges.get(at).map(|range| &self.input[range.clone()])
    }

    /// Those from one on.
    pub fn from(self, at: usize) -> Self {
        Self { ranges: self.ranges.get(at..).unwrap_or_default(), ..self }
    }

    /// The first of them, at most so many.
    pub fn first(self, count: usize) -> Self {
        Self { ranges: &self.ranges[..count.min(self.ranges.len())], ..self }
    }

    /// All of them, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'i [u8]> + Clone {
        self.ranges.iter().map(move |range| &self.input[range.clone()])
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Beginning,
    /// The line with the length of a part.
    Length,
    /// A part of so many bytes, and its line end.
    Part(usize),
    /// Bytes of a part that is passed over, its line end included.
    Passing(u64),
}

impl Decoder {
    /// Goes on with the input.
    ///
    /// # Errors
    /// [`Malformed`] when it is not the protocol.
    pub fn step(&mut self, input: &[u8], bounds: &Bounds) -> Result<Step, Malformed> {
        loop {
            let next = match self.state {
                State::Beginning => self.begin(input, bounds)?,
                State::Length => self.length(input, bounds)?,
                State::Part(len) => self.part(input, len)?,
                State::Passing(left) => Some(self.pass(input, left)),
            };
            if let Some(step) = next {
                return Ok(step);
            }
            if self.left == 0 && self.state == State::Length {
                return Ok(match self.refused {
                    None => Step::Command { bytes: self.at },
                    Some(why) => Step::Refused { bytes: self.at, why },
                });
            }
        }
    }

    /// The parts of a whole command, in the input that it was found in.
    pub fn parts<'i>(&'i self, input: &'i [u8]) -> Parts<'i> {
        Parts { input, ranges: &self.parts }
    }

    /// Forgets the command, to look for the next one.
    pub fn reset(&mut self) {
        self.parts.clear();
        if self.parts.capacity() > 1024 {
            // One command of many parts must not cost an idle connection memory.
            self.parts = Vec::new();
        }
        (self.state, self.at, self.left, self.refused) = (State::Beginning, 0, 0, None);
    }

    /// Why the command that is being looked at is not acceptable, if that is known already. Its end may be far.
    pub fn refused(&self) -> Option<Unacceptable> {
        self.refused
    }

    /// Whether nothing of a command has been seen since the last one.
    pub fn is_between(&self) -> bool {
        self.state == State::Beginning && self.at == 0
    }

    fn begin(&mut self, input: &[u8], bounds: &Bounds) -> Result<Option<Step>, Malformed> {
        let Some(&first) = input.first() else { return Ok(Some(Step::More { bytes: 1 })) };
        let max = if first == b'*' { NUMBER_BYTES_MAX } else { LINE_BYTES_MAX.min(bounds.command_bytes_max) };
        let text = if first == b'*' { "too big mbulk count string" } else { "too big inline request" };
        let Some(line) = self.line(input, max, text)? else {
            return Ok(Some(Step::More { bytes: input.len() + 1 }));
        };
        if first != b'*' {
            return self.words(input, line, bounds).map(Some);
        }
        let count = number(&input[1..line.end]).ok_or(Malformed("invalid multibulk length"))?;
        if count > COUNT_MAX as i64 {
            return Err(Malformed("invalid multibulk length"));
        }
        if count <= 0 {
            let bytes = self.at;
            self.reset();
            return Ok(Some(Step::Discard { bytes }));
        }
        self.left = count as u64;
        if self.left > bounds.parts_max as u64 {
            self.refused = Some(Unacceptable::Parts { found: self.left });
        }
        self.state = State::Length;
        Ok(None)
    }

    /// A line of words. Quotes would need bytes that are not in the input, and nothing but terminals sends lines.
    fn words(&mut self, input: &[u8], line: Range<usize>, bounds: &Bounds) -> Result<Step, Malformed> {
        let bytes = self.at;
        let words = input[line.clone()].split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        for word in words {
            if word.contains(&b'"') || word.contains(&b'\'') {
                self.refused = Some(Unacceptable::Quotes);
            }
            let start = word.as_ptr().addr() - input.as_ptr().addr();
            self.parts.push(start..start + word.len());
        }
        if self.parts.is_empty() {
            self.reset();
            return Ok(Step::Discard { bytes });
        }
        // What a page in someone's browser can be made to send begins so, with a word of its choice for the method.
        if self.parts.last().is_some_and(|last| input[last.clone()].starts_with(b"HTTP/1.")) {
            return Err(Malformed("this is no HTTP"));
        }
        let longest = self.parts.iter().map(Range::len).max().unwrap_or_default();
        if self.parts.len() > bounds.parts_max {
            self.refused = Some(Unacceptable::Parts { found: self.parts.len() as u64 });
        } else if longest > bounds.part_bytes_max {
            self.refused = Some(Unacceptable::Part { found: longest as u64 });
        }
        Ok(self.refused.map_or(Step::Command { bytes }, |why| Step::Refused { bytes, why }))
    }

    fn length(&mut self, input: &[u8], bounds: &Bounds) -> Result<Option<Step>, Malformed> {
        if self.refused.is_some() && self.at > 0 {
            return Ok(Some(self.discard()));
        }
        match input.get(self.at) {
            None => return Ok(Some(Step::More { bytes: self.at + 1 })),
            Some(b'$') => {}
            Some(_) => return Err(Malformed("expected '$'")),
        }
        let from = self.at + 1;
        let Some(line) = self.line(input, NUMBER_BYTES_MAX, "too big bulk count string")? else {
            return Ok(Some(Step::More { bytes: input.len() + 1 }));
        };
        let len = number(&input[from..line.end]).and_then(|len| u64::try_from(len).ok());
        let len = len.filter(|len| *len <= LENGTH_MAX).ok_or(Malformed("invalid bulk length"))?;
        if len > bounds.part_bytes_max as u64 {
            self.refused.get_or_insert(Unacceptable::Part { found: len });
        } else if self.at as u64 + len + 2 > bounds.command_bytes_max as u64 {
            self.refused.get_or_insert(Unacceptable::Command);
        }
        self.state = if self.refused.is_some() { State::Passing(len + 2) } else { State::Part(len as usize) };
        Ok(None)
    }

    fn part(&mut self, input: &[u8], len: usize) -> Result<Option<Step>, Malformed> {
        let end = self.at + len;
        let Some(line_end) = input.get(end..end + 2) else {
            return Ok(Some(Step::More { bytes: end + 2 }));
        };
        if line_end != b"\r\n" {
            return Err(Malformed("a string does not end where its length says"));
        }
        self.parts.push(self.at..end);
        self.at = end + 2;
        self.left -= 1;
        self.state = State::Length;
        Ok(None)
    }

    fn pass(&mut self, input: &[u8], left: u64) -> Step {
        let there = (input.len() - self.at) as u64;
        if there < left {
            self.state = State::Passing(left - there);
            self.at = input.len();
            return if self.at == 0 { Step::More { bytes: 1 } } else { self.discard() };
        }
        self.at += left as usize;
        self.left -= 1;
        self.state = State::Length;
        if self.left == 0 {
            return Step::Refused { bytes: self.at, why: self.refused.unwrap_or(Unacceptable::Command) };
        }
        self.discard()
    }

    fn discard(&mut self) -> Step {
        self.parts.clear();
        Step::Discard { bytes: std::mem::take(&mut self.at) }
    }

    /// The line that begins where this stands, without its end, behind which this stands afterwards.
    fn line(&mut self, input: &[u8], max: usize, too_long: &'static str) -> Result<Option<Range<usize>>, Malformed> {
        let from = self.at;
        let window = &input[from..input.len().min(from + max)];
        let Some(found) = memchr::memchr(b'\n', window) else {
            return if input.len() - from >= max { Err(Malformed(too_long)) } else { Ok(None) };
        };
        let end = from + found;
        let end = if end > from && input[end - 1] == b'\r' { end - 1 } else { end };
        self.at = from + found + 1;
        Ok(Some(from..end))
    }
}
