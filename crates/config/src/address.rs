//! Addresses: where to listen, where endpoints are, whose word is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use gateway::params::Host;
use ipnet::IpNet;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::diagnostic::Sink;
use crate::grammar::{Key, Value, wrong_kind};
use crate::node::{Node, Value as NodeValue};
use crate::value::{invalid, shortened, text};

/// An address to listen on. `:8080` is port 8080 of every IPv4 address; IPv6 is asked for by `[::]:8080`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen(pub(crate) SocketAddr);

/// Where to listen: an address, or the file of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAt {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl ListenAt {
    /// The address, if it is one.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl Value for ListenAt {
    fn expected() -> String {
        Listen::expected()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match node.text().filter(|text| text.starts_with('/')) {
            Some(path) if path.ends_with('/') || path.contains('\0') => {
                let fix = "write the socket's file, such as \"/run/tenfold/.s.PGSQL.6432\"".to_owned();
                sink.push(invalid(node, key, "names no file").fix(fix));
                None
            }
            Some(path) => Some(Self::Unix(PathBuf::from(path))),
            None => Listen::read(node, key, sink).map(|listen| Self::Tcp(listen.0)),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Listen::schema(generator)
    }

    fn effective(&self) -> Json {
        match self {
            Self::Tcp(address) => address.to_string().into(),
            Self::Unix(path) => path.display().to_string().into(),
        }
    }
}

/// An address or host name with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// A network, or one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network(pub(crate) IpNet);

/// Why a text is not an address, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) problem: &'static str,
    pub(crate) fix: Option<String>,
}

fn wrong<T>(problem: &'static str, fix: impl Into<Option<String>>) -> Result<T, Wrong> {
    Err(Wrong { problem, fix: fix.into() })
}

/// Reads `HOST:PORT` as the file's `endpoints` do.
///
/// # Errors
/// What is wrong with the text, and what to write instead where that can be told.
///
/// ```
/// assert_eq!(config::endpoint_address("10.0.0.1:8080").unwrap().1, 8080);
/// assert_eq!(config::endpoint_address("10.0.0.1").unwrap_err(), "\"10.0.0.1\" has no port; write \"10.0.0.1:80\"");
/// ```
pub fn endpoint_address(text: &str) -> Result<(Host, u16), String> {
    match host_port(text) {
        Ok(HostPort { host, port }) => Ok((host, port)),
        Err(Wrong { problem, fix }) => {
            let fix = fix.map_or_else(String::new, |fix| format!("; write \"{fix}\""));
            Err(format!("{:?} {problem}{fix}", shortened(text)))
        }
    }
}

impl Value for Listen {
    fn expected() -> String {
        "an address with a port, such as \"0.0.0.0:8080\", \"[::]:8080\" or \":8080\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        // A bare port is what many other programs take.
        let port = match &node.value {
            NodeValue::Integer(_, Some(port)) if u16::try_from(*port).is_ok() => Some(format!("write \":{port}\"")),
            _ => None,
        };
        let text = text(node, key, &Self::expected(), port, sink)?;
        report(listen(text), node, key, &Self::expected(), sink).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.to_string().into()
    }
}

impl Value for HostPort {
    fn expected() -> String {
        "\"HOST:PORT\", such as \"10.0.0.1:8080\", \"[::1]:8080\" or \"api.internal:8080\", or \"_http._tcp.api.internal\""
            .to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let text = text(node, key, &Self::expected(), None, sink)?;
        report(host_port(text), node, key, &Self::expected(), sink)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).to_string().into(),
            Host::Name(name) => format!("{name}:{}", self.port).into(),
            Host::Srv(name) => name.as_str().into(),
        }
    }
}

impl Value for Network {
    fn expected() -> String {
        "a network such as \"10.0.0.0/8\" or \"fd00::/8\", or an address".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let NodeValue::Text { text, .. } = &node.value else {
            wrong_kind(node, key, &Self::expected(), None, sink);
            return None;
        };
        report(network(text), node, key, &Self::expected(), sink).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.to_string().into()
    }
}

fn report<T>(result: Result<T, Wrong>, node: &Node, key: &Key<'_>, expected: &str, sink: &mut Sink) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Wrong { problem, fix }) => {
            let fix = fix.map(|text| format!("write \"{text}\""));
            sink.push(invalid(node, key, problem).allowed(expected).fix(fix));
            None
        }
    }
}

fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Some(port) = text.strip_prefix(':').and_then(plain_port) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    if let Some(port) = plain_port(text) {
        return wrong("is a port without an address", format!(":{port}"));
    }
    if let Some(port) = text.strip_prefix("*:").and_then(plain_port) {
        return wrong("has no address before the port", format!(":{port}"));
    }
    let HostPort { host, port } = host_port_with(text, 8080)?;
    match host {
        Host::Name(name) if name == "localhost" => {
            wrong("is a name; listeners need an address", format!("127.0.0.1:{port}"))
        }
        Host::Name(_) | Host::Srv(_) => wrong("is a name; listeners need an address", format!("0.0.0.0:{port}")),
        Host::Address(address) => Ok(SocketAddr::new(address, port)),
    }
}

/// Whether a text is a name of `SRV` records: `_service._proto.name` (RFC 2782), which no host has.
fn is_srv_name(text: &str) -> bool {
    let mut labels = text.split('.');
    let mut is_marked = || labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    is_marked() && is_marked() && labels.next().is_some() && is_host_name(text)
}

fn host_port(text: &str) -> Result<HostPort, Wrong> {
    if is_srv_name(text) {
        return Ok(HostPort { host: Host::Srv(text.to_ascii_lowercase()), port: 0 });
    }
    if let Some((name, _)) = text.rsplit_once(':').filter(|(name, _)| is_srv_name(name)) {
        return wrong("has a port, which SRV records say themselves", name.to_owned());
    }
    let found = host_port_with(text, 80)?;
    if found.port == 0 { wrong("has port 0, where nothing can listen", None) } else { Ok(found) }
}

/// Reads host and port. `usual` is the port of the example when there is none.
pub(crate) fn host_port_with(text: &str, usual: u16) -> Result<HostPort, Wrong> {
    if text.is_empty() {
        return wrong("is empty", None);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let port = if scheme == "https" { 443 } else { 80 };
        let authority = rest.split('/').next().unwrap_or_default();
        let bare = [authority.to_owned(), format!("{authority}:{port}")];
        let fix = bare.into_iter().find(|bare| host_port_with(bare, port).is_ok());
        return wrong("has a scheme; only host and port belong here", fix);
    }
    if text.starts_with("unix:") {
        return wrong("is a Unix socket; only TCP is spoken here", None);
    }
    if let Some((authority, _)) = text.split_once('/') {
        let fix = host_port_with(authority, usual).is_ok().then(|| authority.to_owned());
        return wrong("has a path; only host and port belong here", fix);
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        return wrong("has no port", format!("[{address}]:{usual}"));
    }
    let Some((host, port_text)) = text.rsplit_once(':') else {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return wrong("has no host", format!("127.0.0.1:{text}"));
        }
        return wrong("has no port", name_or_address(text).is_ok().then(|| format!("{text}:{usual}")));
    };
    let port = match port_text.parse::<u32>() {
        Ok(port) if port_text.bytes().all(|byte| byte.is_ascii_digit()) => u16::try_from(port).ok(),
        _ => return wrong("has something else than a number after the last ':'", None),
    };
    let Some(port) = port else { return wrong("has a port above 65535", None) };
    if host.is_empty() {
        return wrong("has no host before the port", format!("127.0.0.1:{port}"));
    }
    Ok(HostPort { host: name_or_address(host)?, port })
}

fn name_or_address(host: &str) -> Result<Host, Wrong> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(Host::Address(IpAddr::V6(address))),
            Err(_) => wrong("has no IPv6 address in its brackets", None),
        };
    }
    if host.contains(':') {
        return wrong("has an IPv6 address without brackets", None);
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    // The last label of a host name is never a number, so this was meant as an address (RFC 1123, section 2.1).
    if host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return wrong("has no valid IPv4 address: four numbers from 0 to 255", None);
    }
    if is_host_name(host) {
        return Ok(Host::Name(host.to_ascii_lowercase()));
    }
    wrong("has no valid host name", None)
}

/// Whether a text may be a host name: labels of letters, digits, `-` and `_`, at most 63 bytes each, 253 in all.
pub(crate) fn is_host_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter) && !label.starts_with('-');
    text.len() <= 253 && text.split('.').all(label)
}

