//! Services that are offered more than they can do.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http2::{Http2Conn, frame, hpack};
use testkit::{OpenLoop, Origin, RawConn, RawUpstream, Script, SlotServer, Step, Tenfold, free_port};

use crate::site::{apply, check_own, get, listeners, page, start};

/// One place for normal requests, two for critical ones, and a queue that nobody leaves by the clock.
const ONE_PLACE: &str = "shedding = { limit_min = 2, limit_max = 2, low_share = \"50%\", normal_share = \"50%\", \
                         queue_max = 10, queue_timeout = \"1m\" }";

/// As that, without a queue.
const NO_QUEUE: &str =
    "shedding = { limit_min = 2, limit_max = 2, normal_share = \"50%\", low_share = \"50%\", queue_max = 0 }";

/// A site whose routes have all priorities, by paths of their names, and one that requests may choose it on.
fn text(endpoint: SocketAddr, service: &str) -> String {
    let routes: String = ["low", "critical", "exempt"]
        .iter()
        .map(|class| {
            format!("[[route]]\nname = \"{class}\"\npath = \"/{class}\"\nservice = \"api\"\npriority = \"{class}\"\n")
        })
        .collect();
    format!(
        "{}[[route]]\nname = \"api\"\nservice = \"api\"\n{routes}\
         [[route]]\npath = \"/said\"\nservice = \"api\"\npriority = {{ class = \"low\", header = \"Importance\", header_max = \"critical\" }}\n\
         [service.api]\nendpoints = [\"{endpoint}\"]\nretry = \"off\"\npassive_health = \"off\"\nresponse_timeout = \"1h\"\n{service}\n",
        listeners(free_port())
    )
}

fn silent() -> RawUpstream {
    RawUpstream::start(Script::new([Step::AwaitRequest, Step::Drain])).unwrap()
}

fn site(upstream: &RawUpstream, service: &str) -> Tenfold {
    start(&text(upstream.address(), service))
}

/// Sends a request, and does not wait.
fn send(site: &Tenfold, path: &str) -> RawConn {
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")).unwrap();
    conn
}

fn paths(upstream: &RawUpstream) -> Vec<String> {
    upstream.requests().unwrap().into_iter().map(|request| request.target).collect()
}

fn level(site: &Tenfold, family: &str) -> f64 {
    site.metric(family, &["service=\"api\""]).unwrap()
}

fn counted(site: &Tenfold, class: &str, result: &str) -> f64 {
    let labels = [format!("class=\"{class}\""), format!("result=\"{result}\"")];
    site.metric("shedding_requests_total", &[&labels[0], &labels[1]]).unwrap()
}

fn wait_for(site: &Tenfold, family: &str, wanted: f64) {
    site.wait_until(family, |site| Ok(site.metric(family, &["service=\"api\""])? == wanted)).unwrap();
}

#[test]
fn the_least_important_are_refused_first() {
    let upstream = silent();
    let site = site(&upstream, NO_QUEUE);
    let _first = send(&site, "/");
    wait_for(&site, "shedding_in_flight", 1.0);
    let refused = get(&site, "/", "");
    check_own(&refused, 503, "shed");
    let after: u64 = refused.fields.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&after), "{after}");
    assert_eq!(get(&site, "/low", "").status, 503);
    assert_eq!(get(&site, "/said", "").status, 503);
    assert_eq!(get(&site, "/said", "Importance: normal\r\n").status, 503);
    // A client cannot make itself more important where nobody asked it.
    assert_eq!(get(&site, "/low", "Importance: critical\r\n").status, 503);
    let mut said = RawConn::connect(site.address()).unwrap();
    said.send("GET /said HTTP/1.1\r\nHost: shop.example.com\r\nImportance: critical\r\n\r\n").unwrap();
    wait_for(&site, "shedding_in_flight", 2.0);
    assert_eq!(get(&site, "/critical", "").status, 503);
    let _exempt = send(&site, "/exempt");
    site.wait_until("three requests", |_| Ok(upstream.requests()?.len() == 3)).unwrap();
    assert_eq!(level(&site, "shedding_in_flight"), 2.0, "what is exempt is not counted");
    assert_eq!(level(&site, "shedding_limit"), 2.0);
    assert_eq!(["low", "normal", "critical"].map(|class| counted(&site, class, "refused")), [3.0, 2.0, 1.0]);
    assert_eq!(["low", "normal", "critical"].map(|class| counted(&site, class, "admitted")), [0.0, 1.0, 1.0]);
    assert_eq!(site.metric("listener_errors_total", &["code=\"shed\""]).unwrap(), 6.0);
    let shown = page(&site, "/api/services/api")["shedding"].clone();
    assert_eq!((shown["limit"].as_u64(), shown["in_flight"].as_u64()), (Some(2), Some(2)));
    assert_eq!(shown["refused"]["low"], 3);
}

