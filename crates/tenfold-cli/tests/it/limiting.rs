//! Limits of routes: rates and requests under way, by key.

use std::time::{Duration, Instant};

use testkit::{Curl, Load, LoadParams, Origin, RawConn, Tenfold, free_port};

use crate::site::{get, listeners, start};

/// A site with one route, and these tables before it and settings in it.
fn limited(origin: &Origin, tables: &str, route: &str) -> Tenfold {
    let head = listeners(free_port());
    let address = origin.address();
    let service = format!("[service.api]\nendpoints = [\"{address}\"]\n");
    start(&format!(
        "{head}trusted_proxies = [\"127.0.0.1\"]\n{tables}\n[[route]]\nservice = \"api\"\n{route}\n{service}"
    ))
}

/// How many of `count` requests with these fields pass.
fn passing(site: &Tenfold, count: usize, fields: &str) -> usize {
    (0..count).filter(|_| get(site, "/", fields).status == 200).count()
}

fn from(client: &str) -> String {
    format!("X-Forwarded-For: {client}\r\n")
}

fn counted(site: &Tenfold, limit: &str, result: &str) -> f64 {
    let labels = [&*format!("limit=\"{limit}\""), &*format!("result=\"{result}\"")];
    site.metric("limit_requests_total", &labels).unwrap()
}

#[test]
fn what_is_refused_is_told_when_to_come_back() {
    let origin = Origin::start("a").unwrap();
    let site = limited(&origin, "", "limit = { rate = \"1/h\", burst = 3 }");
    assert_eq!(passing(&site, 3, ""), 3);
    let refused = get(&site, "/", "");
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.fields.get("retry-after").unwrap().parse().unwrap();
    // An hour, and up to half of that by chance, so that not all come back at once.
    assert!((3590..=5400).contains(&wait), "{wait}");
    assert_eq!(refused.fields.get("ratelimit-policy"), Some("\"api\";q=3;w=10800"));
    let left = refused.fields.get("ratelimit").unwrap();
    assert!(left.starts_with("\"api\";r=0;t=3"), "{left}");
    let body: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!((&body["error"], &body["route"]), (&"rate_limited".into(), &"api".into()));
    assert_eq!((counted(&site, "api", "allowed"), counted(&site, "api", "refused")), (3.0, 1.0));
    assert_eq!(site.metric("listener_errors_total", &["code=\"rate_limited\""]).unwrap(), 1.0);
    assert_eq!(origin.requests(), 3);
}

#[test]
fn each_key_has_its_own_allowance() {
    let origin = Origin::start("a").unwrap();
    let tables = "[limit.ip]\nrate = \"2/h\"\nburst = 2\n\
                  [limit.key]\nrate = \"2/h\"\nburst = 2\nkey = [{ header = \"X-Key\" }, { cookie = \"s\" }]\n\
                  [limit.all]\nrate = \"2/h\"\nburst = 2\nkey = \"everyone\"\n";
    let site = limited(&origin, tables, "limit = \"ip\"");
    assert_eq!(passing(&site, 3, &from("192.0.2.1")), 2);
    assert_eq!(passing(&site, 3, &from("192.0.2.2")), 2);
    // One client has a whole /64.
    assert_eq!(passing(&site, 2, &from("2001:db8::1")) + passing(&site, 2, &from("2001:db8::ffff:1")), 2);
    assert_eq!(passing(&site, 3, &from("2001:db8:0:1::1")), 2);
    let site = limited(&origin, tables, "limit = \"key\"");
    assert_eq!(passing(&site, 3, "X-Key: a\r\n"), 2);
    assert_eq!(passing(&site, 3, "x-key: b\r\n"), 2);
    assert_eq!(passing(&site, 3, "X-Key: b\r\nCookie: t=0; s=1\r\n"), 2);
    assert_eq!(passing(&site, 3, ""), 2);
    let site = limited(&origin, tables, "limit = \"all\"");
    assert_eq!(passing(&site, 2, &from("192.0.2.1")) + passing(&site, 2, &from("192.0.2.2")), 2);
}

#[test]
fn routes_share_a_limit_and_cost_what_they_say() {
    let origin = Origin::start("a").unwrap();
    let tables = "[limit.shared]\nrate = \"10/h\"\nburst = 10\n[limit.each]\nrate = \"1/h\"\nkey = [\"route\"]\n\
                  [[route]]\npath = \"/dear\"\nservice = \"api\"\nlimit = \"shared\"\nlimit_cost = 4\n\
                  [[route]]\npath = \"/e\"\nservice = \"api\"\nlimit = \"each\"\n\
                  [[route]]\npath = \"/f\"\nservice = \"api\"\nlimit = \"each\"\n";
    let site = limited(&origin, tables, "limit = [\"shared\"]");
    let statuses = |paths: &[&str]| paths.iter().map(|path| get(&site, path, "").status).collect::<Vec<_>>();
    // 4 + 1 + 4 + 1 make ten.
    assert_eq!(statuses(&["/dear", "/", "/dear", "/dear", "/", "/"]), [200, 200, 200, 429, 200, 429]);
    assert_eq!(statuses(&["/e", "/e", "/f", "/f"]), [200, 429, 200, 429]);
}

