use testkit::http2::frame::{self, code, data, reset};

use super::super::row::{Row, get_with, post, post_with};
use crate::conformance::http1::row::Meaning;

const CLASS: &str = "lengths";

pub(super) fn rows() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 8.1.1", name);
    let length = |value: &'static str| post_with(1, &[("content-length", value)]);
    vec![
        row("a body as long as it says")
            .both()
            .frames(&[length("3"), data(1, true, b"abc")])
            .ok(1)
            .reaches(&[Meaning::post("abc")]),
        row("a body in parts as long as it says")
            .frames(&[length("6"), data(1, false, b"abc"), data(1, false, b"def"), data(1, true, &[])])
            .ok(1)
            .reaches(&[Meaning::post("abcdef")]),
        row("a body that is shorter").both().frames(&[length("5"), data(1, true, b"abc")]).refused(1),
        row("a body that is longer").both().frames(&[length("2"), data(1, true, b"abc")]).refused_after(1),
        row("a body in parts that is shorter")
            .both()
            .frames(&[length("7"), data(1, false, b"abc"), data(1, true, b"def")])
            .refused(1),
        row("a body in parts that is longer")
            .both()
            .frames(&[length("5"), data(1, false, b"abc"), data(1, true, b"def")])
            .refused_after(1),
        row("a body whose end is longer")
            .frames(&[length("3"), data(1, false, b"abc"), data(1, true, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")])
            .refused_after(1),
        row("a length and no body").both().send(get_with(&[("content-length", "3")])).refused(1),
        row("a length and trailers in place of a body")
            .frames(&[length("3"), frame::headers(1, true, &testkit::http2::hpack::literal("x-sum", "0"))])
            .refused(1),
        row("a length of 0 and no body").send(get_with(&[("content-length", "0")])).ok(1),
        row("two lengths that differ")
            .both()
            .frames(&[post_with(1, &[("content-length", "3"), ("content-length", "4")]), data(1, true, b"abc")])
            .refused(1),
        row("a length that is no number").frames(&[length("3x"), data(1, true, b"abc")]).refused(1),
        row("a length with a sign").frames(&[length("+3"), data(1, true, b"abc")]).refused(1),
        row("a length below 0").frames(&[length("-3"), data(1, true, b"abc")]).refused(1),
        row("a length in hexadecimal").frames(&[length("0x3"), data(1, true, b"abc")]).refused(1),
        row("an empty length").frames(&[length(""), data(1, true, b"abc")]).refused(1),
        row("a length beyond 2^64").frames(&[length("18446744073709551619"), data(1, true, b"abc")]).refused(1),
        row("lengths in a list").frames(&[length("3, 4"), data(1, true, b"abc")]).refused(1),
        row("a body without a length")
            .both()
            .frames(&[post(1), data(1, false, b"abc"), data(1, true, b"def")])
            .ok(1)
            .reaches(&[Meaning::post("abcdef")]),
        Row::new(CLASS, "9113 8.1", "a body that breaks off never looks whole")
            .both()
            .frames(&[post(1), data(1, false, b"abc"), reset(1, code::CANCEL)])
            .lives()
            .reaches(&[]),
        Row::new(CLASS, "9113 8.1", "a body with a length that breaks off never looks whole")
            .frames(&[length("6"), data(1, false, b"abc"), reset(1, code::CANCEL)])
            .lives()
            .reaches(&[]),
    ]
}
