//! HTTP/2 on both sides: translation, trailers, streams that end early, and clients that mean harm.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use testkit::{Curl, Origin, RawConn, RawUpstream, Script, Signal, Step, Tenfold, free_port, nginx};

use crate::site::{dead_address, get, listeners, only_request, site, start};

const SOON: Duration = Duration::from_secs(10);

/// Runs a client of HTTP/2, not for ever.
fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let limited = async { tokio::time::timeout(SOON, client).await.expect("in time") };
    runtime.block_on(local.run_until(limited))
}

/// Connects with prior knowledge; the task tells how the connection ended.
async fn connect(address: SocketAddr) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    (sender, tokio::task::spawn_local(connection))
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://shop.example.com{path}"))
}

async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok((all, body.trailers().await?))
}

fn prior(site: &Tenfold, path: &str, curl: Curl) -> testkit::CurlAnswer {
    curl.flag("--http2-prior-knowledge").get(&format!("http://{}{path}", site.address())).unwrap()
}

#[test]
fn a_client_that_begins_with_http2_is_served_unless_it_is_off() {
    let origin = Origin::start("a").unwrap();
    let site = site(&[origin.address()], "");
    let answer = prior(&site, "/fields", Curl::default());
    assert_eq!((answer.status, answer.version.as_str()), (200, "2"), "{answer:?}");
    assert_eq!(answer.field("x-instance"), Some("a"));
    let text = answer.text();
    assert!(text.starts_with("GET /fields\nHost: 127.0.0.1:"), "{text}");
    assert!(!text.contains(":authority") && !text.to_lowercase().contains("transfer-encoding"), "{text}");
    let head = listeners(free_port());
    let off = start(&format!(
        "{head}http2 = \"off\"\n[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    assert_eq!(prior(&off, "/", Curl::default()).status, 0);
    assert_eq!(get(&off, "/", "").status, 200);
}

#[test]
fn bodies_pass_in_every_combination_of_versions() {
    let origin = Origin::start("a").unwrap();
    let port = free_port();
    let conf = format!(
        "worker_processes 1; events {{}} http {{ access_log off; client_max_body_size 0;
         client_body_temp_path {{dir}}; proxy_temp_path {{dir}}; fastcgi_temp_path {{dir}}; uwsgi_temp_path {{dir}};
         scgi_temp_path {{dir}}; client_body_buffer_size 8m; server {{ listen 127.0.0.1:{port} http2;
         location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_buffers 8 1m; proxy_buffer_size 1m; }} }} }}",
        origin.address()
    );
    let _nginx = nginx(&conf, port).unwrap();
    let plain = site(&[origin.address()], "");
    let multiplexed = site(&[SocketAddr::from(([127, 0, 0, 1], port))], "protocol = \"http2\"");
    let dir = testkit::TempDir::new().unwrap();
    let body: Vec<u8> = (0..2_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let upload = format!("@{}", dir.write("body", &body).unwrap().display());
    for (site, upstream) in [(&plain, "1.1"), (&multiplexed, "2")] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let case = format!("{version} to {upstream}");
            let ask =
                |path: &str, curl: Curl| curl.flag(version).get(&format!("http://{}{path}", site.address())).unwrap();
            let long = ask("/bytes/3000000", Curl::default());
            assert_eq!((long.status, long.body.len()), (200, 3_000_000), "{case}: {}", long.error);
            let echoed = ask("/echo", Curl::default().with("--data-binary", &upload));
            assert!(echoed.status == 200 && echoed.body == body, "{case}: {} {}", echoed.status, echoed.error);
            let chunked =
                ask("/echo", Curl::default().with("--data-binary", &upload).with("-H", "Transfer-Encoding: chunked"));
            assert!(chunked.status == 200 && chunked.body == body, "{case}: {} {}", chunked.status, chunked.error);
            let head = ask("/bytes/77", Curl::default().flag("--head"));
            assert_eq!((head.status, head.field("content-length")), (200, Some("77")), "{case}: {head:?}");
            assert_eq!(ask("/status/204", Curl::default()).status, 204, "{case}");
        }
    }
    let connects = multiplexed.metric("upstream_connects_total", &[]).unwrap();
    assert!(connects <= 2.0, "one connection for each core is enough: {connects}");
}

