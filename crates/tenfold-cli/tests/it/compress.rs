//! Responses that are compressed on their way.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::message::Response;
use testkit::{Curl, RawConn, RawUpstream, Script, Step, Tenfold, free_port, nginx, procfs};

use crate::site::{ask, listeners, only_request, start};

/// A site whose one route compresses with these settings, in front of a service that plays this script.
fn squeezing(settings: &str, script: Script) -> (Tenfold, RawUpstream) {
    let server = RawUpstream::start(script).unwrap();
    (in_front_of(settings, &server, ""), server)
}

fn in_front_of(settings: &str, server: &RawUpstream, service: &str) -> Tenfold {
    let head = listeners(free_port());
    start(&format!(
        "{head}[[route]]\nname = \"www\"\nservice = \"api\"\ncompress = {{ {settings} }}\n\
         [service.api]\nendpoints = [\"{}\"]\n{service}\n",
        server.address()
    ))
}

fn send(site: &Tenfold, method: &str, fields: &str) -> Response {
    ask(site.address(), &format!("{method} / HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n"), method)
}

pub(crate) fn field<'r>(answer: &'r Response, name: &str) -> &'r str {
    answer.fields.get(name).unwrap_or_default()
}

/// What is read of it.
pub(crate) fn decoded(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut text),
        other => panic!("{other} is no coding"),
    };
    read.unwrap_or_else(|error| panic!("{coding}: {error}"));
    text
}

pub(crate) fn text(lines: usize) -> String {
    (0..lines).map(|n| format!("<p>line {n} of a page that says much the same again and again</p>\n")).collect()
}

pub(crate) fn html(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn clients_get_the_coding_that_they_like_best() {
    let body = text(100);
    let answer = html("ETag: \"a\"\r\nAccept-Ranges: bytes\r\nX-A: 1\r\n", &body);
    let (site, server) = squeezing("", Script::answer(answer.as_str()));
    let check = |accept: &str, coding: &str| {
        let accept = if accept.is_empty() { String::new() } else { format!("Accept-Encoding: {accept}\r\n") };
        let answer = send(&site, "GET", &accept);
        assert_eq!((answer.status, field(&answer, "content-encoding")), (200, coding), "{accept}");
        assert_eq!((field(&answer, "vary"), field(&answer, "x-a")), ("Accept-Encoding", "1"), "{accept}");
        if coding.is_empty() {
            assert_eq!((answer.text(), field(&answer, "etag")), (body.clone(), "\"a\""), "{accept}");
            assert_eq!(field(&answer, "content-length"), body.len().to_string());
        } else {
            assert_eq!((decoded(coding, &answer.body), field(&answer, "etag")), (body.clone(), "W/\"a\""), "{accept}");
            assert!(answer.body.len() < body.len() / 4, "{coding}: {}", answer.body.len());
            assert_eq!((answer.fields.get("content-length"), answer.fields.get("accept-ranges")), (None, None));
        }
    };
    check("gzip, deflate, br, zstd", "zstd");
    check("gzip, br", "br");
    check("gzip", "gzip");
    check("br;q=0.2, gzip;q=0.3", "gzip");
    check("*", "zstd");
    check("*;q=0", "");
    check("gzip;q=0.1, identity", "");
    check("", "");
    let old = ask(site.address(), "GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n", "GET");
    assert_eq!((old.text(), field(&old, "vary")), (body.clone(), "Accept-Encoding"));
    // The service hears what the client takes, and what it has.
    server.clear();
    send(&site, "GET", "Accept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n");
    let request = only_request(&server);
    assert_eq!(request.fields.get("accept-encoding"), Some("gzip"));
    assert_eq!(request.fields.get("if-none-match"), Some("W/\"a\""));
    let count =
        |coding: &str| site.metric("http_responses_compressed_total", &[&format!("coding=\"{coding}\"")]).unwrap();
    assert_eq!((count("zstd"), count("br"), count("gzip")), (2.0, 1.0, 3.0));
    let bytes = |side: &str| site.metric("http_compression_bytes_total", &[&format!("side=\"{side}\"")]).unwrap();
    assert_eq!(bytes("before"), 6.0 * body.len() as f64);
    assert!(bytes("after") < bytes("before") / 4.0);
}

#[test]
fn what_is_not_to_be_compressed_passes_as_it_is() {
    let body = text(100);
    let gzip = "Accept-Encoding: gzip\r\n";
    let check = |answer: &str, fields: &str, vary: &str| {
        let (site, _server) = squeezing("", Script::answer(answer));
        let passed = send(&site, "GET", &format!("{gzip}{fields}"));
        let (head, sent) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!((passed.text().as_str(), field(&passed, "vary")), (sent, vary), "{head}");
        assert_eq!(field(&passed, "content-length"), sent.len().to_string(), "{head}");
        assert!(!field(&passed, "etag").starts_with("W/"), "{head}");
    };
    check(&html("Content-Encoding: x\r\n", &body), "", "");
    check(&html("Cache-Control: no-transform\r\nETag: \"a\"\r\n", &body), "", "");
    check(&html("", &body), "Cache-Control: no-transform\r\n", "");
    check(&html("", &body).replace("text/html", "image/png"), "", "");
    check(&html("", &body).replace("text/html", "application/grpc+json"), "", "");
    check(&html("ETag: \"a\"\r\n", "short"), "", "");
    let part = html("ETag: \"a\"\r\nContent-Range: bytes 0-9/20\r\n", &body).replace("200 OK", "206 Partial Content");
    check(&part, "", "Accept-Encoding");
}

#[test]
fn heads_and_validations_say_what_a_body_would() {
    let (site, _server) = squeezing(
        "",
        Script::answer("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2000\r\nETag: \"a\"\r\n\r\n"),
    );
    let head = send(&site, "HEAD", "Accept-Encoding: gzip\r\n");
    let told = ["content-encoding", "etag", "vary", "content-length"].map(|name| field(&head, name));
    assert_eq!(told, ["gzip", "W/\"a\"", "Accept-Encoding", ""]);
    let (site, _server) =
        squeezing("", Script::answer("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nVary: Origin\r\n\r\n"));
    let same = send(&site, "GET", "Accept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n");
    assert_eq!((same.status, field(&same, "etag")), (304, "W/\"a\""));
    assert_eq!(same.fields.all("vary").collect::<Vec<_>>(), ["Origin", "Accept-Encoding"]);
}

#[test]
fn bodies_without_a_length_keep_their_ends_and_trailers() {
    let body = text(3000);
    let mut chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for piece in body.as_bytes().chunks(7001) {
        chunked.push_str(&format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap()));
    }
    chunked.push_str("0\r\nX-Sum: 7\r\n\r\n");
    let (site, _server) = squeezing("", Script::answer(chunked.as_str()));
    let mut conn = RawConn::connect(site.address()).unwrap();
    for coding in ["gzip", "br", "zstd"] {
        conn.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: {coding}\r\n\r\n")).unwrap();
        let answer = conn.read_response("GET").unwrap();
        assert!(decoded(coding, &answer.body) == body, "{coding}");
        assert_eq!(answer.trailers.get("x-sum"), Some("7"), "{coding}");
    }
    drop(conn);
    let until_close = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{body}");
    let script = Script::new(vec![Step::AwaitRequest, Step::Send(until_close.into()), Step::Close]);
    let (site, _server) = squeezing("", script);
    let answer = send(&site, "GET", "Accept-Encoding: gzip\r\n");
    assert!(decoded("gzip", &answer.body) == body);
    // A body that breaks off does not look whole.
    let short = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 999999\r\n\r\n{body}");
    let script = Script::new(vec![Step::AwaitRequest, Step::Send(short.into()), Step::Close]);
    let (site, _server) = squeezing("", script);
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
    assert!(conn.read_response("GET").is_err());
}

