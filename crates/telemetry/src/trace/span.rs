//! Spans as OTLP has them, after OpenTelemetry's semantic conventions for HTTP.
//!
//! Queries are left out of everything, since they may hold secrets, and texts from the network are bounded and made
//! UTF-8: one broken text would have the collector refuse all that came with it.
//!
//! Source: opentelemetry-proto `trace/v1/trace.proto` (field numbers below), and the semantic conventions 1.37, "HTTP
//! spans".

use std::borrow::Cow;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use vocab::ErrorCode;

use super::context::RequestTrace;
use super::wire;
use crate::label::Method;

/// A finished request.
#[derive(Clone, Copy, Debug)]
pub struct ServerSpan<'a> {
    /// When the exchange had ended.
    pub ended: Instant,
    /// The method as it was sent.
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host asked for, with its port if one was sent.
    pub host: &'a [u8],
    /// The path; nothing is told from the first `?` on.
    pub path: &'a [u8],
    /// The version of HTTP, such as `1.1`.
    pub version: &'a str,
    /// The client, as far as trusted proxies say.
    pub client: IpAddr,
    /// The `User-Agent`, empty if there is none.
    pub user_agent: &'a [u8],
    /// The `tracestate` that the request came with, empty if there is none.
    pub tracestate: &'a [u8],
    /// The status that the client got; `None` when the connection broke before.
    pub status: Option<u16>,
    /// The status of gRPC, if it is a call that was answered.
    pub grpc_status: Option<u16>,
    /// Why the gateway answered by itself or broke off.
    pub error: Option<ErrorCode>,
    /// Bytes of the request's body.
    pub body_received: u64,
    /// Bytes of the response's body.
    pub body_sent: u64,
    /// The listener's name.
    pub listener: &'a str,
    /// The route's name, if one matched.
    pub route: Option<&'a str>,
    /// The route's path, in two parts such as `/api/` and `*`.
    pub pattern: (&'a str, &'a str),
    /// The service's name, if a route matched.
    pub service: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a [u8],
}

/// A finished try at an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct TrySpan<'a> {
    /// The span's id, which the endpoint was told.
    pub span_id: u64,
    /// When it began.
    pub begun: Instant,
    /// When it had ended.
    pub ended: Instant,
    /// The method as it was sent.
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The version of HTTP that the endpoint is spoken to in, such as `1.1`.
    pub version: &'a str,
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// The path; nothing is told from the first `?` on.
    pub path: &'a [u8],
    /// How many tries there were before.
    pub resends: u32,
    /// The status that the endpoint answered with.
    pub status: Option<u16>,
    /// The status of gRPC, if it is a call that was answered.
    pub grpc_status: Option<u16>,
    /// Why it failed.
    pub error: Option<ErrorCode>,
    /// The service's name.
    pub service: &'a str,
}

const PATH_BYTES: usize = 1024;
const USER_AGENT_BYTES: usize = 256;
/// Long enough for every name and address, and for identifiers.
const TEXT_BYTES: usize = 256;
/// What level 1 of Trace Context asks to pass on at least.
const TRACESTATE_BYTES: usize = 512;

/// `SPAN_KIND_SERVER` and `SPAN_KIND_CLIENT`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// Statuses of gRPC that are the server's fault: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`,
/// `UNAVAILABLE` and `DATA_LOSS`.
const GRPC_SERVER_ERRORS: [u16; 6] = [2, 4, 12, 13, 14, 15];

/// Numbers of a span's fields.
mod field {
    pub(super) const TRACE_ID: u8 = 1;
    pub(super) const SPAN_ID: u8 = 2;
    pub(super) const TRACE_STATE: u8 = 3;
    pub(super) const PARENT_SPAN_ID: u8 = 4;
    pub(super) const NAME: u8 = 5;
    pub(super) const KIND: u8 = 6;
    pub(super) const START: u8 = 7;
    pub(super) const END: u8 = 8;
    pub(super) const ATTRIBUTES: u8 = 9;
    pub(super) const STATUS: u8 = 15;
}

/// `spans` of a `ScopeSpans` message.
pub(super) const SPANS: u8 = 2;

/// Four heads of a tag and a length.
const PAIR_HEADS_BYTES_MAX: usize = 4 * 11;

/// Writes one span after another.
#[derive(Debug, Default)]
pub(super) struct SpanEncoder {
    /// The span.
    out: Vec<u8>,
    /// A text that is put together.
    text: Vec<u8>,
}

