//! What later answers of a service do to what the edge cache has of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use testkit::{Curl, RawConn, RawUpstream, Script, Step, free_port};

use crate::caching::{answer, asked, cached, config, origin, purge, told};
use crate::site::{apply, ask, get, listeners, start};

const FRESH: &str = "Cache-Control: max-age=60\r\n";
/// Has to be asked for each time, and can be.
const STALE: &str = "Cache-Control: max-age=0\r\nETag: \"v1\"\r\n";

fn good(fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes()
}

fn switch(upstream: &RawUpstream, script: Script) {
    upstream.set_script(script);
    upstream.clear();
}

#[test]
fn a_failure_that_may_be_stored_leaves_what_is_better() {
    let upstream = origin(STALE, "good");
    let site = cached(&upstream, "status_ttl = { \"500-599\" = \"60s\" }, stale_if_error = \"60s\"");
    assert_eq!(get(&site, "/", "").text(), "good");
    switch(&upstream, Script::answer("HTTP/1.1 503 Down\r\nContent-Length: 4\r\n\r\ndown"));
    for _ in 0..2 {
        let response = get(&site, "/", "");
        assert_eq!((response.status, response.text().as_ref()), (200, "good"));
        assert!(told(&response).contains("stale-if-error"), "{response:?}");
    }
    assert_eq!(get(&site, "/other", "").status, 503);
    assert_eq!(get(&site, "/other", "").status, 503);
    assert_eq!(asked(&upstream), 3, "where there is nothing better, the failure is stored");
    switch(&upstream, Script::answer(good(FRESH)));
    assert!(told(&get(&site, "/", "")).contains("fwd-status=304"));
}

#[test]
fn what_one_client_wants_for_itself_leaves_what_others_have() {
    for own in ["Cache-Control: no-cache, no-store\r\n", "Authorization: Basic YTpi\r\nCache-Control: no-cache\r\n"] {
        let upstream = origin(STALE, "good");
        let site = cached(&upstream, "");
        assert_eq!(get(&site, "/", "").text(), "good");
        switch(&upstream, Script::answer(good(STALE)));
        assert_eq!(get(&site, "/", own).text(), "good");
        assert_eq!(get(&site, "/", "").text(), "good");
        let requests = upstream.requests().unwrap();
        assert_eq!(requests[1].fields.get("if-none-match"), Some("\"v1\""), "{own}");
    }
    let upstream = origin(&format!("{FRESH}ETag: \"v1\"\r\n"), "12345");
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "").text(), "12345");
    let own = "Cache-Control: no-cache\r\nAuthorization: Basic YTpi\r\n";
    let head = format!("HEAD / HTTP/1.1\r\nHost: shop.example.com\r\n{own}\r\n");
    assert_eq!(ask(site.address(), &head, "HEAD").status, 200);
    assert!(told(&get(&site, "/", "")).starts_with("tenfold;hit"));
}

#[test]
fn what_one_client_wants_for_itself_has_others_still_wait_for_each_other() {
    let slow =
        [Step::AwaitRequest, Step::Pause(Duration::from_millis(300)), Step::Send(answer(FRESH, "v")), Step::Repeat];
    let upstream = RawUpstream::start(Script::new(slow)).unwrap();
    let site = cached(&upstream, "");
    for (path, own) in [("/a", "Cache-Control: no-store\r\n"), ("/b", "Authorization: Basic YTpi\r\n")] {
        upstream.clear();
        std::thread::scope(|scope| {
            // Whoever waits for it fetches together afterwards, and so does who comes then.
            let first = scope.spawn(|| get(&site, path, own));
            site.wait_until("the request", |_| Ok(asked(&upstream) == 1)).unwrap();
            let others: Vec<_> = (0..10).map(|_| scope.spawn(|| get(&site, path, ""))).collect();
            assert_eq!(first.join().unwrap().text(), "v");
            others.into_iter().for_each(|other| assert_eq!(other.join().unwrap().text(), "v"));
        });
        assert_eq!(asked(&upstream), 2, "{own}");
    }
}

#[test]
fn a_304_that_varies_otherwise_makes_it_another_variant() {
    let upstream = origin(STALE, "v");
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "X-Kind: a\r\n").text(), "v");
    switch(&upstream, Script::answer(good(&format!("{FRESH}ETag: \"v1\"\r\nVary: X-Kind\r\n"))));
    assert_eq!(get(&site, "/", "X-Kind: a\r\n").text(), "v");
    switch(&upstream, Script::answer(answer(FRESH, "w")));
    let other = get(&site, "/", "X-Kind: b\r\n");
    assert!(other.text() == "w" && told(&other).starts_with("tenfold;fwd="), "{other:?}");
}

