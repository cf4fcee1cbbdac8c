//! Limits that gateways share through a Redis: exactly while it is there, and as configured while it is not.

use std::time::{Duration, Instant};

use testkit::{Load, LoadParams, Origin, Redis, Tenfold, free_port};
use tungstenite::Message;

use crate::site::{apply, get, listeners, start};
use crate::websocket::{connect, echo};

/// The configuration of a gateway whose one route has the limit `all`, with these settings and this store, which has time
/// enough on a busy machine unless they say otherwise.
fn config(origin: &Origin, store: &str, settings: &str) -> String {
    let time = if settings.contains("store_timeout") { "" } else { "store_timeout = \"2s\"\n" };
    let head = listeners(free_port());
    let address = origin.address();
    format!(
        "{head}[limit.all]\nkey = {{ header = \"X-Key\" }}\nstore = \"{store}\"\n{time}{settings}\n\
         [[route]]\nservice = \"api\"\nlimit = \"all\"\n[service.api]\nendpoints = [\"{address}\"]\n"
    )
}

fn url(redis: &Redis) -> String {
    format!("redis://{}", redis.address())
}

/// How many of `count` requests pass.
fn passing(site: &Tenfold, count: usize, fields: &str) -> usize {
    (0..count).filter(|_| get(site, "/", fields).status == 200).count()
}

fn wait_for_store(site: &Tenfold, up: bool) {
    let expected = if up { 1.0 } else { 0.0 };
    site.wait_until("the store", |site| Ok(site.metric("limit_store_up", &["store=\"redis://127"])? == expected))
        .unwrap();
}

fn counted(site: &Tenfold, name: &str, labels: &[&str]) -> f64 {
    site.metric(name, labels).unwrap()
}

/// Times that the log says something.
fn said(site: &Tenfold, words: &str) -> usize {
    site.output().matches(words).count()
}

#[test]
fn gateways_spend_one_allowance() {
    let (origin, redis) = (Origin::start("a").unwrap(), Redis::start(&[]).unwrap());
    let settings = "rate = \"5/h\"\nburst = 5\ntell = \"always\"";
    let site = || start(&config(&origin, &url(&redis), settings));
    let (one, two) = (site(), site());
    assert_eq!((passing(&one, 2, ""), passing(&two, 2, ""), passing(&one, 3, "")), (2, 2, 1));
    assert_eq!((passing(&one, 2, ""), passing(&two, 2, "")), (0, 0));
    // Another key, and one gateway alone.
    assert_eq!(passing(&two, 7, "X-Key: a\r\n"), 5);
    assert_eq!(passing(&one, 1, "X-Key: a\r\n"), 0);
    let refused = get(&one, "/", "");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.fields.get("ratelimit-policy"), Some("\"all\";q=5;w=3600"));
    let wait: u64 = refused.fields.get("retry-after").unwrap().parse().unwrap();
    assert!((600..=1_100).contains(&wait), "{wait}");
    let mut keys = redis.command(&["KEYS", "*"]).unwrap();
    keys.retain(|key| key != "tenfold:limit:probe");
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("tenfold:limit:all:5/h:5:") && key.len() == 24 + 32), "{keys:?}");
    let leased = counted(&one, "limit_leased_total", &[]) + counted(&two, "limit_leased_total", &[]);
    assert_eq!(leased, 10.0);
    let sum = |name: &str, labels: &[&str]| counted(&one, name, labels) + counted(&two, name, labels);
    assert_eq!((sum("limit_leases_total", &["granted"]), sum("limit_leases_total", &["failed"])), (10.0, 0.0));
    assert_eq!(sum("limit_requests_total", &["allowed"]), 10.0);
    assert_eq!(sum("limit_requests_without_store_total", &[]), 0.0);
    // Who comes later finds what was spent.
    assert_eq!(passing(&site(), 3, ""), 0);
}

