//! Conditions of requests for a file, in the order of RFC 9110 section 13.2.2.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http1::Request;

/// What tells two versions of a file apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators {
    /// The entity tag, as it stands in fields.
    pub(crate) etag: String,
    /// When the file was changed, in whole seconds, as fields have them.
    pub(crate) modified: SystemTime,
    /// Whether a further change would be seen for sure. If not, the tag is weak and the time no proof.
    pub(crate) settled: bool,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They hold, or there are none.
    Send,
    /// The client has it.
    NotModified,
    /// A condition fails.
    Failed,
}

impl Validators {
    /// Judges a GET or HEAD.
    pub(crate) fn judge(&self, request: &Request, head: &[u8]) -> Verdict {
        let has = |name: &[u8]| request.fields.named(head, name).next().is_some();
        let date = |name: &[u8]| one(request, head, name).and_then(date);
        if has(b"if-match") {
            if !self.is_among(request, head, b"if-match", true) {
                return Verdict::Failed;
            }
        } else if date(b"if-unmodified-since").is_some_and(|since| self.modified > since) {
            return Verdict::Failed;
        }
        if has(b"if-none-match") {
            if self.is_among(request, head, b"if-none-match", false) {
                return Verdict::NotModified;
            }
        } else if date(b"if-modified-since").is_some_and(|since| self.modified <= since) {
            return Verdict::NotModified;
        }
        Verdict::Send
    }

    /// Whether ranges may be sent: without a condition on that, and of the version that the client has a part of.
    pub(crate) fn allow_ranges(&self, request: &Request, head: &[u8]) -> bool {
        if request.fields.named(head, b"if-range").next().is_none() {
            return true;
        }
        let Some(value) = one(request, head, b"if-range") else { return false };
        if value.contains(&b'"') {
            return !value.starts_with(b"W/") && value == self.etag.as_bytes();
        }
        self.settled && date(value) == Some(self.modified)
    }

    /// Whether a list of tags names this version. `strongly` compares as RFC 9110 section 8.8.3.2 has it for `If-Match`.
    fn is_among(&self, request: &Request, head: &[u8], name: &[u8], strongly: bool) -> bool {
        let (own_weak, own) = split(self.etag.as_bytes());
        request.fields.named(head, name).any(|value| {
            let mut rest = value.trim_ascii();
            if rest == b"*" {
                return true;
            }
            while let Some((weak, tag, after)) = next_tag(rest) {
                if tag == own && !(strongly && (weak || own_weak)) {
                    return true;
                }
                rest = after;
            }
            false
        })
    }
}

/// Whether a tag is weak, and what stands between its quotes.
fn split(tag: &[u8]) -> (bool, &[u8]) {
    let (weak, quoted) = match tag.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, tag),
    };
    (weak, quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(quoted))
}

/// The first tag of a list, and what follows; `None` at its end, and where it cannot be read.
fn next_tag(list: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let start = list.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
    let rest = &list[start..];
    let (weak, rest) = match rest.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest)?;
    Some((weak, &rest[..end], &rest[end + 1..]))
}

/// The value of a field that there is once.
fn one<'h>(request: &'h Request, head: &'h [u8], name: &'h [u8]) -> Option<&'h [u8]> {
    let mut all = request.fields.named(head, name);
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

/// A date of HTTP, in any of its three forms.
fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// A time in whole seconds.
pub(crate) fn in_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sunday, 6 November 1994, 08:49:37.
    const TIME: u64 = 784_111_777;
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn with(fields: &str, etag: &str, settled: bool, look: impl FnOnce(&Validators, &Request, &[u8])) {
        let head = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
        let mut request = Request::default();
        request.parse(head.as_bytes(), &http1::Limits { bytes_max: 4096, fields_max: 32 }).unwrap();
        let modified = UNIX_EPOCH + Duration::from_secs(TIME);
        look(&Validators { etag: etag.to_owned(), modified, settled }, &request, head.as_bytes());
    }

    fn check(fields: &str, etag: &str, expected: Verdict) {
        with(fields, etag, true, |validators, request, head| {
            assert_eq!(validators.judge(request, head), expected, "{fields:?} {etag}");
        });
    }

    #[test]
    fn tags_come_before_dates() {
        use Verdict::{Failed, NotModified, Send};
        check("", "\"a\"", Send);
        check("If-None-Match: \"a\"\r\n", "\"a\"", NotModified);
        check("If-None-Match: W/\"a\"\r\n", "\"a\"", NotModified);
        check("If-None-Match: \"a\"\r\n", "W/\"a\"", NotModified);
        check("If-None-Match: \"b\", W/\"c\" ,\"a\"\r\n", "\"a\"", NotModified);
        check("If-None-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", "\"a\"", NotModified);
        check("If-None-Match: *\r\n", "\"a\"", NotModified);
        check("If-None-Match: \"b,a\"\r\n", "\"a\"", Send);
        check("If-None-Match: a\r\n", "\"a\"", Send);
        check("If-None-Match: \"a\r\n", "\"a\"", Send);
        check("If-None-Match: \r\n", "\"a\"", Send);
        check(&format!("If-Modified-Since: {THEN}\r\n"), "\"a\"", NotModified);
        check(&format!("If-Modified-Since: {AFTER}\r\n"), "\"a\"", NotModified);
        check(&format!("If-Modified-Since: {BEFORE}\r\n"), "\"a\"", Send);
        check("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", "\"a\"", NotModified);
        check("If-Modified-Since: yesterday\r\n", "\"a\"", Send);
        check(&format!("If-None-Match: \"b\"\r\nIf-Modified-Since: {THEN}\r\n"), "\"a\"", Send);
        check("If-Match: \"a\"\r\n", "\"a\"", Send);
        check("If-Match: *\r\n", "\"a\"", Send);
        check("If-Match: \"b\"\r\n", "\"a\"", Failed);
        check("If-Match: W/\"a\"\r\n", "\"a\"", Failed);
        check("If-Match: \"a\"\r\n", "W/\"a\"", Failed);
        check(&format!("If-Unmodified-Since: {BEFORE}\r\n"), "\"a\"", Failed);
        check(&format!("If-Unmodified-Since: {THEN}\r\n"), "\"a\"", Send);
        check(&format!("If-Match: \"a\"\r\nIf-Unmodified-Since: {BEFORE}\r\n"), "\"a\"", Send);
        check("If-Match: \"a\"\r\nIf-None-Match: \"a\"\r\n", "\"a\"", NotModified);
    }

    #[test]
    fn ranges_are_of_one_version() {
        let check = |value: &str, etag: &str, settled: bool, expected: bool| {
            let field = if value.is_empty() { String::new() } else { format!("If-Range: {value}\r\n") };
            with(&field, etag, settled, |validators, request, head| {
                assert_eq!(validators.allow_ranges(request, head), expected, "{value} {etag} {settled}");
            });
        };
        check("", "\"a\"", true, true);
        check("", "W/\"a\"", false, true);
        check("\"a\"", "\"a\"", true, true);
        check("\"b\"", "\"a\"", true, false);
        check("W/\"a\"", "W/\"a\"", true, false);
        check("W/\"a\"", "\"a\"", true, false);
        check(THEN, "\"a\"", true, true);
        check(THEN, "W/\"a\"", false, false);
        check(BEFORE, "\"a\"", true, false);
        check(AFTER, "\"a\"", true, false);
        check("nonsense", "\"a\"", true, false);
    }
}