impl SpanEncoder {
    /// Encodes the span of a request.
    pub(super) fn server(&mut self, trace: &RequestTrace, span: &ServerSpan<'_>) {
        self.begin(trace, trace.span_id, trace.parent_id);
        self.limited(field::TRACE_STATE, span.tracestate, TRACESTATE_BYTES);
        let known = method(span.method);
        self.text.clear();
        self.text.extend_from_slice(known.unwrap_or("HTTP").as_bytes());
        let (path, rest) = span.pattern;
        if !path.is_empty() {
            [" ", path, rest].iter().for_each(|part| self.text.extend_from_slice(part.as_bytes()));
        }
        wire::bytes(&mut self.out, field::NAME, &self.text);
        self.times(SERVER, trace, trace.started, span.ended);
        self.method(known, span.method);
        if !path.is_empty() {
            self.text.clear();
            [path, rest].iter().for_each(|part| self.text.extend_from_slice(part.as_bytes()));
            self.made_text("http.route");
        }
        self.network_text("url.path", without_query(span.path), PATH_BYTES);
        self.plain("url.scheme", span.scheme);
        self.host(span.host);
        if trace.client_address {
            self.address("client.address", span.client);
        }
        self.plain("network.protocol.version", span.version);
        self.network_text("user_agent.original", span.user_agent, USER_AGENT_BYTES);
        self.number("http.request.body.size", span.body_received);
        self.number("http.response.body.size", span.body_sent);
        self.statuses(span.status, span.grpc_status);
        self.plain("tenfold.listener", span.listener);
        self.plain("tenfold.route", span.route.unwrap_or_default());
        self.plain("tenfold.service", span.service.unwrap_or_default());
        self.network_text("tenfold.request_id", span.request_id, TEXT_BYTES);
        // What a client did wrong is no error of the server, and neither is a client that has gone.
        let grpc = span.grpc_status.filter(|status| GRPC_SERVER_ERRORS.contains(status));
        let failed = grpc.is_some() || span.status.is_some_and(|status| status >= 500);
        let broken = span.error.is_some() && span.status.is_none_or(|status| status < 400);
        self.outcome(failed || broken, grpc.or(span.status), span.error);
    }

    /// Encodes the span of a try.
    pub(super) fn client(&mut self, trace: &RequestTrace, span: &TrySpan<'_>) {
        self.begin(trace, span.span_id, Some(trace.span_id));
        let known = method(span.method);
        wire::bytes(&mut self.out, field::NAME, known.unwrap_or("HTTP").as_bytes());
        self.times(CLIENT, trace, span.begun, span.ended);
        self.method(known, span.method);
        self.text.clear();
        self.text.extend_from_slice(span.scheme.as_bytes());
        self.text.extend_from_slice(b"://");
        let is_v6 = span.endpoint.is_ipv6();
        self.text.extend_from_slice(if is_v6 { b"[" } else { b"" });
        write_address(&mut self.text, span.endpoint.ip());
        self.text.extend_from_slice(if is_v6 { b"]:" } else { b":" });
        self.text.extend_from_slice(itoa::Buffer::new().format(span.endpoint.port()).as_bytes());
        self.text.extend_from_slice(bounded(without_query(span.path), PATH_BYTES).as_bytes());
        self.made_text("url.full");
        self.address("server.address", span.endpoint.ip());
        self.number("server.port", span.endpoint.port().into());
        self.plain("network.protocol.version", span.version);
        if span.resends > 0 {
            self.number("http.request.resend_count", span.resends.into());
        }
        self.statuses(span.status, span.grpc_status);
        self.plain("tenfold.service", span.service);
        let grpc = span.grpc_status.filter(|&status| status != 0);
        let failed = grpc.is_some() || span.status.is_some_and(|status| status >= 400);
        self.outcome(failed || span.error.is_some(), grpc.or(span.status), span.error);
    }

    /// Bytes of the span as a field.
    pub(super) fn field_bytes(&self) -> usize {
        wire::length_bytes(self.out.len())
    }

