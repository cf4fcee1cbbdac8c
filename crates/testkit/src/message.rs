//! A strict reader of HTTP/1.1 messages, written apart from Tenfold's own codec so that each can judge the other.
//!
//! It reads what RFC 9112 lets a sender write and nothing that it merely lets a recipient tolerate: lines end in CRLF,
//! there is one framing field with one value, no folded lines, no chunk extensions, exactly one `Host`. A message
//! that it accepts has one reading only; that is what makes bytes that it recorded evidence.

use std::fmt;

/// Header or trailer fields in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// Whether the version is HTTP/1.1; otherwise it is HTTP/1.0.
    pub is_http11: bool,
    /// The header fields.
    pub fields: Fields,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
}

/// A response as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Whether the version is HTTP/1.1; otherwise it is HTTP/1.0.
    pub is_http11: bool,
    /// The header fields.
    pub fields: Fields,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// The interim (1xx) responses before this one, `101` apart, which is final.
    pub interim: Vec<Response>,
}

/// What a reader found: a whole message and how many bytes it took, or too few bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// The message, and its length in bytes.
    Whole(T, usize),
    /// The bytes so far begin a message.
    Partial,
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Fields {
    /// The first value of a field, by name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every value of a field, by name in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Names and values in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether a comma-separated list field holds `token`, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    }
}

impl Response {
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the sender said that it closes the connection after this response.
    pub fn closes(&self) -> bool {
        self.fields.has_token("connection", "close") || !self.is_http11
    }
}

/// Reads one request from the start of `bytes`.
///
/// # Errors
/// [`Malformed`] as soon as the bytes cannot begin a well-formed request.
pub fn request(bytes: &[u8]) -> Result<Read<Request>, Malformed> {
    let Some((line, fields, head_len)) = head(bytes)? else { return Ok(Read::Partial) };
    let (method, target, is_http11) = request_line(&line)?;
    if is_http11 && fields.all("host").count() != 1 {
        return Err(malformed(format!("{} host fields", fields.all("host").count())));
    }
    // A request without framing has no body.
    let read = body(&bytes[head_len..], framing(&fields, is_http11)?)?;
    Ok(read.map_or(Read::Partial, |(body, trailers, len)| {
        Read::Whole(Request { method, target, is_http11, fields, body, trailers }, head_len + len)
    }))
}

/// Reads all requests in `bytes`, and gives those that are whole and the bytes left over.
///
/// # Errors
/// [`Malformed`] when some request is.
pub fn requests(bytes: &[u8]) -> Result<(Vec<Request>, &[u8]), Malformed> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        match request(rest)? {
            Read::Whole(request, len) => {
                found.push(request);
                rest = &rest[len..];
            }
            Read::Partial => break,
        }
    }
    Ok((found, rest))
}

