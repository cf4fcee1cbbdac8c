//! The store's arithmetic: edges, and that it never gives out more than the rate and the burst.

use std::time::Duration;

use limit::lease::store::{Bucket, LeaseQuota, Request};
use limit::{QuotaError, Rate};
use proptest::prelude::*;

fn ask(want: u64, instance: u64) -> Request {
    Request { want, least: 1, instance, ..Request::default() }
}

#[test]
fn quotas_that_a_store_cannot_count_are_refused() {
    let check = |rate: Rate, burst: u32, expected: QuotaError| {
        assert_eq!(LeaseQuota::new(rate, burst), Err(expected));
    };
    check(Rate::per_sec(0), 1, QuotaError::NoRate);
    check(Rate::per_sec(1), 0, QuotaError::NoBurst);
    let nano = Duration::from_nanos(1_500);
    check(Rate { amount: 1, per: nano }, 1, QuotaError::Period(nano));
    let year = Duration::from_secs(366 * 86_400);
    check(Rate { amount: 1, per: year }, u32::MAX, QuotaError::TooFast { amount: u32::MAX, per: year });
    let day = LeaseQuota::new(Rate { amount: 1_000_000, per: Duration::from_secs(86_400) }, 1_000_000).unwrap();
    assert_eq!((day.token(), day.refill(), day.drain_micros()), (86_400, 1, 86_400_000_000));
    assert_eq!(day.tokens_in(Duration::from_secs(1)), 11);
}

#[test]
fn a_bucket_gives_what_it_has_and_says_when_there_is_more() {
    let quota = LeaseQuota::new(Rate::per_sec(1_000), 100).unwrap();
    let mut bucket = Bucket::default();
    let told = |bucket: &mut Bucket, now: u64, request: Request| {
        let grant = bucket.lease(&quota, now, request);
        (grant.tokens, grant.hungry, grant.wait_micros)
    };
    assert_eq!(told(&mut bucket, 5_000_000, ask(60, 1)), (60, 1, 0));
    assert_eq!(told(&mut bucket, 5_000_000, ask(60, 1)), (40, 1, 1_000));
    assert_eq!(told(&mut bucket, 5_000_400, ask(10, 1)), (0, 1, 600));
    // A second one that is hungry gets half, rounded up, and the first as well.
    assert_eq!(told(&mut bucket, 5_011_000, ask(50, 2)), (6, 2, 0));
    assert_eq!(told(&mut bucket, 5_011_000, ask(50, 1)), (3, 2, 0));
    // A clock that goes back stands still.
    assert_eq!(told(&mut bucket, 4_011_000, ask(50, 1)), (1, 2, 0));
    // Hunger is forgotten, and a full bucket is full.
    assert_eq!(told(&mut bucket, 9_000_000, ask(100, 3)), (100, 1, 1_000));
    // All or nothing for one that costs five.
    let costly = Request { least: 5, ..ask(5, 3) };
    assert_eq!(told(&mut bucket, 9_004_000, costly), (0, 1, 1_000));
    assert_eq!(told(&mut bucket, 9_005_000, costly), (5, 1, 5_000));
    // One that was set goes on from where it is: nothing is granted for the step, and no hunger is left of before.
    assert_eq!(told(&mut bucket, 9_005_000, ask(1, 4)), (0, 1, 1_000));
    assert_eq!(told(&mut bucket, 1_000_000, ask(1, 1)), (0, 1, 1_000));
    assert_eq!(told(&mut bucket, 1_050_000, ask(50, 1)), (50, 1, 1_000));
}

#[test]
fn what_is_returned_counts_less_with_time() {
    let quota = LeaseQuota::new(Rate::per_sec(1_000), 100).unwrap();
    let after_return = |micros: u64| {
        let mut bucket = Bucket::default();
        let grant = bucket.lease(&quota, 1_000_000, ask(50, 1));
        bucket.lease(&quota, 1_000_000, ask(50, 2));
        let back = Request { returned: 50, returned_stamp: grant.stamp, instance: 1, ..Request::default() };
        assert_eq!(bucket.lease(&quota, 1_000_000 + micros, back).tokens, 0);
        bucket.lease(&quota, 1_000_000 + micros, ask(100, 2)).tokens
    };
    assert_eq!(after_return(0), 50);
    assert_eq!(after_return(10_000), 10 + 40);
    assert_eq!(after_return(50_000), 50);
}

proptest! {
    #[test]
    fn what_is_granted_and_not_returned_never_exceeds_rate_and_burst(
        amount in 1..5_000_u32,
        burst in 1..500_u32,
        steps in prop::collection::vec((0..60_000_u64, 0..200_u64, 1..5_u64, 0..4_usize, any::<bool>()), 1..300),
    ) {
        let quota = LeaseQuota::new(Rate::per_sec(amount), burst).unwrap();
        let (mut bucket, mut now) = (Bucket::default(), 1_000_000);
        // Net grants by time: any window must hold.
        let mut grants: Vec<(u64, i64)> = Vec::new();
        for (wait, want, least, instance, returns) in steps {
            now += wait;
            let mut request = Request { want, least, instance: instance as u64, ..Request::default() };
            if returns && let Some(last) = grants.iter_mut().rev().find(|grant| grant.1 > 0) {
                let back = last.1 / 2 + 1;
                last.1 -= back;
                (request.returned, request.returned_stamp) = (back as u64, last.0);
            }
            let grant = bucket.lease(&quota, now, request);
            prop_assert!(grant.tokens == 0 || grant.tokens >= least.min(want));
            prop_assert!(grant.tokens <= want);
            grants.push((grant.stamp, grant.tokens as i64));
            let mut sum = 0;
            for &(at, tokens) in grants.iter().rev() {
                sum += tokens;
                let most = u64::from(burst) + (now - at) * u64::from(amount) / 1_000_000;
                prop_assert!(sum <= most as i64, "{} of {}", sum, most);
            }
        }
    }
}
