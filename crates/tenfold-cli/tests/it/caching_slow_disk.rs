//! A disk of the edge cache that is slow, or does not answer at all: the threads that read and write stand still.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::message::Response;
use testkit::{HeldThreads, RawConn, RawUpstream, Script, Step, TempDir, Tenfold};

use crate::caching::{answer, asked, told};
use crate::caching_disk::{FRESH, await_up, await_written, body, check_hit, large, text};
use crate::site::{ask, get, start};

const LENGTH: usize = 6 << 20;
/// Longer than any answer takes here, and less than the time for which a disk is waited for.
const SOON: Duration = Duration::from_secs(3);

/// Of answers after which the connection ends: one that is kept goes on with the script that it has begun.
const LAST: &str = "Connection: close\r\n";

fn hold(site: &Tenfold, threads: &str) -> HeldThreads {
    HeldThreads::hold(site.pid(), threads).unwrap()
}

/// A site that has stored what some paths answer with, each larger than memory takes, and was started anew.
fn stored(folder: &Path, paths: &[&str], length: usize) -> (RawUpstream, Tenfold) {
    let upstream = RawUpstream::start(Script::answer_once(large(length, &format!("{FRESH}{LAST}")))).unwrap();
    let text = text(&upstream, folder, "256MiB", "");
    {
        let site = start(&text);
        paths.iter().for_each(|path| assert_eq!(get(&site, path, "").body.len(), length));
        await_written(&site, paths.len() as u64);
    }
    let site = start(&text);
    await_up(&site);
    (upstream, site)
}

