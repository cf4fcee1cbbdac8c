use std::fmt;
use std::sync::Arc;

/// Longest name accepted, in bytes. Names become metric labels and log fields, so they stay short.
const NAME_BYTES_MAX: usize = 64;

/// The name of a listener, route or service as the configuration gives it.
///
/// Cheap to clone; ASCII letters, digits, `_`, `-` and `.` only, so that it can stand in a metric label, a log field,
/// a JSON body or a file name without escaping.
///
/// ```
/// let name: vocab::Name = "api".parse().unwrap();
/// assert_eq!(name.as_str(), "api");
/// assert!("no spaces".parse::<vocab::Name>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text has more than 64 bytes; the count is given.
    TooLong(usize),
    /// The text holds a character that names may not have.
    Character(char),
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        match text.chars().find(|&c| !allowed(c)) {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(Arc::from(text))),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name must not be empty"),
            Self::TooLong(bytes) => write!(f, "a name has at most {NAME_BYTES_MAX} bytes, this one has {bytes}"),
            Self::Character(c) => write!(f, "a name holds letters, digits, '_', '-' and '.', not {c:?}"),
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let check = |text: &str, expected: Result<&str, NameError>| {
            let parsed = text.parse::<Name>();
            assert_eq!(parsed.as_ref().map(Name::as_str).map_err(Clone::clone), expected, "{text:?}");
        };
        check("api", Ok("api"));
        check("shop-v2.eu_1", Ok("shop-v2.eu_1"));
        check("", Err(NameError::Empty));
        check("a b", Err(NameError::Character(' ')));
        check("caf\u{e9}", Err(NameError::Character('\u{e9}')));
        check(&"x".repeat(65), Err(NameError::TooLong(65)));
    }
}
