//! Services and endpoints that are left alone while they fail, and what is served instead.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use testkit::{Origin, RawConn, RawUpstream, Script, Step, Tenfold};

use crate::site::{apply, ask, check_own, command, config, dead_address, get, health, instance, page, site, start};

/// Long enough that no test sees its end.
const LONG: &str = "open_for = \"1h\", open_max = \"1h\"";

/// Answers once on each connection, so that a change of the script holds at once.
fn answering(status: &str) -> Script {
    Script::answer_once(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
}

fn failing() -> Script {
    answering("500 No")
}

fn silent() -> Script {
    Script::new([Step::AwaitRequest, Step::Drain])
}

/// A site whose service has a breaker of these rules.
fn guarded(upstream: &RawUpstream, rules: &str) -> Tenfold {
    site(&[upstream.address()], &format!("retry = \"off\"\nbreaker = {{ {rules} }}"))
}

fn statuses(site: &Tenfold, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(site, "/", "").status).collect()
}

fn state(site: &Tenfold) -> String {
    page(site, "/api/services/api")["breaker"]["state"].as_str().unwrap_or("none").to_owned()
}

fn trips(site: &Tenfold, cause: &str) -> f64 {
    site.metric("breaker_trips_total", &[&format!("cause=\"{cause}\"")]).unwrap()
}

/// Runs `tenfold breaker` on a site.
fn hold(site: &Tenfold, word: &str) -> Output {
    let admin = format!("http://{}", site.admin().unwrap());
    command().args(["breaker", word, "api", "--admin", &admin]).output().unwrap()
}

#[test]
fn a_service_that_fails_is_left_alone() {
    let upstream = RawUpstream::start(failing()).unwrap();
    let site = guarded(&upstream, &format!("failures = 3, {LONG}"));
    assert_eq!(statuses(&site, 3), [500; 3]);
    assert_eq!(state(&site), "open");
    for _ in 0..5 {
        let refused = get(&site, "/", "");
        check_own(&refused, 503, "breaker_open");
        let wait: u64 = refused.fields.get("retry-after").unwrap().parse().unwrap();
        // Up to a fifth of the hour may be taken off.
        assert!((2_800..=3_600).contains(&wait), "{wait}");
    }
    assert_eq!(upstream.requests().unwrap().len(), 3, "nothing more has come to it");
    assert_eq!(trips(&site, "failures"), 1.0);
    assert_eq!(site.metric("breaker_refusals_total", &[]).unwrap(), 5.0);
    assert_eq!(site.metric("breaker_state", &["state=\"open\""]).unwrap(), 1.0);
    assert_eq!(site.metric("breaker_state", &["state=\"closed\""]).unwrap(), 0.0);
    assert_eq!(health(&site), ["healthy"], "statuses that are not retried say nothing about the endpoint");
    site.wait_until("told", |site| Ok(site.output().contains("3 calls in a row failed"))).unwrap();
}

#[test]
fn a_probe_that_passes_ends_it() {
    let upstream = RawUpstream::start(failing()).unwrap();
    let site = guarded(&upstream, "failures = 1, open_for = \"200ms\", open_max = \"200ms\"");
    assert_eq!(statuses(&site, 1), [500]);
    // A probe fails, and it stays open.
    site.wait_until("probed", |site| {
        Ok({
            get(site, "/", "");
            trips(site, "probe") >= 1.0
        })
    })
    .unwrap();
    upstream.set_script(answering("200 OK"));
    site.wait_until("closed", |site| Ok(get(site, "/", "").status == 200)).unwrap();
    assert_eq!(state(&site), "closed");
    assert_eq!(statuses(&site, 20), [200; 20]);
    site.wait_until("told", |site| Ok(site.output().contains("1 probes in a row passed"))).unwrap();
}

