//! Request heads: what is read in them, and what is refused.

use http1::{ErrorKind, Expect, Framing, HeadScan, Method, Request, Version};

use crate::LIMITS;

/// Reads a head: the request and the head's bytes, or how it is refused.
fn read(text: &str) -> Result<(Request, Vec<u8>), ErrorKind> {
    let (start, end) = HeadScan::default()
        .advance(text.as_bytes(), &LIMITS)
        .map_err(|error| error.kind())?
        .unwrap_or_else(|| panic!("{text:?} has no end"));
    let head = text.as_bytes()[start..end].to_vec();
    let mut request = Request::default();
    request.parse(&head, &LIMITS).map_err(|error| error.kind())?;
    Ok((request, head))
}

/// Reads a GET with these fields, each line with its end.
fn with(fields: &str) -> Result<Request, ErrorKind> {
    read(&format!("GET / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")).map(|(request, _)| request)
}

#[test]
fn framing() {
    let check = |fields: &str, expected: Result<Framing, ErrorKind>| {
        assert_eq!(with(fields).map(|request| request.framing), expected, "{fields:?}");
    };
    let bad = Err(ErrorKind::Malformed);
    check("", Ok(Framing::Empty));
    check("Content-Length: 0\r\n", Ok(Framing::Empty));
    check("Content-Length: 7\r\n", Ok(Framing::Length(7)));
    check("content-LENGTH:\t7 \r\n", Ok(Framing::Length(7)));
    check("Content-Length: 007\r\n", Ok(Framing::Length(7)));
    check("Content-Length: 9999999999999999999\r\n", Ok(Framing::Length(9_999_999_999_999_999_999)));
    check("Content-Length: 10000000000000000000\r\n", bad);
    check("Content-Length: 7\r\nContent-Length: 7\r\n", bad);
    check("Content-Length: 7, 7\r\n", bad);
    check("Content-Length: +7\r\n", bad);
    check("Content-Length: -7\r\n", bad);
    check("Content-Length: 0x7\r\n", bad);
    check("Content-Length: 7 7\r\n", bad);
    check("Content-Length:\r\n", bad);
    check("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked));
    check("transfer-encoding: CHUNKED\r\n", Ok(Framing::Chunked));
    check("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", bad);
    check("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", bad);
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", bad);
    for disguised in ["xchunked", "chunked, chunked", "gzip, chunked", "identity", "\"chunked\"", "chunked;a=b", ""] {
        let refused = with(&format!("Transfer-Encoding: {disguised}\r\n")).map(|request| request.framing);
        assert!(refused.is_err(), "{disguised:?}: {refused:?}");
    }
}

#[test]
fn field_lines() {
    let check = |fields: &str, accepted: bool| assert_eq!(with(fields).is_ok(), accepted, "{fields:?}");
    check("A: b\r\n", true);
    check("A:b\r\n", true);
    check("A:\r\n", true);
    check("A: b\tc\r\n", true);
    check("A: caf\u{e9}\r\n", true);
    check("A : b\r\n", false);
    check(" A: b\r\n", false);
    check("A: b\r\n c\r\n", false);
    check("A: b\r\n\tc\r\n", false);
    check(": b\r\n", false);
    check("A\r\n", false);
    check("A(: b\r\n", false);
    check("A: b\0\r\n", false);
    check("A: b\rc\r\n", false);
    check("A: b\u{b}\r\n", false);
    check("A: b\u{7f}\r\n", false);
    check("Transfer-Encoding : chunked\r\n", false);
}

#[test]
fn line_ends() {
    for text in [
        "GET / HTTP/1.1\nHost: example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: example.com\n\r\n",
        "GET / HTTP/1.1\r\nHost: example.com\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ] {
        assert_eq!(read(text).map(drop), Err(ErrorKind::Malformed), "{text:?}");
    }
    let (_, head) = read("\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    assert!(head.starts_with(b"GET"), "one empty line before a request is passed over");
}

#[test]
fn start_lines() {
    let check = |line: &str, accepted: bool| {
        assert_eq!(read(&format!("{line}\r\nHost: example.com\r\n\r\n")).is_ok(), accepted, "{line:?}");
    };
    check("GET / HTTP/1.1", true);
    check("GET /a%20b?c=d HTTP/1.0", true);
    check("PURGE / HTTP/1.1", true);
    check("OPTIONS * HTTP/1.1", true);
    check("GET http://example.com/ HTTP/1.1", true);
    check("GET  / HTTP/1.1", false);
    check("GET /  HTTP/1.1", false);
    check("GET /a b HTTP/1.1", false);
    check("GET\t/ HTTP/1.1", false);
    check(" GET / HTTP/1.1", false);
    check("GET / HTTP/1.1 ", false);
    check("GET / HTTP/1.2", false);
    check("GET / HTTP/2.0", false);
    check("GET / http/1.1", false);
    check("GET /", false);
    check("GET", false);
    check("G(T / HTTP/1.1", false);
    check("GET * HTTP/1.1", false);
    check("GET example.com HTTP/1.1", false);
    check("GET /\u{e9} HTTP/1.1", false);
    check("CONNECT example.com:443 HTTP/1.1", false);
}

#[test]
fn hosts() {
    let check = |text: &str, expected: Option<&str>| {
        let host = read(text).map(|(request, head)| String::from_utf8(request.host.of_buf(&head).to_vec()).unwrap());
        assert_eq!(host.ok().as_deref(), expected, "{text:?}");
    };
    check("GET / HTTP/1.1\r\nHost: example.com:81\r\n\r\n", Some("example.com:81"));
    check("GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", Some("[::1]:81"));
    check("GET / HTTP/1.0\r\n\r\n", Some(""));
    check("GET http://example.com/ HTTP/1.1\r\nHost: EXAMPLE.com\r\n\r\n", Some("example.com"));
    check("GET / HTTP/1.1\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nHost:\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", None);
    check("GET http://example.com/ HTTP/1.1\r\nHost: example.org\r\n\r\n", None);
    check("GET http://user@example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", None);
}

#[test]
fn what_follows_the_request() {
    let check = |version: &str, connection: &str, expected: bool| {
        let text = format!("GET / HTTP/{version}\r\nHost: example.com\r\n{connection}\r\n");
        assert_eq!(read(&text).unwrap().0.keep_alive, expected, "{text:?}");
    };
    check("1.1", "", true);
    check("1.1", "Connection: close\r\n", false);
    check("1.1", "Connection: x, Close\r\n", false);
    check("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false);
    check("1.0", "", false);
    check("1.0", "Connection: Keep-Alive\r\n", true);
    check("1.0", "Connection: keep-alive, close\r\n", false);
    let upgrade = |fields: &str| with(fields).unwrap().upgrade;
    assert!(upgrade("Connection: upgrade\r\nUpgrade: websocket\r\n"));
    assert!(!upgrade("Upgrade: websocket\r\n"));
    assert!(!upgrade("Connection: upgrade\r\n"));
    let expect = |fields: &str| with(fields).map(|request| request.expect);
    assert_eq!(expect("Expect: 100-Continue\r\nContent-Length: 3\r\n"), Ok(Expect::Continue));
    assert_eq!(expect("Expect: 100-continue\r\n"), Ok(Expect::Nothing), "there is nothing to wait for");
    assert_eq!(expect("Expect: 200-ok\r\n"), Err(ErrorKind::Expectation));
}

#[test]
fn sizes() {
    let field = |len: usize| format!("GET / HTTP/1.1\r\nHost: example.com\r\nA: {}\r\n\r\n", "x".repeat(len));
    let longest = LIMITS.bytes_max - field(0).len();
    assert!(read(&field(longest)).is_ok());
    assert_eq!(read(&field(longest + 1)).map(drop), Err(ErrorKind::HeadTooLarge));
    let line = format!("GET /{} HTTP/1.1\r\nHost: example.com\r\n\r\n", "x".repeat(LIMITS.bytes_max));
    let refused = HeadScan::default().advance(&line.as_bytes()[..LIMITS.bytes_max + 1], &LIMITS);
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::TargetTooLong));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    assert!(read(&fields(LIMITS.fields_max)).is_ok());
    assert_eq!(read(&fields(LIMITS.fields_max + 1)).map(drop), Err(ErrorKind::HeadTooLarge));
}

#[test]
fn a_request_is_reused_without_traces_of_the_last() {
    let mut request = Request::default();
    let first = b"POST /a HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nConnection: x-y\r\nExpect: 100-continue\r\n\r\n";
    let second = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    request.parse(first, &LIMITS).unwrap();
    request.parse(second, &LIMITS).unwrap();
    assert_eq!((&request.method, request.version, request.framing), (&Method::Get, Version::Http11, Framing::Empty));
    assert!(request.keep_alive && !request.names_hop_by_hop && request.fields.as_slice().len() == 1);
}
