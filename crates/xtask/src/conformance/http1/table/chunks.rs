//! The chunked coding of requests (RFC 9112, 7.1).

use super::super::row::{Meaning, Row, SMUGGLED, post};
use super::{BAD, BAD_OR_LARGE};

const CLASS: &str = "chunks";

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let refused: &[(&str, &str)] = &[
        ("hexadecimal prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("minus sign", "-3\r\nabc\r\n0\r\n\r\n"),
        ("plus sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("empty size", "\r\nabc\r\n0\r\n\r\n"),
        ("no digit", "g\r\nabc\r\n0\r\n\r\n"),
        ("digits and more", "3g\r\nabc\r\n0\r\n\r\n"),
        ("beyond 64 bits", "FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"),
        ("wraps around to 3", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("bare LF after the size", "3\nabc\r\n0\r\n\r\n"),
        ("bare CR after the size", "3\rabc\r\n0\r\n\r\n"),
        ("bare LF after the data", "3\r\nabc\n0\r\n\r\n"),
        ("nothing after the data", "3\r\nabc0\r\n\r\n"),
        ("more data than the size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("bare LF in an extension", "3;a=b\nc\r\nabc\r\n0\r\n\r\n"),
        ("bare CR in an extension", "3;a=b\rc\r\nabc\r\n0\r\n\r\n"),
        ("NUL in an extension", "3;a=\0\r\nabc\r\n0\r\n\r\n"),
        ("bare LF at the end", "3\r\nabc\r\n0\r\n\n"),
        ("minus zero at the end", "3\r\nabc\r\n-0\r\n\r\n"),
        ("trailer without colon", "3\r\nabc\r\n0\r\nX\r\n\r\n"),
        ("trailer with space before the colon", "3\r\nabc\r\n0\r\nX : y\r\n\r\n"),
        ("folded trailer", "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n"),
        ("bare LF in a trailer", "3\r\nabc\r\n0\r\nX: y\nZ: z\r\n\r\n"),
        ("NUL in a trailer", "3\r\nabc\r\n0\r\nX: \0\r\n\r\n"),
    ];
    for (name, body) in refused {
        rows.push(Row::refused(CLASS, name, BAD).send(chunked(&format!("{body}{SMUGGLED}"))));
    }
    let size = format!("{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(40_000));
    rows.push(Row::refused(CLASS, "40,000 leading zeros", BAD_OR_LARGE).send(chunked(&size)));
    let trailers = format!("3\r\nabc\r\n0\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    rows.push(Row::refused(CLASS, "100 kB of trailers", BAD_OR_LARGE).send(chunked(&trailers)));
    let limit = format!("200000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x0020_0000));
    rows.push(Row::refused(CLASS, "above the limit", &[413]).send(chunked(&limit)));
    let many = format!("{}0\r\n\r\n", format!("10000\r\n{}\r\n", "x".repeat(65_536)).repeat(32));
    rows.push(Row::refused(CLASS, "above the limit together", &[413]).send(chunked(&many)));
    rows.extend(accepted());
    rows
}

fn accepted() -> Vec<Row> {
    let forwarded: &[(&str, &str, &str)] = &[
        ("several", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"),
        ("capital digits", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("small digits", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("data that looks like chunks", "b\r\n0\r\n\r\nGET / \r\n0\r\n\r\n", "0\r\n\r\nGET / "),
        ("empty", "0\r\n\r\n", ""),
    ];
    let either: &[(&str, &str)] = &[
        ("leading zeros", "0003\r\nabc\r\n0\r\n\r\n"),
        ("several zeros at the end", "3\r\nabc\r\n000\r\n\r\n"),
        ("space after the size", "3 \r\nabc\r\n0\r\n\r\n"),
        ("extension", "3;a=b\r\nabc\r\n0\r\n\r\n"),
        ("quoted extension", "3;a=\"b;c\"\r\nabc\r\n0;last\r\n\r\n"),
        ("extension without a name", "3;\r\nabc\r\n0\r\n\r\n"),
        ("forbidden trailers", "3\r\nabc\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n"),
    ];
    let mut rows = Vec::new();
    for (name, body, meaning) in forwarded {
        rows.push(Row::forwarded(CLASS, name, Meaning::post(meaning)).send(chunked(body)));
    }
    for (name, body) in either {
        rows.push(Row::either(CLASS, name, BAD, Meaning::post("abc")).send(chunked(body)));
    }
    let trailers = chunked("3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
    rows.push(Row::forwarded(CLASS, "trailers", Meaning::post("abc")).send(trailers));
    let extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(50_000));
    rows.push(Row::either(CLASS, "50 kB of extension", BAD_OR_LARGE, Meaning::post("abc")).send(chunked(&extension)));
    let mut bytewise = Row::forwarded(CLASS, "in pieces", Meaning::post("abc"));
    for piece in ["3", "\r", "\na", "bc\r", "\n0\r\n", "\r\n"].iter().scan(true, |first, piece| {
        let head = if std::mem::take(first) { chunked("") } else { String::new() };
        Some(head + piece)
    }) {
        bytewise = bytewise.send(piece).pause(10);
    }
    rows.push(bytewise);
    rows.push(Row::dropped(CLASS, "ends within a chunk").send(chunked("5\r\nabc")).finish());
    rows.push(Row::dropped(CLASS, "ends before the last chunk").send(chunked("3\r\nabc\r\n")).finish());
    rows.push(Row::dropped(CLASS, "silent within a chunk").send(chunked("5\r\nabc")));
    rows
}
