//! Who the client is, and how the request tells it to whoever is behind us.
//!
//! Fields that name the client are believed only from peers that are trusted, and replaced otherwise: a client could
//! write anything into them. Of a chain of proxies, the client is the last address that is not a trusted proxy's, read
//! from the end, for only the end was written by someone we know.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::data::Peer;
use http1::{FieldId, Request, write};
use ipnet::IpNet;

/// A request's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client, as far as trusted peers say.
    pub(crate) client: IpAddr,
    /// Whether the peer's fields are believed.
    pub(crate) trusted: bool,
}

impl Origin {
    /// Finds the client behind `peer`.
    pub(crate) fn of(peer: IpAddr, trusted_proxies: &[IpNet], request: &Request, head: &[u8]) -> Self {
        let peer = peer.to_canonical();
        let is_proxy = |address: IpAddr| trusted_proxies.iter().any(|net| net.contains(&address));
        if trusted_proxies.is_empty() || !is_proxy(peer) {
            return Self { client: peer, trusted: false };
        }
        let mut client = peer;
        let chain: Vec<&[u8]> = request
            .fields
            .all(FieldId::XForwardedFor)
            .flat_map(|field| field.value.of_buf(head).split(|&b| b == b','))
            .collect();
        for hop in chain.iter().rev() {
            let Some(address) = parse_hop(hop) else { break };
            client = address;
            if !is_proxy(address) {
                break;
            }
        }
        Self { client, trusted: true }
    }
}

/// Whether a proxy says that its client came by HTTPS. Only those that are trusted may be asked.
pub(crate) fn says_https(request: &Request, head: &[u8]) -> bool {
    request.fields.all(FieldId::XForwardedProto).next().is_some_and(|field| is_https(field.value.of_buf(head)))
}

/// Whether a scheme, or the first of those that several proxies saw, is that of HTTPS.
pub(crate) fn is_https(scheme: &[u8]) -> bool {
    let first = scheme.split(|&b| b == b',').next();
    first.is_some_and(|scheme| scheme.trim_ascii().eq_ignore_ascii_case(b"https"))
}

/// What a service is told as the scheme: `X-Forwarded-Proto`.
pub(crate) fn scheme<'h>(tls: bool, trusted: bool, request: &Request, head: &'h [u8]) -> &'h [u8] {
    let earlier = if trusted { request.fields.all(FieldId::XForwardedProto).next() } else { None };
    earlier.map_or(if tls { b"https" } else { b"http" }, |field| field.value.of_buf(head))
}

/// What a proxy that is trusted says which host was asked for: `X-Forwarded-Host`.
pub(crate) fn host<'h>(trusted: bool, request: &Request, head: &'h [u8]) -> Option<&'h [u8]> {
    let earlier = if trusted { request.fields.all(FieldId::XForwardedHost).next() } else { None };
    earlier.map(|field| field.value.of_buf(head))
}

/// What the names begin with by which proxies tell of a request's way.
pub(crate) const PREFIX: &[u8] = b"x-forwarded-";

/// Whether a field tells of a request's way, as `X-Forwarded-Prefix` does. Each framework believes others of these, so only
/// proxies that are trusted may write any.
pub(crate) fn is_one(name: &[u8]) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    bare().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

/// What goes into the fields, besides the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop<'a> {
    /// Who connected, and how.
    pub(crate) peer: Peer,
    /// Where the request comes from.
    pub(crate) origin: Origin,
    /// The host that was asked for; may be empty.
    pub(crate) host: &'a [u8],
}

