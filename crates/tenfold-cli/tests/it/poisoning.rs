//! What one client sends must not decide what the edge cache gives to others.

use testkit::message::Response;
use testkit::{Authority, RawConn, RawUpstream, Script, Step, Tenfold};

use crate::caching::{answer, asked, cached, config, origin, told};
use crate::site::{ask, get, only_request, start};

const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// A site that believes what its clients say of the way before them.
fn behind_a_proxy(upstream: &RawUpstream, cache: &str) -> Tenfold {
    let trusting = "[listener.web]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    start(&config(upstream.address(), cache).replace("[listener.web]\n", trusting))
}

fn is_hit(response: &Response) -> bool {
    told(response).starts_with("tenfold;hit")
}

#[test]
fn fields_that_stay_here_make_no_key() {
    let upstream = origin(&format!("{FRESH}Vary: X-Kind\r\n"), "v");
    let site = cached(&upstream, "key = { headers = [\"X-Tenant\"] }");
    for name in ["X-Tenant", "X-Kind"] {
        let hidden = get(&site, "/", &format!("{name}: acme\r\nConnection: {name}\r\n"));
        assert_eq!(hidden.status, 200);
        let seen = get(&site, "/", &format!("{name}: acme\r\n"));
        assert!(!is_hit(&seen), "{name}: {seen:?}");
    }
    let requests = upstream.requests().unwrap();
    assert_eq!(requests[0].fields.get("x-tenant"), None);
    assert_eq!(requests[1].fields.get("x-tenant"), Some("acme"));
    // One that hides what the others do not send is one of them.
    assert!(is_hit(&get(&site, "/", "X-Tenant: other\r\nConnection: X-Tenant\r\n")));
    // Of strangers nobody takes a prefix.
    let upstream = origin(&format!("{FRESH}Vary: X-Forwarded-Prefix\r\n"), "v");
    let site = cached(&upstream, "");
    assert!(!is_hit(&get(&site, "/", "X-Forwarded-Prefix: /a\r\n")));
    assert!(is_hit(&get(&site, "/", "X-Forwarded-Prefix: /b\r\n")));
}

#[test]
fn the_service_is_asked_for_the_path_that_the_key_has() {
    let check = |settings: &str, path: &str, expected: &str| {
        let upstream = origin(FRESH, "v");
        let text = config(upstream.address(), "").replace("name = \"shop\"\n", &format!("name = \"shop\"\n{settings}"));
        let site = start(&text);
        assert_eq!(get(&site, path, "").status, 200, "{path}");
        assert_eq!(only_request(&upstream).target, expected, "{settings} {path}");
    };
    check("", "/x/../app.js", "/app.js");
    check("", "/%61pp%2ejs?q=%61", "/app.js?q=%61");
    check("", "/a%2fb", "/a%2Fb");
    check("", "/app.js?x", "/app.js?x");
    check("path = \"/api/*\"\nrewrite = { prefix = \"/\" }\n", "/api/%61pp.js?x", "/app.js?x");
    check("path = \"/api/*\"\nrewrite = { prefix = \"/\" }\n", "/api/app.js", "/app.js");
    // An answer to a `HEAD` says whether what the key has is good. What passes by goes as it came.
    let upstream = origin(FRESH, "v");
    let site = cached(&upstream, "bypass = { query = [\"raw\"] }");
    let head = "HEAD /x/../app.js HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    upstream.set_script(Script::answer(format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 1\r\n\r\n")));
    assert_eq!(ask(site.address(), head, "HEAD").status, 200);
    assert_eq!(only_request(&upstream).target, "/app.js");
    upstream.set_script(Script::answer(answer(FRESH, "v")));
    upstream.clear();
    assert_eq!(get(&site, "/x/../app.js?raw", "").status, 200);
    assert_eq!(only_request(&upstream).target, "/x/../app.js?raw");
}

