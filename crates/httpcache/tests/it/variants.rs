//! Variants by `Vary`.

use httpcache::{Kinds, Policy, Vary, VaryRules, WhyNot};

use crate::edge::{Edge, borrowed, date, get, owned, reply};

/// Whether a request is answered by what another one stored.
fn shares(vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]) -> bool {
    shares_by(Policy::default(), vary, one, other)
}

fn shares_by(policy: Policy, vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]) -> bool {
    let mut edge = Edge::with(policy);
    let origin = reply(200, &[("Cache-Control", "max-age=5000"), ("Vary", vary)], "");
    edge.exchange(&get(one), &origin);
    edge.exchange(&get(other), &origin).is_hit()
}

#[test]
fn by_fields_as_they_are() {
    let foo = ("Foo", "1");
    assert!(shares("Foo", &[foo], &[foo]));
    assert!(shares("fOO", &[("FOO", "1")], &[foo]));
    assert!(!shares("Foo", &[foo], &[("Foo", "2")]));
    assert!(!shares("Foo", &[], &[foo]));
    assert!(!shares("Foo", &[foo], &[]));
    assert!(!shares("Foo", &[("Foo", "")], &[]));
    assert!(shares("Foo", &[foo, ("Other", "2")], &[foo, ("Other", "3")]));
    let three = [foo, ("Bar", "abc"), ("Baz", "789")];
    assert!(shares("Foo, Bar, Baz", &three, &three));
    assert!(!shares("Foo, Bar, Baz", &three, &[foo, ("Bar", "abcde"), ("Baz", "789")]));
    assert!(shares("Foo, Bar, Baz", &[foo, ("Baz", "789")], &[("Baz", "789"), foo]));
    assert!(!shares("Foo, Bar", &[("Foo", "1"), ("Bar", "2")], &[("Foo", "2"), ("Bar", "1")]));
}

#[test]
fn a_star_fits_nothing() {
    for star in ["*", "*, *", ", *", "*, Foo", "Foo, *"] {
        assert!(!shares(star, &[("Foo", "1")], &[("Foo", "1")]), "{star}");
    }
    let mut edge = Edge::new();
    let two = reply(200, &[("Cache-Control", "max-age=5000"), ("Vary", ""), ("Vary", "*")], "");
    assert_eq!(edge.exchange(&get(&[]), &two).why_not, Some(WhyNot::VaryStar));
}

#[test]
fn by_what_fields_mean() {
    assert!(shares("Foo", &[("Foo", "1, 2")], &[("Foo", "1"), ("foo", "2")]));
    assert!(shares("Foo", &[("Foo", "1,2")], &[("Foo", "1, 2 ")]));
    assert!(!shares("Foo", &[("Foo", "1,2")], &[("Foo", "12")]));
    assert!(!shares("Foo", &[("Foo", "\"1, 2\"")], &[("Foo", "\"1,2\"")]));
    assert!(!shares("Cookie", &[("Cookie", "a=1, 2")], &[("Cookie", "a=1,2")]));
    let language = |one, other| shares("Accept-Language", &[("Accept-Language", one)], &[("accept-language", other)]);
    assert!(language("en, de", "eN, De"));
    assert!(language("en, de", "en ,   de"));
    assert!(language("en, de;q=1.0", "en,de"));
    assert!(language("de;q=0.5, en", "en;q=1, de ; q=0.50"));
    assert!(!language("en, de", "de, en"));
    assert!(!language("en;q=0.5, de", "en, de;q=0.5"));
    let any_order =
        Policy { vary: VaryRules { ignores_language_order: true, ..VaryRules::default() }, ..Policy::default() };
    let vary = "Accept-Language";
    assert!(shares_by(any_order.clone(), vary, &[(vary, "en, de")], &[(vary, "de, en")]));
    assert!(!shares_by(any_order, vary, &[(vary, "en;q=0.5, de")], &[(vary, "de;q=0.5, en")]));
}

