//! A request's identity: its id, and the trace that it belongs to.
//!
//! An id or a trace that came with the request is kept if it is well-formed, so that one name follows a request through
//! a whole system. Otherwise both begin here, from one random number, so that either finds the other.
//!
//! Source: W3C Trace Context, level 1.

use http1::{ByteSet, FieldId, Request};
use telemetry::trace::RemoteParent;

/// Longest id taken from a request.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A request's id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId {
    bytes: [u8; REQUEST_ID_BYTES_MAX],
    len: u8,
}

impl Default for RequestId {
    fn default() -> Self {
        Self { bytes: [0; REQUEST_ID_BYTES_MAX], len: 0 }
    }
}

impl RequestId {
    /// Takes the request's own id, or makes one of `random`.
    pub(crate) fn assign(&mut self, request: &Request, head: &[u8], random: u128) {
        let own = request.fields.all(FieldId::XRequestId).next().map(|field| field.value.of_buf(head));
        match own.filter(|id| is_request_id(id)) {
            Some(id) => {
                self.bytes[..id.len()].copy_from_slice(id);
                self.len = id.len() as u8;
            }
            None => self.make(random),
        }
    }

    /// Makes an id of `random`.
    pub(crate) fn make(&mut self, random: u128) {
        hex(&mut self.bytes[..32], random);
        self.len = 32;
    }

    /// The id, visible ASCII without quotes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

fn is_request_id(id: &[u8]) -> bool {
    static ALLOWED: ByteSet = ByteSet::alphanumeric_and(b"-_.:/+=@#~,;");
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && ALLOWED.holds_all(id)
}

/// The `traceparent` that the request came with, if it is the only one and well-formed.
pub(crate) fn traceparent<'b>(request: &Request, head: &'b [u8]) -> Option<&'b [u8]> {
    let mut all = request.fields.all(FieldId::Traceparent).map(|field| field.value.of_buf(head));
    all.next().filter(|value| is_traceparent(value)).filter(|_| all.next().is_none())
}

/// What the request's `traceparent` says, if it is the only one and well-formed.
pub(crate) fn remote_parent(request: &Request, head: &[u8]) -> Option<RemoteParent> {
    let value = std::str::from_utf8(traceparent(request, head)?).ok()?;
    let trace_id = u128::from_str_radix(value.get(3..35)?, 16).ok()?;
    let span_id = u64::from_str_radix(value.get(36..52)?, 16).ok()?;
    let flags = u8::from_str_radix(value.get(53..55)?, 16).ok()?;
    Some(RemoteParent { trace_id, span_id, flags })
}

/// The `tracestate` that came with a well-formed `traceparent`, if it stands in one field.
pub(crate) fn tracestate<'b>(request: &Request, head: &'b [u8]) -> &'b [u8] {
    let mut all = request.fields.all(FieldId::Tracestate).map(|field| field.value.of_buf(head));
    all.next().filter(|_| all.next().is_none() && traceparent(request, head).is_some()).unwrap_or_default()
}

fn is_traceparent(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|&b| b == b'0');
    // Later versions may add parts after the flags; version ff is invalid.
    let (known, rest) = value.split_at_checked(55).unwrap_or((b"", b""));
    let [v0, v1, b'-', ids @ ..] = known else { return false };
    let version = [*v0, *v1];
    let (Some(trace), Some(span), Some(flags)) = (ids.get(..32), ids.get(33..49), ids.get(50..52)) else {
        return false;
    };
    is_hex(&version)
        && version != *b"ff"
        && ids[32] == b'-'
        && ids[49] == b'-'
        && [trace, span, flags].into_iter().all(is_hex)
        && !is_zero(trace)
        && !is_zero(span)
        && (rest.is_empty() || (version != *b"00" && rest[0] == b'-'))
}

/// Adds a `traceparent` that begins a trace which is not sampled.
pub(crate) fn begin_trace(out: &mut Vec<u8>, trace: u128, span: u64) {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    // Ids of zeros are invalid.
    hex(&mut value[3..35], trace.max(1));
    hex(&mut value[36..52], u128::from(span.max(1)));
    http1::write::field(out, b"traceparent", &value);
}

/// Fills `out` with the lowest digits of a number.
fn hex(out: &mut [u8], mut number: u128) {
    for digits in out.rchunks_mut(8) {
        let text = hex_digits(number as u32).to_be_bytes();
        digits.copy_from_slice(&text[8 - digits.len()..]);
        number >>= 32;
    }
}

/// The eight digits of a number, the first in the highest byte; all at once, as each request has many.
fn hex_digits(number: u32) -> u64 {
    let mut nibbles = u64::from(number);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // From 10 on, adding 6 carries into the higher half of the byte.
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids() {
        let check = |id: &str, expected: bool| assert_eq!(is_request_id(id.as_bytes()), expected, "{id}");
        check("7d0e7a30-1c5a-4a52-a8fe-6d3c1a4be1ff", true);
        check("", false);
        check("with space", false);
        check("quote\"", false);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
        let mut made = RequestId::default();
        made.make(0xab);
        assert_eq!(made.as_bytes(), b"000000000000000000000000000000ab");
        for number in [0, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, u128::MAX, 0x9a << 60] {
            made.make(number);
            assert_eq!(made.as_bytes(), format!("{number:032x}").as_bytes());
        }
    }

    #[test]
    fn traceparents() {
        let check = |value: &str, expected: bool| assert_eq!(is_traceparent(value.as_bytes()), expected, "{value}");
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true);
        check("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false);
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false);
        check("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false);
        check("", false);
        let mut out = Vec::new();
        begin_trace(&mut out, 0, 7);
        let text = std::str::from_utf8(&out).unwrap();
        assert!(is_traceparent(text["traceparent: ".len()..].trim_end().as_bytes()), "{text}");
    }
}
