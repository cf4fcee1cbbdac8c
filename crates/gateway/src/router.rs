//! Which route a request takes: the most specific one wins, wherever it stands in the file.
//!
//! First the host, named before any; then the path, exact before the longest prefix. A host whose routes do not match
//! the path leaves it to the routes for any host.
//!
//! Paths are compared in a normal form, because `/public/../admin` and `/%61dmin` reach `/admin` behind us: escapes of
//! unreserved characters are read, and dot segments are resolved. What is sent on is the path as it came.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::params::PathMatch;
use crate::state::RouteState;

/// The routes of one listener.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
    hosts: HashMap<Box<[u8]>, Paths>,
    any: Paths,
}

/// A route as it is configured now.
#[derive(Debug)]
pub(crate) struct Route {
    /// What outlives configurations.
    pub(crate) state: Arc<RouteState>,
    /// Position of its service in the snapshot.
    pub(crate) service: usize,
    /// Overall time for a response head.
    pub(crate) timeout: Option<Duration>,
    /// The host as configured.
    pub(crate) host: Option<String>,
    /// The path as configured.
    pub(crate) path: PathMatch,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<[u8]>, usize>,
    /// Longest first.
    prefixes: Vec<(Box<[u8]>, usize)>,
}

impl Router {
    /// A router over these routes.
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        let mut router = Self::default();
        for (index, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                Some(host) => router.hosts.entry(host.as_bytes().into()).or_default(),
                None => &mut router.any,
            };
            match &route.path {
                PathMatch::Exact(path) => {
                    paths.exact.insert(path.as_bytes().into(), index);
                }
                PathMatch::Prefix(path) => paths.prefixes.push((path.as_bytes().into(), index)),
            }
        }
        for paths in router.hosts.values_mut().chain([&mut router.any]) {
            paths.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        router.routes = routes;
        router
    }

    /// The routes, in the file's order.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The position of the route for a host (as the client sent it, with or without port) and a path in normal form.
    pub(crate) fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        if !self.hosts.is_empty() {
            let host = http1::host_without_port(host);
            let host = host.strip_suffix(b".").unwrap_or(host);
            let lower = host.to_ascii_lowercase();
            if let Some(found) = self.hosts.get(lower.as_slice()).and_then(|paths| paths.find(path)) {
                return Some(found);
            }
        }
        self.any.find(path)
    }
}

impl Paths {
    fn find(&self, path: &[u8]) -> Option<usize> {
        if !self.exact.is_empty()
            && let Some(&found) = self.exact.get(path)
        {
            return Some(found);
        }
        self.prefixes.iter().find(|(prefix, _)| is_under(path, prefix)).map(|&(_, index)| index)
    }
}

/// Whether a path is under a prefix that ends with `/`, or is the prefix without that.
fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    path.starts_with(prefix) || prefix.strip_suffix(b"/").is_some_and(|bare| bare == path)
}

/// The path of a target without its query, in normal form. `None` when it climbs above the root or holds a broken
/// escape, which two readers would read in two ways.
pub fn normal_path(target: &[u8]) -> Option<Cow<'_, [u8]>> {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let path = &target[..end];
    if memchr::memchr(b'%', path).is_none() && memchr::memmem::find(path, b"/.").is_none() {
        return Some(Cow::Borrowed(path));
    }
    let read = unescape(path)?;
    resolve_dots(&read).map(Cow::Owned)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(&str, Option<&str>, &str)]) -> Router {
        let route = |&(name, host, path): &(&str, Option<&str>, &str)| Route {
            state: Arc::new(RouteState::new(name.parse().unwrap(), 1)),
            service: 0,
            timeout: None,
            host: host.map(str::to_owned),
            path: match path.strip_suffix('*') {
                Some(prefix) => PathMatch::Prefix(prefix.to_owned()),
                None => PathMatch::Exact(path.to_owned()),
            },
        };
        Router::new(routes.iter().map(route).collect())
    }

    #[test]
    fn the_most_specific_route_wins() {
        let router = router(&[
            ("all", None, "/*"),
            ("api", None, "/api/*"),
            ("api-v2", None, "/api/v2/*"),
            ("health", None, "/api/health"),
            ("shop", Some("shop.example.com"), "/cart/*"),
        ]);
        let check = |host: &str, path: &str, expected: &str| {
            let found = router.find(host.as_bytes(), path.as_bytes()).map(|at| router.routes()[at].state.name.as_str());
            assert_eq!(found, Some(expected), "{host} {path}");
        };
        check("example.com", "/", "all");
        check("example.com", "/api", "api");
        check("example.com", "/api/", "api");
        check("example.com", "/apis", "all");
        check("example.com", "/api/v2", "api-v2");
        check("example.com", "/api/v2/x", "api-v2");
        check("example.com", "/api/health", "health");
        check("example.com", "/api/health/x", "api");
        check("Shop.Example.com:8080", "/cart/1", "shop");
        check("shop.example.com.", "/cart", "shop");
        check("shop.example.com", "/api/v2/x", "api-v2");
    }

    #[test]
    fn without_a_match_there_is_no_route() {
        let router = router(&[("api", Some("example.com"), "/api/*")]);
        assert_eq!(router.find(b"example.com", b"/"), None);
        assert_eq!(router.find(b"example.org", b"/api/"), None);
        assert_eq!(router.find(b"", b"/api/"), None);
    }

    #[test]
    fn paths_are_compared_in_normal_form() {
        let check = |target: &str, expected: Option<&str>| {
            let normal = normal_path(target.as_bytes());
            assert_eq!(normal.as_deref().map(|path| std::str::from_utf8(path).unwrap()), expected, "{target}");
        };
        check("/a/b?c=/../d", Some("/a/b"));
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
}
