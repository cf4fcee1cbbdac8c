//! The edge cache beside what else a route does.

use testkit::message::Response;
use testkit::{Curl, RawUpstream, Script, Tenfold, free_port};

use crate::caching::{answer, asked, origin, purge, told};
use crate::compress::{decoded, field, html, text};
use crate::site::{apply, ask, get, listeners, start};

/// A site whose one route has a cache, and these keys too; `rest` is behind it.
fn beside(upstream: &RawUpstream, route: &str, rest: &str) -> Tenfold {
    start(&format!(
        "{}[[route]]\nname = \"shop\"\nservice = \"api\"\ncache = {{}}\n{route}\n\
         [service.api]\nendpoints = [\"{}\"]\n{rest}\n",
        listeners(free_port()),
        upstream.address()
    ))
}

#[test]
fn what_is_stored_plain_is_sent_compressed() {
    let body = text(2000);
    let fields = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";
    let upstream = RawUpstream::start(Script::answer(html(fields, &body))).unwrap();
    let site = beside(&upstream, "compress = {}", "");
    let check = |accept: &str, coding: &str, expected: &str| {
        let answer = get(&site, "/", accept);
        assert!(told(&answer).starts_with(expected), "{accept}: {answer:?}");
        assert_eq!((field(&answer, "content-encoding"), field(&answer, "vary")), (coding, "Accept-Encoding"));
        if coding.is_empty() {
            assert_eq!((answer.text(), field(&answer, "etag")), (body.clone(), "\"v1\""), "{accept}");
            assert_eq!(field(&answer, "content-length"), body.len().to_string());
        } else {
            assert_eq!((decoded(coding, &answer.body), field(&answer, "etag")), (body.clone(), "W/\"v1\""), "{accept}");
            // What was compressed before has a length.
            let length =
                answer.fields.get("content-length").is_none_or(|length| length == answer.body.len().to_string());
            assert_eq!((length, answer.fields.get("accept-ranges")), (true, None), "{answer:?}");
            assert!(answer.body.len() < body.len() / 4, "{coding}: {}", answer.body.len());
        }
    };
    check("Accept-Encoding: gzip\r\n", "gzip", "tenfold;fwd=uri-miss");
    check("Accept-Encoding: gzip\r\n", "gzip", "tenfold;hit");
    check("Accept-Encoding: br\r\n", "br", "tenfold;hit");
    check("", "", "tenfold;hit");
    let zstd = "Accept-Encoding: zstd\r\n";
    let same = get(&site, "/", &format!("{zstd}If-None-Match: W/\"v1\"\r\n"));
    assert_eq!((same.status, field(&same, "etag"), field(&same, "vary")), (304, "W/\"v1\"", "Accept-Encoding"));
    let plain = get(&site, "/", &format!("{zstd}If-None-Match: \"v1\"\r\n"));
    assert_eq!((plain.status, field(&plain, "etag")), (304, "\"v1\""), "it holds the plain one");
    let part = get(&site, "/", &format!("{zstd}Range: bytes=0-9\r\n"));
    assert_eq!((part.status, field(&part, "etag"), part.text().as_str()), (206, "\"v1\"", &body[..10]));
    // A weak tag is never that of a part.
    let whole = get(&site, "/", &format!("{zstd}Range: bytes=0-9\r\nIf-Range: W/\"v1\"\r\n"));
    assert_eq!((whole.status, decoded("zstd", &whole.body)), (200, body.clone()));
    let head = format!("HEAD / HTTP/1.1\r\nHost: shop.example.com\r\n{zstd}\r\n");
    let head = ask(site.address(), &head, "HEAD");
    assert_eq!((field(&head, "content-encoding"), head.fields.get("content-length")), ("zstd", None));
    let curl =
        Curl::default().flag("--http2-prior-knowledge").flag("--compressed").with("-H", "Host: shop.example.com");
    let over = curl.get(&format!("http://{}/", site.address())).unwrap();
    assert_eq!((over.status, over.text(), over.code), (200, body.clone(), 0), "{}", over.head);
    assert_eq!(asked(&upstream), 1);
    let count =
        |coding: &str| site.metric("http_responses_compressed_total", &[&format!("coding=\"{coding}\"")]).unwrap();
    assert_eq!((count("gzip"), count("br")), (2.0, 1.0));
}

