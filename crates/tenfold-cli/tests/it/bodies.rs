//! Bodies in both directions, whole and broken.

use std::time::Duration;

use testkit::{RawConn, RawUpstream, Script, Step};

use crate::site::{ask, get, only_request, site};

/// A body that shows where a byte is missing or out of place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn large_bodies_arrive_whole_in_both_directions() {
    for len in [1, 16 * 1024, 64 * 1024, 100_000, 3_000_000] {
        let body = pattern(len);
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").into_bytes();
        answer.extend_from_slice(&body);
        let server = RawUpstream::start(Script::answer(answer)).unwrap();
        let site = site(&[server.address()], "");
        let mut conn = RawConn::connect(site.address()).unwrap();
        // Twice, so that the second exchange shows that the first has left both connections in step.
        for _ in 0..2 {
            conn.send(format!("PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {len}\r\n\r\n")).unwrap();
            conn.send(&body).unwrap();
            assert!(conn.read_response("PUT").unwrap().body == body, "{len}");
        }
        let received = server.requests().unwrap();
        assert!(received.len() == 2 && received.iter().all(|request| request.body == body), "{len}");
        let reused = |site: &testkit::Tenfold| site.metric("upstream_connection_reuses_total", &[]);
        site.wait_until("the connection is used again", |site| Ok(reused(site)? == 1.0)).unwrap();
    }
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nSum: 11\r\n\r\n";
    let server = RawUpstream::start(Script::answer(answer)).unwrap();
    let site = site(&[server.address()], "");
    let request = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nCheck: 7\r\n\r\n";
    let response = ask(site.address(), request, "POST");
    assert_eq!(response.text(), "hello world");
    assert_eq!(response.trailers.get("sum"), Some("11"));
    let received = only_request(&server);
    assert_eq!(received.body, b"abcdefg");
    assert_eq!(received.trailers.get("check"), Some("7"));
}

#[test]
fn a_body_without_length_ends_with_its_connection() {
    let server = RawUpstream::start(Script::answer_once("HTTP/1.1 200 OK\r\n\r\nuntil the end")).unwrap();
    let site = site(&[server.address()], "");
    let response = get(&site, "/", "");
    assert_eq!(response.text(), "until the end");
    assert!(response.fields.has_token("transfer-encoding", "chunked"));
    let old = ask(site.address(), "GET / HTTP/1.0\r\nHost: example.com\r\n\r\n", "GET");
    assert_eq!((old.text().as_str(), old.closes()), ("until the end", true));
}

#[test]
fn a_response_that_breaks_off_never_looks_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n",
    ] {
        let server = RawUpstream::start(Script::answer_once(answer)).unwrap();
        let site = site(&[server.address()], "");
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
        let error = conn.read_response("GET").unwrap_err();
        assert!(error.to_string().contains("ended within a response"), "{answer:?}: {error:#}");
    }
}

#[test]
fn events_are_passed_on_as_they_come() {
    let steps = [
        Step::AwaitRequest,
        Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:1\r\n".to_vec()),
        Step::Pause(Duration::from_secs(2)),
        Step::Send(b"0\r\n\r\n".to_vec()),
    ];
    let server = RawUpstream::start(Script::new(steps)).unwrap();
    let site = site(&[server.address()], "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    assert!(!conn.ends_within(Duration::from_secs(1)).unwrap());
    let early = String::from_utf8_lossy(conn.unread()).into_owned();
    assert!(early.contains("data:1"), "{early}");
    assert_eq!(conn.read_response("GET").unwrap().text(), "data:1");
}

#[test]
fn a_changed_protocol_is_a_tunnel() {
    let steps = [
        Step::AwaitHead,
        Step::Send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi".to_vec()),
        Step::AwaitBytes(5),
        Step::Send(b"there".to_vec()),
        Step::Finish,
        Step::Drain,
    ];
    let server = RawUpstream::start(Script::new(steps)).unwrap();
    let site = site(&[server.address()], "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").unwrap();
    let response = conn.read_response("GET").unwrap();
    assert_eq!(response.status, 101);
    assert_eq!(response.fields.get("upgrade"), Some("echo"));
    conn.send("hello").unwrap();
    conn.finish().unwrap();
    assert_eq!(conn.read_to_end().unwrap(), b"hithere");
    site.wait_until("its connections end", |site| Ok(site.metric("active_connections", &["upstream"])? == 0.0))
        .unwrap();
}

#[test]
fn a_protocol_that_was_not_asked_for_is_no_tunnel() {
    let switch = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    for fields in ["", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"] {
        let server = RawUpstream::start(Script::answer_once(switch)).unwrap();
        let site = site(&[server.address()], "retry = \"off\"");
        crate::site::check_own(&get(&site, "/", fields), 502, "upstream_invalid");
        assert_eq!(only_request(&server).fields.get("upgrade"), None);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let steps = [
        Step::AwaitRequest,
        Step::SendFor("/1".into(), b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none".to_vec()),
        Step::SendFor("/2".into(), b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo".to_vec()),
        Step::Repeat,
    ];
    let server = RawUpstream::start(Script::new(steps)).unwrap();
    let site = site(&[server.address()], "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    let first = "POST /1 HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let second = "POST /2 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\ndef";
    conn.send(format!("{first}{second}{first}")).unwrap();
    let texts: Vec<String> = (0..3).map(|_| conn.read_response("POST").unwrap().text()).collect();
    assert_eq!(texts, ["one", "two", "one"]);
}
