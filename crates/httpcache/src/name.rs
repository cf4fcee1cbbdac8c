//! Names are compared without regard to case, some forty of them for each request.

/// Whether two names are one. Their length and first letter tell most apart.
#[inline]
pub(crate) fn alike(one: &[u8], other: &[u8]) -> bool {
    let first = |name: &[u8]| name.first().map(|octet| octet | 0x20);
    one.len() == other.len() && first(one) == first(other) && have_like_octets(one, other)
}

/// Compares two names of one length. Words that may overlap cover both: a loop over their octets costs several times as
/// much.
fn have_like_octets(one: &[u8], other: &[u8]) -> bool {
    let same = |one: &[u8; 8], other: &[u8; 8]| lower(u64::from_ne_bytes(*one)) == lower(u64::from_ne_bytes(*other));
    if let (Some(first), Some(other_first), Some(last), Some(other_last)) =
        (one.first_chunk(), other.first_chunk(), one.last_chunk(), other.last_chunk())
    {
        let middle = || one[8..one.len() - 8].eq_ignore_ascii_case(&other[8..one.len() - 8]);
        return same(first, other_first) && same(last, other_last) && (one.len() <= 16 || middle());
    }
    let half = |bytes: &[u8; 4]| u64::from(u32::from_ne_bytes(*bytes));
    let ends = |bytes: &[u8]| Some(half(bytes.first_chunk()?) | half(bytes.last_chunk()?) << 32);
    match (ends(one), ends(other)) {
        (Some(one), Some(other)) => lower(one) == lower(other),
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// Makes capital letters of eight octets small, and leaves all else.
#[inline]
fn lower(word: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH * 0x80;
    // An octet's high bit becomes set if its lower seven bits are at least `A`, and beyond `Z`.
    let bits = word & !HIGH;
    let from_a = bits + EACH * (0x80 - b'A' as u64);
    let beyond_z = bits + EACH * (0x7F - b'Z' as u64);
    let capital = from_a & !beyond_z & !word & HIGH;
    word | capital >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_octet_is_compared_as_it_should() {
        for one in 0..=u8::MAX {
            for other in 0..=u8::MAX {
                assert_eq!(alike(&[one; 5], &[other; 5]), one.eq_ignore_ascii_case(&other), "{one} {other}");
                assert_eq!(alike(&[one; 9], &[other; 9]), one.eq_ignore_ascii_case(&other), "{one} {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn names_are_compared_as_by_their_bytes(one in "[a-zA-Z@\\[_-]{0,30}", at in 0_usize..30, octet: u8) {
            let mut other = one.to_ascii_uppercase().into_bytes();
            prop_assert!(alike(one.as_bytes(), &other));
            if let Some(slot) = other.get_mut(at) {
                *slot = octet;
            }
            prop_assert_eq!(alike(one.as_bytes(), &other), one.as_bytes().eq_ignore_ascii_case(&other));
            other.push(b'x');
            prop_assert!(!alike(one.as_bytes(), &other));
        }
    }
}
