use testkit::http2::frame::{self, code, data};
use testkit::http2::hpack::literals;

use super::super::row::{Row, a_get, get_with, post};
use crate::conformance::http1::row::Meaning;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = about_connections();
    rows.extend(names_and_values());
    rows.extend(trailers());
    rows
}

fn about_connections() -> Vec<Row> {
    let row = |name| Row::new("connection fields", "9113 8.2.2", name);
    let with = |name, field| row(name).send(get_with(&[field])).refused(1);
    vec![
        with("connection", ("connection", "keep-alive")).both(),
        with("connection that names another field", ("connection", "x-a")),
        with("keep-alive", ("keep-alive", "timeout=5")),
        with("proxy-connection", ("proxy-connection", "keep-alive")).both(),
        with("transfer-encoding", ("transfer-encoding", "chunked")).both(),
        with("upgrade", ("upgrade", "websocket")).both(),
        with("te with something else than trailers", ("te", "trailers, deflate")).both(),
        with("te with gzip", ("te", "gzip")),
        row("te with trailers").both().send(get_with(&[("te", "trailers")])).ok(1).reaches(&[a_get()]),
        row("transfer-encoding before a body")
            .frames(&[
                super::super::row::post_with(1, &[("transfer-encoding", "chunked")]),
                data(1, true, b"0\r\n\r\n"),
            ])
            .refused(1),
    ]
}

fn names_and_values() -> Vec<Row> {
    let row = |rule, name| Row::new("fields", rule, name);
    let name = |name, field: &str| row("9113 8.2.1", name).send(get_with(&[(field, "1")])).refused(1);
    let value = |name, text: &str| row("9113 8.2.1", name).send(get_with(&[("x-a", text)])).refused(1);
    let long = "v".repeat(20_000);
    vec![
        row("9113 8.2", "a name in upper case").both().send(get_with(&[("X-A", "1")])).refused(1),
        row("9113 8.2", "a name with one letter in upper case").send(get_with(&[("x-a-B", "1")])).refused(1),
        name("an empty name", "").both(),
        name("a name with a space", "x a"),
        name("a name with a colon", "x:a").both(),
        name("a name with a line end", "x-a\r\nx-evil"),
        name("a name with a NUL", "x\0a"),
        name("a name with an octet above 127", "x\u{e4}"),
        name("a name with DEL", "x\u{7f}"),
        value("a value with a NUL", "a\0b").both(),
        value("a value with a line feed", "a\nx-evil: 1").both(),
        value("a value with a carriage return", "a\rb").both(),
        value("a value that begins with a space", " a"),
        value("a value that ends with a space", "a "),
        value("a value that begins with a tab", "\ta"),
        value("a value that ends with a tab", "a\t"),
        row("9113 8.2.1", "an empty value").send(get_with(&[("x-a", "")])).ok(1).reaches(&[a_get()]),
        row("9113 8.2.1", "a value with octets above 127")
            .send(get_with(&[("x-a", "caf\u{e9}")]))
            .ok(1)
            .reaches(&[a_get()]),
        row("9113 8.2.1", "a value with spaces and tabs within")
            .send(get_with(&[("x-a", "a b\tc")]))
            .ok(1)
            .reaches(&[a_get().has(&[("x-a", "a b\tc")])]),
        row("9113 8.2.3", "several cookies become one")
            .both()
            .send(get_with(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]))
            .ok(1)
            .reaches(&[a_get().has(&[("cookie", "a=1; b=2; c=3")])]),
        {
            let fields: Vec<(&str, &str)> = vec![("x-long", &long); 20];
            let block = super::super::row::get_block(&fields);
            let mut frames = vec![super::super::row::begun(1, true, &block[..16_000])];
            frames.extend(block[16_000..].chunks(16_000).map(|part| frame::continuation(1, false, part)));
            frames.push(frame::continuation(1, true, &[]));
            let mut row = row("9113 10.5.1", "a head that is too large").frames(&frames).refused(1);
            row.may.end =
                &[code::PROTOCOL_ERROR, code::ENHANCE_YOUR_CALM, code::COMPRESSION_ERROR, code::INTERNAL_ERROR];
            row
        },
    ]
}

fn trailers() -> Vec<Row> {
    let row = |rule, name| Row::new("trailers", rule, name);
    let sum = frame::headers(1, true, &literals(&[("x-sum", "6")]));
    let wrong = |name, field: (&str, &str)| {
        row("9113 8.1", name)
            .frames(&[post(1), data(1, false, b"abc"), frame::headers(1, true, &literals(&[field]))])
            .refused(1)
    };
    vec![
        row("9113 8.1", "pass")
            .both()
            .frames(&[post(1), data(1, false, b"abc"), sum.clone()])
            .ok(1)
            .reaches(&[Meaning::post("abc")]),
        row("9113 8.1", "without a body").frames(&[post(1), sum.clone()]).ok(1).reaches(&[Meaning::post("")]),
        row("9113 8.1", "that do not end the stream")
            .both()
            .frames(&[post(1), data(1, false, b"abc"), frame::headers(1, false, &literals(&[("x-sum", "6")]))])
            .refused(1),
        row("9113 8.1", "and then a body")
            .frames(&[post(1), frame::headers(1, false, &literals(&[("x-sum", "6")])), data(1, true, b"abc")])
            .refused(1),
        row("9113 8.1", "twice")
            .frames(&[post(1), data(1, false, b"abc"), sum.clone(), sum])
            .resets(1, &[code::STREAM_CLOSED, code::PROTOCOL_ERROR]),
        wrong("with a name in upper case", ("X-Sum", "6")),
        wrong("with a field about connections", ("connection", "close")),
        wrong("with a line end in a value", ("x-sum", "6\r\nx-evil: 1")),
        wrong("with a space at the end of a value", ("x-sum", "6 ")),
    ]
}
