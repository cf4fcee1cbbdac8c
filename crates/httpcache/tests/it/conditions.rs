//! Conditions of clients, answered from what is stored.

use crate::edge::{Edge, ask, date, get, reply};

#[test]
fn a_fresh_response_answers_conditions() {
    let (noon, modified) = (date(0), date(-3000));
    let check = |fields: &[(&str, &str)], asks: &[(&str, &str)], expected: u16| {
        let mut edge = Edge::new();
        let mut fields = fields.to_vec();
        fields.extend([("Cache-Control", "max-age=100000"), ("Date", &noon)]);
        let origin = reply(200, &fields, "body");
        edge.exchange(&get(&[]), &origin);
        let got = edge.after_secs(3).exchange(&get(asks), &origin);
        assert_eq!((got.status, got.is_hit()), (expected, true), "{fields:?} {asks:?}");
        assert_eq!(got.body, if expected == 304 { "" } else { "body" });
    };
    let lm = ("Last-Modified", modified.as_str());
    check(&[lm], &[("If-Modified-Since", &modified)], 304);
    check(&[lm], &[("If-Modified-Since", &date(-2000))], 304);
    check(&[lm], &[("If-Modified-Since", &date(-3001))], 200);
    check(&[lm], &[("If-Modified-Since", "Tue, 14-Nov-23 21:23:20 GMT")], 200);
    check(&[lm], &[("If-Modified-Since", "Tuesday, 14-Nov-23 21:23:20 GMT")], 304);
    check(&[lm], &[("If-Modified-Since", &modified), ("If-Modified-Since", &modified)], 200);
    check(&[], &[("If-Modified-Since", &noon)], 304);
    check(&[], &[("If-Modified-Since", &date(-3000))], 200);
    let tag = |etag, asked, expected| check(&[("ETag", etag)], &[("If-None-Match", asked)], expected);
    tag("\"abcdef\"", "\"abcdef\"", 304);
    tag("\"abcdef\"", "\"1234\", \"abcdef\", \"5678\"", 304);
    tag("\"abcdef\"", "\"1234\",W/\"abcdef\"", 304);
    tag("W/\"abcdef\"", "W/\"abcdef\"", 304);
    tag("\"abcdef\u{fc}\"", "\"abcdef\u{fc}\"", 304);
    tag("abcdef", "abcdef", 304);
    tag("W\"abcdef\"", "W\"abcdef\"", 304);
    tag("\"abcdef\"", "*", 304);
    tag("\"abcdef\"", "abcdef", 200);
    tag("\"abcdef\"", "\"ghi\"", 200);
    let both = [lm, ("ETag", "\"a\"")];
    check(&both, &[("If-None-Match", "\"a\""), ("If-Modified-Since", &date(-9000))], 304);
    check(&both, &[("If-None-Match", "\"b\""), ("If-Modified-Since", &noon)], 200);
}

#[test]
fn a_304_has_the_fields_that_it_must() {
    let (noon, later) = (date(0), date(9));
    let fields = [
        ("ETag", "\"a\""),
        ("Date", noon.as_str()),
        ("Expires", &later),
        ("Vary", "Foo"),
        ("Content-Location", "/b"),
        ("Cache-Control", "max-age=100"),
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "a=b"),
        ("X-Other", "1"),
    ];
    let mut edge = Edge::new();
    edge.policy.set_cookie = httpcache::SetCookie::Always;
    edge.exchange(&get(&[]), &reply(200, &fields, "body"));
    let got = edge.after_secs(3).exchange(&get(&[("If-None-Match", "\"a\"")]), &reply(500, &[], ""));
    assert_eq!(got.status, 304);
    let names: Vec<_> = got.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ETag", "Date", "Expires", "Vary", "Content-Location", "Cache-Control", "Age"]);
}

#[test]
fn a_stale_response_answers_them_after_validation() {
    let (noon, modified) = (date(0), date(-3000));
    let fields = [("Cache-Control", "max-age=2"), ("Last-Modified", modified.as_str()), ("Date", &noon)];
    let mut edge = Edge::new();
    edge.exchange(&get(&[]), &reply(200, &fields, "body"));
    let client = get(&[("If-Modified-Since", &modified)]);
    let got = edge.after_secs(3).exchange(&client, &reply(304, &fields, ""));
    assert_eq!((got.status, got.asked("If-Modified-Since")), (304, Some(modified.as_str())));
    // The client has an older one than what is stored, which the origin confirms: it gets the whole.
    let client = get(&[("If-Modified-Since", &date(-9000))]);
    let got = edge.after_secs(3).exchange(&client, &reply(304, &fields, ""));
    assert_eq!((got.status, got.body.as_str(), got.asked("If-Modified-Since")), (200, "body", Some(modified.as_str())));
    assert_eq!(got.seen.as_ref().unwrap().len(), 1, "the client's own condition stays here");
}

#[test]
fn without_a_stored_response_the_origin_answers() {
    let mut edge = Edge::new();
    let got = edge.exchange(&get(&[("If-None-Match", "\"a\"")]), &reply(304, &[("ETag", "\"a\"")], ""));
    assert_eq!((got.status, got.asked("If-None-Match"), edge.len()), (304, Some("\"a\""), 0));
    for field in ["If-Match", "If-Unmodified-Since"] {
        edge.exchange(&get(&[]), &reply(200, &[("Cache-Control", "max-age=9"), ("ETag", "\"a\"")], ""));
        assert!(!edge.exchange(&get(&[(field, "\"a\"")]), &reply(412, &[], "")).is_hit(), "{field}");
    }
}

#[test]
fn conditions_count_for_success_alone() {
    let mut edge = Edge::new();
    edge.exchange(&get(&[]), &reply(404, &[("Cache-Control", "max-age=9"), ("ETag", "\"a\"")], "gone"));
    let got = edge.exchange(&get(&[("If-None-Match", "\"a\""), ("Range", "bytes=0-1")]), &reply(500, &[], ""));
    assert_eq!((got.status, got.body.as_str()), (404, "gone"));
}

#[test]
fn a_head_is_answered_by_what_get_stored() {
    let mut edge = Edge::new();
    edge.exchange(&get(&[]), &reply(200, &[("Cache-Control", "max-age=9"), ("ETag", "\"a\"")], "body"));
    let got = edge.exchange(&ask("HEAD", "/a", &[("Range", "bytes=0-1")]), &reply(500, &[], ""));
    assert_eq!((got.status, got.body.as_str(), got.is_hit()), (200, "", true));
    let got = edge.exchange(&ask("HEAD", "/a", &[("If-None-Match", "\"a\"")]), &reply(500, &[], ""));
    assert_eq!(got.status, 304);
}
