//! Endpoints that are changed while the program runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::message::Response;
use testkit::{Load, LoadParams, Origin, RawConn, RawUpstream, Script, Step, Tenfold};

use crate::site::{apply, config, get, instance, page, site, start};

/// Asks for a change; `body` is JSON, or empty.
fn send(site: &Tenfold, method: &str, path: &str, body: &str) -> Response {
    let (admin, length) = (site.admin().unwrap(), body.len());
    let mut conn = RawConn::connect(admin).unwrap();
    conn.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .unwrap();
    conn.read_response(method).unwrap()
}

fn change(site: &Tenfold, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = send(site, method, path, &body);
    assert!(matches!(response.status, 200 | 201), "{method} {path}: {}", response.text());
    serde_json::from_slice(&response.body).unwrap()
}

fn edit(site: &Tenfold, origin: &Origin, body: &Value) -> Value {
    change(site, "PATCH", &path(origin), body)
}

fn path(origin: &Origin) -> String {
    format!("/api/services/api/endpoints/{}", origin.address())
}

fn add(site: &Tenfold, origin: &Origin) -> Value {
    change(site, "POST", "/api/services/api/endpoints", &json!({ "address": origin.address().to_string() }))
}

fn spread(site: &Tenfold, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(instance(site, "")).or_default() += 1;
    }
    counts
}

fn origins<const N: usize>(names: [&str; N]) -> [Origin; N] {
    names.map(|name| Origin::start(name).unwrap())
}

/// On one core, so that turns are exact.
fn in_turn(origins: &[&Origin]) -> String {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address()).collect();
    format!("{}[runtime]\nworkers = 1\n", config(&addresses, "balance = \"round_robin\""))
}

fn of(counts: &BTreeMap<String, usize>, name: &str) -> usize {
    counts.get(name).copied().unwrap_or(0)
}

