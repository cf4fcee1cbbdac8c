//! Validators, and the conditions that clients put on them: RFC 9110 sections 8.8 and 13, RFC 9111 section 4.3.2.
//!
//! - `If-None-Match` compares weakly, `If-Range` strongly. `If-None-Match` makes `If-Modified-Since` void.
//! - Tags without quotes, which are malformed but common, are compared as they stand and never strongly.
//! - A condition that cannot be read is not met: the client gets the whole response, which is always right.

use crate::time::UnixTime;

/// An entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Self {
        match text.strip_prefix(b"W/") {
            Some(opaque) => Self { weak: true, opaque },
            None => Self { weak: !is_quoted(text), opaque: text },
        }
    }

    pub(crate) fn is_strong(self) -> bool {
        !self.weak
    }

    pub(crate) fn matches_weakly(self, other: EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    pub(crate) fn matches_strongly(self, other: EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }
}

fn is_quoted(text: &[u8]) -> bool {
    text.len() >= 2 && text[0] == b'"' && text.ends_with(b"\"")
}

/// What is known of a representation to compare with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    pub(crate) etag: Option<&'a [u8]>,
    pub(crate) last_modified: Option<UnixTime>,
    /// The date of the response.
    pub(crate) date: UnixTime,
}

/// Whether a value of `If-None-Match` holds the tag, or is `*`.
pub(crate) fn none_match_holds(value: &[u8], etag: Option<&[u8]>) -> bool {
    if value == b"*" {
        return true;
    }
    let Some(etag) = etag else { return false };
    // A client mostly has one tag, and it is this one.
    if value == etag {
        return true;
    }
    let etag = EntityTag::of(etag);
    tags(value).any(|tag| EntityTag::of(tag).matches_weakly(etag))
}

/// The tags of a list. Quotes have no escapes here, so a backslash in a tag is a character like any other.
fn tags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let mut quoted = false;
            let end = rest.iter().position(|&byte| {
                quoted ^= byte == b'"';
                byte == b',' && !quoted
            });
            let end = end.unwrap_or(rest.len());
            let tag = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !tag.is_empty() {
                return Some(tag);
            }
        }
        None
    })
}

/// Whether nothing was modified since a value of `If-Modified-Since`. A response that does not say when it was modified
/// was modified when it was made.
pub(crate) fn not_modified_since(value: &[u8], known: Known<'_>) -> bool {
    UnixTime::of_http_date(value).is_some_and(|since| known.last_modified.unwrap_or(known.date).secs() <= since.secs())
}

/// Whether `If-Range` allows a part of what is known: RFC 9110 section 13.1.5.
pub(crate) fn if_range_holds(value: &[u8], known: Known<'_>) -> bool {
    if let Some(date) = UnixTime::of_http_date(value) {
        // A date is strong only if the representation was a second old when it was sent, section 8.8.2.2.
        return known.last_modified.is_some_and(|modified| modified == date && modified.secs() < known.date.secs());
    }
    known.etag.is_some_and(|etag| EntityTag::of(etag).matches_strongly(EntityTag::of(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly() {
        let check = |value: &str, etag: &str, expected: bool| {
            assert_eq!(none_match_holds(value.as_bytes(), Some(etag.as_bytes())), expected, "{value} {etag}");
        };
        check(r#""a""#, r#""a""#, true);
        check(r#"W/"a""#, r#""a""#, true);
        check(r#""a""#, r#"W/"a""#, true);
        check(r#""b", W/"c" ,"a""#, r#""a""#, true);
        check(r#""b,"a""#, r#""a""#, false);
        check(r#""a,b""#, r#""a,b""#, true);
        check(r#""a\", "b""#, r#""b""#, true);
        check("*", r#""a""#, true);
        check(r#""A""#, r#""a""#, false);
        check(r#"w/"a""#, r#""a""#, false);
        check("a", "a", true);
        check("a", r#""a""#, false);
        check("", r#""a""#, false);
        assert!(none_match_holds(b"*", None));
        assert!(!none_match_holds(b"\"a\"", None));
    }

    fn known(etag: &'static str, last_modified: Option<u64>, date: u64) -> Known<'static> {
        let etag = (!etag.is_empty()).then_some(etag.as_bytes());
        Known { etag, last_modified: last_modified.map(UnixTime::from_secs), date: UnixTime::from_secs(date) }
    }

    const SECS: u64 = 784_111_777;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn dates_of_modification() {
        let check = |value: &str, last_modified: Option<u64>, date: u64, expected: bool| {
            let found = not_modified_since(value.as_bytes(), known("", last_modified, date));
            assert_eq!(found, expected, "{value} {last_modified:?} {date}");
        };
        check(DATE, Some(SECS), 0, true);
        check(DATE, Some(SECS - 1), 0, true);
        check(DATE, Some(SECS + 1), 0, false);
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(SECS), 0, true);
        check(DATE, None, SECS, true);
        check(DATE, None, SECS + 1, false);
        check("yesterday", Some(0), 0, false);
    }

    #[test]
    fn parts_need_a_strong_match() {
        let check = |value: &str, etag: &'static str, last_modified: Option<u64>, date: u64, expected: bool| {
            let found = if_range_holds(value.as_bytes(), known(etag, last_modified, date));
            assert_eq!(found, expected, "{value} {etag} {last_modified:?} {date}");
        };
        check(r#""a""#, r#""a""#, None, 0, true);
        check(r#"W/"a""#, r#""a""#, None, 0, false);
        check(r#""a""#, r#"W/"a""#, None, 0, false);
        check("a", "a", None, 0, false);
        check(r#""a", "b""#, r#""a""#, None, 0, false);
        check(r#""a""#, "", None, 0, false);
        check(DATE, "", Some(SECS), SECS + 1, true);
        check(DATE, "", Some(SECS), SECS, false);
        check(DATE, "", Some(SECS - 1), SECS + 9, false);
        check(DATE, "", None, SECS, false);
    }
}
