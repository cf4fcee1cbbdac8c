//! Ranges of what the edge cache does not have whole.

use std::sync::Barrier;
use std::time::Duration;

use testkit::{Curl, RawConn, RawUpstream, Script, Step, Tenfold};

use crate::caching::{answer, asked, cached, origin, purge, told};
use crate::site::get;

/// A part of `0123456789`, from one byte to another.
fn part(fields: &str, first: usize, last: usize) -> Vec<u8> {
    let body = &"0123456789"[first..=last];
    let length = body.len();
    let range = format!("Content-Range: bytes {first}-{last}/10\r\n");
    format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\n{range}{fields}\r\n{body}").into_bytes()
}

/// The ranges that the service was asked for, and whole ones.
fn ranges(upstream: &RawUpstream) -> Vec<String> {
    let range = |request: &testkit::message::Request| request.fields.get("range").unwrap_or("whole").to_owned();
    upstream.requests().unwrap().iter().map(range).collect()
}

/// Has the service answer otherwise, and forget what it was asked for.
fn switch(upstream: &RawUpstream, script: Script) {
    upstream.set_script(script);
    upstream.clear();
}

fn range(site: &Tenfold, range: &str) -> testkit::message::Response {
    get(site, "/video", &format!("Range: {range}\r\n"))
}

const FRESH: &str = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\n";

#[test]
fn a_part_is_fetched_as_it_is_asked_for_and_serves_what_lies_within() {
    let upstream = RawUpstream::start(Script::answer(part(FRESH, 2, 6))).unwrap();
    let site = cached(&upstream, "object_bytes_max = \"8B\"");
    let first = range(&site, "bytes=2-6");
    assert_eq!((first.status, first.text().as_ref()), (206, "23456"));
    assert_eq!(
        (first.fields.get("content-range"), first.fields.get("content-length")),
        (Some("bytes 2-6/10"), Some("5"))
    );
    assert!(told(&first).starts_with("tenfold;fwd=uri-miss;ttl=") && told(&first).ends_with(";stored"), "{first:?}");
    for (asked_for, body, place) in [
        ("bytes=2-6", "23456", "bytes 2-6/10"),
        ("bytes=3-3", "3", "bytes 3-3/10"),
        ("bytes=5-6", "56", "bytes 5-6/10"),
    ] {
        let response = range(&site, asked_for);
        assert_eq!((response.status, response.text().as_ref()), (206, body), "{asked_for}");
        assert_eq!(response.fields.get("content-range"), Some(place));
        assert!(told(&response).starts_with("tenfold;hit;ttl="), "{response:?}");
    }
    assert_eq!(range(&site, "bytes=10-").status, 416);
    let same = get(&site, "/video", "Range: bytes=3-4\r\nIf-Range: \"v1\"\r\n");
    assert_eq!((same.status, same.text().as_ref()), (206, "34"));
    let curl = Curl::default()
        .flag("--http2-prior-knowledge")
        .with("--range", "4-5")
        .with("--header", "Host: shop.example.com");
    let by_http2 = curl.get(&format!("http://{}/video", site.address())).unwrap();
    assert_eq!((by_http2.status, by_http2.text().as_str()), (206, "45"), "{by_http2:?}");
    assert_eq!(ranges(&upstream), ["bytes=2-6"]);
    // It goes when its URL is purged.
    purge(&site, &["--url", "shop.example.com/video"]);
    range(&site, "bytes=3-3");
    assert_eq!(ranges(&upstream), ["bytes=2-6", "bytes=3-3"]);
}

#[test]
fn what_fits_is_fetched_whole_for_the_second_part() {
    let upstream = RawUpstream::start(Script::answer(part(FRESH, 0, 1))).unwrap();
    let site = cached(&upstream, "");
    assert_eq!(range(&site, "bytes=0-1").text(), "01");
    switch(&upstream, Script::answer(answer(FRESH, "0123456789")));
    let second = range(&site, "bytes=-3");
    assert_eq!((second.status, second.text().as_ref()), (206, "789"));
    assert!(told(&second).starts_with("tenfold;fwd=partial;"), "{second:?}");
    for (asked_for, body) in [("bytes=0-1", "01"), ("bytes=4-", "456789"), ("bytes=0-0,9-9", "")] {
        let response = range(&site, asked_for);
        assert_eq!(response.status, 206);
        assert!(told(&response).starts_with("tenfold;hit"), "{response:?}");
        assert!(body.is_empty() || response.text() == body, "{response:?}");
    }
    assert_eq!(get(&site, "/video", "").text(), "0123456789");
    assert_eq!(ranges(&upstream), ["whole"]);
}

