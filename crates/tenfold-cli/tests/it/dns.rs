//! Endpoints behind names, asked of a name server whose answers change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{DnsData, DnsMood, DnsServer, Load, LoadParams, Origin, RawConn, Tenfold, dnsmasq, free_port};

use crate::site::{command, get, instance, listeners, page, start};

const API: &str = "api.example.com";
const SRV: &str = "_http._tcp.example.com";

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Instances `1`, `2` and so on, at one port of 127.0.0.1, 127.0.0.2 and so on.
fn origins(count: u8) -> (u16, Vec<Origin>) {
    let port = free_port();
    let origin = |last: u8| Origin::start_at(SocketAddr::from((ip(last), port)), &last.to_string()).unwrap();
    (port, (1..=count).map(origin).collect())
}

/// A configuration whose names are asked of this server, by rules that go on with `resolver`.
fn config(dns: &DnsServer, endpoint: &str, resolver: &str, service: &str) -> String {
    let (head, server) = (listeners(free_port()), dns.address());
    format!(
        "{head}[runtime]\nworkers = 1\n[resolver]\nservers = \"{server}\"\ntimeout = \"200ms\"\nattempts = 2\nttl_min = \"100ms\"\n{resolver}\n\
         [[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"{endpoint}\"]\n{service}\n"
    )
}

fn endpoints(site: &Tenfold) -> Vec<String> {
    let service = page(site, "/api/services/api");
    let endpoints = service["endpoints"].as_array().unwrap().iter();
    endpoints.map(|endpoint| endpoint["address"].as_str().unwrap().to_owned()).collect()
}

fn name_of(site: &Tenfold) -> Value {
    page(site, "/api/services/api")["names"][0].clone()
}

fn lookups(site: &Tenfold, result: &str) -> f64 {
    site.metric("resolver_lookups_total", &[&format!("result=\"{result}\"")]).unwrap()
}

/// Waits for some more lookups of this result.
fn await_lookups(site: &Tenfold, result: &str, more: f64) {
    let before = lookups(site, result);
    site.wait_until(result, |site| Ok(lookups(site, result) >= before + more)).unwrap();
}

fn answers(site: &Tenfold, count: usize) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    (0..count).for_each(|_| *found.entry(instance(site, "")).or_default() += 1);
    found
}

#[test]
fn a_set_changes_under_load_and_no_request_fails() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(4);
    dns.set_addresses(API, 1, &[ip(1)]);
    let site = start(&config(&dns, &format!("{API}:{port}"), "", "slow_start = \"1s\""));
    assert_eq!(instance(&site, ""), "1");
    let load = Load::start(&LoadParams { connections: 8, ..LoadParams::new(site.address()) });
    // No address of one set is in the next.
    for next in [&[2, 3][..], &[4], &[1, 2, 3]] {
        let next: Vec<IpAddr> = next.iter().map(|last| ip(*last)).collect();
        dns.set_addresses(API, 1, &next);
        let wanted: Vec<String> = next.iter().map(|ip| format!("{ip}:{port}")).collect();
        site.wait_until("applied", |site| Ok(endpoints(site) == wanted)).unwrap();
    }
    let report = load.stop();
    assert_eq!(report.counts.failed_before_head + report.counts.failed_after_head, 0, "{:?}", report.failures);
    assert_eq!(report.instances.len(), 4, "{:?}", report.instances);
    let state = name_of(&site);
    assert_eq!((&state["name"], &state["endpoints"], &state["result"]), (&json!(API), &json!(3), &json!("success")));
    assert_eq!(site.metric("resolver_endpoints", &[&format!("name=\"{API}\"")]).unwrap(), 3.0);
    assert!(site.metric("resolver_last_success_timestamp_seconds", &[]).unwrap() > 1e9);
}

#[test]
fn what_stays_keeps_its_state() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(2);
    dns.set_addresses(API, 1, &[ip(1)]);
    let site = start(&config(&dns, &format!("{API}:{port}"), "", ""));
    let mut client = RawConn::connect(site.address()).unwrap();
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
        assert_eq!(client.read_response("GET").unwrap().status, 200);
    };
    ask();
    dns.set_addresses(API, 1, &[ip(1), ip(2)]);
    site.wait_until("two", |site| Ok(endpoints(site).len() == 2)).unwrap();
    dns.set_addresses(API, 1, &[ip(1)]);
    site.wait_until("one", |site| Ok(endpoints(site).len() == 1)).unwrap();
    ask();
    let of_first = format!("instance=\"127.0.0.1:{port}\"");
    assert_eq!(site.metric("upstream_connects_total", &[&of_first]).unwrap(), 1.0);
    assert_eq!(site.metric("upstream_connection_reuses_total", &[&of_first]).unwrap(), 1.0);
}

