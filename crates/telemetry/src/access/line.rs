//! One line of the access log.
//!
//! A line is a JSON object (RFC 8259). Texts come from the network, so anything may be in them: control characters are
//! escaped, those of C1 too (a terminal may obey them), and bytes that are not UTF-8 become U+FFFD. Lengths are bounded,
//! so that a line's size is known before it is written.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use vocab::ErrorCode;

use crate::label::Method;

/// A finished request, as the access log tells it.
#[derive(Clone, Copy, Debug)]
pub struct AccessEntry<'a> {
    /// When the request's head had arrived.
    pub time: SystemTime,
    /// The client, as far as trusted proxies say.
    pub client: IpAddr,
    /// The method as it was sent; at most 32 bytes are logged.
    pub method: &'a [u8],
    /// The host asked for; at most 256 bytes are logged.
    pub host: &'a [u8],
    /// The path; at most 4096 bytes are logged, and nothing from the first `?` on, since queries may hold secrets.
    pub path: &'a [u8],
    /// The status that the client got; `None` when the connection broke before.
    pub status: Option<u16>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// Time from `time` to the end of the exchange, in microseconds.
    pub duration_micros: u64,
    /// The listener's name.
    pub listener: &'a str,
    /// The route's name, if one matched.
    pub route: Option<&'a str>,
    /// The service's name, if a route matched.
    pub service: Option<&'a str>,
    /// The endpoint that answered, or that was tried last.
    pub upstream: Option<SocketAddr>,
    /// How often the request was sent to an endpoint.
    pub tries: u32,
    /// The request's id; at most 128 bytes are logged.
    pub request_id: &'a [u8],
    /// Why the gateway answered by itself or broke off, if it did.
    pub error: Option<ErrorCode>,
}

const METHOD_BYTES: usize = 32;
const HOST_BYTES: usize = 256;
const PATH_BYTES: usize = 4096;
const NAME_BYTES: usize = 64;
const REQUEST_ID_BYTES: usize = 128;

/// A byte grows to six at most, as `\u0001` or `\ufffd`.
const ESCAPED_BYTES: usize = 6;

/// Everything but the escaped texts: keys and punctuation (about 230 bytes), the time (24), two addresses (39 and 47),
/// four numbers (20 each), status and error code.
const FIXED_BYTES: usize = 640;

/// Bytes that the longest line has, its line feed included.
pub(super) const LINE_BYTES_MAX: usize =
    FIXED_BYTES + ESCAPED_BYTES * (METHOD_BYTES + HOST_BYTES + PATH_BYTES + 3 * NAME_BYTES + REQUEST_ID_BYTES);

impl AccessEntry<'_> {
    /// Bytes that this line needs at most; never above [`LINE_BYTES_MAX`].
    pub(super) fn bytes_max(&self) -> usize {
        let name = |text: Option<&str>| text.map_or(0, |text| text.len().min(NAME_BYTES));
        let texts = self.method.len().min(METHOD_BYTES)
            + self.host.len().min(HOST_BYTES)
            + self.path.len().min(PATH_BYTES)
            + name(Some(self.listener))
            + name(self.route)
            + name(self.service)
            + self.request_id.len().min(REQUEST_ID_BYTES);
        FIXED_BYTES + ESCAPED_BYTES * texts
    }
}

/// Writes lines, and remembers the text of the current second.
#[derive(Debug)]
pub(super) struct LineFormat {
    second: Option<u64>,
    text: [u8; 19],
}

impl Default for LineFormat {
    fn default() -> Self {
        Self { second: None, text: [b'0'; 19] }
    }
}

