//! What a disk of the edge cache has yet to write: it is whole, and as old as it is.

use std::time::Duration;

use testkit::{HeldThreads, RawUpstream, Script, Step, TempDir};

use crate::caching::{asked, told};
use crate::caching_disk::{FRESH, await_up, await_written, body, check_hit, large, text};
use crate::site::{get, start};

/// More than memory takes, and less than waits for a disk at once.
const LENGTH: usize = 6 << 20;
/// Of answers after which the connection ends: one that is kept goes on with the script that it has begun.
const LAST: &str = "Connection: close\r\n";

#[test]
fn what_is_whole_is_served_for_as_long_as_it_may_be_though_the_disk_has_yet_to_write_it() {
    let folder = TempDir::new().unwrap();
    let first = large(LENGTH, &format!("Cache-Control: max-age=5\r\n{LAST}"));
    let upstream = RawUpstream::start(Script::answer_once(first)).unwrap();
    let text = text(&upstream, folder.path(), "64MiB", "");
    let site = start(&text);
    let held = HeldThreads::hold(site.pid(), "store-write").unwrap();
    let body = body(LENGTH);
    assert!(get(&site, "/", "").body == body);
    assert!(get(&site, "/", "").body == body);
    assert_eq!(asked(&upstream), 1, "it is there, written or not");
    std::thread::sleep(Duration::from_secs(6));
    // A fetch that fails hides nothing.
    let failure = format!("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n{LAST}\r\n");
    upstream.set_script(Script::answer_once(failure));
    assert_eq!((get(&site, "/", "").status, asked(&upstream)), (500, 2), "it is older than it may be");
    let good = format!("HTTP/1.1 304 Not Modified\r\n{FRESH}{LAST}X-New: 1\r\n\r\n");
    upstream.set_script(Script::answer_once(good));
    for _ in 0..2 {
        let response = get(&site, "/", "");
        assert!(response.status == 200 && response.body == body, "{}: {}", response.status, told(&response));
        assert_eq!(response.fields.get("x-new"), Some("1"), "{}", told(&response));
    }
    let requests = upstream.requests().unwrap();
    assert_eq!((requests.len(), requests[2].fields.get("if-none-match")), (3, Some("\"v1\"")), "it is found good once");
    drop(held);
    await_written(&site, 2);
    drop(site);
    let site = start(&text);
    await_up(&site);
    let response = get(&site, "/", "");
    check_hit(&response, &body);
    assert_eq!((response.fields.get("x-new"), asked(&upstream)), (Some("1"), 3));
}

#[test]
fn what_was_given_up_for_a_disk_in_part_is_stale_when_its_time_is_over() {
    let folder = TempDir::new().unwrap();
    let mut first = large(LENGTH, &format!("Cache-Control: max-age=2\r\n{LAST}"));
    let rest = first.split_off(first.len() - (1 << 20));
    let pause = Step::Pause(Duration::from_secs(2));
    let steps = [Step::AwaitRequest, Step::Send(first), pause, Step::Send(rest), Step::Close];
    let upstream = RawUpstream::start(Script::new(steps)).unwrap();
    let site = start(&text(&upstream, folder.path(), "64MiB", ""));
    let body = body(LENGTH);
    let held = std::thread::scope(|scope| {
        let client = scope.spawn(|| get(&site, "/", ""));
        // What has come is on disk by then, and memory needs it no more.
        std::thread::sleep(Duration::from_secs(1));
        let held = HeldThreads::hold(site.pid(), "store-write").unwrap();
        assert!(client.join().unwrap().body == body);
        held
    });
    std::thread::sleep(Duration::from_secs(3));
    let good = format!("HTTP/1.1 304 Not Modified\r\n{FRESH}{LAST}X-New: 1\r\n\r\n");
    upstream.set_script(Script::answer_once(good));
    for _ in 0..2 {
        let response = get(&site, "/", "");
        assert!(response.status == 200 && response.body == body, "{}: {}", response.status, told(&response));
        assert_eq!((response.fields.get("x-new"), asked(&upstream)), (Some("1"), 2), "{}", told(&response));
    }
    drop(held);
    await_written(&site, 2);
    let response = get(&site, "/", "");
    check_hit(&response, &body);
    assert_eq!((response.fields.get("x-new"), asked(&upstream)), (Some("1"), 2));
}
