//! `http1` beside hyper: wherever both accept a message, they must read the same in it.
//!
//! One may refuse what the other takes; `http1` is meant to be the stricter. But bytes that both accept and read
//! differently are how one request hides in another. The first byte of an input chooses the side and the cut:
//! requests or responses, and in pieces of how many bytes `http1` sees them, since that must not matter either.

#![no_main]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use http1::{Chunk, ChunkedDecoder, Framing, HeadScan, Limits, Method, Request, Response};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { bytes_max: 64 * 1024, fields_max: 100 };

/// Values by name in lower case, in the order in which each name's came.
type FieldMap = BTreeMap<String, Vec<Vec<u8>>>;

/// What a reader found in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    /// Method and path, or status.
    start: (String, String),
    fields: FieldMap,
    body: Vec<u8>,
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let step = usize::from(choice >> 2);
    if choice & 1 == 0 {
        agree(&our_requests(bytes, step), &hyper_requests(bytes), bytes);
    } else {
        let method = if choice & 2 == 0 { Method::Get } else { Method::Head };
        agree(&our_response(bytes, step, &method), &hyper_response(bytes, &method), bytes);
    }
});

/// Compares message by message as long as both have read one.
fn agree(ours: &[Reading], hypers: &[Reading], bytes: &[u8]) {
    for (ours, hypers) in ours.iter().zip(hypers) {
        assert_eq!(ours, hypers, "{:?}", String::from_utf8_lossy(bytes));
    }
}

/// The fields of a head that `http1` has read.
fn our_fields(fields: &http1::Fields, head: &[u8]) -> FieldMap {
    let mut map = FieldMap::new();
    for field in fields.as_slice() {
        let name = String::from_utf8_lossy(field.name.of_buf(head)).to_ascii_lowercase();
        map.entry(name).or_default().push(field.value.of_buf(head).to_vec());
    }
    map
}

fn hyper_fields(fields: &hyper::HeaderMap) -> FieldMap {
    let mut map = FieldMap::new();
    for (name, value) in fields {
        map.entry(name.as_str().to_owned()).or_default().push(value.as_bytes().to_vec());
    }
    map
}

/// The extent of the head that begins `bytes`, found piece by piece.
fn head(bytes: &[u8], step: usize) -> Option<(usize, usize)> {
    let mut scan = HeadScan::default();
    let mut end = 0;
    loop {
        end = if step == 0 { bytes.len() } else { bytes.len().min(end + step) };
        match scan.advance(&bytes[..end], &LIMITS) {
            Ok(Some(found)) => return Some(found),
            Ok(None) if end < bytes.len() => {}
            _ => return None,
        }
    }
}

/// A whole body, and how many bytes it took.
fn body(bytes: &[u8], framing: Framing, step: usize) -> Option<(Vec<u8>, usize)> {
    match framing {
        Framing::Empty => Some((Vec::new(), 0)),
        Framing::Length(length) => {
            let length = usize::try_from(length).ok()?;
            bytes.get(..length).map(|body| (body.to_vec(), length))
        }
        Framing::UntilClose => Some((bytes.to_vec(), bytes.len())),
        Framing::Chunked => chunks(bytes, step),
    }
}

fn chunks(bytes: &[u8], step: usize) -> Option<(Vec<u8>, usize)> {
    let (mut decoder, mut data, mut at) = (ChunkedDecoder::default(), Vec::new(), 0);
    loop {
        let piece = if step == 0 { &bytes[at..] } else { &bytes[at..bytes.len().min(at + step)] };
        match decoder.decode(piece).ok()? {
            Chunk::Data { start, end } => {
                data.extend_from_slice(&piece[start..end]);
                at += end;
            }
            Chunk::More if piece.is_empty() => return None,
            Chunk::More => at += piece.len(),
            Chunk::End { end } => {
                decoder.trailers().expect("the trailers were judged when they ended");
                return Some((data, at + end));
            }
        }
    }
}

fn our_requests(mut bytes: &[u8], step: usize) -> Vec<Reading> {
    let (mut found, mut request) = (Vec::new(), Request::default());
    while let Some((start, end)) = head(bytes, step) {
        let head = &bytes[start..end];
        if request.parse(head, &LIMITS).is_err() {
            break;
        }
        let Some((body, len)) = body(&bytes[end..], request.framing, step) else { break };
        let target = request.target.as_origin_form(head, &request.method);
        found.push(Reading {
            start: (request.method.as_str().to_owned(), String::from_utf8_lossy(target).into_owned()),
            fields: our_fields(&request.fields, head),
            body,
        });
        if !request.keep_alive {
            break;
        }
        bytes = &bytes[end + len..];
    }
    found
}

fn our_response(mut bytes: &[u8], step: usize, method: &Method) -> Vec<Reading> {
    let mut response = Response::default();
    loop {
        let Some((start, end)) = head(bytes, step) else { return Vec::new() };
        let head = &bytes[start..end];
        if response.parse(head, &LIMITS, method).is_err() || response.status == 101 {
            return Vec::new();
        }
        if response.is_interim() {
            bytes = &bytes[end..];
            continue;
        }
        let Some((body, _)) = body(&bytes[end..], response.framing, step) else { return Vec::new() };
        let start = (response.status.to_string(), String::new());
        return vec![Reading { start, fields: our_fields(&response.fields, head), body }];
    }
}

/// A connection on which these bytes have come, and then the end. To a client they come once it has asked.
struct Came {
    bytes: Bytes,
    asked: bool,
}

impl hyper::rt::Read for Came {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut room: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.asked {
            // Whoever drives a client asks again and again, so nobody has to be woken.
            return Poll::Pending;
        }
        let len = self.bytes.len().min(room.remaining());
        let piece = self.bytes.split_to(len);
        room.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Came {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.asked = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn hyper_requests(bytes: &[u8]) -> Vec<Reading> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
        let found = Arc::clone(&found);
        async move {
            let (parts, body) = request.into_parts();
            // A body that breaks off ends the connection, and what was read of it is no reading.
            let body = body.collect().await?.to_bytes().to_vec();
            let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
            let reading =
                Reading { start: (parts.method.to_string(), path), fields: hyper_fields(&parts.headers), body };
            found.lock().expect("nobody panics with it").push(reading);
            Ok::<_, hyper::Error>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(Came { bytes: Bytes::copy_from_slice(bytes), asked: true }, service);
    let _how_it_ended = block_on(connection);
    std::mem::take(&mut found.lock().expect("nobody panics with it"))
}

fn hyper_response(bytes: &[u8], method: &Method) -> Vec<Reading> {
    let came = Came { bytes: Bytes::copy_from_slice(bytes), asked: false };
    let read = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(came).await.ok()?;
        let request = hyper::Request::builder().method(method.as_str()).uri("/").header("host", "example.com");
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let exchange = async {
            let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes().to_vec();
            let start = (parts.status.as_u16().to_string(), String::new());
            Some(Reading { start, fields: hyper_fields(&parts.headers), body })
        };
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        std::future::poll_fn(|cx| {
            // The connection moves what the exchange waits for, whichever way it ends.
            let ended = connection.as_mut().poll(cx).is_ready();
            match exchange.as_mut().poll(cx) {
                Poll::Ready(reading) => Poll::Ready(reading),
                Poll::Pending if ended => Poll::Ready(None),
                Poll::Pending => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        })
        .await
    };
    block_on(read).into_iter().collect()
}
