use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use vocab::ErrorCode;

use super::super::entry::{LINE_BYTES_MAX, without_query};
use super::*;

const FORMATS: [AccessLogFormat; 3] = [AccessLogFormat::Json, AccessLogFormat::Combined, AccessLogFormat::Logfmt];

fn entry<'a>() -> AccessEntry<'a> {
    AccessEntry {
        time: UNIX_EPOCH + Duration::from_millis(1_709_164_799_042),
        client: "2001:db8::7".parse().expect("an address"),
        method: b"GET",
        host: b"shop.example",
        path: b"/a/b?token=secret",
        protocol: "HTTP/1.1",
        status: Some(200),
        bytes_in: 0,
        bytes_out: 123,
        duration_micros: 4567,
        listener: "web",
        route: Some("api"),
        service: Some("backend"),
        upstream: Some("10.0.0.1:8080".parse().expect("an address")),
        tries: 1,
        request_id: b"abc",
        user_agent: b"curl/8.5.0 (x)",
        referer: b"https://shop.example/cart?token=secret",
        error: None,
    }
}

/// A request that was never understood.
fn refused<'a>() -> AccessEntry<'a> {
    AccessEntry {
        method: b"-",
        host: b"",
        path: b"",
        protocol: "",
        status: None,
        bytes_out: 0,
        route: None,
        service: None,
        upstream: None,
        tries: 0,
        user_agent: b"",
        referer: b"",
        error: Some(ErrorCode::NoRoute),
        ..entry()
    }
}

fn line(format: AccessLogFormat, entry: &AccessEntry<'_>) -> String {
    let mut out = Vec::new();
    LineWriter::default().write(format, entry, &mut out);
    String::from_utf8(out).expect("a line is UTF-8")
}

#[test]
fn a_line_tells_everything_but_queries() {
    let check = |format, entry: &AccessEntry<'_>, expected: &str| assert_eq!(line(format, entry), expected);
    check(
        AccessLogFormat::Json,
        &entry(),
        "{\"time\":\"2024-02-28T23:59:59.042Z\",\"client\":\"2001:db8::7\",\"method\":\"GET\",\
         \"host\":\"shop.example\",\"path\":\"/a/b\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":0,\
         \"bytes_out\":123,\"duration_us\":4567,\"listener\":\"web\",\"route\":\"api\",\"service\":\"backend\",\
         \"upstream\":\"10.0.0.1:8080\",\"tries\":1,\"request_id\":\"abc\",\"user_agent\":\"curl/8.5.0 (x)\",\
         \"referer\":\"https://shop.example/cart\"}\n",
    );
    check(
        AccessLogFormat::Logfmt,
        &entry(),
        "time=2024-02-28T23:59:59.042Z client=2001:db8::7 method=GET host=shop.example path=/a/b protocol=HTTP/1.1 \
         status=200 bytes_in=0 bytes_out=123 duration_us=4567 listener=web route=api service=backend \
         upstream=10.0.0.1:8080 tries=1 request_id=abc user_agent=\"curl/8.5.0 (x)\" \
         referer=https://shop.example/cart\n",
    );
    check(
        AccessLogFormat::Combined,
        &entry(),
        "2001:db8::7 - - [28/Feb/2024:23:59:59 +0000] \"GET /a/b HTTP/1.1\" 200 123 \
         \"https://shop.example/cart\" \"curl/8.5.0 (x)\"\n",
    );
}

#[test]
fn what_is_absent_is_left_out_or_a_dash() {
    let check = |format, expected: &str| assert_eq!(line(format, &refused()), expected);
    check(
        AccessLogFormat::Json,
        "{\"time\":\"2024-02-28T23:59:59.042Z\",\"client\":\"2001:db8::7\",\"method\":\"-\",\"host\":\"\",\
         \"path\":\"\",\"bytes_in\":0,\"bytes_out\":0,\"duration_us\":4567,\"listener\":\"web\",\"tries\":0,\
         \"request_id\":\"abc\",\"error\":\"no_route\"}\n",
    );
    check(
        AccessLogFormat::Logfmt,
        "time=2024-02-28T23:59:59.042Z client=2001:db8::7 method=- host=\"\" path=\"\" bytes_in=0 bytes_out=0 \
         duration_us=4567 listener=web tries=0 request_id=abc error=no_route\n",
    );
    check(AccessLogFormat::Combined, "2001:db8::7 - - [28/Feb/2024:23:59:59 +0000] \"-\" 499 0 \"-\" \"-\"\n");
}

#[test]
fn nobody_can_forge_a_line_or_a_value() {
    // What a client would send to end a value, a line, or a terminal's patience.
    let evil: &[u8] = b"x\" 200 0 \"-\" \"-\"\n10.0.0.9 - - [forged] status=200 \x1b[2J\\\", \"admin\":true \xff\r\n";
    let entry = AccessEntry { method: evil, path: evil, user_agent: evil, referer: evil, host: evil, ..entry() };
    let json: serde_json::Value = serde_json::from_str(&line(AccessLogFormat::Json, &entry)).expect("JSON");
    assert_eq!(json["user_agent"], String::from_utf8_lossy(evil).as_ref());
    assert_eq!((&json["admin"], &json["status"]), (&serde_json::Value::Null, &200.into()));
    let combined = line(AccessLogFormat::Combined, &entry);
    let agent = "x\\x22 200 0 \\x22-\\x22 \\x22-\\x22\\x0A10.0.0.9 - - [forged] status=200 \\x1B[2J\\x5C\\x22, \
                 \\x22admin\\x22:true \\xFF\\x0D\\x0A";
    assert!(combined.ends_with(&format!("\"{agent}\"\n")), "{combined}");
    for format in FORMATS {
        let line = line(format, &entry);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains(['\r', '\x1b']), "{line}");
    }
}