/// Asks by so many clients at once: their answers, and how long the slowest took.
fn at_once(site: &Tenfold, path: &str, clients: usize) -> (Vec<Response>, Duration) {
    let (address, began) = (site.address(), Instant::now());
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    let answers = std::thread::scope(|scope| {
        let ask = || {
            let mut conn = RawConn::connect_within(address, Duration::from_secs(30)).unwrap();
            conn.send(&request).unwrap();
            conn.read_response("GET").unwrap()
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    (answers, began.elapsed())
}

#[test]
fn what_was_found_good_is_served_before_the_disk_has_written_so() {
    let folder = TempDir::new().unwrap();
    let good = format!("HTTP/1.1 304 Not Modified\r\n{FRESH}{LAST}X-New: 1\r\n\r\n").into_bytes();
    let first = large(LENGTH, &format!("Cache-Control: max-age=0\r\n{LAST}"));
    let upstream = RawUpstream::start(Script::answer_once(first)).unwrap();
    let text = text(&upstream, folder.path(), "64MiB", "");
    let site = start(&text);
    let body = body(LENGTH);
    assert!(get(&site, "/", "").body == body);
    await_written(&site, 1);
    upstream.set_script(Script::answer_once(good));
    let held = hold(&site, "store-write");
    let (answers, took) = at_once(&site, "/", 12);
    for response in &answers {
        assert!(response.status == 200 && response.body == body, "{}", told(response));
        assert_eq!(response.fields.get("x-new"), Some("1"), "{}", told(response));
    }
    assert!(took < SOON, "{took:?}");
    // Also for who comes later, for as long as it takes.
    std::thread::sleep(Duration::from_millis(1500));
    for _ in 0..3 {
        let response = get(&site, "/", "");
        check_hit(&response, &body);
        assert_eq!(response.fields.get("x-new"), Some("1"));
    }
    // What `HEAD` brings is written in the same way.
    let head = "HEAD / HTTP/1.1\r\nHost: shop.example.com\r\nCache-Control: no-cache\r\n\r\n";
    let newer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\nETag: \"v1\"\r\n{FRESH}X-New: 2\r\n\r\n");
    upstream.set_script(Script::answer(newer));
    assert_eq!(ask(site.address(), head, "HEAD").status, 200);
    site.wait_until("it is known", |site| Ok(get(site, "/", "").fields.get("x-new") == Some("2"))).unwrap();
    assert_eq!(asked(&upstream), 3);
    drop(held);
    await_written(&site, 3);
    drop(site);
    let site = start(&text);
    await_up(&site);
    let response = get(&site, "/", "");
    check_hit(&response, &body);
    assert_eq!((response.fields.get("x-new"), asked(&upstream)), (Some("2"), 3));
}

#[test]
fn what_is_stale_before_the_disk_has_written_so_is_validated_by_one_for_all() {
    let folder = TempDir::new().unwrap();
    let first = large(LENGTH, &format!("Cache-Control: max-age=0\r\n{LAST}"));
    let upstream = RawUpstream::start(Script::answer_once(first)).unwrap();
    let site = start(&text(&upstream, folder.path(), "64MiB", ""));
    let body = body(LENGTH);
    assert!(get(&site, "/", "").body == body);
    await_written(&site, 1);
    let good = |fields: &str| Script::answer_once(format!("HTTP/1.1 304 Not Modified\r\n{fields}{LAST}\r\n"));
    upstream.set_script(good("Cache-Control: max-age=2\r\n"));
    let held = hold(&site, "store-write");
    for round in 2..5 {
        let (answers, took) = at_once(&site, "/", 6);
        for response in &answers {
            assert!(response.status == 200 && response.body == body, "{}: {}", response.status, told(response));
        }
        assert!(took < SOON, "{took:?}");
        let requests = upstream.requests().unwrap();
        assert_eq!(requests.len(), round, "one asks for all");
        assert_eq!(requests[round - 1].fields.get("if-none-match"), Some("\"v1\""));
        // It is older than it may be by then, and the writer is at the first still.
        std::thread::sleep(Duration::from_secs(3));
    }
    // Who wants only what is stored is told that nothing is that does, and nobody is asked.
    let stored = get(&site, "/", "Cache-Control: only-if-cached\r\n");
    assert_eq!((stored.status, asked(&upstream)), (504, 4));
    // A fetch that fails hides nothing that is known: the next one asks about it.
    let failure = format!("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n{LAST}\r\n");
    upstream.set_script(Script::answer_once(failure));
    assert_eq!(get(&site, "/", "").status, 500);
    upstream.set_script(good(&format!("{FRESH}X-New: 1\r\n")));
    let response = get(&site, "/", "");
    assert!(response.body == body && response.fields.get("x-new") == Some("1"), "{}", told(&response));
    drop(held);
    // The last of all is what is written.
    site.wait_until("it is written", |site| Ok(site.metric("cache_disk_writes_total", &[])? >= 5.0)).unwrap();
    let response = get(&site, "/", "");
    check_hit(&response, &body);
    assert_eq!((response.fields.get("x-new"), asked(&upstream)), (Some("1"), 6));
}

/// How responses vary is read by one thread, and the variant by another, which hangs: the wait is over in the middle of the second read.
#[test]
fn a_wait_that_spans_two_reads_ends_in_one_fetch() {
    let (folder, fields) = (TempDir::new().unwrap(), format!("{FRESH}Vary: Accept\r\nETag: \"v1\"\r\n"));
    let upstream = RawUpstream::start(Script::answer(answer(&fields, "hello"))).unwrap();
    let text = text(&upstream, folder.path(), "256MiB", "");
    // Which thread reads a key is chance: of so many, some are read so.
    let paths: Vec<String> = (0..16).map(|number| format!("/{number}")).collect();
    {
        let site = start(&text);
        paths.iter().for_each(|path| assert_eq!(get(&site, path, "").text(), "hello"));
        await_written(&site, 2 * paths.len() as u64);
    }
    let site = start(&text);
    await_up(&site);
    upstream.clear();
    let mut held = HeldThreads::hold_each(site.pid(), "store-read").unwrap();
    let answers = std::thread::scope(|scope| {
        let site = &site;
        let clients: Vec<_> = paths.iter().map(|path| scope.spawn(move || at_once(site, path, 3))).collect();
        std::thread::sleep(Duration::from_secs(4));
        drop(held.pop());
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    for (answers, took) in answers {
        assert!(answers.iter().all(|response| response.text() == "hello"));
        assert!(took < Duration::from_secs(12), "{took:?}");
    }
    let requests = upstream.requests().unwrap();
    for path in &paths {
        let asked = requests.iter().filter(|request| request.target == *path).count();
        assert!(asked <= 1, "{path}: {asked}");
    }
    assert!(!requests.is_empty(), "nothing hung");
}

#[test]
fn a_slow_disk_costs_its_time_and_not_the_object() {
    let folder = TempDir::new().unwrap();
    let (upstream, site) = stored(folder.path(), &["/"], LENGTH);
    let body = body(LENGTH);
    for _ in 0..2 {
        let held = hold(&site, "store-read");
        let (slow, pause) = (&site, Duration::from_millis(1500));
        let (answers, took) = std::thread::scope(|scope| {
            let clients = scope.spawn(|| at_once(slow, "/", 4));
            std::thread::sleep(pause);
            drop(held);
            clients.join().unwrap()
        });
        answers.iter().for_each(|response| check_hit(response, &body));
        assert!(took >= pause, "{took:?}");
    }
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn a_disk_that_hangs_holds_nobody_for_long_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let (upstream, site) = stored(folder.path(), &["/a", "/b", "/c", "/d"], LENGTH);
    let body = body(LENGTH);
    let held = hold(&site, "store-read");
    // Those who find it out wait, and then have one fetch together.
    let (answers, took) = at_once(&site, "/a", 6);
    for response in &answers {
        assert!(response.status == 200 && response.body == body, "{}", told(response));
        assert!(told(response).contains("fwd=uri-miss"), "{}", told(response));
    }
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(12), "{took:?}");
    assert_eq!(asked(&upstream), 5);
    // Of two readers each has to be found out.
    let (_, found_out) = at_once(&site, "/b", 1);
    let (_, other) = at_once(&site, "/c", 1);
    assert!(found_out.max(other) < Duration::from_secs(12));
    // What is larger than memory is not kept meanwhile. All come before the answer begins, so that one fetch does for them.
    let before = asked(&upstream);
    let large = large(LENGTH, &format!("{FRESH}{LAST}"));
    let pause = Step::Pause(Duration::from_secs(1));
    let slow = [Step::AwaitRequest, pause, Step::Send(large.clone()), Step::Close];
    upstream.set_script(Script::new(slow));
    let (answers, took) = at_once(&site, "/b", 6);
    assert!(answers.iter().all(|response| response.body == body) && took < SOON, "{took:?}");
    assert_eq!(asked(&upstream), before + 1);
    upstream.set_script(Script::answer_once(large));
    let before = asked(&upstream);
    drop(held);
    // The readers have to have a turn first. What nobody asked for meanwhile is there as before, and what is fetched stays again.
    let stored = "Cache-Control: only-if-cached\r\n";
    site.wait_until("the disk answers", |site| Ok(get(site, "/d", stored).status == 200)).unwrap();
    check_hit(&get(&site, "/d", ""), &body);
    assert_eq!(get(&site, "/a", "").body.len(), LENGTH);
    site.wait_until("it is stored", |site| Ok(told(&get(site, "/a", "")).ends_with("detail=disk"))).unwrap();
    assert_eq!(asked(&upstream), before + 1);
}

#[test]
fn an_answer_that_a_disk_breaks_off_is_kept() {
    let (folder, length) = (TempDir::new().unwrap(), 48 << 20);
    let script = [
        Step::AwaitRequest,
        Step::SendFor("/large".to_owned(), large(length, FRESH)),
        Step::SendFor("/small".to_owned(), answer(FRESH, "hello")),
        Step::Repeat,
    ];
    let upstream = RawUpstream::start(Script::new(script)).unwrap();
    let text = text(&upstream, folder.path(), "256MiB", "");
    let site = start(&text);
    assert_eq!(get(&site, "/large", "").body.len(), length);
    await_written(&site, 1);
    let mut conn = RawConn::connect_within(site.address(), Duration::from_secs(30)).unwrap();
    conn.send("GET /large HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    // It has begun, and most of it is to be read yet: more than sockets take.
    std::thread::sleep(Duration::from_millis(300));
    let (held, began) = (hold(&site, "store-read"), Instant::now());
    let came = conn.read_to_end().unwrap();
    assert!(came.starts_with(b"HTTP/1.1 200 OK\r\n") && came.len() < length, "{}", came.len());
    assert!(began.elapsed() > Duration::from_secs(8) && began.elapsed() < Duration::from_secs(25));
    // Others are served meanwhile.
    assert_eq!(get(&site, "/small", "").text(), "hello");
    drop(held);
    // Until its threads have come further, nothing is asked of the disk.
    std::thread::sleep(Duration::from_millis(500));
    check_hit(&get(&site, "/large", ""), &body(length));
    assert_eq!(asked(&upstream), 2);
}