#[test]
fn a_weight_holds_from_the_next_request_on() {
    let [a, b] = origins(["a", "b"]);
    let site = start(&in_turn(&[&a, &b]));
    assert_eq!(spread(&site, 20), BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 10)]));
    let service = edit(&site, &a, &json!({ "weight": 3 }));
    let over = &service["endpoints"][0]["overrides"][0];
    assert_eq!((&over["setting"], &over["value"], &over["file"]), (&json!("weight"), &json!(3), &json!(1)));
    assert!(over["since"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(spread(&site, 20), BTreeMap::from([("a".to_owned(), 15), ("b".to_owned(), 5)]));
    assert_eq!(page(&site, "/api/config")["effective"]["service"]["api"]["endpoints"][0]["weight"], 3);
    edit(&site, &a, &json!({ "weight": null }));
    assert_eq!(of(&spread(&site, 20), "a"), 10);
    assert_eq!(page(&site, "/api/overrides"), json!([]));
}

#[test]
fn a_drain_under_load_loses_nothing_and_lets_requests_finish() {
    let [a, b] = origins(["a", "b"]);
    let site = site(&[a.address(), b.address()], "");
    let mut params = LoadParams::new(site.address());
    params.path = "/delay/20".to_owned();
    params.connections = 24;
    let load = Load::start(&params);
    let at_a = || site.metric("upstream_in_flight", &[&format!("instance=\"{}\"", a.address())]).unwrap();
    for _ in 0..6 {
        edit(&site, &a, &json!({ "drain": true }));
        site.wait_until("drained", |_| Ok(at_a() == 0.0)).unwrap();
        let before = a.requests();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(a.requests(), before, "a drained endpoint gets nothing");
        edit(&site, &a, &json!({ "drain": false }));
        site.wait_until("used again", |_| Ok(a.requests() > before)).unwrap();
    }
    let report = load.stop();
    assert_eq!((report.counts.failed_before_head, report.counts.failed_after_head), (0, 0), "{:?}", report.failures);
    assert_eq!(report.connections, 24, "no client connection was lost");
    assert!(report.counts.ok > 200, "{:?}", report.counts);
}

#[test]
fn every_change_under_load_loses_nothing() {
    let [a, b, c] = origins(["a", "b", "c"]);
    let site = site(&[a.address(), b.address()], "");
    let mut params = LoadParams::new(site.address());
    params.path = "/delay/5".to_owned();
    params.connections = 16;
    let load = Load::start(&params);
    for round in 0..15 {
        add(&site, &c);
        edit(&site, &c, &json!({ "weight": 5 }));
        change(&site, "DELETE", &path(&a), &Value::Null);
        edit(&site, &b, &json!({ "weight": round % 3 + 2 }));
        change(&site, "DELETE", &format!("{}/overrides", path(&a)), &Value::Null);
        if round % 2 == 0 {
            change(&site, "DELETE", &path(&c), &Value::Null);
        } else {
            change(&site, "DELETE", "/api/overrides", &Value::Null);
        }
        if round % 5 == 0 {
            change(&site, "POST", "/api/reload", &Value::Null);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let report = load.stop();
    assert_eq!((report.counts.failed_before_head, report.counts.failed_after_head), (0, 0), "{:?}", report.failures);
    assert_eq!(report.connections, 16, "no client connection was lost");
    assert!(report.instances.contains_key("c"), "{:?}", report.instances);
}

#[test]
fn what_is_removed_finishes_what_it_began() {
    let steps = [
        Step::AwaitRequest,
        Step::Pause(Duration::from_millis(400)),
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec()),
    ];
    let slow = RawUpstream::start(Script::new(steps)).unwrap();
    let [b] = origins(["b"]);
    let site = site(&[slow.address()], "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 1.0)).unwrap();
    add(&site, &b);
    let slow_path = format!("/api/services/api/endpoints/{}", slow.address());
    let service = change(&site, "DELETE", &slow_path, &Value::Null);
    assert_eq!(service["endpoints"].as_array().unwrap().len(), 1);
    assert_eq!(service["removed"][0]["name"], slow.address().to_string());
    assert_eq!(spread(&site, 6), BTreeMap::from([("b".to_owned(), 6)]));
    assert_eq!(conn.read_response("GET").unwrap().text(), "done");
    // The last one stays, whether it is the file's or not.
    let response = send(&site, "DELETE", &path(&b), "");
    assert_eq!(response.status, 409, "{}", response.text());
    assert!(response.text().contains("its last endpoint"), "{}", response.text());
    let response = send(&site, "DELETE", &format!("{}/overrides", path(&b)), "");
    assert_eq!(response.status, 409, "{}", response.text());
    change(&site, "DELETE", "/api/overrides", &Value::Null);
    assert_eq!(page(&site, "/api/services/api")["endpoints"][0]["origin"], "file");
}

#[test]
fn streams_of_http2_finish_where_they_began() {
    let [a] = origins(["a"]);
    let port = testkit::free_port();
    let conf = format!(
        "worker_processes 1; events {{}} http {{ access_log off; client_body_temp_path {{dir}};
         proxy_temp_path {{dir}}; fastcgi_temp_path {{dir}}; uwsgi_temp_path {{dir}}; scgi_temp_path {{dir}};
         server {{ listen 127.0.0.1:{port} http2; location / {{ proxy_pass http://{}; }} }} }}",
        a.address()
    );
    let _nginx = testkit::nginx(&conf, port).unwrap();
    let endpoint = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let site = site(&[endpoint, crate::site::dead_address()], "protocol = \"http2\"\nbalance = \"round_robin\"");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET /delay/500 HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    site.wait_until("under way", |_| Ok(a.requests() == 1)).unwrap();
    change(&site, "DELETE", &format!("/api/services/api/endpoints/{endpoint}"), &Value::Null);
    assert_eq!(page(&site, "/api/services/api")["endpoints"].as_array().unwrap().len(), 1);
    let response = conn.read_response("GET").unwrap();
    assert_eq!((response.status, response.fields.get("x-instance")), (200, Some("a")), "{}", response.text());
}

#[test]
fn an_endpoint_added_by_its_name_is_resolved() {
    let [a, b] = origins(["a", "b"]);
    let site = site(&[a.address()], "balance = \"round_robin\"");
    let name = format!("LOCALHOST:{}", b.address().port());
    let service = change(&site, "POST", "/api/services/api/endpoints", &json!({ "address": name }));
    let endpoints = service["endpoints"].as_array().unwrap();
    let added: Vec<_> = endpoints.iter().filter(|endpoint| endpoint["origin"] == "override").collect();
    assert!(!added.is_empty() && added.iter().all(|one| one["name"] == name.to_lowercase()), "{service}");
    assert!(of(&spread(&site, 20), "b") > 0);
    // One of its addresses can be changed by itself.
    edit(&site, &b, &json!({ "drain": true }));
    assert_eq!(of(&spread(&site, 10), "b"), 0);
    // A name that nobody knows is there, and waits.
    let nobody = json!({ "address": "nobody.invalid:80" });
    let service = change(&site, "POST", "/api/services/api/endpoints", &nobody);
    assert_eq!(service["unresolved"], json!(["nobody.invalid:80"]));
    assert_eq!(instance(&site, ""), "a");
    change(&site, "DELETE", "/api/services/api/endpoints/nobody.invalid:80", &Value::Null);
    assert_eq!(page(&site, "/api/services/api")["unresolved"], json!([]));
}

#[test]
fn sticky_clients_stay_where_it_drains_and_leave_what_is_removed() {
    let [a, b] = origins(["a", "b"]);
    let site = site(&[a.address(), b.address()], "sticky = { cookie = \"stick\" }");
    let first = get(&site, "/", "");
    let cookie = first.fields.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let own = if first.fields.get("x-instance") == Some("a") { &a } else { &b };
    let again = || get(&site, "/", &format!("Cookie: {cookie}\r\n")).fields.get("x-instance").unwrap().to_owned();
    edit(&site, own, &json!({ "drain": true }));
    assert_eq!(again(), first.fields.get("x-instance").unwrap());
    change(&site, "DELETE", &path(own), &Value::Null);
    assert_ne!(again(), first.fields.get("x-instance").unwrap());
}

#[test]
fn a_reload_keeps_overrides_of_what_stays_and_drops_the_rest() {
    let [a, b, c, d] = origins(["a", "b", "c", "d"]);
    let text = in_turn(&[&a, &b]);
    let mut site = start(&text);
    edit(&site, &a, &json!({ "weight": 3 }));
    edit(&site, &b, &json!({ "drain": true }));
    add(&site, &c);
    let settings = |site: &Tenfold| -> Vec<String> {
        let overrides = page(site, "/api/overrides");
        overrides.as_array().unwrap().iter().map(|over| over["setting"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(site.metric("service_overrides", &["service=\"api\""]).unwrap(), 3.0);
    // Something else changes: another listener comes, without a restart.
    let extra = testkit::free_port();
    let more = format!("{text}[listener.extra]\nlisten = \"127.0.0.1:{extra}\"\n")
        .replace("[[route]]\n", "[[route]]\nlistener = \"web\"\n");
    apply(&mut site, &more);
    assert!(testkit::is_listening(extra));
    assert_eq!(settings(&site), ["weight", "drain", "add"]);
    assert_eq!(spread(&site, 8), BTreeMap::from([("a".to_owned(), 6), ("c".to_owned(), 2)]));
    // What is gone from the file gets no request more, and its override goes with it.
    apply(&mut site, &text.replace(&b.address().to_string(), &d.address().to_string()));
    assert_eq!(settings(&site), ["weight", "add"]);
    let log = site.output();
    assert!(log.contains("an override is dropped") && log.contains("its endpoint has left the file"), "{log}");
    let before = b.requests();
    assert_eq!(spread(&site, 10), [("a", 6), ("c", 2), ("d", 2)].map(|(name, n)| (name.to_owned(), n)).into());
    assert_eq!(b.requests(), before);
    // It comes back without its override.
    apply(&mut site, &text);
    assert_eq!(page(&site, "/api/services/api")["endpoints"][1]["drain"], false);
    // A configuration that is refused drops nothing.
    let failures = |site: &Tenfold| site.metric("config_reloads_total", &["result=\"failure\""]).unwrap();
    site.reload(&text.replace("[service.api]", "[service.ap]")).unwrap();
    site.wait_until("refused", |site| Ok(failures(site) > 0.0)).unwrap();
    assert_eq!(settings(&site), ["weight", "add"]);
    // The service goes, and with it all.
    apply(&mut site, &text.replace("\"api\"", "\"shop\"").replace("service.api", "service.shop"));
    assert_eq!(settings(&site), [""; 0]);
}

#[test]
fn changes_keep_connections_to_other_endpoints_and_counts() {
    let [a, b] = origins(["a", "b"]);
    let site = start(&in_turn(&[&a, &b]));
    spread(&site, 10);
    let connects = || site.metric("upstream_connects_total", &[&format!("instance=\"{}\"", a.address())]).unwrap();
    let before = connects();
    edit(&site, &b, &json!({ "weight": 2 }));
    change(&site, "DELETE", &path(&b), &Value::Null);
    spread(&site, 10);
    assert_eq!(connects(), before, "the idle connection was used on");
    let count = page(&site, "/api/services/api")["endpoints"][0]["requests"].as_u64().unwrap();
    assert_eq!(count, 15);
}