#[test]
fn times_to_live_are_kept() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(2);
    dns.set_addresses(API, 1, &[ip(1)]);
    dns.set_addresses("long.example.com", 3600, &[ip(1)]);
    let text = config(&dns, &format!("{API}:{port}"), "", "");
    let text = text.replace(&format!("\"{API}:{port}\""), &format!("\"{API}:{port}\", \"long.example.com:{port}\""));
    let site = start(&text);
    dns.set_addresses(API, 1, &[ip(2)]);
    let changed = Instant::now();
    let second = format!("127.0.0.2:{port}");
    site.wait_until("changed", |site| Ok(endpoints(site).contains(&second))).unwrap();
    assert!(changed.elapsed() < Duration::from_millis(2500), "{:?}", changed.elapsed());
    await_lookups(&site, "success", 2.0);
    // Both families are asked for, and one of the two has nothing to be remembered.
    let asked: Vec<Instant> =
        dns.questions().iter().filter(|asked| asked.name == API && asked.kind == "A").map(|asked| asked.at).collect();
    assert!(asked.len() >= 3, "{asked:?}");
    for pair in asked.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(1), "asked early: {:?}", pair[1] - pair[0]);
    }
    assert_eq!(dns.count("long.example.com", "A"), 1);
}

#[test]
fn while_the_server_fails_the_last_answer_stays() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(2);
    dns.set_addresses(API, 0, &[ip(1)]);
    let site = start(&config(&dns, &format!("{API}:{port}"), "", ""));
    let moods = [
        (DnsMood::Code(2), "failure", "SERVFAIL"),
        (DnsMood::Code(5), "failure", "REFUSED"),
        (DnsMood::Silent, "timeout", "no answer within 200ms"),
        (DnsMood::Strangers, "timeout", "no answer within 200ms"),
        (DnsMood::Noise, "timeout", "no answer within 200ms"),
        (DnsMood::Garbage, "failure", "cannot be read"),
        (DnsMood::TruncatedForGood, "failure", ""),
    ];
    for (mood, result, text) in moods {
        dns.set_mood(mood.clone());
        await_lookups(&site, result, 1.0);
        site.wait_until("told", |site| Ok(name_of(site)["trouble"].as_str().is_some_and(|told| told.contains(text))))
            .unwrap();
        assert_eq!(instance(&site, ""), "1", "{mood:?}");
        dns.set_mood(DnsMood::Well);
        await_lookups(&site, "success", 1.0);
    }
    // The name is gone, and then there but without addresses.
    dns.remove(API);
    await_lookups(&site, "no_name", 1.0);
    assert_eq!(instance(&site, ""), "1");
    dns.set_addresses(API, 0, &[]);
    await_lookups(&site, "no_records", 1.0);
    assert_eq!(instance(&site, ""), "1");
    dns.set_addresses(API, 0, &[ip(2)]);
    site.wait_until("healed", |site| Ok(instance(site, "") == "2")).unwrap();
    let log = site.output();
    assert!(log.contains("the last answer stays") && log.contains("a name is resolved again"), "{log}");
}

#[test]
fn one_family_that_fails_takes_nothing_away() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(1);
    dns.set_addresses(API, 0, &[ip(1)]);
    dns.set_mood(DnsMood::CodeOfAaaa(2));
    let site = start(&config(&dns, &format!("{API}:{port}"), "", ""));
    assert_eq!(instance(&site, ""), "1");
    assert!(lookups(&site, "partial") >= 1.0);
    let text = config(&dns, &format!("{API}:{port}"), "family = \"ipv4\"", "");
    let before = dns.count(API, "AAAA");
    let other = start(&text);
    assert_eq!(instance(&other, ""), "1");
    assert_eq!(lookups(&other, "partial"), 0.0);
    drop(site);
    assert!(dns.count(API, "AAAA") >= before, "the first one asked for both");
}

