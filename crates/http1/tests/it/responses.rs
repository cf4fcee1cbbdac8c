//! Response heads: what is read in them, and what is refused.

use http1::{Framing, HeadScan, Method, Response};

use crate::LIMITS;

fn read(text: &str, method: &Method) -> Option<Response> {
    let (start, end) = HeadScan::default().advance(text.as_bytes(), &LIMITS).ok()??;
    let mut response = Response::default();
    response.parse(&text.as_bytes()[start..end], &LIMITS, method).ok()?;
    Some(response)
}

#[test]
fn framing_depends_on_what_was_asked() {
    let check = |status: &str, fields: &str, method: &Method, expected: Option<Framing>| {
        let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        assert_eq!(read(&text, method).map(|response| response.framing), expected, "{text:?} to {method:?}");
    };
    check("200 OK", "Content-Length: 3\r\n", &Method::Get, Some(Framing::Length(3)));
    check("200 OK", "Content-Length: 0\r\n", &Method::Get, Some(Framing::Empty));
    check("200 OK", "Transfer-Encoding: chunked\r\n", &Method::Get, Some(Framing::Chunked));
    check("200 OK", "", &Method::Get, Some(Framing::UntilClose));
    check("200 OK", "Content-Length: 3\r\n", &Method::Head, Some(Framing::Empty));
    check("200 OK", "Transfer-Encoding: chunked\r\n", &Method::Head, Some(Framing::Empty));
    check("200 OK", "", &Method::Head, Some(Framing::Empty));
    check("204 No Content", "Content-Length: 3\r\n", &Method::Get, Some(Framing::Empty));
    check("304 Not Modified", "Content-Length: 3\r\n", &Method::Get, Some(Framing::Empty));
    check("100 Continue", "", &Method::Get, Some(Framing::Empty));
    // Ambiguous lengths are refused whether a body follows or not: whoever reads behind us may think otherwise.
    for method in [Method::Get, Method::Head] {
        check("200 OK", "Content-Length: 3\r\nContent-Length: 3\r\n", &method, None);
        check("200 OK", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", &method, None);
        check("200 OK", "Content-Length: x\r\n", &method, None);
        check("200 OK", "Transfer-Encoding: gzip\r\n", &method, None);
    }
}

#[test]
fn status_lines() {
    let check = |line: &str, expected: Option<u16>| {
        let text = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(read(&text, &Method::Get).map(|response| response.status), expected, "{line:?}");
    };
    check("HTTP/1.1 200 OK", Some(200));
    check("HTTP/1.0 200 OK", Some(200));
    check("HTTP/1.1 200 ", Some(200));
    check("HTTP/1.1 200", Some(200));
    check("HTTP/1.1 599 Odd", Some(599));
    check("HTTP/1.1 600 Odd", None);
    check("HTTP/1.1 099 Odd", None);
    check("HTTP/1.1 20 OK", None);
    check("HTTP/1.1 2000 OK", None);
    check("HTTP/1.1 abc OK", None);
    check("HTTP/2 200 OK", None);
    check("ICY 200 OK", None);
    check(" HTTP/1.1 200 OK", None);
    check("HTTP/1.1 200 O\0K", None);
}

#[test]
fn what_follows_the_response() {
    let keeps = |text: &str| read(text, &Method::Get).unwrap().keep_alive;
    assert!(keeps("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"), "its end is the body's end");
    assert!(!keeps("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n"));
    assert!(keeps("HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n"));
    let interim = |text: &str| read(text, &Method::Get).unwrap().is_interim();
    assert!(interim("HTTP/1.1 103 Early Hints\r\n\r\n"));
    assert!(!interim("HTTP/1.1 101 Switching Protocols\r\n\r\n"), "nothing comes after it");
    let upgrade = |text: &str| read(text, &Method::Get).unwrap().upgrade;
    assert!(upgrade("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
    assert!(!upgrade("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n"));
    assert!(!upgrade("HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
}