#[test]
fn by_codings_that_matter() {
    let coding = |one, other| shares("Accept-Encoding", &[("Accept-Encoding", one)], &[("Accept-Encoding", other)]);
    assert!(coding("gzip, deflate, br", "br;q=1.0, gzip;q=0.8"));
    assert!(coding("gzip", "x-gzip"));
    assert!(coding("GZIP, compress", "gzip"));
    assert!(coding("*", "br, gzip, zstd, foo"));
    assert!(coding("*, gzip;q=0", "br, zstd"));
    assert!(coding("gzip;q=0", ""));
    assert!(coding("identity", "deflate"));
    assert!(!coding("gzip", "br"));
    assert!(!coding("gzip", "gzip, br"));
    assert!(!coding("gzip", "gzip, identity;q=0"));
    assert!(!coding("gzip", "gzip;q=0"));
    assert!(!coding("gzip", "gzip;q=0.000"));
    let stored = |vary: &str, coding: &str| {
        let fields = [("Cache-Control", "max-age=9"), ("Vary", vary), ("Content-Encoding", coding)];
        Edge::new().exchange(&get(&[]), &reply(200, &fields, "")).why_not
    };
    assert_eq!(stored("Accept-Encoding", "gzip"), None);
    assert_eq!(stored("accept-encoding, foo", "deflate"), Some(WhyNot::Coding));
    assert_eq!(stored("foo", "deflate"), None);
}

#[test]
fn several_variants_are_kept() {
    let mut edge = Edge::new();
    let origin = |body| reply(200, &[("Cache-Control", "max-age=5000"), ("Vary", "Foo")], body);
    edge.exchange(&get(&[("Foo", "1")]), &origin("one"));
    edge.exchange(&get(&[("Foo", "2")]), &origin("two"));
    assert_eq!(edge.exchange(&get(&[("Foo", "1")]), &origin("")).body, "one");
    assert_eq!(edge.exchange(&get(&[("Foo", "2")]), &origin("")).body, "two");
}

#[test]
fn of_those_that_fit_the_latest_is_served() {
    let origin = |vary, offset: i64, body| {
        let date = date(offset);
        reply(200, &[("Cache-Control", "max-age=5000"), ("Vary", vary), ("Date", &date)], body)
    };
    let both = get(&[("Foo", "1"), ("Bar", "1")]);
    for (first, second, expected) in [(-9, -5, "second"), (-5, -9, "first"), (-5, -5, "second")] {
        let mut edge = Edge::new();
        edge.exchange(&get(&[("Foo", "1"), ("Bar", "0")]), &origin("Foo", first, "first"));
        // A request that does not fit the first, and so stores another.
        edge.exchange(&get(&[("Foo", "0"), ("Bar", "1")]), &origin("Bar", second, "second"));
        let got = edge.exchange(&both, &reply(500, &[], ""));
        assert_eq!((got.body.as_str(), got.is_hit()), (expected, true), "{first} {second}");
    }
}

#[test]
fn ways_of_varying_are_kept_in_bounds() {
    let vary = |names: &str| Vary::read(borrowed(&owned(&[("Vary", names)]))).unwrap();
    let mut kinds = Kinds::default();
    assert!(kinds.add(&vary("")));
    assert!(!kinds.add(&vary("")));
    for names in ["a", "b", "B, A", "a,b", "a"] {
        assert!(names == "a,b" || kinds.add(&vary(names)), "{names}");
    }
    let found = |kinds: &Kinds| kinds.iter().map(|vary| vary.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(found(&kinds), [&b"a"[..], b"a,b", b"b", b""]);
    assert_eq!(Kinds::of_bytes(&kinds.to_bytes()), kinds);
    assert_eq!(Kinds::of_bytes(b""), Kinds::default());
    let bytes = kinds.to_bytes();
    let ways: Vec<_> = Kinds::ways(&bytes).map(|vary| vary.as_bytes().to_vec()).collect();
    assert_eq!(ways, found(&kinds));
    assert!(Kinds::ways(b"").next().is_none());
    kinds.add(&vary("c"));
    assert_eq!(found(&kinds), [&b"c"[..], b"a", b"a,b", b"b"]);
}
