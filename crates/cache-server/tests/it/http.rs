//! The same cache by HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cache_server::CacheParams;
use testkit::{Reply, free_port};
use vocab::Secret;

use crate::site::{Site, ask, bulk, client, ok, params};

/// An answer: its status, its head, and its body.
struct Answer(u16, String, Vec<u8>);

fn with_http() -> CacheParams {
    CacheParams { http: Some(([127, 0, 0, 1], free_port()).into()), ..params() }
}

/// Sends a request on a connection of its own.
fn request(to: Option<SocketAddr>, line: &str, fields: &[&str], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to.expect("an address")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let head = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).expect("a request");
    let mut all = Vec::new();
    let _reset_after_the_answer = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
    Answer(head[9..12].parse().expect("a status"), head, all[end + 4..].to_vec())
}

/// A field of a head, which is in lower case.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

const HOST: &str = "Host: localhost";

#[test]
fn values_are_those_of_the_other_protocol() {
    let params = with_http();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut other = client(&params);
    let send = |line: &str, fields: &[&str], body: &[u8]| request(params.http, line, &[&[HOST], fields].concat(), body);
    assert_eq!(send("PUT /user/7", &["Cache-Control: max-age=100"], b"seven").0, 204);
    assert_eq!(ask(&mut other, "GET user/7"), bulk("seven"));
    assert!(matches!(ask(&mut other, "TTL user/7"), Reply::Integer(90..=100)));
    assert_eq!(ask(&mut other, "SET with%20escape v"), ok());
    let Answer(status, head, body) = send("GET /with%2520escape", &[], b"");
    assert_eq!((status, body.as_slice()), (200, &b"v"[..]), "{head}");
    let Answer(status, head, body) = send("HEAD /user/7", &[], b"");
    assert!(status == 200 && body.is_empty() && head.contains("content-length: 5"), "{head}");
    let left: u64 = field(&head, "tenfold-ttl").and_then(|left| left.parse().ok()).expect("a time");
    assert!((90..=100).contains(&left), "{head}");
    assert_eq!(send("PUT /user/7", &["If-None-Match: *"], b"again").0, 412);
    assert_eq!(send("DELETE /user/7", &[], b"").0, 204);
    assert_eq!(send("DELETE /user/7", &[], b"").0, 404);
    let Answer(status, head, _) = send("GET /user/7", &[], b"");
    assert!(status == 404 && field(&head, "tenfold-token").is_some(), "{head}");
    let Answer(status, head, _) = send("PATCH /user/7", &[], b"");
    assert_eq!((status, field(&head, "allow")), (405, Some("get, head, put, delete")), "{head}");
    assert_eq!(send("GET /%zz", &[], b"").0, 400);
    assert_eq!(send("PUT /k", &["Tenfold-TTL: soon"], b"").0, 400);
    assert_eq!(send("PUT /k", &["Tenfold-Since: 1"], b"").0, 400);
}

#[test]
fn a_query_is_part_of_the_key() {
    let params = with_http();
    let _site = Site::start(std::slice::from_ref(&params));
    let send = |line: &str, body: &[u8]| request(params.http, line, &[HOST], body);
    assert_eq!(send("PUT /page?user=1", b"one").0, 204);
    assert_eq!(send("PUT /invalidate?tag=x", b"a value").0, 204);
    for other in ["/page", "/page?", "/page?user=2"] {
        assert_eq!(send(&format!("GET {other}"), b"").0, 404, "{other}");
        assert_eq!(send(&format!("DELETE {other}"), b"").0, 404, "{other}");
    }
    assert_eq!(send("GET /page?user=1", b"").2, b"one");
    assert_eq!(ask(&mut client(&params), "GET page?user=1"), bulk("one"));
    assert_eq!(send("POST /invalidate?tag=x", b"").0, 204);
    assert_eq!(send("GET /invalidate?tag=x", b"").2, b"a value");
}

#[test]
fn a_body_may_take_its_time_while_it_comes() {
    let mut params = with_http();
    params.stall_timeout = Duration::from_secs(2);
    let _site = Site::start(std::slice::from_ref(&params));
    let mut stream = TcpStream::connect(params.http.expect("an address")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n").expect("a head");
    let begun = Instant::now();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(400));
        stream.write_all(b"x").expect("a byte");
    }
    assert!(begun.elapsed() > params.stall_timeout);
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 204");
}

