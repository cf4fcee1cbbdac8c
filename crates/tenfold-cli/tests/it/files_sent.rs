//! Files on their way: ranges, codings, large ones over every kind of connection, and those that change meanwhile.

use std::fs::File;
use std::io::Write as _;

use testkit::message::Response;
use testkit::{Authority, Curl, RawConn, TempDir, Tenfold, free_port, procfs};

use crate::files::{counted, field, send, serving};
use crate::site::{listeners, start};

#[test]
fn ranges_are_sent_apart() {
    let root = TempDir::new().unwrap();
    root.write("digits.txt", "0123456789").unwrap();
    let site = serving(root.path(), "", "");
    let ask = |value: &str| send(&site, "GET /digits.txt", &format!("Range: {value}\r\n"));
    let one = |value: &str, body: &str, range: &str| {
        let part = ask(value);
        assert_eq!((part.status, part.text().as_str(), field(&part, "content-range")), (206, body, range), "{value}");
        assert_eq!(field(&part, "content-type"), "text/plain; charset=utf-8");
    };
    one("bytes=0-0", "0", "bytes 0-0/10");
    one("bytes=7-", "789", "bytes 7-9/10");
    one("bytes=-2", "89", "bytes 8-9/10");
    one("bytes=4-99", "456789", "bytes 4-9/10");
    one("bytes=4-5,50-", "45", "bytes 4-5/10");
    for whole in ["bytes=5-4", "lines=0-1", "bytes=x", "bytes=0-9,0-9"] {
        assert_eq!((ask(whole).status, ask(whole).text().as_str()), (200, "0123456789"), "{whole}");
    }
    for beyond in ["bytes=10-", "bytes=-0", "bytes=50-60,70-"] {
        let refused = ask(beyond);
        assert_eq!((refused.status, field(&refused, "content-range")), (416, "bytes */10"), "{beyond}");
    }
    let head = send(&site, "HEAD /digits.txt", "Range: bytes=0-0\r\n");
    assert_eq!((head.status, field(&head, "content-length")), (200, "10"));
    let several = ask("bytes=8-9, 0-1");
    let kind = field(&several, "content-type");
    let mark = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, body: &str| {
        format!(
            "--{mark}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/10\r\n\r\n{body}\r\n"
        )
    };
    let expected = format!("{}{}--{mark}--\r\n", part("8-9", "89"), part("0-1", "01"));
    assert_eq!((several.status, several.text()), (206, expected));
    assert!(several.fields.get("content-range").is_none());
}

#[test]
fn clients_get_the_coding_that_they_like_best() {
    let root = TempDir::new().unwrap();
    for (name, content) in
        [("app.js", "plain"), ("app.js.br", "of brotli"), ("app.js.zst", "of zstd"), ("app.js.gz", "of gzip")]
    {
        root.write(name, content).unwrap();
    }
    root.write("stale.js.gz", "stale").unwrap();
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    File::options().write(true).open(root.path().join("stale.js.gz")).unwrap().set_modified(an_hour_ago).unwrap();
    root.write("stale.js", "fresh").unwrap();
    root.write("only.js", "only").unwrap();
    let site = serving(root.path(), ", precompressed = [\"br\", \"zstd\", \"gzip\"]", "");
    let ask = |path: &str, accept: &str| send(&site, path, &format!("Accept-Encoding: {accept}\r\n"));
    let check = |accept: &str, coding: &str, body: &str| {
        let answer = ask("GET /app.js", accept);
        assert_eq!((field(&answer, "content-encoding"), answer.text().as_str()), (coding, body), "{accept}");
        assert_eq!(field(&answer, "content-type"), "text/javascript; charset=utf-8", "{accept}");
        assert_eq!(field(&answer, "vary"), "Accept-Encoding", "{accept}");
        let length: usize = field(&answer, "content-length").parse().unwrap();
        assert_eq!(length, body.len(), "{accept}");
        answer
    };
    let tag = |answer: Response| field(&answer, "etag").to_owned();
    let mut tags = vec![
        tag(check("gzip, zstd, br", "br", "of brotli")),
        tag(check("br;q=0.1, zstd;q=0.9", "zstd", "of zstd")),
        tag(check("gzip", "gzip", "of gzip")),
        tag(check("identity", "", "plain")),
    ];
    check("*;q=0", "", "plain");
    check("br;q=0, *", "zstd", "of zstd");
    check("gzip;q=0.5, identity", "", "plain");
    // Each has a tag of its own, and a condition is one on what would be sent.
    let (brotli, plain) = (tags[0].clone(), tags[3].clone());
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 4);
    let conditional = |accept: &str, etag: &str| {
        send(&site, "GET /app.js", &format!("Accept-Encoding: {accept}\r\nIf-None-Match: {etag}\r\n"))
    };
    let unchanged = conditional("br", &brotli);
    assert_eq!((unchanged.status, field(&unchanged, "vary")), (304, "Accept-Encoding"));
    assert_eq!((conditional("identity", &plain).status, conditional("br", &plain).status), (304, 200));
    // A range is one of what is sent.
    let part = send(&site, "GET /app.js", "Accept-Encoding: br\r\nRange: bytes=3-5\r\n");
    assert_eq!((part.status, part.text().as_str(), field(&part, "content-encoding")), (206, "bro", "br"));
    assert_eq!(field(&ask("HEAD /app.js", "gzip"), "content-length"), "7");
    // What is older than its file says something else.
    assert_eq!(ask("GET /stale.js", "gzip").text(), "fresh");
    let only = ask("GET /only.js", "br, gzip");
    assert_eq!((only.text().as_str(), field(&only, "vary")), ("only", "Accept-Encoding"));
    assert_eq!(field(&ask("GET /app.js.br", "br"), "content-encoding"), "");
}

