//! Request lines and line ends (RFC 9112, 2 and 3).

use super::super::row::{Meaning, Row, SMUGGLED, get};
use super::{BAD, BAD_OR_LARGE, BAD_OR_UNKNOWN};

const HOST: &str = "Host: a.test\r\n\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = line_ends();
    rows.extend(request_lines());
    rows.extend(authorities());
    rows
}

fn line_ends() -> Vec<Row> {
    const CLASS: &str = "line_ends";
    let mut rows = Vec::new();
    let refused: &[(&str, &str)] = &[
        ("LF after the request line", "GET /x HTTP/1.1\nHost: a.test\r\n\r\n"),
        ("LF after a field", "GET /x HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n"),
        ("LF everywhere", "GET /x HTTP/1.1\nHost: a.test\n\n"),
        ("LF at the end of the head", "GET /x HTTP/1.1\r\nHost: a.test\r\n\n"),
        ("CR after the request line", "GET /x HTTP/1.1\rHost: a.test\r\n\r\n"),
        ("CR in a value", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: y\rz\r\n\r\n"),
        ("CR before CRLF", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: y\r\r\n\r\n"),
        ("CR in a name", "GET /x HTTP/1.1\r\nHost: a.test\r\nX\rY: z\r\n\r\n"),
        ("CR in the target", "GET /x\ry HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("LF in the target", "GET /x\ny HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ];
    for (name, bytes) in refused {
        rows.push(Row::refused(CLASS, name, BAD).send(bytes).send(SMUGGLED));
    }
    // RFC 9112, 2.2: a server should ignore at least one empty line before a request.
    for (name, before) in
        [("CRLF before the request", "\r\n"), ("two CRLF before it", "\r\n\r\n"), ("LF before it", "\n")]
    {
        rows.push(Row::either(CLASS, name, BAD, Meaning::get()).send(format!("{before}{}", get(""))));
    }
    rows
}

fn request_lines() -> Vec<Row> {
    const CLASS: &str = "request_line";
    let mut rows = Vec::new();
    let bad: &[(&str, &str)] = &[
        ("two spaces after the method", "GET  /x HTTP/1.1"),
        ("two spaces after the target", "GET /x  HTTP/1.1"),
        ("tab", "GET\t/x HTTP/1.1"),
        ("space before", " GET /x HTTP/1.1"),
        ("space after", "GET /x HTTP/1.1 "),
        ("space in the target", "GET /x y HTTP/1.1"),
        ("NUL in the target", "GET /x\0 HTTP/1.1"),
        ("escape in the target", "GET /\u{1b}x HTTP/1.1"),
        ("delete in the target", "GET /x\u{7f} HTTP/1.1"),
        ("no target", "GET HTTP/1.1"),
        ("no method", "/x HTTP/1.1"),
        ("character in the method", "G(T /x HTTP/1.1"),
        ("NUL in the method", "G\0T /x HTTP/1.1"),
        ("small version", "GET /x http/1.1"),
        ("version and more", "GET /x HTTP/1.1x"),
        ("version without dot", "GET /x HTTP/11"),
        ("version with zeros", "GET /x HTTP/01.1"),
        ("other protocol", "GET /x ICY/1.1"),
        ("relative target", "GET x HTTP/1.1"),
        ("asterisk with GET", "GET * HTTP/1.1"),
        ("authority with GET", "GET a.test:80 HTTP/1.1"),
    ];
    for (name, line) in bad {
        rows.push(Row::refused(CLASS, name, BAD).send(format!("{line}\r\n{HOST}{SMUGGLED}")));
    }
    const VERSION: &[u16] = &[400, 501, 505];
    rows.push(Row::refused(CLASS, "HTTP/0.9", VERSION).send("GET /x\r\n\r\n"));
    rows.push(Row::refused(CLASS, "HTTP/2.0", VERSION).send(format!("GET /x HTTP/2.0\r\n{HOST}")));
    rows.push(Row::refused(CLASS, "HTTP/2 preface", VERSION).send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    rows.push(Row::refused(CLASS, "TLS", BAD).send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"));
    rows.push(Row::either(CLASS, "HTTP/1.2", VERSION, Meaning::get()).send(format!("GET /x HTTP/1.2\r\n{HOST}")));
    let connect = format!("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n{SMUGGLED}");
    rows.push(Row::refused(CLASS, "CONNECT", &[400, 404, 405, 501]).send(connect));
    let unknown = Meaning::of("FROB", "/x");
    rows.push(
        Row::either(CLASS, "unknown method", BAD_OR_UNKNOWN, unknown).send(format!("FROB /x HTTP/1.1\r\n{HOST}")),
    );
    let small = Meaning::of("get", "/x");
    rows.push(Row::either(CLASS, "small method", BAD_OR_UNKNOWN, small).send(format!("get /x HTTP/1.1\r\n{HOST}")));
    let asterisk = Meaning::of("OPTIONS", "*");
    let statuses: &[u16] = &[400, 404, 501];
    rows.push(
        Row::either(CLASS, "asterisk with OPTIONS", statuses, asterisk).send(format!("OPTIONS * HTTP/1.1\r\n{HOST}")),
    );
    for (name, target) in [
        ("dot segments", "/a/../b"),
        ("two slashes", "//b.test/x"),
        ("percent signs", "/%2e%2E/%00%zz"),
        ("query", "/x?a=b&c=%20#"),
        ("quotes and brackets", "/x?a=\"<[{|}]>\""),
    ] {
        let row = Row::either(CLASS, name, BAD, Meaning::of("GET", target));
        rows.push(row.send(format!("GET {target} HTTP/1.1\r\n{HOST}")));
    }
    let long = format!("GET /{} HTTP/1.1\r\n{HOST}", "x".repeat(100_000));
    rows.push(Row::refused(CLASS, "target of 100 kB", BAD_OR_LARGE).send(long));
    rows
}

fn authorities() -> Vec<Row> {
    const CLASS: &str = "authority";
    let mut rows = Vec::new();
    let refused: &[(&str, &str)] = &[
        ("no Host", "GET /x HTTP/1.1\r\n\r\n"),
        ("Host twice", "GET /x HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n"),
        ("two Hosts", "GET /x HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n"),
        ("list of Hosts", "GET /x HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n"),
        ("space in Host", "GET /x HTTP/1.1\r\nHost: a.test b.test\r\n\r\n"),
        ("slash in Host", "GET /x HTTP/1.1\r\nHost: a.test/b\r\n\r\n"),
        ("user in Host", "GET /x HTTP/1.1\r\nHost: a@a.test\r\n\r\n"),
        ("question mark in Host", "GET /x HTTP/1.1\r\nHost: a.test?b\r\n\r\n"),
        ("word as port", "GET /x HTTP/1.1\r\nHost: a.test:port\r\n\r\n"),
        ("open bracket", "GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n"),
        ("absolute form, no Host", "GET http://a.test/x HTTP/1.1\r\n\r\n"),
        ("absolute form, no authority", "GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("absolute form, broken authority", "GET http://a.test:x/x HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ];
    for (name, bytes) in refused {
        rows.push(Row::refused(CLASS, name, BAD).send(bytes).send(SMUGGLED));
    }
    let either = |name, bytes: &str, meaning| Row::either(CLASS, name, BAD, meaning).send(bytes);
    rows.push(either("empty Host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n", Meaning::get().host(None)));
    let port = "GET /x HTTP/1.1\r\nHost: a.test:99999\r\n\r\n";
    rows.push(either("port out of range", port, Meaning::get().host(Some("a.test:99999"))));
    // RFC 9112, 3.2.2: the target's authority counts, and a proxy replaces Host by it.
    let absolute = "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    rows.push(either("absolute form", absolute, Meaning::get()));
    let other = "GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n";
    rows.push(either("absolute form, other Host", other, Meaning::get()));
    let user = "GET http://b.test@a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    rows.push(either("absolute form, user", user, Meaning::get()));
    let no_path = "GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n";
    rows.push(either("absolute form, no path", no_path, Meaning::of("GET", "/")));
    let query = "GET http://a.test?q=1 HTTP/1.1\r\nHost: a.test\r\n\r\n";
    rows.push(either("absolute form, query alone", query, Meaning::of("GET", "/?q=1")));
    let other_scheme = "GET ftp://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    rows.push(either("absolute form, other scheme", other_scheme, Meaning::get()));
    let old = Row::forwarded(CLASS, "HTTP/1.0 without Host", Meaning::get().host(None));
    rows.push(old.send("GET /x HTTP/1.0\r\n\r\n"));
    let with_port = Row::forwarded(CLASS, "Host with port", Meaning::get().host(Some("a.test:8080")));
    rows.push(with_port.send("GET /x HTTP/1.1\r\nHost: a.test:8080\r\n\r\n"));
    rows
}
