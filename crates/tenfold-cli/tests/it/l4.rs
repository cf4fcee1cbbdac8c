//! Connections of TCP that pass through.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use testkit::{Authority, RawConn, TempDir, Tenfold, free_port};

use crate::site::{apply, dead_address, page, start};

/// A server that does the same with every connection, each in a thread of its own.
pub(crate) fn server(each: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), each) = (stream, each.clone()) else { return };
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

/// A server that sends back what it gets, until it hears the end.
pub(crate) fn echo() -> SocketAddr {
    server(|mut stream| {
        let mut reader = stream.try_clone().unwrap();
        let _ended = std::io::copy(&mut reader, &mut stream);
    })
}

/// A server that greets with its name and waits for the end.
pub(crate) fn named(name: &'static str) -> SocketAddr {
    server(move |mut stream| {
        let _gone = stream.write_all(name.as_bytes());
        let _ended = stream.read(&mut [0; 16]);
    })
}

/// A configuration with the listener `raw` for TCP, and the service `db`.
fn config(endpoints: &[SocketAddr], listener: &str, service: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[listener.raw]\nkind = \"tcp\"\nlisten = \"127.0.0.1:{}\"\n\
         service = \"db\"\n{listener}\n[service.db]\nendpoints = [{}]\n{service}\n",
        free_port(),
        free_port(),
        endpoints.join(", ")
    )
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// What a server says first; empty when the connection ends.
fn greeting(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 16];
    let count = stream.read(&mut bytes).unwrap_or(0);
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes);
}

fn listener_metric(site: &Tenfold, name: &str, labels: &[&str]) -> f64 {
    let labels: Vec<&str> = labels.iter().copied().chain(["listener=\"raw\""]).collect();
    site.metric(name, &labels).unwrap()
}

#[test]
fn small_and_large_exchanges_pass_and_are_counted() {
    let server = echo();
    let site = start(&config(&[server], "", ""));
    let mut stream = connect(site.address());
    for size in [1, 128, 65_535, 65_536, 65_537, 200_000, 128, 1] {
        let mut writer = stream.try_clone().unwrap();
        let sent: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let sending = std::thread::spawn(move || writer.write_all(&copy).unwrap());
        let mut back = vec![0; size];
        stream.read_exact(&mut back).unwrap();
        sending.join().unwrap();
        assert!(back == sent, "{size}");
    }
    // The bytes of a connection that is still open count already.
    let bytes = f64::from(1 + 128 + 65_535 + 65_536 + 65_537 + 200_000 + 128 + 1);
    // A client has its last byte a moment before that is counted.
    for name in ["listener_received_bytes_total", "listener_sent_bytes_total"] {
        site.wait_until(name, |site| Ok(listener_metric(site, name, &[]) == bytes)).unwrap();
    }
    assert_eq!(site.metric("upstream_in_flight", &[]).unwrap(), 1.0);
    assert_eq!(site.metric("upstream_streams_total", &[]).unwrap(), 1.0);
    let listener = page(&site, "/listeners")[0].clone();
    assert_eq!((listener["kind"].as_str(), listener["connections"].as_u64()), (Some("tcp"), Some(1)));
    drop(stream);
    site.wait_until("ended", |site| Ok(site.metric("listener_stream_duration_seconds_count", &[])? == 1.0)).unwrap();
    assert_eq!(site.metric("upstream_in_flight", &[]).unwrap(), 0.0);
}

#[test]
fn megabytes_pass_both_ways_at_once() {
    let site = start(&config(&[echo()], "", ""));
    let mut stream = connect(site.address());
    let sent: Vec<u8> = (0..16_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut writer, copy) = (stream.try_clone().unwrap(), sent.clone());
    let sending = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back == sent, "{}", back.len());
}

#[test]
fn the_end_of_a_burst_is_not_kept_back() {
    // Answers each number with as many bytes, and goes on.
    let server = server(|mut stream| {
        let mut asked = [0; 4];
        while stream.read_exact(&mut asked).is_ok() {
            let answer: Vec<u8> = (0..u32::from_be_bytes(asked)).map(|n| (n % 251) as u8).collect();
            let _gone = stream.write_all(&answer);
        }
    });
    let site = start(&config(&[server], "", ""));
    let mut stream = connect(site.address());
    // What comes after a large answer is small, large, or as large as what was waited for.
    for size in [5_000_001, 1, 128, 1 << 20, (1 << 20) + 1, 128, 700_000, 524_288, 1, 3_000_000, 3_000_000] {
        for _ in 0..5 {
            stream.write_all(&u32::to_be_bytes(size)).unwrap();
            let mut answer = vec![0; size as usize];
            stream.read_exact(&mut answer).unwrap();
            assert!(answer.iter().enumerate().all(|(n, &byte)| byte == (n % 251) as u8), "{size}");
        }
    }
}

