//! Redirections.
//!
//! Without a scheme and host the answer names a path alone, and the browser stays where it is: so a path must not begin
//! with two slashes, nor with a slash and a backslash, which browsers read as the beginning of a host.

use http1::write;

use super::answer::Prepared;
use super::path::{Change, Unfit, push_query, raw_path};
use crate::params::{PathMatch, RedirectParams, Scheme};
use crate::router::Asked;

/// Longest `Location`. Clients give up on longer ones, and a request's path is bounded by its head.
const LOCATION_BYTES_MAX: usize = 64 * 1024;

/// A redirection, ready to be written.
#[derive(Debug)]
pub(crate) struct Redirect {
    status: u16,
    scheme: Option<Scheme>,
    host: Option<Box<[u8]>>,
    change: Option<Change>,
    keep_query: bool,
}

impl Redirect {
    /// The redirection with these settings, on a route for these paths.
    pub(crate) fn new(params: &RedirectParams, route: &PathMatch, cores: usize) -> Self {
        Self {
            status: params.status,
            scheme: params.scheme,
            host: params.host.as_ref().map(|host| host.as_bytes().into()),
            change: params.path.as_ref().and_then(|change| Change::new(change, route, cores)),
            keep_query: params.keep_query,
        }
    }

    /// To the same place by HTTPS. 308 keeps the method, and lets browsers remember it.
    pub(crate) fn to_https() -> Self {
        Self { status: 308, scheme: Some(Scheme::Https), host: None, change: None, keep_query: true }
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, asked: &Asked<'_>) -> Prepared {
        let mut path = Vec::new();
        let written = match &self.change {
            Some(change) => change.write(&mut path, asked, self.keep_query, LOCATION_BYTES_MAX),
            None => {
                path.extend_from_slice(raw_path(asked.request, asked.head));
                if self.keep_query {
                    push_query(&mut path, asked);
                }
                Ok(())
            }
        };
        if let Err(unfit) = written {
            return unfit.answer();
        }
        let asked_host = asked.request.host.of_buf(asked.head);
        let mut location = Vec::with_capacity(path.len() + 64);
        match (self.scheme, &self.host) {
            (None, None) => {}
            // The scheme stays what it is.
            (None, Some(host)) => location.extend_from_slice(&[b"//", &**host].concat()),
            (Some(_), None) if asked_host.is_empty() => return Prepared::bad_request("the request names no host"),
            (Some(scheme), host) => {
                location.extend_from_slice(scheme.as_bytes());
                // The port is that of the scheme it came by.
                location.extend_from_slice(host.as_deref().unwrap_or_else(|| http1::host_without_port(asked_host)));
            }
        }
        if location.is_empty() {
            let slashes = path.iter().take_while(|b| matches!(b, b'/' | b'\\')).count();
            location.push(b'/');
            location.extend_from_slice(&path[slashes..]);
        } else {
            location.extend_from_slice(&path);
        }
        let mut fields = Vec::with_capacity(location.len() + 16);
        write::field(&mut fields, b"Location", &location);
        Prepared::new(self.status, fields)
    }
}

impl Scheme {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Http => b"http://",
            Self::Https => b"https://",
        }
    }
}

impl Unfit {
    /// What the client is told.
    pub(crate) fn answer(self) -> Prepared {
        match self {
            Self::Dots => Prepared::bad_request("the path would lead out of its folder"),
            Self::TooLong => Prepared::error(vocab::ErrorCode::TargetTooLong, "the rewritten path is too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_asked;
    use super::*;
    use crate::params::PathChange;

    fn location(params: &RedirectParams, target: &str, fields: &str) -> String {
        let redirect = Redirect::new(params, &PathMatch::Prefix("/old/".to_owned()), 1);
        let answer = with_asked(&format!("GET {target} HTTP/1.0\r\n{fields}\r\n"), |asked| redirect.answer(asked));
        assert!(answer.error.is_some() || answer.status == params.status);
        String::from_utf8(answer.fields).unwrap()
    }

    #[test]
    fn locations() {
        let to = |scheme: Option<Scheme>, host: Option<&str>, prefix: Option<&str>| RedirectParams {
            status: 302,
            scheme,
            host: host.map(str::to_owned),
            path: prefix.map(|prefix| PathChange::Prefix(prefix.to_owned())),
            keep_query: true,
        };
        let check = |params: &RedirectParams, target: &str, expected: &str| {
            let fields = "Host: a.example:8080\r\n";
            assert_eq!(location(params, target, fields), format!("Location: {expected}\r\n"), "{target}");
        };
        let https = to(Some(Scheme::Https), None, None);
        check(&https, "/old/x?a=b", "https://a.example/old/x?a=b");
        check(&https, "//evil.example/", "https://a.example//evil.example/");
        assert_eq!(location(&https, "/old/", ""), "", "there is no host to go to");
        check(&to(Some(Scheme::Http), Some("b.example:81"), None), "/x", "http://b.example:81/x");
        check(&to(None, Some("b.example"), Some("/new/")), "/old/x?q", "//b.example/new/x?q");
        let path = to(None, None, Some("/"));
        check(&path, "/old/x", "/x");
        check(&path, "/old", "/");
        check(&path, "/old//evil.example", "/evil.example");
        check(&path, "/old/\\evil.example", "/evil.example");
        check(&path, "/old//\\/evil.example", "/evil.example");
        check(&path, "/x/../old/%0d%0aSet-Cookie:a=b", "/%0D%0ASet-Cookie:a=b");
        let bare = RedirectParams { keep_query: false, ..path };
        check(&bare, "/old/x?secret=1", "/x");
    }
}
