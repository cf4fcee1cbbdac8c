//! Ranges from what is stored, and parts that are.

use httpcache::WhyNot;

use crate::edge::{Edge, date, get, reply};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

#[test]
fn ranges_of_a_whole() {
    let modified = date(-60);
    let fields = [FRESH, ("ETag", "\"a\""), ("Last-Modified", &modified), ("A", "1")];
    let check = |asks: &[(&str, &str)], status: u16, body: &str| {
        let mut edge = Edge::new();
        edge.exchange(&get(&[]), &reply(200, &fields, "0123456789A"));
        let got = edge.exchange(&get(asks), &reply(500, &[], ""));
        assert_eq!((got.status, got.body.as_str(), got.is_hit()), (status, body, true), "{asks:?}");
        assert_eq!(got.field("A"), Some("1").filter(|_| status != 304));
        got
    };
    let got = check(&[("Range", "bytes=0-1")], 206, "01");
    assert_eq!(got.field("Content-Range"), Some("bytes 0-1/11"));
    check(&[("Range", "bytes=1-")], 206, "123456789A");
    check(&[("Range", "bytes=-1")], 206, "A");
    check(&[("Range", "bytes=0-0, -2")], 206, "0|9A");
    check(&[("Range", "bytes=11-")], 416, "");
    check(&[("Range", "lines=1-")], 200, "0123456789A");
    check(&[("Range", "bytes=0-1"), ("Range", "bytes=1-2")], 200, "0123456789A");
    let if_range = |value: &str, status: u16| {
        check(&[("Range", "bytes=0-0"), ("If-Range", value)], status, if status == 206 { "0" } else { "0123456789A" });
    };
    if_range("\"a\"", 206);
    if_range("W/\"a\"", 200);
    if_range("\"b\"", 200);
    if_range(&modified, 206);
    if_range(&date(-61), 200);
    check(&[("Range", "bytes=0-0"), ("If-None-Match", "\"a\"")], 304, "");
}

fn part(range: &str, etag: &str, body: &str) -> crate::edge::Reply {
    let mut fields = vec![FRESH, ("Content-Range", range)];
    if !etag.is_empty() {
        fields.push(("ETag", etag));
    }
    reply(206, &fields, body)
}

#[test]
fn a_part_serves_what_lies_within() {
    let mut edge = Edge::new();
    let fails = reply(500, &[], "");
    edge.exchange(&get(&[("Range", "bytes=-5")]), &part("bytes 5-9/10", "", "56789"));
    for (range, body) in [("bytes=-5", "56789"), ("bytes=6-8", "678"), ("bytes=6-", "6789"), ("bytes=-1", "9")] {
        let got = edge.exchange(&get(&[("Range", range)]), &fails);
        assert_eq!((got.status, got.body.as_str(), got.is_hit()), (206, body, true), "{range}");
    }
    assert_eq!(edge.exchange(&get(&[("Range", "bytes=10-")]), &fails).status, 416);
    for range in ["bytes=4-5", "bytes=0-", "bytes=0-0,9-9", "x"] {
        assert!(!edge.exchange(&get(&[("Range", range)]), &fails).is_hit(), "{range}");
    }
    let got = edge.exchange(&get(&[]), &fails);
    assert_eq!(got.asked("Range"), None, "without a strong tag nothing can be completed");
}

#[test]
fn a_part_is_completed() {
    let mut edge = Edge::new();
    edge.exchange(&get(&[("Range", "bytes=0-4")]), &part("bytes 0-4/10", "\"a\"", "01234"));
    let got = edge.exchange(&get(&[]), &part("bytes 5-9/10", "\"a\"", "56789"));
    assert_eq!((got.asked("Range"), got.asked("If-Range")), (Some("bytes=5-"), Some("\"a\"")));
    let got = edge.exchange(&get(&[]), &reply(500, &[], ""));
    assert_eq!((got.status, got.body.as_str(), got.is_hit()), (200, "0123456789", true));
    assert_eq!(got.field("Content-Range"), None);
}

#[test]
fn parts_of_two_versions_are_not_mixed() {
    for (one, other) in [("\"a\"", "\"b\""), ("W/\"a\"", "W/\"a\""), ("", ""), ("\"a\"", "")] {
        let mut edge = Edge::new();
        edge.exchange(&get(&[("Range", "bytes=0-4")]), &part("bytes 0-4/10", one, "01234"));
        edge.exchange(&get(&[("Range", "bytes=5-")]), &part("bytes 5-9/10", other, "vwxyz"));
        let got = edge.exchange(&get(&[("Range", "bytes=0-9")]), &reply(500, &[], ""));
        assert!(!got.is_hit(), "{one} {other}");
        let got = edge.exchange(&get(&[("Range", "bytes=5-9")]), &reply(500, &[], ""));
        assert_eq!((got.body.as_str(), got.is_hit()), ("vwxyz", true));
    }
    // With a gap nothing is put together either.
    let mut edge = Edge::new();
    edge.exchange(&get(&[("Range", "bytes=0-3")]), &part("bytes 0-3/10", "\"a\"", "0123"));
    edge.exchange(&get(&[("Range", "bytes=5-")]), &part("bytes 5-9/10", "\"a\"", "56789"));
    assert!(!edge.exchange(&get(&[("Range", "bytes=0-1")]), &reply(500, &[], "")).is_hit());
}

#[test]
fn a_part_whose_place_is_told_wrongly_is_not_stored() {
    let check = |fields: &[(&str, &str)], expected: Option<WhyNot>| {
        let fields: Vec<_> = [FRESH].iter().chain(fields).copied().collect();
        let got = Edge::new().exchange(&get(&[("Range", "bytes=-5")]), &reply(206, &fields, "01234"));
        assert_eq!(got.why_not, expected, "{fields:?}");
    };
    check(&[], Some(WhyNot::Part));
    check(&[("Content-Range", "x")], Some(WhyNot::Part));
    check(&[("Content-Range", "bytes 4-9/10"), ("Content-Length", "5")], Some(WhyNot::Part));
    check(&[("Content-Range", "bytes 5-9/10"), ("Content-Range", "bytes 5-9/10")], Some(WhyNot::Part));
    check(&[("Content-Type", "multipart/byteranges; boundary=a")], Some(WhyNot::Part));
    check(&[("Content-Range", "bytes 5-9/10"), ("Content-Length", "5")], None);
    check(&[("Content-Range", "bytes 5-9/*")], None);
}

#[test]
fn a_part_that_is_the_whole() {
    let mut edge = Edge::new();
    edge.exchange(&get(&[("Range", "bytes=0-")]), &part("bytes 0-4/5", "", "01234"));
    let got = edge.exchange(&get(&[]), &reply(500, &[], ""));
    assert_eq!((got.status, got.body.as_str()), (200, "01234"));
}
