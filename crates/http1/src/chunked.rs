//! The chunked transfer coding: RFC 9112 section 7.1.
//!
//! The decoder reads lines byte by byte, for they are short, and hands chunk data out as ranges of the input, so that
//! nothing is copied. Extensions are read past and dropped, as a recipient that knows none of them must; trailers are
//! kept, bounded, and parsed when they are complete.

use crate::field::from_httparse;
use crate::{Error, ErrorKind, FieldId};

/// Most bytes of chunk extensions in one body. Nobody uses them but to waste a server's time.
const EXTENSION_BYTES_MAX: u32 = 4096;

/// Most digits of a chunk's size. Leading zeros are in the grammar, but nobody needs more of them than this.
const SIZE_DIGITS_MAX: u32 = 16;

/// Most bytes of trailers, and most trailer fields.
const TRAILER_BYTES_MAX: usize = 8192;
const TRAILER_FIELDS_MAX: usize = 64;

/// Reads a chunked body.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes left of the chunk under way, or the size read so far.
    size: u64,
    size_digits: u32,
    extension_bytes: u32,
    trailers: Vec<u8>,
}

/// What a look at the input yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The input from `start` to `end` is data. The input before `end` is done with.
    Data {
        /// First byte of data.
        start: usize,
        /// Position after the last.
        end: usize,
    },
    /// All the input is done with, and the body goes on.
    More,
    /// The body has ended. The input from `end` on belongs to the next message.
    End {
        /// Position after the body.
        end: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeFirst,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::SizeFirst, size: 0, size_digits: 0, extension_bytes: 0, trailers: Vec::new() }
    }
}