#[test]
fn either_side_may_end_its_half_alone() {
    // Answers when it has heard all.
    let after = server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).unwrap();
    });
    let site = start(&config(&[after], "", ""));
    let mut stream = connect(site.address());
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "5 bytes");
    // Says all that it has to say, and listens on.
    let (heard, hears) = std::sync::mpsc::sync_channel(1);
    let before = server(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        heard.send(all).unwrap();
    });
    let site = start(&config(&[before], "", ""));
    let mut stream = connect(site.address());
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    stream.write_all(b"and so on").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv_timeout(Duration::from_secs(10)).unwrap(), b"and so on");
}

#[test]
fn a_side_that_breaks_off_does_not_look_like_an_end() {
    let breaks = server(|mut stream| {
        stream.write_all(b"half of the tr").unwrap();
        let _request = stream.read(&mut [0; 1]).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let site = start(&config(&[breaks], "", ""));
    let mut stream = connect(site.address());
    assert_eq!(greeting(&mut stream), "half of the tr");
    stream.write_all(b"?").unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // And the other way round.
    let (heard, hears) = std::sync::mpsc::sync_channel(1);
    let listens = server(move |mut stream| {
        stream.write_all(b"!").unwrap();
        let mut bytes = [0; 16];
        heard.send((0..10).find_map(|_| stream.read(&mut bytes).err()).map(|error| error.kind())).unwrap();
    });
    let site = start(&config(&[listens], "", ""));
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("x").unwrap();
    site.wait_until("both ways", |_| Ok(conn.ends_within(Duration::from_millis(10))? || conn.unread() == b"!"))
        .unwrap();
    conn.reset();
    assert_eq!(hears.recv_timeout(Duration::from_secs(10)).unwrap(), Some(ErrorKind::ConnectionReset));
}

#[test]
fn an_endpoint_that_refuses_is_left_for_another() {
    let (dead, alive) = (dead_address(), named("alive"));
    let site = start(&config(&[dead, alive], "", "balance = \"round_robin\"\npassive_health = \"off\""));
    for _ in 0..10 {
        assert_eq!(greeting(&mut connect(site.address())), "alive");
    }
    let failures = site.metric("upstream_failures_total", &["kind=\"connect\""]).unwrap();
    assert!((1.0..=10.0).contains(&failures), "{failures}");
    assert_eq!(site.metric("service_retries_total", &["reason=\"error\""]).unwrap(), failures);
    // What connections tell takes an endpoint out as requests do.
    let site = start(&config(&[dead, alive], "", "balance = \"round_robin\""));
    for _ in 0..10 {
        assert_eq!(greeting(&mut connect(site.address())), "alive");
    }
    site.wait_until("ejected", |_| Ok(page(&site, "/services/db")["endpoints"][0]["health"] == "ejected")).unwrap();
}

#[test]
fn without_an_endpoint_the_client_hears_an_end() {
    let site = start(&config(&[dead_address()], "", "passive_health = \"off\""));
    let mut stream = connect(site.address());
    assert_eq!(greeting(&mut stream), "");
    site.wait_until("counted", |site| Ok(site.metric("listener_errors_total", &["code=\"upstream_connect\""])? == 1.0))
        .unwrap();
    let site = start(&config(&[echo()], "", "health = { tcp = true, interval = \"100ms\", port = 1 }"));
    let unhealthy = |_: &Tenfold| Ok(page(&site, "/services/db")["endpoints"][0]["health"] == "unhealthy");
    site.wait_until("unhealthy", unhealthy).unwrap();
    assert_eq!(greeting(&mut connect(site.address())), "");
    site.wait_until("counted", |site| Ok(site.metric("listener_errors_total", &["code=\"no_endpoint\""])? == 1.0))
        .unwrap();
}

#[test]
fn a_silent_connection_is_cut_and_one_that_speaks_is_not() {
    let site = start(&config(&[echo()], "idle_timeout = \"400ms\"", ""));
    let begun = Instant::now();
    let (mut silent, mut busy) = (connect(site.address()), connect(site.address()));
    let cut = std::thread::spawn(move || {
        assert!(!matches!(silent.read(&mut [0; 1]), Ok(1)));
        begun.elapsed()
    });
    while begun.elapsed() < Duration::from_millis(1000) {
        exchange(&mut busy, b"still here");
        std::thread::sleep(Duration::from_millis(50));
    }
    let cut = cut.join().unwrap();
    assert!(cut >= Duration::from_millis(400), "it was cut after {cut:?}");
    assert_eq!(listener_metric(&site, "listener_errors_total", &["code=\"idle_timeout\""]), 1.0);
    exchange(&mut busy, b"still here");
}

#[test]
fn connections_are_capped_for_each_client() {
    let site = start(&config(&[named("hello")], "connections_per_client_max = 2", ""));
    let from = |last: u8| {
        let mut conn = RawConn::connect_from(IpAddr::from([127, 0, 0, last]), site.address()).unwrap();
        site.wait_until("an answer or an end", |_| {
            Ok(conn.ends_within(Duration::from_millis(10))? || !conn.unread().is_empty())
        })
        .unwrap();
        let greeted = conn.unread() == b"hello";
        (conn, greeted)
    };
    let held = [from(2), from(2), from(3), from(3)];
    assert!(held.iter().all(|(_, greeted)| *greeted));
    assert!(!from(2).1 && !from(3).1 && from(4).1);
    assert_eq!(
        listener_metric(&site, "listener_connections_refused_total", &["reason=\"client_connections_max\""]),
        2.0
    );
    drop(held);
    site.wait_until("room", |_| Ok(from(2).1)).unwrap();
}

#[test]
fn a_client_stays_with_its_endpoint_by_its_address() {
    let servers = [named("a"), named("b"), named("c")];
    let site = start(&config(&servers, "", "balance = \"ip_hash\""));
    let mut seen = std::collections::BTreeSet::new();
    for last in 1..=20 {
        let greetings: Vec<String> = (0..3)
            .map(|_| {
                let mut conn = RawConn::connect_from(IpAddr::from([127, 0, 0, last]), site.address()).unwrap();
                site.wait_until("a greeting", |_| {
                    conn.ends_within(Duration::from_millis(2))?;
                    Ok(!conn.unread().is_empty())
                })
                .unwrap();
                String::from_utf8(conn.unread().to_vec()).unwrap()
            })
            .collect();
        assert!(greetings.iter().all(|name| *name == greetings[0]), "{greetings:?}");
        seen.insert(greetings[0].clone());
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn a_connection_lives_through_reloads_and_kinds_may_change() {
    let text = config(&[echo()], "", "");
    let mut site = start(&text);
    let mut stream = connect(site.address());
    for weight in 2..5 {
        exchange(&mut stream, b"before");
        apply(&mut site, &format!("{text}\nslow_start = \"{weight}s\"\n"));
        exchange(&mut stream, b"after");
    }
    let as_http = text.replace("kind = \"tcp\"", "").replace("service = \"db\"\n", "");
    apply(&mut site, &as_http.replace("[service.db]", "[[route]]\nrespond = { status = 204 }\n[service.db]"));
    let mut asked = RawConn::connect(site.address()).unwrap();
    asked.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    assert_eq!(asked.read_response("GET").unwrap().status, 204);
    // The listener of before is drained, and its connections with it.
    exchange(&mut stream, b"still");
    apply(&mut site, &text);
    exchange(&mut connect(site.address()), b"again");
}

#[test]
fn a_stop_waits_for_connections_and_then_cuts_them() {
    let mut site = start(&format!("{}[runtime]\ndrain_timeout = \"700ms\"\n", config(&[echo()], "", "")));
    let mut stream = connect(site.address());
    exchange(&mut stream, b"hello");
    site.process().signal(testkit::Signal::TERM).unwrap();
    site.wait_until("draining", |site| Ok(!testkit::is_listening(site.address().port()))).unwrap();
    exchange(&mut stream, b"still here");
    let status = site.process().wait(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", site.output());
    assert!(site.output().contains("cut=1"), "{}", site.output());
}

#[test]
fn tls_can_end_here_and_begin_again_towards_the_endpoint() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["localhost", "127.0.0.1"]).unwrap();
    let tls = format!("tls = {{ certificate = {:?}, key = {:?} }}", issued.certificate, issued.key);
    let inner = start(&config(&[echo()], &tls, ""));
    let towards = format!("tls = {{ ca = {:?} }}", authority.file());
    let outer = start(&config(&[inner.address()], &tls, &towards));
    for protocols in [&[][..], &["postgresql"]] {
        let mut conn = RawConn::connect_tls(outer.address(), &authority.file(), "localhost", protocols).unwrap();
        conn.send(vec![b'x'; 100_000]).unwrap();
        outer
            .wait_until("all of it back", |_| {
                conn.ends_within(Duration::from_millis(10))?;
                Ok(conn.unread().len() == 100_000)
            })
            .unwrap();
        conn.finish().unwrap();
        assert!(conn.ends_within(Duration::from_secs(5)).unwrap());
    }
}

#[test]
fn each_connection_leaves_a_line_in_the_access_log() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("access.log");
    let server = echo();
    let mut site = start(&format!("[log]\naccess = {file:?}\n{}", config(&[server], "", "")));
    let mut stream = connect(site.address());
    let from = stream.local_addr().unwrap();
    exchange(&mut stream, b"hello");
    drop(stream);
    site.process().stop(Duration::from_secs(10)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!((&line["protocol"], &line["status"]), (&"TCP".into(), &200.into()), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&5.into(), &5.into()));
    assert_eq!((&line["listener"], &line["service"]), (&"raw".into(), &"db".into()));
    assert_eq!((&line["client"], &line["upstream"]), (&from.ip().to_string().into(), &server.to_string().into()));
    assert!(line.get("method").is_none() && line.get("path").is_none(), "{line}");
}
