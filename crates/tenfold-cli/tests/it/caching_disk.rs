//! The disk of the edge cache: what is larger than memory, what outlasts the process, and what is done without a disk.

use std::path::Path;
use std::time::Duration;

use testkit::message::Response;
use testkit::{Curl, RawConn, RawUpstream, Script, Signal, Step, TempDir, Tenfold};

use crate::caching::{answer, asked, config, origin, purge, told};
use crate::site::{apply, ask, command, get, page, start};

pub(crate) const FRESH: &str = "Cache-Control: max-age=600\r\n";

/// A body that is different at each place.
pub(crate) fn body(bytes: usize) -> Vec<u8> {
    (0_u64..).flat_map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).take(bytes).collect()
}

pub(crate) fn large(bytes: usize, fields: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nETag: \"v1\"\r\n{fields}\r\n");
    [head.into_bytes(), body(bytes)].concat()
}

/// A site with little memory and a folder.
pub(crate) fn text(upstream: &RawUpstream, folder: &Path, size: &str, cache: &str) -> String {
    let disk = format!(
        "[cache]\nmemory = \"2MiB\"\ndisk = {{ path = \"{}\", size = \"{size}\" }}\n[[route]]",
        folder.display()
    );
    config(upstream.address(), &format!("object_bytes_max = \"64MiB\", {cache}")).replace("[[route]]", &disk)
}

fn disk(site: &Tenfold, what: &str) -> u64 {
    page(site, "/api/cache")["disk"][what].as_u64().unwrap_or_default()
}

pub(crate) fn await_written(site: &Tenfold, entries: u64) {
    let written = |site: &Tenfold| Ok(site.metric("cache_disk_writes_total", &[])? >= entries as f64);
    site.wait_until("written", written).unwrap();
}

pub(crate) fn await_up(site: &Tenfold) {
    site.wait_until("the folder", |site| Ok(page(site, "/api/cache")["disk"]["up"] == true)).unwrap();
}

pub(crate) fn check_hit(response: &Response, body: &[u8]) {
    let told = told(response);
    assert!(told.starts_with("tenfold;hit;ttl=") && told.ends_with(";detail=disk"), "{told}");
    assert!(response.body == body, "{} bytes of {}", response.body.len(), body.len());
}

