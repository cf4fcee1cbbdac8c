//! When a stale response is used all the same: RFC 9111 section 4.2.4, RFC 5861.

use std::time::Duration;

use httpcache::Policy;

use crate::edge::{Edge, Reply, get, reply};

#[test]
fn while_it_is_fetched_again() {
    let check = |control: &str, secs: u64, expected: bool| {
        let mut edge = Edge::new();
        edge.exchange(&get(&[]), &reply(200, &[("Cache-Control", control), ("ETag", "\"a\"")], "old"));
        let got = edge.after_secs(secs).exchange(&get(&[]), &reply(200, &[], "new"));
        assert_eq!(got.refreshes, expected, "{control} {secs}");
        assert_eq!(got.body, if expected { "old" } else { "new" });
        assert_eq!(got.field("Age"), expected.then_some(&*secs.to_string()), "{control} {secs}");
    };
    check("max-age=1, stale-while-revalidate=3600", 3, true);
    check("max-age=1, stale-while-revalidate=4", 5, true);
    check("max-age=1, stale-while-revalidate=4", 6, false);
    check("s-maxage=1, stale-while-revalidate=4", 3, true);
    for never in ["must-revalidate", "proxy-revalidate", "no-cache"] {
        check(&format!("max-age=1, stale-while-revalidate=4, {never}"), 3, false);
    }
}

/// The status that a client gets three seconds later, when the origin is gone or fails.
fn without_origin(policy: &Policy, control: &str, asks: &[(&str, &str)]) -> [u16; 2] {
    [Reply::Nothing, reply(503, &[], "")].map(|origin| {
        let mut edge = Edge::with(policy.clone());
        edge.exchange(&get(&[]), &reply(200, &[("Cache-Control", control)], "old"));
        edge.after_secs(3).exchange(&get(asks), &origin).status
    })
}

#[test]
fn when_the_origin_fails() {
    let plain = Policy::default();
    let operator = Policy { stale_if_error: Duration::from_secs(60), ..Policy::default() };
    let (gone, served) = ([502, 503], [200, 200]);
    assert_eq!(without_origin(&plain, "max-age=2, stale-if-error=60", &[]), served);
    assert_eq!(without_origin(&plain, "s-maxage=2, stale-if-error=60", &[]), served);
    assert_eq!(without_origin(&plain, "max-age=1, stale-if-error=1", &[]), gone);
    assert_eq!(without_origin(&operator, "max-age=2", &[]), served);
    assert_eq!(without_origin(&operator, "max-age=2, stale-if-error=0", &[]), gone);
    for never in ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=2"] {
        assert_eq!(without_origin(&operator, &format!("max-age=2, {never}"), &[]), gone, "{never}");
    }
    for never in ["must-revalidate", "proxy-revalidate", "no-cache"] {
        assert_eq!(without_origin(&operator, &format!("max-age=2, stale-if-error=60, {never}"), &[]), gone, "{never}");
    }
    assert_eq!(without_origin(&operator, "max-age=2", &[("Cache-Control", "no-cache")]), gone);
}

#[test]
fn when_the_client_takes_it() {
    let check = |control: &str, ask: &str, expected: [u16; 2]| {
        let mut edge = Edge::new();
        edge.exchange(&get(&[]), &reply(200, &[("Cache-Control", control), ("ETag", "\"a\"")], "old"));
        let client = get(&[("Cache-Control", ask)]);
        let got =
            [Reply::Nothing, reply(500, &[], "")].map(|origin| edge.after_secs(2).exchange(&client, &origin).status);
        assert_eq!(got, expected, "{control} {ask}");
    };
    check("max-age=1", "stale-if-error=60", [200, 200]);
    check("max-age=1, must-revalidate", "stale-if-error=60", [502, 500]);
    check("s-maxage=1", "stale-if-error=60", [502, 500]);
    check("max-age=1", "max-stale=2", [200, 500]);
    check("max-age=1, must-revalidate", "max-stale", [502, 500]);
    check("s-maxage=1", "max-stale", [502, 500]);
}

#[test]
fn a_soft_purge_leaves_it_for_questions_and_failures() {
    let mut edge = Edge::new();
    let fields = [("Cache-Control", "max-age=60, stale-while-revalidate=10, stale-if-error=60"), ("ETag", "\"a\"")];
    edge.exchange(&get(&[]), &reply(200, &fields, "old"));
    edge.after_secs(5).expire();
    assert!(edge.after_secs(1).exchange(&get(&[]), &Reply::Nothing).refreshes);
    let got = edge.after_secs(10).exchange(&get(&[]), &Reply::Nothing);
    assert_eq!((got.asked("If-None-Match"), got.status), (Some("\"a\""), 200));
    assert_eq!(edge.after_secs(60).exchange(&get(&[]), &Reply::Nothing).status, 502);
    // What must not be used stale is not, however short a while it is so.
    let mut edge = Edge::new();
    edge.exchange(
        &get(&[]),
        &reply(200, &[("Cache-Control", "max-age=60, must-revalidate"), ("ETag", "\"a\"")], "old"),
    );
    edge.after_secs(5).expire();
    assert_eq!(edge.exchange(&get(&[]), &Reply::Nothing).status, 502);
}

#[test]
fn must_revalidate_may_be_used_while_fresh() {
    let fields = [("Cache-Control", "max-age=2, must-revalidate"), ("ETag", "\"a\"")];
    let mut edge = Edge::new();
    edge.exchange(&get(&[]), &reply(200, &fields, ""));
    assert!(edge.after_secs(1).exchange(&get(&[]), &Reply::Nothing).is_hit());
    assert!(edge.after_secs(1).exchange(&get(&[]), &reply(304, &fields, "")).asked("If-None-Match").is_some());
}
