//! What the edge cache fetches: for how many at once, and what becomes of it when something fails.

use std::sync::Barrier;
use std::time::Duration;

use testkit::{Curl, RawConn, RawUpstream, Script, Step};

use crate::caching::{answer, asked, cached, config, origin, purge, told};
use crate::site::{ask, dead_address, get, start};

#[test]
fn a_hundred_cold_requests_are_one() {
    let body = "b".repeat(100_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nCache-Control: max-age=60\r\n\r\n", body.len());
    let (first, second) = body.split_at(50_000);
    let script = [
        Step::AwaitRequest,
        Step::Pause(Duration::from_millis(200)),
        Step::Send(format!("{head}{first}").into_bytes()),
        Step::Pause(Duration::from_millis(200)),
        Step::Send(second.into()),
        Step::Repeat,
    ];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let site = cached(&upstream, "");
    let (address, barrier) = (site.address(), Barrier::new(100));
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut conn = RawConn::connect(address).unwrap();
                barrier.wait();
                conn.send("GET /cold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                let response = conn.read_response("GET").unwrap();
                assert_eq!((response.status, response.body.len()), (200, 100_000));
            });
        }
    });
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn variants_are_fetched_side_by_side() {
    let body = |kind: &str| {
        let fields = "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n";
        answer(fields, kind)
    };
    // The body says in which language it was asked for, as far as the target tells.
    let slow = [Step::AwaitRequest, Step::Pause(Duration::from_millis(200)), Step::Send(body("v")), Step::Repeat];
    let upstream = RawUpstream::start(Script::new(slow)).unwrap();
    let site = cached(&upstream, "");
    let address = site.address();
    std::thread::scope(|scope| {
        for at in 0..40 {
            let language = ["de", "en"][at % 2];
            let request = format!("GET /v HTTP/1.1\r\nHost: a\r\nAccept-Language: {language}\r\n\r\n");
            scope.spawn(move || assert_eq!(ask(address, &request, "GET").text(), "v"));
        }
    });
    let mut languages: Vec<_> = upstream.requests().unwrap();
    languages.sort_by_key(|request| request.fields.get("accept-language").map(str::to_owned));
    let languages: Vec<_> = languages.iter().map(|request| request.fields.get("accept-language").unwrap()).collect();
    assert_eq!(languages, ["de", "en"]);
}

#[test]
fn what_has_expired_is_validated_once() {
    let fields = "Cache-Control: max-age=0\r\nETag: \"v1\"\r\n";
    let upstream = origin(fields, "hello");
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "").text(), "hello");
    let good = format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes();
    let slow = [Step::AwaitRequest, Step::Pause(Duration::from_millis(300)), Step::Send(good), Step::Repeat];
    upstream.set_script(Script::new(slow));
    upstream.clear();
    let (address, barrier) = (site.address(), Barrier::new(50));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut conn = RawConn::connect(address).unwrap();
                barrier.wait();
                conn.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
                assert_eq!(conn.read_response("GET").unwrap().text(), "hello");
            });
        }
    });
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn a_long_body_of_unknown_length_goes_as_fast_as_its_client() {
    // Longer than anything that stays in memory, and than sockets hold.
    let length = 24 << 20;
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    bytes.resize(head.len() + length, b'x');
    let upstream = RawUpstream::start(Script::answer_once(bytes)).unwrap();
    let site = start(&config(upstream.address(), "").replace("[[route]]", "[cache]\nmemory = \"4MiB\"\n[[route]]"));
    let curl = Curl::default().with("--limit-rate", "16M");
    let answer = curl.get(&format!("http://{}/long", site.address())).unwrap();
    assert_eq!((answer.status, answer.body.len(), answer.code), (200, length, 0), "{}", answer.error);
}

