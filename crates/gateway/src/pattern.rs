//! Regular expressions of the configuration.
//!
//! They match bytes, and always the whole of a text: `/v[0-9]+` does not match `/v1/admin`. The time of a search is
//! linear in the text, whoever wrote it; the size of an expression and of what a search remembers is bounded. A search
//! writes to memory of its own, so every core has a copy: copies share the program alone.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{Captures, Regex, RegexBuilder};

/// Longest text of an expression. What is longer is written by a program, and belongs into several.
const TEXT_BYTES_MAX: usize = 1024;

/// Largest program, and largest memory of a search: room for a thousand states, some of which `{n}` makes of few letters.
const PROGRAM_BYTES_MAX: usize = 256 * 1024;

/// A regular expression that matches whole texts. Two of the same text are equal.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a text is not a usable regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long, or its program would be too large.
    #[error("is too large: at most 1024 characters and 256 KiB of program")]
    TooLarge,
    /// It breaks the grammar.
    #[error("is not a regular expression: {0}")]
    Malformed(String),
}

impl Pattern {
    /// Reads an expression, in the syntax of the `regex` crate; classes such as `\w` are those of ASCII.
    ///
    /// # Errors
    /// When it breaks the grammar or is too large.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PatternError::TooLarge);
        }
        // On its own first, so that a text with a stray parenthesis cannot leave the group around it.
        compile(text)?;
        Ok(Self { text: text.to_owned(), regex: compile(&format!(r"\A(?:{text})\z"))? })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number of a group, given by number or name.
    pub(crate) fn group(&self, name: &str) -> Option<usize> {
        match name.parse::<usize>() {
            Ok(number) => Some(number).filter(|&number| number < self.regex.captures_len()),
            Err(_) => self.regex.capture_names().position(|known| known == Some(name)),
        }
    }
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(PROGRAM_BYTES_MAX).dfa_size_limit(PROGRAM_BYTES_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
        // The last line of a report says what is wrong; those before show the text, which whoever asks has.
        other => {
            let report = other.to_string();
            let reason = report.lines().last().unwrap_or_default();
            PatternError::Malformed(reason.strip_prefix("error: ").unwrap_or(reason).to_owned())
        }
    })
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// A pattern to search with, with memory for each core.
#[derive(Debug)]
pub(crate) struct Search(Box<[Regex]>);

impl Search {
    /// Searches of so many cores.
    pub(crate) fn new(pattern: &Pattern, cores: usize) -> Self {
        Self((0..cores.max(1)).map(|_| pattern.regex.clone()).collect())
    }

    /// Whether it matches the whole of a text.
    pub(crate) fn matches(&self, core: usize, text: &[u8]) -> bool {
        self.0[core].is_match(text)
    }

    /// What its groups match if it matches the whole of a text.
    pub(crate) fn captures<'t>(&self, core: usize, text: &'t [u8]) -> Option<Captures<'t>> {
        self.0[core].captures(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_match() {
        let check = |pattern: &str, text: &str, expected: bool| {
            let search = Search::new(&Pattern::new(pattern).unwrap(), 2);
            assert_eq!(search.matches(1, text.as_bytes()), expected, "{pattern} {text}");
        };
        check("/v[0-9]+", "/v12", true);
        check("/v[0-9]+", "/v12/admin", false);
        check("/v[0-9]+", "/x/v12", false);
        check("a|ab", "ab", true);
        check("^/a$", "/a", true);
        check("(?i)/Admin", "/aDMIN", true);
        check(".*", "\u{fc}\n", false);
        check("(?s).*", "\u{fc}\n", true);
        check("", "", true);
        // In many lines of one text, `^` and `$` stand within it; the whole has to match all the same.
        check("(?m)^a$", "a\nb", false);
    }

    #[test]
    fn what_is_not_one_is_refused() {
        let check = |text: &str| Pattern::new(text).unwrap_err().to_string();
        assert_eq!(check("("), "is not a regular expression: unclosed group");
        assert_eq!(check("a)|(?:b"), "is not a regular expression: unopened group");
        assert!(check("(?=a)").contains("look-around"), "{}", check("(?=a)"));
        assert_eq!(Pattern::new("((a{100}){100}){100}").unwrap_err(), PatternError::TooLarge);
        assert_eq!(Pattern::new(&"a".repeat(1025)).unwrap_err(), PatternError::TooLarge);
    }
}
