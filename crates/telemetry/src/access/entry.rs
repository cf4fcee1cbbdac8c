//! What the access log tells of a request, and how much of it.
//!
//! Texts come from the network, so their lengths are bounded: a line's size is known before it is written, whatever its
//! format is.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use vocab::ErrorCode;

/// A finished request, or a connection or session that was passed through, as the access log tells it.
#[derive(Clone, Copy, Debug)]
pub struct AccessEntry<'a> {
    /// When the request's head had arrived.
    pub time: SystemTime,
    /// The client, as far as trusted proxies say.
    pub client: IpAddr,
    /// The method as it was sent; at most 32 bytes are logged. Empty for what is not HTTP, which has no path, no
    /// `request_id` and at most a host.
    pub method: &'a [u8],
    /// The host asked for; at most 256 bytes are logged.
    pub host: &'a [u8],
    /// The path; at most 4096 bytes are logged, and nothing from the first `?` on, since queries may hold secrets.
    pub path: &'a [u8],
    /// The protocol's name and version, such as `HTTP/1.1` or `TCP`; at most 16 bytes are logged.
    pub protocol: &'a str,
    /// The status that the client got; `None` when the connection broke before.
    pub status: Option<u16>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// Time from `time` to the end of the exchange, in microseconds.
    pub duration_micros: u64,
    /// The listener's name.
    pub listener: &'a str,
    /// The route's name, if one matched.
    pub route: Option<&'a str>,
    /// The service's name, if a route matched.
    pub service: Option<&'a str>,
    /// The endpoint that answered, or that was tried last.
    pub upstream: Option<SocketAddr>,
    /// How often the request was sent to an endpoint.
    pub tries: u32,
    /// The request's id; at most 128 bytes are logged.
    pub request_id: &'a [u8],
    /// The `User-Agent`, empty if there is none; at most 512 bytes are logged.
    pub user_agent: &'a [u8],
    /// The `Referer`, empty if there is none; at most 512 bytes are logged, and nothing from the first `?` on.
    pub referer: &'a [u8],
    /// Why the gateway answered by itself or broke off, if it did.
    pub error: Option<ErrorCode>,
}

const METHOD_BYTES: usize = 32;
const HOST_BYTES: usize = 256;
const PATH_BYTES: usize = 4096;
const PROTOCOL_BYTES: usize = 16;
const NAME_BYTES: usize = 64;
const REQUEST_ID_BYTES: usize = 128;
/// Browsers send some 120 bytes; what is longer than this comes from programs that announce themselves at length.
const USER_AGENT_BYTES: usize = 512;
const REFERER_BYTES: usize = 512;

/// A byte grows to six at most, as `\u0001` or `\ufffd`.
const ESCAPED_BYTES: usize = 6;

/// Everything but the escaped texts: keys and punctuation (about 270 bytes), the time (26), two addresses (39 and 47),
/// four numbers (20 each), status and error code.
const FIXED_BYTES: usize = 700;

/// Bytes that the longest line has, its line feed included.
pub(super) const LINE_BYTES_MAX: usize = FIXED_BYTES
    + ESCAPED_BYTES
        * (METHOD_BYTES
            + HOST_BYTES
            + PATH_BYTES
            + PROTOCOL_BYTES
            + 3 * NAME_BYTES
            + REQUEST_ID_BYTES
            + USER_AGENT_BYTES
            + REFERER_BYTES);

fn bounded(bytes: &[u8], max: usize) -> &[u8] {
    &bytes[..bytes.len().min(max)]
}

/// A path or URL up to its query.
pub(super) fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|&byte| byte == b'?').unwrap_or(path.len());
    &path[..end]
}

impl<'a> AccessEntry<'a> {
    /// Bytes that this line needs at most; never above [`LINE_BYTES_MAX`].
    pub(super) fn bytes_max(&self) -> usize {
        let name = |text: Option<&str>| text.map_or(0, |text| text.len().min(NAME_BYTES));
        let texts = self.method.len().min(METHOD_BYTES)
            + self.host.len().min(HOST_BYTES)
            + self.path.len().min(PATH_BYTES)
            + self.protocol.len().min(PROTOCOL_BYTES)
            + name(Some(self.listener))
            + name(self.route)
            + name(self.service)
            + self.request_id.len().min(REQUEST_ID_BYTES)
            + self.user_agent.len().min(USER_AGENT_BYTES)
            + self.referer.len().min(REFERER_BYTES);
        FIXED_BYTES + ESCAPED_BYTES * texts
    }

    /// The entry with every text cut to what is logged of it, and whether the path was longer.
    pub(super) fn bounded(&self) -> (Self, bool) {
        let text = |text: &'a str, max| &text[..text.floor_char_boundary(max)];
        let name = |name: &'a str| text(name, NAME_BYTES);
        let path = without_query(self.path);
        let cut = Self {
            method: bounded(self.method, METHOD_BYTES),
            host: bounded(self.host, HOST_BYTES),
            path: bounded(path, PATH_BYTES),
            protocol: text(self.protocol, PROTOCOL_BYTES),
            listener: name(self.listener),
            route: self.route.map(name),
            service: self.service.map(name),
            request_id: bounded(self.request_id, REQUEST_ID_BYTES),
            user_agent: bounded(self.user_agent, USER_AGENT_BYTES),
            referer: bounded(without_query(self.referer), REFERER_BYTES),
            ..*self
        };
        (cut, path.len() > PATH_BYTES)
    }
}