#[test]
fn what_is_for_one_alone_is_fetched_side_by_side() {
    let slow = [Step::AwaitRequest, Step::Pause(Duration::from_secs(1)), Step::Send(answer("", "mine")), Step::Repeat];
    let upstream = RawUpstream::start(Script::new(slow)).unwrap();
    let site = cached(&upstream, "");
    let address = site.address();
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(ask(address, "GET /own HTTP/1.1\r\nHost: a\r\n\r\n", "GET").text(), "mine"));
        }
    });
    // The first tells that it is not for the others, and these then take their time beside each other: one after the other, they
    // would take twenty seconds.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(asked(&upstream), 20);
}

#[test]
fn nobody_waits_for_long_for_another() {
    let answer = answer("Cache-Control: max-age=60\r\n", "slow");
    let slow = [Step::AwaitRequest, Step::Pause(Duration::from_millis(1500)), Step::Send(answer), Step::Repeat];
    let upstream = RawUpstream::start(Script::new(slow)).unwrap();
    let site = cached(&upstream, "collapse_wait = \"200ms\"");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&site, "/", ""));
        site.wait_until("the request", |_| Ok(asked(&upstream) == 1)).unwrap();
        let second = get(&site, "/", "");
        assert_eq!(second.text(), "slow");
        assert!(
            told(&second).starts_with("tenfold;fwd=uri-miss") && !told(&second).contains("collapsed"),
            "{second:?}"
        );
        assert_eq!(first.join().unwrap().text(), "slow");
    });
    assert_eq!(asked(&upstream), 2);
}

#[test]
fn who_comes_late_reads_from_the_beginning_over_http2_too() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n5\r\nfirst\r\n";
    let script = [
        Step::AwaitRequest,
        Step::Send(head.into()),
        Step::Pause(Duration::from_millis(600)),
        Step::Send(b"4\r\nlast\r\n0\r\n\r\n".to_vec()),
        Step::Repeat,
    ];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let site = cached(&upstream, "key = { host = false }");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&site, "/", ""));
        site.wait_until("the request", |_| Ok(asked(&upstream) == 1)).unwrap();
        let late = Curl::default().flag("--http2-prior-knowledge").get(&format!("http://{}/", site.address())).unwrap();
        assert_eq!((late.status, late.text().as_str(), late.code), (200, "firstlast", 0), "{late:?}");
        assert!(late.field("cache-status").unwrap().contains("collapsed"), "{}", late.head);
        assert_eq!(first.join().unwrap().text(), "firstlast");
    });
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn a_client_that_leaves_ends_nothing() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=60\r\n\r\n";
    let script = [
        Step::AwaitRequest,
        Step::Send(format!("{head}half").into_bytes()),
        Step::Pause(Duration::from_millis(300)),
        Step::Send(b"half".to_vec()),
        Step::Repeat,
    ];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let site = cached(&upstream, "");
    let mut leaving = RawConn::connect(site.address()).unwrap();
    leaving.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    site.wait_until("the request", |_| Ok(asked(&upstream) == 1)).unwrap();
    drop(leaving);
    assert_eq!(ask(site.address(), "GET /left HTTP/1.1\r\nHost: a\r\n\r\n", "GET").text(), "halfhalf");
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn a_body_that_breaks_off_is_not_stored_and_looks_broken() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=60\r\n\r\nhalf";
    let script = Script::new([Step::AwaitRequest, Step::Send(head.into()), Step::Close]);
    let upstream = RawUpstream::start(script).unwrap();
    let site = cached(&upstream, "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET /broken HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    assert!(conn.read_response("GET").is_err());
    upstream.set_script(Script::answer(answer("Cache-Control: max-age=60\r\n", "halfhalf")));
    let second = get(&site, "/broken", "");
    assert_eq!(second.text(), "halfhalf");
    assert!(told(&second).starts_with("tenfold;fwd=uri-miss"), "{second:?}");
}