#[test]
fn the_scheme_is_what_the_service_is_told() {
    let upstream = origin(FRESH, "v");
    let site = behind_a_proxy(&upstream, "cache_status = \"key\"");
    let check = |fields: &str, expected: &str, hits: bool| {
        let response = get(&site, "/", fields);
        assert!(told(&response).contains(&format!(" / {expected} ")), "{fields}: {response:?}");
        assert_eq!(is_hit(&response), hits, "{fields}");
    };
    check("X-Forwarded-Proto: https\r\n", "s", false);
    check("X-Forwarded-Proto: http\r\n", "p", false);
    check("", "p", true);
    check("X-Forwarded-Proto: HTTPS, http\r\n", "s", true);
}

#[test]
fn a_proxy_that_comes_by_tls_says_how_its_clients_came() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["shop.example.com"]).unwrap();
    let upstream = origin(FRESH, "v");
    let secure = format!(
        "[listener.web]\ntrusted_proxies = [\"127.0.0.0/8\"]\ntls = {{ certificate = {:?}, key = {:?} }}\n",
        issued.certificate, issued.key
    );
    let site = start(&config(upstream.address(), "cache_status = \"key\"").replace("[listener.web]\n", &secure));
    for (fields, expected) in [("X-Forwarded-Proto: http\r\n", " / p "), ("", " / s ")] {
        let mut conn = RawConn::connect_tls(site.address(), &authority.file(), "shop.example.com", &[]).unwrap();
        conn.send(format!("GET / HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n")).unwrap();
        let response = conn.read_response("GET").unwrap();
        assert!(told(&response).contains(expected), "{fields}: {response:?}");
    }
    assert_eq!(upstream.requests().unwrap()[0].fields.get("x-forwarded-proto"), Some("http"));
}

#[test]
fn what_the_gateway_writes_is_the_same_for_nobody_or_counts() {
    for name in ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Port", "X-Request-Id"] {
        let upstream = origin(&format!("{FRESH}Vary: {name}\r\n"), "mine");
        let site = cached(&upstream, "");
        for _ in 0..2 {
            assert!(!told(&get(&site, "/", "")).contains("stored"), "{name}");
        }
        assert_eq!(asked(&upstream), 2, "{name}");
    }
    // These are the same for many.
    let upstream = origin(&format!("{FRESH}Vary: X-Forwarded-Proto, X-Forwarded-Host\r\n"), "v");
    let site = behind_a_proxy(&upstream, "key = { scheme = false }");
    let http = "X-Forwarded-Proto: http\r\n";
    for (fields, hits) in [("X-Forwarded-Proto: https\r\n", false), (http, false), (http, true), ("", true)] {
        assert_eq!(is_hit(&get(&site, "/", fields)), hits, "{fields}");
    }
}

#[test]
fn what_a_trusted_proxy_says_counts() {
    let upstream = origin(FRESH, "v");
    let site = behind_a_proxy(&upstream, "");
    assert!(!is_hit(&get(&site, "/", "")));
    for fields in [
        "X-Forwarded-Host: evil.example.com\r\n",
        "X-Forwarded-Prefix: /evil\r\n",
        "X-Forwarded-Port: 81\r\n",
        "Forwarded: for=192.0.2.1;host=evil.example.com\r\n",
    ] {
        assert!(!is_hit(&get(&site, "/", fields)), "{fields}");
        assert!(is_hit(&get(&site, "/", fields)), "{fields}");
    }
    for fields in [
        "X-Forwarded-Host: shop.example.com\r\n",
        "X-Forwarded-For: 192.0.2.1\r\n",
        "Forwarded: for=192.0.2.1;by=192.0.2.2\r\n",
    ] {
        assert!(is_hit(&get(&site, "/", fields)), "{fields}");
    }
    // What strangers say goes no further.
    let site = cached(&upstream, "");
    assert!(!is_hit(&get(&site, "/", "X-Forwarded-Host: evil.example.com\r\n")));
    assert!(is_hit(&get(&site, "/", "")));
}

