//! The edge cache: what is answered without the service, and how often the service is asked.

use std::net::SocketAddr;

use testkit::message::Response;
use testkit::{Curl, RawUpstream, Script, Step, Tenfold, free_port};

use crate::site::{apply, ask, command, get, listeners, page, start};

pub(crate) fn config(upstream: SocketAddr, cache: &str) -> String {
    let head = listeners(free_port());
    format!(
        "{head}[[route]]\nname = \"shop\"\nservice = \"api\"\ncache = {{ {cache} }}\n\
         [service.api]\nendpoints = [\"{upstream}\"]\nresponse_timeout = \"3s\"\n"
    )
}

/// A site whose one route has this cache.
pub(crate) fn cached(upstream: &RawUpstream, cache: &str) -> Tenfold {
    start(&config(upstream.address(), cache))
}

pub(crate) fn answer(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len()).into_bytes()
}

pub(crate) fn origin(fields: &str, body: &str) -> RawUpstream {
    RawUpstream::start(Script::answer(answer(fields, body))).unwrap()
}

pub(crate) fn asked(upstream: &RawUpstream) -> usize {
    upstream.requests().unwrap().len()
}

/// What the cache says that it did.
pub(crate) fn told(response: &Response) -> &str {
    response.fields.get("cache-status").unwrap_or_else(|| panic!("{response:?}"))
}

/// Purges by the command, and says what it printed.
pub(crate) fn purge(site: &Tenfold, what: &[&str]) -> String {
    let admin = format!("http://{}", site.admin().unwrap());
    let output = command().args(["cache", "purge", "--admin", &admin]).args(what).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_fresh_is_not_asked_for_again() {
    let upstream = origin("Cache-Control: max-age=60\r\nX-Own: 1\r\nETag: \"v1\"\r\n", "hello");
    let site = cached(&upstream, "");
    let first = get(&site, "/a", "");
    assert_eq!((first.status, first.text().as_ref()), (200, "hello"));
    assert!(told(&first).starts_with("tenfold;fwd=uri-miss;ttl=") && told(&first).ends_with(";stored"), "{first:?}");
    let second = get(&site, "/a", "");
    assert_eq!((second.status, second.text().as_ref()), (200, "hello"));
    assert_eq!((second.fields.get("x-own"), second.fields.get("age")), (Some("1"), Some("0")));
    assert!(told(&second).starts_with("tenfold;hit;ttl="), "{second:?}");
    // What is equal by the grammar of URIs is one; another query is another.
    assert!(told(&get(&site, "/%61", "")).starts_with("tenfold;hit"));
    assert!(told(&get(&site, "/a?b", "")).starts_with("tenfold;fwd=uri-miss"));
    assert_eq!(asked(&upstream), 2);
    // The client's own form of it.
    let head = ask(site.address(), "HEAD /a HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "HEAD");
    assert_eq!((head.status, head.fields.get("content-length"), head.body.len()), (200, Some("5"), 0));
    let same = get(&site, "/a", "If-None-Match: \"v1\"\r\n");
    assert_eq!((same.status, same.fields.get("etag"), same.fields.get("x-own")), (304, Some("\"v1\""), None));
    let part = get(&site, "/a", "Range: bytes=1-3\r\n");
    assert_eq!((part.status, part.text().as_ref()), (206, "ell"));
    assert_eq!(part.fields.get("content-range"), Some("bytes 1-3/5"));
    let beyond = get(&site, "/a", "Range: bytes=9-\r\n");
    assert_eq!((beyond.status, beyond.fields.get("content-range")), (416, Some("bytes */5")));
    let parts = get(&site, "/a", "Range: bytes=0-0,4-4\r\n");
    assert_eq!(parts.status, 206);
    assert!(parts.text().contains("Content-Range: bytes 4-4/5\r\n\r\no\r\n"), "{}", parts.text());
    assert_eq!(asked(&upstream), 2);
}

#[test]
fn over_http2_too() {
    let upstream = origin("Cache-Control: max-age=60\r\n", &"x".repeat(200_000));
    let site = cached(&upstream, "");
    for expected in ["tenfold;fwd=uri-miss", "tenfold;hit"] {
        let curl = Curl::default().flag("--http2-prior-knowledge");
        let answer = curl.get(&format!("http://{}/h", site.address())).unwrap();
        assert_eq!((answer.status, answer.version.as_str(), answer.body.len()), (200, "2", 200_000), "{answer:?}");
        assert!(answer.field("cache-status").unwrap().starts_with(expected), "{}", answer.head);
    }
    let one = get(&site, "/h", "");
    assert!(told(&one).starts_with("tenfold;fwd=uri-miss"), "another host: {one:?}");
    assert_eq!(get(&site, "/h", "").body.len(), 200_000);
    assert_eq!(asked(&upstream), 2);
}

#[test]
fn what_is_not_to_be_stored_is_not() {
    for fields in ["", "Cache-Control: no-store\r\n", "Cache-Control: private, max-age=60\r\n", "Vary: *\r\n"] {
        let upstream = origin(fields, "mine");
        let site = cached(&upstream, "");
        for _ in 0..3 {
            let response = get(&site, "/", "");
            assert_eq!(response.text(), "mine");
            assert!(told(&response).starts_with("tenfold;fwd=uri-miss"), "{response:?}");
            assert!(!told(&response).contains("stored"), "{response:?}");
        }
        assert_eq!(asked(&upstream), 3, "{fields}");
    }
    let upstream = origin("Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n", "mine");
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "").fields.get("set-cookie"), Some("a=b"));
    assert_eq!(get(&site, "/", "").fields.get("set-cookie"), Some("a=b"));
    assert_eq!(asked(&upstream), 2);
}

