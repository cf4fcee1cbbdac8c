//! Datagrams that pass through.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use testkit::{TempDir, Tenfold, free_port};

use crate::site::{apply, page, start};

/// A server that answers each datagram with its name, the sender's port and the datagram.
fn server(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65_535];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let mut answer = format!("{name} {} ", from.port()).into_bytes();
            answer.extend_from_slice(&bytes[..len]);
            if bytes[..len] != *b"silence" {
                let _gone = socket.send_to(&answer, from);
            }
        }
    });
    address
}

/// A site with the listener `dns`, and where that listens.
fn site(endpoints: &[SocketAddr], listener: &str, service: &str) -> (Tenfold, SocketAddr, String) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[listener.dns]\nkind = \"udp\"\nlisten = \"127.0.0.1:{port}\"\n\
         service = \"dns\"\n{listener}\n[service.dns]\nendpoints = [{}]\n{service}\n",
        free_port(),
        endpoints.join(", ")
    );
    let site = start(&text);
    // A port for datagrams cannot be asked whether somebody is there: the kernel's table says it.
    site.wait_until("listens", |_| {
        Ok(std::fs::read_to_string("/proc/net/udp")?.contains(&format!("0100007F:{port:04X} ")))
    })
    .unwrap();
    (site, SocketAddr::from(([127, 0, 0, 1], port)), text)
}

fn client(to: SocketAddr, last: u8) -> UdpSocket {
    let socket = UdpSocket::bind((IpAddr::from([127, 0, 0, last]), 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// Name of who answers, the port that it saw, and what it got.
fn ask(socket: &UdpSocket, bytes: &[u8]) -> (String, String, Vec<u8>) {
    socket.send(bytes).unwrap();
    let mut answer = vec![0; 65_535];
    let len = socket.recv(&mut answer).unwrap();
    let mut words = answer[..len].splitn(3, |&byte| byte == b' ');
    let mut word = || words.next().unwrap().to_vec();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(word()), text(word()), word())
}

#[test]
fn a_client_has_one_session_until_it_is_idle() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("access.log");
    let (mut site, to, text) = site(&[server("a"), server("b")], "idle_timeout = \"600ms\"", "");
    apply(&mut site, &format!("[log]\naccess = {file:?}\n{text}"));
    let socket = client(to, 1);
    let (name, port, got) = ask(&socket, b"hello");
    assert_eq!(got, b"hello");
    for size in [0usize, 1, 1400, 60_000] {
        let sent = vec![7; size];
        assert_eq!(ask(&socket, &sent), (name.clone(), port.clone(), sent));
    }
    assert_eq!(site.metric("active_connections", &["type=\"client\"", "service=\"dns\""]).unwrap(), 1.0);
    site.wait_until("idle", |site| Ok(site.metric("active_connections", &["type=\"client\""])? == 0.0)).unwrap();
    assert_eq!(site.metric("upstream_in_flight", &[]).unwrap(), 0.0);
    assert_ne!(ask(&socket, b"again").1, port, "a new session");
    assert_eq!(site.metric("listener_connections_accepted_total", &[]).unwrap(), 2.0);
    assert_eq!(site.metric("listener_received_bytes_total", &[]).unwrap(), f64::from(5 + 1 + 1400 + 60_000 + 5));
    site.process().stop(Duration::from_secs(10)).unwrap();
    let lines = std::fs::read_to_string(&file).unwrap();
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&line["protocol"], &line["bytes_in"]), (&"UDP".into(), &61_406.into()), "{line}");
}

#[test]
fn clients_are_spread_and_their_number_is_bounded() {
    let (site, to, _) = site(&[server("a"), server("b")], "connections_max = 200\nconnections_per_client_max = 2", "");
    let mut seen = std::collections::BTreeSet::new();
    let sockets: Vec<UdpSocket> = (1..=100).flat_map(|last| [client(to, last), client(to, last)]).collect();
    for socket in &sockets {
        seen.insert(ask(socket, b"hello").0);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    // Neither a third of a client that has two, nor anybody's beyond all.
    let further = [client(to, 7), client(to, 200)];
    further.iter().for_each(|socket| assert_eq!(socket.send(b"hello").unwrap(), 5));
    let refused = |site: &Tenfold| site.metric("listener_connections_refused_total", &["listener=\"dns\""]);
    site.wait_until("counted", |site| Ok(refused(site)? == 2.0)).unwrap();
    assert_eq!(page(&site, "/listeners")[0]["connections"], 200);
    assert_eq!(page(&site, "/listeners")[0]["kind"], "udp");
    ask(&sockets[0], b"still here");
}

#[test]
fn an_endpoint_where_nobody_listens_is_left() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (site, to, _) = site(&[dead, server("alive")], "", "balance = \"round_robin\"");
    for last in 1..=10 {
        let socket = client(to, last);
        // What was sent to it is lost, as datagrams are; a client asks again.
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut answer = [0; 64];
        let answered = (0..10).any(|_| {
            socket.send(b"hello").unwrap();
            socket.recv(&mut answer).is_ok()
        });
        assert!(answered && answer.starts_with(b"alive"));
    }
    assert!(site.metric("upstream_failures_total", &["kind=\"connect\""]).unwrap() >= 1.0);
    site.wait_until("ejected", |_| Ok(page(&site, "/services/dns")["endpoints"][0]["health"] != "healthy")).unwrap();
}

#[test]
fn a_session_moves_when_its_endpoint_goes_and_stays_when_another_comes() {
    let (a, b) = (server("a"), server("b"));
    let (mut site, to, text) = site(&[a], "", "");
    let socket = client(to, 1);
    let before = ask(&socket, b"one");
    apply(&mut site, &text.replace(&format!("\"{a}\""), &format!("\"{a}\", \"{b}\"")));
    assert_eq!(ask(&socket, b"one"), before);
    apply(&mut site, &text.replace(&format!("\"{a}\""), &format!("\"{b}\"")));
    assert_eq!(ask(&socket, b"two").0, "b");
    // The listener goes, and comes back.
    // Its port may be anybody's for TCP.
    let elsewhere = format!("127.0.0.1:{}", free_port());
    let without = text.replace("kind = \"udp\"", "kind = \"tcp\"").replace(&to.to_string(), &elsewhere);
    apply(&mut site, &without);
    apply(&mut site, &text);
    site.wait_until("it answers again", |_| {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let _refused_meanwhile = socket.send(b"three");
        Ok(socket.recv(&mut [0; 64]).is_ok())
    })
    .unwrap();
}
