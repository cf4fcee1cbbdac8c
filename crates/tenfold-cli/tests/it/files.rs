//! Files of a directory: which are served, and what is said of them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use testkit::message::Response;
use testkit::{RawConn, TempDir, Tenfold, free_port};

use crate::site::{ask, listeners, start};

/// A site of one route that serves files with these settings, and has these further keys.
pub(crate) fn serving(root: &Path, settings: &str, keys: &str) -> Tenfold {
    let head = listeners(free_port());
    start(&format!("{head}[[route]]\nname = \"www\"\nfiles = {{ root = {root:?}{settings} }}\n{keys}\n"))
}

pub(crate) fn send(site: &Tenfold, line: &str, fields: &str) -> Response {
    let method = line.split(' ').next().unwrap();
    ask(site.address(), &format!("{line} HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n"), method)
}

pub(crate) fn field<'r>(answer: &'r Response, name: &str) -> &'r str {
    answer.fields.get(name).unwrap_or_default()
}

/// Requests so far with this result.
pub(crate) fn counted(site: &Tenfold, results: &[&str]) -> f64 {
    results.iter().map(|result| site.metric("http_files_total", &[&format!("result=\"{result}\"")]).unwrap()).sum()
}

fn modified(path: &Path, ago: Duration) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - ago).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn files_are_served_with_what_is_known_of_them() {
    let root = TempDir::new().unwrap();
    root.write("index.html", "<p>start</p>").unwrap();
    root.write("a b/\u{fc}.css", "p {}").unwrap();
    root.write("empty.txt", "").unwrap();
    root.write("docs/index.html", "docs").unwrap();
    root.write("bare/x", "x").unwrap();
    modified(&root.path().join("index.html"), HOUR);
    let site = serving(root.path(), "", "");
    // All on one connection, which goes on.
    let mut conn = RawConn::connect(site.address()).unwrap();
    let mut get = |line: &str| {
        conn.send(format!("{line} HTTP/1.1\r\nHost: a.example\r\n\r\n")).unwrap();
        conn.read_response(line.split(' ').next().unwrap()).unwrap()
    };
    let page = get("GET /");
    assert_eq!((page.status, page.text().as_str()), (200, "<p>start</p>"));
    assert_eq!((field(&page, "content-type"), field(&page, "accept-ranges")), ("text/html; charset=utf-8", "bytes"));
    assert!(page.fields.get("vary").is_none() && page.fields.get("content-encoding").is_none());
    let head = get("HEAD /index.html?v=1");
    assert_eq!((head.status, head.body.len(), field(&head, "content-length")), (200, 0, "12"));
    for name in ["etag", "last-modified", "content-type"] {
        assert_eq!(field(&head, name), field(&page, name), "{name}");
        assert!(!field(&head, name).is_empty(), "{name}");
    }
    let time = httpdate::parse_http_date(field(&page, "last-modified")).unwrap();
    let ago = httpdate::parse_http_date(field(&page, "date")).unwrap().duration_since(time).unwrap();
    assert!((HOUR..HOUR + Duration::from_secs(60)).contains(&ago), "{ago:?}");
    let style = get("GET /a%20b/%C3%BC.css");
    assert_eq!((style.text().as_str(), field(&style, "content-type")), ("p {}", "text/css; charset=utf-8"));
    let empty = get("GET /empty.txt");
    assert_eq!((empty.status, empty.body.len(), field(&empty, "content-length")), (200, 0, "0"));
    assert_eq!(get("GET /docs/").text(), "docs");
    let docs = get("GET //docs?page=2");
    assert_eq!((docs.status, field(&docs, "location")), (301, "/docs/?page=2"));
    for missing in ["GET /none.txt", "GET /bare/", "GET /index.html/", "HEAD /none"] {
        let answer = get(missing);
        assert_eq!(answer.status, 404, "{missing}");
        assert!(missing.starts_with("HEAD") || answer.text().contains("\"error\":\"no_file\""), "{}", answer.text());
    }
    drop(conn);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PURGE"] {
        let answer = send(&site, &format!("{method} /index.html"), "Content-Length: 0\r\n");
        assert_eq!((answer.status, field(&answer, "allow")), (405, "GET, HEAD"), "{method}");
    }
    let old = ask(site.address(), "GET / HTTP/1.0\r\n\r\n", "GET");
    assert_eq!((old.status, old.text().as_str()), (200, "<p>start</p>"));
    assert_eq!((counted(&site, &["memory", "disk"]), counted(&site, &["missing"])), (7.0, 4.0));
    assert_eq!((counted(&site, &["refused"]), counted(&site, &["failed"])), (0.0, 0.0));
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let root = TempDir::new().unwrap();
    root.write("a.txt", "one").unwrap();
    let site = serving(root.path(), "", "");
    let first = send(&site, "GET /a.txt", "");
    let (etag, time) = (field(&first, "etag").to_owned(), field(&first, "last-modified").to_owned());
    let check = |fields: &str, status: u16, body: &str| {
        let answer = send(&site, "GET /a.txt", fields);
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{fields}");
        answer
    };
    // It was written a moment ago: another change might not show.
    assert!(etag.starts_with("W/\""), "{etag}");
    let unchanged = check(&format!("If-None-Match: {etag}\r\n"), 304, "");
    let opaque = etag.trim_start_matches("W/");
    assert_eq!(field(&unchanged, "etag").trim_start_matches("W/"), opaque);
    assert!(unchanged.fields.get("content-length").is_none() && unchanged.fields.get("content-type").is_none());
    check(&format!("If-None-Match: \"x\", {opaque}\r\n"), 304, "");
    check("If-None-Match: *\r\n", 304, "");
    check("If-None-Match: \"x\"\r\n", 200, "one");
    check(&format!("If-Modified-Since: {time}\r\n"), 304, "");
    check(&format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {time}\r\n"), 200, "one");
    check("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200, "one");
    check("If-Match: \"x\"\r\n", 412, "");
    check("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 412, "");
    assert_eq!(send(&site, "HEAD /a.txt", &format!("If-None-Match: {etag}\r\n")).status, 304);
    // A part of what may not be the same is not put together.
    check(&format!("Range: bytes=0-0\r\nIf-Range: {etag}\r\n"), 200, "one");
    // Replaced by another of the same length and date.
    modified(&root.path().join("a.txt"), HOUR);
    let before = send(&site, "GET /a.txt", "");
    let date = std::fs::metadata(root.path().join("a.txt")).unwrap().modified().unwrap();
    root.write("a.txt", "two").unwrap();
    std::fs::File::options().write(true).open(root.path().join("a.txt")).unwrap().set_modified(date).unwrap();
    let after = check(&format!("If-None-Match: {}\r\n", field(&before, "etag")), 200, "two");
    assert_eq!(field(&after, "last-modified"), field(&before, "last-modified"));
}

#[test]
fn a_file_that_was_left_alone_has_a_strong_tag() {
    // This package's own manifest is older than its build.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let content = std::fs::read(root.join("Cargo.toml")).unwrap();
    let site = serving(root, "", "");
    let whole = send(&site, "GET /Cargo.toml", "");
    let (etag, time) = (field(&whole, "etag").to_owned(), field(&whole, "last-modified").to_owned());
    assert!(etag.starts_with('"') && etag.len() == 26, "{etag}");
    for condition in [etag.as_str(), time.as_str()] {
        let part = send(&site, "GET /Cargo.toml", &format!("Range: bytes=3-9\r\nIf-Range: {condition}\r\n"));
        assert_eq!((part.status, part.body.as_slice()), (206, &content[3..10]), "{condition}");
    }
    for condition in ["\"x\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let all = send(&site, "GET /Cargo.toml", &format!("Range: bytes=3-9\r\nIf-Range: {condition}\r\n"));
        assert_eq!((all.status, all.body == content), (200, true), "{condition}");
    }
    assert_eq!(send(&site, "GET /Cargo.toml", &format!("If-Match: {etag}\r\n")).status, 200);
}

#[test]
fn nothing_outside_of_the_root_is_served() {
    let dir = TempDir::new().unwrap();
    dir.write("secret.txt", "secret").unwrap();
    dir.write("www/a.txt", "a").unwrap();
    dir.write("www/folder/b.txt", "b").unwrap();
    dir.write("www/.env", "secret").unwrap();
    dir.write("www/.git/config", "secret").unwrap();
    dir.write("www/.well-known/x", "known").unwrap();
    let root = dir.path().join("www");
    symlink("folder/b.txt", root.join("inside.txt")).unwrap();
    symlink("../secret.txt", root.join("outside.txt")).unwrap();
    symlink(dir.path().join("secret.txt"), root.join("absolute.txt")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
    assert!(made.success());
    let site = serving(&root, "", "");
    let targets = [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/.%2e/secret.txt",
        "/folder/../../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/folder/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%5c..%5csecret.txt",
        "/%252e%252e/secret.txt",
        "/%252e%252e%252fsecret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/a.txt%00",
        "/%00",
        "/..;/secret.txt",
        "//../secret.txt",
        "/./../secret.txt",
        "/folder%2fb.txt",
        "/folder%5cb.txt",
        "/outside.txt",
        "/absolute.txt",
        "/up/secret.txt",
        "/up/www/../secret.txt",
        "/slash/etc/passwd",
        "/.env",
        "/.git/config",
        "/%2egit/config",
        "/.git/",
        "/.git",
        "/pipe",
        "/folder/.well-known/x",
        "/proc/self/environ",
        "/%2fetc%2fpasswd",
        "//etc/passwd",
    ];
    for target in targets {
        let answer = send(&site, &format!("GET {target}"), "");
        assert!(matches!(answer.status, 400 | 404), "{target}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("secret\n") && answer.text() != "secret", "{target}");
    }
    assert_eq!(send(&site, "GET /a.txt", "").text(), "a");
    assert_eq!(send(&site, "GET /inside.txt", "").text(), "b");
    assert_eq!(send(&site, "GET /.well-known/x", "").text(), "known");
    assert!(counted(&site, &["refused"]) > 10.0);
    let open = serving(&root, ", hidden = true", "");
    assert_eq!(send(&open, "GET /.env", "").text(), "secret");
    assert_eq!(send(&open, "GET /outside.txt", "").status, 404);
}

#[test]
fn routes_do_with_files_what_they_do_with_services() {
    let dir = TempDir::new().unwrap();
    dir.write("one/app.html", "one").unwrap();
    dir.write("two/app.html", "two").unwrap();
    dir.write("one/assets/x.js", "x").unwrap();
    symlink("one", dir.path().join("current")).unwrap();
    let root = dir.path().join("current");
    let head = listeners(free_port());
    // `ann`, `correct horse`.
    let hash = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";
    let site = start(&format!(
        "{head}[[route]]\npath = \"/app/*\"\nrewrite = {{ prefix = \"/\" }}\n\
         files = {{ root = {root:?}, fallback = \"/app.html\" }}\n\
         response_headers = {{ remove = [\"ETag\"], set = {{ Cache-Control = \"max-age=60\", Content-Type = \"text/x\" }} }}\n\
         cors = {{ origins = [\"https://a.example\"] }}\n\
         [[route]]\npath = \"/private/*\"\nfiles = {{ root = {root:?} }}\nbasic_auth = {{ users = [\"ann:{hash}\"] }}\n\
         [[route]]\npath_regex = \"/(.*)here\"\nrewrite = {{ path = \"/assets\" }}\nfiles = {{ root = {root:?} }}\n"
    ));
    let page = send(&site, "GET /app/orders/7", "Origin: https://a.example\r\n");
    assert_eq!((page.status, page.text().as_str()), (200, "one"));
    assert_eq!((page.fields.get("etag"), field(&page, "cache-control")), (None, "max-age=60"));
    assert_eq!(page.fields.all("content-type").collect::<Vec<_>>(), ["text/x"]);
    assert_eq!(field(&page, "access-control-allow-origin"), "https://a.example");
    let preflight = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n";
    assert_eq!(send(&site, "OPTIONS /app/", preflight).status, 204);
    assert_eq!(send(&site, "GET /app/assets/x.js", "").text(), "x");
    let slash = send(&site, "GET /app/assets", "");
    assert_eq!((slash.status, field(&slash, "location")), (301, "/app/assets/"));
    assert_eq!(send(&site, "GET /private/app.html", "").status, 401);
    // However the path is rewritten, nobody is sent to another host.
    let away = send(&site, "GET /\\evil.example/here", "");
    assert_eq!((away.status, field(&away, "location")), (301, "/%5Cevil.example/here/"));
    assert_eq!(field(&send(&site, "GET //evil.example/here", ""), "location"), "/evil.example/here/");
    // A link that is turned to another release takes effect at once.
    symlink("two", dir.path().join("next")).unwrap();
    std::fs::rename(dir.path().join("next"), &root).unwrap();
    assert_eq!(send(&site, "GET /app/", "").text(), "two");
    // Without a root there is nothing.
    std::fs::remove_file(&root).unwrap();
    assert_eq!(send(&site, "GET /app/", "").status, 404);
}