#[test]
fn tags_invalidate_over_both() {
    let params = with_http();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut other = client(&params);
    let send = |line: &str, fields: &[&str]| request(params.http, line, &[&[HOST], fields].concat(), b"v").0;
    let token = || {
        let Answer(_, head, _) = request(params.http, "GET /nothing", &[HOST], b"");
        format!("Tenfold-Since: {}", field(&head, "tenfold-token").expect("a token"))
    };
    let before = token();
    assert_eq!(send("PUT /a", &["Cache-Tag: x, y"]), 204);
    assert_eq!(send("PUT /b", &["Surrogate-Key: y z"]), 204);
    assert_eq!(send("POST /invalidate?tag=x", &[]), 204);
    assert_eq!(ask(&mut other, "EXISTS a b"), Reply::Integer(1));
    assert_eq!(ask(&mut other, "TENFOLD.INVALIDATE z"), ok());
    assert_eq!(ask(&mut other, "EXISTS a b"), Reply::Integer(0));
    assert_eq!(send("POST /invalidate", &[]), 400);
    // The token of before the invalidations.
    assert_eq!(send("PUT /a", &["Cache-Tag: x", &before]), 412);
    assert_eq!(send("PUT /a", &["Cache-Tag: x", &token()]), 204);
    assert_eq!(send("PUT /a", &["Cache-Tag: x", "Tenfold-Since: 18446744073709551615"]), 412);
}

#[test]
fn pages_and_strangers_are_not_answered() {
    let mut params = with_http();
    let mut site = Site::start(std::slice::from_ref(&params));
    let ask = |fields: &[&str]| request(params.http, "GET /k", fields, b"").0;
    assert_eq!(ask(&[HOST]), 404);
    assert_eq!(ask(&["Host: 127.0.0.1:80"]), 404);
    assert_eq!(ask(&["Host: cache.example.com"]), 403);
    assert_eq!(ask(&[HOST, "Host: cache.example.com"]), 403);
    assert_eq!(ask(&[HOST, "Origin: http://localhost"]), 403);
    // A page's script, image or style has no origin, but is not a text either.
    assert_eq!(ask(&[HOST, "Sec-Fetch-Site: cross-site"]), 403);
    assert_eq!(ask(&[HOST, "Sec-Fetch-Site: same-site"]), 403);
    assert_eq!(ask(&[HOST, "Sec-Fetch-Site: none"]), 404);
    assert_eq!(request(params.http, "PUT /script", &[HOST], b"alert(1)").0, 204);
    for path in ["GET /script", "GET /k", "DELETE /k", "PATCH /k"] {
        let Answer(_, head, _) = request(params.http, path, &[HOST], b"");
        assert_eq!(field(&head, "x-content-type-options"), Some("nosniff"), "{path}: {head}");
    }
    params.password = Some(Secret::new("0123456789abcdef"));
    site.apply(std::slice::from_ref(&params));
    let ask = |fields: &[&str]| request(params.http, "GET /k", fields, b"").0;
    let Answer(status, head, _) = request(params.http, "GET /k", &[HOST], b"");
    assert_eq!((status, field(&head, "www-authenticate")), (401, Some("bearer")), "{head}");
    assert_eq!(ask(&[HOST, "Authorization: Bearer 0123456789abcdeF"]), 401);
    assert_eq!(ask(&["Host: cache.example.com", "Authorization: Bearer 0123456789abcdef"]), 404);
}

#[test]
fn a_value_that_is_too_long_is_refused() {
    let mut params = with_http();
    params.value_bytes_max = 1000;
    let _site = Site::start(std::slice::from_ref(&params));
    let Answer(status, _, body) = request(params.http, "PUT /k", &[HOST], &[b'x'; 1001]);
    assert_eq!((status, String::from_utf8_lossy(&body).contains("value_bytes_max, which is 1000")), (413, true));
    assert_eq!(request(params.http, "PUT /k", &[HOST], &[b'x'; 1000]).0, 204);
}
