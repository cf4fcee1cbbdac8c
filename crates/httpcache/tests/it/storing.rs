//! What is stored, and what of it.

use httpcache::{Condition, FieldCondition, Policy, SetCookie, WhyNot};

use crate::edge::{Edge, ask, date, get, reply};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

fn why_not(policy: Policy, asks: &[(&str, &str)], fields: &[(&str, &str)]) -> Option<WhyNot> {
    Edge::with(policy).exchange(&get(asks), &reply(200, fields, "")).why_not
}

#[test]
fn authorized_responses() {
    let check = |control: &str, expected: Option<WhyNot>| {
        let found = why_not(Policy::default(), &[("Authorization", "FOO")], &[("Cache-Control", control)]);
        assert_eq!(found, expected, "{control}");
    };
    check("max-age=3600", Some(WhyNot::Authorization));
    check("max-age=3600, proxy-revalidate", Some(WhyNot::Authorization));
    check("max-age=3600, public", None);
    check("max-age=3600, must-revalidate", None);
    check("s-maxage=3600", None);
    let expires = [("Expires", &*date(3600)), ("Date", &date(0))];
    assert_eq!(why_not(Policy::default(), &[("authorization", "FOO")], &expires), Some(WhyNot::Authorization));
    let targeted = [FRESH, ("CDN-Cache-Control", "max-age=5")];
    assert_eq!(why_not(Policy::default(), &[("Authorization", "FOO")], &targeted), Some(WhyNot::Authorization));
}

#[test]
fn responses_that_set_cookies() {
    let with = |policy: SetCookie, fields: &[(&str, &str)]| {
        let mut edge = Edge::with(Policy { set_cookie: policy, ..Policy::default() });
        let mut fields = fields.to_vec();
        fields.push(("Set-Cookie", "a=b"));
        let first = edge.exchange(&get(&[]), &reply(200, &fields, ""));
        assert_eq!(first.field("Set-Cookie"), Some("a=b"), "whoever asked gets the cookie");
        let got = edge.exchange(&get(&[]), &reply(500, &[], ""));
        (first.why_not, got.field("set-cookie").map(str::to_owned))
    };
    let (refused, cookie) = (Some(WhyNot::SetCookie), Some("a=b".to_owned()));
    assert_eq!(with(SetCookie::ForShared, &[FRESH]), (refused, None));
    assert_eq!(with(SetCookie::ForShared, &[("Cache-Control", "max-age=9, public")]), (None, cookie.clone()));
    assert_eq!(with(SetCookie::ForShared, &[("Cache-Control", "s-maxage=9")]), (None, cookie.clone()));
    assert_eq!(with(SetCookie::ForShared, &[("CDN-Cache-Control", "max-age=9")]), (None, cookie.clone()));
    let hidden = [("Cache-Control", "max-age=9, private=\"set-cookie\"")];
    assert_eq!(with(SetCookie::ForShared, &hidden), (None, None));
    assert_eq!(with(SetCookie::Never, &[("Cache-Control", "s-maxage=9")]), (refused, None));
    assert_eq!(with(SetCookie::Always, &[FRESH]), (None, cookie));
    assert_eq!(with(SetCookie::Stripped, &[FRESH]), (None, None));
}

#[test]
fn cookies_of_requests_do_not_matter() {
    let mut edge = Edge::new();
    edge.exchange(&get(&[]), &reply(200, &[FRESH], ""));
    assert!(edge.exchange(&get(&[("Cookie", "a=b")]), &reply(200, &[FRESH], "")).is_hit());
}

#[test]
fn fields_are_stored_but_those_of_the_connection() {
    let kept = [
        ("Test-Header", "a"),
        ("Content-Foo", "b"),
        ("Content-Encoding", "nonsense"),
        ("Content-Range", "nonsense"),
        ("Content-MD5", "c"),
        ("Content-Location", "/bar"),
        ("Clear-Site-Data", "cookies"),
        ("ETag", "\"a\""),
        ("Expires", "Mon, 11 Jan 2038 11:11:11 GMT"),
        ("Strict-Transport-Security", "d"),
        ("WWW-Authenticate", "e"),
        ("Content-Disposition", "attachment; filename=example.txt"),
        ("Cache-Status", "origin;hit"),
    ];
    let left = [
        ("Connection", "x-a, X-B"),
        ("X-A", "1"),
        ("x-b", "2"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "f"),
        ("Proxy-Authentication-Info", "g"),
        ("Proxy-Authorization", "h"),
        ("Proxy-Connection", "i"),
        ("TE", "j"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "k"),
        ("Trailer", "l"),
    ];
    let fields: Vec<_> = [FRESH].into_iter().chain(kept).chain(left).collect();
    let mut edge = Edge::new();
    edge.exchange(&get(&[]), &reply(200, &fields, "body"));
    let got = edge.exchange(&get(&[]), &reply(500, &[], ""));
    for (name, value) in kept {
        assert_eq!(got.field(name), Some(value), "{name}");
    }
    for (name, _) in left {
        assert_eq!(got.field(name), None, "{name}");
    }
}