fn plain_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    match text.parse::<IpNet>() {
        // Whoever writes 10.1.2.3/8 may have meant the host or the network.
        Ok(net) if net.trunc() != net => wrong("has address bits beyond its prefix", net.trunc().to_string()),
        Ok(net) => Ok(net),
        Err(_) if text == "*" || text == "all" => {
            wrong("would trust everyone; name the networks of your proxies", None)
        }
        Err(_) => wrong("is not a network", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_addresses() {
        let good = |text: &str, expected: &str| {
            assert_eq!(listen(text).map(|address| address.to_string()), Ok(expected.to_owned()), "{text:?}");
        };
        good("0.0.0.0:8080", "0.0.0.0:8080");
        good("[::]:80", "[::]:80");
        good(":8080", "0.0.0.0:8080");
        good("127.0.0.1:0", "127.0.0.1:0");
        let bad = |text: &str, fix: Option<&str>| {
            assert_eq!(listen(text).unwrap_err().fix.as_deref(), fix, "{text:?}");
        };
        bad("8080", Some(":8080"));
        bad("*:8080", Some(":8080"));
        bad("localhost:80", Some("127.0.0.1:80"));
        bad("example.com:80", Some("0.0.0.0:80"));
        bad("0.0.0.0", Some("0.0.0.0:8080"));
        bad("::1", Some("[::1]:8080"));
        bad(":99999", None);
        bad("", None);
    }

    #[test]
    fn endpoint_addresses() {
        let good = |text: &str, host: Host, port: u16| {
            assert_eq!(host_port(text), Ok(HostPort { host, port }), "{text:?}");
        };
        good("10.0.0.1:8080", Host::Address("10.0.0.1".parse().unwrap()), 8080);
        good("[::1]:80", Host::Address("::1".parse().unwrap()), 80);
        good("API.internal:8080", Host::Name("api.internal".to_owned()), 8080);
        good("my_service:1", Host::Name("my_service".to_owned()), 1);
        good("_HTTP._tcp.api.internal", Host::Srv("_http._tcp.api.internal".to_owned()), 0);
        good("_http.api.internal:80", Host::Name("_http.api.internal".to_owned()), 80);
        let bad = |text: &str, problem: &str, fix: Option<&str>| {
            assert_eq!(host_port(text), wrong(problem_of(problem), fix.map(str::to_owned)), "{text:?}");
        };
        bad("http://10.0.0.1:80", "has a scheme; only host and port belong here", Some("10.0.0.1:80"));
        bad("https://api.internal/x", "has a scheme; only host and port belong here", Some("api.internal:443"));
        bad("10.0.0.1:80/api", "has a path; only host and port belong here", Some("10.0.0.1:80"));
        bad("10.0.0.1", "has no port", Some("10.0.0.1:80"));
        bad("::1", "has no port", Some("[::1]:80"));
        bad("fe80::1:80:zz", "has something else than a number after the last ':'", None);
        bad("8080", "has no host", Some("127.0.0.1:8080"));
        bad(":8080", "has no host before the port", Some("127.0.0.1:8080"));
        bad("10.0.0.1:70000", "has a port above 65535", None);
        bad("10.0.0.1:0", "has port 0, where nothing can listen", None);
        bad("10.0.0.256:80", "has no valid IPv4 address: four numbers from 0 to 255", None);
        bad("10.0.1:80", "has no valid IPv4 address: four numbers from 0 to 255", None);
        bad("a b:80", "has no valid host name", None);
        bad("a..b:80", "has no valid host name", None);
        bad("10.0.0.1:+80", "has something else than a number after the last ':'", None);
        bad("[10.0.0.1]:80", "has no IPv6 address in its brackets", None);
        bad("_http._tcp.a.b:80", "has a port, which SRV records say themselves", Some("_http._tcp.a.b"));
        bad("_http._tcp", "has no port", Some("_http._tcp:80"));
        bad("unix:/run/api.sock", "is a Unix socket; only TCP is spoken here", None);
    }

    fn problem_of(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }

    #[test]
    fn networks() {
        let good = |text: &str, expected: &str| {
            assert_eq!(network(text).map(|net| net.to_string()), Ok(expected.to_owned()), "{text:?}");
        };
        good("10.0.0.0/8", "10.0.0.0/8");
        good("10.0.0.1", "10.0.0.1/32");
        good("fd00::/8", "fd00::/8");
        assert_eq!(network("10.1.2.3/8").unwrap_err().fix.as_deref(), Some("10.0.0.0/8"));
        assert_eq!(network("10.0.0.0/33").unwrap_err().problem, "is not a network");
        assert_eq!(network("*").unwrap_err().problem, "would trust everyone; name the networks of your proxies");
    }
}