#[test]
fn what_does_not_fit_keeps_its_latest_part() {
    let upstream = RawUpstream::start(Script::answer(part(FRESH, 0, 1))).unwrap();
    let site = cached(&upstream, "object_bytes_max = \"4B\"");
    assert_eq!(range(&site, "bytes=0-1").text(), "01");
    switch(&upstream, Script::answer(part(FRESH, 6, 7)));
    assert_eq!(range(&site, "bytes=6-7").text(), "67");
    assert!(told(&range(&site, "bytes=7-7")).starts_with("tenfold;hit"));
    assert_eq!(ranges(&upstream), ["bytes=6-7"]);
    // More than may be stored goes to its client, by the one request.
    switch(&upstream, Script::answer(part(FRESH, 1, 9)));
    for _ in 0..2 {
        let large = range(&site, "bytes=1-");
        assert_eq!((large.status, large.text().as_ref()), (206, "123456789"));
        assert!(!told(&large).contains("stored"), "{large:?}");
    }
    assert_eq!(ranges(&upstream), ["bytes=1-", "bytes=1-"]);
}

#[test]
fn whole_requests_have_nothing_of_a_part() {
    let upstream = RawUpstream::start(Script::answer(part(FRESH, 0, 4))).unwrap();
    let site = cached(&upstream, "");
    assert_eq!(range(&site, "bytes=0-4").text(), "01234");
    switch(&upstream, Script::answer(answer(FRESH, "0123456789")));
    assert_eq!(get(&site, "/video", "").text(), "0123456789");
    assert_eq!(ranges(&upstream), ["whole"]);
}

#[test]
fn all_of_it_is_the_whole_however_it_comes() {
    for came in [part(FRESH, 0, 9), answer(FRESH, "0123456789")] {
        let upstream = RawUpstream::start(Script::answer(came)).unwrap();
        let site = cached(&upstream, "");
        // The service need not know ranges.
        let first = range(&site, "bytes=0-");
        assert_eq!((first.status, first.text().as_ref()), (206, "0123456789"));
        let whole = get(&site, "/video", "");
        assert_eq!((whole.status, whole.text().as_ref()), (200, "0123456789"));
        assert_eq!(range(&site, "bytes=3-4").text(), "34");
        assert_eq!(ranges(&upstream), ["bytes=0-"]);
    }
}

