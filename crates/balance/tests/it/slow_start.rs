//! The ramp of a new endpoint's weight.

use std::time::Duration;

use balance::slow_start::{AGGRESSION_DEFAULT, SHARE_MIN_DEFAULT, weight};
use proptest::prelude::*;

#[test]
fn the_weight_grows_along_the_ramp() {
    let check = |configured: u16, since_secs: u64, ramp_secs: u64, aggression: f64, expected: u32| {
        let (since, ramp) = (Duration::from_secs(since_secs), Duration::from_secs(ramp_secs));
        let found = weight(configured, since, ramp, aggression, SHARE_MIN_DEFAULT);
        assert_eq!(found, expected, "{configured} after {since:?} of {ramp:?}, aggression {aggression}");
    };
    check(1, 0, 30, AGGRESSION_DEFAULT, 26);
    check(1, 3, 30, AGGRESSION_DEFAULT, 26);
    check(1, 15, 30, AGGRESSION_DEFAULT, 128);
    check(1, 30, 30, AGGRESSION_DEFAULT, 256);
    check(1, 31, 30, AGGRESSION_DEFAULT, 256);
    check(4, 15, 30, AGGRESSION_DEFAULT, 512);
    // The square root of a quarter, and the square of a half.
    check(1, 10, 40, 2.0, 128);
    check(1, 20, 40, 0.5, 64);
    check(0, 15, 30, AGGRESSION_DEFAULT, 0);
    check(3, 0, 0, AGGRESSION_DEFAULT, 768);
    check(u16::MAX, 30, 30, AGGRESSION_DEFAULT, 65_535 * 256);
}

#[test]
fn a_share_of_nothing_still_gets_the_first_requests() {
    assert_eq!(weight(1, Duration::ZERO, Duration::from_secs(30), 1.0, 0.0), 1);
}

proptest! {
    #[test]
    fn the_weight_never_falls_and_never_exceeds_the_configured_one(
        configured: u16, millis in 0..100_000_u64, later in 0..100_000_u64,
        ramp in 0..100_000_u64, aggression in 0.1..10.0_f64, share_min in 0.0..=1.0_f64,
    ) {
        let at = |millis| {
            weight(configured, Duration::from_millis(millis), Duration::from_millis(ramp), aggression, share_min)
        };
        prop_assert!(at(millis) <= at(millis + later));
        prop_assert!(at(millis) <= u32::from(configured) * 256);
        prop_assert!(at(millis) >= u32::from(configured > 0));
        prop_assert!(f64::from(at(millis)) >= f64::from(configured) * 256.0 * share_min - 0.5);
    }
}
