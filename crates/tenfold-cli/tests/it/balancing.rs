//! Which instance gets a request.

use std::collections::BTreeMap;

use testkit::{Origin, RawConn, Tenfold};

use crate::site::{dead_address, health, instance, listeners, page, site, start};

fn origins(names: &[&str]) -> Vec<Origin> {
    names.iter().map(|name| Origin::start(name).unwrap()).collect()
}

fn addresses(origins: &[Origin]) -> Vec<std::net::SocketAddr> {
    origins.iter().map(Origin::address).collect()
}

/// Answers by instance.
fn spread(site: &Tenfold, requests: usize, fields: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(instance(site, fields)).or_default() += 1;
    }
    counts
}

/// A site whose endpoints are written with more than their addresses, on one core so that turns are exact.
fn weighted(origins: &[Origin], extra: &[&str], service: &str) -> Tenfold {
    let endpoints: Vec<String> = origins
        .iter()
        .zip(extra)
        .map(|(origin, extra)| format!("{{ address = \"{}\"{extra} }}", origin.address()))
        .collect();
    let head = listeners(testkit::free_port());
    start(&format!(
        "{head}[runtime]\nworkers = 1\n[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [{}]\n{service}\n",
        endpoints.join(", ")
    ))
}

#[test]
fn round_robin_follows_weights_smoothly() {
    let origins = origins(&["a", "b", "c"]);
    let site = weighted(&origins, &[", weight = 5", "", ""], "balance = \"round_robin\"");
    let mut order: Vec<String> = (0..14).map(|_| instance(&site, "")).collect();
    let second = order.split_off(7);
    assert_eq!(order, second, "the turn repeats");
    let of = |name: &str| order.iter().filter(|got| *got == name).count();
    assert_eq!([of("a"), of("b"), of("c")], [5, 1, 1]);
    let longest = order.iter().cycle().take(14).collect::<Vec<_>>();
    assert!(longest.windows(5).all(|five| five.iter().any(|name| *name != "a")), "never five in a row: {order:?}");
}

#[test]
fn backups_wait_and_drained_endpoints_get_nothing() {
    let origins = origins(&["a", "b", "c"]);
    let site = weighted(&origins, &["", ", backup = true", ", drain = true"], "");
    assert_eq!(spread(&site, 20, ""), BTreeMap::from([("a".to_owned(), 20)]));
}

#[test]
fn a_backup_takes_over_from_the_dead() {
    let origins = origins(&["a", "b"]);
    let site = weighted(&origins, &["", ", backup = true"], "");
    assert_eq!(instance(&site, ""), "a");
    let [a, _b] = <[Origin; 2]>::try_from(origins).unwrap();
    a.stop();
    assert_eq!(spread(&site, 10, ""), BTreeMap::from([("b".to_owned(), 10)]));
}

#[test]
fn what_a_priority_cannot_bear_goes_to_the_next() {
    let origins = origins(&["a", "c"]);
    let dead = dead_address();
    let check = "health = { tcp = true, interval = \"100ms\", rise = 1, fall = 1 }\npassive_health = \"off\"";
    let head = listeners(testkit::free_port());
    let (a, c) = (origins[0].address(), origins[1].address());
    let site = start(&format!(
        "{head}[runtime]\nworkers = 1\n[[route]]\nservice = \"api\"\n[service.api]\nbalance = \"round_robin\"\n{check}\n\
         endpoints = [\"{a}\", \"{dead}\", {{ address = \"{c}\", priority = 1 }}]\n"
    ));
    site.wait_until("checked", |site| Ok(health(site) == ["healthy", "unhealthy", "healthy"])).unwrap();
    // Half of it times 1.4, and the rest. Turns keep to that within a request or two.
    let spill = spread(&site, 100, "");
    assert!(spill["a"].abs_diff(70) <= 2 && spill["a"] + spill["c"] == 100, "{spill:?}");
    let shares = |site: &Tenfold| {
        let tiers = page(site, "/services/api")["tiers"].clone();
        [tiers[0]["share"].as_f64().unwrap(), tiers[1]["share"].as_f64().unwrap()]
    };
    assert_eq!(shares(&site), [0.7, 0.3]);
    let _up = Origin::start_at(dead, "b").unwrap();
    site.wait_until("back", |site| Ok(shares(site) == [1.0, 0.0])).unwrap();
    assert!(!spread(&site, 20, "").contains_key("c"));
    assert!(site.output().contains("it spills") && site.output().contains("bears all traffic again"));
}

#[test]
fn the_own_zone_is_preferred() {
    let [a, b] = <[Origin; 2]>::try_from(origins(&["a", "b"])).unwrap();
    let config = |port| {
        let head = listeners(port);
        let endpoint = |origin: &Origin, zone| format!("{{ address = \"{}\", zone = \"{zone}\" }}", origin.address());
        let (a, b) = (endpoint(&a, "eu-1a"), endpoint(&b, "eu-1b"));
        let service = format!("[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [{a}, {b}]\n");
        format!("{head}[runtime]\nzone = \"${{ZONE:-}}\"\n{service}")
    };
    let nowhere = start(&config(testkit::free_port()));
    assert_eq!(spread(&nowhere, 20, "").len(), 2, "without a zone of its own they are alike");
    let mut command = crate::site::command();
    command.env("ZONE", "eu-1b");
    let site = Tenfold::start_with(command, &config(testkit::free_port())).unwrap();
    assert_eq!(spread(&site, 20, ""), BTreeMap::from([("b".to_owned(), 20)]));
    assert_eq!(page(&site, "/services/api")["endpoints"][1]["zone"], "eu-1b");
    b.stop();
    assert_eq!(spread(&site, 10, ""), BTreeMap::from([("a".to_owned(), 10)]));
}

