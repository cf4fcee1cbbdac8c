//! Whose connection it is, as proxies say: believed, and told.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use testkit::{Authority, Origin, RawConn, RawUpstream, Script, Step, Tenfold, free_port};

use crate::l4::{connect, named, server};
use crate::site::{only_request, page, start};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc6\x33\x64\x07\xdc\x04\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A site whose one listener has these further settings.
fn site(listener: &str, service: &str) -> Tenfold {
    let (admin, port) = (free_port(), free_port());
    start(&format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{port}\"\n{listener}\n\
         [service.api]\n{service}\n"
    ))
}

const TRUSTING: &str = "proxy_protocol = { accept_from = [\"127.0.0.2\"] }\nhandshake_timeout = \"500ms\"\n";

fn endpoint(address: SocketAddr) -> String {
    format!("endpoints = [\"{address}\"]")
}

fn refusals(site: &Tenfold, reason: &str) -> f64 {
    site.metric("listener_connections_refused_total", &[&format!("reason=\"{reason}\"")]).unwrap()
}

fn from(last: u8, site: &Tenfold) -> RawConn {
    RawConn::connect_from(IpAddr::from([127, 0, 0, last]), site.address()).unwrap()
}

/// The client that the endpoint hears of, and the port, when a request comes behind these bytes.
fn heard(last: u8, header: &[&[u8]]) -> (String, String) {
    let upstream = RawUpstream::start(Script::new([
        Step::AwaitRequest,
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ]))
    .unwrap();
    let site = site(&format!("{TRUSTING}[[route]]\nservice = \"api\""), &endpoint(upstream.address()));
    let mut conn = from(last, &site);
    for piece in header {
        conn.send(piece).unwrap();
        // Whether pieces arrive alone does not matter to what is proven, only to how much of it is.
        std::thread::sleep(Duration::from_millis(5));
    }
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().status, 200);
    let request = only_request(&upstream);
    let field = |name: &str| request.fields.get(name).unwrap().to_owned();
    (field("x-forwarded-for"), field("x-forwarded-port"))
}

#[test]
fn trusted_peers_say_whose_connection_it_is() {
    let line = b"PROXY TCP4 192.0.2.9 198.51.100.7 56324 443\r\n";
    let expected = ("192.0.2.9".to_owned(), "443".to_owned());
    assert_eq!(heard(2, &[line]), expected);
    assert_eq!(heard(2, &[V2]), expected);
    let bytes: Vec<&[u8]> = line.chunks(7).collect();
    assert_eq!(heard(2, &bytes), expected);
    let bytes: Vec<&[u8]> = V2.chunks(5).collect();
    assert_eq!(heard(2, &bytes), expected);
    let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 8443\r\n";
    assert_eq!(heard(2, &[six]), ("2001:db8::1".to_owned(), "8443".to_owned()));
    // The proxy itself asks, or cannot say; and somebody else asks, who has nothing to say.
    assert_eq!(heard(2, &[LOCAL]).0, "127.0.0.2");
    assert_eq!(heard(2, &[b"PROXY UNKNOWN\r\n"]).0, "127.0.0.2");
    assert_eq!(heard(3, &[]).0, "127.0.0.3");
}