#[test]
fn another_services_answer_makes_nothing_good() {
    let upstream = origin(STALE, "old");
    let spare = [Step::AwaitRequest, Step::Send(good(FRESH)), Step::AwaitRequest, Step::Send(answer("", "spare"))];
    let spare = RawUpstream::start(Script::new(spare.into_iter().chain([Step::Drain]))).unwrap();
    let text = config(upstream.address(), "").replace("response_timeout = \"3s\"\n", "");
    let site = start(&format!(
        "{text}breaker = {{ failures = 1, open_for = \"60s\" }}\nfallback = {{ service = \"spare\" }}\n\
         [service.spare]\nendpoints = [\"{}\"]\n",
        spare.address()
    ));
    assert_eq!(get(&site, "/", "").text(), "old");
    switch(&upstream, Script::new([Step::AwaitRequest, Step::Reset]));
    let mut response = get(&site, "/", "");
    // The breaker opens by the first failure, and what comes afterwards goes to the other one.
    for _ in 0..3 {
        if response.status == 200 {
            break;
        }
        response = get(&site, "/", "");
    }
    assert_eq!((response.status, response.text().as_ref()), (200, "spare"));
    assert_eq!(spare.requests().unwrap()[0].fields.get("if-none-match"), Some("\"v1\""));
    assert_eq!(spare.requests().unwrap()[1].fields.get("if-none-match"), None);
}

#[test]
fn a_soft_purge_opens_the_window_once() {
    let upstream = origin(FRESH, "old");
    let site = cached(&upstream, "stale_while_revalidate = \"1s\"");
    assert_eq!(get(&site, "/", "").text(), "old");
    assert_eq!(purge(&site, &["--url", "shop.example.com/", "--soft"]), "stale\n");
    switch(&upstream, Script::new([Step::AwaitRequest, Step::Reset]));
    assert_eq!(get(&site, "/", "").text(), "old");
    // It cannot be had anew, and when the window is over nobody gets the old one.
    site.wait_until("the end of the window", |site| Ok(get(site, "/", "").status != 200)).unwrap();
}

#[test]
fn what_may_not_be_stored_any_more_is_not_served_on() {
    let upstream = origin("Cache-Control: max-age=0, stale-while-revalidate=600\r\n", "old");
    let site = cached(&upstream, "");
    assert_eq!(get(&site, "/", "").text(), "old");
    switch(&upstream, Script::answer(answer("Cache-Control: private\r\n", "mine")));
    assert_eq!(get(&site, "/", "").text(), "old");
    site.wait_until("the new one", |site| Ok(get(site, "/", "").text() == "mine")).unwrap();
}

#[test]
fn what_a_route_without_a_cache_changes_is_invalid_too() {
    let upstream = origin(&format!("{FRESH}Surrogate-Key: a\r\n"), "v");
    let text = config(upstream.address(), "key = { host = false }");
    let writes = "[[route]]\nname = \"writes\"\nmethod = [\"POST\"]\nservice = \"api\"\n";
    let site = start(&text.replace("[service.api]", &format!("{writes}[service.api]")));
    assert_eq!(get(&site, "/a", "").text(), "v");
    assert!(told(&get(&site, "/a", "")).starts_with("tenfold;hit"));
    let post = "POST /a HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\n\r\n";
    let changed = ask(site.address(), post, "POST");
    assert_eq!((changed.fields.get("cache-status"), changed.fields.get("surrogate-key")), (None, Some("a")));
    assert!(told(&get(&site, "/a", "")).starts_with("tenfold;fwd=uri-miss"));
}

#[test]
fn what_is_stored_for_all_hosts_goes_with_each_of_them() {
    let upstream = origin(FRESH, "v");
    let site = cached(&upstream, "key = { host = false }");
    assert_eq!(get(&site, "/a", "").text(), "v");
    assert_eq!(purge(&site, &["--host", "other.example.com"]), "purged\n");
    assert!(told(&get(&site, "/a", "")).starts_with("tenfold;fwd=uri-miss"));
}

#[test]
fn what_a_route_has_stored_is_not_given_for_another_that_takes_its_name() {
    let upstream = origin(FRESH, "old");
    let text = config(upstream.address(), "").replace("name = \"shop\"\n", "");
    let mut site = start(&text);
    assert_eq!(get(&site, "/x/1", "").text(), "old");
    upstream.set_script(Script::answer(answer(FRESH, "new")));
    upstream.clear();
    // What has no name is called after its service, and this one comes first.
    let other = "[[route]]\nservice = \"api\"\npath = \"/x/*\"\nrewrite = { prefix = \"/\" }\ncache = {}\n";
    apply(&mut site, &text.replacen("[[route]]\n", &format!("{other}[[route]]\n"), 1));
    assert_eq!(get(&site, "/x/1", "").text(), "new");
}

#[test]
fn tags_are_for_caches_alone_also_where_they_are_passed_by() {
    let upstream = origin(&format!("{FRESH}Surrogate-Key: a\r\n"), "v");
    let site = cached(&upstream, "bypass = { query = [\"raw\"] }");
    let response = get(&site, "/?raw", "");
    assert!(told(&response).contains("fwd=bypass"), "{response:?}");
    assert_eq!(response.fields.get("surrogate-key"), None);
}