#[test]
fn hashed_keys_stay_where_they_are() {
    let origins = origins(&["a", "b", "c"]);
    let service = "balance = \"maglev\"\nhash_key = { header = \"x-user\" }";
    let site = site(&addresses(&origins), service);
    let of_user = |user: usize| instance(&site, &format!("X-User: u{user}\r\n"));
    let first: Vec<String> = (0..30).map(of_user).collect();
    let second: Vec<String> = (0..30).map(of_user).collect();
    assert_eq!(first, second);
    assert!(["a", "b", "c"].iter().all(|name| first.iter().any(|got| got == name)), "{first:?}");
}

#[test]
fn a_full_endpoint_is_passed_over_for_its_keys() {
    let origins = origins(&["a", "b", "c"]);
    let site = site(&addresses(&origins), "balance = \"maglev\"\nhash_key = \"path\"\nhash_load_factor = 1.5");
    // One after the other, all go to the endpoint of the path.
    let alone: Vec<String> =
        (0..5).map(|_| crate::site::get(&site, "/delay/1", "").fields.get("x-instance").unwrap().to_owned()).collect();
    assert!(alone.iter().all(|name| *name == alone[0]), "{alone:?}");
    // All at once, none may have more than half of six, rounded up by what is not counted yet.
    let mut conns: Vec<RawConn> = (0..6).map(|_| RawConn::connect(site.address()).unwrap()).collect();
    for conn in &mut conns {
        conn.send("GET /delay/1000 HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut counts = BTreeMap::<String, usize>::new();
    for conn in &mut conns {
        let name = conn.read_response("GET").unwrap().fields.get("x-instance").unwrap().to_owned();
        *counts.entry(name).or_default() += 1;
    }
    assert!(counts.len() >= 2 && counts.values().all(|&count| count <= 3), "{counts:?}");
}

#[test]
fn clients_are_told_apart_by_address() {
    let origins = origins(&["a", "b", "c"]);
    let site = site(&addresses(&origins), "balance = \"ip_hash\"");
    let from = |last: u8| {
        let mut conn = RawConn::connect_from([127, 0, 9, last].into(), site.address()).unwrap();
        conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
        conn.read_response("GET").unwrap().fields.get("x-instance").unwrap().to_owned()
    };
    let first: Vec<String> = (1..20).map(from).collect();
    assert_eq!(first, (1..20).map(from).collect::<Vec<_>>());
    assert!(first.iter().any(|name| *name != first[0]), "{first:?}");
}

#[test]
fn a_sticky_client_stays() {
    let origins = origins(&["a", "b", "c"]);
    let site = site(&addresses(&origins), "balance = \"random\"\nsticky = { cookie = \"stick\", ttl = \"1h\" }");
    let response = crate::site::get(&site, "/", "");
    let set = response.fields.get("set-cookie").unwrap();
    assert!(set.starts_with("stick=") && set.contains("Max-Age=3600") && set.contains("HttpOnly"), "{set}");
    assert!(!set.contains("Secure"), "it came by plain HTTP: {set}");
    let cookie = set.split(';').next().unwrap();
    let own = response.fields.get("x-instance").unwrap().to_owned();
    let again = crate::site::get(&site, "/", &format!("Cookie: other=1; {cookie}\r\n"));
    assert_eq!(again.fields.get("set-cookie"), None, "it has the cookie");
    assert_eq!(spread(&site, 20, &format!("Cookie: {cookie}\r\n")), BTreeMap::from([(own, 20)]));
    // A cookie of an endpoint that is not there is replaced.
    let unknown = crate::site::get(&site, "/", "Cookie: stick=0123456789abcdef\r\n");
    assert!(unknown.fields.get("set-cookie").is_some());
}

#[test]
fn a_sticky_cookie_is_for_https_alone_if_the_client_came_so() {
    let origins = origins(&["a"]);
    let text = crate::site::config(&addresses(&origins), "sticky = { cookie = \"stick\" }");
    let trusting = text.replace("[[route]]", "trusted_proxies = [\"127.0.0.0/8\"]\n[[route]]");
    for (text, proto, expected) in
        [(&trusting, "https", true), (&trusting, "http", false), (&text, "https", false), (&text, "http", false)]
    {
        let response = crate::site::get(&start(text), "/", &format!("X-Forwarded-Proto: {proto}\r\n"));
        let set = response.fields.get("set-cookie").unwrap();
        assert_eq!(set.ends_with("; Secure"), expected, "{proto}: {set}");
    }
}

#[test]
fn every_algorithm_reaches_every_endpoint() {
    let origins = origins(&["a", "b", "c"]);
    for balance in ["round_robin", "least_connections", "random", "power_of_two", "peak_ewma"] {
        let site = site(&addresses(&origins), &format!("balance = \"{balance}\""));
        assert_eq!(spread(&site, 60, "").len(), 3, "{balance}");
    }
}

#[test]
fn names_are_resolved() {
    let origin = Origin::start("a").unwrap();
    let head = listeners(testkit::free_port());
    let port = origin.address().port();
    let site = start(&format!(
        "{head}[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"localhost:{port}\"]\nkeep_host = false\n"
    ));
    assert_eq!(instance(&site, ""), "a");
    let endpoints = page(&site, "/services/api")["endpoints"].clone();
    assert_eq!(endpoints[0]["host"], format!("localhost:{port}"));
}