#[test]
fn ten_times_the_rate_gets_the_rate() {
    let (origin, redis) = (Origin::start("a").unwrap(), Redis::start(&[]).unwrap());
    let (rate, burst) = (400.0, 200.0);
    let site = || start(&config(&origin, &url(&redis), "rate = \"400/s\"\nburst = 200\nwithout_store = \"closed\""));
    let sites = [site(), site()];
    let begun = Instant::now();
    let loads = sites.each_ref().map(|site| {
        let params = LoadParams { connections: 16, pause: Duration::from_millis(5), ..LoadParams::new(site.address()) };
        Load::start(&params)
    });
    std::thread::sleep(Duration::from_secs(4));
    let passed: u64 = loads.into_iter().map(|load| load.stop().counts.ok).sum();
    let most = rate * begun.elapsed().as_secs_f64() + burst;
    let share = passed as f64 / most;
    println!("{passed} of {most}: {share}");
    assert!(passed as f64 <= most, "{passed} of {most}");
    assert!(share > 0.95, "{passed} of {most}");
    assert_eq!(passed, origin.requests());
    let asks: f64 = sites.iter().map(|site| counted(site, "limit_leases_total", &[])).sum();
    let asked: f64 = sites.iter().map(|site| counted(site, "limit_requests_total", &[])).sum();
    println!("{asks} asks for {asked} requests");
    assert!(asks * 3.0 < asked, "{asks} asks for {asked} requests");
}

#[test]
fn a_killed_store_is_survived_as_configured_and_heals() {
    let origin = Origin::start("a").unwrap();
    let check = |without: &str, passes: usize| {
        let mut redis = Redis::start(&[]).unwrap();
        let settings = format!("rate = \"3/h\"\nburst = 3\nwithout_store = \"{without}\"");
        // One core, for each learns of the store when it is asked itself.
        let site = start(&format!("[runtime]\nworkers = 1\n{}", config(&origin, &url(&redis), &settings)));
        assert_eq!(passing(&site, 4, ""), 3);
        wait_for_store(&site, true);
        redis.kill();
        wait_for_store(&site, false);
        assert_eq!(passing(&site, 8, "X-Key: lost\r\n"), passes, "{without}");
        assert_eq!(counted(&site, "limit_requests_without_store_total", &[]), 8.0, "{without}");
        redis.restart().unwrap();
        wait_for_store(&site, true);
        // Keys that were decided without it ask again a second later; others at once.
        assert_eq!(passing(&site, 4, "X-Key: new\r\n"), 3, "{without}");
        site.wait_until("healed", |site| {
            let before = counted(site, "limit_leases_total", &["granted"]);
            get(site, "/", "X-Key: lost\r\n");
            Ok(counted(site, "limit_leases_total", &["granted"]) > before)
        })
        .unwrap();
        // Some of those that waited for it to heal were paid.
        let left = passing(&site, 4, "X-Key: lost\r\n");
        assert!(left <= 3, "{without}: {left}");
        let log = site.output();
        assert_eq!((said(&site, "is lost; each decides"), said(&site, "answers again")), (1, 1), "{log}");
    };
    check("closed", 0);
    check("open", 8);
    check("local", 3);
}

#[test]
fn a_store_that_hangs_holds_nobody_beyond_its_time() {
    let (origin, mut redis) = (Origin::start("a").unwrap(), Redis::start(&[]).unwrap());
    let settings = "rate = \"1000/s\"\nstore_timeout = \"150ms\"\nwithout_store = \"open\"";
    let site = start(&config(&origin, &url(&redis), settings));
    assert_eq!(passing(&site, 3, ""), 3);
    wait_for_store(&site, true);
    redis.hang().unwrap();
    let params = LoadParams { connections: 8, keys: 50, ..LoadParams::new(site.address()) };
    let load = Load::start(&params);
    std::thread::sleep(Duration::from_secs(2));
    let report = load.stop();
    assert_eq!(report.counts.failed_before_head + report.counts.failed_after_head, 0, "{:?}", report.failures);
    let slowest = Duration::from_micros(report.latency.percentile(1.0));
    println!("{} requests, the slowest {slowest:?}", report.counts.ok);
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(report.latency.percentile(0.9) < 100_000, "only the first wait");
    redis.go_on().unwrap();
    wait_for_store(&site, true);
    assert_eq!(passing(&site, 3, "X-Key: new\r\n"), 3);
    assert_eq!(said(&site, "is lost; each decides"), 1, "{}", site.output());
}