    /// Appends the span as a field.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        wire::bytes(out, SPANS, &self.out);
    }

    fn begin(&mut self, trace: &RequestTrace, span_id: u64, parent_id: Option<u64>) {
        self.out.clear();
        wire::bytes(&mut self.out, field::TRACE_ID, &trace.trace_id.to_be_bytes());
        wire::bytes(&mut self.out, field::SPAN_ID, &span_id.to_be_bytes());
        if let Some(parent_id) = parent_id {
            wire::bytes(&mut self.out, field::PARENT_SPAN_ID, &parent_id.to_be_bytes());
        }
    }

    fn times(&mut self, kind: u64, trace: &RequestTrace, start: Instant, end: Instant) {
        wire::number(&mut self.out, field::KIND, kind);
        wire::fixed64(&mut self.out, field::START, trace.unix_nanos(start));
        wire::fixed64(&mut self.out, field::END, trace.unix_nanos(end));
    }

    fn method(&mut self, known: Option<&str>, sent: &[u8]) {
        self.plain("http.request.method", known.unwrap_or("_OTHER"));
        if known.is_none() {
            self.network_text("http.request.method_original", sent, TEXT_BYTES);
        }
    }

    /// `server.address` and `server.port` of a `Host` field.
    fn host(&mut self, host: &[u8]) {
        let end = host.iter().rposition(|&byte| byte == b':').filter(|_| !host.ends_with(b"]"));
        let (name, port) = host.split_at(end.unwrap_or(host.len()));
        let name = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name);
        self.network_text("server.address", name, TEXT_BYTES);
        let port = port.get(1..).and_then(|port| std::str::from_utf8(port).ok());
        if let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) {
            self.number("server.port", port.into());
        }
    }

    fn statuses(&mut self, http: Option<u16>, grpc: Option<u16>) {
        if let Some(status) = http {
            self.number("http.response.status_code", status.into());
        }
        if let Some(status) = grpc {
            self.number("rpc.grpc.status_code", status.into());
        }
    }

    /// `error.type` and the span's status.
    fn outcome(&mut self, failed: bool, status: Option<u16>, error: Option<ErrorCode>) {
        match (error, status) {
            (Some(error), _) if failed => self.plain("error.type", error.as_str()),
            (None, Some(status)) if failed => {
                let mut digits = itoa::Buffer::new();
                self.plain("error.type", digits.format(status));
            }
            // Nothing went to the client, and nothing went wrong but that it has gone.
            (None, None) => self.plain("error.type", "client_gone"),
            _ => {}
        }
        if failed {
            // `Status { code: STATUS_CODE_ERROR }`
            wire::bytes(&mut self.out, field::STATUS, &[3 << 3, 2]);
        }
    }

    /// A text field, cut to its bound, unless it is empty.
    fn limited(&mut self, field: u8, text: &[u8], bytes_max: usize) {
        if !text.is_empty() {
            wire::bytes(&mut self.out, field, bounded(text, bytes_max).as_bytes());
        }
    }

    /// An attribute of the text that was put together.
    fn made_text(&mut self, key: &str) {
        attribute(&mut self.out, key, &self.text);
    }

    fn plain(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            attribute(&mut self.out, key, value.as_bytes());
        }
    }

    fn network_text(&mut self, key: &str, value: &[u8], bytes_max: usize) {
        self.plain(key, &bounded(value, bytes_max));
    }

    fn address(&mut self, key: &str, value: IpAddr) {
        self.text.clear();
        write_address(&mut self.text, value);
        self.made_text(key);
    }

    /// `KeyValue { key, value: AnyValue { int_value } }`
    fn number(&mut self, key: &str, value: u64) {
        let value_bytes = 1 + wire::varint_bytes(value);
        let out = &mut self.out;
        wire::length(out, field::ATTRIBUTES, wire::length_bytes(key.len()) + wire::length_bytes(value_bytes));
        wire::bytes(out, 1, key.as_bytes());
        wire::length(out, 2, value_bytes);
        wire::number(out, 3, value);
    }
}

/// `KeyValue { key, value: AnyValue { string_value } }` as an attribute of a span.
fn attribute(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    text_pair(out, field::ATTRIBUTES, key, value);
}

/// A `KeyValue` with a text as a field of a message.
pub(super) fn text_pair(out: &mut Vec<u8>, field: u8, key: &str, value: &[u8]) {
    let value_bytes = wire::length_bytes(value.len());
    // Once for all parts, each of which then only looks.
    out.reserve(key.len() + value.len() + PAIR_HEADS_BYTES_MAX);
    wire::length(out, field, wire::length_bytes(key.len()) + wire::length_bytes(value_bytes));
    wire::bytes(out, 1, key.as_bytes());
    wire::length(out, 2, value_bytes);
    wire::bytes(out, 1, value);
}

/// The method if it is one of those that the conventions know.
fn method(sent: &[u8]) -> Option<&'static str> {
    match Method::from_bytes(sent) {
        Method::Other => None,
        known => Some(known.as_str()),
    }
}

fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|&byte| byte == b'?').unwrap_or(path.len());
    &path[..end]
}

/// A text from the network, cut to its bound, and made UTF-8 if it is not.
fn bounded(text: &[u8], bytes_max: usize) -> Cow<'_, str> {
    let text = &text[..text.len().min(bytes_max)];
    // The strict reader is much the faster one, and nearly every text passes it.
    std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed)
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            // The general formatter costs more than the rest of the attribute.
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => write!(out, "{v6}").expect("a Vec takes every write"),
    }
}
