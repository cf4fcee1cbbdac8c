//! Writing heads and chunk framing into a caller's buffer.

use crate::{Field, FieldId, Fields, Span};

/// Longest text of [`chunk_head`].
pub const CHUNK_HEAD_BYTES_MAX: usize = 18;

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Begins a request: `METHOD target HTTP/1.1`.
pub fn request_line(out: &mut Vec<u8>, method: &str, target: &[u8]) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Begins a response: `HTTP/1.1 status reason`.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Adds a field. `value` must hold no line end.
// Where the name is a constant, its copy is a few moves and no call.
#[inline(always)]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Adds `Content-Length`.
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Adds a number in decimal.
pub fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Copies the lines of the fields that `keep` accepts, in as few runs as their order allows. `head` is the buffer
/// that the fields were parsed from.
pub fn kept_fields(out: &mut Vec<u8>, head: &[u8], fields: &Fields, mut keep: impl FnMut(&Field) -> bool) {
    let mut run: Option<(usize, usize)> = None;
    for (index, field) in fields.as_slice().iter().enumerate() {
        let line: Span = fields.line(index);
        run = match (run, keep(field)) {
            (Some((start, _)), true) => Some((start, line.end())),
            (None, true) => Some((line.start(), line.end())),
            (Some((start, end)), false) => {
                out.extend_from_slice(&head[start..end]);
                None
            }
            (None, false) => None,
        };
    }
    if let Some((start, end)) = run {
        out.extend_from_slice(&head[start..end]);
    }
}

/// Whether one of the `Connection` fields names this field, so that it must not be passed on.
pub fn is_named_by_connection(head: &[u8], fields: &Fields, field: &Field) -> bool {
    field.id.is_removable()
        && fields.all(FieldId::Connection).any(|connection| {
            crate::field::list_members(connection.value.of_buf(head))
                .any(|member| member.eq_ignore_ascii_case(field.name.of_buf(head)))
        })
}

/// Writes a chunk's size line into `out` and returns it. `size` must not be 0, which would end the body.
pub fn chunk_head(out: &mut [u8; CHUNK_HEAD_BYTES_MAX], size: u64) -> &[u8] {
    debug_assert!(size > 0);
    let mut at = CHUNK_HEAD_BYTES_MAX - 2;
    out[at..].copy_from_slice(b"\r\n");
    let mut rest = size;
    while rest > 0 {
        at -= 1;
        out[at] = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    &out[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_heads() {
        let check = |size: u64, expected: &str| {
            let mut out = [0; CHUNK_HEAD_BYTES_MAX];
            assert_eq!(chunk_head(&mut out, size), expected.as_bytes());
        };
        check(1, "1\r\n");
        check(255, "ff\r\n");
        check(65536, "10000\r\n");
        check(u64::MAX, "ffffffffffffffff\r\n");
    }
}
