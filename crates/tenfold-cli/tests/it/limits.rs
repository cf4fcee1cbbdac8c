//! Clients and machines at their limits.

use std::time::{Duration, Instant};

use testkit::{Origin, RawConn, RawUpstream, Script, Step, Tenfold, free_port};

use crate::site::{ask, check_own, command, get, listeners, site, start};

/// A site whose listener has further settings.
fn limited(endpoint: std::net::SocketAddr, listener: &str, service: &str) -> Tenfold {
    start(&text(endpoint, listener, service))
}

fn text(endpoint: std::net::SocketAddr, listener: &str, service: &str) -> String {
    let (admin, port) = (free_port(), free_port());
    format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{port}\"\n{listener}\n\
         [[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"{endpoint}\"]\n{service}\n"
    )
}

#[test]
fn a_slow_head_is_cut_and_harms_no_one() {
    let origin = Origin::start("a").unwrap();
    let site = limited(origin.address(), "head_timeout = \"300ms\"", "");
    let mut slow = RawConn::connect(site.address()).unwrap();
    slow.send("GET / HTTP/1.1\r\nHost: exam").unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        assert_eq!(get(&site, "/", "").status, 200);
    }
    // A byte now and then does not buy time: the limit is for the whole head.
    slow.send("ple").unwrap();
    assert_eq!(slow.read_response("GET").unwrap().status, 408);
    assert!(slow.ends_within(Duration::from_secs(3)).unwrap());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_slow_body_is_cut_and_harms_no_one() {
    let origin = Origin::start("a").unwrap();
    let site = limited(origin.address(), "body_timeout = \"300ms\"", "");
    let mut slow = RawConn::connect(site.address()).unwrap();
    slow.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    let response = slow.read_response("POST").unwrap();
    check_own(&response, 408, "body_timeout");
    assert_eq!(get(&site, "/", "").status, 200);
}

#[test]
fn a_client_that_reads_nothing_is_cut_and_counted() {
    let origin = Origin::start("a").unwrap();
    let site = limited(origin.address(), "write_timeout = \"300ms\"", "");
    let mut slow = RawConn::connect(site.address()).unwrap();
    slow.send("GET /stream/100000000 HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    let counted = |site: &Tenfold| site.metric("listener_errors_total", &["code=\"write_timeout\""]);
    site.wait_until("its end", |site| Ok(counted(site)? == 1.0)).unwrap();
    assert_eq!(get(&site, "/", "").status, 200);
}

#[test]
fn a_silent_service_is_cut() {
    let silent = RawUpstream::start(Script::new([Step::AwaitHead, Step::Drain])).unwrap();
    let quick = site(&[silent.address()], "response_timeout = \"200ms\"\nretry = \"off\"");
    check_own(&get(&quick, "/", ""), 504, "upstream_timeout");
    // The route's limit holds for all tries together.
    let (admin, port) = (free_port(), free_port());
    let overall = start(&format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{port}\"\n\
         [[route]]\nservice = \"api\"\ntimeout = \"500ms\"\n\
         [service.api]\nendpoints = [\"{}\"]\nresponse_timeout = \"200ms\"\nretry = {{ max = 10 }}\npassive_health = \"off\"\n",
        silent.address()
    ));
    let begun = Instant::now();
    check_own(&get(&overall, "/", ""), 504, "upstream_timeout");
    let took = begun.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_millis(1500)).contains(&took), "{took:?}");
}

#[test]
fn an_idle_connection_is_closed_quietly() {
    let origin = Origin::start("a").unwrap();
    let site = limited(origin.address(), "idle_timeout = \"200ms\"", "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().status, 200);
    assert_eq!(conn.read_to_end().unwrap(), b"");
}

#[test]
fn a_route_may_let_bodies_pause_for_longer() {
    let chunk = |text: &str| Step::Send(text.into());
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    let steps =
        [Step::AwaitRequest, chunk(head), Step::Pause(Duration::from_millis(600)), chunk("1\r\nb\r\n0\r\n\r\n")];
    let server = RawUpstream::start(Script::new(steps.into_iter().chain([Step::Repeat]))).unwrap();
    let site = start(&format!(
        "{}body_timeout = \"200ms\"\n[[route]]\nname = \"api\"\nservice = \"api\"\n\
         [[route]]\npath = \"/events\"\nservice = \"api\"\nbody_timeout = \"20s\"\n\
         [service.api]\nendpoints = [\"{}\"]\nbody_timeout = \"200ms\"\n",
        listeners(free_port()),
        server.address()
    ));
    assert_eq!(get(&site, "/events", "").text(), "ab");
    let mut cut = RawConn::connect(site.address()).unwrap();
    cut.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    assert!(cut.read_response("GET").is_err());
    let post = |path: &str| {
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send(format!("POST {path} HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\na")).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        // Who was answered meanwhile may not be able to send any more.
        let _answered = conn.send("b");
        conn.read_response("POST").unwrap()
    };
    assert_eq!(post("/events").text(), "ab");
    check_own(&post("/"), 408, "body_timeout");
}

#[test]
fn a_body_too_large_is_refused() {
    let origin = Origin::start("a").unwrap();
    let site = limited(origin.address(), "body_bytes_max = \"10B\"", "");
    let told = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 11\r\n\r\n";
    check_own(&ask(site.address(), told, "POST"), 413, "body_too_large");
    let found =
        "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n";
    check_own(&ask(site.address(), found, "POST"), 413, "body_too_large");
    let within = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\n1234567890";
    assert_eq!(ask(site.address(), within, "POST").status, 200);
}

#[test]
fn connections_beyond_the_cap_are_closed_and_counted() {
    let origin = Origin::start("a").unwrap();
    let site = limited(origin.address(), "connections_max = 3", "");
    let mut kept: Vec<RawConn> = (0..3).map(|_| RawConn::connect(site.address()).unwrap()).collect();
    for conn in &mut kept {
        conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
        assert_eq!(conn.read_response("GET").unwrap().status, 200);
    }
    let mut refused = RawConn::connect(site.address()).unwrap();
    assert_eq!(refused.read_to_end().unwrap(), b"");
    assert_eq!(site.metric("listener_connections_refused_total", &["reason=\"connections_max\""]).unwrap(), 1.0);
    drop(kept.pop());
    site.wait_until("room", |site| {
        let mut conn = RawConn::connect(site.address())?;
        conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")?;
        Ok(conn.read_response("GET").is_ok())
    })
    .unwrap();
}

#[test]
fn out_of_descriptors_connections_are_shed_and_the_process_lives() {
    let origin = Origin::start("a").unwrap();
    let mut limited = std::process::Command::new("sh");
    let program = command().get_program().to_owned();
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(program);
    let site = Tenfold::start_with(limited, &text(origin.address(), "", "")).unwrap();
    let mut held: Vec<RawConn> = Vec::new();
    for _ in 0..100 {
        held.extend(RawConn::connect(site.address()));
    }
    // The admin listener needs a descriptor too, so the log tells first.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !site.output().contains("connections refused") {
        assert!(Instant::now() < deadline, "{}", site.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(held);
    site.wait_until("it serves again", |site| {
        let mut conn = RawConn::connect(site.address())?;
        conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")?;
        Ok(conn.read_response("GET").is_ok_and(|response| response.status == 200))
    })
    .unwrap();
    assert!(site.metric("listener_connections_refused_total", &["reason=\"resource_limit\""]).unwrap() >= 1.0);
}
