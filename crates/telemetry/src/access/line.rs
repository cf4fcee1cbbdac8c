//! One line of the access log, in the format that was chosen.
//!
//! JSON (RFC 8259) and logfmt tell the same pairs of keys and values and differ in how they write them. The combined
//! format is that of Apache and nginx, which log analysers and fail2ban read; it has places for fewer things.

use std::io::Write;
use std::time::SystemTime;

use super::clock::Clock;
use super::entry::AccessEntry;
use super::escape;
use crate::label::Method;
use crate::params::AccessLogFormat;

/// A key as both dialects write it, with what stands before it.
struct Pair {
    json: &'static str,
    logfmt: &'static str,
}

/// The texts of a key, made while compiling, so that a key is one copy.
macro_rules! pair {
    ($key:literal) => {
        &Pair { json: concat!(",\"", $key, "\":"), logfmt: concat!(" ", $key, "=") }
    };
}
/// Writes lines.
#[derive(Debug, Default)]
pub(super) struct LineWriter {
    clock: Clock,
}

impl LineWriter {
    /// Appends the entry's line, with its line feed.
    pub(super) fn write(&mut self, format: AccessLogFormat, entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
        match format {
            AccessLogFormat::Json => self.write_pairs::<Json>(entry, out),
            AccessLogFormat::Logfmt => self.write_pairs::<Logfmt>(entry, out),
            AccessLogFormat::Combined => self.write_combined(entry, out),
        }
    }

    /// Appends a line that says how many are missing. The combined format has no place for it, and a line of another
    /// form would be an error to whoever reads it.
    pub(super) fn write_dropped(&mut self, format: AccessLogFormat, lines: u64, now: SystemTime, out: &mut Vec<u8>) {
        match format {
            AccessLogFormat::Json => self.write_notice::<Json>(lines, now, out),
            AccessLogFormat::Logfmt => self.write_notice::<Logfmt>(lines, now, out),
            AccessLogFormat::Combined => {}
        }
    }

    fn write_notice<D: Dialect>(&mut self, lines: u64, now: SystemTime, out: &mut Vec<u8>) {
        self.open::<D>(now, out);
        plain::<D>(out, pair!("event"), "access_log_dropped");
        number::<D>(out, pair!("lines"), lines);
        out.extend_from_slice(D::END);
    }

    fn open<D: Dialect>(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        out.extend_from_slice(D::BEGIN);
        out.extend_from_slice(D::QUOTE);
        self.clock.write_rfc3339(time, out);
        out.extend_from_slice(D::QUOTE);
    }

    fn write_pairs<D: Dialect>(&mut self, entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
        let (entry, path_truncated) = entry.bounded();
        self.open::<D>(entry.time, out);
        address::<D>(out, pair!("client"), entry.client);
        if entry.method.is_empty() {
            if !entry.host.is_empty() {
                text::<D>(out, pair!("host"), entry.host);
            }
        } else {
            Self::write_request::<D>(&entry, path_truncated, out);
        }
        if !entry.protocol.is_empty() {
            plain::<D>(out, pair!("protocol"), entry.protocol);
        }
        if let Some(status) = entry.status {
            number::<D>(out, pair!("status"), u64::from(status));
        }
        number::<D>(out, pair!("bytes_in"), entry.bytes_in);
        number::<D>(out, pair!("bytes_out"), entry.bytes_out);
        number::<D>(out, pair!("duration_us"), entry.duration_micros);
        text::<D>(out, pair!("listener"), entry.listener.as_bytes());
        if let Some(route) = entry.route {
            text::<D>(out, pair!("route"), route.as_bytes());
        }
        if let Some(service) = entry.service {
            text::<D>(out, pair!("service"), service.as_bytes());
        }
        if let Some(upstream) = entry.upstream {
            address::<D>(out, pair!("upstream"), upstream);
        }
        number::<D>(out, pair!("tries"), u64::from(entry.tries));
        if !entry.method.is_empty() {
            text::<D>(out, pair!("request_id"), entry.request_id);
        }
        if !entry.user_agent.is_empty() {
            text::<D>(out, pair!("user_agent"), entry.user_agent);
        }
        if !entry.referer.is_empty() {
            text::<D>(out, pair!("referer"), entry.referer);
        }
        if let Some(error) = entry.error {
            plain::<D>(out, pair!("error"), error.as_str());
        }
        out.extend_from_slice(D::END);
    }

