//! For how long a response is used without a question.

use std::time::Duration;

use httpcache::{Policy, StatusTtl};

use crate::edge::{Edge, date, get, reply};

/// Whether a response is used again after some seconds.
fn is_reused(policy: &Policy, status: u16, fields: &[(&str, &str)], secs: u64) -> bool {
    let mut edge = Edge::with(policy.clone());
    let origin = reply(status, fields, "body");
    assert!(!edge.exchange(&get(&[]), &origin).is_hit());
    edge.after_secs(secs).exchange(&get(&[]), &origin).is_hit()
}

fn check(fields: &[(&str, &str)], expected: bool) {
    assert_eq!(is_reused(&Policy::default(), 200, fields, 3), expected, "{fields:?}");
}

#[test]
fn by_directives() {
    check(&[], false);
    for value in ["0", "-3600", "'3600'", "3600.0", "3600.5", "a3600", "3600a", "", "1", "\"1\"", "2"] {
        check(&[("Cache-Control", &format!("max-age={value}"))], false);
    }
    for value in ["3600", "003600", "\"3600\"", "2147483647", "2147483648", "2147483649", "99999999999"] {
        check(&[("Cache-Control", &format!("max-age={value}"))], true);
        check(&[("cache-control", &format!("foobar, MaX-aGe={value}"))], true);
        check(&[("Cache-Control", &format!("s-maxage={value}"))], true);
    }
    check(&[("Cache-Control", "max-age =3600")], false);
    check(&[("Cache-Control", "extension=\"max-age=3600\", max-age=1")], false);
    check(&[("Cache-Control", "max-age=\"1\", extension=\"max-age=3600\"")], false);
    check(&[("Cache-Control", "max-age=3600, s-maxage=1")], false);
    check(&[("Cache-Control", "s-maxage=1, max-age=3600")], false);
    check(&[("Cache-Control", "max-age=3600"), ("Cache-Control", "s-maxage=1")], false);
    check(&[("Cache-Control", "max-age=1, s-maxage=3600")], true);
    check(&[("Cache-Control", "max-age=0, s-maxage=3600"), ("Expires", &date(-10))], true);
    check(&[("Cache-Control", "max-age=1800"), ("Cache-Control", "max-age=1")], true);
    check(&[("Cache-Control", "max-age=1, max-age=1800")], false);
}

#[test]
fn by_expires() {
    let noon = date(0);
    let with_date = |expires: &str, expected| check(&[("Expires", expires), ("Date", &noon)], expected);
    with_date(&date(3600), true);
    with_date(&date(-3600), false);
    with_date(&noon, false);
    with_date("0", false);
    with_date("Thursday, 18-Aug-50 02:01:18 GMT", true);
    with_date("Thu Aug 18 02:01:18 2050", true);
    with_date("Thu, 18 Aug 2050 02:01:18 UTC", false);
    with_date("Thu, 18 Aug 2050 2:01:18 GMT", false);
    // Both clocks are fast, and the response is past its time.
    check(&[("Expires", &date(300)), ("Date", &date(400))], false);
    check(&[("Expires", &date(10)), ("Date", "foo")], true);
    check(&[("Expires", &date(10))], true);
    check(&[("Expires", &date(2))], false);
    check(&[("Expires", &date(10)), ("Expires", "0"), ("Date", &noon)], true);
    check(&[("Expires", "0"), ("Cache-Control", "max-age=3600")], true);
    check(&[("Expires", &date(-7200)), ("Cache-Control", "max-age=3600"), ("Date", &noon)], true);
    check(&[("Expires", &date(3600)), ("Cache-Control", "max-age=0"), ("Date", &noon)], false);
}

#[test]
fn by_age() {
    let noon = date(0);
    let with_age = |ages: &[&str], expected| {
        let mut fields = vec![("Date", noon.as_str()), ("Cache-Control", "max-age=3600")];
        fields.extend(ages.iter().map(|age| ("Age", *age)));
        check(&fields, expected);
    };
    with_age(&["7200"], false);
    with_age(&["100"], true);
    with_age(&["0,7200"], true);
    with_age(&["0, 0"], true);
    for stale in ["7200,0", "7200;foo=bar", "7200;foo=111", "abc", "-7200", "7200.0", "2147483647", "2147483649"] {
        with_age(&[stale], false);
    }
    with_age(&["7200", "0"], false);
    with_age(&["0", "7200"], false);
    check(&[("Date", &date(-7200)), ("Cache-Control", "max-age=3600")], false);
    check(&[("Date", &date(-10)), ("Expires", &date(10)), ("Age", "25")], false);
    check(&[("Date", &date(10)), ("Expires", &date(20)), ("Age", "15")], false);
}