#[test]
fn events_arrive_as_they_happen() {
    let (site, server) = squeezing(
        "",
        Script::new(vec![
            Step::AwaitRequest,
            Step::Send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            ),
            Step::Send("9\r\ndata: a\n\n\r\n".into()),
            Step::Drain,
        ]),
    );
    let mut curl = Command::new("curl")
        .args(["-q", "--silent", "--no-buffer", "--noproxy", "*", "--max-time", "30", "--compressed"])
        .arg(format!("http://{}/", site.address()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut got = [0; 9];
    // The service sends nothing more, and does not end.
    curl.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    assert_eq!(&got, b"data: a\n\n");
    let accepts = only_request(&server).fields.get("accept-encoding").unwrap_or_default().to_owned();
    assert!(accepts.contains("gzip"), "{accepts}");
    curl.kill().unwrap();
    curl.wait().unwrap();
}

#[test]
fn both_versions_compress_on_both_sides() {
    let body = text(20_000);
    let server = RawUpstream::start(Script::answer(html("ETag: \"a\"\r\n", &body))).unwrap();
    let site = in_front_of("codings = [\"gzip\"], level = \"fast\"", &server, "");
    for flag in ["--http1.1", "--http2-prior-knowledge"] {
        let curl = Curl::default().flag(flag).with("--header", "Accept-Encoding: gzip");
        let answer = curl.get(&format!("http://{}/", site.address())).unwrap();
        assert_eq!(
            (answer.code, answer.status, answer.field("content-encoding")),
            (0, 200, Some("gzip")),
            "{answer:?}"
        );
        assert_eq!((answer.field("content-length"), answer.field("etag")), (None, Some("W/\"a\"")), "{flag}");
        assert!(decoded("gzip", &answer.body) == body, "{flag}");
    }
    // Read by a client that shares no code with the encoders.
    for coding in ["gzip", "br", "zstd"] {
        let all = in_front_of("", &server, "");
        let curl = Curl::default().flag("--compressed").with("--header", format!("Accept-Encoding: {coding}"));
        let answer = curl.get(&format!("http://{}/", all.address())).unwrap();
        assert_eq!((answer.code, answer.field("content-encoding")), (0, Some(coding)), "{}", answer.error);
        assert!(answer.text() == body, "{coding}");
    }
    // An endpoint that speaks HTTP/2.
    let port = free_port();
    let conf = format!(
        "worker_processes 1; events {{}} http {{ access_log off; client_body_temp_path {{dir}}; proxy_temp_path {{dir}};
         fastcgi_temp_path {{dir}}; uwsgi_temp_path {{dir}}; scgi_temp_path {{dir}};
         server {{ listen 127.0.0.1:{port} http2; location / {{ proxy_pass http://{}; proxy_http_version 1.1; }} }} }}",
        server.address()
    );
    let _nginx = nginx(&conf, port).unwrap();
    let head = listeners(free_port());
    let site = start(&format!(
        "{head}[[route]]\nservice = \"api\"\ncompress = {{}}\n\
         [service.api]\nendpoints = [\"127.0.0.1:{port}\"]\nprotocol = \"http2\"\n"
    ));
    for (flag, coding) in [("--http1.1", "zstd"), ("--http2-prior-knowledge", "br")] {
        let curl = Curl::default().flag(flag).with("--header", format!("Accept-Encoding: {coding}"));
        let answer = curl.get(&format!("http://{}/", site.address())).unwrap();
        assert_eq!((answer.code, answer.field("content-encoding")), (0, Some(coding)), "{answer:?}");
        assert!(decoded(coding, &answer.body) == body, "{flag}");
    }
}

#[test]
fn a_large_body_does_not_hold_the_core() {
    let body = text(400_000);
    let large = RawUpstream::start(Script::answer(html("", &body))).unwrap();
    let small = RawUpstream::start(Script::ok("small")).unwrap();
    let site = start(&format!(
        "[runtime]\nworkers = 1\n{}[[route]]\nservice = \"large\"\ncompress = {{ codings = [\"br\"], level = \"small\" }}\n\
         [[route]]\npath = \"/small\"\nservice = \"small\"\n\
         [service.large]\nendpoints = [\"{}\"]\n[service.small]\nendpoints = [\"{}\"]\n",
        listeners(free_port()),
        large.address(),
        small.address()
    ));
    let mut conn = RawConn::connect(site.address()).unwrap().timeout(Duration::from_secs(60));
    conn.send("GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: br\r\n\r\n").unwrap();
    site.wait_until("its service is asked", |_| Ok(!large.requests()?.is_empty())).unwrap();
    // The one worker serves another request long before it is done with that.
    let answer = ask(site.address(), "GET /small HTTP/1.1\r\nHost: a.example\r\n\r\n", "GET");
    assert_eq!(answer.text(), "small");
    assert_eq!(site.metric("http_responses_compressed_total", &[]).unwrap(), 0.0);
    let answer = conn.read_response("GET").unwrap();
    assert!(decoded("br", &answer.body) == body);
}

#[test]
fn bodies_under_way_have_bounded_memory() {
    const STREAMS: u64 = 40;
    let event = text(1000);
    let script = || {
        Script::new(vec![
            Step::AwaitRequest,
            Step::Send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            ),
            Step::Send(format!("{:x}\r\n{event}\r\n", event.len()).into()),
            Step::Drain,
        ])
    };
    let levels = [("balanced", 2 << 20), ("small", 4 << 20)];
    for (coding, (level, most)) in
        ["gzip", "br", "zstd"].into_iter().flat_map(|coding| levels.map(|level| (coding, level)))
    {
        let (site, _server) = squeezing(&format!("level = \"{level}\""), script());
        let before = procfs::rss_bytes(site.pid()).unwrap();
        let open = || {
            let mut conn = RawConn::connect(site.address()).unwrap();
            conn.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: {coding}\r\n\r\n")).unwrap();
            conn
        };
        let mut streams: Vec<RawConn> = (0..STREAMS).map(|_| open()).collect();
        let until = Instant::now() + Duration::from_secs(10);
        for conn in &mut streams {
            // Something of the body has come, so its encoder is at work.
            while conn
                .unread()
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
                .is_none_or(|at| at + 4 == conn.unread().len())
            {
                assert!(!conn.ends_within(Duration::from_millis(5)).unwrap() && Instant::now() < until, "{coding}");
            }
        }
        let each = procfs::rss_bytes(site.pid()).unwrap().saturating_sub(before) / STREAMS;
        assert!(each < most, "{coding} {level}: {each} bytes for each stream");
    }
}
