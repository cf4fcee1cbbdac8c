//! What must hold for any bytes, however they are cut.

use http1::{Chunk, ChunkedDecoder, HeadScan, Limits, Method, Request, Response, write};
use proptest::collection::vec;
use proptest::prelude::*;

const WIDE: Limits = Limits { bytes_max: 64 * 1024, fields_max: 100 };

/// Bytes in which line ends and colons are frequent.
fn nearly_head() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Just(b"Host: example.com\r\n".to_vec()),
        Just(b"Content-Length: 3\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b": ".to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Scans `bytes` as they come in pieces of these sizes.
fn scan(bytes: &[u8], sizes: &[usize]) -> Result<Option<(usize, usize)>, http1::ErrorKind> {
    let (mut scan, mut end) = (HeadScan::default(), 0);
    for size in sizes.iter().copied().chain([bytes.len()]) {
        end = bytes.len().min(end + size);
        if let Some(found) = scan.advance(&bytes[..end], &WIDE).map_err(|error| error.kind())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A body of chunks and how it is written.
fn chunked() -> impl Strategy<Value = (Vec<Vec<u8>>, bool, bool)> {
    (vec(vec(any::<u8>(), 1..40), 0..6), any::<bool>(), any::<bool>())
}

fn encode(chunks: &[Vec<u8>], extended: bool, trailer: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks {
        let extension = if extended { ";name=\"value\"" } else { "" };
        out.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(if trailer { b"0\r\nSum:  7 \r\n\r\n" } else { b"0\r\n\r\n" });
    out
}

proptest! {
    #[test]
    fn a_head_is_the_same_however_it_is_cut(bytes in nearly_head(), sizes in vec(0usize..20, 0..20)) {
        prop_assert_eq!(scan(&bytes, &sizes), scan(&bytes, &[]));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in nearly_head()) {
        if let Ok(Some((start, end))) = scan(&bytes, &[]) {
            let _refused = Request::default().parse(&bytes[start..end], &WIDE);
            let _refused = Response::default().parse(&bytes[start..end], &WIDE, &Method::Get);
        }
        let (mut decoder, mut at) = (ChunkedDecoder::default(), 0);
        while let Ok(Chunk::Data { end, .. }) = decoder.decode(&bytes[at..]) {
            at += end;
        }
    }

    #[test]
    fn chunks_are_decoded_however_they_are_cut(
        (chunks, extended, trailer) in chunked(),
        step in 1usize..50,
        rest in vec(any::<u8>(), 0..5),
    ) {
        let mut input = encode(&chunks, extended, trailer);
        let len = input.len();
        input.extend_from_slice(&rest);
        let (mut decoder, mut data, mut at) = (ChunkedDecoder::default(), Vec::new(), 0);
        let end = loop {
            let piece = &input[at..input.len().min(at + step)];
            match decoder.decode(piece).unwrap() {
                Chunk::Data { start, end } => {
                    data.extend_from_slice(&piece[start..end]);
                    at += end;
                    // What is certain to follow may be moved without being looked at.
                    let moved = usize::try_from(decoder.data_pending()).unwrap().min(3).min(input.len() - at);
                    data.extend_from_slice(&input[at..at + moved]);
                    if moved > 0 {
                        decoder.skip_data(moved as u64);
                    }
                    at += moved;
                }
                Chunk::More => at += piece.len(),
                Chunk::End { end } => break at + end,
            }
        };
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(end, len, "what comes after belongs to the next message");
        let trailers: &[u8] = if trailer { b"Sum: 7\r\n" } else { b"" };
        prop_assert_eq!(decoder.trailers().unwrap(), trailers);
    }

    #[test]
    fn kept_fields_are_those_that_are_kept(keep in vec(any::<bool>(), 0..20)) {
        let lines: Vec<String> = (0..keep.len()).map(|n| format!("Field-{n}:  value {n} \r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: example.com\r\n{}\r\n", lines.concat()).into_bytes();
        let mut request = Request::default();
        request.parse(&head, &WIDE).unwrap();
        let mut answers = keep.iter();
        let mut out = Vec::new();
        write::kept_fields(&mut out, &head, &request.fields, |field| {
            field.id != http1::FieldId::Host && *answers.next().unwrap()
        });
        let expected: String = lines.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(line, _)| line.as_str()).collect();
        prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