#[test]
fn who_waits_is_served_when_a_place_is_free() {
    let upstream = silent();
    let site = site(&upstream, ONE_PLACE);
    let first = send(&site, "/first");
    wait_for(&site, "shedding_in_flight", 1.0);
    let mut second = send(&site, "/second");
    wait_for(&site, "shedding_waiting", 1.0);
    // What is counted as under way may still be on its way to the service.
    site.wait_until("the first request", |_| Ok(paths(&upstream) == ["/first"])).unwrap();
    // Who is answered, or is not any more, gives its place back.
    upstream.set_script(Script::answer_once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
    upstream.clear();
    assert_eq!(second.read_response("GET").unwrap().status, 200);
    assert_eq!(paths(&upstream), ["/second"]);
    assert_eq!(counted(&site, "normal", "waited"), 1.0);
    drop(first);
    wait_for(&site, "shedding_in_flight", 0.0);
}

#[test]
fn who_has_gone_while_it_waited_is_not_sent() {
    let upstream = silent();
    let site = site(&upstream, ONE_PLACE);
    let _first = send(&site, "/first");
    wait_for(&site, "shedding_in_flight", 1.0);
    let gone = send(&site, "/gone");
    let mut hidden = RawConn::connect(site.address()).unwrap();
    hidden.send("POST /hidden HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 10\r\n\r\n").unwrap();
    let mut stream = Http2Conn::new(RawConn::connect(site.address()).unwrap());
    stream.begin(&[], Duration::from_secs(10)).unwrap();
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example.com"), (":path", "/stream")];
    stream.send(&frame::headers(1, true, &hpack::literals(&fields))).unwrap();
    wait_for(&site, "shedding_waiting", 3.0);
    stream.send(&frame::reset(1, frame::code::CANCEL)).unwrap();
    wait_for(&site, "shedding_waiting", 2.0);
    drop(gone);
    wait_for(&site, "shedding_waiting", 1.0);
    // The end of this one lies behind bytes that nobody reads yet.
    hidden.send("abc").unwrap();
    drop(hidden);
    let mut last = send(&site, "/low");
    let of_last = |site: &Tenfold| site.metric("http_requests_in_flight", &["endpoint=\"low\""]);
    site.wait_until("the last waits", |site| Ok(of_last(site)? == 1.0)).unwrap();
    upstream.set_script(Script::answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    upstream.clear();
    assert_eq!(last.read_response("GET").unwrap().status, 200);
    assert_eq!(paths(&upstream), ["/low"]);
    assert_eq!(counted(&site, "normal", "gone"), 3.0);
}

#[test]
fn whose_time_is_over_is_not_sent() {
    let upstream = silent();
    let mut config = text(upstream.address(), ONE_PLACE);
    config = config.replace("name = \"low\"\n", "name = \"low\"\ntimeout = \"100ms\"\n");
    let site = start(&config);
    let _first = send(&site, "/first");
    wait_for(&site, "shedding_in_flight", 1.0);
    let late = get(&site, "/low", "");
    assert_eq!((late.status, late.text().contains("\"shed\"")), (503, true));
    assert_eq!(counted(&site, "low", "late"), 1.0);
    site.wait_until("the first request", |_| Ok(!paths(&upstream).is_empty())).unwrap();
    assert_eq!(paths(&upstream), ["/first"]);
}

#[test]
fn a_place_is_held_until_the_head_of_the_response() {
    let stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    let steps = [Step::AwaitRequest, Step::SendFor("/stream".to_owned(), stream.into()), Step::Drain];
    let upstream = RawUpstream::start(Script::new(steps)).unwrap();
    let site = site(&upstream, NO_QUEUE);
    let mut streams = Vec::new();
    for count in 1..=3 {
        streams.push(send(&site, "/stream"));
        site.wait_until("begun", |site| Ok(site.metric("upstream_responses_total", &[])? == f64::from(count))).unwrap();
        wait_for(&site, "shedding_in_flight", 0.0);
    }
    assert_eq!(level(&site, "upstream_in_flight"), 3.0);
    assert_eq!(counted(&site, "normal", "admitted"), 3.0);
}

#[test]
fn a_slow_upload_holds_its_place_for_a_moment_only() {
    let upstream = RawUpstream::start(Script::ok("well")).unwrap();
    let site = site(&upstream, NO_QUEUE);
    let mut slow = RawConn::connect(site.address()).unwrap();
    slow.send("POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 4\r\n\r\nab").unwrap();
    wait_for(&site, "shedding_in_flight", 1.0);
    assert_eq!(get(&site, "/", "").status, 503);
    wait_for(&site, "shedding_in_flight", 0.0);
    assert_eq!(get(&site, "/", "").status, 200);
    // It goes on all the same.
    slow.send("cd").unwrap();
    assert_eq!(slow.read_response("POST").unwrap().status, 200);
}

#[test]
fn a_fallback_is_served_for_what_is_shed() {
    let upstream = silent();
    let site = site(&upstream, &format!("{NO_QUEUE}\nfallback = {{ status = 200, body = \"later\" }}"));
    let _first = send(&site, "/");
    wait_for(&site, "shedding_in_flight", 1.0);
    assert_eq!(get(&site, "/", "").text(), "later");
    assert_eq!(site.metric("service_fallbacks_total", &[]).unwrap(), 1.0);
}

#[test]
fn copies_are_refused_first_and_do_not_wait() {
    let (origin, shadow) = (Origin::start("a").unwrap(), silent());
    let site = start(&format!(
        "{}[[route]]\nservice = \"api\"\npriority = \"critical\"\nmirror = {{ service = \"shadow\", share = \"100%\" }}\n\
         [service.api]\nendpoints = [\"{}\"]\n[service.shadow]\nendpoints = [\"{}\"]\n{ONE_PLACE}\n",
        listeners(free_port()),
        origin.address(),
        shadow.address()
    ));
    let of_shadow = |result: &str| {
        let labels = ["service=\"shadow\"", "class=\"low\"", &format!("result=\"{result}\"")];
        site.metric("shedding_requests_total", &labels).unwrap()
    };
    assert_eq!(get(&site, "/", "").status, 200);
    site.wait_until("copied", |_| Ok(of_shadow("admitted") == 1.0)).unwrap();
    assert_eq!(get(&site, "/", "").status, 200);
    site.wait_until("refused", |_| Ok(of_shadow("refused") == 1.0)).unwrap();
    assert_eq!(site.metric("shedding_waiting", &["service=\"shadow\""]).unwrap(), 0.0);
}

#[test]
fn a_reload_keeps_what_is_known() {
    let upstream = silent();
    let mut site = site(&upstream, ONE_PLACE);
    let _first = send(&site, "/first");
    wait_for(&site, "shedding_in_flight", 1.0);
    let text = std::fs::read_to_string(site.config())
        .unwrap()
        .replace("response_timeout = \"1h\"", "response_timeout = \"50m\"");
    apply(&mut site, &text);
    assert_eq!((level(&site, "shedding_in_flight"), counted(&site, "normal", "admitted")), (1.0, 1.0));
    let _second = send(&site, "/second");
    wait_for(&site, "shedding_waiting", 1.0);
}

#[test]
fn who_has_gone_while_a_connection_was_made_is_not_sent() {
    // The kernel completes no further connection until somebody accepts those that wait.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let waiting = std::net::TcpStream::connect(address).unwrap();
    let site = start(&text(address, "connect_timeout = \"30s\""));
    let gone = send(&site, "/gone");
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 1.0)).unwrap();
    // Not an end of what it says, but one of the connection.
    gone.reset();
    let accepted = listener.accept().unwrap().0;
    drop((waiting, accepted));
    let (upstream, _) = listener.accept().unwrap();
    site.wait_until("given up", |site| Ok(site.metric("upstream_in_flight", &[])? == 0.0)).unwrap();
    assert_eq!(site.metric("http_requests_total", &["status=\"499\""]).unwrap(), 1.0);
    drop(site);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::net::TcpStream::from(upstream), &mut bytes).unwrap();
    assert_eq!(bytes, b"", "nothing was sent on it");
}