#[test]
fn one_probe_at_a_time() {
    let upstream = RawUpstream::start(failing()).unwrap();
    let site = guarded(&upstream, "failures = 1, open_for = \"100ms\", open_max = \"100ms\"");
    assert_eq!(statuses(&site, 1), [500]);
    upstream.set_script(silent());
    let mut probe = RawConn::connect(site.address()).unwrap();
    site.wait_until("half-open", |site| {
        if state(site) == "open" {
            // Which of these requests is the probe does not matter; it gets no answer.
            probe = RawConn::connect(site.address())?;
            probe.send("GET /probe HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")?;
        }
        Ok(state(site) == "half_open")
    })
    .unwrap();
    for _ in 0..10 {
        check_own(&get(&site, "/", ""), 503, "breaker_open");
    }
    site.wait_until("the probe has come", |_| Ok(upstream.requests()?.len() >= 2)).unwrap();
    assert_eq!(upstream.requests().unwrap().len(), 2, "the failure, and the probe");
}

#[test]
fn failures_of_every_kind_are_counted_where_they_are_named() {
    let check = |site: &Tenfold, code: &str, status: u16| {
        for _ in 0..2 {
            check_own(&get(site, "/", ""), status, code);
        }
        check_own(&get(site, "/", ""), 503, "breaker_open");
    };
    let rules = format!("retry = \"off\"\nbreaker = {{ failures = 2, {LONG} }}");
    check(&site(&[dead_address()], &rules), "upstream_connect", 502);
    let closing = RawUpstream::start(Script::new([Step::AwaitRequest, Step::Close])).unwrap();
    check(&site(&[closing.address()], &rules), "upstream_closed", 502);
    let mute = RawUpstream::start(silent()).unwrap();
    let timeout = format!("response_timeout = \"100ms\"\n{rules}");
    check(&site(&[mute.address()], &timeout), "upstream_timeout", 504);
    let broken = RawUpstream::start(Script::answer("no HTTP\r\n\r\n")).unwrap();
    check(&site(&[broken.address()], &rules), "upstream_invalid", 502);
    // What is not named does not count.
    let other = RawUpstream::start(failing()).unwrap();
    let site = guarded(&other, &format!("failures = 1, on = [\"error\", \"http_503\"], {LONG}"));
    assert_eq!(statuses(&site, 10), [500; 10]);
}

