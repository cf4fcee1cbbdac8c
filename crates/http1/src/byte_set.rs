//! Sets of bytes, asked in one look.

/// A set of bytes.
#[derive(Clone, Copy, Debug)]
pub struct ByteSet([bool; 256]);

/// What a token may hold: RFC 9110 section 5.6.2.
pub static TOKEN: ByteSet = ByteSet::alphanumeric_and(b"!#$%&'*+-.^_`|~");

impl ByteSet {
    /// ASCII letters and digits, and `others`.
    pub const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < set.len() {
            set[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut index = 0;
        while index < others.len() {
            set[others[index] as usize] = true;
            index += 1;
        }
        Self(set)
    }

    /// Whether all bytes of `text` are in the set; so they are if it is empty.
    pub fn holds_all(&self, text: &[u8]) -> bool {
        text.iter().all(|&byte| self.0[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(TOKEN.holds_all(&[b'a', byte]), expected, "{byte}");
        }
        assert!(TOKEN.holds_all(b""));
    }
}
