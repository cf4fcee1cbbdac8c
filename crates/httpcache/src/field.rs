//! Fields of heads: lists in them, which of them belong to one connection, and the block that they are stored in.
//!
//! A head is an iterator of names and values, so that heads of HTTP/1.1 and HTTP/2 fit without a copy. What is stored is a
//! block of lines, `name: value CR LF` each, which HTTP/1.1 sends as it is.

use crate::name::alike;

/// A field's name and its value, without the white space around it.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// The fields of a head, in the order they came. They are walked several times.
pub trait Fields<'a>: Iterator<Item = Field<'a>> + Clone {}

impl<'a, T: Iterator<Item = Field<'a>> + Clone> Fields<'a> for T {}

/// The values of all fields of a name, in order.
pub(crate) fn values<'a>(fields: impl Fields<'a>, name: &'static str) -> impl Iterator<Item = &'a [u8]> + Clone {
    fields.filter(move |(found, _)| alike(found, name.as_bytes())).map(|(_, value)| value)
}

/// The members of a comma-separated list, without white space around them, empty ones left out. Commas within quotes
/// separate nothing; a quote that is not closed ends with the value.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    // Most lists have no quotes, and need no look at each octet.
    let has_quotes = value.contains(&b'"');
    let mut rest = value;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = if has_quotes { member_end(rest) } else { rest.iter().position(|&byte| byte == b',') };
            let end = end.unwrap_or(rest.len());
            let member = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

fn member_end(rest: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    rest.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return true,
            _ => {}
        }
        false
    })
}

/// Whether a field concerns one connection only: RFC 9110 section 7.6.1, with the two old ones that everybody removes.
fn is_hop_by_hop(name: &[u8]) -> bool {
    let names: &[&str] = match name.len() {
        2 => &["te"],
        7 => &["trailer", "upgrade"],
        10 => &["connection", "keep-alive"],
        16 => &["proxy-connection"],
        17 => &["transfer-encoding"],
        _ => return false,
    };
    names.iter().any(|known| alike(name, known.as_bytes()))
}

/// Fields that RFC 9111 section 3.1 keeps out of a store whatever the response says; `Age` is counted anew, and the
/// length is a fact of the stored body.
fn is_never_stored(name: &[u8]) -> bool {
    const NAMES: [&str; 5] =
        ["age", "content-length", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization"];
    is_hop_by_hop(name) || NAMES.iter().any(|known| alike(name, known.as_bytes()))
}

/// Whether one of several lists names the field.
fn is_named<'a>(name: &[u8], mut lists: impl Iterator<Item = &'a [u8]>) -> bool {
    lists.any(|list| members(list).any(|member| alike(member, name)))
}

/// The fields of a response that may be stored: not those of the connection or that `Connection` names, nor any of
/// `hidden`, lists of names.
pub(crate) fn storable<'a, 'h>(
    fields: impl Fields<'a>,
    hidden: impl Iterator<Item = &'h [u8]> + Clone,
) -> impl Iterator<Item = Field<'a>> {
    let connection = values(fields.clone(), "connection");
    let has_lists = connection.clone().next().is_some() || hidden.clone().next().is_some();
    fields.filter(move |(name, _)| {
        let named = || is_named(name, connection.clone()) || is_named(name, hidden.clone());
        !(is_never_stored(name) || has_lists && named())
    })
}

/// Appends a line of a block.
pub(crate) fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The fields of a block of lines, as this crate writes them.
///
/// ```
/// let mut lines = httpcache::Lines::new(b"ETag: \"a\"\r\nX-Empty: \r\n");
/// assert_eq!(lines.next(), Some((&b"ETag"[..], &b"\"a\""[..])));
/// assert_eq!(lines.next(), Some((&b"X-Empty"[..], &b""[..])));
/// assert_eq!(lines.next(), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The fields of this block.
    pub fn new(block: &'a [u8]) -> Self {
        Self(block)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        // Whatever is no line ends the block: it may come from a disk.
        let end = self.0.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, rest) = (&self.0[..end], &self.0[end + 2..]);
        self.0 = rest;
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_know_quotes() {
        let check = |value: &str, expected: &[&str]| {
            let found: Vec<_> = members(value.as_bytes()).map(|member| std::str::from_utf8(member).unwrap()).collect();
            assert_eq!(found, expected, "{value}");
        };
        check("a, b", &["a", "b"]);
        check(",, a ,\tb ,", &["a", "b"]);
        check("", &[]);
        check(r#"x="a, b", c"#, &[r#"x="a, b""#, "c"]);
        check(r#"x="a\", b", c"#, &[r#"x="a\", b""#, "c"]);
        check(r#"x="a, b"#, &[r#"x="a, b"#]);
        check(r"a\,b", &[r"a\", "b"]);
    }

    #[test]
    fn fields_of_the_connection_are_not_stored() {
        let fields: &[(&str, &str)] = &[
            ("Connection", "close, X-Hop"),
            ("connection", "x-other"),
            ("X-Hop", "1"),
            ("X-OTHER", "2"),
            ("X-Kept", "3"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("Upgrade", "h2c"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Connection", "x"),
            ("Proxy-Authenticate", "x"),
            ("Proxy-Authentication-Info", "x"),
            ("Proxy-Authorization", "x"),
            ("Age", "3"),
            ("Content-Length", "3"),
            ("X-Secret", "4"),
            ("X-Secret-Not", "5"),
        ];
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let kept: Vec<_> = storable(fields, [&b"x-secret"[..]].into_iter()).map(|(name, _)| name).collect();
        assert_eq!(kept, [&b"X-Kept"[..], b"X-Secret-Not"]);
    }

    #[test]
    fn a_broken_block_ends() {
        for broken in ["", "a", "a: b", "a: b\r", "no colon\r\n"] {
            assert_eq!(Lines::new(broken.as_bytes()).next(), None, "{broken:?}");
        }
    }
}
