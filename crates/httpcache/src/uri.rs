//! What a request asks for, and whether what a response names lies at the same origin: RFC 3986 section 5, RFC 9110
//! section 4.2.

use crate::name::alike;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whether the client came by HTTPS.
    pub https: bool,
    /// The host as the client names it, with a port perhaps.
    pub host: &'a [u8],
    /// Path and query, as they are or as the gateway's normal form has them.
    pub path_and_query: &'a [u8],
}

impl<'a> Target<'a> {
    /// The host without the scheme's own port.
    pub(crate) fn host_in_normal_form(self) -> &'a [u8] {
        without_default_port(self.host, self.https)
    }

    /// The path, and the query without its question mark.
    pub(crate) fn split(self) -> (&'a [u8], Option<&'a [u8]>) {
        split_query(self.path_and_query)
    }

    /// Path and query that a reference of a response stands for, if it lies at the origin of this target.
    ///
    /// ```
    /// let target = httpcache::Target { https: true, host: b"shop.example.com", path_and_query: b"/a/b?c" };
    /// assert_eq!(target.resolve(b"../d?e#f").as_deref(), Some(&b"/d?e"[..]));
    /// assert_eq!(target.resolve(b"HTTPS://Shop.Example.com:443/x").as_deref(), Some(&b"/x"[..]));
    /// assert_eq!(target.resolve(b"https://other.example.com/x"), None);
    /// ```
    pub fn resolve(self, reference: &[u8]) -> Option<Vec<u8>> {
        let reference = reference.split(|&byte| byte == b'#').next().unwrap_or_default();
        if let Some((scheme, rest)) = scheme_of(reference) {
            let own: &[u8] = if self.https { b"https" } else { b"http" };
            return if alike(scheme, own) { self.at_authority(rest.strip_prefix(b"//")?) } else { None };
        }
        if let Some(rest) = reference.strip_prefix(b"//") {
            return self.at_authority(rest);
        }
        let (path, _) = self.split();
        match reference.first() {
            None => Some(self.path_and_query.to_vec()),
            Some(b'?') => Some([path, reference].concat()),
            Some(b'/') => Some(in_normal_form(reference)),
            Some(_) => {
                let folder = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
                Some(in_normal_form(&[&path[..folder], reference].concat()))
            }
        }
    }

    fn at_authority(self, rest: &[u8]) -> Option<Vec<u8>> {
        let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let same = alike(without_default_port(host, self.https), self.host_in_normal_form());
        same.then(|| if path.first() == Some(&b'/') { in_normal_form(path) } else { [b"/", path].concat() })
    }
}

fn split_query(path_and_query: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path_and_query.iter().position(|&byte| byte == b'?') {
        Some(at) => (&path_and_query[..at], Some(&path_and_query[at + 1..])),
        None => (path_and_query, None),
    }
}

fn without_default_port(host: &[u8], https: bool) -> &[u8] {
    let port: &[u8] = if https { b":443" } else { b":80" };
    host.strip_suffix(port).or_else(|| host.strip_suffix(b":")).unwrap_or(host)
}

/// The scheme of an absolute reference, and what follows its colon.
fn scheme_of(reference: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = reference.iter().position(|&byte| matches!(byte, b':' | b'/' | b'?'))?;
    let is_scheme = reference[end] == b':' && reference.first().is_some_and(u8::is_ascii_alphabetic);
    is_scheme.then(|| (&reference[..end], &reference[end + 1..]))
}

/// Path and query without `.` and `..` segments: RFC 3986 section 5.2.4.
fn in_normal_form(path_and_query: &[u8]) -> Vec<u8> {
    let (path, query) = split_query(path_and_query);
    let mut out = Vec::with_capacity(path_and_query.len());
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    out.truncate(out.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
                }
                if is_last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let base = Target { https: false, host: b"a.example.com:8080", path_and_query: b"/b/c/d?q" };
        let check = |reference: &str, expected: Option<&str>| {
            let found = base.resolve(reference.as_bytes()).map(|found| String::from_utf8(found).unwrap());
            assert_eq!(found.as_deref(), expected, "{reference}");
        };
        check("/x", Some("/x"));
        check("/x/../y/./z?a=/../b", Some("/y/z?a=/../b"));
        check("/..", Some("/"));
        check("x", Some("/b/c/x"));
        check("./", Some("/b/c/"));
        check("..", Some("/b/"));
        check("../../../../x", Some("/x"));
        check("?y", Some("/b/c/d?y"));
        check("", Some("/b/c/d?q"));
        check("#f", Some("/b/c/d?q"));
        check("x:y", None);
        check("./x:y", Some("/b/c/x:y"));
        check("http://a.example.com:8080/x", Some("/x"));
        check("http://A.EXAMPLE.com:8080", Some("/"));
        check("http://a.example.com:8080?x", Some("/?x"));
        check("//a.example.com:8080/x", Some("/x"));
        check("http://a.example.com/x", None);
        check("https://a.example.com:8080/x", None);
        check("http://a.example.com.evil.example/x", None);
        check("http:x", None);
    }
}
