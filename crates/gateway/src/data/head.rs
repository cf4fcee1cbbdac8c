//! The heads that the gateway writes: of requests to endpoints, and of responses to clients.

use std::net::IpAddr;
use std::time::Duration;

use http1::{Expect, Field, FieldId, Framing, Request, Response, Version, write};

use telemetry::trace::Traceparent;

use crate::action::{Edits, Names};
use crate::cache::is_for_caches;
use crate::compress::Treatment;
use crate::forwarded::{self, Hop};
use crate::identity::{self, RequestId};
use crate::params::StickyParams;

/// What a request to an endpoint is written from, besides the client's request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outbound<'a> {
    /// Path and query to ask for instead of the request's.
    pub(crate) target: Option<&'a [u8]>,
    /// Fields that the route changes.
    pub(crate) edits: Option<&'a Edits>,
    /// Names of fields that are not the client's to write, and the lines of those that there are.
    pub(crate) granted: Option<(&'a Names, &'a [u8])>,
    /// Lines in place of conditions, and of the wish for a part.
    pub(crate) conditions: Option<&'a [u8]>,
    /// Who asks, by which way.
    pub(crate) hop: Hop<'a>,
    /// `Host` to send.
    pub(crate) host: &'a [u8],
    /// The request's id.
    pub(crate) id: &'a RequestId,
    /// A trace to begin if the request has none: trace and span.
    pub(crate) trace: (u128, u64),
    /// What takes the place of the request's own `traceparent`, where the gateway tells its part of the trace.
    pub(crate) traceparent: Option<Traceparent>,
    /// Whether the request may change protocols.
    pub(crate) upgrade: bool,
}