#[test]
fn nobody_is_left_only_where_the_settings_say_so() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(1);
    dns.set_addresses(API, 0, &[ip(1)]);
    let removes = start(&config(&dns, &format!("{API}:{port}"), "when_empty = \"remove\"", ""));
    let ages = start(&config(&dns, &format!("{API}:{port}"), "stale_max = \"1s\"", ""));
    assert_eq!((instance(&removes, ""), instance(&ages, "")), ("1".to_owned(), "1".to_owned()));
    dns.set_mood(DnsMood::Code(2));
    ages.wait_until("aged", |site| Ok(endpoints(site).is_empty())).unwrap();
    assert_eq!(instance(&removes, ""), "1", "a failure says nothing");
    dns.set_mood(DnsMood::Well);
    dns.remove(API);
    removes.wait_until("removed", |site| Ok(endpoints(site).is_empty())).unwrap();
    let refused = get(&removes, "/", "");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(removes.admin_get("/readyz").unwrap().status, 503);
    dns.set_addresses(API, 0, &[ip(1)]);
    for site in [removes, ages] {
        site.wait_until("back", |site| Ok(get(site, "/", "").status == 200)).unwrap();
    }
}

#[test]
fn a_start_without_a_name_server_heals_by_itself() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (port, _origins) = origins(1);
    let endpoint = format!("{API}:{port}");
    let silent = DnsServer::start_at(address).unwrap();
    silent.set_mood(DnsMood::Silent);
    let begun = Instant::now();
    let site = start(&config(&silent, &endpoint, "", ""));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(silent);
    let refused = get(&site, "/", "");
    assert_eq!(refused.status, 503);
    let body: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(body["error"], "no_endpoint", "{body}");
    let ready = site.admin_get("/readyz").unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text());
    let dns = DnsServer::start_at(address).unwrap();
    dns.set_addresses(API, 60, &[ip(1)]);
    site.wait_until("healed", |site| Ok(get(site, "/", "").status == 200)).unwrap();
    assert_eq!(site.admin_get("/readyz").unwrap().status, 200);
}

#[test]
fn a_silent_name_server_holds_up_nothing_but_the_reload() {
    let dns = DnsServer::start().unwrap();
    let (port, mut origins) = origins(3);
    dns.set_addresses(API, 60, &[ip(1), ip(2)]);
    let checked = "health = { path = \"/\", interval = \"100ms\", fall = 1 }";
    let backup = format!("{{ address = \"127.0.0.3:{port}\", backup = true }}");
    let written = format!("endpoints = [\"{API}:{port}\", {backup}]");
    let text = config(&dns, "-", "", checked).replace("endpoints = [\"-\"]", &written);
    let text = text.replace("timeout = \"200ms\"", "timeout = \"5s\"");
    let mut site = start(&text);
    assert!(matches!(&*instance(&site, ""), "1" | "2"));
    dns.set_mood(DnsMood::Silent);
    let reloaded = Instant::now();
    site.reload(&text.replace(API, "other.example.com")).unwrap();
    let asked = || dns.questions().iter().any(|asked| asked.name == "other.example.com");
    site.wait_until("asked", |_| Ok(asked())).unwrap();
    origins.remove(0).stop();
    let is_out =
        |site: &Tenfold| site.metric("upstream_healthy", &[&format!("instance=\"127.0.0.1:{port}\"")]).unwrap() == 0.0;
    site.wait_until("noticed", |site| Ok(is_out(site))).unwrap();
    let noticed = reloaded.elapsed();
    assert_eq!(site.metric("config_reloads_total", &["result=\"success\""]).unwrap(), 0.0, "after {noticed:?}");
    // The new name stands for nothing yet, so what there was stays beside the backup.
    site.wait_until("reloaded", |site| Ok(site.metric("config_reloads_total", &["result=\"success\""])? == 1.0))
        .unwrap();
    assert_eq!(instance(&site, ""), "2");
    dns.set_addresses("other.example.com", 60, &[ip(2)]);
    dns.set_mood(DnsMood::Well);
    let wanted = [2, 3].map(|last| format!("127.0.0.{last}:{port}"));
    site.wait_until("the new name", |site| Ok(endpoints(site) == wanted)).unwrap();
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(1);
    // Too many for a datagram; all but the first are nobody.
    let many: Vec<IpAddr> = (0..120).map(|last| IpAddr::V4(Ipv4Addr::new(127, 1, 0, last))).chain([ip(1)]).collect();
    dns.set_addresses(API, 60, &many);
    let site = start(&config(&dns, &format!("{API}:{port}"), "", ""));
    assert_eq!(endpoints(&site).len(), 121);
    assert!(dns.questions().iter().any(|asked| asked.is_tcp && asked.kind == "A"));
    // A server of old times is asked once more, as it likes it.
    dns.set_mood(DnsMood::Old);
    dns.set_addresses("old.example.com", 60, &[ip(1)]);
    let old = start(&config(&dns, &format!("old.example.com:{port}"), "", ""));
    assert_eq!(instance(&old, ""), "1");
    // What is beyond the bound is left out, and the log says so.
    dns.set_mood(DnsMood::Well);
    let few = start(&config(&dns, &format!("{API}:{port}"), "addresses_max = 20", ""));
    assert_eq!(endpoints(&few).len(), 20);
    assert_eq!((lookups(&few, "partial"), &endpoints(&few)[0]), (1.0, &format!("127.0.0.1:{port}")));
    assert!(few.output().contains("101 addresses beyond addresses_max are not used"), "{}", few.output());
}

