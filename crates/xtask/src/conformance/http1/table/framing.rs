//! Where a request's body ends: Content-Length and Transfer-Encoding (RFC 9112, 6).

use super::super::row::{Meaning, Row, SMUGGLED, get, post};
use super::{BAD, BAD_OR_LARGE, BAD_OR_UNKNOWN};

const CHUNKED_BODY: &str = "3\r\nabc\r\n0\r\n\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = lengths();
    rows.extend(transfer_encodings());
    rows
}

fn lengths() -> Vec<Row> {
    const CLASS: &str = "content_length";
    let mut rows = Vec::new();
    let refused: &[(&str, &str)] = &[
        ("two different", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("list of different", "Content-Length: 3, 4\r\n"),
        ("plus sign", "Content-Length: +3\r\n"),
        ("minus sign", "Content-Length: -3\r\n"),
        ("hexadecimal", "Content-Length: 0x3\r\n"),
        ("two numbers", "Content-Length: 3 3\r\n"),
        ("empty", "Content-Length:\r\n"),
        ("fraction", "Content-Length: 3.0\r\n"),
        ("word", "Content-Length: three\r\n"),
        ("semicolon", "Content-Length: 3;\r\n"),
        ("underscore in the number", "Content-Length: 3_0\r\n"),
        ("digits of another script", "Content-Length: \u{663}\r\n"),
        ("vertical tab before", "Content-Length: \u{b}3\r\n"),
        ("empty list member", "Content-Length: 3,\r\n"),
        ("second is no number", "Content-Length: 3\r\nContent-Length: x\r\n"),
        ("space before the colon", "Content-Length : 3\r\n"),
    ];
    for (name, fields) in refused {
        rows.push(Row::refused(CLASS, name, BAD).send(post(fields, &format!("abc{SMUGGLED}"))));
    }
    let large = "Content-Length: 99999999999999999999999\r\n";
    rows.push(Row::refused(CLASS, "beyond 64 bits", BAD_OR_LARGE).send(post(large, "abc")));
    let wraps = "Content-Length: 18446744073709551619\r\n";
    rows.push(Row::refused(CLASS, "wraps around to 3", BAD_OR_LARGE).send(post(wraps, "abc")));
    rows.push(Row::refused(CLASS, "above the limit", &[413]).send(post("Content-Length: 9999999\r\n", "abc")));
    let either: &[(&str, &str)] = &[
        ("two equal", "Content-Length: 3\r\nContent-Length: 3\r\n"),
        ("list of equal", "Content-Length: 3, 3\r\n"),
        ("leading zero", "Content-Length: 03\r\n"),
    ];
    for (name, fields) in either {
        rows.push(Row::either(CLASS, name, BAD, Meaning::post("abc")).send(post(fields, "abc")));
    }
    let spaced = post("Content-Length:   3 \t\r\n", "abc");
    rows.push(Row::forwarded(CLASS, "white space around", Meaning::post("abc")).send(spaced));
    rows.push(
        Row::forwarded(CLASS, "name in other case", Meaning::post("abc")).send(post("cOnTeNt-LeNgTh: 3\r\n", "abc")),
    );
    let with_body = get("Content-Length: 3\r\n") + "abc";
    rows.push(Row::forwarded(CLASS, "GET with a body", Meaning::get().body("abc")).send(with_body));
    rows.push(Row::forwarded(CLASS, "zero", Meaning::post("")).send(post("Content-Length: 0\r\n", "")));
    rows.push(Row::forwarded(CLASS, "POST without", Meaning::post("")).send(post("", "")));
    rows
}

fn transfer_encodings() -> Vec<Row> {
    const CLASS: &str = "transfer_encoding";
    let mut rows = Vec::new();
    let refused: &[(&str, &str)] = &[
        ("other word", "Transfer-Encoding: xchunked\r\n"),
        ("not last", "Transfer-Encoding: chunked, identity\r\n"),
        ("with a coding before", "Transfer-Encoding: gzip, chunked\r\n"),
        ("twice in a list", "Transfer-Encoding: chunked, chunked\r\n"),
        ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("identity", "Transfer-Encoding: identity\r\n"),
        ("empty", "Transfer-Encoding:\r\n"),
        ("parameter", "Transfer-Encoding: chunked;a=b\r\n"),
        ("quoted", "Transfer-Encoding: \"chunked\"\r\n"),
        ("vertical tab before", "Transfer-Encoding: \u{b}chunked\r\n"),
        ("form feed before", "Transfer-Encoding:\u{c}chunked\r\n"),
        ("NUL after", "Transfer-Encoding: chunked\0\r\n"),
        ("no-break space before", "Transfer-Encoding: \u{a0}chunked\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("space before the name", " Transfer-Encoding: chunked\r\n"),
        ("no colon", "Transfer-Encoding chunked\r\n"),
        ("after a bare CR", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("after a bare LF", "X: y\nTransfer-Encoding: chunked\r\n"),
        ("after NUL", "X: y\0Transfer-Encoding: chunked\r\n"),
        ("other word, with a length", "Content-Length: 3\r\nTransfer-Encoding: chunkedx\r\n"),
        ("space before the colon, with a length", "Content-Length: 3\r\nTransfer-Encoding : chunked\r\n"),
    ];
    for (name, fields) in refused {
        rows.push(Row::refused(CLASS, name, BAD_OR_UNKNOWN).send(post(fields, &format!("{CHUNKED_BODY}{SMUGGLED}"))));
    }
    let old = format!("POST /x HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKED_BODY}");
    rows.push(Row::refused(CLASS, "HTTP/1.0", BAD_OR_UNKNOWN).send(old));
    let old = "POST /x HTTP/1.0\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    rows.push(Row::refused(CLASS, "HTTP/1.0 with a length", BAD_OR_UNKNOWN).send(format!("{old}{CHUNKED_BODY}")));
    let meaning = || Meaning::post("abc");
    rows.push(Row::forwarded(CLASS, "chunked", meaning()).send(post("Transfer-Encoding: chunked\r\n", CHUNKED_BODY)));
    let other_case = post("TRANSFER-ENCODING: CHUNKED\r\n", CHUNKED_BODY);
    rows.push(Row::forwarded(CLASS, "other case", meaning()).send(other_case));
    // The length has to go when both are there; a proxy may also refuse.
    for (name, fields) in [
        ("with a length after", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("with a length before", "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        let row = Row::either(CLASS, name, BAD, meaning().lacks(&["content-length"]));
        rows.push(row.send(post(fields, CHUNKED_BODY)));
    }
    // An upstream that takes `_` for `-` must not see a second framing.
    let underscore = post("Content-Length: 3\r\nTransfer_Encoding: chunked\r\n", "abc");
    rows.push(
        Row::either(CLASS, "underscore in the name", BAD, meaning().lacks(&["transfer-encoding"])).send(underscore),
    );
    rows
}
