//! Request targets and hosts: RFC 9112 section 3.2.

use crate::{ByteSet, Error, ErrorKind, Method, Span};

/// A request target, taken apart. Positions are in the head's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path and query as sent to an origin server: starts with `/`, or is `*` for a server-wide OPTIONS. Empty when an
    /// absolute target has no path, which stands for `/` (or `*` for OPTIONS).
    pub path_and_query: Span,
    /// The authority of a target in absolute form.
    pub authority: Option<Span>,
}

impl Target {
    /// Takes `raw`, a target that stands in `buf`, apart.
    pub(crate) fn parse(raw: Span, buf: &[u8], method: &Method) -> Result<Self, Error> {
        let text = raw.of_buf(buf);
        if *method == Method::Connect {
            return Err(Error::new(ErrorKind::NotImplemented, "CONNECT is not served"));
        }
        if text.iter().any(|&b| !(0x21..0x7f).contains(&b) || b == b'#') {
            return Err(Error::malformed("the request target holds a character that must be percent-encoded"));
        }
        match text {
            [b'/', ..] => Ok(Self { path_and_query: raw, authority: None }),
            b"*" if *method == Method::Options => Ok(Self { path_and_query: raw, authority: None }),
            _ => Self::parse_absolute(raw, text),
        }
    }

    fn parse_absolute(raw: Span, text: &[u8]) -> Result<Self, Error> {
        let scheme = [b"http://".as_slice(), b"https://"]
            .into_iter()
            .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
            .ok_or(Error::malformed("the request target is neither a path nor an http URL"))?;
        let rest = &text[scheme.len()..];
        let authority_len = rest.iter().position(|&b| b == b'/' || b == b'?').unwrap_or(rest.len());
        let authority_start = raw.start() + scheme.len();
        let path_start = authority_start + authority_len;
        if rest.get(authority_len) == Some(&b'?') {
            // The path is empty but the query is not: there is no contiguous text to pass on.
            return Err(Error::malformed("the request target has a query without a path"));
        }
        Ok(Self {
            path_and_query: Span::new(path_start, raw.end()),
            authority: Some(Span::new(authority_start, path_start)),
        })
    }

    /// Path and query to send to an origin server.
    pub fn as_origin_form<'b>(&self, buf: &'b [u8], method: &Method) -> &'b [u8] {
        match self.path_and_query.of_buf(buf) {
            b"" if *method == Method::Options => b"*",
            b"" => b"/",
            text => text,
        }
    }
}

/// What the name of a host may hold. Underscores are not in RFC 3986's preferred names, but container networks are full
/// of them.
static NAME: ByteSet = ByteSet::alphanumeric_and(b"-._~%!$&'()*+,;=");

/// Whether `text` may stand in `Host`: a name, an IPv4 address or a bracketed IPv6 address, with an optional port.
/// An empty host is valid grammar but names nothing to route by, so it is refused.
pub fn is_valid_host(text: &[u8]) -> bool {
    let host = host_without_port(text);
    let port = &text[host.len()..];
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let is_host = match host {
        [b'[', inner @ .., b']'] => {
            !inner.is_empty() && inner.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
        }
        name => !name.is_empty() && NAME.holds_all(name),
    };
    is_host && is_port
}

/// A host without its port; brackets of IPv6 addresses stay.
pub fn host_without_port(text: &[u8]) -> &[u8] {
    let end = match text {
        [b'[', ..] => memchr::memchr(b']', text).map_or(text.len(), |at| at + 1),
        _ => memchr::memchr(b':', text).unwrap_or(text.len()),
    };
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |text: &str, valid: bool| assert_eq!(is_valid_host(text.as_bytes()), valid, "{text:?}");
        check("example.com", true);
        check("example.com:8080", true);
        check("[::1]:80", true);
        check("my_service", true);
        check("10.0.0.1", true);
        check("", false);
        check(":80", false);
        check("a b", false);
        check("a@b", false);
        check("a/b", false);
        check("a:b", false);
        check("a:80:90", false);
        check("[::1", false);
        check("[]", false);
        check("[::1]x", false);
    }

    #[test]
    fn targets() {
        let check = |text: &str, method: Method, expected: Result<(&str, Option<&str>), ErrorKind>| {
            let buf = text.as_bytes();
            let span = |s: Span| std::str::from_utf8(s.of_buf(buf)).unwrap();
            let parsed = Target::parse(Span::new(0, buf.len()), buf, &method);
            let got = parsed
                .as_ref()
                .map(|t| (std::str::from_utf8(t.as_origin_form(buf, &method)).unwrap(), t.authority.map(span)))
                .map_err(Error::kind);
            assert_eq!(got, expected, "{text:?}");
        };
        check("/", Method::Get, Ok(("/", None)));
        check("/a?b=c", Method::Get, Ok(("/a?b=c", None)));
        check("*", Method::Options, Ok(("*", None)));
        check("*", Method::Get, Err(ErrorKind::Malformed));
        check("http://example.com/x", Method::Get, Ok(("/x", Some("example.com"))));
        check("HTTP://example.com", Method::Get, Ok(("/", Some("example.com"))));
        check("http://example.com", Method::Options, Ok(("*", Some("example.com"))));
        check("http://example.com?q", Method::Get, Err(ErrorKind::Malformed));
        check("ftp://example.com/", Method::Get, Err(ErrorKind::Malformed));
        check("example.com:80", Method::Connect, Err(ErrorKind::NotImplemented));
        check("/a#b", Method::Get, Err(ErrorKind::Malformed));
        check("/\u{fc}", Method::Get, Err(ErrorKind::Malformed));
        check("", Method::Get, Err(ErrorKind::Malformed));
    }
}
