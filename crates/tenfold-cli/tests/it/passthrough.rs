//! TLS that passes through, by what clients say in their first message.

use std::io::{Read, Write};
use std::time::Duration;

use testkit::{Authority, RawConn, TempDir, Tenfold, free_port};

use crate::l4::{connect, echo};
use crate::site::start;

/// A server of HTTPS for these hosts that answers with its name.
fn secure(authority: &Authority, name: &str, hosts: &[&str]) -> Tenfold {
    let issued = authority.issue(name, hosts).unwrap();
    start(&format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[listener.web]\nlisten = \"127.0.0.1:{}\"\n\
         tls = {{ certificate = {:?}, key = {:?} }}\n[[route]]\nrespond = {{ status = 200, body = {name:?} }}\n",
        free_port(),
        free_port(),
        issued.certificate,
        issued.key
    ))
}

fn service(name: &str, site: &Tenfold) -> String {
    format!("[service.{name}]\nendpoints = [\"{}\"]\n", site.address())
}

fn listener(rest: &str) -> String {
    let (admin, port) = (free_port(), free_port());
    format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.tls]\nkind = \"tcp\"\nlisten = \"127.0.0.1:{port}\"\n{rest}\n"
    )
}

/// Who answers a client that names this host and offers these protocols.
fn answers(site: &Tenfold, authority: &Authority, host: &str, protocols: &[&str]) -> String {
    let mut conn = RawConn::connect_tls(site.address(), &authority.file(), host, protocols).unwrap();
    conn.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
    conn.read_response("GET").unwrap().text()
}

fn refusals(site: &Tenfold, reason: &str) -> f64 {
    site.metric("listener_connections_refused_total", &[&format!("reason=\"{reason}\"")]).unwrap()
}

#[test]
fn the_host_decides_and_nothing_is_ended_on_the_way() {
    let authority = Authority::new("test").unwrap();
    let a = secure(&authority, "a", &["a.example.com", "deep.b.example.com"]);
    let b = secure(&authority, "b", &["b.example.com", "c.b.example.com"]);
    let rest = secure(&authority, "rest", &["other.org", "*.b.example.com"]);
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("access.log");
    let routes = "service = \"rest\"\n[[route]]\nsni = \"A.example.com\"\nservice = \"a\"\n\
                  [[route]]\nname = \"wild\"\nsni = \"*.example.com\"\nservice = \"b\"\n\
                  [[route]]\nsni = \"deep.b.example.com\"\nservice = \"a\"\n";
    let services = service("a", &a) + &service("b", &b) + &service("rest", &rest);
    let mut site = start(&format!("[log]\naccess = {file:?}\n{}{services}", listener(routes)));
    let check = |host: &str, expected: &str| {
        assert_eq!(answers(&site, &authority, host, &["http/1.1"]), expected, "{host}");
    };
    check("a.example.com", "a");
    check("b.example.com", "b");
    check("c.b.example.com", "b");
    check("deep.b.example.com", "a");
    check("other.org", "rest");
    site.process().stop(Duration::from_secs(10)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5, "{text}");
    let wild = lines.iter().find(|line| line["host"] == "c.b.example.com").unwrap();
    assert_eq!((&wild["route"], &wild["service"]), (&"wild".into(), &"b".into()));
}

#[test]
fn protocols_decide_and_a_client_that_fits_no_route_is_refused() {
    let authority = Authority::new("test").unwrap();
    let h1 = secure(&authority, "h1", &["a.example.com"]);
    let h2 = secure(&authority, "h2", &["a.example.com"]);
    let routes =
        "[[route]]\nalpn = [\"h2\", \"spdy\"]\nservice = \"h2\"\n[[route]]\nalpn = \"http/1.1\"\nservice = \"h1\"\n";
    let site = start(&format!("{}{}{}", listener(routes), service("h1", &h1), service("h2", &h2)));
    assert_eq!(answers(&site, &authority, "a.example.com", &["http/1.1"]), "h1");
    let two = RawConn::connect_tls(site.address(), &authority.file(), "a.example.com", &["h2"]).unwrap();
    assert_eq!(two.alpn(), Some(&b"h2"[..]));
    assert_eq!(h2.metric("listener_connections_accepted_total", &[]).unwrap(), 1.0);
    for protocols in [&[][..], &["postgresql"]] {
        assert!(RawConn::connect_tls(site.address(), &authority.file(), "a.example.com", protocols).is_err());
    }
    assert_eq!(refusals(&site, "no_route"), 2.0);
}

#[test]
fn what_is_no_hello_is_refused_and_counted() {
    let site = start(&format!(
        "{}[service.a]\nendpoints = [\"{}\"]\n",
        listener(
            "service = \"a\"\nhandshake_timeout = \"500ms\"\n[[route]]\nsni = \"a.example.com\"\nservice = \"a\"\n"
        ),
        echo()
    ));
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\0\x05\x02", b"\x16\x03\x01\0\x05\x01\xff\xff\xff\x00"]
    {
        let mut stream = connect(site.address());
        stream.write_all(bytes).unwrap();
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "{bytes:?}");
    }
    let mut cut = connect(site.address());
    cut.write_all(b"\x16\x03\x01\x01").unwrap();
    drop(cut);
    site.wait_until("counted", |site| Ok(refusals(site, "hello_invalid") == 4.0)).unwrap();
    // Those who say nothing, and those who say too little, wait until their time is up, and no longer.
    let mut silent: Vec<_> = (0..50).map(|_| connect(site.address())).collect();
    silent.iter_mut().step_by(2).for_each(|stream| stream.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap());
    for stream in &mut silent {
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    assert_eq!(refusals(&site, "hello_timeout"), 50.0);
    assert_eq!(site.metric("active_connections", &["type=\"client\""]).unwrap(), 0.0);
}

#[test]
fn a_handshake_that_ends_here_is_routed_by_its_host_as_well() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("both", &["a.example.com", "b.example.com"]).unwrap();
    let (a, b) = (crate::l4::named("a"), crate::l4::named("b"));
    let rest = format!(
        "service = \"b\"\ntls = {{ certificate = {:?}, key = {:?} }}\n[[route]]\nsni = \"a.example.com\"\nservice = \"a\"\n\
         [service.a]\nendpoints = [\"{a}\"]\n[service.b]\nendpoints = [\"{b}\"]\n",
        issued.certificate, issued.key
    );
    let site = start(&listener(&rest));
    for (host, expected) in [("a.example.com", b"a"), ("b.example.com", b"b")] {
        let mut conn = RawConn::connect_tls(site.address(), &authority.file(), host, &[]).unwrap();
        site.wait_until("a greeting", |_| {
            conn.ends_within(Duration::from_millis(5))?;
            Ok(conn.unread() == expected)
        })
        .unwrap();
    }
}
