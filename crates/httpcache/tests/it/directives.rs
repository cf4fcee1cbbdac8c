//! Directives of requests, and those of responses that are not about time.

use httpcache::{Policy, WhyNot};

use crate::edge::{Edge, date, get, reply};

/// What a second request gets some seconds after a first one stored a response with these fields.
fn second(policy: Policy, fields: &[(&str, &str)], secs: u64, asks: &[(&str, &str)]) -> crate::edge::Got {
    let mut edge = Edge::with(policy);
    edge.exchange(&get(&[]), &reply(200, fields, "first"));
    edge.after_secs(secs).exchange(&get(asks), &reply(200, fields, "second"))
}

#[test]
fn of_requests() {
    let fresh = ("Cache-Control", "max-age=3600");
    let check = |fields: &[(&str, &str)], secs: u64, asks: (&str, &str), expected: bool| {
        let got = second(Policy::default(), fields, secs, &[asks]);
        assert_eq!(got.is_hit(), expected, "{fields:?} {asks:?}");
        let unheard = Policy { obeys_requests: false, ..Policy::default() };
        let got = second(unheard, fields, secs, &[asks]);
        assert_eq!(got.is_hit(), fields[0] == fresh || fields[0].1 == "max-age=1500" && fields.len() == 1, "{asks:?}");
    };
    let control = |value| ("Cache-Control", value);
    check(&[fresh], 3, control("max-age=0"), false);
    check(&[fresh], 3, control("max-age=1"), false);
    check(&[fresh], 3, control("max-age=3"), true);
    check(&[fresh, ("Age", "1800")], 0, control("max-age=600"), false);
    check(&[control("max-age=1")], 3, control("max-stale=1000"), true);
    check(&[control("max-age=1")], 3, control("max-stale"), true);
    check(&[control("max-age=1")], 3, control("max-stale=1"), false);
    check(&[control("max-age=1")], 3, control("max-stale=1000, max-age=2"), false);
    check(&[control("max-age=1500")], 0, control("min-fresh=2000"), false);
    check(&[control("max-age=1500")], 0, control("min-fresh=1500"), true);
    check(&[fresh], 0, control("no-cache"), false);
    check(&[fresh], 0, control("No-Cache"), false);
    check(&[fresh], 0, control("no-store"), true);
    check(&[fresh], 0, control("only-if-cached"), true);
    check(&[fresh], 0, control("nothing-to-see-here"), true);
    check(&[fresh], 0, ("Pragma", "no-cache"), false);
    check(&[fresh], 0, ("Pragma", "foo"), true);
}

#[test]
fn pragma_counts_alone_only() {
    let fresh = [("Cache-Control", "max-age=3600"), ("Pragma", "no-cache")];
    let got = second(Policy::default(), &fresh, 0, &[("Pragma", "no-cache"), ("Cache-Control", "max-age=5")]);
    assert!(got.is_hit(), "a response's Pragma says nothing, and a request's nothing beside Cache-Control");
}

#[test]
fn only_what_is_stored() {
    let mut edge = Edge::new();
    let only = get(&[("Cache-Control", "only-if-cached")]);
    assert_eq!(edge.exchange(&only, &reply(200, &[], "")).status, 504);
    let unheard = Policy { obeys_requests: false, ..Policy::default() };
    assert_eq!(Edge::with(unheard).exchange(&only, &reply(200, &[], "")).status, 200);
}

#[test]
fn a_request_may_ask_not_to_be_stored() {
    let mut edge = Edge::new();
    let got = edge.exchange(&get(&[("Cache-Control", "no-store")]), &reply(200, &[("Cache-Control", "max-age=9")], ""));
    assert_eq!((got.why_not, edge.len()), (Some(WhyNot::RequestNoStore), 0));
}

#[test]
fn a_question_is_asked_by_validators() {
    let (noon, modified) = (date(0), date(-10_000));
    let fields = [("Cache-Control", "max-age=3600"), ("Last-Modified", modified.as_str()), ("Date", &noon)];
    let got = second(Policy::default(), &fields, 0, &[("Cache-Control", "no-cache")]);
    assert_eq!(got.asked("If-Modified-Since"), Some(modified.as_str()));
    let fields = [("Cache-Control", "max-age=3600"), ("ETag", "unquoted")];
    let got = second(Policy::default(), &fields, 0, &[("Cache-Control", "no-cache")]);
    assert_eq!(got.asked("If-None-Match"), Some("unquoted"));
}

#[test]
fn of_responses() {
    let check = |control: &str, expected: Option<WhyNot>| {
        let (noon, future) = (date(0), date(10_000));
        let fields = [("Cache-Control", control), ("Expires", future.as_str()), ("Date", &noon)];
        let got = Edge::new().exchange(&get(&[]), &reply(200, &fields, ""));
        assert_eq!(got.why_not, expected, "{control}");
    };
    check("private, max-age=3600", Some(WhyNot::Private));
    check("No-StOrE", Some(WhyNot::NoStore));
    check("max-age=10000, no-store", Some(WhyNot::NoStore));
    check("max-age=10000, No-CaChE", Some(WhyNot::Useless));
    check("max-age=3600, no-store, must-understand", None);
    check("max-age=10000, must-revalidate", None);
    check("private=\"x\"", None);
}

#[test]
fn no_cache_is_stored_to_ask_by() {
    for control in ["no-cache", "max-age=10000, No-Cache"] {
        let fields = [("Cache-Control", control), ("ETag", "\"abcd\"")];
        let got = second(Policy::default(), &fields, 0, &[]);
        assert_eq!(got.asked("If-None-Match"), Some("\"abcd\""), "{control}");
    }
}

#[test]
fn fields_that_directives_name_are_not_stored() {
    let fields = [
        ("Cache-Control", "no-cache=\"a, B\", private=\"c\""),
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("d", "4"),
        ("Cache-Control", "max-age=3600"),
    ];
    let got = second(Policy::default(), &fields, 3, &[]);
    assert!(got.is_hit());
    let names: Vec<_> = got.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Cache-Control", "d", "Cache-Control", "Date", "Age"]);
}

#[test]
fn immutable_needs_no_question_while_fresh() {
    let fields = [("Cache-Control", "max-age=10, immutable"), ("ETag", "\"a\"")];
    assert!(second(Policy::default(), &fields, 5, &[("Cache-Control", "max-age=0")]).is_hit());
    assert!(!second(Policy::default(), &fields, 5, &[("Cache-Control", "no-cache")]).is_hit());
    assert!(!second(Policy::default(), &fields, 11, &[("Cache-Control", "max-age=0")]).is_hit());
}

#[test]
fn statuses_that_must_be_understood() {
    let check = |status: u16, control: &str, expected: bool| {
        let got = Edge::new().exchange(&get(&[]), &reply(status, &[("Cache-Control", control)], ""));
        assert_eq!(got.why_not.is_none(), expected, "{status} {control}");
    };
    check(599, "max-age=3600, must-understand", false);
    check(599, "max-age=3600, no-store, must-understand", false);
    check(200, "max-age=3600, no-store, must-understand", true);
    check(599, "max-age=3600", true);
    check(200, "max-age=3600, no-store", false);
}