/// Reads one final response, and the interim ones before it, from the start of `bytes`. `method` is that of the request
/// that it answers; `ended` says that the connection has ended, which is the end of a body without framing.
///
/// # Errors
/// [`Malformed`] as soon as the bytes cannot begin a well-formed response.
pub fn response(bytes: &[u8], method: &str, ended: bool) -> Result<Read<Response>, Malformed> {
    let mut interim = Vec::new();
    let mut start = 0;
    loop {
        let Some((line, fields, head_len)) = head(&bytes[start..])? else { return Ok(Read::Partial) };
        start += head_len;
        let (status, is_http11) = status_line(&line)?;
        let trailers = Fields::default();
        let mut response = Response { status, is_http11, fields, body: Vec::new(), trailers, interim: Vec::new() };
        if (100..200).contains(&status) && status != 101 {
            refuse_framing(&response)?;
            interim.push(response);
            continue;
        }
        let framing = match (status, method) {
            (101 | 204, _) => {
                refuse_framing(&response)?;
                Framing::Length(0)
            }
            (304, _) | (_, "HEAD") => Framing::Length(0),
            (200..=299, "CONNECT") => Framing::Length(0),
            _ => framing(&response.fields, is_http11)?,
        };
        let rest = &bytes[start..];
        let read = match framing {
            Framing::None if ended => Some((rest.to_vec(), Fields::default(), rest.len())),
            Framing::None => None,
            stated => body(rest, stated)?,
        };
        let Some((content, trailers, len)) = read else { return Ok(Read::Partial) };
        (response.body, response.trailers, response.interim) = (content, trailers, interim);
        return Ok(Read::Whole(response, start + len));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
}

type Body = (Vec<u8>, Fields, usize);

fn malformed(why: impl Into<String>) -> Malformed {
    Malformed(why.into())
}

fn refuse_framing(response: &Response) -> Result<(), Malformed> {
    match ["content-length", "transfer-encoding"].iter().find(|name| response.fields.get(name).is_some()) {
        Some(name) => Err(malformed(format!("{name} in a {} response", response.status))),
        None => Ok(()),
    }
}

fn body(bytes: &[u8], framing: Framing) -> Result<Option<Body>, Malformed> {
    match framing {
        Framing::None => Ok(Some((Vec::new(), Fields::default(), 0))),
        Framing::Length(len) => Ok(bytes.get(..len).map(|body| (body.to_vec(), Fields::default(), len))),
        Framing::Chunked => chunked(bytes),
    }
}

/// The start line, the fields, and how many bytes they take; `None` when the head has not ended.
fn head(bytes: &[u8]) -> Result<Option<(String, Fields, usize)>, Malformed> {
    let mut at = 0;
    let Some(first) = line(bytes, &mut at)? else { return Ok(None) };
    let first = first.to_owned();
    if first.is_empty() {
        return Err(malformed("empty start line"));
    }
    let text: String = first.iter().copied().map(char::from).collect();
    Ok(fields(bytes, &mut at)?.map(|fields| (text, fields, at)))
}

fn fields(bytes: &[u8], at: &mut usize) -> Result<Option<Fields>, Malformed> {
    let mut fields = Vec::new();
    loop {
        let Some(line) = line(bytes, at)? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some(Fields(fields)));
        }
        let text: String = line.iter().copied().map(char::from).collect();
        let (name, value) = text.split_once(':').ok_or_else(|| malformed(format!("field without colon: {text:?}")))?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(malformed(format!("field name {name:?}")));
        }
        if let Some(c) = value.chars().find(|&c| c != '\t' && c.is_ascii_control()) {
            return Err(malformed(format!("{c:?} in field {name}")));
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// The next line without its CRLF. A CR or LF on its own is refused, whatever it stands in.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, Malformed> {
    let rest = &bytes[*at..];
    let end = rest.iter().position(|&byte| byte == b'\r' || byte == b'\n');
    match end.map(|end| (end, &rest[end..])) {
        Some((_, [b'\n', ..])) => Err(malformed("line feed without carriage return")),
        Some((end, [b'\r', b'\n', ..])) => {
            *at += end + 2;
            Ok(Some(&rest[..end]))
        }
        Some((_, [b'\r', _, ..])) => Err(malformed("carriage return without line feed")),
        _ => Ok(None),
    }
}

fn request_line(line: &str) -> Result<(String, String, bool), Malformed> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else { return Err(malformed(format!("request line {line:?}"))) };
    let target_ok = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    if method.is_empty() || !method.bytes().all(is_token) || !target_ok {
        return Err(malformed(format!("request line {line:?}")));
    }
    Ok((method.to_owned(), target.to_owned(), is_http11(version)?))
}

fn status_line(line: &str) -> Result<(u16, bool), Malformed> {
    let wrong = || malformed(format!("status line {line:?}"));
    let (version, rest) = line.split_once(' ').ok_or_else(wrong)?;
    let (status, reason) = rest.split_once(' ').ok_or_else(wrong)?;
    let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || reason.chars().any(|c| c != '\t' && c.is_ascii_control()) {
        return Err(wrong());
    }
    Ok((status.parse().map_err(|_| wrong())?, is_http11(version)?))
}

fn is_http11(version: &str) -> Result<bool, Malformed> {
    match version {
        "HTTP/1.1" => Ok(true),
        "HTTP/1.0" => Ok(false),
        other => Err(malformed(format!("version {other:?}"))),
    }
}

fn framing(fields: &Fields, is_http11: bool) -> Result<Framing, Malformed> {
    let lengths: Vec<&str> = fields.all("content-length").collect();
    let codings: Vec<&str> = fields.all("transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::None),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map(Framing::Length).map_err(|_| malformed(format!("content-length {length:?}")))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && is_http11 => Ok(Framing::Chunked),
        _ => Err(malformed(format!("content-length {lengths:?}, transfer-encoding {codings:?}"))),
    }
}