#[test]
fn a_second_server_is_asked_when_the_first_one_fails() {
    let (broken, good) = (DnsServer::start().unwrap(), DnsServer::start().unwrap());
    let (port, _origins) = origins(1);
    broken.set_mood(DnsMood::Code(2));
    good.set_addresses(API, 60, &[ip(1)]);
    let text = config(&broken, &format!("{API}:{port}"), "", "");
    let both = format!("servers = [\"{}\", \"{}\"]", broken.address(), good.address());
    let site = start(&text.replace(&format!("servers = \"{}\"", broken.address()), &both));
    assert_eq!(instance(&site, ""), "1");
    assert_eq!(lookups(&site, "success"), 1.0);
}

fn service(priority: u16, weight: u16, port: u16, target: &str) -> DnsData {
    DnsData::Service { priority, weight, port, target: target.to_owned() }
}

#[test]
fn srv_records_have_ports_priorities_and_weights() {
    for with_glue in [false, true] {
        let dns = DnsServer::start().unwrap();
        dns.set_glue(with_glue);
        let all: Vec<Origin> = ["a", "b", "c"].iter().map(|name| Origin::start(name).unwrap()).collect();
        let at = |index: usize| all[index].address().port();
        for host in ["a", "b", "c"] {
            dns.set_addresses(&format!("{host}.example.com"), 3600, &[ip(1)]);
        }
        let records = [
            service(10, 30, at(0), "a.example.com"),
            service(10, 10, at(1), "b.example.com"),
            service(20, 0, at(2), "c.example.com"),
        ];
        dns.set(SRV, 1, &records);
        // Beside the records only addresses of IPv4 come, which is all that is wanted, or is asked for once more.
        let family = if with_glue { "family = \"ipv4\"" } else { "" };
        let site = start(&config(&dns, SRV, family, "balance = \"round_robin\"\nkeep_host = false"));
        let expected = BTreeMap::from([("a".to_owned(), 30), ("b".to_owned(), 10)]);
        assert_eq!(answers(&site, 40), expected, "the second priority has nothing to do");
        let shown = page(&site, "/api/services/api");
        let all_shown = shown["endpoints"].as_array().unwrap();
        let first = all_shown.iter().find(|one| one["address"] == format!("127.0.0.1:{}", at(0))).unwrap();
        assert_eq!((&first["name"], &first["weight"], &first["priority"]), (&json!(SRV), &json!(30), &json!(0)));
        assert_eq!(first["host"], json!(format!("a.example.com:{}", at(0))));
        assert_eq!(shown["endpoints"][2]["priority"], json!(1));
        // Nobody of the first priority is left; then the service is decidedly not offered.
        dns.set(SRV, 1, &records[2..]);
        site.wait_until("moved", |site| Ok(instance(site, "") == "c")).unwrap();
        dns.set(SRV, 1, &[service(0, 0, 0, ".")]);
        await_lookups(&site, "no_records", 1.0);
        assert_eq!(instance(&site, ""), "c");
        let asked = dns.count("c.example.com", "A");
        assert_eq!(asked, usize::from(!with_glue), "addresses that are good for an hour are not asked for again");
    }
}