#[test]
fn cookies_are_stored_as_the_route_says() {
    let check = |settings: &str, control: &str, expected: [&str; 2], cookie: Option<&str>| {
        let upstream = origin(&format!("Cache-Control: {control}\r\nSet-Cookie: a=b\r\n"), "v");
        let site = cached(&upstream, settings);
        for expected in expected {
            let answer = get(&site, "/", "");
            assert!(told(&answer).starts_with(&format!("tenfold;{expected}")), "{settings} {control}: {answer:?}");
            assert_eq!(answer.fields.get("set-cookie"), cookie, "{settings} {control}");
        }
    };
    let (stored, passed) = (["fwd=uri-miss", "hit"], ["fwd=uri-miss", "fwd=uri-miss"]);
    check("", "max-age=60", passed, Some("a=b"));
    check("", "public, max-age=60", stored, Some("a=b"));
    check("", "s-maxage=60", stored, Some("a=b"));
    check("set_cookie = \"never\"", "public, max-age=60", passed, Some("a=b"));
    check("set_cookie = \"always\"", "max-age=60", stored, Some("a=b"));
    check("set_cookie = \"stripped\"", "max-age=60", stored, None);
}

#[test]
fn what_is_stale_is_validated() {
    let first = answer("Cache-Control: max-age=0\r\nETag: \"v1\"\r\n", "hello");
    let good = b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nX-New: 1\r\n\r\n".to_vec();
    let script = [Step::AwaitRequest, Step::Send(first), Step::AwaitRequest, Step::Send(good), Step::Drain];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "").text(), "hello");
    let second = get(&site, "/", "If-None-Match: \"other\"\r\n");
    assert_eq!((second.status, second.text().as_ref(), second.fields.get("x-new")), (200, "hello", Some("1")));
    assert!(told(&second).starts_with("tenfold;fwd=stale;fwd-status=304;ttl="), "{second:?}");
    assert!(told(&get(&site, "/", "")).starts_with("tenfold;hit"));
    let requests = upstream.requests().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].fields.get("if-none-match"), Some("\"v1\""));
}

#[test]
fn variants_are_told_apart() {
    let upstream = origin("Cache-Control: max-age=60\r\nVary: X-Kind\r\n", "v");
    let site = cached(&upstream, "");
    for (kind, expected) in [("a", "fwd=uri-miss"), ("b", "fwd=vary-miss"), ("a", "hit"), ("b", "hit")] {
        let response = get(&site, "/", &format!("X-Kind: {kind}\r\n"));
        assert!(told(&response).starts_with(&format!("tenfold;{expected}")), "{kind}: {response:?}");
    }
    assert!(told(&get(&site, "/", "")).starts_with("tenfold;fwd=vary-miss"));
    assert_eq!(asked(&upstream), 3);
}