#[test]
fn many_streams_share_a_connection() {
    let origin = Origin::start("a").unwrap();
    let site = site(&[origin.address()], "");
    run(async {
        let (sender, _connection) = connect(site.address()).await;
        // Until the bound on streams is known, a client may open more than are taken.
        while sender.current_max_send_streams() != 128 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut tasks = Vec::new();
        for n in 0..500 {
            let mut sender = sender.clone().ready().await.unwrap();
            let (response, _) =
                sender.send_request(request("GET", &format!("/bytes/{n}")).body(()).unwrap(), true).unwrap();
            tasks.push((
                n,
                tokio::task::spawn_local(async move {
                    let mut response = response.await.unwrap();
                    assert_eq!(response.status(), 200);
                    read(response.body_mut()).await.unwrap().0.len()
                }),
            ));
        }
        for (n, task) in tasks {
            assert_eq!(task.await.unwrap(), n);
        }
    });
    assert_eq!(site.metric("http_requests_total", &["status=\"200\""]).unwrap(), 500.0);
    assert_eq!(site.metric("listener_connections_accepted_total", &[]).unwrap(), 1.0);
}

#[test]
fn trailers_pass_both_ways() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\
                  Content-Length: 9\r\n\r\n";
    let server = RawUpstream::start(Script::new([Step::AwaitRequest, Step::Send(answer.into())])).unwrap();
    let site = site(&[server.address()], "");
    run(async {
        let (sender, _connection) = connect(site.address()).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, mut body) = sender.send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", "12".parse().unwrap());
        trailers.insert("host", "evil.example.com".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        let mut response = response.await.unwrap();
        let (data, trailers) = read(response.body_mut()).await.unwrap();
        assert_eq!(data, b"abc");
        let trailers = trailers.unwrap();
        assert_eq!(trailers["x-sum"], "7");
        assert_eq!(trailers.len(), 1, "a length has no place there: {trailers:?}");
    });
    let request = only_request(&server);
    assert_eq!(request.body, b"hello");
    let received = String::from_utf8(server.received().concat()).unwrap();
    assert!(received.ends_with("5\r\nhello\r\n0\r\nx-check: 12\r\n\r\n"), "{received:?}");
}

