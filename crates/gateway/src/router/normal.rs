//! Paths in a normal form, because `/public/../admin` and `/%61dmin` reach `/admin` behind us: escapes of unreserved
//! characters are read, those of others get upper-case digits, and dot segments are resolved.

use std::borrow::Cow;

/// The path of a target without its query, in normal form. `None` when it climbs above the root or holds a broken
/// escape, which two readers would read in two ways.
pub fn normal_path(target: &[u8]) -> Option<Cow<'_, [u8]>> {
    if let Some(path) = plain_path(target) {
        return Some(Cow::Borrowed(path));
    }
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let read = unescape(&target[..end])?;
    resolve_dots(&read).map(Cow::Owned)
}

/// The path of a target, if it has neither escapes nor segments that begin with a dot. Most have no dots at all, and one look finds where
/// they end.
fn plain_path(target: &[u8]) -> Option<&[u8]> {
    let Some(first) = memchr::memchr3(b'?', b'%', b'.', target) else { return Some(target) };
    let mut before = first.checked_sub(1).map_or(0, |at| target[at]);
    for (at, &byte) in target.iter().enumerate().skip(first) {
        match byte {
            b'?' => return Some(&target[..at]),
            b'%' => return None,
            b'.' if before == b'/' => return None,
            _ => before = byte,
        }
    }
    Some(target)
}

/// Reads the escapes of unreserved characters (RFC 3986 section 2.3), and leaves all others.
fn unescape(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        if path[at] != b'%' {
            out.push(path[at]);
            at += 1;
            continue;
        }
        let digits = path.get(at + 1..at + 3)?;
        let digit = |byte: u8| (byte as char).to_digit(16);
        let byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', digits[0].to_ascii_uppercase(), digits[1].to_ascii_uppercase()]);
        }
        at += 3;
    }
    Some(out)
}

/// Resolves `.` and `..` segments.
fn resolve_dots(path: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|&b| b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop()?;
                }
                if last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    Some(out)
}

/// Whether a path has a segment `.` or `..`, as it is or in escapes, which whoever reads the path next may resolve.
pub(crate) fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|&b| b == b'/').any(is_dots)
}

/// Whether a segment is one or two dots, in any spelling.
fn is_dots(mut segment: &[u8]) -> bool {
    let mut dots = 0;
    while !segment.is_empty() && dots < 3 {
        let escaped = segment.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"%2e"));
        segment = match (escaped, segment[0]) {
            (true, _) => &segment[3..],
            (false, b'.') => &segment[1..],
            _ => return false,
        };
        dots += 1;
    }
    segment.is_empty() && (1..=2).contains(&dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_in_normal_form() {
        let check = |target: &str, expected: Option<&str>| {
            let normal = normal_path(target.as_bytes());
            assert_eq!(normal.as_deref().map(|path| std::str::from_utf8(path).unwrap()), expected, "{target}");
        };
        check("/a/b?c=/../d", Some("/a/b"));
        check("/a.b/c.?d=%/.", Some("/a.b/c."));
        check("/a.b/./c.d", Some("/a.b/c.d"));
        check("/a.b%2Dc", Some("/a.b-c"));
        check("/", Some("/"));
        check("*", Some("*"));
        check("/public/../admin", Some("/admin"));
        check("/public/%2e%2E/admin", Some("/admin"));
        check("/%61dmin", Some("/admin"));
        check("/a%2fb", Some("/a%2Fb"));
        check("/a/./b/.", Some("/a/b/"));
        check("/a/b/..", Some("/a/"));
        check("/a/.b/..c", Some("/a/.b/..c"));
        check("/a//b/.", Some("/a//b/"));
        check("/..", None);
        check("/a/../../b", None);
        check("/%", None);
        check("/%2", None);
        check("/%zz", None);
    }

    #[test]
    fn what_is_plain_is_what_has_no_escapes_and_no_leading_dots() {
        let bytes = b"/.%?a";
        let targets = (0..=6).flat_map(|length| (0..bytes.len().pow(length)).map(move |number| (length, number)));
        for (length, number) in targets {
            let byte = |at| bytes[number / bytes.len().pow(at) % bytes.len()];
            let target: Vec<u8> = (0..length).map(byte).collect();
            let path = target.split(|&byte| byte == b'?').next().unwrap();
            let is_plain = !path.contains(&b'%') && !path.windows(2).any(|pair| pair == b"/.");
            assert_eq!(plain_path(&target), is_plain.then_some(path), "{}", target.escape_ascii());
        }
    }

    #[test]
    fn dot_segments_are_seen_in_any_spelling() {
        let check = |path: &str, expected: bool| assert_eq!(has_dot_segment(path.as_bytes()), expected, "{path}");
        check("/", false);
        check("/a/b.c/.d/..e/...", false);
        check("/a/.", true);
        check("/a/../b", true);
        check("/a/%2e%2E/b", true);
        check("/a/.%2e", true);
        check("/a/%2e", true);
        check("/a/%2f../b", false);
        check("/a/%2e%2e%2e", false);
        check("/a/%2", false);
    }
}