/// What a service of four slots of 40 ms makes of three times what it can do: the share of its capacity that was answered in
/// time, of critical requests and all together.
fn goodput(service: &str) -> (f64, f64) {
    let server = SlotServer::start(4, Duration::from_millis(40)).unwrap();
    let site = start(&text(server.address(), service));
    let (time, warm_up) = (Duration::from_secs(4), Duration::from_secs(2));
    let paths = [("/critical", 1), ("/", 4), ("/low", 10)].map(|(path, share)| (path.to_owned(), share)).to_vec();
    let deadline = Duration::from_secs(1);
    let load = OpenLoop { address: site.address(), rate: 300, time, warm_up, deadline, paths, seed: 1 };
    let offered = load.run().unwrap();
    assert!(offered.iter().all(|one| one.failed == 0 && one.told_when == one.refused), "{offered:?}");
    let capacity = 100.0 * (time - warm_up).as_secs_f64();
    let all: u64 = offered.iter().map(|one| one.good).sum();
    (offered[0].good as f64 / capacity, all as f64 / capacity)
}

#[test]
fn three_times_what_it_can_do() {
    // What is offered of the critical is a fifth of the capacity. Machines of tests are busy, so the bounds are wide; the
    // bench has the narrow ones.
    let (critical, all) = goodput("shedding = {}");
    assert!(all > 0.5 && critical > 0.1, "{critical} of critical, {all} of all");
    let (_, all) = goodput("");
    assert!(all < 0.3, "without shedding {all} was answered in time");
}
