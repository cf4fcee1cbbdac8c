//! Values that come from HTTP: hosts, paths, statuses, names of fields and cookies.

use gateway::params::{HostMatch, PathMatch};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::address::is_host_name;
use crate::diagnostic::Sink;
use crate::grammar::{Key, Value, wrong_kind};
use crate::habits::nearest;
use crate::node::{Node, Value as NodeValue};
use crate::value::{invalid, text};

/// Hosts that a route serves.
#[derive(Clone, Debug)]
pub(crate) struct RouteHost(pub(crate) HostMatch);

/// Paths that a route serves.
#[derive(Clone, Debug)]
pub(crate) struct RoutePath(pub(crate) PathMatch);

/// A prefix of paths in the place of another: ends with `/`.
#[derive(Clone, Debug)]
pub(crate) struct NewPrefix(pub(crate) String);

/// A path to ask for, with or without a query.
#[derive(Clone, Debug)]
pub(crate) struct Target(pub(crate) String);

/// A value of the `Host` field.
#[derive(Clone, Debug)]
pub(crate) struct HostField(pub(crate) String);

/// The name of a header field, lower case.
#[derive(Clone, Debug)]
pub(crate) struct FieldName(pub(crate) String);

/// The name of a cookie.
#[derive(Clone, Debug)]
pub(crate) struct CookieName(pub(crate) String);

/// Statuses from the first to the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statuses(pub(crate) u16, pub(crate) u16);

/// A failure that is worth a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryCause {
    Error,
    Timeout,
    InvalidHeader,
    Status(u16),
}

/// A token of HTTP's grammar (RFC 9110, section 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(token)
}

/// Characters that may stand in a request target: visible ASCII without those that a client has to escape.
fn is_target(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte))
}

/// Implements [`Value`] for a type that is read from a text by a function.
macro_rules! text_value {
    ($type:ident, $expected:literal, $read:expr, $show:expr) => {
        impl Value for $type {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
                let text = text(node, key, $expected, None, sink)?;
                let read: fn(&str) -> Result<Self, Wrong> = $read;
                match read(text) {
                    Ok(value) => Some(value),
                    Err((problem, fix)) => {
                        let fix = fix.map(|text| format!("write \"{text}\""));
                        sink.push(invalid(node, key, problem).allowed($expected).fix(fix));
                        None
                    }
                }
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-value": $expected })
            }

            fn effective(&self) -> Json {
                let show: fn(&Self) -> String = $show;
                show(self).into()
            }
        }
    };
}

pub(crate) use text_value;

/// What a text is not, and the text that was probably meant.
pub(crate) type Wrong = (&'static str, Option<String>);

text_value!(
    RouteHost,
    "a host name or address without a port, such as \"api.example.com\" or \"*.example.com\"",
    route_host,
    |host| { host.0.text().unwrap_or_default() }
);
text_value!(RoutePath, "a path such as \"/health\" or \"/api/*\"", route_path, |path| path.0.text());
text_value!(NewPrefix, "the beginning of a path, such as \"/\" or \"/v2/\"", new_prefix, |prefix| prefix.0.clone());
text_value!(Target, "a path such as \"/health\" or \"/health?deep=1\"", target, |target| target.0.clone());
text_value!(HostField, "a host name, with a port if needed", host_field, |host| host.0.clone());
text_value!(FieldName, "the name of a header field, such as \"X-User\"", field_name, |name| name.0.clone());
text_value!(CookieName, "the name of a cookie, such as \"session\"", cookie_name, |name| name.0.clone());

fn route_host(text: &str) -> Result<RouteHost, Wrong> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or_default();
    if bare != text {
        let bare = bare.split(':').next().unwrap_or_default();
        return Err(("has more than a host name", is_host_name(bare).then(|| bare.to_owned())));
    }
    if let Some(domain) = text.strip_prefix("*.").filter(|domain| is_host_name(domain)) {
        return Ok(RouteHost(HostMatch::Under(domain.to_ascii_lowercase())));
    }
    if text == "*" {
        return Err(("stands for all hosts, which a route without host serves", None));
    }
    if text.contains('*') {
        let domain = text.trim_start_matches(['*', '.']);
        return Err((
            "has a '*' that is not a first label of its own",
            is_host_name(domain).then(|| format!("*.{domain}")),
        ));
    }
    let brackets = text.starts_with('[') && text.ends_with(']');
    if let Some((host, _)) = text.rsplit_once(':').filter(|_| !brackets) {
        return Err(("has a port; the listener knows it", is_host_name(host).then(|| host.to_owned())));
    }
    let address = brackets && text[1..text.len() - 1].parse::<std::net::Ipv6Addr>().is_ok();
    if address || is_host_name(text) {
        Ok(RouteHost(HostMatch::Exact(text.to_ascii_lowercase())))
    } else {
        Err(("is not a host name", None))
    }
}

