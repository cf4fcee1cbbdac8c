//! The floods, and what each may cost.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use testkit::client_hello;
use testkit::http2::frame::{self, code, kind, setting};
use testkit::http2::hpack;

use super::judge::Bounds;
use super::offenders::Deed;
use super::site::{Entry, HARMED};

/// A kind of attack.
pub(super) struct Flood {
    pub(super) name: &'static str,
    /// Where it is done.
    pub(super) entry: Entry,
    pub(super) deed: Deed,
    /// Connections at once: in the long form, and in the short one.
    pub(super) clients: (u32, u32),
    /// The counter that tells of it, and its label.
    pub(super) metric: (&'static str, &'static str),
    pub(super) bounds: Bounds,
}

/// Names, in the order in which they are done.
pub(super) const NAMES: &[&str] = &[
    "rapid_reset",
    "continuation",
    "settings",
    "slow_read",
    "slow_read_http2",
    "slow_head",
    "tls_silent",
    "tls_first_byte",
    "tls_hello",
    "passed_silent",
    "passed_hello",
    "announced_silent",
    "announced_header",
];

const ABUSE: (&str, &str) = ("listener_connections_refused_total", "reason=\"http2_abuse\"");
const UNREAD: (&str, &str) = ("listener_errors_total", "code=\"write_timeout\"");
const LATE_HEAD: (&str, &str) = ("listener_errors_total", "code=\"head_timeout\"");
const LATE_HELLO: (&str, &str) = ("listener_connections_refused_total", "reason=\"hello_timeout\"");
const LATE_HEADER: (&str, &str) = ("listener_connections_refused_total", "reason=\"proxy_timeout\"");
const LATE_HANDSHAKE: (&str, &str) = ("listener_connections_refused_total", "reason=\"tls_timeout\"");

/// Connections opened per second: all are there before the first is cut.
const OPENED_PER_SEC: u32 = 2500;
/// Of those that ask for long answers: the megabytes that go into the sockets on the way are work for this machine, which
/// is not to be measured.
const READERS_PER_SEC: u32 = 40;
/// More than what sockets take on the way, so that the gateway is left with some of it.
const ANSWER_BYTES: &str = "/stream/16000000";
/// Streams of a connection that takes nothing.
const STREAMS: u32 = 100;

