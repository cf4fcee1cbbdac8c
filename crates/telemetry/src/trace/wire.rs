//! The wire format of Protocol Buffers, as far as spans need it.
//!
//! A message is a sequence of fields: a varint of number and wire type, then the value. That is all that a core
//! writes per span, straight into its buffer; generated types would want each text as a string of its own first.
//!
//! Source: protobuf.dev, "Encoding".

/// Wire types: how a field's value is delimited.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const LENGTH: u8 = 2;

/// Appends a varint: seven bits per byte, the lowest first.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a varint.
pub(super) fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a field's number and type. Numbers below 16 take one byte, and no others are needed.
fn key(out: &mut Vec<u8>, field: u8, kind: u8) {
    debug_assert!((1..16).contains(&field));
    out.push(field << 3 | kind);
}

/// Appends a number.
pub(super) fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    key(out, field, VARINT);
    varint(out, value);
}

/// Appends a number of eight bytes.
pub(super) fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends bytes, a text, or a message that was written before.
pub(super) fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    length(out, field, value.len());
    out.extend_from_slice(value);
}

/// Appends the head of a field that goes on for `len` bytes.
#[inline]
pub(super) fn length(out: &mut Vec<u8>, field: u8, len: usize) {
    debug_assert!((1..16).contains(&field));
    // Nearly all are this short, and one copy of two bytes costs less than two of one.
    if len < 0x80 {
        out.extend_from_slice(&[field << 3 | LENGTH, len as u8]);
    } else {
        key(out, field, LENGTH);
        varint(out, len as u64);
    }
}

/// Bytes of a field that holds `len` bytes, its head included.
pub(super) fn length_bytes(len: usize) -> usize {
    1 + varint_bytes(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_the_manual_shows() {
        let check = |value: u64, expected: &[u8]| {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected);
            assert_eq!(varint_bytes(value), expected.len());
        };
        check(0, &[0]);
        check(127, &[0x7f]);
        check(150, &[0x96, 0x01]);
        check(16_384, &[0x80, 0x80, 0x01]);
        check(u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }
}