#[test]
fn a_request_is_put_into_the_form_of_http1() {
    let server = RawUpstream::start(Script::ok("ok")).unwrap();
    let site = site(&[server.address()], "");
    run(async {
        let (sender, _connection) = connect(site.address()).await;
        let mut sender = sender.ready().await.unwrap();
        let asked = request("GET", "/a?b=1").header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
        let (response, _) = sender.send_request(asked.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        // Two hosts mean to confuse one of two readers.
        let two = request("GET", "/").header("host", "other.example.com");
        let (response, _) = sender.send_request(two.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 400);
        let (response, _) = sender.send_request(request("GET", "/a%zz/../b").body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 400);
        let connect = Request::builder().method("CONNECT").uri("shop.example.com:443").body(()).unwrap();
        let (response, _) = sender.send_request(connect, false).unwrap();
        assert_eq!(response.await.unwrap().status(), 501);
    });
    let request = only_request(&server);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a?b=1"));
    assert_eq!(request.fields.all("cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
    assert_eq!(request.fields.get("host"), Some("shop.example.com"));
    assert_eq!(request.fields.get("te"), None);
}

/// Frames by hand: what a well-behaved client cannot send.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that is neither indexed nor compressed.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A GET with these fields beside the pseudo fields.
fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop.example.com")];
    let all = if fields.iter().any(|(name, _)| name.starts_with(':')) { &[][..] } else { &pseudo[..] };
    all.iter().chain(fields).flat_map(|(name, value)| literal(name, value)).collect()
}

#[test]
fn nothing_can_be_smuggled_into_a_head_of_http1() {
    let server = RawUpstream::start(Script::ok("ok")).unwrap();
    let site = site(&[server.address()], "");
    let all = |path: &'static str| {
        vec![(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop.example.com")]
    };
    let cases: Vec<Vec<(&str, &str)>> = vec![
        vec![("x-a", "1\r\nX-Evil: 1")],
        vec![("x-a", "1\nX-Evil: 1")],
        vec![("x-a\r\nx-evil", "1")],
        vec![("x-a: 1\r\nx-evil", "1")],
        vec![("x evil", "1")],
        vec![("X-Evil", "1")],
        vec![("transfer-encoding", "chunked")],
        vec![("connection", "close")],
        vec![("content-length", "5"), ("content-length", "6")],
        vec![("te", "gzip")],
        vec![("x-a", " 1")],
        vec![("x-a", "1\t")],
        vec![(":method", "GET"), (":scheme", ""), (":path", "/"), (":authority", "a")],
        all("/ HTTP/1.1\r\nX-Evil: 1\r\n\r\n"),
        all("/\u{0}"),
        all(""),
        vec![(":method", "GET\r\nX-Evil: 1"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a\r\nX-Evil: 1")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "user@a")],
    ];
    for fields in &cases {
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send([PREFACE, &frame(1, 5, 1, &head(fields))].concat()).unwrap();
        conn.ends_within(Duration::from_millis(100)).unwrap();
    }
    // What was refused has not gone on, and the next client is served.
    assert_eq!(server.requests().unwrap().len(), 0, "{:?}", server.received());
    let answer = prior(&site, "/", Curl::default());
    assert_eq!(answer.status, 200);
    assert!(!String::from_utf8(server.received().concat()).unwrap().to_lowercase().contains("x-evil"));
}

#[test]
fn a_client_begins_with_settings_or_is_left() {
    let server = RawUpstream::start(Script::ok("ok")).unwrap();
    let site = site(&[server.address()], "");
    let preface = &PREFACE[..24];
    let request = frame(1, 5, 1, &head(&[]));
    for first in [request.clone(), frame(6, 0, 0, &[7; 8]), frame(4, 1, 0, &[])] {
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send([preface, &first, &frame(4, 0, 0, &[]), &request].concat()).unwrap();
        assert!(conn.ends_within(Duration::from_secs(2)).unwrap(), "{first:?}");
    }
    assert_eq!(server.requests().unwrap().len(), 0);
    // Octet by octet it is the same beginning.
    let mut conn = RawConn::connect(site.address()).unwrap();
    for octet in [PREFACE, &request].concat() {
        conn.send([octet]).unwrap();
    }
    assert!(!conn.ends_within(Duration::from_millis(300)).unwrap());
    assert_eq!(server.requests().unwrap().len(), 1);
}

#[test]
fn interim_answers_pass() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = RawUpstream::start(Script::new([Step::AwaitRequest, Step::Send(answer.into())])).unwrap();
    let site = site(&[server.address()], "");
    let answer = prior(&site, "/", Curl::default());
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(answer.head.contains("HTTP/2 103") && answer.head.contains("link: </a.css>"), "{}", answer.head);
}

#[test]
fn an_answer_that_breaks_off_is_a_reset_stream() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    let script = Script::new([Step::AwaitRequest, Step::Send(answer.into()), Step::Pause(Duration::from_millis(100))]);
    let server = RawUpstream::start(script).unwrap();
    let site = site(&[server.address()], "");
    run(async {
        let (sender, _connection) = connect(site.address()).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        let mut response = response.await.unwrap();
        let error = read(response.body_mut()).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        // The connection lives on.
        let (response, _) = sender.send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn a_stream_that_is_reset_ends_its_request() {
    let server = RawUpstream::start(Script::new([Step::AwaitRequest, Step::Drain])).unwrap();
    let site = site(&[server.address()], "");
    run(async {
        let (sender, _connection) = connect(site.address()).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, mut body) = sender.send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        while site.metric("upstream_in_flight", &[]).unwrap() == 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        body.send_reset(Reason::CANCEL);
        drop(response);
        while site.metric("upstream_in_flight", &[]).unwrap() > 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(site.metric("http_requests_total", &["status=\"499\""]).unwrap(), 1.0);
}

#[test]
fn a_stop_says_goodbye_and_lets_streams_end() {
    let origin = Origin::start("a").unwrap();
    let mut site = site(&[origin.address()], "");
    let address = site.address();
    run(async {
        let (sender, connection) = connect(address).await;
        let mut sender = sender.ready().await.unwrap();
        let (slow, _) = sender.send_request(request("GET", "/delay/700").body(()).unwrap(), true).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        site.process().signal(Signal::TERM).unwrap();
        let begun = Instant::now();
        // The goodbye comes while the stream is still open: no further request is taken.
        let refused = loop {
            let mut sender = match sender.clone().ready().await {
                Ok(sender) => sender,
                Err(error) => break error,
            };
            match sender.send_request(request("GET", "/").body(()).unwrap(), true) {
                Ok((response, _)) => match response.await {
                    Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => break error,
                },
                Err(error) => break error,
            }
        };
        assert!(
            refused.is_go_away() && begun.elapsed() < Duration::from_millis(400),
            "{refused} {:?}",
            begun.elapsed()
        );
        assert_eq!(slow.await.unwrap().status(), 200);
        connection.await.unwrap().unwrap();
    });
}

#[test]
fn a_flood_of_resets_is_cut_and_others_are_served() {
    let server = RawUpstream::start(Script::new([Step::AwaitRequest, Step::Drain])).unwrap();
    let site = site(&[server.address()], "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send(PREFACE).unwrap();
    let head = head(&[]);
    let mut sent = 0;
    for stream in 0..20_000_u32 {
        let id = 2 * stream + 1;
        let pair = [frame(1, 5, id, &head), frame(3, 0, id, &8_u32.to_be_bytes())].concat();
        if conn.send(pair).is_err() {
            break;
        }
        sent += 1;
        if stream % 16 == 0 && conn.ends_within(Duration::from_millis(1)).unwrap() {
            break;
        }
    }
    assert!(sent < 5_000, "{sent} streams were reset without consequence");
    let refused = site.metric("listener_connections_refused_total", &["http2_abuse"]).unwrap();
    assert_eq!(refused, 1.0, "after {sent} streams {}", site.output());
    let arrived = server.requests().unwrap().len();
    assert!(arrived < 500, "{arrived} of {sent} streams reached the service");
    let origin = Origin::start("b").unwrap();
    let other = crate::site::site(&[origin.address()], "");
    assert_eq!(prior(&other, "/", Curl::default()).status, 200);
    assert!(site.metric("process_resident_memory_bytes", &[]).unwrap() < 100e6);
}

#[test]
fn floods_of_frames_that_bring_nothing_are_cut() {
    let origin = Origin::start("a").unwrap();
    let site = site(&[origin.address()], "");
    let floods: [(&str, Vec<u8>); 5] = [
        ("settings", frame(4, 0, 0, &[])),
        ("pings", frame(6, 0, 0, &[7; 8])),
        ("priorities", frame(2, 0, 3, &[0, 0, 0, 0, 1])),
        ("windows", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", frame(99, 0, 0, &[0; 100])),
    ];
    for (count, (name, one)) in floods.iter().enumerate() {
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send(PREFACE).unwrap();
        let many = one.repeat(64 * 1024 / one.len());
        let mut sent = 0;
        // Whoever reads nothing is stopped by the full socket; that is an end as well.
        while sent < 64 << 20 && conn.send(&many).is_ok() && !conn.ends_within(Duration::from_millis(1)).unwrap() {
            sent += many.len();
        }
        assert!(sent < 32 << 20, "{name}: {sent} bytes were taken");
        assert!(*name != "settings" || sent < 1 << 20, "{sent} bytes of settings were taken");
        let refused = site.metric("listener_connections_refused_total", &["http2_abuse"]).unwrap();
        assert_eq!(refused, count as f64 + 1.0, "{name} {}", site.output());
    }
    // A head without end: parts of it and no last one.
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send([PREFACE, &frame(1, 0, 1, &head(&[]))].concat()).unwrap();
    let part = frame(9, 0, 1, &literal("x-a", &"a".repeat(100)).repeat(100));
    let mut sent = 0;
    while sent < 64 << 20 && conn.send(&part).is_ok() && !conn.ends_within(Duration::from_millis(1)).unwrap() {
        sent += part.len();
    }
    assert!(sent < 1 << 20, "{sent} bytes of a head were taken");
    assert_eq!(prior(&site, "/", Curl::default()).status, 200);
    assert!(site.metric("process_resident_memory_bytes", &[]).unwrap() < 100e6);
}

#[test]
fn a_client_that_takes_nothing_holds_little_and_not_for_ever() {
    let origin = Origin::start("a").unwrap();
    let head_of_file = listeners(free_port());
    let site = start(&format!(
        "{head_of_file}write_timeout = \"2s\"\n[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    let mut conn = RawConn::connect(site.address()).unwrap();
    // No window for any stream.
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    conn.send([&PREFACE[..24], &settings].concat()).unwrap();
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":path", "/bytes/5000000"), (":authority", "shop.example.com")];
    for stream in 0..100 {
        conn.send(frame(1, 5, 2 * stream + 1, &head(&fields))).unwrap();
    }
    let in_flight = |site: &Tenfold| site.metric("upstream_in_flight", &[]);
    site.wait_until("the requests", |site| Ok(in_flight(site)? == 100.0)).unwrap();
    assert_eq!(prior(&site, "/", Curl::default()).status, 200, "others are served");
    let memory = site.metric("process_resident_memory_bytes", &[]).unwrap();
    assert!(memory < 60e6, "{memory} bytes for 100 streams");
    site.wait_until("their end", |site| Ok(in_flight(site)? == 0.0)).unwrap();
    assert_eq!(site.metric("listener_errors_total", &["code=\"write_timeout\""]).unwrap(), 100.0);
}

#[test]
fn a_websocket_over_a_stream_reaches_an_endpoint_of_http1() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nwelcome";
    let script =
        Script::new([Step::AwaitHead, Step::Send(answer.into()), Step::AwaitBytes(5), Step::Send(b"pong!".to_vec())]);
    let server = RawUpstream::start(script).unwrap();
    let site = site(&[server.address()], "");
    run(async {
        let (sender, _connection) = connect(site.address()).await;
        let mut sender = sender.ready().await.unwrap();
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut asked = request("CONNECT", "/chat").header("sec-websocket-protocol", "chat").body(()).unwrap();
        asked.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut body) = sender.send_request(asked, false).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        for gone in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!response.headers().contains_key(gone), "{gone}");
        }
        let first = response.body_mut().data().await.unwrap().unwrap();
        assert_eq!(first, "welcome");
        body.send_data(Bytes::from_static(b"ping!"), false).unwrap();
        let second = response.body_mut().data().await.unwrap().unwrap();
        assert_eq!(second, "pong!");
        let (rest, _) = read(response.body_mut()).await.unwrap();
        assert!(rest.is_empty());
    });
    let request = only_request(&server);
    assert_eq!(request.fields.get("upgrade"), Some("websocket"));
    assert_eq!(request.fields.get("sec-websocket-key").map(str::len), Some(24));
}

#[test]
fn an_endpoint_that_is_not_there_is_an_answer_and_not_a_broken_stream() {
    let site = site(&[dead_address()], "protocol = \"http2\"");
    let answer = prior(&site, "/", Curl::default());
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.text().contains("upstream_connect"));
    assert_eq!(get(&site, "/", "").status, 502);
}
