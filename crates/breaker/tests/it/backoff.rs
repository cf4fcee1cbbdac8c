//! Bounds double up to the maximum, and pauses fill them evenly.

use std::time::Duration;

use breaker::{Backoff, BackoffParams};
use proptest::prelude::*;

fn backoff(base_millis: u64, max_millis: u64) -> Backoff {
    Backoff::new(BackoffParams { base: Duration::from_millis(base_millis), max: Duration::from_millis(max_millis) })
}

#[test]
fn the_bound_doubles_up_to_the_maximum() {
    let check = |base: u64, max: u64, retry: u32, expected: u64| {
        let bound = backoff(base, max).bound(retry);
        assert_eq!(bound, Duration::from_millis(expected), "base {base}, max {max}, retry {retry}");
    };
    check(25, 250, 1, 25);
    check(25, 250, 2, 50);
    check(25, 250, 3, 100);
    check(25, 250, 4, 200);
    check(25, 250, 5, 250);
    check(25, 250, 0, 25);
    check(25, 10, 1, 10);
    // Neither the power nor the product may overflow.
    check(25, 250, 33, 250);
    check(25, 250, u32::MAX, 250);
    check(u64::MAX, 250, 20, 250);
    check(0, 250, 1, 0);
    check(0, 250, u32::MAX, 0);
}

#[test]
fn the_pause_is_the_same_share_of_the_bound_as_the_number_is_of_all() {
    let check = |random: u64, expected_nanos: u64| {
        assert_eq!(backoff(100, 1000).pause(2, random), Duration::from_nanos(expected_nanos), "random {random}");
    };
    check(0, 0);
    check(u64::MAX / 4, 50_000_000);
    check(u64::MAX / 2 + 1, 100_000_000);
    check(u64::MAX, 200_000_000);
}

#[test]
fn pauses_fill_the_bound_evenly() {
    let mut random = fastrand::Rng::with_seed(11);
    let backoff = backoff(100, 1000);
    let mut tenths = [0; 10];
    for _ in 0..100_000 {
        tenths[(backoff.pause(3, random.u64(..)).as_nanos() * 10 / 400_000_001) as usize] += 1;
    }
    // Each tenth expects 10,000; five standard deviations are 474.
    assert!(tenths.iter().all(|count| (9_526..10_474).contains(count)), "{tenths:?}");
}

proptest! {
    #[test]
    fn no_pause_exceeds_its_bound(base: u64, max: u64, retry: u32, random: u64) {
        let params = BackoffParams { base: Duration::from_nanos(base), max: Duration::from_nanos(max) };
        let backoff = Backoff::new(params);
        prop_assert!(backoff.pause(retry, random) <= backoff.bound(retry));
        prop_assert!(backoff.bound(retry) <= params.max);
        prop_assert!(backoff.bound(retry) <= backoff.bound(retry.saturating_add(1)));
    }
}