#[test]
fn clients_stick_to_an_endpoint_behind_a_cache_too() {
    let upstreams = ["a", "b"].map(|name| origin("Cache-Control: private\r\n", name));
    let [a, b] = upstreams.each_ref().map(RawUpstream::address);
    let text = config(a, "").replace(&format!("\"{a}\""), &format!("\"{a}\", \"{b}\""));
    let site = start(&format!("{text}sticky = {{ cookie = \"stick\" }}\n"));
    let first = get(&site, "/", "");
    let cookie = first.fields.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..6 {
        let response = get(&site, "/", &format!("Cookie: {cookie}\r\n"));
        assert_eq!(response.text(), first.text());
        assert_eq!(response.fields.get("set-cookie"), None, "it has it");
    }
}

#[test]
fn nothing_is_fetched_for_nobody_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (ended, has_ended) = mpsc::sync_channel(1);
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _head = socket.read(&mut [0; 4096]).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\n{FRESH}Transfer-Encoding: chunked\r\n\r\n");
        let mut written = socket.write_all(head.as_bytes());
        let chunk = [&b"1000\r\n"[..], &[b'x'; 0x1000], b"\r\n"].concat();
        while written.is_ok() {
            written = socket.write_all(&chunk);
        }
        let _nobody_listens = ended.send(());
    });
    let site = start(&config(address, "object_bytes_max = \"64KiB\""));
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    conn.reset();
    has_ended.recv_timeout(Duration::from_secs(20)).expect("the fetch goes on");
}

#[test]
fn a_fetch_holds_the_place_of_a_client_that_has_gone() {
    let slow =
        [Step::AwaitRequest, Step::Pause(Duration::from_millis(1_500)), Step::Send(answer(FRESH, "v")), Step::Repeat];
    let upstream = RawUpstream::start(Script::new(slow)).unwrap();
    let head = listeners(free_port());
    let site = start(&format!(
        "{head}[[route]]\nservice = \"api\"\ncache = {{}}\nlimit = {{ concurrency = 1 }}\n\
         [service.api]\nendpoints = [\"{}\"]\n",
        upstream.address()
    ));
    let curl = Curl::default().flag("--http2-prior-knowledge").with("--max-time", "0.5");
    let curl = curl.with("--header", "Host: shop.example.com");
    assert_ne!(curl.get(&format!("http://{}/a", site.address())).unwrap().code, 0, "it was given up");
    assert_eq!(get(&site, "/b", "").status, 429);
    site.wait_until("the place", |site| Ok(get(site, "/a", "").status == 200)).unwrap();
    assert_eq!(asked(&upstream), 1);
}

/// A service that varies now by this and now by that, and answers each request with its cookie.
struct Moody {
    is_open: AtomicBool,
    asked: AtomicUsize,
    /// The request, counted from the first one, whose answer varies by the field that all have in common.
    common: AtomicUsize,
}

impl Moody {
    /// Listens until the process ends.
    fn start(&'static self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for conn in listener.incoming() {
                std::thread::spawn(move || self.answer(&conn.unwrap()));
            }
        });
        address
    }

    fn answer(&self, mut conn: &TcpStream) {
        let mut cookie = String::new();
        for line in BufReader::new(conn).lines().map_while(Result::ok) {
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("cookie") => value.clone_into(&mut cookie),
                _ if line.is_empty() => {
                    let turn = self.asked.fetch_add(1, Ordering::SeqCst);
                    while !self.is_open.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let is_common = turn == self.common.load(Ordering::SeqCst);
                    let vary = if is_common { "Accept-Encoding" } else { "Cookie" };
                    let fields = format!("Cache-Control: max-age=60\r\nCache-Tag: t\r\nVary: {vary}\r\n");
                    conn.write_all(&answer(&fields, &cookie)).unwrap();
                }
                _ => {}
            }
        }
    }
}

#[test]
fn who_fetched_across_a_purge_never_gets_what_was_made_for_another() {
    static SERVICE: Moody =
        Moody { is_open: AtomicBool::new(true), asked: AtomicUsize::new(0), common: AtomicUsize::new(usize::MAX) };
    let Moody { is_open, asked, common } = &SERVICE;
    let site = start(&config(SERVICE.start(), ""));
    let ask = |cookie: &str| assert_eq!(get(&site, "/", &format!("Cookie: {cookie}\r\n")).text(), cookie);
    let next_is_common = || common.store(asked.load(Ordering::SeqCst), Ordering::SeqCst);
    ask("first");
    for round in 0..20 {
        // That it varies by what all have in common is known last, so that all look there.
        next_is_common();
        ask(&format!("r{round}"));
        purge(&site, &["--tag", "t"]);
        next_is_common();
        is_open.store(false, Ordering::SeqCst);
        let before = asked.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            (0..12).for_each(|number| drop(scope.spawn(move || ask(&format!("r{round}c{number}")))));
            site.wait_until("the fetch", |_| Ok(asked.load(Ordering::SeqCst) > before)).unwrap();
            // What comes of it is thrown away by all who wait, and the one that is asked for then varies by what is their own.
            purge(&site, &["--tag", "t"]);
            is_open.store(true, Ordering::SeqCst);
        });
    }
}