fn route_path(text: &str) -> Result<RoutePath, Wrong> {
    if text.contains(['(', '^']) || text.starts_with('~') || text.ends_with('$') {
        return Err(("looks like a regular expression, which belongs into the key `path_regex`", None));
    }
    if !text.starts_with('/') {
        let fix = format!("/{text}");
        return Err(("does not begin with '/'", route_path(&fix).is_ok().then_some(fix)));
    }
    if text.contains('?') {
        return Err(("has a query; routes look at the path alone", None));
    }
    if !is_target(text) {
        return Err(("has a character that a path cannot have", None));
    }
    let prefix = text.strip_suffix('*').unwrap_or(text);
    if prefix.contains('*') {
        return Err(("has a '*' before its end", None));
    }
    // Requests are compared in normal form, so a path in another would never match.
    let normal = gateway::normal_path(prefix.as_bytes()).and_then(|path| String::from_utf8(path.into_owned()).ok());
    let Some(normal) = normal else {
        return Err(("has a broken escape or climbs above the root", None));
    };
    if normal != prefix {
        return Err(("is not in normal form", Some(normal + &text[prefix.len()..])));
    }
    match (prefix.len() < text.len(), prefix.ends_with('/')) {
        (false, _) => Ok(RoutePath(PathMatch::Exact(prefix.to_owned()))),
        (true, true) => Ok(RoutePath(PathMatch::Prefix(prefix.to_owned()))),
        (true, false) => Err(("has a '*' that is not a segment of its own", Some(format!("{prefix}/*")))),
    }
}

fn new_prefix(text: &str) -> Result<NewPrefix, Wrong> {
    let bare = text.trim_end_matches('*');
    if bare != text || !text.ends_with('/') || !text.starts_with('/') {
        let fix = format!("/{}/", bare.trim_matches('/')).replace("//", "/");
        let good = new_prefix(&fix).is_ok();
        return Err(("does not begin and end with '/'", good.then_some(fix)));
    }
    match route_path(text) {
        Ok(_) if text.starts_with("//") => Err(("begins with two slashes, which a reader may take for a host", None)),
        Ok(_) => Ok(NewPrefix(text.to_owned())),
        Err(wrong) => Err(wrong),
    }
}

fn target(text: &str) -> Result<Target, Wrong> {
    match text {
        _ if is_target(text) => Ok(Target(text.to_owned())),
        _ if is_target(&format!("/{text}")) && !text.contains("://") => {
            Err(("does not begin with '/'", Some(format!("/{text}"))))
        }
        _ => Err(("is not a path", None)),
    }
}

fn host_field(text: &str) -> Result<HostField, Wrong> {
    let (host, port) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let port_is_fine = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if is_host_name(host) && port_is_fine { Ok(HostField(text.to_owned())) } else { Err(("is not a host", None)) }
}

pub(crate) fn field_name(text: &str) -> Result<FieldName, Wrong> {
    match text.trim_end_matches(':') {
        bare if bare != text => Err(("has more than a name", is_token(bare).then(|| bare.to_owned()))),
        bare if is_token(bare) => Ok(FieldName(bare.to_ascii_lowercase())),
        _ => Err(("is not the name of a header field", None)),
    }
}

pub(crate) fn cookie_name(text: &str) -> Result<CookieName, Wrong> {
    if is_token(text) { Ok(CookieName(text.to_owned())) } else { Err(("is not the name of a cookie", None)) }
}

impl Value for Statuses {
    fn expected() -> String {
        "a status from 100 to 599 such as 200, or a range such as \"200-299\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        let class = |text: &str| match text.as_bytes() {
            [digit @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => Some(u16::from(digit - b'0')),
            _ => None,
        };
        let (range, fix) = match &node.value {
            NodeValue::Integer(text, _) => (status(text).map(|status| (status, status)), None),
            NodeValue::Text { text, .. } => match text.split_once('-') {
                Some((from, to)) => (status(from.trim()).zip(status(to.trim())), None),
                None => (
                    status(text).map(|status| (status, status)),
                    class(text).map(|digit| format!("write \"{digit}00-{digit}99\"")),
                ),
            },
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                return None;
            }
        };
        let ordered = range.filter(|(from, to)| from <= to);
        if ordered.is_none() {
            sink.push(invalid(node, key, "is not a status or range").allowed(Self::expected()).fix(fix));
        }
        ordered.map(|(from, to)| Self(from, to))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" },
            ],
            "x-value": Self::expected(),
        })
    }

    fn effective(&self) -> Json {
        if self.0 == self.1 { self.0.into() } else { format!("{}-{}", self.0, self.1).into() }
    }
}

