//! The Huffman code of HPACK (RFC 7541 appendix B). It is canonical: the lengths of the codes say all of it.

use std::sync::OnceLock;

/// Bits of the code of each octet.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Bits of the longest codes, of which that of the end of string is the last.
const LONGEST: u8 = 30;

/// Octets by the length and then the value of their codes, and the codes by octet.
struct Code {
    codes: [u32; 256],
    /// By length: the first code, and the octets whose codes follow from it one by one.
    by_length: Vec<(u32, Vec<u8>)>,
}

fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(|| {
        let mut codes = [0; 256];
        let mut by_length = vec![(0, Vec::new())];
        let mut next = 0;
        for length in 1..=LONGEST {
            next <<= 1;
            let octets: Vec<u8> = (0..=255).filter(|&octet| LENGTHS[usize::from(octet)] == length).collect();
            let first = next;
            for &octet in &octets {
                codes[usize::from(octet)] = next;
                next += 1;
            }
            by_length.push((first, octets));
        }
        Code { codes, by_length }
    })
}

/// Encodes a string, padded with ones as it should be.
pub fn encode(text: &[u8]) -> Vec<u8> {
    let bits = text.iter().fold(0, |bits, &octet| bits + usize::from(LENGTHS[usize::from(octet)]));
    padded(text, (8 - bits % 8) % 8, true)
}

/// Encodes a string with so many bits of padding, which are ones or zeros. The whole has to fill octets.
///
/// # Panics
/// When it does not.
pub fn padded(text: &[u8], padding: usize, ones: bool) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for &octet in text {
        let (code, length) = (code().codes[usize::from(octet)], LENGTHS[usize::from(octet)]);
        bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
    }
    bits.extend(std::iter::repeat_n(ones, padding));
    assert_eq!(bits.len() % 8, 0, "the padding does not fill the last octet");
    bits.chunks(8).map(|octet| octet.iter().fold(0, |value, &bit| value << 1 | u8::from(bit))).collect()
}

/// Decodes a string.
///
/// # Errors
/// What is wrong with it: an end of string in it, or padding that is too long or not all ones.
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let (mut value, mut length) = (0_u32, 0_u8);
    for bit in bytes.iter().flat_map(|octet| (0..8).rev().map(move |at| octet >> at & 1)) {
        value = value << 1 | u32::from(bit);
        length += 1;
        if length > LONGEST {
            return Err("an end of string within a string".into());
        }
        let (first, octets) = &code().by_length[usize::from(length)];
        if let Some(&octet) = value.checked_sub(*first).and_then(|at| octets.get(at as usize)) {
            out.push(octet);
            (value, length) = (0, 0);
        }
    }
    if length > 7 {
        return Err(format!("{length} bits of padding"));
    }
    if value != (1 << length) - 1 {
        return Err("padding that is not all ones".into());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        // RFC 7541 appendices C.4 and C.6.
        let examples: [(&str, &[u8]); 4] = [
            ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
            ("302", &[0x64, 0x02]),
        ];
        for (text, bytes) in examples {
            assert_eq!(encode(text.as_bytes()), bytes, "{text}");
            assert_eq!(decode(bytes).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn the_code_is_whole_and_every_octet_comes_back() {
        // The codes and that of the end of string fill the tree exactly (Kraft).
        let filled: u64 = LENGTHS.iter().map(|&length| 1 << (LONGEST - length)).sum();
        assert_eq!(filled + 1, 1 << LONGEST);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
    }

    #[test]
    fn wrong_ends_are_refused() {
        assert!(decode(&[0xff; 4]).is_err(), "the end of string");
        assert!(decode(&padded(b"a", 3, false)).is_err(), "zeros");
        assert!(decode(&padded(b"a", 11, true)).is_err(), "a whole octet too much");
        assert_eq!(decode(&padded(b"a", 3, true)).unwrap(), b"a");
    }
}
