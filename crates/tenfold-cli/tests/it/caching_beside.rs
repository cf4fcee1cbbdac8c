//! The edge cache beside what else a route does.

use testkit::{Curl, RawUpstream, Script, Tenfold, free_port};

use crate::caching::{asked, told};
use crate::compress::{decoded, field, html, text};
use crate::site::{ask, get, listeners, start};

/// A site whose one route has a cache, and these keys too; `rest` is behind it.
fn beside(upstream: &RawUpstream, route: &str, rest: &str) -> Tenfold {
    start(&format!(
        "{}[[route]]\nname = \"shop\"\nservice = \"api\"\ncache = {{}}\n{route}\n\
         [service.api]\nendpoints = [\"{}\"]\n{rest}\n",
        listeners(free_port()),
        upstream.address()
    ))
}

#[test]
fn what_is_stored_plain_is_sent_compressed() {
    let body = text(2000);
    let fields = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";
    let upstream = RawUpstream::start(Script::answer(html(fields, &body))).unwrap();
    let site = beside(&upstream, "compress = {}", "");
    let check = |accept: &str, coding: &str, expected: &str| {
        let answer = get(&site, "/", accept);
        assert!(told(&answer).starts_with(expected), "{accept}: {answer:?}");
        assert_eq!((field(&answer, "content-encoding"), field(&answer, "vary")), (coding, "Accept-Encoding"));
        if coding.is_empty() {
            assert_eq!((answer.text(), field(&answer, "etag")), (body.clone(), "\"v1\""), "{accept}");
            assert_eq!(field(&answer, "content-length"), body.len().to_string());
        } else {
            assert_eq!((decoded(coding, &answer.body), field(&answer, "etag")), (body.clone(), "W/\"v1\""), "{accept}");
            assert_eq!((answer.fields.get("content-length"), answer.fields.get("accept-ranges")), (None, None));
            assert!(answer.body.len() < body.len() / 4, "{coding}: {}", answer.body.len());
        }
    };
    check("Accept-Encoding: gzip\r\n", "gzip", "tenfold;fwd=uri-miss");
    check("Accept-Encoding: gzip\r\n", "gzip", "tenfold;hit");
    check("Accept-Encoding: br\r\n", "br", "tenfold;hit");
    check("", "", "tenfold;hit");
    let zstd = "Accept-Encoding: zstd\r\n";
    let same = get(&site, "/", &format!("{zstd}If-None-Match: W/\"v1\"\r\n"));
    assert_eq!((same.status, field(&same, "etag"), field(&same, "vary")), (304, "W/\"v1\"", "Accept-Encoding"));
    let plain = get(&site, "/", &format!("{zstd}If-None-Match: \"v1\"\r\n"));
    assert_eq!((plain.status, field(&plain, "etag")), (304, "\"v1\""), "it holds the plain one");
    let part = get(&site, "/", &format!("{zstd}Range: bytes=0-9\r\n"));
    assert_eq!((part.status, field(&part, "etag"), part.text().as_str()), (206, "\"v1\"", &body[..10]));
    // A weak tag is never that of a part.
    let whole = get(&site, "/", &format!("{zstd}Range: bytes=0-9\r\nIf-Range: W/\"v1\"\r\n"));
    assert_eq!((whole.status, decoded("zstd", &whole.body)), (200, body.clone()));
    let head = format!("HEAD / HTTP/1.1\r\nHost: shop.example.com\r\n{zstd}\r\n");
    let head = ask(site.address(), &head, "HEAD");
    assert_eq!((field(&head, "content-encoding"), head.fields.get("content-length")), ("zstd", None));
    let curl =
        Curl::default().flag("--http2-prior-knowledge").flag("--compressed").with("-H", "Host: shop.example.com");
    let over = curl.get(&format!("http://{}/", site.address())).unwrap();
    assert_eq!((over.status, over.text(), over.code), (200, body.clone(), 0), "{}", over.head);
    assert_eq!(asked(&upstream), 1);
    let count =
        |coding: &str| site.metric("http_responses_compressed_total", &[&format!("coding=\"{coding}\"")]).unwrap();
    assert_eq!((count("gzip"), count("br")), (2.0, 1.0));
}

#[test]
fn what_is_not_stored_is_compressed_as_well() {
    let body = text(2000);
    let upstream = RawUpstream::start(Script::answer(html("Cache-Control: private\r\n", &body))).unwrap();
    let site = beside(&upstream, "compress = {}", "");
    for _ in 0..2 {
        let answer = get(&site, "/", "Accept-Encoding: gzip\r\n");
        assert!(told(&answer).starts_with("tenfold;fwd=uri-miss") && !told(&answer).contains("stored"), "{answer:?}");
        assert_eq!((decoded("gzip", &answer.body), field(&answer, "vary")), (body.clone(), "Accept-Encoding"));
    }
}