#[test]
fn a_notice_has_the_form_of_its_log() {
    let check = |format, expected: &str| {
        let mut out = Vec::new();
        LineWriter::default().write_dropped(format, 12, UNIX_EPOCH, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    let json = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"access_log_dropped\",\"lines\":12}\n";
    check(AccessLogFormat::Json, json);
    check(AccessLogFormat::Logfmt, "time=1970-01-01T00:00:00.000Z event=access_log_dropped lines=12\n");
    check(AccessLogFormat::Combined, "");
}

#[test]
fn the_longest_line_fits_what_it_promised() {
    let evil = [0xff; 8192];
    let name = "\u{1}".repeat(100);
    let entry = AccessEntry {
        client: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().expect("an address"),
        method: &evil,
        host: &evil,
        path: &evil,
        protocol: "0123456789abcdef and more",
        status: Some(u16::MAX),
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        duration_micros: u64::MAX,
        listener: &name,
        route: Some(&name),
        service: Some(&name),
        upstream: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".parse().expect("an address")),
        tries: u32::MAX,
        request_id: &evil,
        user_agent: &evil,
        referer: &evil,
        error: Some(ErrorCode::UpstreamConnectTimeout),
        ..entry()
    };
    for format in FORMATS {
        let line = line(format, &entry);
        assert!(line.len() <= entry.bytes_max(), "{} > {}", line.len(), entry.bytes_max());
    }
    assert!(entry.bytes_max() <= LINE_BYTES_MAX);
    assert!(line(AccessLogFormat::Json, &entry).contains("\"path_truncated\":true"));
}

/// Reads a line of the combined format as its readers do: client, request, status, bytes, referer, agent.
fn read_combined(line: &str) -> (IpAddr, String, u16, u64, String, String) {
    let (head, rest) = line.strip_suffix('\n').unwrap().split_once(" - - [").unwrap();
    let (_, rest) = rest.split_once("] \"").unwrap();
    let quoted: Vec<&str> = rest.split('"').collect();
    let [request, numbers, referer, " ", agent, ""] = quoted[..] else { panic!("{line}") };
    let (status, bytes) = numbers.trim().split_once(' ').unwrap();
    let (status, bytes) = (status.parse().unwrap(), bytes.parse().unwrap());
    (head.parse().unwrap(), request.to_owned(), status, bytes, referer.to_owned(), agent.to_owned())
}

/// Reads a line of logfmt: a JSON string per quoted value.
fn read_logfmt(line: &str) -> Vec<(String, String)> {
    let mut rest = line.strip_suffix('\n').unwrap();
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').unwrap();
        let value = if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            let value = values.next().unwrap().unwrap();
            rest = &after[values.byte_offset()..];
            value
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            rest = &after[end..];
            after[..end].to_owned()
        };
        pairs.push((key.to_owned(), value));
        assert!(rest.is_empty() || rest.starts_with(' '), "{line}");
        rest = rest.trim_start_matches(' ');
    }
    pairs
}

/// Undoes nginx's escapes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

proptest! {
    #[test]
    fn whatever_is_sent_can_be_read_back(
        method in prop::collection::vec(any::<u8>(), 1..32),
        host in prop::collection::vec(any::<u8>(), 0..256),
        path in prop::collection::vec(any::<u8>(), 0..300),
        request_id in prop::collection::vec(any::<u8>(), 0..128),
        user_agent in prop::collection::vec(any::<u8>(), 1..512),
    ) {
        let entry = AccessEntry {
            method: &method, host: &host, path: &path, request_id: &request_id, user_agent: &user_agent, ..entry()
        };
        for format in FORMATS {
            let line = line(format, &entry);
            prop_assert!(line.len() <= entry.bytes_max());
            prop_assert_eq!(line.matches('\n').count(), 1);
        }
        let path = without_query(&path);
        let json: serde_json::Value = serde_json::from_str(&line(AccessLogFormat::Json, &entry)).expect("JSON");
        let pairs = read_logfmt(&line(AccessLogFormat::Logfmt, &entry));
        prop_assert_eq!(pairs.len(), json.as_object().unwrap().len());
        for (key, bytes) in [("path", path), ("request_id", &request_id), ("user_agent", &user_agent)] {
            let text = String::from_utf8_lossy(bytes);
            prop_assert_eq!(json[key].as_str().unwrap(), &text);
            prop_assert_eq!(&pairs.iter().find(|(name, _)| name == key).unwrap().1, &text);
        }
        prop_assert_eq!(json["status"].as_u64(), Some(200));
        let (client, request, status, bytes, _, agent) = read_combined(&line(AccessLogFormat::Combined, &entry));
        prop_assert_eq!((client, status, bytes), (entry.client, 200, 123));
        prop_assert_eq!(unescaped(&agent), user_agent);
        let mut expected = method.clone();
        if !path.is_empty() {
            expected.extend([b" ", path, b" HTTP/1.1"].concat());
        }
        prop_assert_eq!(unescaped(&request), expected);
    }
}
