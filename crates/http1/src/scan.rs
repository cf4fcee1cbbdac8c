//! Finding where a head ends, before anything in it is parsed.
//!
//! A head may arrive byte by byte, so the scan remembers how far it came: every byte is looked at once, however slowly
//! the head trickles in. Line ends are judged here, because `httparse` accepts a lone LF.

use crate::{Error, ErrorKind};

/// Bounds on a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes, from the first of the start line to the empty line's end.
    pub bytes_max: usize,
    /// Most fields.
    pub fields_max: usize,
}

/// The search for a head's end in a growing buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes looked at.
    scanned: usize,
    /// Where the line under way begins.
    line_start: usize,
    /// Bytes of empty lines before the start line.
    skipped: usize,
}

impl HeadScan {
    /// Looks at the bytes that came since the last call. `buf` holds everything from the message's beginning.
    ///
    /// Returns the head's extent once it is complete: where it begins (one empty line before it is skipped, as RFC 9112
    /// section 2.2 asks of servers) and where it ends, the empty line included.
    ///
    /// # Errors
    /// A line that does not end in CR LF, or a head larger than `limits` allows.
    pub fn advance(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<(usize, usize)>, Error> {
        while let Some(found) = memchr::memchr(b'\n', &buf[self.scanned..]) {
            let lf = self.scanned + found;
            if lf == 0 || buf[lf - 1] != b'\r' {
                return Err(Error::malformed("a line ends without a carriage return"));
            }
            let empty = lf - 1 == self.line_start;
            self.scanned = lf + 1;
            self.line_start = lf + 1;
            if !empty {
                continue;
            }
            if lf == 1 {
                self.skipped = 2;
                continue;
            }
            if lf + 1 == self.skipped + 2 {
                return Err(Error::malformed("more than one empty line before the start line"));
            }
            let end = lf + 1;
            self.check_size(end, limits)?;
            return Ok(Some((self.skipped, end)));
        }
        self.scanned = buf.len();
        self.check_size(buf.len(), limits)?;
        Ok(None)
    }

    /// Whether any byte of the head itself has come.
    pub fn has_begun(&self) -> bool {
        self.scanned > self.skipped
    }

    fn check_size(&self, end: usize, limits: &Limits) -> Result<(), Error> {
        if end - self.skipped <= limits.bytes_max {
            return Ok(());
        }
        if self.line_start <= self.skipped {
            return Err(Error::new(ErrorKind::TargetTooLong, "the request line exceeds the limit"));
        }
        Err(Error::new(ErrorKind::HeadTooLarge, "the head exceeds the limit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes_max: 32, fields_max: 8 };

    fn check(input: &[u8], expected: Result<Option<(usize, usize)>, ErrorKind>) {
        let whole = HeadScan::default().advance(input, &LIMITS).map_err(|e| e.kind());
        assert_eq!(whole, expected, "{:?}", String::from_utf8_lossy(input));
        // Byte by byte, the same answer comes at the same place.
        let mut scan = HeadScan::default();
        let mut stepped = Ok(None);
        for end in 1..=input.len() {
            stepped = scan.advance(&input[..end], &LIMITS).map_err(|e| e.kind());
            if !matches!(stepped, Ok(None)) {
                break;
            }
        }
        assert_eq!(stepped, expected, "stepped: {:?}", String::from_utf8_lossy(input));
    }

    #[test]
    fn finds_the_end() {
        check(b"", Ok(None));
        check(b"GET / HTTP/1.1\r\n\r\n", Ok(Some((0, 18))));
        check(b"GET / HTTP/1.1\r\n\r\nbody", Ok(Some((0, 18))));
        check(b"GET / HTTP/1.1\r\na:b\r\n\r", Ok(None));
        check(b"\r\nGET / HTTP/1.1\r\n\r\n", Ok(Some((2, 20))));
    }

    #[test]
    fn refuses_loose_line_ends() {
        check(b"GET / HTTP/1.1\n\r\n", Err(ErrorKind::Malformed));
        check(b"\nGET / HTTP/1.1\r\n\r\n", Err(ErrorKind::Malformed));
        check(b"GET / HTTP/1.1\r\na:b\n\n", Err(ErrorKind::Malformed));
        check(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(ErrorKind::Malformed));
    }

    #[test]
    fn bounds_the_size() {
        check(b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Err(ErrorKind::TargetTooLong));
        check(b"GET / HTTP/1.1\r\na: bbbbbbbbbbbbbbbbbbbbbbb", Err(ErrorKind::HeadTooLarge));
        check(b"GET / HTTP/1.1\r\na:bbbbbbbbbb\r\n\r\n", Ok(Some((0, 32))));
    }
}
