//! What gRPC adds to HTTP/2: a deadline that the client names, and a status that comes at the end.
//!
//! A client of gRPC reads the gateway's own answers too, so they say in its terms what happened. And a call that failed
//! has the status 200 in HTTP's terms; for health and for what is counted, its own status is put into those terms.
//!
//! Sources: the gRPC project's "gRPC over HTTP2", and its mapping of statuses to HTTP.

use std::time::Duration;

use http1::{Request, write};
use vocab::ErrorCode;

use crate::action::push_absent;
use crate::identity::RequestId;

/// The status of a call whose time is over.
pub(crate) const DEADLINE_EXCEEDED: u16 = 4;

/// The trailers of a call whose time is over.
pub(crate) const OUT_OF_TIME: &[u8] = b"grpc-status: 4\r\ngrpc-message: the time that the client gave is over\r\n";

/// Whether a request is a call of gRPC. Its variant for browsers speaks in terms of HTTP.
pub(crate) fn is_call(request: &Request, head: &[u8]) -> bool {
    request.fields.named(head, b"content-type").next().is_some_and(is_of_grpc)
}

/// Whether a response, of which this is the head, is one to a call.
pub(crate) fn is_answer(response: &http1::Response, head: &[u8]) -> bool {
    response.fields.named(head, b"content-type").next().is_some_and(is_of_grpc)
}

/// Whether a type of content is gRPC's, with any encoding of messages.
fn is_of_grpc(kind: &[u8]) -> bool {
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| rest.is_empty() || rest[0] == b'+' || rest[0] == b';')
}

/// The time that the client gives the call.
pub(crate) fn timeout(request: &Request, head: &[u8]) -> Option<Duration> {
    let value = request.fields.named(head, b"grpc-timeout").next()?;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The status that lines of fields hold.
pub(crate) fn status_in(lines: &[u8]) -> Option<u16> {
    let mut lines = lines.split(|&b| b == b'\n');
    lines.find_map(|line| {
        let (name, value) = line.split_at_checked(b"grpc-status:".len())?;
        let is_status = name.eq_ignore_ascii_case(b"grpc-status:");
        is_status.then(|| number(value.trim_ascii())).flatten()
    })
}

/// The status of a response that has no body to say more after.
pub(crate) fn status_of_head(response: &http1::Response, head: &[u8]) -> Option<u16> {
    number(response.fields.named(head, b"grpc-status").next()?)
}

fn number(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A status of gRPC in HTTP's terms.
pub(crate) fn as_http(status: u16) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

pub(crate) const UNKNOWN: u8 = 2;
const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

/// A refusal by a service that speaks HTTP, in gRPC's terms. One that leads elsewhere leads to where people log in.
pub(crate) fn refusal_of(status: u16) -> u8 {
    match status {
        300..=399 | 401 => UNAUTHENTICATED,
        400 => INTERNAL,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// A failure in gRPC's terms.
pub(crate) fn status_of(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::NoRoute | ErrorCode::NoFile | ErrorCode::MethodNotAllowed | ErrorCode::NotImplemented => {
            UNIMPLEMENTED
        }
        ErrorCode::UpstreamTimeout | ErrorCode::UpstreamConnectTimeout => DEADLINE_EXCEEDED as u8,
        ErrorCode::HeadTimeout | ErrorCode::BodyTimeout | ErrorCode::WriteTimeout | ErrorCode::IdleTimeout => {
            DEADLINE_EXCEEDED as u8
        }
        ErrorCode::BodyTooLarge | ErrorCode::HeadTooLarge | ErrorCode::TargetTooLong | ErrorCode::RateLimited => {
            RESOURCE_EXHAUSTED
        }
        ErrorCode::BadRequest | ErrorCode::ExpectationFailed => INVALID_ARGUMENT,
        ErrorCode::UpstreamInvalid => INTERNAL,
        ErrorCode::Unauthorized => UNAUTHENTICATED,
        ErrorCode::NoEndpoint
        | ErrorCode::Overloaded
        | ErrorCode::Shed
        | ErrorCode::BreakerOpen
        | ErrorCode::UpstreamConnect
        | ErrorCode::UpstreamClosed
        | ErrorCode::AuthUnavailable
        | ErrorCode::FileUnavailable
        | ErrorCode::Draining => UNAVAILABLE,
    }
}

/// Writes an answer of the gateway's own to a call: a head alone, which ends the stream. `added` are lines of fields that
/// the route gives to its responses.
pub(crate) fn write_reply(out: &mut Vec<u8>, (status, message): (u8, &str), added: &[u8], id: &RequestId) {
    out.clear();
    write::status_line(out, 200, b"OK");
    out.extend_from_slice(b"Content-Type: application/grpc\r\ngrpc-status: ");
    write::number(out, u64::from(status));
    // Messages are plain text of the gateway's own, without anything to be escaped.
    out.extend_from_slice(b"\r\ngrpc-message: ");
    out.extend_from_slice(message.as_bytes());
    out.extend_from_slice(b"\r\n");
    write::field(out, b"X-Request-Id", id.as_bytes());
    push_absent(out, added);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http1::{HeadScan, Limits};

    use super::*;

    fn parsed(fields: &str) -> (Request, Vec<u8>) {
        let head = format!("POST /a.B/C HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").into_bytes();
        let limits = Limits { bytes_max: 4096, fields_max: 100 };
        assert!(HeadScan::default().advance(&head, &limits).unwrap().is_some());
        let mut request = Request::default();
        request.parse(&head, &limits).unwrap();
        (request, head)
    }

    #[test]
    fn calls_are_known_by_their_type() {
        let check = |kind: &str, expected: bool| {
            let (request, head) = parsed(&format!("Content-Type: {kind}"));
            assert_eq!(is_call(&request, &head), expected, "{kind}");
        };
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc;charset=x", true);
        check("application/grpc-web", false);
        check("application/json", false);
    }

    #[test]
    fn timeouts() {
        let check = |value: &str, expected: Option<Duration>| {
            let (request, head) = parsed(&format!("grpc-timeout: {value}"));
            assert_eq!(timeout(&request, &head), expected, "{value}");
        };
        check("250m", Some(Duration::from_millis(250)));
        check("2S", Some(Duration::from_secs(2)));
        check("1H", Some(Duration::from_secs(3600)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "m", "5", "5x", "123456789S", "-1S", "+1S", "1.5S"] {
            check(wrong, None);
        }
    }

    #[test]
    fn statuses_are_found_and_translated() {
        assert_eq!(status_in(b"x-a: 1\r\nGrpc-Status: 14\r\n"), Some(14));
        assert_eq!(status_in(b"x-grpc-status: 14\r\n"), None);
        assert_eq!(status_in(b"grpc-status: x\r\n"), None);
        assert_eq!([0, 4, 14, 99].map(as_http), [200, 504, 503, 500]);
        assert_eq!([302, 400, 401, 403, 404, 418, 429, 503].map(refusal_of), [16, 13, 16, 7, 12, 2, 14, 14]);
        for code in ErrorCode::ALL {
            assert!((1..=16).contains(&status_of(code)), "{code}");
        }
    }
}