/// Writes the head of the request to an endpoint.
pub(crate) fn write_request(out: &mut Vec<u8>, request: &Request, head: &[u8], with: &Outbound<'_>) {
    out.clear();
    let target = with.target.unwrap_or_else(|| request.target.as_origin_form(head, &request.method));
    write::request_line(out, request.method.as_str(), target);
    write::field(out, b"Host", with.host);
    let traceparent = identity::traceparent(request, head);
    write::kept_fields(out, head, &request.fields, |field| {
        let replaced = match field.id {
            FieldId::Host
            | FieldId::ContentLength
            | FieldId::Expect
            | FieldId::Forwarded
            | FieldId::XRealIp
            | FieldId::XRequestId
            | FieldId::XForwardedFor
            | FieldId::XForwardedHost
            | FieldId::XForwardedPort
            | FieldId::XForwardedProto => true,
            FieldId::Traceparent => traceparent.is_none() || with.traceparent.is_some(),
            FieldId::Tracestate => traceparent.is_none(),
            FieldId::Other => {
                let name = field.name.of_buf(head);
                is_disguised(name) || !with.hop.origin.trusted && forwarded::is_one(name)
            }
            _ => false,
        };
        !replaced
            && with.edits.is_none_or(|edits| !edits.drops(field.name.of_buf(head)))
            && (with.conditions.is_none() || !httpcache::is_conditional(field.name.of_buf(head)))
            && with.granted.is_none_or(|(names, _)| !names.have_alike(field.name.of_buf(head)))
            && goes_on(field, request, head)
    });
    match request.framing {
        Framing::Length(length) => write::content_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // A method that usually has a body says that there is none; endpoints may ask for that.
        Framing::Empty if request.fields.all(FieldId::ContentLength).next().is_some() => {
            out.extend_from_slice(b"Content-Length: 0\r\n");
        }
        Framing::Empty | Framing::UntilClose => {}
    }
    if request.expect == Expect::Continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if with.upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        for field in request.fields.all(FieldId::Upgrade) {
            write::field(out, b"Upgrade", field.value.of_buf(head));
        }
    }
    forwarded::write_fields(out, with.hop, request, head);
    write::field(out, b"X-Request-Id", with.id.as_bytes());
    if let Some(own) = &with.traceparent {
        write::field(out, b"traceparent", own);
    } else if traceparent.is_none() {
        identity::begin_trace(out, with.trace.0, with.trace.1);
    }
    if let Some((_, lines)) = with.granted {
        out.extend_from_slice(lines);
    }
    out.extend_from_slice(with.conditions.unwrap_or_default());
    if let Some(edits) = with.edits {
        out.extend_from_slice(edits.lines());
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a name is that of a field with a meaning here but for underscores. Endpoints that read fields as variables,
/// as CGI does, cannot tell the two apart, so a client could write what only the gateway may.
fn is_disguised(name: &[u8]) -> bool {
    // No name of another such field is longer.
    const NAME_BYTES_MAX: usize = 24;
    if memchr::memchr(b'_', name).is_none() {
        return false;
    }
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    if name.len() >= forwarded::PREFIX.len()
        && name.iter().map(plain).zip(forwarded::PREFIX).all(|(byte, of)| byte == *of)
    {
        return true;
    }
    if name.len() > NAME_BYTES_MAX {
        return false;
    }
    let mut plain = [0; NAME_BYTES_MAX];
    let plain = &mut plain[..name.len()];
    for (to, &from) in plain.iter_mut().zip(name) {
        *to = if from == b'_' { b'-' } else { from };
    }
    FieldId::of(plain) != FieldId::Other
}

/// How a response goes to a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inbound<'a> {
    /// The client's version.
    pub(crate) version: Version,
    /// Whether the connection goes on afterwards.
    pub(crate) keep_alive: bool,
    /// A sticky cookie to set, the endpoint's id, and whether the client came by HTTPS.
    pub(crate) sticky: Option<(&'a StickyParams, u64, bool)>,
    /// Fields that the route changes.
    pub(crate) edits: Option<&'a Edits>,
    /// What is done with it where responses are compressed.
    pub(crate) treatment: Treatment,
    /// Whether its body is encoded on the way.
    pub(crate) encoded: bool,
    /// Whether a cache was asked, for which some fields are alone.
    pub(crate) cached: bool,
    /// Lines of fields that the route adds.
    pub(crate) added: &'a [u8],
}

/// Writes the head of a final response to the client, without the fields' end when `101` is answered.
pub(crate) fn write_response(out: &mut Vec<u8>, response: &Response, head: &[u8], with: &Inbound<'_>) {
    out.clear();
    write::status_line(out, response.status, response.reason.of_buf(head));
    let framed = matches!(response.framing, Framing::Chunked | Framing::UntilClose) || with.encoded;
    let treated = with.treatment.varies;
    // RFC 9110 section 8.6: no server may send a length with these.
    let drops_length = framed || with.treatment.coding.is_some() || response.status == 204 || response.status == 101;
    write::kept_fields(out, head, &response.fields, |field| {
        !(drops_length && field.id == FieldId::ContentLength)
            && with.edits.is_none_or(|edits| !edits.drops(field.name.of_buf(head)))
            && !(treated && with.treatment.drops(field.name.of_buf(head)))
            && !(with.cached && field.id == FieldId::Other && is_for_caches(field.name.of_buf(head)))
            && passes(field, response.names_hop_by_hop, || write::is_named_by_connection(head, &response.fields, field))
    });
    if treated {
        with.treatment.push(out, (&response.fields, head), |name| with.edits.is_some_and(|edits| edits.drops(name)));
    }
    if framed && with.version == Version::Http11 {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if response.upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        for field in response.fields.all(FieldId::Upgrade) {
            write::field(out, b"Upgrade", field.value.of_buf(head));
        }
    } else if !with.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if with.version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    if let Some((sticky, id, secure)) = with.sticky {
        write_sticky(out, sticky, id, secure);
    }
    out.extend_from_slice(with.added);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an interim response to the client.
pub(crate) fn write_interim(out: &mut Vec<u8>, response: &Response, head: &[u8]) {
    out.clear();
    write::status_line(out, response.status, response.reason.of_buf(head));
    write::kept_fields(out, head, &response.fields, |field| {
        field.id != FieldId::ContentLength
            && passes(field, response.names_hop_by_hop, || write::is_named_by_connection(head, &response.fields, field))
    });
    out.extend_from_slice(b"\r\n");
}

/// Whether a field of a client's is for whoever is behind the gateway too.
pub(crate) fn goes_on(field: &Field, request: &Request, head: &[u8]) -> bool {
    passes(field, request.names_hop_by_hop, || write::is_named_by_connection(head, &request.fields, field))
}

/// Whether a field goes on to the other side.
fn passes(field: &Field, names_others: bool, is_named: impl Fn() -> bool) -> bool {
    let stays = field.id.is_hop_by_hop() || (names_others && is_named());
    !stays
}

fn write_sticky(out: &mut Vec<u8>, sticky: &StickyParams, id: u64, secure: bool) {
    out.extend_from_slice(b"Set-Cookie: ");
    out.extend_from_slice(sticky.cookie.as_bytes());
    out.push(b'=');
    out.extend_from_slice(format!("{id:016x}").as_bytes());
    if let Some(ttl) = sticky.ttl {
        out.extend_from_slice(b"; Max-Age=");
        write::number(out, ttl.max(Duration::from_secs(1)).as_secs());
    }
    out.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax");
    // A browser would not send it by plain HTTP, nor keep one that came that way.
    out.extend_from_slice(if secure { b"; Secure\r\n" } else { b"\r\n" });
}

/// The value of a cookie, the first of its name.
pub(crate) fn cookie<'b>(request: &'b Request, head: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let fields = request.fields.all(FieldId::Cookie).map(|field| field.value.of_buf(head));
    let mut pairs = fields.flat_map(|value| value.split(|&b| b == b';')).map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The endpoint's id that a sticky cookie holds.
pub(crate) fn sticky_id(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 16)?;
    u64::from_str_radix(text, 16).ok()
}

/// The hash of a client's address.
pub(crate) fn address_key(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => balance::hash::bytes(&v4.octets()),
        IpAddr::V6(v6) => balance::hash::bytes(&v6.octets()),
    }
}
