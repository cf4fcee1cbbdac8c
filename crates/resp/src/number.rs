//! Numbers as Redis reads them: the shortest way to write a whole number of 64 bits, and nothing else.

/// Reads a number.
///
/// ```
/// assert_eq!((resp::number(b"-7"), resp::number(b"07")), (Some(-7), None));
/// ```
pub fn number(text: &[u8]) -> Option<i64> {
    let (digits, is_negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        _ => (text, false),
    };
    match digits {
        [] => return None,
        [b'0', ..] if digits.len() > 1 || is_negative => return None,
        _ => {}
    }
    // Downwards, as there is one more number below zero than above.
    let value = digits.iter().try_fold(0_i64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_sub(digit)
    })?;
    if is_negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_way_to_write_it() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }
        for wrong in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1.0", "1e3", "9223372036854775808", "0x1"] {
            assert_eq!(number(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