#[test]
fn what_was_stored_outlasts_a_kill() {
    let (folder, length) = (TempDir::new().unwrap(), 24 << 20);
    let script = [
        Step::AwaitRequest,
        Step::SendFor("/large".to_owned(), large(length, FRESH)),
        Step::SendFor("/small".to_owned(), answer(FRESH, "hello")),
        Step::Repeat,
    ];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let text = text(&upstream, folder.path(), "256MiB", "");
    let body = body(length);
    {
        let mut site = start(&text);
        assert!(get(&site, "/large", "").body == body);
        await_written(&site, 1);
        // What does not fit into memory comes from disk in the same process as well.
        check_hit(&get(&site, "/large", ""), &body);
        assert_eq!(asked(&upstream), 1);
        assert_eq!(get(&site, "/small", "").text(), "hello");
        assert!(told(&get(&site, "/small", "")).starts_with("tenfold;hit;ttl="));
        await_written(&site, 2);
        site.process().kill();
    }
    let site = start(&text);
    await_up(&site);
    assert!(disk(&site, "bytes") > length as u64, "known before anything is written");
    check_hit(&get(&site, "/small", ""), b"hello");
    // It is in memory now.
    assert!(!told(&get(&site, "/small", "")).contains("disk"));
    check_hit(&get(&site, "/large", ""), &body);
    let part = get(&site, "/large", "Range: bytes=20000000-20000009\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &body[20_000_000..20_000_010]));
    let end = get(&site, "/large", "Range: bytes=-3\r\n");
    assert_eq!((end.status, &end.body[..]), (206, &body[length - 3..]));
    let parts = get(&site, "/large", "Range: bytes=0-0,9000000-9000003\r\n");
    assert_eq!(parts.status, 206);
    assert!(parts.body.windows(4).any(|four| *four == body[9_000_000..9_000_004]));
    let head = ask(site.address(), "HEAD /large HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "HEAD");
    assert_eq!((head.status, head.fields.get("content-length")), (200, Some("25165824")));
    assert_eq!(get(&site, "/large", "If-None-Match: \"v1\"\r\n").status, 304);
    assert_eq!(get(&site, "/large", "Cache-Control: only-if-cached\r\n").status, 200);
    assert_eq!(get(&site, "/other", "Cache-Control: only-if-cached\r\n").status, 504);
    let curl = Curl::default().flag("--http2-prior-knowledge").with("--header", "Host: shop.example.com");
    let second = curl.get(&format!("http://{}/large", site.address())).unwrap();
    assert!(second.status == 200 && second.body == body, "{}", second.head);
    assert_eq!(asked(&upstream), 2, "one for each object, ever");
    assert!(site.metric("cache_disk_hits_total", &[]).unwrap() >= 7.0);
    assert_eq!(site.metric("cache_disk_entries", &[]).unwrap(), 2.0);
}

#[test]
fn variants_outlast_a_restart() {
    let folder = TempDir::new().unwrap();
    let upstream = origin(&format!("{FRESH}Vary: Accept-Language\r\n"), "text");
    let text = text(&upstream, folder.path(), "64MiB", "");
    let languages = ["de", "fr"].map(|language| format!("Accept-Language: {language}\r\n"));
    {
        let site = start(&text);
        languages.iter().for_each(|fields| assert_eq!(get(&site, "/", fields).status, 200));
        await_written(&site, 3);
    }
    let site = start(&text);
    languages.iter().for_each(|fields| check_hit(&get(&site, "/", fields), b"text"));
    assert_eq!(asked(&upstream), 2);
    // One that is new leaves those that were there.
    assert!(told(&get(&site, "/", "Accept-Language: it\r\n")).starts_with("tenfold;fwd=vary-miss"));
    languages.iter().for_each(|fields| assert!(told(&get(&site, "/", fields)).starts_with("tenfold;hit")));
    assert_eq!(asked(&upstream), 3);
}

#[test]
fn what_was_purged_stays_so() {
    let folder = TempDir::new().unwrap();
    let upstream = origin(&format!("{FRESH}Surrogate-Key: a\r\n"), "old");
    let text = text(&upstream, folder.path(), "64MiB", "");
    {
        let mut site = start(&text);
        for path in ["/a", "/b"] {
            assert_eq!(get(&site, path, "").text(), "old");
        }
        await_written(&site, 2);
        assert_eq!(purge(&site, &["--url", "http://shop.example.com/a"]), "purged\n");
        site.process().kill();
    }
    let site = start(&text);
    assert!(told(&get(&site, "/a", "")).starts_with("tenfold;fwd=uri-miss"));
    // What an earlier process fetched is changed by an unsafe request as well.
    let post = "POST /b HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(site.address(), post, "POST").status, 200);
    assert!(told(&get(&site, "/b", "")).starts_with("tenfold;fwd=uri-miss"));
}

#[test]
fn what_is_stale_on_disk_is_validated_once() {
    let (folder, length) = (TempDir::new().unwrap(), 6 << 20);
    let good = format!("HTTP/1.1 304 Not Modified\r\n{FRESH}X-New: 1\r\n\r\n").into_bytes();
    let first = large(length, "Cache-Control: max-age=0\r\nConnection: close\r\n");
    let upstream = RawUpstream::start(Script::answer_once(first)).unwrap();
    let site = start(&text(&upstream, folder.path(), "64MiB", ""));
    let body = body(length);
    assert!(get(&site, "/", "").body == body);
    await_written(&site, 1);
    // Each connection begins with the script of its time.
    upstream.set_script(Script::answer(good));
    let (address, body) = (site.address(), &body);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(move || {
                let response = ask(address, "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "GET");
                assert!(response.status == 200 && response.body == *body, "{}", told(&response));
                assert_eq!(response.fields.get("x-new"), Some("1"));
            });
        }
    });
    check_hit(&get(&site, "/", ""), body);
    assert_eq!(asked(&upstream), 2);
}

/// A site whose one large object is on disk alone, and stale by what it said.
fn stale(folder: &TempDir, fields: &str) -> (RawUpstream, Tenfold, Vec<u8>) {
    let length = 6 << 20;
    let first = large(length, &format!("Cache-Control: max-age=0, {fields}\r\nConnection: close\r\n"));
    let upstream = RawUpstream::start(Script::answer_once(first)).unwrap();
    let text = text(&upstream, folder.path(), "64MiB", "");
    {
        let site = start(&text);
        assert!(get(&site, "/", "").body.len() == length);
        await_written(&site, 1);
    }
    (upstream, start(&text), body(length))
}

#[test]
fn what_is_stale_on_disk_is_served_while_it_is_fetched_again() {
    let folder = TempDir::new().unwrap();
    let (upstream, site, body) = stale(&folder, "stale-while-revalidate=600");
    // The origin answers nobody.
    upstream.set_script(Script::new([Step::AwaitRequest, Step::Drain]));
    for round in 0..4 {
        let response = get(&site, "/", "");
        assert!(told(&response).starts_with("tenfold;hit;ttl=-"), "{round}: {}", told(&response));
        assert!(response.body == body);
    }
    assert_eq!(asked(&upstream), 2, "one fetch, under way all the time");
}

