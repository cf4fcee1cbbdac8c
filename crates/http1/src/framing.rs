//! Where a message's body ends: RFC 9112 section 6.3, with every ambiguity refused.

use crate::field::list_members;
use crate::{Error, ErrorKind, FieldId, Fields, Method, Version};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// The body has this many bytes, at least one.
    Length(u64),
    /// The body comes in chunks.
    Chunked,
    /// The body ends with the connection; responses only.
    UntilClose,
}

impl Framing {
    /// The framing of a request's body.
    pub(crate) fn of_request(fields: &Fields, buf: &[u8], version: Version) -> Result<Self, Error> {
        let length = content_length(fields, buf)?;
        match (is_chunked(fields, buf)?, length) {
            (true, Some(_)) => Err(Error::malformed("both Content-Length and Transfer-Encoding")),
            (true, None) if version == Version::Http10 => Err(Error::malformed("Transfer-Encoding in HTTP/1.0")),
            (true, None) => Ok(Self::Chunked),
            (false, None | Some(0)) => Ok(Self::Empty),
            (false, Some(length)) => Ok(Self::Length(length)),
        }
    }

    /// The framing of the body of a response to a request with `method`.
    pub(crate) fn of_response(
        fields: &Fields,
        buf: &[u8],
        version: Version,
        status: u16,
        method: &Method,
    ) -> Result<Self, Error> {
        let length = content_length(fields, buf)?;
        let chunked = is_chunked(fields, buf)?;
        if chunked && length.is_some() {
            return Err(Error::malformed("both Content-Length and Transfer-Encoding"));
        }
        if chunked && version == Version::Http10 {
            return Err(Error::malformed("Transfer-Encoding in HTTP/1.0"));
        }
        // These have no body whatever their fields say; the fields tell of the body that a GET would have had.
        if *method == Method::Head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Self::Empty);
        }
        Ok(match (chunked, length) {
            (true, _) => Self::Chunked,
            (false, Some(0)) => Self::Empty,
            (false, Some(length)) => Self::Length(length),
            (false, None) => Self::UntilClose,
        })
    }
}

/// The value of the one `Content-Length`, if there is one.
fn content_length(fields: &Fields, buf: &[u8]) -> Result<Option<u64>, Error> {
    let Some(field) = fields.single(FieldId::ContentLength, "several Content-Length fields")? else {
        return Ok(None);
    };
    let value = field.value.of_buf(buf);
    // 19 digits hold every length below 10^19, which an unsigned 64-bit number holds as well.
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Error::malformed("Content-Length is not a number"));
    }
    Ok(Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
}

/// Whether the body is chunked by the one `Transfer-Encoding`.
fn is_chunked(fields: &Fields, buf: &[u8]) -> Result<bool, Error> {
    let Some(field) = fields.single(FieldId::TransferEncoding, "several Transfer-Encoding fields")? else {
        return Ok(false);
    };
    let value = field.value.of_buf(buf);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    // Compressed and then chunked is legal; it is just not something that this codec undoes.
    let codings: Vec<_> = list_members(value).collect();
    match codings.split_last() {
        Some((last, before)) if last.eq_ignore_ascii_case(b"chunked") && before.iter().all(|c| is_other_coding(c)) => {
            Err(Error::new(ErrorKind::NotImplemented, "a transfer coding other than chunked"))
        }
        _ => Err(Error::malformed("Transfer-Encoding is not chunked")),
    }
}

/// Whether this is a transfer coding that RFC 9112 registers beside `chunked`.
fn is_other_coding(member: &[u8]) -> bool {
    [b"gzip".as_slice(), b"x-gzip", b"deflate", b"compress", b"x-compress"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(member))
}
