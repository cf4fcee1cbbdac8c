//! Compression of a route's responses.

pub use coding::Effort;

use super::files::Coding;

/// Which responses are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressParams {
    /// Codings; of those that a client likes as much, the first.
    pub codings: Vec<Coding>,
    /// Types of responses.
    pub types: Vec<MediaRange>,
    /// Bodies that are known to be shorter stay as they are.
    pub bytes_min: u64,
    /// How much work is put into it.
    pub effort: Effort,
}

/// Media types: one, or those that begin and end with something, as `text/*` and `application/*+json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    text: String,
    /// Where its star is.
    star: Option<usize>,
}

impl MediaRange {
    /// Reads a range. `None` when it is none: a type, a slash and a subtype, in which one star stands for anything.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (kind, subtype) = text.split_once('/')?;
        let is_token = |part: &str, more: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'+-.^_`|~".contains(c) || more.contains(c))
        };
        let stars = subtype.matches('*').count();
        let good = is_token(kind, "") && is_token(subtype, "*") && stars <= 1;
        good.then(|| Self { star: text.find('*'), text })
    }

    /// Whether a type in lower case, without parameters, is in it.
    pub fn takes(&self, kind: &str) -> bool {
        match self.star {
            None => kind == self.text,
            Some(star) => {
                let (start, end) = (&self.text[..star], &self.text[star + 1..]);
                kind.len() >= start.len() + end.len() && kind.starts_with(start) && kind.ends_with(end)
            }
        }
    }

    /// The range as the file writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_in_ranges() {
        let check = |range: &str, kind: &str, expected: bool| {
            assert_eq!(MediaRange::new(range).unwrap().takes(kind), expected, "{range} {kind}");
        };
        check("text/html", "text/html", true);
        check("Text/HTML", "text/html", true);
        check("text/html", "text/htm", false);
        check("text/*", "text/x", true);
        check("text/*", "text", false);
        check("application/*+json", "application/ld+json", true);
        check("application/*+json", "application/json", false);
        for wrong in ["", "text", "text/", "/html", "*", "*/*", "te*t/html", "text/*x*", "text/html; q=1", "text/a b"] {
            assert_eq!(MediaRange::new(wrong), None, "{wrong}");
        }
    }
}
