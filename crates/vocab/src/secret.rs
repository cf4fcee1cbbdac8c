use std::fmt;

/// A text that no log, error or page may show: it has no `Display`, and its `Debug` is `***`.
///
/// ```
/// let token = vocab::Secret::new("0123456789abcdef");
/// assert_eq!(format!("{token:?}"), "***");
/// assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeF"));
/// ```
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a text for a secret.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Whether a text is long enough not to be guessed, and can stand in a field of HTTP: at least 16 visible ASCII characters.
    pub fn may_be(text: &str) -> bool {
        text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// The text itself, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the secret. The time that this takes depends on the lengths alone, so that a secret cannot be
    /// guessed byte by byte.
    pub fn is(&self, given: &[u8]) -> bool {
        let expected = self.0.as_bytes();
        let difference =
            given.iter().zip(expected).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
        given.len() == expected.len() && difference == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_or_cannot_stand_in_a_field_is_none() {
        assert!(Secret::may_be("0123456789abcdef"));
        assert!(!Secret::may_be("0123456789abcde"));
        assert!(!Secret::may_be("0123456789 abcdef") && !Secret::may_be("0123456789abcd\u{e9}"));
    }

    #[test]
    fn comparing_is_equality() {
        let texts = ["", "a", "b", "ab", "ba", "aa", "aab", "abab"];
        for a in texts {
            for b in texts {
                assert_eq!(Secret::new(a).is(b.as_bytes()), a == b, "{a:?} {b:?}");
                assert_eq!(Secret::new(a) == Secret::new(b), a == b, "{a:?} {b:?}");
            }
        }
    }
}