    fn write_request<D: Dialect>(entry: &AccessEntry<'_>, path_truncated: bool, out: &mut Vec<u8>) {
        match Method::from_bytes(entry.method) {
            Method::Other => text::<D>(out, pair!("method"), entry.method),
            known => plain::<D>(out, pair!("method"), known.as_str()),
        }
        text::<D>(out, pair!("host"), entry.host);
        text::<D>(out, pair!("path"), entry.path);
        if path_truncated {
            out.extend_from_slice(D::key(pair!("path_truncated")).as_bytes());
            out.extend_from_slice(b"true");
        }
    }

    /// `CLIENT - - [TIME] "METHOD PATH PROTOCOL" STATUS BYTES "REFERER" "USER-AGENT"`, as nginx's `combined` has it.
    fn write_combined(&mut self, entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
        let (entry, _) = entry.bounded();
        display(out, entry.client);
        out.extend_from_slice(b" - - [");
        self.clock.write_apache(entry.time, out);
        out.extend_from_slice(b"] \"");
        // A request that could not be read has no line; Apache writes a dash then. What is not HTTP has a protocol alone.
        let first = if entry.method.is_empty() { entry.protocol.as_bytes() } else { entry.method };
        escape::nginx(out, first);
        if !entry.path.is_empty() {
            out.push(b' ');
            escape::nginx(out, entry.path);
            out.push(b' ');
            escape::nginx(out, entry.protocol.as_bytes());
        }
        out.extend_from_slice(b"\" ");
        // 499 is what nginx taught everyone to read as "the client went away".
        decimal(out, u64::from(entry.status.unwrap_or(499)));
        out.push(b' ');
        decimal(out, entry.bytes_out);
        for text in [entry.referer, entry.user_agent] {
            out.extend_from_slice(b" \"");
            escape::nginx(out, if text.is_empty() { b"-" } else { text });
            out.push(b'"');
        }
        out.push(b'\n');
    }
}

/// How pairs of keys and values are written.
trait Dialect {
    const BEGIN: &'static [u8];
    const QUOTE: &'static [u8];
    const END: &'static [u8];

    fn key(pair: &Pair) -> &'static str;

    /// Appends a text of which nothing is known.
    fn value(out: &mut Vec<u8>, value: &[u8]);
}

struct Json;

impl Dialect for Json {
    const BEGIN: &'static [u8] = b"{\"time\":";
    const QUOTE: &'static [u8] = b"\"";
    const END: &'static [u8] = b"}\n";

    fn key(pair: &Pair) -> &'static str {
        pair.json
    }

    fn value(out: &mut Vec<u8>, value: &[u8]) {
        out.push(b'"');
        escape::json(out, value);
        out.push(b'"');
    }
}

struct Logfmt;

impl Dialect for Logfmt {
    const BEGIN: &'static [u8] = b"time=";
    const QUOTE: &'static [u8] = b"";
    const END: &'static [u8] = b"\n";

    fn key(pair: &Pair) -> &'static str {
        pair.logfmt
    }

    /// Quoted, as JSON is, unless it is visible ASCII that cannot be taken for anything else.
    fn value(out: &mut Vec<u8>, value: &[u8]) {
        let is_bare = |&byte: &u8| escape::is_plain(byte) && byte != b' ' && byte != b'=';
        if !value.is_empty() && value.iter().all(is_bare) {
            out.extend_from_slice(value);
        } else {
            Json::value(out, value);
        }
    }
}

fn text<D: Dialect>(out: &mut Vec<u8>, pair: &Pair, value: &[u8]) {
    out.extend_from_slice(D::key(pair).as_bytes());
    D::value(out, value);
}

/// A text that needs no escaping.
fn plain<D: Dialect>(out: &mut Vec<u8>, pair: &Pair, value: &str) {
    out.extend_from_slice(D::key(pair).as_bytes());
    out.extend_from_slice(D::QUOTE);
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(D::QUOTE);
}

fn address<D: Dialect>(out: &mut Vec<u8>, pair: &Pair, value: impl std::fmt::Display) {
    out.extend_from_slice(D::key(pair).as_bytes());
    out.extend_from_slice(D::QUOTE);
    display(out, value);
    out.extend_from_slice(D::QUOTE);
}

fn number<D: Dialect>(out: &mut Vec<u8>, pair: &Pair, value: u64) {
    out.extend_from_slice(D::key(pair).as_bytes());
    decimal(out, value);
}

fn decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a Vec takes every write");
}

#[cfg(test)]
mod tests;
