//! What the cache tells of a response: `Cache-Status`, RFC 9211.
//!
//! A cache adds its member behind those of the caches nearer to the origin, so it is written as a line of its own after
//! the response's fields. The key is told only if asked for: it shows what the site takes for equal.

use crate::lookup::Forward;
use crate::range::write_text;

/// One cache's account of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// Why the request went to the origin; without it the response is a hit.
    pub forward: Option<Forward>,
    /// The origin's status, where it differs from the one that is sent: 304 when the stored response was good.
    pub forward_status: Option<u16>,
    /// For how many seconds the response stays fresh.
    pub ttl_secs: Option<i64>,
    /// Whether the response was stored, where the request was forwarded.
    pub stored: bool,
    /// Whether the request shared another one's way to the origin.
    pub collapsed: bool,
    /// The key, where it is to be told.
    pub key: Option<&'a [u8]>,
    /// A token that says more.
    pub detail: Option<&'a str>,
}

impl Forward {
    /// The value of `fwd`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl CacheStatus<'_> {
    /// Appends the line, with `cache`, a token, as the name of the cache.
    ///
    /// ```
    /// let mut out = Vec::new();
    /// let status = httpcache::CacheStatus { ttl_secs: Some(376), ..Default::default() };
    /// status.write_line(&mut out, "tenfold");
    /// assert_eq!(out, b"Cache-Status: tenfold;hit;ttl=376\r\n");
    /// ```
    pub fn write_line(&self, out: &mut Vec<u8>, cache: &str) {
        out.extend_from_slice(b"Cache-Status: ");
        self.write_member(out, cache);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the member alone.
    pub fn write_member(&self, out: &mut Vec<u8>, cache: &str) {
        out.extend_from_slice(cache.as_bytes());
        match self.forward {
            None => out.extend_from_slice(b";hit"),
            Some(forward) => {
                out.extend_from_slice(b";fwd=");
                out.extend_from_slice(forward.as_str().as_bytes());
                if let Some(status) = self.forward_status {
                    write_text(out, format_args!(";fwd-status={status}"));
                }
            }
        }
        if let Some(ttl) = self.ttl_secs {
            // The largest integer of a structured field has fifteen digits; no clock comes near.
            out.extend_from_slice(b";ttl=");
            // Every hit has it, and formatting takes several times as long.
            out.extend_from_slice(itoa::Buffer::new().format(ttl).as_bytes());
        }
        if self.forward.is_some() && self.stored {
            out.extend_from_slice(b";stored");
        }
        if self.forward.is_some() && self.collapsed {
            out.extend_from_slice(b";collapsed");
        }
        if let Some(key) = self.key {
            write_string(out, b";key=", key);
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b";detail=");
            out.extend_from_slice(detail.as_bytes());
        }
    }
}

/// Appends a string of structured fields; an octet that cannot stand in one becomes a space.
fn write_string(out: &mut Vec<u8>, before: &[u8], text: &[u8]) {
    out.extend_from_slice(before);
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => out.push(b' '),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members() {
        let check = |status: CacheStatus<'_>, expected: &str| {
            let mut out = Vec::new();
            status.write_member(&mut out, "tenfold");
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
            // What is written is a list of structured fields.
            sfv::Parser::new(&out).parse_list_with_visitor(sfv::visitor::Ignored).unwrap();
        };
        let none = CacheStatus::default();
        check(none, "tenfold;hit");
        check(CacheStatus { ttl_secs: Some(-7), collapsed: true, stored: true, ..none }, "tenfold;hit;ttl=-7");
        let missed = CacheStatus { forward: Some(Forward::UriMiss), stored: true, collapsed: true, ..none };
        check(missed, "tenfold;fwd=uri-miss;stored;collapsed");
        let asked = CacheStatus { forward: Some(Forward::Stale), forward_status: Some(304), ttl_secs: Some(1), ..none };
        check(asked, "tenfold;fwd=stale;fwd-status=304;ttl=1");
        let told = CacheStatus { key: Some(b"a\0/\"x\\\xff"), detail: Some("set-cookie"), ..none };
        check(told, "tenfold;hit;key=\"a /\\\"x\\\\ \";detail=set-cookie");
    }
}
