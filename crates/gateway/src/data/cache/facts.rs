//! What the cache knows of a request, read from its head: what its service is told, be it by the client or by the gateway.
//! A field that goes no further says nothing of the answer, and would have one client's answer served for another's request.

use std::borrow::Cow;

use http1::{FieldId, Fields, Request};
use httpcache::{Field, Lines, Target, Vary};

use crate::action::Names;
use crate::cache::RouteCache;
use crate::data::connection::Link;
use crate::data::exchange::Call;
use crate::data::head;
use crate::forwarded;
use crate::params::CACHE_OWN_FIELDS;
use crate::router::normal_path;

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// Whether its peer came by TLS.
    tls: bool,
    /// Whether its peer is believed what it says of the way before.
    trusted: bool,
}

impl Came {
    pub(super) fn of(link: &Link<'_>, call: &Call<'_>) -> Self {
        Self { tls: link.peer.tls, trusted: call.origin.trusted }
    }

    /// Whether the service is told that the client came by HTTPS.
    fn by_https(self, request: &Request, head: &[u8]) -> bool {
        forwarded::is_https(forwarded::scheme(self.tls, self.trusted, request, head))
    }
}

/// The fields of a head.
pub(super) fn of_head<'a>(fields: &'a Fields, head: &'a [u8]) -> impl Iterator<Item = Field<'a>> + Clone {
    fields.as_slice().iter().map(move |field| (field.name.of_buf(head), field.value.of_buf(head)))
}

/// The fields of a request as its client sent them, but for those that another service grants.
pub(super) fn sent<'a>(
    request: &'a Request,
    head: &'a [u8],
    granted: Option<(&'a Names, &'a [u8])>,
) -> impl Iterator<Item = Field<'a>> + Clone {
    let lines = granted.map_or(&b""[..], |(_, lines)| lines);
    of_head(&request.fields, head)
        .filter(move |(name, _)| granted.is_none_or(|(names, _)| !names.have_alike(name)))
        .chain(Lines::new(lines))
}

/// The fields of a request as its service gets them: without those that stay here, and with the gateway's own in place of
/// the client's.
pub(super) fn fields<'a>(
    request: &'a Request,
    head: &'a [u8],
    came: Came,
    granted: Option<(&'a Names, &'a [u8])>,
) -> impl Iterator<Item = Field<'a>> + Clone {
    let lines = granted.map_or(&b""[..], |(_, lines)| lines);
    let (scheme, host) = (
        forwarded::scheme(came.tls, came.trusted, request, head),
        forwarded::host(came.trusted, request, head).unwrap_or(request.host.of_buf(head)),
    );
    let told = [(&b"X-Forwarded-Proto"[..], scheme), (&b"X-Forwarded-Host"[..], host)];
    let goes_on = move |field: &&http1::Field| match field.id {
        FieldId::XForwardedProto | FieldId::XForwardedHost => false,
        FieldId::Other if !came.trusted && forwarded::is_one(field.name.of_buf(head)) => false,
        _ => head::goes_on(field, request, head),
    };
    let kept = request.fields.as_slice().iter().filter(goes_on);
    kept.map(move |field| (field.name.of_buf(head), field.value.of_buf(head)))
        .filter(move |(name, _)| granted.is_none_or(|(names, _)| !names.have_alike(name)))
        .chain(told.into_iter().filter(|(_, value)| !value.is_empty()))
        .chain(Lines::new(lines))
}

/// What a request asks for, with its path in the form that is routed by. `room` holds that where it is another.
pub(super) fn target<'a>(request: &'a Request, head: &'a [u8], came: Came, room: &'a mut Vec<u8>) -> Target<'a> {
    let asked = request.target.as_origin_form(head, &request.method);
    let host = request.host.of_buf(head);
    let path_and_query = match normal_path(asked) {
        Some(Cow::Owned(path)) => {
            *room = path;
            room.extend_from_slice(memchr::memchr(b'?', asked).map_or(&b""[..], |at| &asked[at..]));
            room
        }
        _ => asked,
    };
    Target { https: came.by_https(request, head), host, path_and_query }
}

/// Appends the key of a request. What a proxy that is trusted says of its way goes on to the service, so it counts.
pub(super) fn write_key<'a>(
    (cache, service): (&RouteCache, &str),
    out: &mut Vec<u8>,
    (request, head, came): (&Request, &[u8], Came),
    target: Target<'a>,
    fields: impl httpcache::Fields<'a>,
) {
    cache.write_key(out, target, fields, service);
    if came.trusted {
        write_way(out, request, head);
    }
}

/// Appends the host, the port, the prefix and whatever else a proxy says of a request, but for its clients. Where it says no
/// other host than the request itself, and nothing else, the key is that of others.
fn write_way(out: &mut Vec<u8>, request: &Request, head: &[u8]) {
    let host = request.host.of_buf(head);
    let mut push = |name: &[u8], value: &[u8]| {
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
        out.push(0);
    };
    if let Some(other) = forwarded::host(true, request, head).filter(|other| !other.eq_ignore_ascii_case(host)) {
        push(b"host", other);
    }
    for field in request.fields.as_slice() {
        let (name, value) = (field.name.of_buf(head), field.value.of_buf(head));
        match field.id {
            FieldId::XForwardedPort => push(b"port", value),
            FieldId::Other if forwarded::is_one(name) && head::goes_on(field, request, head) => {
                push(&name.to_ascii_lowercase(), value);
            }
            FieldId::Forwarded => {
                let pairs = value.split(|byte| b",;".contains(byte)).map(<[u8]>::trim_ascii);
                let named = pairs.filter_map(|pair| Some((&pair[..pair.iter().position(|&byte| byte == b'=')?], pair)));
                for (name, pair) in named {
                    let is_client = [&b"for"[..], b"by"].iter().any(|client| name.eq_ignore_ascii_case(client));
                    if !is_client {
                        push(b"forwarded", pair);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether responses vary by what the gateway tells of each request anew. Then one fits no other request.
pub(super) fn varies_by_own(vary: &Vary<'_>) -> bool {
    vary.as_bytes().split(|&byte| byte == b',').any(|name| CACHE_OWN_FIELDS.iter().any(|own| own.as_bytes() == name))
}

/// Writes a path and query with the path in the form that keys have, if it is in another one: whoever reads it in his own way
/// would answer for a path that is not the key's.
pub(super) fn normal_target(asked: &[u8]) -> Option<Vec<u8>> {
    let Cow::Owned(path) = normal_path(asked)? else { return None };
    let query = memchr::memchr(b'?', asked).map_or(&b""[..], |at| &asked[at..]);
    Some([&*path, query].concat())
}
