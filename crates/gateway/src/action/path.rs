//! Another path instead of the request's, for a service or a redirection.
//!
//! Routes match the normal form of a path, so what is changed must be what was matched: a prefix cut off the path as it
//! came would turn `/api/../admin` into `/../admin`. So an expression sees the normal form, and a prefix is cut off the
//! path as it came only if that begins with it and has no dot segments; otherwise off the normal form. Escapes stay what
//! they are, `%2F` above all.
//!
//! What comes out is checked again: no dot segment may have come about (`/a(.*)` to `/b/$1` would make `/b/../x` of
//! `/a../x`), nor a second slash at the beginning, which a reader might take for a host.

use http1::Request;

use crate::params::{PathChange, PathMatch, PathTemplate};
use crate::pattern::Search;
use crate::router::{Asked, has_dot_segment};

/// A change of paths, ready to be made.
#[derive(Debug)]
pub(crate) enum Change {
    Prefix {
        /// The route's own, with its last slash.
        old: Box<[u8]>,
        /// What stands in its place, with its last slash.
        new: Box<[u8]>,
    },
    Template {
        search: Option<Search>,
        template: PathTemplate,
    },
}

/// Why no path came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It would have a dot segment.
    Dots,
    /// It would be too long.
    TooLong,
}

impl Change {
    /// The change with these settings, on a route for these paths. `None` when it changes nothing.
    pub(crate) fn new(change: &PathChange, route: &PathMatch, cores: usize) -> Option<Self> {
        match (change, route) {
            (PathChange::Prefix(new), PathMatch::Prefix(old)) => {
                Some(Self::Prefix { old: old.as_bytes().into(), new: new.as_bytes().into() })
            }
            (PathChange::Prefix(_), _) => None,
            (PathChange::Template { pattern, template }, _) => {
                let search = pattern.as_ref().map(|pattern| Search::new(pattern, cores));
                Some(Self::Template { search, template: template.clone() })
            }
        }
    }

    /// Writes the new target, with the request's query if it is kept; at most so many bytes.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        asked: &Asked<'_>,
        query: bool,
        bytes_max: usize,
    ) -> Result<(), Unfit> {
        out.clear();
        match self {
            Self::Prefix { old, new } => prefixed(out, asked, old, new),
            Self::Template { search: None, template } => template.write(out, None),
            Self::Template { search: Some(search), template } => match search.captures(asked.core, asked.path) {
                Some(captures) => template.write(out, Some(&captures)),
                None => out.extend_from_slice(raw_path(asked.request, asked.head)),
            },
        }
        if has_dot_segment(out) {
            return Err(Unfit::Dots);
        }
        let slashes = out.iter().take_while(|&&b| b == b'/').count();
        out.drain(1..slashes.max(1));
        if query {
            push_query(out, asked);
        }
        if out.len() > bytes_max { Err(Unfit::TooLong) } else { Ok(()) }
    }
}

fn prefixed(out: &mut Vec<u8>, asked: &Asked<'_>, old: &[u8], new: &[u8]) {
    let raw = raw_path(asked.request, asked.head);
    let path = if raw.starts_with(old) && !has_dot_segment(raw) { raw } else { asked.path };
    match path.strip_prefix(old) {
        Some(rest) => {
            out.extend_from_slice(new);
            out.extend_from_slice(rest);
        }
        // The prefix without its slash becomes the other without its.
        None => out.extend_from_slice(new.strip_suffix(b"/").filter(|bare| !bare.is_empty()).unwrap_or(new)),
    }
}

/// The path as it came, `/` in place of `*`.
pub(crate) fn raw_path<'h>(request: &Request, head: &'h [u8]) -> &'h [u8] {
    match request.target.as_origin_form(head, &request.method) {
        b"*" => b"/",
        target => &target[..memchr::memchr(b'?', target).unwrap_or(target.len())],
    }
}

