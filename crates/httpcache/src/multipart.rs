//! Several ranges in one body: `multipart/byteranges`, RFC 9110 section 14.6.

use crate::range::{ByteRange, ContentRange, write_text};

/// How a body of several parts is written: for each part its head and then its bytes, and the end.
///
/// ```
/// use httpcache::{ByteRange, Multipart};
///
/// let parts = [ByteRange { first: 0, last: 1 }, ByteRange { first: 8, last: 9 }];
/// let multipart = Multipart { boundary: 7, content_type: Some(b"text/plain"), total: 10 };
/// let mut body = Vec::new();
/// for part in parts {
///     multipart.write_head(&mut body, part);
///     body.extend_from_slice(&b"0123456789"[part.first as usize..=part.last as usize]);
/// }
/// multipart.write_end(&mut body);
/// assert_eq!(body.len() as u64, multipart.bytes(&parts));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Multipart<'a> {
    /// Drawn at random for each response, so that no body holds it by intent.
    pub boundary: u128,
    /// The type of the whole.
    pub content_type: Option<&'a [u8]>,
    /// Bytes of the whole.
    pub total: u64,
}

impl Multipart<'_> {
    /// Appends the value of `Content-Type` for the response.
    pub fn write_type(&self, out: &mut Vec<u8>) {
        write_text(out, format_args!("multipart/byteranges; boundary={:032x}", self.boundary));
    }

    /// Appends what comes before a part's bytes.
    pub fn write_head(&self, out: &mut Vec<u8>, range: ByteRange) {
        write_text(out, format_args!("\r\n--{:032x}\r\n", self.boundary));
        if let Some(content_type) = self.content_type {
            crate::field::write_line(out, b"Content-Type", content_type);
        }
        out.extend_from_slice(b"Content-Range: ");
        ContentRange { range, total: Some(self.total) }.write(out);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends what comes behind the last part.
    pub fn write_end(&self, out: &mut Vec<u8>) {
        write_text(out, format_args!("\r\n--{:032x}--\r\n", self.boundary));
    }

    /// Bytes of the whole body.
    pub fn bytes(&self, ranges: &[ByteRange]) -> u64 {
        let mut heads = Vec::new();
        for &range in ranges {
            self.write_head(&mut heads, range);
        }
        self.write_end(&mut heads);
        heads.len() as u64 + ranges.iter().map(|range| range.len()).sum::<u64>()
    }
}