#[test]
fn rates_open_it_once_there_are_enough_calls() {
    let upstream = RawUpstream::start(failing()).unwrap();
    let rate = guarded(&upstream, &format!("failures = \"off\", failure_rate = \"60%\", calls_min = 10, {LONG}"));
    upstream.set_script(answering("200 OK"));
    assert_eq!(statuses(&rate, 4), [200; 4]);
    upstream.set_script(failing());
    assert_eq!(statuses(&rate, 7), [500, 500, 500, 500, 500, 500, 503], "six of ten");
    assert_eq!(trips(&rate, "failure_rate"), 1.0);

    let slow = [Step::AwaitRequest, Step::Pause(Duration::from_millis(120)), Step::Send(OK.to_vec()), Step::Close];
    let slow = RawUpstream::start(Script::new(slow)).unwrap();
    let by_time = guarded(&slow, &format!("slow_after = \"100ms\", calls_min = 4, {LONG}"));
    assert_eq!(statuses(&by_time, 4), [200; 4]);
    check_own(&get(&by_time, "/", ""), 503, "breaker_open");
    assert_eq!(trips(&by_time, "slow_rate"), 1.0);
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[test]
fn an_open_breaker_ends_retries_and_the_client_hears_of_the_failure() {
    let upstream = RawUpstream::start(failing()).unwrap();
    let service = format!("retry = {{ on = [\"http_500\"], max = 5 }}\nbreaker = {{ failures = 2, {LONG} }}");
    let site = site(&[upstream.address()], &service);
    assert_eq!(statuses(&site, 1), [500]);
    assert_eq!(upstream.requests().unwrap().len(), 2, "one retry, and then it was open");
    check_own(&get(&site, "/", ""), 503, "breaker_open");
}

#[test]
fn a_breaker_of_each_endpoint_sends_requests_to_the_others() {
    let bad = RawUpstream::start(failing()).unwrap();
    let good = Origin::start("good").unwrap();
    let rules = "scope = \"endpoint\", failures = 2, open_for = \"300ms\", open_max = \"300ms\"";
    let service = format!("balance = \"round_robin\"\nretry = {{ on = [\"http_500\"] }}\nbreaker = {{ {rules} }}");
    let site = site(&[bad.address(), good.address()], &service);
    let of = |at: usize| page(&site, "/api/services/api")["endpoints"][at]["breaker"].as_str().unwrap().to_owned();
    assert_eq!(statuses(&site, 20), [200; 20], "retries go to the other endpoint");
    assert_eq!((health(&site)[0].as_str(), state(&site).as_str()), ("healthy", "none"));
    assert!(trips(&site, "failures") >= 1.0);
    let label = format!("instance=\"{}\"", bad.address());
    let healthy = |site: &Tenfold| site.metric("upstream_healthy", &[&label]);
    site.wait_until("out of the plan", |site| Ok(healthy(site)? == 0.0 && of(0) != "closed")).unwrap();
    assert_eq!(of(1), "closed");
    bad.set_script(answering("200 OK"));
    site.wait_until("closed", |site| {
        assert_eq!(get(site, "/", "").status, 200);
        Ok(of(0) == "closed" && healthy(site)? == 1.0)
    })
    .unwrap();
    let seen: Vec<bool> = (0..10).map(|_| get(&site, "/", "").fields.get("x-instance").is_some()).collect();
    assert!(seen.contains(&true) && seen.contains(&false), "both serve again: {seen:?}");
}

#[test]
fn when_the_breakers_of_all_endpoints_are_open_nobody_is_asked() {
    let [first, second] = [(); 2].map(|()| RawUpstream::start(failing()).unwrap());
    let service = format!("retry = \"off\"\nbreaker = {{ scope = \"endpoint\", failures = 2, {LONG} }}");
    let site = site(&[first.address(), second.address()], &service);
    site.wait_until("both open", |site| Ok(get(site, "/", "").status == 503)).unwrap();
    let asked = || first.requests().unwrap().len() + second.requests().unwrap().len();
    assert_eq!(asked(), 4);
    let refused = get(&site, "/", "");
    check_own(&refused, 503, "breaker_open");
    assert!(refused.fields.get("retry-after").unwrap().parse::<u64>().unwrap() > 2_000);
    assert_eq!(asked(), 4);
}

#[test]
fn it_is_held_by_command() {
    let upstream = RawUpstream::start(failing()).unwrap();
    let text = config(&[upstream.address()], "retry = \"off\"\nbreaker = { failures = 2 }");
    let mut site = start(&text);
    let held = hold(&site, "open");
    assert!(held.status.success(), "{held:?}");
    assert!(String::from_utf8(held.stdout).unwrap().contains("held open"));
    check_own(&get(&site, "/", ""), 503, "breaker_open");
    assert_eq!(state(&site), "forced_open");
    apply(&mut site, &format!("{text}connect_timeout = \"1s\"\n"));
    check_own(&get(&site, "/", ""), 503, "breaker_open");
    let overrides = page(&site, "/api/overrides");
    assert_eq!((&overrides[0]["setting"], &overrides[0]["value"]), (&Value::from("breaker"), &Value::from("open")));
    assert!(hold(&site, "close").status.success());
    assert_eq!(statuses(&site, 10), [500; 10], "however many fail");
    assert!(hold(&site, "reset").status.success());
    assert_eq!(page(&site, "/api/overrides"), Value::Array(Vec::new()));
    assert_eq!(statuses(&site, 3), [500, 500, 503]);
    // What has left the file is not held, and does not come back held.
    assert!(hold(&site, "open").status.success());
    let without = text.replace("breaker = { failures = 2 }", "");
    apply(&mut site, &without);
    assert_eq!(statuses(&site, 3), [500; 3]);
    let refused = hold(&site, "open");
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("service api: it has no breaker; add breaker = {} to [service.api]"), "{told}");
    apply(&mut site, &text);
    assert_eq!(statuses(&site, 1), [500]);
}