#[test]
fn what_contradicts_itself_or_the_request_is_passed_on_once() {
    let wrong_length = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 4-9/10\r\n\
                         Cache-Control: max-age=60\r\n\r\n01234";
    let unknown_length = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 5-9/*\r\n\
                           Cache-Control: max-age=60\r\n\r\n56789";
    let private = part("Cache-Control: private\r\n", 5, 9);
    for came in [&wrong_length[..], unknown_length, &part(FRESH, 0, 4), &private] {
        let upstream = RawUpstream::start(Script::answer(came.to_vec())).unwrap();
        let site = cached(&upstream, "");
        for _ in 0..2 {
            let response = range(&site, "bytes=-5");
            assert_eq!((response.status, response.body.len()), (206, 5));
            assert!(!told(&response).contains("stored"), "{response:?}");
        }
        assert_eq!(ranges(&upstream), ["bytes=-5", "bytes=-5"], "{}", came.escape_ascii());
    }
    // Chunks hide how much comes: it has to be as much as was said.
    let short = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 5-9/10\r\n\
                 Cache-Control: max-age=60\r\n\r\n3\r\n567\r\n0\r\n\r\n";
    let upstream = RawUpstream::start(Script::answer(short)).unwrap();
    let site = cached(&upstream, "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET /video HTTP/1.1\r\nHost: shop.example.com\r\nRange: bytes=5-9\r\n\r\n").unwrap();
    assert!(conn.read_response("GET").is_err());
    switch(&upstream, Script::answer(part(FRESH, 5, 9)));
    assert_eq!(range(&site, "bytes=5-9").text(), "56789");
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn a_whole_that_is_said_to_be_longer_than_it_comes_is_not_stored() {
    let whole = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-9/10\r\n\
                 Cache-Control: max-age=60\r\n\r\n3\r\n012\r\n0\r\n\r\n";
    let upstream = RawUpstream::start(Script::answer(whole)).unwrap();
    let site = cached(&upstream, "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET /video HTTP/1.1\r\nHost: shop.example.com\r\nRange: bytes=0-\r\n\r\n").unwrap();
    assert!(conn.read_response("GET").is_err());
    switch(&upstream, Script::answer(answer(FRESH, "0123456789")));
    assert_eq!(get(&site, "/video", "").text(), "0123456789");
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn a_range_that_is_nowhere_leaves_nothing_behind() {
    let none = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nContent-Range: bytes */10\r\n\
                Cache-Control: max-age=60\r\n\r\n";
    let upstream = RawUpstream::start(Script::answer(none)).unwrap();
    let site = cached(&upstream, "");
    assert_eq!(range(&site, "bytes=10-").status, 416);
    switch(&upstream, Script::answer(answer(FRESH, "0123456789")));
    assert_eq!(get(&site, "/video", "").text(), "0123456789");
    // What would be said of the whole too is stored for the whole.
    let missing = origin("Cache-Control: max-age=60\r\n", "");
    missing
        .set_script(Script::answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nCache-Control: max-age=60\r\n\r\n"));
    let site = cached(&missing, "");
    assert_eq!(range(&site, "bytes=1-").status, 404);
    assert_eq!(get(&site, "/video", "").status, 404);
    assert_eq!(asked(&missing), 1);
}

#[test]
fn parts_of_variants_are_told_apart() {
    let upstream = RawUpstream::start(Script::answer(part(&format!("{FRESH}Vary: X-Kind\r\n"), 2, 4))).unwrap();
    let site = cached(&upstream, "object_bytes_max = \"8B\"");
    let of = |kind: &str| get(&site, "/video", &format!("Range: bytes=2-4\r\nX-Kind: {kind}\r\n"));
    for kind in ["a", "b", "a", "b"] {
        assert_eq!(of(kind).text(), "234");
    }
    assert!(told(&of("a")).starts_with("tenfold;hit"));
    assert_eq!(asked(&upstream), 2);
}

#[test]
fn what_is_stale_is_fetched_again_in_parts() {
    let fields = "Cache-Control: max-age=0, stale-if-error=60\r\nETag: \"v1\"\r\n";
    let upstream = RawUpstream::start(Script::answer(part(fields, 2, 6))).unwrap();
    let site = cached(&upstream, "object_bytes_max = \"8B\"");
    for expected in ["fwd=uri-miss", "fwd=stale"] {
        let response = range(&site, "bytes=2-6");
        assert_eq!(response.text(), "23456");
        assert!(told(&response).contains(expected), "{response:?}");
    }
    assert!(upstream.requests().unwrap().iter().all(|request| request.fields.get("if-none-match").is_none()));
    switch(&upstream, Script::new([Step::AwaitRequest, Step::Reset]));
    let response = range(&site, "bytes=3-4");
    assert_eq!((response.status, response.text().as_ref()), (206, "34"));
    assert!(told(&response).contains("stale-if-error"), "{response:?}");
}

#[test]
fn who_wants_other_parts_at_once_waits_for_the_whole() {
    let head = part(FRESH, 0, 1);
    let (head, _) = head.split_at(head.len() - 1);
    let upstream = RawUpstream::start(Script::new([
        Step::AwaitRequest,
        Step::Send(head.to_vec()),
        Step::Pause(Duration::from_millis(500)),
        Step::Send(b"1".to_vec()),
        Step::Repeat,
    ]))
    .unwrap();
    let site = cached(&upstream, "");
    let (address, barrier) = (site.address(), Barrier::new(20));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| range(&site, "bytes=0-1"));
        site.wait_until("the part", |_| Ok(asked(&upstream) == 1)).unwrap();
        upstream.set_script(Script::answer(answer(FRESH, "0123456789")));
        for at in 0..20 {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut conn = RawConn::connect(address).unwrap();
                let wish = 2 + at % 8;
                barrier.wait();
                let request =
                    format!("GET /video HTTP/1.1\r\nHost: shop.example.com\r\nRange: bytes={wish}-{wish}\r\n\r\n");
                conn.send(&request).unwrap();
                assert_eq!(conn.read_response("GET").unwrap().text(), wish.to_string());
            });
        }
        assert_eq!(first.join().unwrap().text(), "01");
    });
    assert_eq!(ranges(&upstream), ["bytes=0-1", "whole"]);
}
