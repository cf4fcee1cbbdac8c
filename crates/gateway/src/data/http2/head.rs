//! Heads between HTTP/2 and the form of HTTP/1.1 that the gateway works with.
//!
//! What HTTP/2 says by pseudo fields becomes a request line and `Host`, or a status line; the end of a body, which
//! HTTP/2 marks in its frames, becomes `Content-Length` or `Transfer-Encoding`. On the way back fields that concern a
//! connection are left out. Sources: RFC 9113 sections 8.2 and 8.3, RFC 8441.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request, response};
use http1::{FieldId, write};

/// Most fields in a head that goes out: more than any limit on heads that come in, and those that are added.
const FIELDS_MAX: usize = 1100;

/// Fields in a head that is taken apart without touching the heap.
const FIELDS_ON_STACK: usize = 64;

/// Writes the head of a request. `ended` tells that no body follows, and `random` makes the key of a WebSocket.
///
/// # Errors
/// Text for the client when the request contradicts itself.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    parts: &request::Parts,
    ended: bool,
    random: u128,
) -> Result<(), &'static str> {
    out.clear();
    let websocket = parts.method == Method::CONNECT && is_websocket(parts);
    let target = match (parts.method == Method::CONNECT, parts.uri.path_and_query()) {
        (true, _) if !websocket => parts.uri.authority().map_or("", |authority| authority.as_str()),
        (_, Some(target)) => target.as_str(),
        (_, None) => "/",
    };
    write::request_line(out, if websocket { "GET" } else { parts.method.as_str() }, target.as_bytes());
    // The codec checks that a scheme is there, not that it says anything.
    if parts.uri.authority().is_some() && parts.uri.scheme_str() == Some("") {
        return Err("an empty scheme");
    }
    if has_outer_space(&parts.headers) {
        return Err("space around a field's value");
    }
    write_host(out, parts)?;
    write_fields(out, &parts.headers, |id| id == FieldId::Host || id == FieldId::Cookie);
    write_cookies(out, &parts.headers);
    if websocket {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ");
        out.extend_from_slice(&websocket_key(random));
        out.extend_from_slice(b"\r\n");
    } else if !ended && !parts.headers.contains_key(http::header::CONTENT_LENGTH) {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn is_websocket(parts: &request::Parts) -> bool {
    parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Writes `Host`: the authority, and what `Host` says if there is none. Two that differ mean to confuse one of two
/// readers.
fn write_host(out: &mut Vec<u8>, parts: &request::Parts) -> Result<(), &'static str> {
    let mut fields = parts.headers.get_all(http::header::HOST).iter().map(HeaderValue::as_bytes);
    let field = fields.next();
    if fields.next().is_some() {
        return Err("several Host fields");
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => {
            Err("Host and the authority differ")
        }
        (Some(host), _) | (None, Some(host)) => {
            write::field(out, b"Host", host);
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// Writes the fields that go on, but for those that `skip` names.
fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap, skip: impl Fn(FieldId) -> bool) {
    for (name, value) in fields {
        let id = FieldId::of(name.as_str().as_bytes());
        // `TE` is the one field about the connection that HTTP/2 knows, and `trailers` its only value.
        if !skip(id) && (id == FieldId::Te || !id.is_hop_by_hop()) {
            write::field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

/// Writes the cookies as one field, as HTTP/1.1 wants them: RFC 9113 section 8.2.3.
fn write_cookies(out: &mut Vec<u8>, fields: &HeaderMap) {
    let mut cookies = fields.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).peekable();
    if cookies.peek().is_none() {
        return;
    }
    out.extend_from_slice(b"Cookie: ");
    while let Some(cookie) = cookies.next() {
        out.extend_from_slice(cookie);
        if cookies.peek().is_some() {
            out.extend_from_slice(b"; ");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A key for a WebSocket's handshake: 16 bytes in base64.
fn websocket_key(random: u128) -> [u8; 24] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key = *b"========================";
    // 128 bits are 21 digits of six bits, and two bits more.
    for (at, digit) in key[..22].iter_mut().enumerate() {
        let shift = 122 - 6 * at as i32;
        let bits = if shift >= 0 { random >> shift } else { random << -shift };
        *digit = DIGITS[(bits & 63) as usize];
    }
    key
}

/// Writes the head of a response. `ended` tells that no body follows.
pub(crate) fn write_response(out: &mut Vec<u8>, parts: &response::Parts, ended: bool) {
    out.clear();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    write::status_line(out, parts.status.as_u16(), reason.as_bytes());
    write_fields(out, &parts.headers, |id| id == FieldId::Te);
    if !parts.headers.contains_key(http::header::CONTENT_LENGTH) && !parts.status.is_informational() {
        match ended {
            // Without it a body would be awaited until the connection ends. A response that has none by its status or
            // method loses this again.
            true if !matches!(parts.status.as_u16(), 204 | 304) => write::content_length(out, 0),
            true => {}
            false => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a value begins or ends with white space. RFC 9113 section 8.2.1 forbids it, for HTTP/1.1 would drop it.
pub(crate) fn has_outer_space(fields: &HeaderMap) -> bool {
    let is_space = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    fields.values().any(|value| is_space(value.as_bytes().first()) || is_space(value.as_bytes().last()))
}

/// Writes trailers as lines. Fields that concern framing, routing or the connection are left out.
pub(crate) fn trailer_lines(fields: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    write_fields(&mut lines, fields, |id| id != FieldId::Other);
    lines
}

/// A head that cannot go out over HTTP/2, because a rule for it made something that is no head.
#[derive(Debug)]
pub(crate) struct Unwritable;

/// Takes the head of a response apart: what goes out, and how many bytes of `bytes` the head has. `101` is said by
/// `200` over HTTP/2.
pub(crate) fn read_response(bytes: &[u8]) -> Result<(Response<()>, usize), Unwritable> {
    with_room(|room| {
        let mut parsed = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, room);
        let Ok(httparse::Status::Complete(len)) = status else { return Err(too_many(&status)) };
        let code = parsed.code.filter(|&code| code != 101).unwrap_or(200);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(code).map_err(|_| Some(Unwritable))?;
        fill(response.headers_mut(), parsed.headers, bytes)?;
        Ok((response, len))
    })
}

/// Takes the head of a request apart. `scheme` is that of the connection it goes over, and `te` tells that trailers are
/// wanted.
pub(crate) fn read_request(bytes: &[u8], scheme: &'static str, te: bool) -> Result<Request<()>, Unwritable> {
    with_room(|room| {
        let mut parsed = httparse::Request::new(&mut []);
        let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, bytes, room);
        let Ok(httparse::Status::Complete(_)) = status else { return Err(too_many(&status)) };
        let host = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
        let path = parsed.path.filter(|path| *path != "*").unwrap_or("/");
        let host = host.map_or(&b""[..], |field| field.value);
        let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
        let mut request = Request::new(());
        *request.uri_mut() = uri.map_err(|_| Some(Unwritable))?;
        let method = parsed.method.unwrap_or_default().as_bytes();
        *request.method_mut() = Method::from_bytes(method).map_err(|_| Some(Unwritable))?;
        *request.version_mut() = http::Version::HTTP_2;
        fill(request.headers_mut(), parsed.headers, bytes)?;
        if te {
            request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(request)
    })
}

/// Reads lines of trailers, which were checked when they came.
pub(crate) fn read_trailers(lines: &[u8]) -> Option<HeaderMap> {
    if lines.is_empty() {
        return None;
    }
    let bytes = [lines, b"\r\n"].concat();
    let mut room = [httparse::EMPTY_HEADER; FIELDS_ON_STACK];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&bytes, &mut room) else { return None };
    let mut map = HeaderMap::new();
    fill(&mut map, fields, &bytes).ok()?;
    Some(map)
}

type Room<'b> = [std::mem::MaybeUninit<httparse::Header<'b>>];

/// `None` asks for more room.
fn too_many<T>(status: &Result<T, httparse::Error>) -> Option<Unwritable> {
    if matches!(status, Err(httparse::Error::TooManyHeaders)) { None } else { Some(Unwritable) }
}

/// Runs `read` with room for some fields, and if they are more, with room for all.
fn with_room<'b, T>(read: impl Fn(&mut Room<'b>) -> Result<T, Option<Unwritable>>) -> Result<T, Unwritable> {
    let mut stack = [const { std::mem::MaybeUninit::uninit() }; FIELDS_ON_STACK];
    match read(&mut stack) {
        Ok(found) => Ok(found),
        Err(Some(unwritable)) => Err(unwritable),
        Err(None) => {
            let mut heap = vec![std::mem::MaybeUninit::uninit(); FIELDS_MAX];
            read(&mut heap).map_err(|_| Unwritable)
        }
    }
}

/// Adds the fields that HTTP/2 may carry. All values share one copy of the head.
fn fill(map: &mut HeaderMap, fields: &[httparse::Header<'_>], bytes: &[u8]) -> Result<(), Option<Unwritable>> {
    let shared = Bytes::copy_from_slice(bytes);
    map.reserve(fields.len());
    for field in fields {
        let id = FieldId::of(field.name.as_bytes());
        let is_pseudo_or_ours = id == FieldId::Host || id.is_hop_by_hop();
        if is_pseudo_or_ours || field.name.eq_ignore_ascii_case("sec-websocket-accept") {
            continue;
        }
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Some(Unwritable))?;
        let start = field.value.as_ptr() as usize - bytes.as_ptr() as usize;
        let value = HeaderValue::from_maybe_shared(shared.slice(start..start + field.value.len()))
            .map_err(|_| Some(Unwritable))?;
        map.append(name, value);
    }
    Ok(())
}
