//! gRPC's health protocol: one call of `grpc.health.v1.Health/Check`.
//!
//! Its two messages have one field each, so they are written and read here by hand.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use net::Stream;

use super::stream;

/// Most bytes of an answer: a message of two bytes behind its head of five, and room for what later versions add.
const ANSWER_BYTES_MAX: usize = 4096;

/// The value of `ServingStatus` that means well.
const SERVING: u64 = 1;

/// Asks about a service.
pub(super) async fn check(host: &str, tls: bool, stream: Stream, service: &str) -> Result<(), String> {
    let scheme = if tls { "https" } else { "http" };
    let request = Request::builder()
        .method("POST")
        .uri(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "tenfold-check")
        .body(())
        .map_err(|error| format!("cannot ask: {error}"))?;
    let answer = stream::ask(stream, request, Some(question(service)), ANSWER_BYTES_MAX, |_| false).await?;
    if answer.head.status() != 200 {
        return Err(format!("status {}", answer.head.status().as_u16()));
    }
    let status = |fields: &HeaderMap| fields.get("grpc-status")?.to_str().ok()?.parse::<u16>().ok();
    let status = answer.trailers.as_ref().and_then(status).or_else(|| status(answer.head.headers()));
    match (status, serving_status(&answer.body)) {
        (Some(0), Some(SERVING)) => Ok(()),
        (Some(0), Some(other)) => Err(format!("it says that it does not serve (status {other})")),
        (Some(0), None) => Err("the answer is not one of the health protocol".to_owned()),
        (Some(code), _) => Err(format!("gRPC status {code}")),
        (None, _) => Err("the answer has no gRPC status".to_owned()),
    }
}

/// A message in its frame: whether it is compressed, its length, and `HealthCheckRequest { service = 1 }`.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

/// The field of `HealthCheckResponse { status = 1 }`; absent, it is 0.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (head, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || message.len() != length {
        return None;
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, &byte) in input.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte < 0x80 {
            *input = &input[at + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_framed() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B").as_ref(), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert_eq!(question(&"x".repeat(300))[5..8], [0x0a, 0xac, 2]);
    }

    #[test]
    fn answers_are_read() {
        let check = |message: &[u8], expected: Option<u64>| {
            let frame = [&[0, 0, 0, 0, message.len() as u8], message].concat();
            assert_eq!(serving_status(&frame), expected, "{message:?}");
        };
        check(&[], Some(0));
        check(&[8, 1], Some(1));
        check(&[8, 2], Some(2));
        check(&[0x12, 2, 7, 7, 8, 1], Some(1));
        check(&[8], None);
        check(&[8, 0x80], None);
        check(&[0x12, 9, 1], None);
        assert_eq!(serving_status(&[1, 0, 0, 0, 0]), None);
        assert_eq!(serving_status(&[0, 0, 0, 0, 9, 8, 1]), None);
        assert_eq!(serving_status(&[]), None);
    }
}