#[test]
fn what_can_never_be_used_is_not_stored() {
    let check = |status: u16, fields: &[(&str, &str)], expected: Option<WhyNot>| {
        let got = Edge::new().exchange(&get(&[]), &reply(status, fields, ""));
        assert_eq!(got.why_not, expected, "{status} {fields:?}");
    };
    check(200, &[], Some(WhyNot::Useless));
    check(200, &[("ETag", "\"a\"")], None);
    check(200, &[("Cache-Control", "max-age=0")], Some(WhyNot::Useless));
    check(200, &[("Cache-Control", "max-age=0, stale-if-error=60")], None);
    check(200, &[("Cache-Control", "max-age=60"), ("Age", "60")], Some(WhyNot::Useless));
    check(403, &[], Some(WhyNot::NoLifetime));
    check(403, &[("ETag", "\"a\"")], Some(WhyNot::NoLifetime));
    check(403, &[FRESH], None);
    check(304, &[FRESH], Some(WhyNot::Status));
    check(200, &[FRESH, ("Vary", "*")], Some(WhyNot::VaryStar));
}

#[test]
fn rules_of_the_policy() {
    let field = |name: &str, value: Option<&str>| FieldCondition {
        name: name.to_owned(),
        value: value.map(|value| value.as_bytes().to_vec()),
    };
    let policy = Policy {
        never_store: vec![field("x-private", None), field("x-kind", Some("draft"))],
        bypass: vec![
            Condition::Field(field("X-Bypass", None)),
            Condition::Cookie("session".to_owned()),
            Condition::Query("preview".to_owned()),
        ],
        ..Policy::default()
    };
    let out = |fields: &[(&str, &str)]| why_not(policy.clone(), &[], fields);
    assert_eq!(out(&[FRESH, ("X-Private", "")]), Some(WhyNot::Policy));
    assert_eq!(out(&[FRESH, ("X-Kind", "draft")]), Some(WhyNot::Policy));
    assert_eq!(out(&[FRESH, ("X-Kind", "drafts")]), None);
    let passes = |path: &str, fields: &[(&str, &str)]| {
        let mut edge = Edge::with(policy.clone());
        edge.exchange(&ask("GET", path, fields), &reply(200, &[FRESH], ""));
        edge.len() == 0
    };
    assert!(passes("/a", &[("x-bypass", "1")]));
    assert!(passes("/a", &[("Cookie", "a=b; session=1")]));
    assert!(passes("/a?x=1&preview", &[]));
    assert!(!passes("/a?xpreview=1", &[("Cookie", "xsession=1; a=session")]));
}

#[test]
fn a_post_may_fill_what_get_finds() {
    let (noon, later) = (date(0), date(3600));
    let check = |location: &str, fields: &[(&str, &str)], policy: Policy, expected: bool| {
        let mut edge = Edge::with(policy);
        let mut fields = fields.to_vec();
        fields.push(("Content-Location", location));
        edge.exchange(&ask("POST", "/a", &[]), &reply(200, &fields, "body"));
        assert_eq!(edge.exchange(&get(&[]), &reply(500, &[], "")).is_hit(), expected, "{location} {fields:?}");
        assert!(!edge.exchange(&ask("POST", "/a", &[]), &reply(500, &[], "")).is_hit());
    };
    let fresh = [("Expires", later.as_str()), ("Date", &noon)];
    check("/a", &fresh, Policy::default(), true);
    check("https://example.com/a", &fresh, Policy::default(), true);
    check("/b", &fresh, Policy::default(), false);
    check("http://example.com/a", &fresh, Policy::default(), false);
    check("/a", &[("ETag", "\"a\"")], Policy::default(), false);
    check("/a", &fresh, Policy { stores_post: false, ..Policy::default() }, false);
}