#[test]
fn an_endpoint_behind_a_name_is_drained_until_it_is_reset() {
    let dns = DnsServer::start().unwrap();
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    dns.set_addresses("a.example.com", 60, &[ip(1)]);
    let of = |origin: &Origin| service(0, 1, origin.address().port(), "a.example.com");
    dns.set(SRV, 1, &[of(&a), of(&b)]);
    let site = start(&config(&dns, SRV, "", ""));
    let run = |arguments: &[&str]| {
        let admin = site.admin().unwrap().to_string();
        let mut command = command();
        command.arg("endpoint").args(arguments).args(["--admin", &format!("http://{admin}")]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["drain", "api", &a.address().to_string()]);
    assert_eq!(answers(&site, 10), BTreeMap::from([("b".to_owned(), 10)]));
    // It goes and comes back, and is still drained.
    dns.set(SRV, 1, &[of(&b)]);
    site.wait_until("gone", |site| Ok(endpoints(site).len() == 1)).unwrap();
    dns.set(SRV, 1, &[of(&a), of(&b)]);
    site.wait_until("back", |site| Ok(endpoints(site).len() == 2)).unwrap();
    assert_eq!(answers(&site, 10), BTreeMap::from([("b".to_owned(), 10)]));
}

#[test]
fn aliases_are_followed_and_connections_of_tcp_go_the_same_way() {
    let dns = DnsServer::start().unwrap();
    let (port, _origins) = origins(2);
    dns.set(API, 300, &[DnsData::Alias("a.example.net".to_owned())]);
    dns.set("a.example.net", 300, &[DnsData::Alias("b.example.net".to_owned())]);
    dns.set_addresses("b.example.net", 1, &[ip(1)]);
    let text = config(&dns, &format!("{API}:{port}"), "", "");
    let text = text.replace("[listener.web]\n", "[listener.web]\nkind = \"tcp\"\nservice = \"api\"\n");
    let site = start(&text.replace("[[route]]\nservice = \"api\"\n", ""));
    assert_eq!(instance(&site, ""), "1");
    dns.set_addresses("b.example.net", 1, &[ip(2)]);
    site.wait_until("changed", |site| Ok(instance(site, "") == "2")).unwrap();
}

#[test]
fn an_upgrade_hands_over_what_names_stand_for() {
    let dns = DnsServer::start().unwrap();
    let origin = Origin::start("a").unwrap();
    dns.set_addresses("a.example.com", 1, &[ip(1)]);
    dns.set(SRV, 1, &[service(0, 7, origin.address().port(), "a.example.com")]);
    let mut site = start(&config(&dns, SRV, "", ""));
    assert_eq!(instance(&site, ""), "a");
    dns.set_mood(DnsMood::Silent);
    site.upgrade().unwrap();
    site.wait_until("upgraded", |site| Ok(site.output().contains("the last answer stays"))).unwrap();
    assert_eq!(instance(&site, ""), "a");
    assert_eq!(page(&site, "/api/services/api")["endpoints"][0]["weight"], json!(7));
}

#[test]
fn a_server_that_others_wrote_is_understood() {
    let (origin, name_port) = (Origin::start("a").unwrap(), free_port());
    let port = origin.address().port();
    let mut options = vec![
        "--host-record=a.example.com,127.0.0.1,60".to_owned(),
        "--cname=api.example.com,a.example.com,30".to_owned(),
        format!("--srv-host={SRV},a.example.com,{port},1,5"),
        "--local=/example.com/".to_owned(),
    ];
    options.extend((0..150).map(|last| format!("--host-record=many.example.com,127.1.0.{last}")));
    let _dnsmasq = dnsmasq(&options, name_port).unwrap();
    let text = |endpoint: &str| {
        let (head, address) = (listeners(free_port()), format!("127.0.0.1:{name_port}"));
        format!(
            "{head}[resolver]\nservers = \"{address}\"\n[[route]]\nservice = \"api\"\n\
             [service.api]\nendpoints = [\"{endpoint}\"]\n"
        )
    };
    for endpoint in [format!("{API}:{port}"), SRV.to_owned()] {
        let site = start(&text(&endpoint));
        assert_eq!(instance(&site, ""), "a", "{endpoint}");
        assert_eq!(lookups(&site, "success"), 1.0, "{}", name_of(&site));
    }
    let site = start(&text("many.example.com:80"));
    assert_eq!(endpoints(&site).len(), 150);
    let unknown = start(&text("nobody.example.com:80"));
    assert_eq!(get(&unknown, "/", "").status, 503);
    assert!(!name_of(&unknown)["trouble"].is_null());
}
