//! The sliding window: a table, and two naive models: the two counters in exact fractions, and a log of all requests.

use std::collections::BTreeMap;
use std::time::Duration;

use limit::{Moment, Quota, Single, Verdict};
use proptest::prelude::*;

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

#[test]
fn the_earlier_window_counts_by_what_is_left_of_it() {
    let limit = Single::new(Quota::sliding_window(10, Duration::from_secs(1)).unwrap());
    assert_eq!(limit.check(at(900), 10).remaining, 0);
    let refused = limit.check(at(950), 2);
    // At 1.2 s, 8 of the 10 still count.
    assert_eq!(refused.verdict, Verdict::Refused { retry_after: Duration::from_millis(250) });
    assert_eq!(refused.reset, Duration::from_millis(1_050));
    assert!(!limit.check(at(1_199), 2).is_allowed());
    assert_eq!(limit.check(at(1_200), 2).remaining, 0);
    assert_eq!(limit.check(at(1_500), 0).remaining, 3);
    assert_eq!(limit.check(at(1_500), 11).verdict, Verdict::Never);
    assert_eq!(limit.check(at(2_500), 0).remaining, 9);
    assert_eq!(limit.check(at(3_000), 0).remaining, 10);
}

#[test]
fn a_clock_that_goes_back_is_stricter() {
    let limit = Single::new(Quota::sliding_window(2, Duration::from_secs(1)).unwrap());
    assert!(limit.check(at(5_000), 2).is_allowed());
    let refused = limit.check(at(4_900), 1);
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(1_600)));
    assert_eq!(refused.reset, Duration::from_millis(2_100));
    assert!(!limit.check(at(1_000), 1).is_allowed());
}

proptest! {
    #[test]
    fn it_agrees_with_two_counters_and_no_aligned_window_has_more(
        limit in 1..2_000_u32,
        window_micros in 100..10_000_u64,
        steps in prop::collection::vec((0..150_u64, 1..40_u32), 1..300),
    ) {
        let window = window_micros * 1_000;
        let single = Single::new(Quota::sliding_window(limit, Duration::from_nanos(window)).unwrap());
        // The earlier count is rounded up to steps of a 255th of the limit.
        let step = u64::from(limit).div_ceil(255);
        let (mut now, mut counts) = (0, BTreeMap::<u64, u64>::new());
        for (wait, cost) in steps {
            now += wait * window / 60;
            let (number, elapsed) = (now / window, now % window);
            let count = counts.get(&number).copied().unwrap_or(0);
            let before = number.checked_sub(1).and_then(|before| counts.get(&before).copied()).unwrap_or(0);
            let before_max = (before.div_ceil(step) * step).min(limit.into());
            let fits = |before: u64| before * (window - elapsed) + (count + u64::from(cost)) * window <= u64::from(limit) * window;
            let allowed = single.check(Moment::from_nanos(now), cost).is_allowed();
            if fits(before) == fits(before_max) {
                prop_assert_eq!(allowed, fits(before), "at {}", now);
            }
            if allowed {
                let count = counts.entry(number).or_default();
                *count += u64::from(cost);
                prop_assert!(*count <= limit.into());
            }
        }
    }

    #[test]
    fn within_any_window_there_are_less_than_twice_the_limit(
        limit in 1..50_usize, steps in prop::collection::vec(0..400_u64, 1..400),
    ) {
        let single = Single::new(Quota::sliding_window(limit as u32, Duration::from_micros(1_000)).unwrap());
        let (mut now, mut log) = (0, Vec::new());
        for wait in steps {
            now += wait / 4;
            if single.check(Moment::from_nanos(now * 1_000), 1).is_allowed() {
                log.push(now);
                let held = log.iter().filter(|&&then| then + 1_000 > now).count();
                prop_assert!(held <= 2 * limit);
            }
        }
    }
}
