//! Requests that are sent again, and requests that must not be.

use testkit::{Origin, RawUpstream, Script, Step};

use crate::site::{ask, check_own, dead_address, get, health, site};

/// Closes after the request, without an answer.
fn closing() -> Script {
    Script::new([Step::AwaitRequest, Step::Close])
}

/// Passive health would hide after one failure what a test wants to see twice.
const PATIENT: &str = "passive_health = \"off\"";

#[test]
fn an_idempotent_request_goes_to_another_endpoint() {
    let broken = RawUpstream::start(closing()).unwrap();
    let good = Origin::start("good").unwrap();
    let site = site(&[broken.address(), good.address()], &format!("balance = \"round_robin\"\n{PATIENT}"));
    for _ in 0..6 {
        assert_eq!(get(&site, "/", "").status, 200);
    }
    assert!(!broken.requests().unwrap().is_empty());
    assert!(site.metric("service_retries_total", &["reason=\"error\""]).unwrap() >= 3.0);
}

#[test]
fn a_request_that_may_have_taken_effect_is_not_sent_again() {
    let broken = RawUpstream::start(closing()).unwrap();
    let other = RawUpstream::start(closing()).unwrap();
    let site = site(&[broken.address(), other.address()], PATIENT);
    let post = "POST /order HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc";
    check_own(&ask(site.address(), post, "POST"), 502, "upstream_closed");
    let received: Vec<_> = [broken.requests().unwrap(), other.requests().unwrap()].concat();
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(received[0].body, b"abc");
    assert_eq!(site.metric("service_retries_total", &[]).unwrap(), 0.0);
}

#[test]
fn a_request_that_nobody_saw_is_sent_again_whatever_its_method() {
    let good = Origin::start("good").unwrap();
    let site = site(&[dead_address(), good.address()], &format!("balance = \"round_robin\"\n{PATIENT}"));
    for _ in 0..6 {
        let post = "POST /order HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(ask(site.address(), post, "POST").status, 200);
    }
}

#[test]
fn a_body_is_sent_again_from_the_buffer_or_not_at_all() {
    let broken = RawUpstream::start(closing()).unwrap();
    let good = RawUpstream::start(Script::ok("ok")).unwrap();
    let service = format!("balance = \"round_robin\"\n{PATIENT}\nretry = {{ body_bytes_max = \"8B\" }}");
    let site = site(&[broken.address(), good.address()], &service);
    let put = |body: &str, chunked: bool| {
        let framing = if chunked {
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
        } else {
            format!("Content-Length: {}\r\n\r\n{body}", body.len())
        };
        ask(site.address(), &format!("PUT /x HTTP/1.1\r\nHost: shop.example.com\r\n{framing}"), "PUT").status
    };
    for chunked in [false, true] {
        let statuses: Vec<u16> = (0..4).map(|_| put("12345678", chunked)).collect();
        assert_eq!(statuses, [200; 4]);
        let long: Vec<u16> = (0..4).map(|_| put("123456789", chunked)).collect();
        assert!(long.contains(&502) && long.contains(&200), "{long:?}");
    }
    assert!(good.requests().unwrap().iter().all(|request| request.body.starts_with(b"12345678")));
}

#[test]
fn statuses_are_retried_where_the_service_says_so() {
    let overloaded = RawUpstream::start(Script::answer("HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nno\n")).unwrap();
    let good = Origin::start("good").unwrap();
    let endpoints = [overloaded.address(), good.address()];
    let with = site(&endpoints, &format!("balance = \"round_robin\"\n{PATIENT}\nretry = {{ on = [\"http_503\"] }}"));
    assert!((0..6).all(|_| get(&with, "/", "").status == 200));
    assert!(with.metric("service_retries_total", &["reason=\"status\""]).unwrap() >= 2.0);
    let without = site(&endpoints, &format!("balance = \"round_robin\"\n{PATIENT}"));
    let statuses: Vec<u16> = (0..6).map(|_| get(&without, "/", "").status).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
}

#[test]
fn the_budget_bounds_an_outage() {
    let broken = [RawUpstream::start(closing()).unwrap(), RawUpstream::start(closing()).unwrap()];
    let retry = "retry = { max = 3, budget = \"10%\" }";
    let site = site(&[broken[0].address(), broken[1].address()], &format!("{PATIENT}\n{retry}"));
    let requests = 300;
    for _ in 0..requests {
        check_own(&get(&site, "/", ""), 502, "upstream_closed");
    }
    let retries = site.metric("service_retries_total", &[]).unwrap();
    // The floor is 10 a second over 10 s.
    assert!((100.0..=100.0 + 0.1 * f64::from(requests)).contains(&retries), "{retries}");
    assert!(site.metric("service_retries_refused_total", &[]).unwrap() > 0.0);
}

#[test]
fn a_dead_service_is_told_without_its_address() {
    let site = site(&[dead_address()], "retry = \"off\"");
    check_own(&get(&site, "/", ""), 502, "upstream_connect");
    let errors = |site: &testkit::Tenfold| site.metric("listener_errors_total", &["code=\"upstream_connect\""]);
    site.wait_until("counted", |site| Ok(errors(site)? == 1.0)).unwrap();
}

#[test]
fn a_kept_connection_that_was_closed_meanwhile_costs_nobody_a_request() {
    // Closes each connection after its first answer, as a server whose keep-alive has run out does.
    let server = RawUpstream::start(Script::answer_once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).unwrap();
    let other = RawUpstream::start(Script::answer_once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).unwrap();
    let site = site(&[server.address(), other.address()], "retry = \"off\"");
    for _ in 0..20 {
        assert_eq!(get(&site, "/", "").status, 200);
    }
    assert_eq!(health(&site), ["healthy", "healthy"], "and says nothing about the endpoint");
}