#[test]
fn a_limit_of_requests_under_way_gives_places_back() {
    let origin = Origin::start("a").unwrap();
    let site = limited(&origin, "", "limit = { concurrency = 2 }");
    let slow = || {
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send("GET /delay/400 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        conn
    };
    let (mut first, second) = (slow(), slow());
    site.wait_until("two under way", |site| Ok(site.metric("http_requests_in_flight", &[])? == 2.0)).unwrap();
    let refused = get(&site, "/", "");
    assert_eq!((refused.status, refused.fields.get("retry-after")), (429, Some("1")));
    // What is answered gives its place back, and so does what its client gives up.
    assert_eq!(first.read_response("GET").unwrap().status, 200);
    assert_eq!(get(&site, "/", "").status, 200);
    drop(second);
    site.wait_until("none under way", |site| Ok(site.metric("http_requests_in_flight", &[])? == 0.0)).unwrap();
    assert_eq!(passing(&site, 4, ""), 4);
}

#[test]
fn a_shadow_counts_and_tells_nobody() {
    let origin = Origin::start("a").unwrap();
    let site = limited(&origin, "", "limit = { rate = \"1/h\", shadow = true, tell = \"always\" }");
    assert_eq!(passing(&site, 5, ""), 5);
    assert!(get(&site, "/", "").fields.get("ratelimit").is_none());
    assert_eq!((counted(&site, "api", "allowed"), counted(&site, "api", "shadowed")), (1.0, 5.0));
}

#[test]
fn the_answer_can_be_ones_own_and_everyone_can_be_told() {
    let origin = Origin::start("a").unwrap();
    let limit = "limit = { rate = \"2/h\", burst = 2, tell = \"always\", refusal = { status = 503, body = \"slow down\", \
                 headers = { X-Why = \"limit\" } } }\nresponse_headers = { set = { X-Site = \"shop\" } }";
    let site = limited(&origin, "", limit);
    let first = get(&site, "/", "");
    assert_eq!((first.status, first.fields.get("ratelimit").map(|left| left.contains(";r=1;"))), (200, Some(true)));
    assert_eq!(passing(&site, 1, ""), 1);
    let refused = get(&site, "/", "");
    assert_eq!((refused.status, refused.text().as_str()), (503, "slow down"));
    let field = |name: &str| refused.fields.get(name);
    assert_eq!((field("x-why"), field("x-site")), (Some("limit"), Some("shop")));
    assert!(field("retry-after").is_some() && field("ratelimit-policy").is_some());
}

#[test]
fn streams_of_http2_are_limited_as_well() {
    let origin = Origin::start("a").unwrap();
    let site = limited(&origin, "", "limit = { rate = \"1/h\" }");
    let ask = || Curl::default().flag("--http2-prior-knowledge").get(&format!("http://{}/", site.address())).unwrap();
    assert_eq!((ask().status, ask().status), (200, 429));
}

#[test]
fn a_reload_keeps_what_was_spent_unless_the_limit_changed() {
    let origin = Origin::start("a").unwrap();
    let with = |settings: &str| {
        let head = listeners(free_port());
        let address = origin.address();
        format!(
            "{head}[[route]]\nservice = \"api\"\nlimit = {{ {settings} }}\n[service.api]\nendpoints = [\"{address}\"]\n"
        )
    };
    let config = with("rate = \"2/h\", burst = 2");
    let mut site = start(&config);
    assert_eq!(passing(&site, 3, ""), 2);
    let other_words = config.replace("burst = 2 }", "burst = 2 }\nresponse_headers = { set = { X-New = \"1\" } }");
    site.reload(&other_words).unwrap();
    site.wait_until("the reload", |site| {
        let response = get(site, "/", "");
        assert_eq!(response.status, 429);
        Ok(response.fields.get("x-new").is_some())
    })
    .unwrap();
    site.reload(&config.replace("burst = 2", "burst = 3")).unwrap();
    site.wait_until("the new limit", |site| Ok(get(site, "/", "").status == 200)).unwrap();
    assert_eq!(passing(&site, 3, ""), 2);
}

#[test]
fn a_rate_holds_under_load() {
    let origin = Origin::start("a").unwrap();
    let site = limited(&origin, "", "limit = { rate = \"200/s\", burst = 50 }");
    let mut params = LoadParams::new(site.address());
    params.connections = 16;
    let begun = Instant::now();
    let load = Load::start(&params);
    std::thread::sleep(Duration::from_secs(2));
    load.stop();
    let most = 200.0 * begun.elapsed().as_secs_f64() + 50.0;
    let passed = origin.requests() as f64;
    // Requests come faster by far than they may, so little of the rate is left unused.
    assert!(passed <= most && passed >= 0.9 * (200.0 * 2.0 + 50.0), "{passed} of {most}");
    assert!(counted(&site, "api", "refused") > 100.0);
}