impl RetryCause {
    const WORDS: [&str; 3] = ["error", "timeout", "invalid_header"];
}

impl Value for RetryCause {
    fn expected() -> String {
        "\"error\", \"timeout\", \"invalid_header\" or a status such as \"http_503\" (400 to 599)".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let fix = match node.value {
            NodeValue::Integer(_, Some(status)) => Some(format!("write \"http_{status}\"")),
            _ => None,
        };
        let text = text(node, key, &Self::expected(), fix, sink)?;
        let status = |digits: &str| digits.parse::<u16>().ok().filter(|status| (400..=599).contains(status));
        match text {
            "error" => Some(Self::Error),
            "timeout" => Some(Self::Timeout),
            "invalid_header" => Some(Self::InvalidHeader),
            _ => {
                if let Some(status) = text.strip_prefix("http_").and_then(status) {
                    return Some(Self::Status(status));
                }
                let bare = status(text).map(|status| format!("write \"http_{status}\""));
                let like_word = Some(text).filter(|text| !text.starts_with("http"));
                let near =
                    || nearest(like_word?, Self::WORDS.into_iter()).map(|word| format!("did you mean \"{word}\"?"));
                let diagnostic = invalid(node, key, "is not the name of a failure").allowed(Self::expected());
                sink.push(diagnostic.fix(bare.or_else(near)));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^(error|timeout|invalid_header|http_[45][0-9]{2})$";
        json_schema!({ "type": "string", "pattern": pattern, "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        match self {
            Self::Error => "error".into(),
            Self::Timeout => "timeout".into(),
            Self::InvalidHeader => "invalid_header".into(),
            Self::Status(status) => format!("http_{status}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_paths() {
        let good = |text: &str, expected: PathMatch| {
            assert_eq!(route_path(text).map(|path| path.0), Ok(expected), "{text:?}");
        };
        good("/health", PathMatch::Exact("/health".to_owned()));
        good("/", PathMatch::Exact("/".to_owned()));
        good("/*", PathMatch::Prefix("/".to_owned()));
        good("/api/*", PathMatch::Prefix("/api/".to_owned()));
        let bad = |text: &str, fix: Option<&str>| {
            assert_eq!(route_path(text).unwrap_err().1.as_deref(), fix, "{text:?}");
        };
        bad("api/*", Some("/api/*"));
        bad("/api*", Some("/api/*"));
        bad("/*/x", None);
        bad("/a/*/*", None);
        bad("/a b", None);
        bad("/a?b=c", None);
        bad("~ ^/api", None);
        bad("", Some("/"));
        bad("/%61dmin/*", Some("/admin/*"));
        bad("/a%2fb", Some("/a%2Fb"));
        bad("/a/../b", Some("/b"));
        bad("/../b", None);
        bad("/100%", None);
    }

    #[test]
    fn route_hosts() {
        let good = |text: &str, expected: &str| assert_eq!(route_host(text).unwrap().0.text().unwrap(), expected);
        good("API.example.com", "api.example.com");
        good("[::1]", "[::1]");
        good("*.Example.com", "*.example.com");
        let bad = |text: &str, fix: Option<&str>| {
            assert_eq!(route_host(text).unwrap_err().1.as_deref(), fix, "{text:?}");
        };
        bad("example.com:8080", Some("example.com"));
        bad("https://example.com/", Some("example.com"));
        bad("*", None);
        bad("*example.com", Some("*.example.com"));
        bad("*.*.example.com", Some("*.example.com"));
        bad("api.*.com", None);
        bad("*.example.com:80", None);
        bad("", None);
    }

    #[test]
    fn names_of_fields_and_cookies() {
        assert_eq!(field_name("X-User").unwrap().0, "x-user");
        assert_eq!(field_name("X-User:").unwrap_err().1.as_deref(), Some("X-User"));
        assert!(field_name("X User").is_err() && field_name("").is_err());
        assert_eq!(cookie_name("Session").unwrap().0, "Session");
        assert!(cookie_name("a=b").is_err() && cookie_name("a;b").is_err());
    }
}