#[test]
fn whoever_must_say_it_and_does_not_is_refused_and_counted() {
    let origin = Origin::start("a").unwrap();
    let site = site(&format!("{TRUSTING}[[route]]\nservice = \"api\""), &endpoint(origin.address()));
    let request = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    for bytes in [&request[..], b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c", b"PROXY UDP4 "] {
        let mut conn = from(2, &site);
        conn.send(bytes).unwrap();
        // Some are refused before their end has come.
        let _gone = conn.send(request);
        assert_eq!(conn.read_to_end().unwrap(), b"", "{bytes:?}");
    }
    drop(from(2, &site));
    site.wait_until("counted", |site| Ok(refusals(site, "proxy_invalid") == 5.0)).unwrap();
    let mut slow = from(2, &site);
    slow.send("PROXY TCP4 ").unwrap();
    assert_eq!(slow.read_to_end().unwrap(), b"");
    assert_eq!(refusals(&site, "proxy_timeout"), 1.0);
    // From anyone else it is no request.
    let mut conn = from(3, &site);
    conn.send(b"PROXY TCP4 192.0.2.9 198.51.100.7 56324 443\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().status, 400);
}

#[test]
fn connections_are_capped_for_the_client_that_is_named() {
    let api = endpoint(named("hello"));
    let site = site(&format!("kind = \"tcp\"\nservice = \"api\"\nconnections_per_client_max = 1\n{TRUSTING}"), &api);
    let greeted = |client: &str| {
        let mut conn = from(2, &site);
        conn.send(format!("PROXY TCP4 {client} 198.51.100.7 1 2\r\n")).unwrap();
        site.wait_until("an answer", |_| Ok(conn.ends_within(Duration::from_millis(5))? || !conn.unread().is_empty()))
            .unwrap();
        (conn.unread() == b"hello", conn)
    };
    let (first, _held) = greeted("192.0.2.1");
    let (second, _ended) = greeted("192.0.2.1");
    let (third, _held_too) = greeted("192.0.2.2");
    assert_eq!((first, second, third), (true, false, true));
}

/// A server that tells what each connection begins with, and its address.
fn beginnings(len: usize) -> (SocketAddr, Receiver<Vec<u8>>) {
    let (told, tells) = sync_channel(16);
    let address = server(move |mut stream: TcpStream| {
        let mut bytes = vec![0; len];
        if stream.read_exact(&mut bytes).is_ok() {
            let _nobody = told.send(bytes);
        }
        let _answered = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ended = stream.read(&mut [0; 1024]);
    });
    (address, tells)
}

#[test]
fn endpoints_are_told_whose_connection_it_is() {
    for (word, of_header) in [("v1", false), ("v2", true)] {
        let (address, tells) = beginnings(if of_header { 28 } else { 20 });
        let send = format!("{}\nsend_proxy = \"{word}\"", endpoint(address));
        let site = site(&format!("kind = \"tcp\"\nservice = \"api\"\n{TRUSTING}"), &send);
        let mut conn = connect(site.address());
        conn.write_all(b"hello and so on, further than is read").unwrap();
        let told = tells.recv_timeout(Duration::from_secs(10)).unwrap();
        let (client, to) = (conn.local_addr().unwrap(), site.address());
        if of_header {
            let ports = [client.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            let expected = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"[..], &ports].concat();
            assert_eq!(told, expected);
        } else {
            assert_eq!(told, b"PROXY TCP4 127.0.0.1");
        }
        // Who was announced to this gateway is announced by it.
        let mut conn = from(2, &site);
        conn.send([V2, b"hello and so on"].concat()).unwrap();
        let told = tells.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(told, if of_header { V2 } else { &b"PROXY TCP4 192.0.2.9"[..] });
    }
}

#[test]
fn a_connection_for_http_is_one_clients_alone() {
    let (address, tells) = beginnings(28);
    let site = site("[[route]]\nservice = \"api\"", &format!("{}\nsend_proxy = \"v2\"", endpoint(address)));
    for last in [2u8, 3] {
        let mut conn = from(last, &site);
        for _ in 0..2 {
            conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
            assert_eq!(conn.read_response("GET").unwrap().text(), "ok");
            assert_eq!(tells.recv_timeout(Duration::from_secs(10)).unwrap()[16..20], [127, 0, 0, last]);
        }
    }
    assert_eq!(site.metric("upstream_connects_total", &[]).unwrap(), 4.0);
}

#[test]
fn the_header_comes_before_tls_and_checks_speak_for_themselves() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["localhost"]).unwrap();
    let upstream = RawUpstream::start(Script::new([
        Step::AwaitRequest,
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Step::Repeat,
    ]))
    .unwrap();
    let tls = format!("tls = {{ certificate = {:?}, key = {:?} }}", issued.certificate, issued.key);
    let accept = "proxy_protocol = { accept_from = [\"127.0.0.0/8\"] }";
    let inner = site(&format!("{accept}\n{tls}\n[[route]]\nservice = \"api\""), &endpoint(upstream.address()));
    let check = "health = { tcp = true, interval = \"100ms\" }\nsend_proxy = \"v2\"";
    let outer = site("kind = \"tcp\"\nservice = \"api\"", &format!("{}\n{check}", endpoint(inner.address())));
    let mut conn = RawConn::connect_tls(outer.address(), &authority.file(), "localhost", &["http/1.1"]).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().status, 200);
    assert_eq!(only_request(&upstream).fields.get("x-forwarded-proto"), Some("https"));
    outer.wait_until("checked", |_| Ok(page(&outer, "/services/api")["endpoints"][0]["health"] == "healthy")).unwrap();
    assert_eq!(refusals(&inner, "proxy_invalid"), 0.0);
}
