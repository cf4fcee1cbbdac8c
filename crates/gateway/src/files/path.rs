//! From the path of a request to the path of a file.
//!
//! Escapes are read here, after the path was brought into its normal form and split at its slashes; so an escaped slash
//! cannot make another folder of a name, nor an escaped dot another path. What could be read in two ways is no file: a
//! name that holds a slash or a backslash, NUL, and names that are dots. The kernel holds to the root by itself as well
//! (`super::open`); this is what the rest of the house can rely on.

/// Where a request's path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Below {
    /// Names joined by slashes, without one before or behind them; empty for the root.
    pub(crate) relative: Vec<u8>,
    /// Whether the path names a directory, by its last slash.
    pub(crate) is_directory: bool,
}

/// Why a path names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It has a name that no file has, or that may be read in two ways.
    Name,
    /// It has a name that begins with a dot.
    Hidden,
}

/// Reads a path in normal form. `hidden` tells that names may begin with a dot.
pub(crate) fn below(path: &[u8], hidden: bool) -> Result<Below, Unfit> {
    let mut relative = Vec::with_capacity(path.len());
    for (index, segment) in path.split(|&b| b == b'/').filter(|segment| !segment.is_empty()).enumerate() {
        let start = relative.len() + usize::from(index > 0);
        if index > 0 {
            relative.push(b'/');
        }
        unescape(&mut relative, segment).ok_or(Unfit::Name)?;
        let name = &relative[start..];
        if matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0)) {
            return Err(Unfit::Name);
        }
        // RFC 8615: this one is made to be served.
        if !hidden && name.starts_with(b".") && !(index == 0 && name == b".well-known") {
            return Err(Unfit::Hidden);
        }
    }
    Ok(Below { is_directory: path.ends_with(b"/") || relative.is_empty(), relative })
}

/// Adds a segment with its escapes read; `None` when one is broken.
fn unescape(out: &mut Vec<u8>, segment: &[u8]) -> Option<()> {
    let mut rest = segment;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        let digit = |at: usize| char::from(*rest.get(at)?).to_digit(16);
        out.push((digit(at + 1)? << 4 | digit(at + 2)?) as u8);
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::router::normal_path;

    fn read(target: &str, hidden: bool) -> Result<(String, bool), Unfit> {
        let path = normal_path(target.as_bytes()).ok_or(Unfit::Name)?;
        below(&path, hidden).map(|below| (String::from_utf8(below.relative).unwrap(), below.is_directory))
    }

    #[test]
    fn paths_lead_below_the_root() {
        let check = |target: &str, expected: &str, is_directory: bool| {
            assert_eq!(read(target, false), Ok((expected.to_owned(), is_directory)), "{target}");
        };
        check("/", "", true);
        check("//", "", true);
        check("/a.txt", "a.txt", false);
        check("/a/b.txt?c=/../d", "a/b.txt", false);
        check("/a/", "a", true);
        check("//a//b/", "a/b", true);
        check("/x/../a.txt", "a.txt", false);
        check("/a%20b%C3%BC.txt", "a b\u{fc}.txt", false);
        check("/%2561", "%61", false);
        check("/a..b/c.", "a..b/c.", false);
        check("/.well-known/acme", ".well-known/acme", false);
        check("/a%3Fb%23c", "a?b#c", false);
    }

    #[test]
    fn no_spelling_leads_out() {
        let check = |target: &str, expected: Unfit| assert_eq!(read(target, true), Err(expected), "{target}");
        let all = [
            "/..",
            "/../x",
            "/%2e%2e/x",
            "/a/..%2f..%2f..%2fetc/passwd",
            "/%2e%2e%2fetc/passwd",
            "/a%2fb",
            "/a%2Fb",
            "/%2f",
            "/..%5cx",
            "/a%5cb",
            "/a\\b",
            "/..\\..\\x",
            "/a%00",
            "/a.txt%00.html",
            "/%",
            "/a%2",
            "/a%zz",
            "/%2e%2e%5c",
        ];
        for target in all {
            check(target, Unfit::Name);
        }
        // Read once, and no second time.
        assert_eq!(read("/%252e%252e/x", true), Ok(("%2e%2e/x".to_owned(), false)));
    }

    #[test]
    fn hidden_names_are_refused_unless_they_are_wanted() {
        for target in
            ["/.git/config", "/.env", "/a/.htaccess", "/%2egit/config", "/...", "/a/.well-known/x", "/.well-known/.x"]
        {
            assert_eq!(read(target, false), Err(Unfit::Hidden), "{target}");
            assert!(read(target, true).is_ok(), "{target}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_stays_below(path in "(/|[.]|%2e|%2E|%2f|%5c|%00|[a-z%\\\\]|%25){0,24}") {
            let target = format!("/{path}");
            let Some(normal) = normal_path(target.as_bytes()) else { return Ok(()) };
            if let Ok(below) = below(&normal, true) {
                let names: Vec<_> = below.relative.split(|&b| b == b'/').collect();
                prop_assert!(!below.relative.contains(&0) && !below.relative.contains(&b'\\'));
                prop_assert!(names.iter().all(|name| !matches!(*name, b"." | b"..")), "{names:?}");
                prop_assert!(below.relative.is_empty() || names.iter().all(|name| !name.is_empty()), "{names:?}");
                // Slashes are those of the path, and no others.
                prop_assert!(names.len() <= normal.iter().filter(|&&b| b == b'/').count());
            }
        }
    }
}
