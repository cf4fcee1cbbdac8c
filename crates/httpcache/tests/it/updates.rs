//! What a 304, a HEAD and methods that change something do to what is stored.

use httpcache::{Policy, SetCookie, WhyNot};

use crate::edge::{Ask, Edge, Got, ask, date, get, reply};

/// Stores a response for two seconds, validates it by a 304 after three, and looks again.
fn validated(before: &[(&str, &str)], after: &[(&str, &str)]) -> (Got, Got) {
    let mut edge = Edge::with(Policy { set_cookie: SetCookie::Always, ..Policy::default() });
    edge.exchange(&get(&[]), &reply(200, before, "body"));
    let first = edge.after_secs(3).exchange(&get(&[]), &reply(304, after, ""));
    assert!(first.asked("If-None-Match").is_some() || first.asked("If-Modified-Since").is_some());
    assert_eq!((first.status, first.body.as_str()), (200, "body"));
    (first, edge.exchange(&get(&[]), &reply(500, &[], "")))
}

const FOR_TWO: (&str, &str) = ("Cache-Control", "max-age=2");
const TAG: (&str, &str) = ("ETag", "\"abcdef\"");

#[test]
fn a_304_updates_fields() {
    let updated = [
        ("Test-Header", "a", "b"),
        ("Content-Foo", "a", "b"),
        ("Content-Location", "/a", "/b"),
        ("Content-Type", "text/plain", "text/plain;charset=utf-8"),
        ("Expires", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
        ("Set-Cookie", "a=b", "a=c"),
        ("X-Frame-Options", "deny", "sameorigin"),
        ("Cache-Control", "max-age=1", "max-age=3600"),
    ];
    for (name, before, after) in updated {
        let control = if name == "Cache-Control" { ("X", "") } else { FOR_TWO };
        let (first, second) = validated(&[(name, before), control, TAG], &[(name, after), control, TAG]);
        assert!(second.is_hit(), "{name}");
        for got in [first, second] {
            assert_eq!(got.field(name), Some(after), "{name}");
            assert_eq!(got.fields.iter().filter(|(found, _)| found == name).count(), 1, "{name}");
        }
    }
    let stays = [
        ("Content-Encoding", "a", "b"),
        ("Content-MD5", "a", "b"),
        ("Content-Range", "a", "b"),
        ("ETag", "\"abcdef\"", "\"ghijkl\""),
        ("ETag", "\"abcdef\"", "W/\"abcdef\""),
    ];
    for (name, before, after) in stays {
        let tag = if name == "ETag" { ("X", "") } else { TAG };
        let (first, second) = validated(&[(name, before), FOR_TWO, tag], &[(name, after), FOR_TWO, tag]);
        assert!(second.is_hit(), "{name}");
        assert_eq!((first.field(name), second.field(name)), (Some(before), Some(before)), "{name}");
    }
    for name in ["Content-Length", "Connection", "Age", "Transfer-Encoding"] {
        let (first, second) = validated(&[FOR_TWO, TAG], &[(name, "1"), TAG]);
        assert!(second.is_hit(), "{name}");
        assert!(name == "Age" || first.field(name).is_none(), "{name}");
    }
}

#[test]
fn what_a_304_leaves_out_stays() {
    let long_ago = ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT");
    let (noon, later) = (date(0), date(3));
    let before = [FOR_TWO, long_ago, ("Date", noon.as_str()), ("Test-Header", "a")];
    let (first, second) = validated(&before, &[long_ago, ("Date", later.as_str())]);
    for got in [first, second] {
        assert_eq!(
            (got.field("Test-Header"), got.field("Date"), got.field("Age")),
            (Some("a"), Some(&*later), Some("0"))
        );
    }
    // Without a date it is that of its arrival, or the response would stay as old as it was.
    let (first, second) = validated(&before, &[long_ago]);
    assert_eq!(first.field("Date"), Some(later.as_str()));
    assert!(second.is_hit());
}

#[test]
fn a_304_that_contradicts_updates_nothing() {
    let (first, second) =
        validated(&[FOR_TWO, TAG, ("Test-Header", "a")], &[FOR_TWO, ("ETag", "\"x\""), ("Test-Header", "b")]);
    assert_eq!((first.field("Test-Header"), second.field("Test-Header")), (Some("a"), Some("a")));
    assert_eq!(second.field("Age"), Some("0"));
    let (old, new) = (date(-9), date(-8));
    let (first, _) = validated(&[FOR_TWO, ("Last-Modified", &old)], &[("Last-Modified", &new), ("Test-Header", "b")]);
    assert_eq!(first.field("Test-Header"), None);
}

#[test]
fn a_304_may_put_an_end_to_it() {
    let (first, second) = validated(&[FOR_TWO, TAG], &[("Cache-Control", "no-store"), TAG]);
    assert_eq!((first.why_not, second.is_hit()), (Some(WhyNot::NoStore), false));
    let (first, second) = validated(&[FOR_TWO, TAG], &[("Vary", "*"), TAG]);
    assert_eq!((first.why_not, second.is_hit()), (Some(WhyNot::VaryStar), false));
}

#[test]
fn a_full_answer_replaces_it() {
    let mut edge = Edge::new();
    edge.exchange(&get(&[]), &reply(200, &[FOR_TWO, TAG], "old"));
    let new = reply(200, &[("Cache-Control", "max-age=60"), ("ETag", "\"new\"")], "new");
    assert_eq!(edge.after_secs(3).exchange(&get(&[]), &new).body, "new");
    let got = edge.exchange(&get(&[]), &reply(500, &[], ""));
    assert_eq!((got.body.as_str(), edge.len()), ("new", 1));
}

#[test]
fn a_head_refreshes_what_it_matches() {
    let check = |stored: &[(&str, &str)], status: u16, head: &[(&str, &str)], expected: Option<&str>| {
        let mut edge = Edge::new();
        let mut fields = vec![("Cache-Control", "max-age=2"), ("A", "1")];
        fields.extend(stored);
        edge.exchange(&get(&[]), &reply(200, &fields, "body"));
        let got = edge.after_secs(3).exchange(&ask("HEAD", "/a", &[]), &reply(status, head, ""));
        assert!(!got.is_hit());
        let got = edge.exchange(&get(&[]), &reply(500, &[], ""));
        assert_eq!(got.is_hit().then(|| got.field("A").unwrap()), expected, "{stored:?} {status} {head:?}");
    };
    let longer = ("Cache-Control", "max-age=1000");
    check(&[], 200, &[longer], Some("1"));
    check(&[], 200, &[longer, ("A", "2")], Some("2"));
    check(&[TAG], 200, &[longer, TAG, ("Content-Length", "4")], Some("1"));
    check(&[TAG], 200, &[longer, ("ETag", "\"x\"")], None);
    check(&[], 200, &[longer, TAG], None);
    check(&[], 200, &[longer, ("Content-Length", "5")], None);
    check(&[("Last-Modified", &date(-9))], 200, &[longer, ("Last-Modified", &date(-8))], None);
    check(&[], 410, &[longer], None);
    check(&[], 503, &[longer], None);
}

#[test]
fn a_head_makes_stale_what_has_changed() {
    let mut edge = Edge::new();
    let fresh = [("Cache-Control", "max-age=60"), TAG];
    edge.exchange(&get(&[]), &reply(200, &fresh, "body"));
    let nothing = reply(503, &[], "");
    let head = Ask { fields: vec![("Cache-Control".to_owned(), "no-cache".to_owned())], ..ask("HEAD", "/a", &[]) };
    edge.exchange(&head, &nothing);
    assert!(edge.exchange(&get(&[]), &nothing).is_hit(), "a failure says nothing about it");
    edge.exchange(&head, &reply(200, &[("ETag", "\"x\"")], ""));
    assert!(edge.exchange(&get(&[]), &nothing).asked("If-None-Match").is_some());
}

#[test]
fn unsafe_methods_invalidate() {
    let fresh = reply(200, &[("Cache-Control", "max-age=1000")], "");
    let check = |method: &'static str, status: u16, fields: &[(&str, &str)], path: &str, expected: bool| {
        let mut edge = Edge::new();
        edge.exchange(&ask("GET", path, &[]), &fresh);
        assert!(!edge.exchange(&ask(method, "/a", &[]), &reply(status, fields, "")).is_hit());
        let goes = !edge.exchange(&ask("GET", path, &[]), &fresh).is_hit();
        assert_eq!(goes, expected, "{method} {status} {fields:?} {path}");
    };
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get"] {
        check(method, 200, &[], "/a", true);
        check(method, 204, &[], "/a", true);
        check(method, 303, &[], "/a", true);
        check(method, 400, &[], "/a", false);
        check(method, 500, &[], "/a", false);
        check(method, 200, &[], "/a?b", false);
        check(method, 200, &[], "/ab", false);
        for name in ["Location", "content-location"] {
            check(method, 201, &[(name, "/target")], "/target", true);
            check(method, 201, &[(name, "https://EXAMPLE.com:443/target")], "/target", true);
            check(method, 201, &[(name, "target?x")], "/target?x", true);
            check(method, 201, &[(name, "https://other.example.com/target")], "/target", false);
            check(method, 500, &[(name, "/target")], "/target", false);
        }
    }
    check("OPTIONS", 200, &[], "/a", false);
    check("TRACE", 200, &[], "/a", false);
}

#[test]
fn invalidation_finds_every_variant_and_key() {
    let mut edge = Edge::new();
    edge.policy.key.fields = vec!["x-tenant".to_owned()];
    let varying = reply(200, &[("Cache-Control", "max-age=1000"), ("Vary", "Foo")], "");
    for (tenant, foo) in [("a", "1"), ("a", "2"), ("b", "1")] {
        edge.exchange(&get(&[("X-Tenant", tenant), ("Foo", foo)]), &varying);
    }
    assert_eq!(edge.len(), 3);
    edge.exchange(&ask("DELETE", "/a", &[]), &reply(204, &[], ""));
    assert_eq!(edge.len(), 0);
}