impl LineFormat {
    /// Appends the entry's line, with its line feed.
    pub(super) fn write(&mut self, entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.write_time(entry.time, out);
        out.extend_from_slice(b"\",\"client\":\"");
        display(out, entry.client);
        out.push(b'"');
        match Method::from_bytes(entry.method) {
            Method::Other => text(out, ",\"method\":", entry.method, METHOD_BYTES),
            known => plain(out, ",\"method\":", known.as_str()),
        }
        text(out, ",\"host\":", entry.host, HOST_BYTES);
        let path = without_query(entry.path);
        text(out, ",\"path\":", path, PATH_BYTES);
        if path.len() > PATH_BYTES {
            out.extend_from_slice(b",\"path_truncated\":true");
        }
        if let Some(status) = entry.status {
            number(out, ",\"status\":", u64::from(status));
        }
        number(out, ",\"bytes_in\":", entry.bytes_in);
        number(out, ",\"bytes_out\":", entry.bytes_out);
        number(out, ",\"duration_us\":", entry.duration_micros);
        text(out, ",\"listener\":", entry.listener.as_bytes(), NAME_BYTES);
        if let Some(route) = entry.route {
            text(out, ",\"route\":", route.as_bytes(), NAME_BYTES);
        }
        if let Some(service) = entry.service {
            text(out, ",\"service\":", service.as_bytes(), NAME_BYTES);
        }
        if let Some(upstream) = entry.upstream {
            out.extend_from_slice(b",\"upstream\":\"");
            display(out, upstream);
            out.push(b'"');
        }
        number(out, ",\"tries\":", u64::from(entry.tries));
        text(out, ",\"request_id\":", entry.request_id, REQUEST_ID_BYTES);
        if let Some(error) = entry.error {
            plain(out, ",\"error\":", error.as_str());
        }
        out.extend_from_slice(b"}\n");
    }

    /// Appends the time in UTC with milliseconds, as RFC 3339 writes it.
    pub(super) fn write_time(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        // A clock before 1970 is a clock that was never set; the log says 1970 then.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text = second_text(since.as_secs());
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        digits(out, since.subsec_millis(), 3);
        out.push(b'Z');
    }
}

fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|&byte| byte == b'?').unwrap_or(path.len());
    &path[..end]
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a Vec takes every write");
}

/// A text that needs no escaping.
fn plain(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn text(out: &mut Vec<u8>, key: &str, value: &[u8], bytes_max: usize) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    escape(out, &value[..value.len().min(bytes_max)]);
    out.push(b'"');
}

/// Appends bytes as the inside of a JSON string.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nearly every text is printable ASCII without quotes and needs one look and one copy.
    if bytes.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| escape_char(out, c));
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

fn escape_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        control if control.is_control() => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let code = control as usize;
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4 & 15], HEX[code & 15]]);
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends `value` with leading zeros.
fn digits(out: &mut Vec<u8>, value: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10_u32.pow(place) % 10) as u8);
    }
}