fn chunked(bytes: &[u8]) -> Result<Option<Body>, Malformed> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(size) = line(bytes, &mut at)? else { return Ok(None) };
        let size = chunk_size(size)?;
        if size == 0 {
            return Ok(fields(bytes, &mut at)?.map(|trailers| (body, trailers, at)));
        }
        let Some(data) = bytes.get(at..at + size) else { return Ok(None) };
        body.extend_from_slice(data);
        at += size;
        match bytes.get(at..(at + 2).min(bytes.len())) {
            Some(b"\r\n") => at += 2,
            Some(b"" | b"\r") | None => return Ok(None),
            Some(other) => return Err(malformed(format!("{other:?} after a chunk"))),
        }
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, Malformed> {
    let text = String::from_utf8_lossy(line);
    // Eight digits are four gibibytes, more than any test sends.
    if line.is_empty() || line.len() > 8 || !line.iter().all(u8::is_ascii_hexdigit) {
        return Err(malformed(format!("chunk size {text:?}")));
    }
    usize::from_str_radix(&text, 16).map_err(|_| malformed(format!("chunk size {text:?}")))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` is the body of the request and what follows it, `None` for too few bytes.
    fn check_request(bytes: &str, expected: Result<Option<(&str, &str)>, &str>) {
        let read = request(bytes.as_bytes());
        match (&read, expected) {
            (Ok(Read::Whole(request, len)), Ok(Some((body, rest)))) => {
                assert_eq!((request.body.as_slice(), &bytes[*len..]), (body.as_bytes(), rest), "{bytes:?}");
            }
            (Ok(Read::Partial), Ok(None)) => {}
            (Err(error), Err(part)) => assert!(error.0.contains(part), "{bytes:?}: {error}"),
            _ => panic!("{bytes:?}: {read:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn well_formed_requests_have_one_reading() {
        check_request("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", Ok(Some(("", "GET"))));
        check_request("GET / HTTP/1.0\r\n\r\n", Ok(Some(("", ""))));
        check_request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcd", Ok(Some(("abc", "d"))));
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        check_request(
            &format!("{chunked}3\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n!"),
            Ok(Some(("abc0123456789", "!"))),
        );
        for cut in ["", "3", "3\r\nab", "3\r\nabc\r", "3\r\nabc\r\n0\r\n", "3\r\nabc\r\n0\r\nX: y\r\n"] {
            check_request(&format!("{chunked}{cut}"), Ok(None));
        }
        check_request("GET / HTTP/1.1\r\nHost: a\r", Ok(None));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        check_request(&head("Content-Length: 1\r\nContent-Length: 1"), Err("content-length"));
        check_request(&head("Content-Length: +1"), Err("content-length"));
        check_request(&head("Content-Length: 1\r\nTransfer-Encoding: chunked"), Err("transfer-encoding"));
        check_request(&head("Transfer-Encoding: gzip, chunked"), Err("transfer-encoding"));
        check_request(&head("A : b"), Err("field name"));
        check_request(&head("A: b\r\n c"), Err("field"));
        check_request(&head("A: b\nC: d"), Err("line feed"));
        check_request(&head("A: b\rC: d"), Err("carriage return"));
        check_request(&head("A: b\0"), Err("in field"));
        check_request(&head("Host: b"), Err("host"));
        check_request("GET / HTTP/1.1\r\n\r\n", Err("host"));
        check_request("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err("request line"));
        check_request("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Err("version"));
        let chunked = head("Transfer-Encoding: chunked");
        for body in ["3;x=y\r\nabc\r\n", "0x3\r\nabc\r\n", "3 \r\nabc\r\n", "3\r\nabcd\r\n", "3\nabc\r\n", "\r\n"] {
            check_request(&format!("{chunked}{body}"), Err(""));
        }
    }

    #[test]
    fn responses_are_framed_by_the_request_they_answer() {
        let check = |bytes: &str, method: &str, ended: bool, expected: Option<(u16, &str, usize)>| match (
            response(bytes.as_bytes(), method, ended),
            expected,
        ) {
            (Ok(Read::Whole(response, _)), Some((status, body, interim))) => {
                assert_eq!(
                    (response.status, response.text().as_str(), response.interim.len()),
                    (status, body, interim)
                );
            }
            (Ok(Read::Partial), None) => {}
            (read, _) => panic!("{bytes:?}: {read:?}, expected {expected:?}"),
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "GET", false, Some((200, "ab", 0)));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HEAD", false, Some((200, "", 0)));
        check("HTTP/1.1 304 \r\nContent-Length: 2\r\n\r\n", "GET", false, Some((304, "", 0)));
        check("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", false, Some((200, "", 1)));
        check("HTTP/1.1 200 OK\r\n\r\nab", "GET", false, None);
        check("HTTP/1.1 200 OK\r\n\r\nab", "GET", true, Some((200, "ab", 0)));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", "GET", true, None);
        assert!(response(b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", "GET", false).is_err());
        assert!(response(b"HTTP/1.1 200\r\n\r\n", "GET", false).is_err());
    }
}
