//! Limiters around calls. The laws are proved in the core.

use std::time::Duration;

use tenfold::resilience::{Error, KeyedLimiter, Limiter, Quota, Rate};
use tenfold::testing::ManualClock;

fn quota(per_sec: u32, burst: u32) -> Quota {
    Quota::gcra(Rate::per_sec(per_sec), burst).unwrap()
}

#[test]
fn over_a_minute_it_lets_the_rate_through_and_no_more() {
    let clock = ManualClock::new();
    let limiter = Limiter::with_clock("search", quota(10, 20), &clock);
    let mut passed = 0;
    for _ in 0..60_000 {
        passed += u32::from(limiter.acquire().is_ok());
        clock.advance(Duration::from_millis(1));
    }
    assert!((619..=620).contains(&passed), "{passed}");
    assert_eq!(limiter.snapshot().refused_total, 60_000 - u64::from(passed));
}

#[test]
fn a_refused_call_is_not_made_and_hears_when_it_would_be() {
    let clock = ManualClock::new();
    let limiter = Limiter::with_clock("search", quota(1, 1), &clock);
    clock.run(async {
        assert_eq!(limiter.call(|| async { Ok::<_, &str>(1) }).await, Ok(1));
        let call = || -> std::future::Ready<Result<u32, &str>> { panic!("it is refused") };
        let Err(Error::Limited { name, retry_after: Some(wait) }) = limiter.call(call).await else {
            panic!("it is refused");
        };
        assert_eq!(&*name, "search");
        clock.advance(wait);
        assert_eq!(limiter.call(|| async { Err::<u32, _>("down") }).await, Err(Error::Inner("down")));
    });
}

#[test]
fn what_costs_more_than_there_ever_is_need_not_wait() {
    let limiter = Limiter::with_clock("search", quota(1, 5), ManualClock::new());
    assert!(limiter.acquire_many(5).is_ok());
    assert!(limiter.acquire_many(0).is_ok());
    assert_eq!(limiter.acquire_many(6).unwrap_err().retry_after(), None);
}

#[test]
fn keys_do_not_spend_for_each_other() {
    let clock = ManualClock::new();
    let limiter = KeyedLimiter::with_clock("tenant", quota(1, 2), 1_000, &clock).unwrap();
    for tenant in ["ann", "bob", "eve"] {
        assert!(limiter.acquire(tenant).is_ok() && limiter.acquire(&tenant.to_owned()).is_ok());
        assert!(limiter.acquire(tenant).is_err());
    }
    assert!(limiter.acquire(&("ann", 7)).is_ok());
    let refused = clock.run(limiter.call("ann", || async { Ok::<_, &str>(()) }));
    assert!(matches!(refused, Err(Error::Limited { .. })));
    clock.advance(Duration::from_secs(2));
    assert_eq!(clock.run(limiter.call("ann", || async { Ok::<_, &str>(3) })), Ok(3));
    assert_eq!(limiter.snapshot().refused_total, 4);
}

#[test]
fn a_rate_that_leaves_no_room_for_keys_is_an_error() {
    assert!(KeyedLimiter::new("tenant", quota(1_000_000_000, 1_000_000_000), 10).is_err());
}