#[test]
fn what_is_stale_on_disk_is_served_to_all_who_waited_for_a_failure() {
    let folder = TempDir::new().unwrap();
    let (upstream, site, body) = stale(&folder, "stale-if-error=600");
    let failure = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    upstream.set_script(Script::answer(failure));
    let (address, body) = (site.address(), &body);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let response = ask(address, "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "GET");
                assert!(response.status == 200 && response.body == *body, "{}", told(&response));
                assert!(told(&response).contains("detail=stale-if-error"), "{}", told(&response));
            });
        }
    });
}

#[test]
fn the_window_of_what_is_on_disk_alone_opens_with_its_soft_purge() {
    let (folder, length) = (TempDir::new().unwrap(), 6 << 20);
    let first = large(length, &format!("{FRESH}Connection: close\r\n"));
    let upstream = RawUpstream::start(Script::answer_once(first)).unwrap();
    let text = text(&upstream, folder.path(), "64MiB", "stale_if_error = \"6s\"");
    let failure = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    {
        let site = start(&text);
        assert!(get(&site, "/", "").body.len() == length);
        await_written(&site, 1);
        assert_eq!(purge(&site, &["--url", "shop.example.com/", "--soft"]), "stale\n");
        upstream.set_script(Script::answer(failure));
        let response = get(&site, "/", "");
        assert!(told(&response).contains("detail=stale-if-error"), "{}", told(&response));
    }
    // A restart does not open it anew, and nor does each look.
    let (site, begun) = (start(&text), std::time::Instant::now());
    let over = |site: &Tenfold| Ok(get(site, "/", "").status == 503);
    site.wait_until("the end of the window", over).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn an_answer_to_head_makes_stale_what_is_on_disk() {
    let (length, vary) = (6 << 20, "Vary: Accept-Language\r\nConnection: close\r\n");
    let check = |etag: &str, is_stale: bool| {
        let folder = TempDir::new().unwrap();
        let upstream = RawUpstream::start(Script::answer_once(large(length, &format!("{FRESH}{vary}")))).unwrap();
        let text = text(&upstream, folder.path(), "64MiB", "");
        {
            let site = start(&text);
            assert!(get(&site, "/", "").body.len() == length);
            await_written(&site, 2);
        }
        let site = start(&text);
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: {etag}\r\n{FRESH}{vary}X-New: 1\r\n\r\n");
        upstream.set_script(Script::answer_once(head));
        let request = "HEAD / HTTP/1.1\r\nHost: shop.example.com\r\nCache-Control: no-cache\r\n\r\n";
        assert_eq!(ask(site.address(), request, "HEAD").status, 200);
        await_written(&site, 1);
        upstream.set_script(Script::answer_once(large(length, &format!("{FRESH}{vary}"))));
        let response = get(&site, "/", "");
        let expected = if is_stale { "tenfold;fwd=stale" } else { "tenfold;hit" };
        assert!(told(&response).starts_with(expected), "{etag}: {}", told(&response));
        assert_eq!(response.fields.get("x-new").is_some(), !is_stale, "{etag}");
    };
    check("\"v1\"", false);
    check("\"v2\"", true);
}

#[test]
fn a_failing_disk_costs_nothing_but_itself() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("cache");
    let upstream = origin(FRESH, &"x".repeat(300_000));
    let site = start(&text(&upstream, &below, "16MiB", ""));
    assert_eq!(get(&site, "/0", "").body.len(), 300_000);
    await_written(&site, 1);
    // No file can be made where there is no folder.
    std::fs::remove_dir_all(&below).unwrap();
    for path in 1..20 {
        assert_eq!(get(&site, &format!("/{path}"), "").body.len(), 300_000);
    }
    site.wait_until("the failure", |site| Ok(page(site, "/api/cache")["disk"]["up"] == false)).unwrap();
    assert!(disk(&site, "errors") > 0);
    assert_eq!(site.metric("cache_disk_up", &[]).unwrap(), 0.0);
    let admin = format!("http://{}", site.admin().unwrap());
    let output = command().args(["cache", "top", "--admin", &admin]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("memory") && shown.contains("down"), "{shown}");
    assert_eq!(get(&site, "/100", "").body.len(), 300_000);
    std::fs::create_dir(&below).unwrap();
    await_up(&site);
}

