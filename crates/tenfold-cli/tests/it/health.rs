//! Endpoints that fail and return.

use std::time::Duration;

use testkit::{Origin, RawUpstream, Script, Step};

use crate::site::{check_own, dead_address, get, health, instance, page, site};

#[test]
fn checks_take_an_endpoint_out_and_bring_it_back() {
    let sick = RawUpstream::start(Script::ok("well")).unwrap();
    let other = Origin::start("other").unwrap();
    let check = "health = { path = \"/health\", interval = \"100ms\", rise = 2, fall = 2, body = \"well\" }";
    // The other endpoint answers the check with a body of its own, so only the statuses are looked at for it.
    let check_status = "health = { path = \"/health\", interval = \"100ms\", rise = 2, fall = 2 }";
    let site = site(&[sick.address(), other.address()], check_status);
    site.wait_until("ready", |site| Ok(site.admin_get("/readyz")?.status == 200)).unwrap();
    sick.set_script(Script::answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
    site.wait_until("out", |site| Ok(health(site) == ["unhealthy", "healthy"])).unwrap();
    assert!((0..10).all(|_| instance(&site, "") == "other"));
    assert!(site.metric("upstream_health_changes_total", &["change=\"check_down\""]).unwrap() >= 1.0);
    sick.set_script(Script::ok("well"));
    site.wait_until("back", |site| Ok(health(site) == ["healthy", "healthy"])).unwrap();
    assert!(site.output().contains("checks in a row failed: status 500"), "{}", site.output());

    let picky = crate::site::site(&[sick.address()], check);
    picky.wait_until("ready", |site| Ok(site.admin_get("/readyz")?.status == 200)).unwrap();
    sick.set_script(Script::ok("ill"));
    picky.wait_until("out", |site| Ok(health(site) == ["unhealthy"])).unwrap();
    let ready = picky.admin_get("/readyz").unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("service api"), "{}", ready.text());
    check_own(&get(&picky, "/", ""), 503, "no_endpoint");
}

#[test]
fn a_tcp_check_asks_for_a_connection_only() {
    let silent = RawUpstream::start(Script::new([Step::AwaitHead, Step::Drain])).unwrap();
    let dead = dead_address();
    let service = "health = { tcp = true, interval = \"100ms\", rise = 1, fall = 1 }";
    let site = site(&[silent.address(), dead], service);
    site.wait_until("checked", |site| Ok(health(site) == ["healthy", "unhealthy"])).unwrap();
    let _up = Origin::start_at(dead, "up").unwrap();
    site.wait_until("both up", |site| Ok(health(site) == ["healthy", "healthy"])).unwrap();
}

#[test]
fn failed_requests_eject_and_one_probe_readmits() {
    let address = dead_address();
    let good = Origin::start("good").unwrap();
    let site = site(&[address, good.address()], "passive_health = { max_fails = 1, fail_timeout = \"300ms\" }");
    // Two requests are enough for one to meet the dead endpoint first; both are answered.
    for _ in 0..4 {
        assert_eq!(instance(&site, ""), "good");
    }
    site.wait_until("ejected", |site| Ok(health(site)[0] == "ejected")).unwrap();
    let failures = || site.metric("upstream_failures_total", &["kind=\"connect\""]).unwrap();
    let before = failures();
    assert!((0..20).all(|_| instance(&site, "") == "good"));
    assert!(failures() <= before + 1.0, "an ejected endpoint is asked by probes only");
    let _back = Origin::start_at(address, "back").unwrap();
    site.wait_until("readmitted", |site| {
        instance(site, "");
        Ok(health(site)[0] == "healthy")
    })
    .unwrap();
}

#[test]
fn who_fails_more_often_than_the_others_is_ejected() {
    let bad = RawUpstream::start(Script::answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")).unwrap();
    let good: Vec<Origin> = (0..4).map(|_| Origin::start("good").unwrap()).collect();
    let addresses: Vec<_> = std::iter::once(bad.address()).chain(good.iter().map(Origin::address)).collect();
    // Status 500 is not retried, so neither failures in a row nor within a window are counted.
    let rule = "{ interval = \"1s\", requests_min = 10, base_ejection = \"1h\", ejection_max = \"1h\" }";
    let site = site(&addresses, &format!("balance = \"round_robin\"\npassive_health = {{ success_rate = {rule} }}"));
    site.wait_until("ejected", |site| {
        (0..25).for_each(|_| drop(get(site, "/", "")));
        Ok(health(site)[0] == "ejected")
    })
    .unwrap();
    assert!((0..20).all(|_| instance(&site, "") == "good"));
    assert_eq!(health(&site)[1..], ["healthy"; 4]);
    let cause = page(&site, "/services/api")["endpoints"][0]["cause"].as_str().unwrap().to_owned();
    assert!(cause.ends_with("requests failed, while 80.0% succeed in the mean"), "{cause}");
    assert_eq!(site.metric("upstream_health_changes_total", &["change=\"ejected\""]).unwrap(), 1.0);
}

#[test]
fn a_check_ends_an_ejection() {
    let address = dead_address();
    let good = Origin::start("good").unwrap();
    let service = "health = { path = \"/health\", interval = \"100ms\", rise = 1, fall = 100 }\n\
                   passive_health = { max_fails = 1, fail_timeout = \"1h\" }";
    let site = site(&[address, good.address()], service);
    site.wait_until("ejected", |site| {
        instance(site, "");
        Ok(health(site)[0] == "ejected")
    })
    .unwrap();
    let _back = Origin::start_at(address, "back").unwrap();
    site.wait_until("healthy", |site| Ok(health(site)[0] == "healthy")).unwrap();
}

#[test]
fn a_slow_starter_gets_its_share_little_by_little() {
    let address = dead_address();
    let good = Origin::start("good").unwrap();
    let service = "health = { path = \"/health\", interval = \"100ms\", rise = 1, fall = 1 }\nslow_start = \"20s\"";
    let site = site(&[address, good.address()], service);
    site.wait_until("out", |site| Ok(health(site)[0] == "unhealthy")).unwrap();
    let _back = Origin::start_at(address, "back").unwrap();
    site.wait_until("back", |site| Ok(health(site)[0] == "healthy")).unwrap();
    let weight = || crate::site::page(&site, "/services/api")["endpoints"][0]["effective_weight"].as_f64().unwrap();
    let first = weight();
    assert!(first < 0.5, "{first}");
    std::thread::sleep(Duration::from_millis(100));
    site.wait_until("growing", |_| Ok(weight() > first)).unwrap();
}

#[test]
fn a_silent_endpoint_counts_as_failed() {
    let silent = RawUpstream::start(Script::new([Step::AwaitHead, Step::Drain])).unwrap();
    let good = Origin::start("good").unwrap();
    let site = site(&[silent.address(), good.address()], "response_timeout = \"200ms\"\nretry = { max = 2 }");
    for _ in 0..4 {
        assert_eq!(instance(&site, ""), "good");
    }
    assert_eq!(health(&site)[0], "ejected");
    assert_eq!(site.metric("upstream_failures_total", &["kind=\"timeout\""]).unwrap(), 1.0);
    assert_eq!(site.metric("service_retries_total", &["reason=\"timeout\""]).unwrap(), 1.0);
}