#[test]
fn what_was_compressed_is_kept_and_goes_with_what_it_was_made_of() {
    let (old, new) = (text(2000), text(3000));
    let fields = |etag: &str| {
        format!("Cache-Control: max-age=600\r\nETag: \"{etag}\"\r\nCache-Tag: page\r\nConnection: close\r\n")
    };
    let upstream = RawUpstream::start(Script::answer_once(html(&fields("v1"), &old))).unwrap();
    let site = beside(&upstream, "compress = {}", "");
    let check = |coding: &str, body: &str, is_kept: bool| {
        let answer = get(&site, "/", &format!("Accept-Encoding: {coding}\r\n"));
        assert_eq!((decoded(coding, &answer.body).as_str(), field(&answer, "content-encoding")), (body, coding));
        assert_eq!(answer.fields.get("content-length").is_some(), is_kept, "{coding}: {answer:?}");
        answer.body
    };
    assert_eq!(get(&site, "/", "").text(), old);
    for coding in ["gzip", "br", "zstd"] {
        let first = check(coding, &old, false);
        assert!(check(coding, &old, true) == first, "{coding}");
    }
    assert_eq!(get(&site, "/", "").text(), old);
    let part = get(&site, "/", "Accept-Encoding: gzip\r\nRange: bytes=0-9\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, &old[..10]));
    let head = "HEAD / HTTP/1.1\r\nHost: shop.example.com\r\nAccept-Encoding: gzip\r\n\r\n";
    assert_eq!(field(&ask(site.address(), head, "HEAD"), "content-encoding"), "gzip");
    // What was found good still is another version, of which a form is made once.
    assert_eq!(purge(&site, &["--tag", "page", "--soft"]), "stale\n");
    upstream.set_script(Script::answer_once(format!("HTTP/1.1 304 Not Modified\r\n{}\r\n", fields("v1"))));
    assert!(told(&get(&site, "/", "Accept-Encoding: gzip\r\n")).starts_with("tenfold;fwd=stale;fwd-status=304"));
    check("gzip", &old, false);
    check("gzip", &old, true);
    upstream.set_script(Script::answer_once(html(&fields("v2"), &new)));
    assert_eq!(purge(&site, &["--url", "http://shop.example.com/"]), "purged\n");
    assert_eq!(get(&site, "/", "").text(), new);
    for coding in ["gzip", "br", "zstd"] {
        check(coding, &new, false);
        check(coding, &new, true);
    }
    assert_eq!(asked(&upstream), 3);
    assert!(site.metric("http_responses_compressed_total", &["coding=\"br\""]).unwrap() >= 4.0);
}

#[test]
fn what_is_not_stored_is_compressed_as_well() {
    let body = text(2000);
    let upstream = RawUpstream::start(Script::answer(html("Cache-Control: private\r\n", &body))).unwrap();
    let site = beside(&upstream, "compress = {}", "");
    for _ in 0..2 {
        let answer = get(&site, "/", "Accept-Encoding: gzip\r\n");
        assert!(told(&answer).starts_with("tenfold;fwd=uri-miss") && !told(&answer).contains("stored"), "{answer:?}");
        assert_eq!((decoded("gzip", &answer.body), field(&answer, "vary")), (body.clone(), "Accept-Encoding"));
    }
}

#[test]
fn variants_are_those_of_what_forward_auth_says() {
    let allows = |user: &str| Script::answer(answer(&format!("X-User: {user}\r\n"), ""));
    let auth = RawUpstream::start(allows("ann")).unwrap();
    let upstream = origin("Cache-Control: max-age=60\r\nVary: X-User\r\n", "for one");
    let route = "forward_auth = { service = \"auth\", path = \"/verify\", response_headers = [\"X-User\"] }";
    let site = beside(&upstream, route, &format!("[service.auth]\nendpoints = [\"{}\"]", auth.address()));
    let check = |forged: &str, expected: &str| {
        let answer: Response = get(&site, "/", forged);
        assert!(told(&answer).starts_with(&format!("tenfold;{expected}")), "{forged}: {answer:?}");
    };
    check("", "fwd=uri-miss");
    check("", "hit");
    check("X-User: bob\r\n", "hit");
    auth.set_script(allows("bob"));
    auth.clear();
    // What the client says of itself is not what the service hears.
    check("X-User: ann\r\n", "fwd=vary-miss");
    check("X_User: ann\r\n", "hit");
    assert_eq!(auth.requests().unwrap().len(), 2, "each request is asked about, be it answered from the cache or not");
    let users: Vec<_> = upstream.requests().unwrap();
    let users: Vec<_> = users.iter().map(|request| request.fields.get("x-user").unwrap()).collect();
    assert_eq!(users, ["ann", "bob"]);
    // Who may not pass gets nothing that is stored.
    auth.set_script(Script::answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
    auth.clear();
    assert_eq!(get(&site, "/", "").status, 403);
}

#[test]
fn services_of_a_split_have_their_own() {
    let (old, new) = (origin("Cache-Control: max-age=60\r\n", "old"), origin("Cache-Control: max-age=60\r\n", "new"));
    let config = |shares: [u32; 2], head: &str| {
        format!(
            "{head}[[route]]\nname = \"shop\"\ncache = {{}}\n\
             split = [{{ service = \"old\", weight = {} }}, {{ service = \"new\", weight = {} }}]\n\
             [service.old]\nendpoints = [\"{}\"]\n[service.new]\nendpoints = [\"{}\"]\n",
            shares[0],
            shares[1],
            old.address(),
            new.address()
        )
    };
    let head = listeners(free_port());
    let mut site = start(&config([1, 0], &head));
    let check = |site: &Tenfold, body: &str, expected: &str| {
        let answer = get(site, "/", "");
        assert!(answer.text() == body && told(&answer).starts_with(&format!("tenfold;{expected}")), "{answer:?}");
    };
    check(&site, "old", "fwd=uri-miss");
    check(&site, "old", "hit");
    apply(&mut site, &config([0, 1], &head));
    check(&site, "new", "fwd=uri-miss");
    check(&site, "new", "hit");
    apply(&mut site, &config([1, 0], &head));
    check(&site, "old", "hit");
    assert_eq!((asked(&old), asked(&new)), (1, 1));
}
