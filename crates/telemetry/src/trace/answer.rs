//! Reading what a collector answers: the few fields of a message that matter, whatever else is in it.
//!
//! Source: protobuf.dev, "Encoding".

use super::wire::{FIXED64, LENGTH, VARINT};

/// The wire type that only others write.
const FIXED32: u8 = 5;

/// The number in the field `field` of a message, or the bytes of a message in it; `None` when it is absent or the
/// message is broken.
pub(super) fn find(message: &[u8], field: u64) -> Option<Found<'_>> {
    let mut rest = message;
    while !rest.is_empty() {
        let key = read_varint(&mut rest)?;
        let found = match (key & 7) as u8 {
            VARINT => Found::Number(read_varint(&mut rest)?),
            LENGTH => {
                let len = usize::try_from(read_varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(len)?;
                rest = after;
                Found::Bytes(value)
            }
            FIXED64 => Found::Bytes(rest.split_off(..8)?),
            FIXED32 => Found::Bytes(rest.split_off(..4)?),
            _ => return None,
        };
        if key >> 3 == field {
            return Some(found);
        }
    }
    None
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, after) = from.split_first()?;
        *from = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::wire::{bytes, fixed64, length_bytes, number};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_found(value: u64, text in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            fixed64(&mut out, 1, value);
            bytes(&mut out, 3, &text);
            prop_assert_eq!(out.len() - 9, length_bytes(text.len()));
            number(&mut out, 4, value);
            prop_assert_eq!(find(&out, 1), Some(Found::Bytes(&value.to_le_bytes())));
            prop_assert_eq!(find(&out, 3), Some(Found::Bytes(&text)));
            prop_assert_eq!(find(&out, 4), Some(Found::Number(value)));
            prop_assert_eq!(find(&out, 5), None);
        }

        #[test]
        fn nothing_that_comes_in_panics(message in prop::collection::vec(any::<u8>(), 0..100), field in 0u64..20) {
            let _ = find(&message, field);
        }
    }
}