#[test]
fn bodies_without_a_length_are_stored_whole() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
    let upstream = RawUpstream::start(Script::answer(chunked)).unwrap();
    let site = cached(&upstream, "");
    let first = get(&site, "/", "");
    assert_eq!(first.text(), "hello!");
    let second = get(&site, "/", "");
    assert_eq!((second.text().as_ref(), second.fields.get("content-length")), ("hello!", Some("6")));
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn stale_is_better_than_a_failure() {
    let fields = "Cache-Control: max-age=0, stale-if-error=60\r\nETag: \"v1\"\r\n";
    for failure in ["HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", ""] {
        let upstream = origin(fields, "old");
        let site = cached(&upstream, "");
        assert_eq!(get(&site, "/", "").text(), "old");
        upstream.set_script(match failure {
            "" => Script::new([Step::AwaitRequest, Step::Reset]),
            answer => Script::answer(answer),
        });
        upstream.clear();
        for _ in 0..2 {
            let response = get(&site, "/", "");
            assert_eq!((response.status, response.text().as_ref()), (200, "old"), "{failure}");
            assert!(told(&response).contains("stale-if-error"), "{response:?}");
        }
        // What nobody knows fails as it did before.
        assert!(get(&site, "/other", "").status >= 500);
    }
}

#[test]
fn stale_is_served_while_it_is_fetched_again() {
    let upstream = origin("Cache-Control: max-age=0, stale-while-revalidate=60\r\n", "old");
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "").text(), "old");
    upstream.set_script(Script::answer(answer("Cache-Control: max-age=60\r\n", "new")));
    upstream.clear();
    let stale = get(&site, "/", "");
    assert_eq!(stale.text(), "old");
    assert!(told(&stale).starts_with("tenfold;hit;ttl=-"), "{stale:?}");
    site.wait_until("the new one", |site| Ok(get(site, "/", "").text() == "new")).unwrap();
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn no_service_at_all_is_told_to_all_who_wait() {
    let site = start(&config(dead_address(), "status_ttl = { \"404\" = \"10s\" }"));
    assert_eq!(get(&site, "/", "").status, 502);
    assert_eq!(get(&site, "/", "Cache-Control: only-if-cached\r\n").status, 504);
}

#[test]
fn what_was_fetched_across_a_purge_is_not_fresh() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=60\r\n\r\nhalf";
    let script = [
        Step::AwaitRequest,
        Step::Send(head.into()),
        Step::Pause(Duration::from_millis(500)),
        Step::Send(b"half".to_vec()),
        Step::Repeat,
    ];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let site = cached(&upstream, "");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&site, "/a", ""));
        site.wait_until("the request", |_| Ok(asked(&upstream) == 1)).unwrap();
        purge(&site, &["--url", "shop.example.com/a"]);
        assert_eq!(first.join().unwrap().text(), "halfhalf");
    });
    assert!(told(&get(&site, "/a", "")).starts_with("tenfold;fwd=uri-miss"));
    assert_eq!(asked(&upstream), 2);
}

/// Asks at several speeds at once for a body of which neither tier keeps anything, and checks what each gets.
fn read_at_many_speeds(framing: &str, before: &str, after: &str) {
    let length = 6 << 20;
    let body: Vec<u8> = (0_u32..).flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_le_bytes()).take(length).collect();
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}\r\n\r\n{before}");
    let script = [
        Step::AwaitRequest,
        Step::Send(head.into()),
        // All are there before anything is gone.
        Step::Pause(Duration::from_secs(2)),
        Step::Send([&body, after.as_bytes()].concat()),
        Step::Close,
    ];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let text = config(upstream.address(), "object_bytes_max = \"64MiB\"");
    let site = start(&text.replace("[[route]]", "[cache]\nmemory = \"2MiB\"\n[[route]]"));
    let (url, body) = (format!("http://{}/long", site.address()), &body);
    std::thread::scope(|scope| {
        for rate in ["3M", "5M", "12M", "1G"] {
            let curl = Curl::default().with("--limit-rate", rate);
            let url = url.as_str();
            scope.spawn(move || {
                let answer = curl.get(url).unwrap();
                assert_eq!(
                    (answer.status, answer.code, answer.body.len()),
                    (200, 0, length),
                    "{rate}: {}",
                    answer.error
                );
                assert!(answer.body == *body, "{rate}: other bytes");
            });
        }
    });
    assert_eq!(asked(&upstream), 1);
    assert_eq!(site.metric("cache_readers_cut_total", &[]).unwrap_or_default(), 0.0);
}