#[test]
fn a_wrong_password_is_said_and_counts_as_lost() {
    let origin = Origin::start("a").unwrap();
    let redis = Redis::start(&["--requirepass", "correct-horse"]).unwrap();
    let store = |password: &str| format!("redis://:{password}@{}", redis.address());
    let text = config(&origin, &store("battery-staple"), "rate = \"2/h\"\nburst = 2\nwithout_store = \"closed\"");
    let mut site = start(&text);
    assert_eq!(passing(&site, 2, ""), 0);
    wait_for_store(&site, false);
    let log = site.output();
    assert!(log.contains("is lost; each decides") && log.contains("refuses the user or the password"), "{log}");
    assert!(log.contains(&format!("redis://{}", redis.address())), "{log}");
    assert!(!log.contains("battery-staple"), "{log}");
    assert!(!site.admin_get("/config").unwrap().text().contains("battery-staple"));
    apply(&mut site, &text.replace("battery-staple", "correct-horse"));
    wait_for_store(&site, true);
    assert_eq!(passing(&site, 3, ""), 2);
}

#[test]
fn a_reload_keeps_leases_and_a_forgotten_script_is_sent_again() {
    let (origin, redis) = (Origin::start("a").unwrap(), Redis::start(&[]).unwrap());
    let text = config(&origin, &url(&redis), "rate = \"4/h\"\nburst = 4");
    let mut site = start(&text);
    assert_eq!(passing(&site, 2, ""), 2);
    assert_eq!(redis.command(&["SCRIPT", "FLUSH"]).unwrap(), ["OK"]);
    apply(&mut site, &text.replace("[service.api]", "response_headers = { set = { X-New = \"1\" } }\n[service.api]"));
    assert_eq!(passing(&site, 4, ""), 2);
    assert_eq!(counted(&site, "limit_leases_total", &["failed"]), 0.0);
    // Another law is another allowance, and a limit of the gateway's own asks nobody.
    apply(&mut site, &text.replace("4/h", "5/h"));
    assert_eq!(passing(&site, 5, ""), 4);
    let own = text.replace(&format!("store = \"{}\"\nstore_timeout = \"2s\"\n", url(&redis)), "");
    apply(&mut site, &own);
    assert_eq!(passing(&site, 5, ""), 4);
    let clients = || redis.command(&["CLIENT", "LIST"]).unwrap().join("").lines().count();
    site.wait_until("connections are closed", |_| Ok(clients() == 1)).unwrap();
}

#[test]
fn what_began_under_a_limit_that_is_gone_holds_no_connection_to_its_store() {
    let (chat, redis) = (echo(), Redis::start(&[]).unwrap());
    let origin = Origin::start("a").unwrap();
    let text = config(&origin, &url(&redis), "rate = \"4/h\"\nburst = 4");
    let text = text.replace(&origin.address().to_string(), &chat.to_string());
    let mut site = start(&text);
    let mut socket = connect(site.address());
    let clients = || redis.command(&["CLIENT", "LIST"]).unwrap().join("").lines().count();
    assert!(clients() > 1);
    apply(&mut site, &text.replace("limit = \"all\"\n", ""));
    // Each core hears of the reload with its next request, or its next round of housekeeping.
    site.wait_until("connections are closed", |_| Ok(clients() == 1)).unwrap();
    socket.send(Message::text("still here")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still here"));
}

#[test]
fn limits_of_both_kinds_stand_beside_each_other() {
    let (origin, redis) = (Origin::start("a").unwrap(), Redis::start(&[]).unwrap());
    let text = config(&origin, &url(&redis), "rate = \"6/h\"\nburst = 6\nshadow = true");
    let more = format!(
        "[limit.other]\nrate = \"4/h\"\nburst = 4\nkey = \"everyone\"\nstore = \"{}\"\nstore_timeout = \"2s\"\n[[route]]",
        url(&redis)
    );
    let text = text.replace("[[route]]", &more);
    let text =
        text.replace("limit = \"all\"", "limit = [{ rate = \"9/h\", burst = 9 }, \"all\", \"other\"]\nlimit_cost = 2");
    let site = start(&text);
    // 2 + 2 of `other`; `all` sees three of what its own passes and the first limit lets by.
    assert_eq!(passing(&site, 6, ""), 2);
    let result = |limit: &str, result: &str| {
        counted(&site, "limit_requests_total", &[&format!("limit=\"{limit}\""), &format!("result=\"{result}\"")])
    };
    assert_eq!((result("api", "allowed"), result("api", "refused")), (4.0, 2.0));
    assert_eq!((result("all", "allowed"), result("all", "shadowed")), (3.0, 1.0));
    assert_eq!((result("other", "allowed"), result("other", "refused")), (2.0, 2.0));
}
