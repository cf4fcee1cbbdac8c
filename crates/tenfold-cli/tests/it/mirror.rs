//! Mirroring: copies that nobody waits for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::{Curl, Load, LoadParams, Origin, RawUpstream, Script, Step, Tenfold, free_port};

use crate::site::{ask, dead_address, get, listeners, start};

/// A site whose requests go to `main`, and with these settings to `shadow`, which has time enough on a busy machine: a copy
/// that is out of time is one that may not have arrived, or is tried again and arrives twice.
fn mirrored(main: SocketAddr, shadow: SocketAddr, settings: &str) -> Tenfold {
    mirrored_within(main, shadow, settings, "60s")
}

/// The same, with this time for the mirror's answers.
fn mirrored_within(main: SocketAddr, shadow: SocketAddr, settings: &str, response_timeout: &str) -> Tenfold {
    let head = listeners(free_port());
    start(&format!(
        "{head}[[route]]\nname = \"api\"\nservice = \"api\"\nmirror = {{ service = \"shadow\", {settings} }}\n\
         [service.api]\nendpoints = [\"{main}\"]\n[service.shadow]\nendpoints = [\"{shadow}\"]\n\
         response_timeout = \"{response_timeout}\"\n"
    ))
}

fn counted(site: &Tenfold, result: &str) -> f64 {
    site.metric("http_requests_mirrored_total", &[&format!("result=\"{result}\"")]).unwrap()
}

#[test]
fn requests_are_copied_with_their_bodies() {
    let main = Origin::start("main").unwrap();
    let shadow = RawUpstream::start(Script::ok("shadow")).unwrap();
    let site = mirrored(main.address(), shadow.address(), "body_bytes_max = \"1KiB\"");
    assert_eq!(get(&site, "/a?b=c", "X-Custom: 1\r\n").fields.get("x-instance"), Some("main"));
    let post = "POST /p HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(ask(site.address(), post, "POST").status, 200);
    let chunked = "POST /c HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n";
    assert_eq!(ask(site.address(), chunked, "POST").status, 200);
    let over_http2 = Curl::default().flag("--http2-prior-knowledge").with("--data", "over-http2");
    assert_eq!(over_http2.get(&format!("http://{}/h", site.address())).unwrap().status, 200);
    site.wait_until("the copies", |_| Ok(shadow.requests()?.len() == 4)).unwrap();
    let mut requests = shadow.requests().unwrap();
    requests.sort_by(|a, b| a.target.cmp(&b.target));
    let seen: Vec<_> = requests.iter().map(|request| (request.target.as_str(), request.body.as_slice())).collect();
    let expected: [(&str, &[u8]); 4] = [("/a?b=c", b""), ("/c", b"abcde"), ("/h", b"over-http2"), ("/p", b"hello")];
    assert_eq!(seen, expected);
    assert_eq!(requests[0].fields.get("x-custom"), Some("1"));
    assert_eq!(requests[0].fields.get("x-forwarded-for"), Some("127.0.0.1"));
    // What is too large for the route's bound goes to the main service alone.
    let large = format!("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(2000));
    assert_eq!(ask(site.address(), &large, "POST").status, 200);
    site.wait_until("the count", |site| Ok(counted(site, "dropped") == 1.0)).unwrap();
    assert_eq!(counted(&site, "sent"), 4.0);
}

#[test]
fn a_share_is_copied() {
    let (main, shadow) = (Origin::start("main").unwrap(), Origin::start("shadow").unwrap());
    let site = mirrored(main.address(), shadow.address(), "share = \"25%\"");
    let load = Load::start(&LoadParams::new(site.address()));
    std::thread::sleep(Duration::from_secs(2));
    let report = load.stop();
    assert!(report.failures.is_empty(), "{report:?}");
    let total = main.requests() as f64;
    let share = (counted(&site, "sent") + counted(&site, "dropped")) / total;
    // Four standard deviations of a quarter of so many requests.
    let bound = 4.0 * (0.25 * 0.75 / total).sqrt();
    assert!((share - 0.25).abs() < bound, "{share} of {total}");
    let arrived = site.wait_until("the copies", |site| Ok(shadow.requests() as f64 == counted(site, "sent")));
    assert!(arrived.is_ok(), "{} of {} arrived: {arrived:?}", shadow.requests(), counted(&site, "sent"));
}

#[test]
fn a_mirror_that_is_dead_or_silent_harms_nothing() {
    let silent = RawUpstream::start(Script::new([Step::AwaitRequest, Step::Drain])).unwrap();
    for shadow in [dead_address(), silent.address()] {
        let main = Origin::start("main").unwrap();
        let site = mirrored_within(main.address(), shadow, "share = \"100%\"", "500ms");
        let mut slowest = Duration::ZERO;
        for _ in 0..300 {
            let begun = Instant::now();
            assert_eq!(get(&site, "/", "").status, 200);
            slowest = slowest.max(begun.elapsed());
        }
        assert!(slowest < Duration::from_millis(400), "{slowest:?}");
        // A client has its answer a moment before that is counted.
        let counted = |site: &Tenfold| Ok(site.metric("http_requests_total", &["status=\"200\""])? == 300.0);
        site.wait_until("the count", counted).unwrap();
        // Copies that nobody answers end by their own time.
        site.wait_until("their end", |site| Ok(site.metric("upstream_in_flight", &[])? == 0.0)).unwrap();
    }
}