/// A flood by its name.
pub(super) fn flood(name: &str, authority: &Path) -> Result<Option<Flood>> {
    let flood = |deed, clients, metric, memory_kib: u64, cpu_ms| Flood {
        name: NAMES.iter().find(|known| **known == name).copied().unwrap_or_default(),
        entry: match name.split_once('_') {
            Some(("tls", _)) => Entry::Secure,
            Some(("passed", _)) => Entry::Passed,
            Some(("announced", _)) => Entry::Announced,
            _ => Entry::Web,
        },
        deed,
        clients,
        metric,
        bounds: Bounds { memory_bytes: memory_kib << 10, cpu: Duration::from_millis(cpu_ms) },
    };
    let hold = |opening: Vec<u8>, trickle, requests| {
        let per_sec = if name.starts_with("slow_read") { READERS_PER_SEC } else { OPENED_PER_SEC };
        Deed::Hold { opening, trickle, per_sec, requests }
    };
    Ok(Some(match name {
        // At most twice as many tasks as streams may be open, each with a head's buffer of 16 KiB.
        "rapid_reset" => flood(Deed::Send { opening: begin(), piece: resets }, (8, 4), ABUSE, 256 * 20, 100),
        // At most `head_bytes_max` and a frame; what is written but not read is in the kernel.
        "continuation" => {
            let opening = [begin(), frame::frame(kind::HEADERS, 0, 1, &request("/"))].concat();
            flood(Deed::Send { opening, piece: continuations }, (8, 4), ABUSE, 128, 100)
        }
        // 2 MiB of frames are read before it is enough, a quarter of a million that are each acknowledged.
        "settings" => flood(Deed::Send { opening: begin(), piece: settings }, (8, 4), ABUSE, 128, 500),
        // A buffer for the body, one for the head, and one for what came of the endpoint.
        "slow_read" => {
            let opening = format!("GET {ANSWER_BYTES} HTTP/1.1\r\nHost: {HARMED}\r\n\r\n").into_bytes();
            flood(hold(opening, None, 1), (200, 50), UNREAD, 160, 10)
        }
        // Per stream 64 KiB wait for the window, beside the same buffers.
        "slow_read_http2" => flood(hold(unread_streams(), None, u64::from(STREAMS)), (10, 4), UNREAD, 224, 10),
        // A head's buffer.
        "slow_head" => {
            let opening = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_vec();
            flood(hold(opening, Some(b'a'), 1), (2000, 500), LATE_HEAD, 24, 10)
        }
        // A socket, a task and a deadline.
        "tls_silent" => flood(hold(Vec::new(), None, 1), (10_000, 2000), LATE_HANDSHAKE, 8, 2),
        // A session has begun, and waits for the rest of the record.
        "tls_first_byte" => flood(hold(vec![0x16], None, 1), (10_000, 2000), LATE_HANDSHAKE, 24, 2),
        // Keys were agreed on and the certificate was sent and signed.
        "tls_hello" => {
            flood(hold(client_hello(authority, "localhost")?, None, 1), (10_000, 2000), LATE_HANDSHAKE, 48, 5)
        }
        "passed_silent" => flood(hold(Vec::new(), None, 1), (10_000, 2000), LATE_HELLO, 8, 2),
        // All but the last octet is held until then.
        "passed_hello" => {
            let mut hello = client_hello(authority, "localhost")?;
            hello.pop();
            flood(hold(hello, None, 1), (10_000, 2000), LATE_HELLO, 24, 2)
        }
        "announced_silent" => flood(hold(Vec::new(), None, 1), (10_000, 2000), LATE_HEADER, 8, 2),
        "announced_header" => {
            flood(hold(b"PROXY TCP4 192.0.2.1 ".to_vec(), None, 1), (10_000, 2000), LATE_HEADER, 8, 2)
        }
        _ => return Ok(None),
    }))
}

fn begin() -> Vec<u8> {
    [frame::PREFACE, &frame::settings(&[])].concat()
}

fn request(path: &str) -> Vec<u8> {
    hpack::literals(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", HARMED)])
}

/// Sixteen requests that are taken back at once.
fn resets(number: u32) -> Vec<u8> {
    let head = request("/");
    let streams = (0..16).map(|at| 2 * (16 * number + at) + 1);
    streams
        .flat_map(|stream| [frame::headers(stream, true, &head), frame::reset(stream, code::CANCEL)].concat())
        .collect()
}

/// A part of a head that has no end.
fn continuations(_: u32) -> Vec<u8> {
    frame::continuation(1, false, &hpack::literal("x-a", "a".repeat(100)).repeat(100))
}

/// A thousand settings that set nothing.
fn settings(_: u32) -> Vec<u8> {
    frame::settings(&[]).repeat(1000)
}

/// Requests for long answers, of which no byte may come.
fn unread_streams() -> Vec<u8> {
    let head = request(ANSWER_BYTES);
    let requests = (0..STREAMS).flat_map(|at| frame::headers(2 * at + 1, true, &head));
    let closed = frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    frame::PREFACE.iter().copied().chain(closed).chain(requests).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_flood() {
        let authority = testkit::Authority::new("names").unwrap();
        for name in NAMES {
            let flood = flood(name, &authority.file()).unwrap().expect(name);
            assert_eq!(flood.name, *name);
        }
        assert!(flood("nothing", &authority.file()).unwrap().is_none());
    }

    #[test]
    fn streams_are_numbered_without_a_gap() {
        let bytes = [resets(0), resets(1)].concat();
        let (mut at, mut streams) = (0, Vec::new());
        while let Some((frame, len)) = frame::Frame::read(&bytes[at..]) {
            at += len;
            streams.push(frame.stream);
        }
        let expected: Vec<u32> = (0..32).flat_map(|stream| [2 * stream + 1; 2]).collect();
        assert_eq!(streams, expected);
    }
}