/// Adds the request's query, if it has one.
pub(crate) fn push_query(out: &mut Vec<u8>, asked: &Asked<'_>) {
    let target = asked.request.target.path_and_query.of_buf(asked.head);
    if let Some(at) = memchr::memchr(b'?', target) {
        out.extend_from_slice(&target[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_asked;
    use super::*;
    use crate::pattern::Pattern;

    fn written(change: &PathChange, route: &PathMatch, target: &str) -> Result<String, Unfit> {
        let change = Change::new(change, route, 1).unwrap();
        let mut out = Vec::new();
        with_asked(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"), |asked| {
            change.write(&mut out, asked, true, 100).map(|()| String::from_utf8(out.clone()).unwrap())
        })
    }

    #[test]
    fn prefixes_are_replaced() {
        let check = |old: &str, new: &str, target: &str, expected: &str| {
            let (change, route) = (PathChange::Prefix(new.to_owned()), PathMatch::Prefix(old.to_owned()));
            assert_eq!(written(&change, &route, target).as_deref(), Ok(expected), "{old} {new} {target}");
        };
        check("/api/", "/", "/api/users?a=/api/", "/users?a=/api/");
        check("/api/", "/", "/api", "/");
        check("/api/", "/", "/api/", "/");
        check("/api/", "/v2/", "/api", "/v2");
        check("/api/", "/v2/", "/api?x", "/v2?x");
        check("/api/", "/v2/", "/api/", "/v2/");
        check("/api/", "/v2/", "/api/a//b/", "/v2/a//b/");
        check("/", "/app/", "/x", "/app/x");
        check("/", "/app/", "/", "/app/");
        // The rest stays as it came.
        check("/api/", "/", "/api/a%2fb%7ec", "/a%2fb%7ec");
        check("/api/", "/", "/api/..%2fadmin", "/..%2fadmin");
        // Unless its beginning is not the prefix, or it has dot segments: then the normal form is what was matched.
        check("/api/", "/", "/%61pi/a%2fb", "/a%2Fb");
        check("/api/", "/", "/x/../api/y", "/y");
        check("/api/", "/", "/api/x/../../api/y", "/y");
        check("/api/", "/v2/", "/api/x/%2e%2e/y", "/v2/y");
        check("/api/", "/", "/api/.", "/");
        // A second slash would be read as the beginning of a host.
        check("/api/", "/", "/api//evil.example/x", "/evil.example/x");
        check("/api/", "/", "/api///evil.example", "/evil.example");
    }

    #[test]
    fn templates_are_filled_from_what_was_matched() {
        let check = |pattern: &str, template: &str, target: &str, expected: Result<&str, Unfit>| {
            let pattern = Pattern::new(pattern).unwrap();
            let template = PathTemplate::new(template, Some(&pattern)).unwrap();
            let change = PathChange::Template { pattern: Some(pattern), template };
            let written = written(&change, &PathMatch::Prefix("/".to_owned()), target);
            assert_eq!(written.as_deref().map_err(|unfit| *unfit), expected, "{target}");
        };
        check("/v([0-9]+)/(.*)", "/$2", "/v1/users?x=1", Ok("/users?x=1"));
        check("/v([0-9]+)/(.*)", "/$2", "/users", Ok("/users"));
        check("/v([0-9]+)/(.*)", "/$2", "/v1//evil.example", Ok("/evil.example"));
        check("/v([0-9]+)/(.*)", "/api/$2", "/x/../v1/%61?q=%2e%2e", Ok("/api/a?q=%2e%2e"));
        check("/v([0-9]+)/(.*)", "/api/$2", "/v1/..%2fadmin", Ok("/api/..%2Fadmin"));
        check("/v([0-9]+)/(.*)", "/api/$2", "/v1/%3Fadmin=1%0d%0aX", Ok("/api/%3Fadmin=1%0D%0AX"));
        // The traversal that a location without its last slash opens elsewhere.
        check("/static(.*)", "/files/$1", "/static../secret", Err(Unfit::Dots));
        check("/(.*)", "/$1/$1/$1", &format!("/{}", "a".repeat(40)), Err(Unfit::TooLong));
    }
}