/// Adds `X-Real-IP`, `X-Forwarded-*` and `Forwarded`.
pub(crate) fn write_fields(out: &mut Vec<u8>, hop: Hop<'_>, request: &Request, head: &[u8]) {
    let peer = hop.peer.address.ip().to_canonical();
    let peer_text = AddressText::of(peer);
    let client = if hop.origin.client == peer { peer_text } else { AddressText::of(hop.origin.client) };
    let scheme: &[u8] = if hop.peer.tls { b"https" } else { b"http" };
    let kept = |id: FieldId| request.fields.all(id).filter(move |_| hop.origin.trusted);
    out.extend_from_slice(b"X-Real-IP: ");
    out.extend_from_slice(client.as_bytes());
    out.extend_from_slice(b"\r\nX-Forwarded-For: ");
    for earlier in kept(FieldId::XForwardedFor) {
        out.extend_from_slice(earlier.value.of_buf(head));
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(peer_text.as_bytes());
    out.extend_from_slice(b"\r\n");
    write::field(out, b"X-Forwarded-Proto", self::scheme(hop.peer.tls, hop.origin.trusted, request, head));
    match host(hop.origin.trusted, request, head) {
        Some(earlier) => write::field(out, b"X-Forwarded-Host", earlier),
        None if hop.host.is_empty() => {}
        None => write::field(out, b"X-Forwarded-Host", hop.host),
    }
    match kept(FieldId::XForwardedPort).next() {
        Some(earlier) => write::field(out, b"X-Forwarded-Port", earlier.value.of_buf(head)),
        None => {
            out.extend_from_slice(b"X-Forwarded-Port: ");
            write::number(out, u64::from(hop.peer.to.port()));
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"Forwarded: ");
    for earlier in kept(FieldId::Forwarded) {
        out.extend_from_slice(earlier.value.of_buf(head));
        out.extend_from_slice(b", ");
    }
    forwarded_element(out, peer.is_ipv6(), peer_text.as_bytes(), hop.host, scheme);
    out.extend_from_slice(b"\r\n");
}

/// An element of `Forwarded`: RFC 7239. An IPv6 address and a host with a port must be quoted.
fn forwarded_element(out: &mut Vec<u8>, is_ipv6: bool, peer: &[u8], host: &[u8], scheme: &[u8]) {
    out.extend_from_slice(b"for=");
    if is_ipv6 {
        out.extend_from_slice(b"\"[");
        out.extend_from_slice(peer);
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(peer);
    }
    if !host.is_empty() {
        // A host holds no quote and no backslash: its grammar excludes both.
        let quote: &[u8] = if http1::TOKEN.holds_all(host) { b"" } else { b"\"" };
        out.extend_from_slice(b";host=");
        out.extend_from_slice(quote);
        out.extend_from_slice(host);
        out.extend_from_slice(quote);
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme);
}

/// An address as text, which stands in several fields.
#[derive(Clone, Copy, Debug)]
struct AddressText {
    bytes: [u8; ADDRESS_BYTES_MAX],
    len: u8,
}

/// The longest text of an address: an IPv6 address that ends in one of IPv4.
const ADDRESS_BYTES_MAX: usize = 45;

impl AddressText {
    fn of(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; ADDRESS_BYTES_MAX], len: 0 };
        match address {
            // The general formatter costs more than the rest of the fields.
            IpAddr::V4(v4) => text.write_v4(v4.octets()),
            IpAddr::V6(v6) => {
                let mut rest = text.bytes.as_mut_slice();
                let _infallible = write!(rest, "{v6}");
                text.len = (ADDRESS_BYTES_MAX - rest.len()) as u8;
            }
        }
        text
    }

    fn write_v4(&mut self, octets: [u8; 4]) {
        let mut len = 0;
        let mut push = |byte| {
            self.bytes[len] = byte;
            len += 1;
        };
        for (index, octet) in octets.into_iter().enumerate() {
            if index > 0 {
                push(b'.');
            }
            if octet >= 100 {
                push(b'0' + octet / 100);
            }
            if octet >= 10 {
                push(b'0' + octet / 10 % 10);
            }
            push(b'0' + octet % 10);
        }
        self.len = len as u8;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use http1::{HeadScan, Limits};

    use super::*;

    fn parse(fields: &str) -> (Request, Vec<u8>) {
        let head = format!("GET / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n").into_bytes();
        let limits = Limits { bytes_max: 8192, fields_max: 64 };
        assert!(HeadScan::default().advance(&head, &limits).unwrap().is_some());
        let mut request = Request::default();
        request.parse(&head, &limits).unwrap();
        (request, head)
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let check = |peer: &str, fields: &str, client: &str, believed: bool| {
            let (request, head) = parse(fields);
            let origin = Origin::of(peer.parse().unwrap(), &trusted, &request, &head);
            let expected = Origin { client: client.parse().unwrap(), trusted: believed };
            assert_eq!(origin, expected, "{peer} {fields}");
        };
        check("192.0.2.1", "", "192.0.2.1", false);
        check("192.0.2.1", "X-Forwarded-For: 1.1.1.1\r\n", "192.0.2.1", false);
        check("10.0.0.1", "", "10.0.0.1", true);
        check("10.0.0.1", "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7", true);
        check("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.2\r\n", "192.0.2.7", true);
        check("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7", true);
        check("10.0.0.1", "X-Forwarded-For: 6.6.6.6, garbage, 10.0.0.2\r\n", "10.0.0.2", true);
        check("10.0.0.1", "X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::1", true);
        check("::ffff:10.0.0.1", "X-Forwarded-For: 192.0.2.7:99\r\n", "192.0.2.7", true);
    }

    #[test]
    fn fields_of_strangers_are_replaced_and_those_of_proxies_continued() {
        let check = |trusted: bool, peer: &str, host: &str, fields: &str, expected: &[&str]| {
            let (request, head) = parse(fields);
            let origin = Origin { client: "192.0.2.7".parse().unwrap(), trusted };
            let address = SocketAddr::new(peer.parse().unwrap(), 50_000);
            let peer = Peer { address, to: "10.0.0.1:8080".parse().unwrap(), tls: false, paced_within: false };
            let hop = Hop { peer, origin, host: host.as_bytes() };
            let mut out = Vec::new();
            write_fields(&mut out, hop, &request, &head);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        };
        let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\n\
                      X-Forwarded-Host: bank.example.com\r\nX-Forwarded-Port: 443\r\n";
        check(
            false,
            "192.0.2.7",
            "example.com",
            forged,
            &[
                "X-Real-IP: 192.0.2.7",
                "X-Forwarded-For: 192.0.2.7",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: example.com",
                "X-Forwarded-Port: 8080",
                "Forwarded: for=192.0.2.7;host=example.com;proto=http",
            ],
        );
        check(
            true,
            "2001:db8::2",
            "example.com:81",
            forged,
            &[
                "X-Real-IP: 192.0.2.7",
                "X-Forwarded-For: 6.6.6.6, 2001:db8::2",
                "X-Forwarded-Proto: https",
                "X-Forwarded-Host: bank.example.com",
                "X-Forwarded-Port: 443",
                "Forwarded: for=6.6.6.6, for=\"[2001:db8::2]\";host=\"example.com:81\";proto=http",
            ],
        );
    }
}