#[test]
fn parameters_count_however_they_are_spelt() {
    let upstream = origin(FRESH, "v");
    let site = cached(&upstream, "key = { query_only = [\"id\"] }, bypass = { query = [\"preview\"] }");
    assert!(!is_hit(&get(&site, "/p", "")));
    assert!(is_hit(&get(&site, "/p?other=1", "")));
    assert!(!is_hit(&get(&site, "/p?%69d=evil", "")));
    assert!(!is_hit(&get(&site, "/p?other=1;id=evil", "")));
    for query in ["preview", "%70review=1", "a;preview"] {
        assert!(told(&get(&site, &format!("/p?{query}"), "")).contains("fwd=bypass"), "{query}");
    }
}

#[test]
fn a_head_that_passes_by_changes_nothing() {
    let upstream = origin(FRESH, "v");
    let site = cached(&upstream, "bypass = { cookies = [\"session\"] }");
    assert!(!is_hit(&get(&site, "/", "")));
    let own = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-User: alice\r\nConnection: close\r\n\r\n";
    upstream.set_script(Script::answer_once(own));
    upstream.clear();
    let head = "HEAD / HTTP/1.1\r\nHost: shop.example.com\r\nCookie: session=1\r\n\r\n";
    assert_eq!(ask(site.address(), head, "HEAD").fields.get("x-user"), Some("alice"));
    let other = get(&site, "/", "");
    assert!(is_hit(&other) && other.fields.get("x-user").is_none(), "{other:?}");
}

#[test]
fn a_head_is_answered_without_a_body_whatever_it_waited_for() {
    let upstream = origin(&format!("{FRESH}Vary: Accept-Encoding\r\n"), "one");
    let site = cached(&upstream, "");
    // By now it is known how responses vary, and the answer that comes says otherwise.
    assert!(!is_hit(&get(&site, "/", "Accept-Encoding: br\r\n")));
    let vary = format!("{FRESH}Vary: Accept-Encoding, Accept-Language\r\n");
    let slow = [
        Step::AwaitRequest,
        Step::Pause(std::time::Duration::from_millis(500)),
        Step::Send(answer(&vary, "two")[..answer(&vary, "two").len() - 1].to_vec()),
        Step::Pause(std::time::Duration::from_millis(500)),
        Step::Send(b"o".to_vec()),
        Step::Repeat,
    ];
    upstream.set_script(Script::new(slow));
    upstream.clear();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&site, "/", "Accept-Encoding: gzip\r\nAccept-Language: en\r\n"));
        site.wait_until("the request", |_| Ok(asked(&upstream) == 1)).unwrap();
        let private = "HTTP/1.1 500 Wrong\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwrong";
        upstream.set_script(Script::answer_once(private));
        let mut conn = RawConn::connect(site.address()).unwrap();
        let fields = "Host: shop.example.com\r\nAccept-Encoding: gzip\r\nAccept-Language: de\r\n";
        conn.send(format!("HEAD / HTTP/1.1\r\n{fields}\r\n")).unwrap();
        let head = conn.read_response("HEAD").unwrap();
        assert_eq!(head.status, 500, "{head:?}");
        conn.send(format!("GET /other HTTP/1.1\r\n{fields}\r\n")).unwrap();
        assert_eq!(conn.read_response("GET").unwrap().text(), "wrong");
        assert_eq!(first.join().unwrap().text(), "two");
    });
}

#[test]
fn only_what_is_stored_is_given_to_who_wants_nothing_else() {
    let answer = answer("Cache-Control: private\r\n", "mine");
    let slow =
        [Step::AwaitRequest, Step::Pause(std::time::Duration::from_millis(500)), Step::Send(answer), Step::Repeat];
    let upstream = RawUpstream::start(Script::new(slow)).unwrap();
    let site = cached(&upstream, "");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&site, "/", ""));
        site.wait_until("the request", |_| Ok(asked(&upstream) == 1)).unwrap();
        assert_eq!(get(&site, "/", "Cache-Control: only-if-cached\r\n").status, 504);
        assert_eq!(first.join().unwrap().text(), "mine");
    });
    assert_eq!(asked(&upstream), 1);
}