#[test]
fn the_key_is_what_the_route_says() {
    let upstream = origin("Cache-Control: max-age=60\r\n", "v");
    let settings = "key = { query_except = [\"utm\"], sort_query = true, headers = [\"X-Tenant\"], cookies = [\"lang\"] }, \
                    bypass = { headers = [\"X-Skip\"], cookies = [\"session\"], query = [\"preview\"] }, cache_status = \"key\"";
    let site = cached(&upstream, settings);
    let check = |path: &str, fields: &str, expected: &str| {
        let response = get(&site, path, fields);
        assert!(told(&response).starts_with(&format!("tenfold;{expected}")), "{path} {fields}: {response:?}");
    };
    check("/?a=1&b=2", "", "fwd=uri-miss");
    check("/?b=2&utm=x&a=1", "", "hit");
    check("/?a=1&b=2", "X-Tenant: t\r\n", "fwd=uri-miss");
    check("/?a=1&b=2", "X-Tenant: t\r\n", "hit");
    check("/?a=1&b=2", "Cookie: lang=de; other=1\r\n", "fwd=uri-miss");
    check("/?a=1&b=2", "Cookie: other=2; lang=de\r\n", "hit");
    check("/?a=1&b=2", "X-Skip: 1\r\n", "fwd=bypass");
    check("/?a=1&b=2", "Cookie: session=1\r\n", "fwd=bypass");
    check("/?a=1&b=2&preview", "", "fwd=bypass");
    assert!(told(&get(&site, "/?a=1&b=2", "")).contains(";key=\"shop.example.com /?a=1&b=2 p "));
}

#[test]
fn unsafe_methods_invalidate() {
    let upstream = origin("Cache-Control: max-age=60\r\n", "v");
    let site = cached(&upstream, "");
    assert!(told(&get(&site, "/a", "")).contains("uri-miss"));
    assert!(told(&get(&site, "/a", "")).contains("hit"));
    let post = |path: &str| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\n\r\n");
        assert!(told(&ask(site.address(), &request, "POST")).contains("fwd=method"));
        site.metric("cache_purges_total", &[]).unwrap()
    };
    // Of what nothing is stored, nothing has to be purged.
    assert_eq!([post("/b"), post("/a")], [0.0, 1.0]);
    assert!(told(&get(&site, "/a", "")).contains("uri-miss"));
    assert_eq!(asked(&upstream), 4);
}

#[test]
fn purges() {
    let upstream = origin("Cache-Control: max-age=60\r\nSurrogate-Key: a b\r\nCache-Tag: c, d\r\nETag: \"v\"\r\n", "v");
    let site = cached(&upstream, "");
    let fill = || {
        for path in ["/x/1", "/x/2?q", "/y"] {
            let _whatever_it_was = get(&site, path, "");
            let response = get(&site, path, "");
            assert!(told(&response).starts_with("tenfold;hit"), "{path}: {response:?}");
            assert_eq!((response.fields.get("surrogate-key"), response.fields.get("cache-tag")), (None, Some("c, d")));
        }
    };
    let check = |what: &[&str], gone: &[&str]| {
        fill();
        assert_eq!(purge(&site, what), "purged\n");
        for path in ["/x/1", "/x/2?q", "/y"] {
            let response = get(&site, path, "");
            assert_eq!(told(&response).starts_with("tenfold;fwd=uri-miss"), gone.contains(&path), "{what:?} {path}");
        }
    };
    let all = ["/x/1", "/x/2?q", "/y"];
    check(&["--url", "http://shop.example.com/x/1"], &["/x/1"]);
    check(&["--url", "https://shop.example.com/x/1"], &[]);
    check(&["--url", "SHOP.example.com/x/2?q"], &["/x/2?q"]);
    check(&["--url", "shop.example.com/x/2"], &[]);
    check(&["--prefix", "shop.example.com/x/"], &["/x/1", "/x/2?q"]);
    check(&["--prefix", "shop.example.com:80/x/"], &["/x/1", "/x/2?q"]);
    check(&["--host", "shop.example.com"], &all);
    check(&["--host", "example.com"], &[]);
    check(&["--tag", "b"], &all);
    check(&["--tag", "d"], &all);
    check(&["--tag", "e"], &[]);
    check(&["--everything"], &all);
    fill();
    assert_eq!(purge(&site, &["--tag", "a", "--soft"]), "stale\n");
    let before = asked(&upstream);
    let response = get(&site, "/y", "");
    assert!(told(&response).starts_with("tenfold;fwd=stale"), "{response:?}");
    assert_eq!(asked(&upstream), before + 1);
    let requests = upstream.requests().unwrap();
    assert_eq!(requests[before].fields.get("if-none-match"), Some("\"v\""));
    let nothing = command().args(["cache", "purge"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
}

#[test]
fn it_is_counted() {
    let upstream = origin("Cache-Control: max-age=60\r\n", "12345");
    let site = cached(&upstream, "bypass = { query = [\"x\"] }");
    for path in ["/", "/", "/", "/?x"] {
        assert_eq!(get(&site, path, "").status, 200);
    }
    let count = |family: &str, result: &str| site.metric(family, &[&format!("result=\"{result}\"")]).unwrap();
    let counts = ["miss", "hit", "bypass"].map(|result| count("cache_requests_total", result));
    assert_eq!(counts, [1.0, 2.0, 1.0]);
    assert_eq!(count("cache_sent_bytes_total", "hit"), 10.0);
    // Of hits, one in sixteen is looked at.
    (0..40).for_each(|_| assert_eq!(get(&site, "/", "").status, 200));
    let cache = page(&site, "/api/cache");
    assert_eq!((&cache["routes"][0]["name"], &cache["routes"][0]["requests"]["hit"]), (&"shop".into(), &42.into()));
    assert_eq!(cache["top"][0]["key"], "shop.example.com / p shop api");
    let admin = format!("http://{}", site.admin().unwrap());
    let output = command().args(["cache", "top", "--admin", &admin]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("shop.example.com / p"), "{text}");
}

#[test]
fn answers_to_head_say_whether_it_is_the_same() {
    let ask_head = |site: &Tenfold| {
        let request = "HEAD / HTTP/1.1\r\nHost: shop.example.com\r\nCache-Control: no-cache\r\n\r\n";
        assert_eq!(ask(site.address(), request, "HEAD").status, 200);
    };
    let upstream = origin("Cache-Control: max-age=60\r\nETag: \"v1\"\r\n", "12345");
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "").text(), "12345");
    ask_head(&site);
    assert!(told(&get(&site, "/", "")).starts_with("tenfold;hit"));
    let other = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Control: max-age=60\r\nETag: \"v2\"\r\n\r\n";
    upstream.set_script(Script::answer(other));
    upstream.clear();
    ask_head(&site);
    upstream.set_script(Script::answer(answer("ETag: \"v2\"\r\n", "54321")));
    upstream.clear();
    let changed = get(&site, "/", "");
    assert!(told(&changed).starts_with("tenfold;fwd=stale") && changed.text() == "54321", "{changed:?}");
}