#[test]
fn a_fallback_answers_in_its_place() {
    let upstream = RawUpstream::start(failing()).unwrap();
    let answer = "fallback = { status = 200, body = \"later\", headers = { Cache-Control = \"no-store\" } }";
    let service = format!("retry = \"off\"\nbreaker = {{ failures = 1, {LONG} }}\n{answer}");
    let site = site(&[upstream.address()], &service);
    assert_eq!(statuses(&site, 1), [500], "a failure is no refusal");
    for _ in 0..3 {
        let response = get(&site, "/", "");
        assert_eq!((response.status, response.text().as_str()), (200, "later"));
        assert_eq!(response.fields.get("cache-control"), Some("no-store"));
        assert_eq!(response.fields.get("content-type"), Some("text/plain; charset=utf-8"));
    }
    assert_eq!(site.metric("service_fallbacks_total", &["service=\"api\""]).unwrap(), 3.0);
}

#[test]
fn another_service_is_asked_in_its_place() {
    let spare = Origin::start("spare").unwrap();
    let drained = format!("{{ address = \"{}\", drain = true }}", dead_address());
    let text = |endpoints: &str, service: &str| {
        let port = testkit::free_port();
        let head = crate::site::listeners(port);
        format!(
            "{head}[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [{endpoints}]\n{service}\n\
             fallback = {{ service = \"spare\" }}\n[service.spare]\nendpoints = [\"{}\"]\n",
            spare.address()
        )
    };
    let site = start(&text(&drained, ""));
    assert_eq!(instance(&site, ""), "spare", "no endpoint is left");
    let post = "POST /echo HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(ask(site.address(), post, "POST").status, 200);
    let upstream = RawUpstream::start(failing()).unwrap();
    let breaker = format!("retry = \"off\"\nbreaker = {{ failures = 1, {LONG} }}");
    let site = start(&text(&format!("\"{}\"", upstream.address()), &breaker));
    assert_eq!(statuses(&site, 1), [500]);
    assert_eq!(instance(&site, ""), "spare");
    assert_eq!(upstream.requests().unwrap().len(), 1);
    drop(spare);
    check_own(&get(&site, "/", ""), 502, "upstream_connect");
}

#[test]
fn no_more_requests_than_the_bound() {
    let upstream = RawUpstream::start(silent()).unwrap();
    let site = site(&[upstream.address()], "limits = { requests_max = 2 }\nresponse_timeout = \"1h\"");
    let mut busy: Vec<RawConn> = (0..2).map(|_| RawConn::connect(site.address()).unwrap()).collect();
    for conn in &mut busy {
        conn.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    }
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 2.0)).unwrap();
    for _ in 0..3 {
        check_own(&get(&site, "/", ""), 503, "overloaded");
    }
    assert_eq!(site.metric("service_limited_total", &["limit=\"requests_max\""]).unwrap(), 3.0);
    site.wait_until("two requests", |_| Ok(upstream.requests()?.len() == 2)).unwrap();
    // Once the endpoint has broken off, there is room again.
    drop(upstream);
    site.wait_until("ended", |site| Ok(site.metric("upstream_in_flight", &[])? == 0.0)).unwrap();
    site.wait_until("room", |site| Ok(get(site, "/", "").text().contains("upstream_connect"))).unwrap();
}

#[test]
fn no_more_retries_than_the_bound() {
    let first = RawUpstream::start(answering("503 No")).unwrap();
    let second = RawUpstream::start(silent()).unwrap();
    let endpoints = format!("\"{}\", {{ address = \"{}\", priority = 1 }}", first.address(), second.address());
    let head = crate::site::listeners(testkit::free_port());
    let site = start(&format!(
        "{head}[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [{endpoints}]\npassive_health = \"off\"\n\
         retry = {{ on = [\"http_503\"] }}\nlimits = {{ retries_max = 1 }}\nresponse_timeout = \"1h\"\n"
    ));
    let mut busy = RawConn::connect(site.address()).unwrap();
    busy.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    let at_second = format!("instance=\"{}\"", second.address());
    site.wait_until("sent again", |site| Ok(site.metric("upstream_in_flight", &[&at_second])? == 1.0)).unwrap();
    let refused = get(&site, "/", "");
    assert_eq!((refused.status, refused.text().as_str()), (503, "ok"), "the endpoint's own answer");
    assert_eq!(site.metric("service_limited_total", &["limit=\"retries_max\""]).unwrap(), 1.0);
}