impl ChunkedDecoder {
    /// Looks at `input`, which goes on where the last call's input was done with.
    ///
    /// # Errors
    /// Anything but the exact grammar, and sizes, extensions or trailers beyond their bounds.
    pub fn decode(&mut self, input: &[u8]) -> Result<Chunk, Error> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Data => {
                    let available = input.len() - at;
                    let take = usize::try_from(self.size).map_or(available, |size| size.min(available));
                    self.size -= take as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Chunk::Data { start: at, end: at + take });
                }
                State::Trailer => {
                    if self.trailer_byte(input[at])? {
                        self.state = State::Done;
                        return Ok(Chunk::End { end: at + 1 });
                    }
                }
                State::Done => return Ok(Chunk::End { end: at }),
                _ => self.state = self.line_byte(input[at])?,
            }
            at += 1;
        }
        Ok(if self.state == State::Done { Chunk::End { end: at } } else { Chunk::More })
    }

    /// Bytes of data that are certain to follow in the chunk under way, so that they may be moved without being
    /// looked at.
    pub fn data_pending(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// Tells that `bytes` of the data pending were moved without [`Self::decode`].
    pub fn skip_data(&mut self, bytes: u64) {
        debug_assert!(self.state == State::Data && bytes <= self.size);
        self.size -= bytes;
        if self.size == 0 {
            self.state = State::DataCr;
        }
    }

    /// The trailer fields that may be passed on, as lines, once the body has ended. Fields that concern framing,
    /// routing or the connection are left out: RFC 9110 section 6.5.1.
    ///
    /// # Errors
    /// Lines that are not fields.
    pub fn trailers(&self) -> Result<Vec<u8>, Error> {
        if self.trailers.len() <= 2 {
            return Ok(Vec::new());
        }
        let mut room = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
        let parsed = httparse::parse_headers(&self.trailers, &mut room).map_err(from_httparse)?;
        let httparse::Status::Complete((_, fields)) = parsed else {
            return Err(Error::malformed("the trailers are malformed"));
        };
        let mut lines = Vec::with_capacity(self.trailers.len());
        for field in fields.iter().filter(|field| FieldId::of(field.name.as_bytes()) == FieldId::Other) {
            lines.extend_from_slice(field.name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(field.value.trim_ascii());
            lines.extend_from_slice(b"\r\n");
        }
        Ok(lines)
    }

    fn line_byte(&mut self, byte: u8) -> Result<State, Error> {
        match (self.state, byte) {
            (State::SizeFirst | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // Sixty bits are beyond any body; more digits would overflow.
                self.size_digits = if self.state == State::SizeFirst { 1 } else { self.size_digits + 1 };
                if self.size >> 56 != 0 || self.size_digits > SIZE_DIGITS_MAX {
                    return Err(Error::malformed("a chunk size is too large"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.size = self.size << 4 | u64::from(digit);
                Ok(State::Size)
            }
            (State::Size, b';') => Ok(State::Extension),
            (State::Size | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(Error::malformed("the chunk extensions are too long"));
                }
                Ok(State::Extension)
            }
            (State::SizeLf, b'\n') if self.size == 0 => Ok(State::Trailer),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeFirst),
            (State::DataCr | State::DataLf, _) => Err(Error::malformed("chunk data is longer than its size")),
            _ => Err(Error::malformed("a chunk size is malformed")),
        }
    }

    /// Takes a byte of the trailer section; true when it ends the section.
    fn trailer_byte(&mut self, byte: u8) -> Result<bool, Error> {
        if self.trailers.len() == TRAILER_BYTES_MAX {
            return Err(Error::new(ErrorKind::HeadTooLarge, "the trailers exceed the limit"));
        }
        self.trailers.push(byte);
        if byte != b'\n' {
            return Ok(false);
        }
        let [.., before, _] = self.trailers[..] else {
            return Err(Error::malformed("a trailer line ends without a carriage return"));
        };
        if before != b'\r' {
            return Err(Error::malformed("a trailer line ends without a carriage return"));
        }
        let ended = self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n");
        if ended {
            // Judge the fields now, while the message can still be refused.
            self.trailers()?;
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `step` bytes: the data, the trailers, and what is left over.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), &'static str> {
        let (mut decoder, mut data, mut at) = (ChunkedDecoder::default(), Vec::new(), 0);
        loop {
            let piece = &input[at..input.len().min(at + step)];
            match decoder.decode(piece).map_err(|e| e.reason())? {
                Chunk::Data { start, end } => {
                    data.extend_from_slice(&piece[start..end]);
                    at += end;
                }
                Chunk::More if piece.is_empty() => return Err("incomplete"),
                Chunk::More => at += piece.len(),
                Chunk::End { end } => return Ok((data, decoder.trailers().unwrap(), at + end)),
            }
        }
    }

    fn check(input: &str, expected: Result<(&str, &str, usize), &str>) {
        for step in [1, 2, 3, 7, 4096] {
            let got = decode(input.as_bytes(), step);
            let got = got.as_ref().map(|(data, trailers, rest)| {
                (std::str::from_utf8(data).unwrap(), std::str::from_utf8(trailers).unwrap(), input.len() - rest)
            });
            assert_eq!(got.map_err(|reason| *reason), expected, "{input:?} by {step}");
        }
    }

    #[test]
    fn decodes() {
        check("0\r\n\r\n", Ok(("", "", 0)));
        check("3\r\nabc\r\n0\r\n\r\n", Ok(("abc", "", 0)));
        check("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET", Ok(("abc0123456789", "", 3)));
        check("3;name=value\r\nabc\r\n0;last\r\n\r\n", Ok(("abc", "", 0)));
        check("000003\r\nabc\r\n000\r\n\r\n", Ok(("abc", "", 0)));
        check("0\r\nChecksum: 7\r\n\r\n", Ok(("", "Checksum: 7\r\n", 0)));
        check("0\r\nContent-Length: 7\r\nA: b\r\n\r\n", Ok(("", "A: b\r\n", 0)));
    }

    #[test]
    fn refuses() {
        let size = "a chunk size is malformed";
        check("", Err("incomplete"));
        check("3\r\nabc", Err("incomplete"));
        check("\r\n", Err(size));
        check("g\r\n", Err(size));
        check("-1\r\n", Err(size));
        check("0x3\r\nabc", Err(size));
        check(" 3\r\nabc", Err(size));
        check("3 \r\nabc", Err(size));
        check("3\nabc\n", Err(size));
        check("3;a\nabc", Err(size));
        check("3;a\0b\r\nabc", Err(size));
        check("3\r\nabcd\r\n", Err("chunk data is longer than its size"));
        check("3\r\nabc\n0\r\n\r\n", Err("chunk data is longer than its size"));
        check("1000000000000000\r\n", Err("a chunk size is too large"));
        check("00000000000000003\r\nabc", Err("a chunk size is too large"));
        check("0\r\na: b\n\r\n", Err("a trailer line ends without a carriage return"));
        check("0\r\nno colon\r\n\r\n", Err("a field name is not a token"));
        check(&format!("3;{}\r\nabc", "x".repeat(5000)), Err("the chunk extensions are too long"));
        check(&format!("0\r\na: {}\r\n\r\n", "x".repeat(9000)), Err("the trailers exceed the limit"));
    }
}