#[test]
fn by_targeted_fields() {
    let cdn = "CDN-Cache-Control";
    for fresh in ["max-age=3600", "max-age=2147483648", "max-age=99999999999", "foobar, max-age=3600"] {
        check(&[(cdn, fresh)], true);
        check(&[(cdn, fresh), ("Expires", &date(-9)), ("Date", &date(0))], true);
        check(&[(cdn, fresh), ("Expires", "0"), ("Date", &date(0))], true);
        check(&[(cdn, fresh), ("Cache-Control", "max-age=1")], true);
        check(&[(cdn, fresh), ("Cache-Control", "no-store")], true);
        check(&[(cdn, fresh), ("Age", "2147483648")], false);
    }
    let fresh = [("Cache-Control", "max-age=3600"), ("Expires", &date(3600)), ("Date", &date(0))];
    for stale in ["max-age=0", "max-age=1", "private", "no-cache", "no-store", "max-age=9, no-store", "max-age=-1"] {
        let mut fields = fresh.to_vec();
        fields.push((cdn, stale));
        check(&fields, false);
    }
    for ignored in ["max-age=10000, &&&&&", "max-age=\"10000\"", "", "max-age =100", "MaX-aGe=100"] {
        check(&[(cdn, ignored), ("Cache-Control", "no-store")], false);
        check(&[(cdn, ignored), ("Cache-Control", "max-age=3600")], true);
    }
    check(&[(cdn, "no-store"), ("Tenfold-CDN-Cache-Control", "max-age=100")], true);
    check(&[(cdn, "max-age=100"), ("Tenfold-CDN-Cache-Control", "no-store")], false);
}

#[test]
fn by_the_heuristic() {
    let at = |status: u16, control: &str, modified: i64, expected: bool| {
        let (noon, modified) = (date(0), date(modified));
        let mut fields = vec![("Date", noon.as_str()), ("Last-Modified", modified.as_str())];
        if !control.is_empty() {
            fields.push(("Cache-Control", control));
        }
        assert_eq!(is_reused(&Policy::default(), status, &fields, 3), expected, "{status} {control} {modified}");
    };
    for status in [200, 203, 204, 404, 405, 410, 414, 501] {
        at(status, "", -86_400, true);
    }
    for status in [201, 202, 403, 502, 503, 504, 599] {
        at(status, "", -86_400, false);
        at(status, "public", -86_400, true);
    }
    at(200, "", -10, false);
    at(200, "", -60, true);
    at(200, "", 10, false);
    at(200, "no-cache", -86_400, false);
}

#[test]
fn by_every_status() {
    let (noon, past, future) = (date(0), date(-5000), date(100_000));
    for status in (200..600).filter(|status| !matches!(status, 206 | 304)) {
        assert!(is_reused(&Policy::default(), status, &[("Expires", &future), ("Date", &noon)], 3), "{status}");
        let stale = [("Expires", past.as_str()), ("Date", &noon), ("Last-Modified", &past)];
        assert!(!is_reused(&Policy::default(), status, &stale, 3), "{status}");
    }
}

#[test]
fn by_the_policy() {
    let ttl = |first, last, secs| StatusTtl { first, last, ttl: Duration::from_secs(secs) };
    let policy = Policy {
        default_ttl: Some(Duration::from_secs(5)),
        status_ttls: vec![ttl(404, 404, 10), ttl(500, 504, 2), ttl(410, 410, 0)],
        ttl_max: Some(Duration::from_secs(20)),
        ..Policy::default()
    };
    let check = |status: u16, fields: &[(&str, &str)], secs: u64, expected: bool| {
        assert_eq!(is_reused(&policy, status, fields, secs), expected, "{status} {fields:?} {secs}");
    };
    check(200, &[], 4, true);
    check(200, &[], 5, false);
    check(302, &[], 1, false);
    check(404, &[], 9, true);
    check(503, &[], 1, true);
    check(503, &[], 2, false);
    check(410, &[], 0, false);
    check(410, &[("Cache-Control", "max-age=5")], 4, true);
    check(200, &[("Cache-Control", "max-age=100")], 19, true);
    check(200, &[("Cache-Control", "max-age=100")], 20, false);
    check(404, &[("Cache-Control", "no-store")], 1, false);
}

#[test]
fn age_is_told_and_dates_stay() {
    let (noon, future) = (date(0), date(100_000));
    for (fields, age) in [
        (vec![("Expires", future.as_str()), ("Date", &noon)], "3"),
        (vec![("Expires", future.as_str()), ("Date", &noon), ("Age", "30")], "33"),
        (vec![("Cache-Control", "max-age=600"), ("Date", &noon), ("Age", "30")], "33"),
        (vec![("Cache-Control", "max-age=600")], "3"),
    ] {
        let mut edge = Edge::new();
        edge.exchange(&get(&[]), &reply(200, &fields, ""));
        let got = edge.after_secs(3).exchange(&get(&[]), &reply(500, &[], ""));
        assert!(got.is_hit());
        assert_eq!(got.field("Age"), Some(age), "{fields:?}");
        assert_eq!(got.field("Date"), Some(noon.as_str()));
        assert_eq!(got.fields.iter().filter(|(name, _)| name == "Age").count(), 1);
    }
}