/// A file of this many bytes, none of which follow a pattern that a lost or doubled piece would keep.
fn large(root: &TempDir, name: &str, bytes: u32) -> Vec<u8> {
    let content: Vec<u8> = (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
    root.write(name, &content).unwrap();
    content
}

#[test]
fn large_files_arrive_whole_over_every_kind_of_connection() {
    const HOST: &str = "shop.example.com";
    let root = TempDir::new().unwrap();
    let content = large(&root, "large.bin", 9_000_001);
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &[HOST]).unwrap();
    let (bare, secure) = (free_port(), free_port());
    let site = start(&format!(
        "{}[listener.secure]\nlisten = \"127.0.0.1:{secure}\"\ntls = {{ certificate = {:?}, key = {:?} }}\n\
         [[route]]\nlistener = \"web\"\nfiles = {{ root = {:?} }}\n[[route]]\nlistener = \"secure\"\nfiles = {{ root = {:?} }}\n",
        listeners(bare),
        issued.certificate,
        issued.key,
        root.path(),
        root.path()
    ));
    let ways = [
        ("http", bare, "--http1.1", "1.1"),
        ("http", bare, "--http2-prior-knowledge", "2"),
        ("https", secure, "--http1.1", "1.1"),
        ("https", secure, "--http2", "2"),
    ];
    for (scheme, port, flag, version) in ways {
        let curl = || Curl::default().flag(flag).resolve(HOST, port).with("--cacert", authority.file());
        let url = format!("{scheme}://{HOST}:{port}/large.bin");
        let whole = curl().get(&url).unwrap();
        assert_eq!((whole.status, whole.version.as_str(), whole.error.as_str()), (200, version, ""), "{url} {flag}");
        assert!(whole.body == content, "{url} {flag}: {} bytes", whole.body.len());
        let part = curl().with("--range", "70000-5000000").get(&url).unwrap();
        assert!(part.status == 206 && part.body == content[70_000..=5_000_000], "{url} {flag}");
        let parts = curl().with("--range", "0-299999,8000000-8999999").get(&url).unwrap();
        assert_eq!(parts.status, 206, "{url} {flag}");
        let holds = |range: std::ops::Range<usize>| {
            parts.body.windows(range.len()).any(|window| *window == content[range.clone()])
        };
        assert!(holds(0..300_000) && holds(8_000_000..9_000_000), "{url} {flag}");
        let head = curl().flag("--head").get(&url).unwrap();
        assert_eq!((head.status, head.field("content-length")), (200, Some("9000001")), "{url} {flag}");
    }
    assert_eq!(counted(&site, &["failed"]), 0.0);
    assert_eq!(counted(&site, &["memory", "disk"]), 16.0);
}

/// A file of zeros that takes no room.
fn sparse(root: &TempDir, name: &str, bytes: u64) -> File {
    let path = root.write(name, "").unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    file
}

#[test]
fn a_file_that_shrinks_ends_the_connection() {
    let root = TempDir::new().unwrap();
    let file = sparse(&root, "shrinks.bin", 64 << 20);
    let site = serving(root.path(), "", "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET /shrinks.bin HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    // More than the sockets hold is still to come when the file is cut.
    let counts_as_begun = |site: &Tenfold| Ok(site.metric("http_requests_in_flight", &["endpoint=\"www\""])? == 1.0);
    site.wait_until("the request is under way", counts_as_begun).unwrap();
    file.set_len(0).unwrap();
    let got = conn.read_to_end().unwrap();
    assert!(got.len() < 64 << 20, "{} bytes", got.len());
    assert!(got.is_empty() || got.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n"));
    let failed = |site: &Tenfold| Ok(site.metric("listener_errors_total", &["code=\"file_unavailable\""])? == 1.0);
    site.wait_until("the failure is counted", failed).unwrap();
    assert_eq!(counted(&site, &["failed"]), 1.0);
    // One that grows is sent as long as it was.
    let mut grows = File::create(root.path().join("grows.txt")).unwrap();
    grows.write_all(b"short").unwrap();
    assert_eq!(send(&site, "GET /grows.txt", "").text(), "short");
    grows.write_all(b" and longer").unwrap();
    assert_eq!(send(&site, "GET /grows.txt", "").text(), "short and longer");
}

#[test]
fn clients_that_do_not_read_cost_little_memory() {
    let root = TempDir::new().unwrap();
    let _file = sparse(&root, "large.bin", 256 << 20);
    let site = serving(root.path(), "", "");
    assert_eq!(send(&site, "HEAD /large.bin", "").status, 200);
    let before = procfs::rss_bytes(site.pid()).unwrap();
    let open = || {
        let mut conn = RawConn::connect(site.address()).unwrap();
        conn.send("GET /large.bin HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        conn
    };
    let waiting: Vec<RawConn> = (0..50).map(|_| open()).collect();
    let begun = |site: &Tenfold| Ok(site.metric("http_requests_in_flight", &["endpoint=\"www\""])? == 50.0);
    site.wait_until("all are under way", begun).unwrap();
    // Others are served meanwhile.
    assert_eq!(send(&site, "GET /large.bin", "Range: bytes=0-9\r\n").body, [0; 10]);
    let after = procfs::rss_bytes(site.pid()).unwrap();
    assert!(after < before + (24 << 20), "{before} bytes before, {after} after");
    drop(waiting);
}
