//! Fields as clients read them.

use std::time::Duration;

use limit::fields::{QuotaUnit, retry_after_secs, write_limit, write_policy};
use limit::{Decision, Verdict};

fn decision(verdict: Verdict, remaining: u32, reset_millis: u64) -> Decision {
    Decision { verdict, limit: 100, remaining, reset: Duration::from_millis(reset_millis), displaced: false }
}

fn refused(millis: u64) -> Verdict {
    Verdict::Refused { retry_after: Duration::from_millis(millis) }
}

#[test]
fn policies() {
    let check = |name: &str, quota: u64, window: Duration, unit: QuotaUnit, expected: &str| {
        let mut field = String::new();
        write_policy(&mut field, name, quota, window, unit);
        assert_eq!(field, expected);
    };
    let minute = Duration::from_secs(60);
    check("default", 100, minute, QuotaUnit::Requests, r#""default";q=100;w=60"#);
    check("tiny", 1, Duration::from_millis(1), QuotaUnit::Requests, r#""tiny";q=1;w=1"#);
    let concurrent = r#""c";q=5;qu="concurrent-requests""#;
    check("c", 5, Duration::ZERO, QuotaUnit::ConcurrentRequests, concurrent);
    check("a\"b\\c", 1, minute, QuotaUnit::Requests, r#""a\"b\\c";q=1;w=60"#);
    check("gr\u{f6}\u{df}e\r\n", 1, minute, QuotaUnit::Requests, r#""gr__e__";q=1;w=60"#);
    check("most", u64::MAX, minute, QuotaUnit::Requests, r#""most";q=999999999999999;w=60"#);
    let mut field = String::new();
    write_policy(&mut field, "burst", 100, minute, QuotaUnit::Requests);
    write_policy(&mut field, "daily", 1000, Duration::from_secs(86_400), QuotaUnit::Requests);
    assert_eq!(field, r#""burst";q=100;w=60, "daily";q=1000;w=86400"#);
}

#[test]
fn limits() {
    let check = |decision: Decision, expected: &str| {
        let mut field = String::new();
        write_limit(&mut field, "default", &decision);
        assert_eq!(field, expected);
    };
    check(decision(Verdict::Allowed, 50, 30_000), r#""default";r=50;t=30"#);
    check(decision(Verdict::Allowed, 50, 29_001), r#""default";r=50;t=30"#);
    check(decision(Verdict::Allowed, 100, 0), r#""default";r=100;t=0"#);
    check(decision(refused(1_500), 0, 30_000), r#""default";r=0;t=2"#);
    check(decision(refused(40_000), 0, 30_000), r#""default";r=0;t=30"#);
    check(decision(refused(1_500), 3, 30_000), r#""default";r=0;t=2"#);
    check(decision(Verdict::Never, 100, 0), r#""default";r=0;t=0"#);
}

#[test]
fn when_to_come_again() {
    let check = |verdict: Verdict, spread: f64, expected: Option<u64>| {
        assert_eq!(retry_after_secs(&decision(verdict, 0, 0), spread), expected, "{verdict:?} {spread}");
    };
    check(Verdict::Allowed, 0.0, None);
    check(Verdict::Never, 0.0, None);
    check(refused(0), 0.0, Some(1));
    check(refused(1), 0.0, Some(1));
    check(refused(10_000), 0.0, Some(10));
    check(refused(10_001), 0.0, Some(11));
    check(refused(10_000), 1.0, Some(15));
    check(refused(10_000), 0.5, Some(12));
    check(refused(10_000), 9.0, Some(15));
}