#[test]
fn a_folder_belongs_to_one_at_a_time() {
    let folder = TempDir::new().unwrap();
    let upstream = origin(FRESH, "hello");
    let text = |size| text(&upstream, folder.path(), size, "");
    let first = start(&text("64MiB"));
    for path in ["/a", "/b", "/c"] {
        assert_eq!(get(&first, path, "").text(), "hello");
    }
    await_written(&first, 3);
    let second = start(&text("64MiB"));
    assert!(told(&get(&second, "/a", "")).starts_with("tenfold;fwd=uri-miss"), "it serves without");
    let disk = &page(&second, "/api/cache")["disk"];
    assert_eq!((&disk["up"], &disk["bytes_max"]), (&false.into(), &(64 << 20).into()));
    let said = format!("{}", folder.path().display());
    assert!(second.output().contains(&said), "{}", second.output());
    // What it purges meanwhile is not there when it has the folder.
    let post = "POST /b HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(second.address(), post, "POST").status, 200);
    assert_eq!(purge(&second, &["--url", "http://shop.example.com/c"]), "purged\n");
    drop(first);
    await_up(&second);
    check_hit(&get(&second, "/a", ""), b"hello");
    for path in ["/b", "/c"] {
        assert!(told(&get(&second, path, "")).starts_with("tenfold;fwd=uri-miss"), "{path}");
    }
}

#[test]
fn a_reload_changes_the_size_and_the_folder() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let upstream = origin(FRESH, "hello");
    let with = |folder: &TempDir, size| text(&upstream, folder.path(), size, "");
    let first = with(&folder, "64MiB");
    let mut site = start(&first);
    assert_eq!(get(&site, "/", "").text(), "hello");
    await_written(&site, 1);
    let change = |from: &str, to: &str, text: &str| text.replace(from, to);
    let larger = change("64MiB\" }", "128MiB\" }", &first);
    apply(&mut site, &larger);
    await_up(&site);
    assert_eq!(disk(&site, "bytes_max"), 128 << 20);
    check_hit(&get(&site, "/", ""), b"hello");
    // Another folder has nothing; and what was in the first one may have been purged meanwhile.
    let paths = [&folder, &other].map(|folder| folder.path().display().to_string());
    let moved = change(&paths[0], &paths[1], &larger);
    apply(&mut site, &moved);
    assert!(told(&get(&site, "/", "")).starts_with("tenfold;fwd=uri-miss"));
    await_written(&site, 1);
    apply(&mut site, &larger);
    await_up(&site);
    assert!(told(&get(&site, "/", "")).starts_with("tenfold;fwd=uri-miss"));
    let without = change("disk =", "#", &larger);
    apply(&mut site, &without);
    assert!(page(&site, "/api/cache")["disk"].is_null());
    assert!(told(&get(&site, "/", "")).starts_with("tenfold;fwd=uri-miss"));
    assert_eq!(asked(&upstream), 4);
}

#[test]
fn the_process_that_takes_over_has_the_folder() {
    let folder = TempDir::new().unwrap();
    let upstream = origin(FRESH, "hello");
    let mut site = start(&text(&upstream, folder.path(), "64MiB", ""));
    assert_eq!(get(&site, "/", "").text(), "hello");
    await_written(&site, 1);
    // A connection that keeps the old process.
    let mut kept = RawConn::connect(site.address()).unwrap();
    kept.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n").unwrap();
    site.upgrade().unwrap();
    await_up(&site);
    check_hit(&get(&site, "/", ""), b"hello");
    kept.send("\r\n").unwrap();
    assert_eq!(kept.read_response("GET").unwrap().text(), "hello");
}

#[test]
fn a_stop_leaves_what_was_stored_last() {
    let folder = TempDir::new().unwrap();
    let upstream = origin(FRESH, &"x".repeat(200_000));
    let text = text(&upstream, folder.path(), "64MiB", "").replace("2MiB", "32MiB");
    let mut site = start(&text);
    for path in 0..40 {
        assert_eq!(get(&site, &format!("/{path}"), "").body.len(), 200_000);
    }
    site.process().signal(Signal::TERM).unwrap();
    site.process().wait(Duration::from_secs(20)).unwrap();
    drop(site);
    let site = start(&text);
    for path in 0..40 {
        let response = get(&site, &format!("/{path}"), "");
        assert!(told(&response).starts_with("tenfold;hit"), "{path}: {}", told(&response));
    }
    assert_eq!(asked(&upstream), 40);
}

#[test]
fn parts_are_answered_from_what_is_on_disk() {
    let (folder, length) = (TempDir::new().unwrap(), 6 << 20);
    let upstream = RawUpstream::start(Script::answer(large(length, FRESH))).unwrap();
    let text = text(&upstream, folder.path(), "64MiB", "");
    let body = body(length);
    {
        let site = start(&text);
        assert!(get(&site, "/", "").body == body);
        await_written(&site, 1);
    }
    let site = start(&text);
    for first in [0, 1_000_000, 5_000_000] {
        let part = get(&site, "/", &format!("Range: bytes={first}-{}\r\n", first + 9));
        assert_eq!((part.status, &part.body[..]), (206, &body[first..first + 10]));
        assert!(told(&part).ends_with("detail=disk"), "{}", told(&part));
    }
    assert_eq!(asked(&upstream), 1);
}