#[test]
fn what_nothing_keeps_arrives_whole_at_every_speed() {
    let length = 6 << 20;
    read_at_many_speeds(&format!("Content-Length: {length}"), "", "");
    read_at_many_speeds("Transfer-Encoding: chunked", &format!("{length:x}\r\n"), "\r\n0\r\n\r\n");
}

#[test]
fn a_body_that_turns_out_too_long_is_passed_on_whole_and_not_stored() {
    let body = "x".repeat(3 << 20);
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bytes = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let upstream = RawUpstream::start(Script::answer(bytes)).unwrap();
    let site = cached(&upstream, "object_bytes_max = \"1MiB\"");
    for _ in 0..2 {
        let response = get(&site, "/", "");
        assert!(told(&response).starts_with("tenfold;fwd=uri-miss"), "{}", told(&response));
        assert!(response.body == body.as_bytes());
    }
    assert_eq!(asked(&upstream), 2);
}

#[test]
fn early_hints_reach_the_client_whose_request_is_fetched() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    for fields in ["Cache-Control: max-age=60\r\n", "Cache-Control: no-store\r\n"] {
        let script = [Step::AwaitRequest, Step::Send(early.into()), Step::Send(answer(fields, "page")), Step::Repeat];
        let upstream = RawUpstream::start(Script::new(script)).unwrap();
        let site = cached(&upstream, "");
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let response = conn.read_response("GET").unwrap();
        let [early] = &response.interim[..] else { panic!("{response:?}") };
        assert_eq!((early.status, early.fields.get("link")), (103, Some("</a.css>")), "{fields}");
        assert_eq!(response.text(), "page");
        // One of HTTP/1.0 would take them for the answer.
        let mut old = RawConn::connect(site.address()).unwrap();
        old.send("GET /old HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        let response = old.read_response("GET").unwrap();
        assert_eq!((response.status, response.interim.len()), (200, 0));
        let curl = Curl::default().flag("--http2-prior-knowledge");
        let second = curl.get(&format!("http://{}/2", site.address())).unwrap();
        assert!(second.head.contains("HTTP/2 103") && second.text() == "page", "{}", second.head);
    }
}

#[test]
fn a_condition_about_what_is_not_stored_is_one_request() {
    let fields =
        "Cache-Control: no-store\r\nETag: \"v1\"\r\nLast-Modified: Tue, 14 Nov 2023 21:23:20 GMT\r\nX-Own: 1\r\n";
    let check = |condition: &str, expected: (u16, &str)| {
        let upstream = origin(fields, "page");
        let site = cached(&upstream, "");
        let response = get(&site, "/", &format!("{condition}\r\n"));
        assert_eq!((response.status, response.text().as_ref()), expected, "{condition}");
        assert_eq!((response.fields.get("etag"), response.fields.get("x-own")), (Some("\"v1\""), Some("1")));
        assert_eq!(response.fields.get("content-length"), (expected.0 == 200).then_some("4"), "{condition}");
        assert_eq!(asked(&upstream), 1, "{condition}");
        // From now on the origin judges.
        get(&site, "/", &format!("{condition}\r\n"));
        let requests = upstream.requests().unwrap();
        assert!(condition.ends_with(requests[1].fields.get(condition.split(':').next().unwrap()).unwrap()));
    };
    check("If-None-Match: \"v1\"", (304, ""));
    check("If-None-Match: W/\"v1\", \"v0\"", (304, ""));
    check("If-None-Match: \"v2\"", (200, "page"));
    check("If-Modified-Since: Tue, 14 Nov 2023 21:23:20 GMT", (304, ""));
    check("If-Modified-Since: Tue, 14 Nov 2023 21:23:19 GMT", (200, "page"));
}