/// `YYYY-MM-DDTHH:MM:SS` of a second since 1970 in UTC.
fn second_text(second: u64) -> [u8; 19] {
    let (year, month, day) = civil_date(second / 86_400);
    let of_day = (second % 86_400) as u32;
    let mut out = Vec::with_capacity(19);
    let mut part = |value: u32, width: u32, then: &[u8]| {
        digits(&mut out, value, width);
        out.extend_from_slice(then);
    };
    part(year, 4, b"-");
    part(month, 2, b"-");
    part(day, 2, b"T");
    part(of_day / 3600, 2, b":");
    part(of_day / 60 % 60, 2, b":");
    part(of_day % 60, 2, b"");
    out.try_into().expect("the widths add up to 19")
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year: then 400 years are always 146,097 days,
/// and a month's first day is a straight line over the months, rounded down (153 days in each five months).
fn civil_date(days: u64) -> (u32, u32, u32) {
    // 0000-03-01 is 719,468 days before 1970-01-01.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn entry<'a>() -> AccessEntry<'a> {
        AccessEntry {
            time: UNIX_EPOCH + Duration::from_millis(1_709_164_799_042),
            client: "2001:db8::7".parse().expect("an address"),
            method: b"GET",
            host: b"shop.example",
            path: b"/a/b?token=secret",
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
            error: None,
        }
    }

    fn line(entry: &AccessEntry<'_>) -> String {
        let mut out = Vec::new();
        LineFormat::default().write(entry, &mut out);
        String::from_utf8(out).expect("a line is UTF-8")
    }

    #[test]
    fn a_line_tells_everything_but_the_query() {
        assert_eq!(
            line(&entry()),
            "{\"time\":\"2024-02-28T23:59:59.042Z\",\"client\":\"2001:db8::7\",\"method\":\"GET\",\
             \"host\":\"shop.example\",\"path\":\"/a/b\",\"status\":200,\"bytes_in\":0,\"bytes_out\":123,\
             \"duration_us\":4567,\"listener\":\"web\",\"route\":\"api\",\"service\":\"backend\",\
             \"upstream\":\"10.0.0.1:8080\",\"tries\":1,\"request_id\":\"abc\"}\n"
        );
        let failed = AccessEntry {
            status: None,
            route: None,
            service: None,
            upstream: None,
            error: Some(ErrorCode::NoRoute),
            ..entry()
        };
        let failed = line(&failed);
        assert!(failed.contains("\"error\":\"no_route\"}"), "{failed}");
        assert!(
            ["\"status\"", "\"route\"", "\"service\"", "\"upstream\""].iter().all(|key| !failed.contains(key)),
            "{failed}"
        );
    }

    #[test]
    fn texts_are_escaped() {
        let check = |bytes: &[u8], expected: &str| {
            let mut out = Vec::new();
            escape(&mut out, bytes);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{bytes:?}");
        };
        check(b"/plain", "/plain");
        check(b"a\"b\\c", "a\\\"b\\\\c");
        check(b"\n\r\t\0\x1b\x7f", "\\n\\r\\t\\u0000\\u001b\\u007f");
        check("caf\u{e9} \u{1f600}".as_bytes(), "caf\u{e9} \u{1f600}");
        check("\u{9b}31m".as_bytes(), "\\u009b31m");
        check(b"\xff\xc3(", "\\ufffd\\ufffd(");
        check(b"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd");
    }

    #[test]
    fn dates_are_gregorian() {
        let check = |second: u64, expected: &str| {
            assert_eq!(String::from_utf8_lossy(&second_text(second)), expected, "{second}");
        };
        check(0, "1970-01-01T00:00:00");
        check(951_782_399, "2000-02-28T23:59:59");
        check(951_782_400, "2000-02-29T00:00:00");
        check(1_709_251_199, "2024-02-29T23:59:59");
        check(1_709_251_200, "2024-03-01T00:00:00");
        check(4_107_542_399, "2100-02-28T23:59:59");
        check(4_107_542_400, "2100-03-01T00:00:00");
        check(253_402_300_799, "9999-12-31T23:59:59");
    }

    #[test]
    fn dates_follow_one_another() {
        // A naive calendar that counts day by day, over 500 years.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..182_621 {
            assert_eq!(civil_date(days), (year, month, day), "day {days}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
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
            error: Some(ErrorCode::UpstreamConnectTimeout),
            ..entry()
        };
        let line = line(&entry);
        assert!(line.len() <= entry.bytes_max(), "{} > {}", line.len(), entry.bytes_max());
        assert!(entry.bytes_max() <= LINE_BYTES_MAX);
        assert!(line.contains("\"path_truncated\":true"), "{line}");
    }

    proptest! {
        #[test]
        fn every_line_is_json_and_keeps_what_was_utf8(
            method in prop::collection::vec(any::<u8>(), 0..40),
            host in prop::collection::vec(any::<u8>(), 0..300),
            path in prop::collection::vec(any::<u8>(), 0..300),
            request_id in prop::collection::vec(any::<u8>(), 0..128),
        ) {
            let entry = AccessEntry {
                method: &method, host: &host, path: &path, request_id: &request_id, ..entry()
            };
            let line = line(&entry);
            prop_assert!(line.len() <= entry.bytes_max());
            prop_assert_eq!(line.matches('\n').count(), 1);
            let json: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
            prop_assert_eq!(json["path"].as_str().unwrap(), String::from_utf8_lossy(without_query(&path)));
            prop_assert_eq!(json["request_id"].as_str().unwrap(), String::from_utf8_lossy(&request_id));
            prop_assert_eq!(json["status"].as_u64(), Some(200));
        }
    }
}