#[test]
fn lifetimes_by_status_and_default() {
    let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone";
    let upstream = RawUpstream::start(Script::answer(gone)).unwrap();
    let site = cached(&upstream, "status_ttl = { \"404\" = \"10s\" }");
    assert_eq!(get(&site, "/", "").status, 404);
    assert_eq!(get(&site, "/", "").status, 404);
    assert_eq!(asked(&upstream), 1);
    let upstream = origin("", "v");
    let site = cached(&upstream, "default_ttl = \"10s\"");
    assert_eq!((get(&site, "/", "").status, get(&site, "/", "").status), (200, 200));
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn a_reload_keeps_what_is_stored() {
    let upstream = origin("Cache-Control: max-age=60\r\n", "v");
    let text = config(upstream.address(), "");
    let mut site = start(&text);
    assert!(told(&get(&site, "/", "")).contains("uri-miss"));
    apply(&mut site, &text.replace("cache = {  }", "cache = { ttl_max = \"1h\" }"));
    assert!(told(&get(&site, "/", "")).contains("hit"));
}

#[test]
fn what_is_too_large_passes() {
    let upstream = origin("Cache-Control: max-age=60\r\n", &"x".repeat(20_000));
    let site = cached(&upstream, "object_bytes_max = \"10KiB\"");
    for _ in 0..2 {
        let response = get(&site, "/", "");
        assert_eq!(response.body.len(), 20_000);
        assert!(!told(&response).contains("stored"), "{response:?}");
    }
    // Of what is not stored the service makes the parts.
    let _part = get(&site, "/", "Range: bytes=0-1\r\n");
    assert_eq!(upstream.requests().unwrap()[2].fields.get("range"), Some("bytes=0-1"));
}

#[test]
fn requests_of_a_route_without_a_cache_are_as_before() {
    let upstream = origin("Cache-Control: max-age=60\r\n", "v");
    let site = start(&config(upstream.address(), "").replace("cache = {  }\n", ""));
    assert_eq!(get(&site, "/", "").fields.get("cache-status"), None);
    assert_eq!(get(&site, "/", "").fields.get("age"), None);
    assert_eq!(asked(&upstream), 2);
}
