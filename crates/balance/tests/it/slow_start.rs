//! The ramp of a new endpoint's weight.

use std::time::Duration;

use balance::slow_start::{SlowStartParams, weight};
use proptest::prelude::*;

#[test]
fn the_weight_grows_along_the_window() {
    let check = |configured: u16, since_secs: u64, window_secs: u64, aggression: f64, expected: u32| {
        let window = Duration::from_secs(window_secs);
        let params = SlowStartParams { window, aggression, ..SlowStartParams::default() };
        let found = weight(configured, Duration::from_secs(since_secs), &params);
        assert_eq!(found, expected, "{configured} after {since_secs} s of {params:?}");
    };
    check(1, 0, 30, 1.0, 26);
    check(1, 3, 30, 1.0, 26);
    check(1, 15, 30, 1.0, 128);
    check(1, 30, 30, 1.0, 256);
    check(1, 31, 30, 1.0, 256);
    check(4, 15, 30, 1.0, 512);
    // The square root of a quarter, and the square of a half.
    check(1, 10, 40, 2.0, 128);
    check(1, 20, 40, 0.5, 64);
    check(0, 15, 30, 1.0, 0);
    check(3, 0, 0, 1.0, 768);
    check(u16::MAX, 30, 30, 1.0, 65_535 * 256);
}

#[test]
fn the_smallest_share_holds_until_the_ramp_exceeds_it() {
    let params = SlowStartParams { window: Duration::from_secs(100), aggression: 1.0, share_min: 0.5 };
    let at = |secs| weight(1, Duration::from_secs(secs), &params);
    assert_eq!([0, 30, 50, 75, 100].map(at), [128, 128, 128, 192, 256]);
}

#[test]
fn a_share_of_nothing_still_gets_the_first_requests() {
    let params = SlowStartParams { window: Duration::from_secs(30), aggression: 1.0, share_min: 0.0 };
    assert_eq!(weight(1, Duration::ZERO, &params), 1);
}

proptest! {
    #[test]
    fn the_weight_never_falls_and_never_exceeds_the_configured_one(
        configured: u16, millis in 0..100_000_u64, later in 0..100_000_u64,
        window in 0..100_000_u64, aggression in 0.1..10.0_f64, share_min in 0.0..=1.0_f64,
    ) {
        let params = SlowStartParams { window: Duration::from_millis(window), aggression, share_min };
        let at = |millis| weight(configured, Duration::from_millis(millis), &params);
        prop_assert!(at(millis) <= at(millis + later));
        prop_assert!(at(millis) <= u32::from(configured) * 256);
        prop_assert!(at(millis) >= u32::from(configured > 0));
        prop_assert!(f64::from(at(millis)) >= f64::from(configured) * 256.0 * share_min - 0.5);
        // More aggression is never slower.
        let eager = SlowStartParams { aggression: 2.0 * aggression, ..params };
        prop_assert!(weight(configured, Duration::from_millis(millis), &eager) >= at(millis));
    }
}
